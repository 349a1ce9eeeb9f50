"""Predicts with the champion: the label and probabilities of one text, or of every review in a file.

Reads the registered models of the project in the working folder, or of the store that MLFLOW_TRACKING_URI names.
"""

import csv
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from sentiflow.config import params
from sentiflow.data.sources import delimited, structured, tables
from sentiflow.data.sources.rows import INVALID
from sentiflow.data.sources.unpacking import Unpacked, unpacked
from sentiflow.models import settings
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.pipeline import stage_paths
from sentiflow.registry import model_versions, store
from sentiflow.system import stage, terminal
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

STANDARD_INPUT = "-"
TEXT_COLUMNS = ("text", "review")  # default names of the column of texts
ANSWERS = Path("predictions")
ROWS, CHARACTERS = 1000, 2_000_000  # per batch, at most; the last row may exceed the characters
CELLS_PER_ROW = 10  # of the longest kind
START = 65_536  # bytes of a file from which its dialect is detected
NAMED = 20  # columns in an error
NO_TEXT = 'received no text; expected a review, for example: sentiflow {} "A film I loved."'

Row = tuple[int, list[str]]  # number of its first line, cells
DEFAULT = tables.Written(tables.PLAIN, blank_before_quote=False)


class Answered(NamedTuple):
    rows: int
    empty: int  # rows without a text
    column: str


def run(text: str | None, file: Path | None, column: str | None, out: Path | None, version: str | None) -> None:
    """Prints the prediction for one text, or writes those of every row of a file to another file; see `cli.predictions`."""
    p = settings.load()
    if (text is None) == (file is None):
        raise InputError('expected either a text or a file, for example: sentiflow predict --text "A film I loved."')
    if file is None:
        if column is not None or out is not None:
            raise InputError("--column and --out are options for a file, not for --text")
        text = _read_text(text or "", p.download.max_characters)
    else:
        out = out or ANSWERS / f"{file.stem}.predictions.csv"
        _check_paths(file, out)

    found = opened(version)
    name = f"version {found.version} ({found.architecture})"
    if file is None or out is None:
        answer = found.model.predict([text or ""]).iloc[0]
        classes = found.model.classifier.config.classes
        width = max(map(len, classes))
        lines = [f"{answer['label']}  ({name})", *(f"  {each:{width}}  {answer[f'p_{each}']:.4f}" for each in classes)]
        terminal.tell("\n".join(lines))
        return
    answered = answer_file(found.model, file, out, p.download, column=column)
    if answered.empty:
        empty, rows = f"{answered.empty:,}", f"{answered.rows:,}"
        log.warning("%s of %s rows contain no text; their prediction is that of an empty text", empty, rows)
    terminal.tell(f"{name} predicted {answered.rows:,} rows of column {answered.column!r}: {out}")


@store.errors_handled()
def opened(version: str | None) -> model_versions.Opened:
    """A version by its number, or the champion."""
    if version is not None:
        client = store.connect()
        return model_versions.opened(client, model_versions.version(client, version))
    if (found := champion()) is None:
        raise InputError(
            "no registered version is champion; train and register with `sentiflow repro`, then run `sentiflow models promote`"
        )
    return found


@store.errors_handled()
def champion() -> model_versions.Opened | None:
    """The champion; None if no version is."""
    client = store.connect()
    found = model_versions.champion(client)
    return None if found is None else model_versions.opened(client, found)


def _read_text(text: str, longest: int) -> str:
    limit = 4 * longest + 1  # bytes of UTF-8; standard input may be endless
    raw = sys.stdin.buffer.read(limit) if text == STANDARD_INPUT else os.fsencode(text)
    text = raw.decode("utf-8", "replace")
    if not text.strip():
        raise InputError(NO_TEXT.format("predict --text"))
    if len(text) > longest:
        raise InputError(f"received a text of more than {longest:,} characters, expected at most that; shorten it")
    return text


def _check_paths(file: Path, out: Path) -> None:
    if not file.is_file():
        raise InputError(f"{file} is {'not a file' if file.exists() else 'missing'}; expected a file of reviews")
    if out.exists() and not out.is_file():
        raise InputError(f"received --out {out}, which is a folder or a device; expected the name of a file")
    if any(each.exists() and each.samefile(file) for each in (out, *stage.working_files(out))):
        raise InputError(f"received {file} for both the reviews and --out; expected another --out, to not overwrite the reviews")
    stage_paths.refuse(out, elsewhere=str(ANSWERS / out.name))


def answer_file(model: SentimentModel, file: Path, out: Path, download: params.Download, *, column: str | None) -> Answered:
    """Writes every column of a file unchanged, followed by `predicted` and `p_CLASS` for each class, as CSV in UTF-8.

    Works in batches, so memory does not grow with the file. The prediction for an empty cell is that of an empty text. `out` is
    written atomically.

    Args:
        file: in the format of `download`, or in UTF-8, comma-separated, with a header; blank lines are left out.
        out: an existing file is replaced.
        column: of the texts; None selects those of params.yaml, `text`, `review`, or the only column.
    """
    probabilities = [f"p_{each}" for each in model.classifier.config.classes]
    columns = ["predicted", *probabilities]  # not `label`, which a labelled file already has
    size = file.stat().st_size
    with unpacked(file) as content, tqdm(total=size, desc="predict", unit="B", unit_scale=True, disable=None) as bar:
        names, places, table = _table(content, file, download, column)
        if clash := [each for each in names if each in columns]:
            raise InputError(f"{file} already has columns named like those of the predictions: {_listed(clash)}; rename them")
        texts_are_named = column is not None or names[places[0]] in (*TEXT_COLUMNS, *map(str, download.table.texts))
        with stage.writing(out) as [partial], partial.open("w", encoding="utf-8", newline="") as target:
            writer = csv.writer(target, lineterminator="\n")
            writer.writerow([*names, *columns])
            done, empty = 0, 0
            for batch in _batches(table):
                if os.fstat(content.on_disk.fileno()).st_size != size:  # reading a file that keeps growing would never end
                    raise InputError(f"{file} changed while it was read; wait until it is complete, then run again")
                texts = [tables.text_of(row, places) for row in batch]
                if not done and not texts_are_named and _are_numbers(texts):
                    name = names[places[0]]
                    raise InputError(f"column {name!r} of {file} contains numbers, expected texts; name a column with --column")
                answers = model.predict(texts)[["label", *probabilities]].to_numpy().tolist()
                writer.writerows([*row, *answer] for row, answer in zip(batch, answers, strict=True))
                done += len(batch)
                empty += sum(not each.strip() for each in texts)
                bar.update(os.lseek(content.on_disk.fileno(), 0, os.SEEK_CUR) - bar.n)
    return Answered(done, empty, ", ".join(names[place] for place in places))


def _table(
    content: Unpacked, file: Path, download: params.Download, column: str | None
) -> tuple[list[str], list[int], Iterator[Row]]:
    """Names of the columns, positions of the texts, and the rows of a file."""
    columns: list[str | int] = [column] if column else list(download.table.texts)
    if content.is_parquet or structured.is_json(content.name):
        found, records = structured.read(content, file)
        names, table = list(found), _without_flaws(records, file)
        places = tables.positions(names, columns)
    else:
        start = content.file.peek(START)[:START]  # type: ignore[attr-defined]
        names, places, table = table_of(
            start,
            lambda dialect: _lines(content.file, file, dialect),
            download.table,
            columns,
            longest=download.max_characters,
            name=str(file),
        )
    return names, places or [_place_of(names, column, file)], table


def table_of(
    start: bytes,
    lines_in: Callable[[params.Dialect], Iterator[str]],
    section: params.TableSource,
    columns: Sequence[str | int],
    *,
    longest: int,
    name: str,
) -> tuple[list[str], list[int] | None, Iterator[Row]]:
    """Names of the columns, positions of `columns` or None if they are missing, and the rows of a table.

    Args:
        start: its first bytes, which tell whether it is in the dialect of `section`, or else comma-separated in UTF-8.
        lines_in: its lines in a dialect, without those before the header.
        columns: of the texts.
        longest, name: see `rows`.
    """
    written = tables.dialect_of(start, section, columns)
    has_header = written is None or section.header
    written = written or DEFAULT
    table = rows(lines_in(written.dialect), longest=longest, name=name, written=written)
    line, first = next(table, (0, []))
    if has_header:
        return first, tables.positions(first, columns), table
    names = [str(place) for place in range(len(first))]
    return names, tables.positions(names, columns), itertools.chain([(line, first)], table)


def _without_flaws(records: Iterable[delimited.Record], file: Path) -> Iterator[Row]:
    for line, fields, flaw in records:
        if flaw is not None:
            raise InputError(f"{file}: line {line} is {flaw}; correct it, then run again")
        yield line, fields


def _lines(source: IO[bytes], file: Path, dialect: params.Dialect) -> Iterator[str]:
    lines = delimited.lines_of(source, dialect.encoding, file, most=None)
    start = list(itertools.islice(lines, dialect.skip_rows + 1))
    skipped = delimited.preamble(start, dialect, file)
    for number, line in enumerate(itertools.chain(start, lines), start=1):
        if not line.isascii() and (invalid := INVALID.search(line)):
            raise InputError(
                f"{file} is not {dialect.encoding.upper()} text (byte 0x{ord(invalid[0]) - 0xDC00:02x} in line {number}); "
                "save it as UTF-8"
            )
        if number > skipped:
            yield line


def rows(lines: Iterable[str], *, longest: int, name: str, written: tables.Written) -> Iterator[Row]:
    """The rows of a table, the header included.

    Args:
        lines: with their line ends.
        longest: maximum number of characters per cell.
        name: of the table, for errors, which never contain any of its content.
    """
    csv.field_size_limit(longest)
    begin = size = width = 0
    limit = CELLS_PER_ROW * longest

    def bounded() -> Iterator[str]:  # a row of quoted cells can span any number of lines
        nonlocal size
        for line in lines:
            size += len(line)
            if size > limit:
                raise InputError(f"{name}: the row that begins in line {begin} has more than {limit:,} characters; split it")
            yield delimited.escaped(line, written.dialect)

    reader = delimited.reader(bounded(), written.dialect, blank_before_quote=written.blank_before_quote)
    while True:
        begin, size = reader.line_num + 1, 0
        try:
            row = next(reader, None)
        except csv.Error as error:
            reason = (
                f"a cell has more than {longest:,} characters, so a quote may not be closed"
                if "field larger" in str(error)
                else f"{error}; expected quotes in pairs, and doubled within a quoted cell"
            )
            raise InputError(f"{name} is not valid CSV in the row that begins in line {begin}: {reason}") from None
        if row is None:
            return
        if not row:
            continue  # a blank line
        if not width:
            tables.check_width(row, name)
            width = len(row)
        if len(row) != width:
            raise InputError(
                f"{name} has {len(row)} cells in line {begin}, expected {width} as in its first; quote cells that contain commas"
            )
        yield begin, delimited.unescaped(row, written.dialect)


def text_column(names: Sequence[str]) -> int | None:
    """Position of the default column of texts: `text`, `review`, or the only one; None if it is ambiguous.

    >>> text_column(["id", "review"]), text_column(["anything"]), text_column(["id", "body"])
    (1, 0, None)
    """
    places = [place for place, each in enumerate(names) if each in TEXT_COLUMNS]
    if len(places) == 1:
        return places[0]
    return 0 if len(names) == 1 else None


def _place_of(names: list[str], column: str | None, file: Path) -> int:
    if not names:
        raise InputError(f"{file} is empty; expected a header, and a review in each row")
    if duplicates := sorted(each for each, count in Counter(names).items() if count > 1):
        raise InputError(f"{file} has columns of the same name: {_listed(duplicates)}; rename them, then run again")
    if column is not None:
        if column not in names:
            raise InputError(f"received --column {column!r}, expected a column of {file}: {_listed(names)}")
        return names.index(column)
    place = text_column(names)
    if place is None:
        raise InputError(f"which column of {file} contains the texts is ambiguous; name it with --column: {_listed(names)}")
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise InputError(f"{file} seems to be separated by {other!r}: its header is {names[0]!r}; expected commas")
    return place


def _listed(names: Sequence[str]) -> str:
    return terminal.some((repr(each[:NAMED]) for each in names), most=NAMED)


def _batches(table: Iterator[Row]) -> Iterator[list[list[str]]]:
    batch: list[list[str]] = []
    size = 0
    for _, row in table:
        batch.append(row)
        size += len(row) + sum(map(len, row))  # an empty cell takes memory too
        if len(batch) >= ROWS or size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _are_numbers(texts: list[str]) -> bool:
    filled = [each for each in texts if each]
    try:
        return bool([float(each) for each in filled])
    except ValueError:
        return False
