"""Tables in JSON (lines, or one list) and Parquet. Cells that are not strings are converted to JSON."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.data.sources.delimited import MOST_CHARACTERS, Record, lines_of
from sentiflow.data.sources.unpacking import Unpacked
from sentiflow.system.errors import InputError

JSON = (".jsonl", ".ndjson", ".json")
BLANK = object()


def is_json(name: str) -> bool:
    return name.lower().endswith(JSON)


def read(content: Unpacked, path: Path, most: int = MOST_CHARACTERS) -> tuple[Sequence[str], Iterator[Record]]:
    """The columns and the records of a file. A key that is missing in a JSON object is an empty cell.

    Args:
        most: maximum characters, or bytes of Parquet's columns.
    """
    return _parquet(content, path, most) if content.is_parquet else _json(content, path, most)


def _json(content: Unpacked, path: Path, most: int) -> tuple[Sequence[str], Iterator[Record]]:
    lines = list(lines_of(content.file, "utf-8", path, most=most))
    whole = _parsed("".join(lines)) if "".join(lines[:1]).lstrip().startswith("[") else None
    values = whole if isinstance(whole, list) else [_parsed(line) if line.strip() else BLANK for line in lines]
    columns = list(dict.fromkeys(name.strip() for value in values if isinstance(value, dict) for name in value))
    if not columns and any(line.strip() for line in lines):
        raise InputError(f'{path} is not JSON lines; expected an object such as {{"text": ..., "label": ...}} in each line')
    return columns, (_record(number, value, columns) for number, value in enumerate(values, 1) if value is not BLANK)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _record(number: int, value: Any, columns: list[str]) -> Record:
    if not isinstance(value, dict):
        return Record(number, [_text(value)], "not a JSON object")
    cells = {name.strip(): _text(each) for name, each in value.items()}
    return Record(number, [cells.get(name, "") for name in columns], None)


def _parquet(content: Unpacked, path: Path, most: int) -> tuple[Sequence[str], Iterator[Record]]:
    try:
        file = pq.ParquetFile(content.file)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a Parquet file, or is damaged ({error}); write it again") from None
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
