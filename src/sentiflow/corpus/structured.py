"""Tables whose format leaves no choice: JSON lines and Parquet. A cell that is no text is written as JSON writes it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.corpus.delimited import MOST_CHARACTERS, Record, lines_of
from sentiflow.corpus.unpacking import Unpacked
from sentiflow.errors import InputError

JSON = (".jsonl", ".ndjson", ".json")


def is_json(name: str) -> bool:
    return name.lower().endswith(JSON)


def read(content: Unpacked, path: Path, most: int | None = None) -> tuple[Sequence[str], Iterator[Record]]:
    """The columns and the records of a file; JSON objects have the columns of all of them, and an absent one is empty.

    Args:
        most: characters, or bytes of Parquet's columns, at most.
    """
    most = most or MOST_CHARACTERS
    return _parquet(content, path, most) if content.is_parquet else _json(content, path, most)


def _json(content: Unpacked, path: Path, most: int) -> tuple[Sequence[str], Iterator[Record]]:
    objects = [
        (number, *_object(line))
        for number, line in enumerate(lines_of(content.file, "utf-8", path, most=most), 1)
        if line.strip()
    ]
    columns = list(dict.fromkeys(name for _, found, _ in objects for name in found or ()))
    if objects and not columns:
        raise InputError(f'{path} holds no JSON lines; expected an object such as {{"text": ..., "label": ...}} in each line')
    return columns, (
        Record(number, [line], "not a JSON object")
        if found is None
        else Record(number, [found.get(name, "") for name in columns], None)
        for number, found, line in objects
    )


def _object(line: str) -> tuple[dict[str, str] | None, str]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None, line
    return ({name.strip(): _text(value) for name, value in found.items()}, "") if isinstance(found, dict) else (None, line)


def _parquet(content: Unpacked, path: Path, most: int) -> tuple[Sequence[str], Iterator[Record]]:
    try:
        file = pq.ParquetFile(content.file)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a Parquet file, or a damaged one ({error}); write it again") from None
    if size > most:
        raise InputError(f"{path} is too large: {size:,} bytes of data, expected at most {most:,}; split it")
    columns = [name.strip() for name in file.schema_arrow.names]
    return columns, _rows(file, path)


def _rows(file: pq.ParquetFile, path: Path) -> Iterator[Record]:
    number = 0
    try:
        for batch in file.iter_batches():
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield Record(number, [_text(value) for value in row], None)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is a damaged Parquet file ({error}); write it again") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
