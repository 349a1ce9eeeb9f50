"""Ask the champion: the label and probabilities of one text, or of every review in a file.

Reads the registered models of the project in the working folder, or of the store that MLFLOW_TRACKING_URI names.
"""

import csv
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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
TEXT_COLUMNS = ("text", "review")  # what a column of texts is called where nobody says
ANSWERS = Path("predictions")
ROWS, CHARACTERS = 1000, 2_000_000  # answered at once, at most; the last row may go beyond
CELLS_A_ROW = 10  # of the longest kind
START = 65_536  # bytes of a file by which its dialect is known
NAMED = 20  # columns in an error


@dataclass(frozen=True)
class Answered:
    rows: int
    empty: int  # rows without a text
    column: str


def run(
    text: str | None = None,
    file: Path | None = None,
    column: str | None = None,
    out: Path | None = None,
    version: str | None = None,
) -> None:
    """Answers one text in the terminal, or every row of a file in another file.

    Args:
        text: one text; "-" reads it from the standard input.
        file: as `download` reads it, or CSV in UTF-8 with a header.
        column: of the texts in the file; by default that of params.yaml, or `text` or `review`.
        out: the answers; by default predictions/FILE.predictions.csv.
        version: of the registered model; by default the champion.

    Raises:
        InputError: if not exactly one of text and file is given, or one of them cannot be read.
    """
    p = settings.load()
    if (text is None) == (file is None):
        raise InputError('expected either a text or a file, for example: sentiflow predict --text "A film I loved."')
    if file is None:
        if column is not None or out is not None:
            raise InputError("received --column or --out with --text; they belong to a file")
        longest = p.download.max_characters
        limit = 4 * longest + 1  # bytes of UTF-8; the standard input may be endless
        raw = sys.stdin.buffer.read(limit) if text == STANDARD_INPUT else os.fsencode(text or "")
        text = raw.decode("utf-8", "replace")
        if not text.strip():
            raise InputError('received no text; expected a review, for example: sentiflow predict --text "A film I loved."')
        if len(text) > longest:
            raise InputError(f"received a text of more than {longest:,} characters, expected at most that; shorten it")
    else:
        out = out or ANSWERS / f"{file.stem}.predictions.csv"  # beside the file it might be in an input of a stage
        _check_places(file, out)

    found = opened(version)
    name = f"version {found.version} ({found.architecture})"
    if file is None or out is None:
        terminal.tell(_shown(found.model, text or "", name))
        return
    answered = answer_file(found.model, file, out, p.download, column=column)
    if answered.empty:
        log.warning(
            "%s of %s rows hold no text; they have the answer to an empty text", f"{answered.empty:,}", f"{answered.rows:,}"
        )
    terminal.tell(f"{name} answered {answered.rows:,} rows of column {answered.column!r}: {out}")


@store.errors_handled()
def opened(version: str | None) -> model_versions.Opened:
    """A version by its number, or the champion."""
    client = store.connect()
    if version is not None:
        return model_versions.opened(client, model_versions.version(client, version))
    champion = model_versions.champion(client)
    if champion is None:
        raise InputError(
            "no registered version is champion; train and register with `sentiflow repro`, then run `sentiflow models promote`"
        )
    return model_versions.opened(client, champion)


def _shown(model: SentimentModel, text: str, name: str) -> str:
    answer = model.predict([text]).iloc[0]
    classes = model.classifier.config.classes
    width = max(map(len, classes))
    return "\n".join([f"{answer['label']}  ({name})", *(f"  {each:{width}}  {answer[f'p_{each}']:.4f}" for each in classes)])


def _check_places(file: Path, out: Path) -> None:
    if not file.is_file():
        problem = "no file" if file.exists() else "not there"
        raise InputError(f"received {file}, which is {problem}; expected a file of reviews")
    if out.exists() and not out.is_file():
        raise InputError(f"received --out {out}, which is a folder or a device; expected the name of a file")
    if any(each.exists() and each.samefile(file) for each in (out, *stage.working_files(out))):
        raise InputError(
            f"received {file} for both the reviews and --out; expected another --out, so that no review is overwritten"
        )
    stage_paths.refuse(out, elsewhere=str(ANSWERS / out.name))


def answer_file(model: SentimentModel, file: Path, out: Path, download: params.Download, *, column: str | None) -> Answered:
    """Writes every column of a file as it is, and after them `predicted` and `p_CLASS` for each class, as CSV in UTF-8.

    Reads and answers a part at a time, so memory does not grow with the file. An empty cell is answered as an empty text.
    `out` is there as a whole or not at all.

    Args:
        model: what answers.
        file: as `download` reads it, or in UTF-8, comma-separated, with a header; rows of blank lines are left out.
        out: any file there is replaced.
        column: of the texts; None takes those of params.yaml, `text`, `review`, or the only column.
    """
    probabilities = [f"p_{each}" for each in model.classifier.config.classes]
    columns = ["predicted", *probabilities]  # a file that has labels calls the column `label`
    with (
        unpacked(file) as content,
        tqdm(total=file.stat().st_size, desc="predict", unit="B", unit_scale=True, disable=None) as bar,
    ):
        size = bar.total
        names, places, table = _table(content, file, download, column)
        if clash := [each for each in names if each in columns]:
            raise InputError(f"{file} has columns named as an answer's: {_listed(clash)}; rename them, then run again")
        with stage.writing(out) as [partial], partial.open("w", encoding="utf-8", newline="") as target:
            writer = csv.writer(target, lineterminator="\n")
            writer.writerow([*names, *columns])
            done, empty = 0, 0
            for part in _parts(table):
                if os.fstat(content.on_disk.fileno()).st_size != size:  # a file that grows as fast as it is read has no end
                    raise InputError(f"{file} was changed while it was read; wait until it is complete, then run again")
                texts = [tables.text_of(row, places) for row in part]
                name = names[places[0]]
                if not done and column is None and name not in _known(download) and _are_numbers(texts):
                    name_one = "name one with --column"
                    raise InputError(f"column {name!r} of {file} holds numbers, expected texts; {name_one}")
                answers = model.predict(texts)[["label", *probabilities]].to_numpy().tolist()
                writer.writerows([*row, *answer] for row, answer in zip(part, answers, strict=True))
                done += len(part)
                empty += sum(not each.strip() for each in texts)
                bar.update(os.lseek(content.on_disk.fileno(), 0, os.SEEK_CUR) - bar.n)
    return Answered(done, empty, ", ".join(names[place] for place in places))


def _known(download: params.Download) -> list[str]:
    """What a column of texts is called."""
    return [*TEXT_COLUMNS, *map(str, download.table.texts)]


def _table(
    content: Unpacked, file: Path, download: params.Download, column: str | None
) -> tuple[list[str], list[int], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, the places of the texts, and line and cells of each row."""
    columns: list[str | int] = [column] if column else list(download.table.texts)
    if content.is_parquet or structured.is_json(content.name):
        found, records = structured.read(content, file)
        names, table = list(found), _unflawed(records, file)
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
) -> tuple[list[str], list[int] | None, Iterator[tuple[int, list[str]]]]:
    """A table that is written as params.yaml says, or else comma-separated in UTF-8.

    Args:
        start: its first bytes.
        lines_in: its lines in a dialect, without those before the header.
        section: of params.yaml.
        columns: of the texts.
        longest, name: see `rows`.

    Returns:
        Names of the columns, places of `columns` or None where they are not in it, and line and cells of each row.
    """
    written = tables.dialect_of(start, section, columns)
    has_header = written is None or section.header
    written = written or tables.Written(tables.PLAIN, blank_before_quote=False)
    table = rows(lines_in(written.dialect), longest=longest, name=name, written=written)
    line, first = next(table, (0, []))
    if has_header:
        return first, tables.positions(first, columns), table
    names = [str(place) for place in range(len(first))]
    return names, tables.positions(names, columns), itertools.chain([(line, first)], table)


def _unflawed(records: Iterable[delimited.Record], file: Path) -> Iterator[tuple[int, list[str]]]:
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


def rows(
    lines: Iterable[str],
    *,
    longest: int,
    name: str,
    written: tables.Written = tables.Written(tables.PLAIN, blank_before_quote=False),  # noqa: B008  it is frozen
) -> Iterator[tuple[int, list[str]]]:
    """The number of the line in which each row of a table begins, and its cells; the header is the first.

    Args:
        lines: with their ends.
        longest: characters in a cell, at most.
        name: of the whole, for errors; what is in it is in none of them.
        written: how the table is written.
    """
    csv.field_size_limit(longest)
    begin = size = width = 0
    limit = CELLS_A_ROW * longest

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
                f"{name} has {len(row)} cells in line {begin}, expected {width} as in its first; quote a cell with commas"
            )
        yield begin, delimited.unescaped(row, written.dialect)


def text_column(names: Sequence[str]) -> int | None:
    """The place of the column of texts where nobody says which: `text`, `review`, or the only one; None if that is not clear.

    >>> text_column(["id", "review"]), text_column(["anything"]), text_column(["id", "body"])
    (1, 0, None)
    """
    places = [place for place, each in enumerate(names) if each in TEXT_COLUMNS]
    if len(places) == 1:
        return places[0]
    return 0 if len(names) == 1 else None


def _place_of(names: list[str], wanted: str | None, file: Path) -> int:
    if not names:
        raise InputError(f"{file} is empty; expected a header, and a review in each row")
    if twice := sorted(each for each, count in Counter(names).items() if count > 1):
        raise InputError(f"{file} has columns of the same name: {_listed(twice)}; rename them, then run again")
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"received --column {wanted!r}, expected a column of {file}: {_listed(names)}")
        return names.index(wanted)
    place = text_column(names)
    if place is None:
        raise InputError(f"which column of {file} holds the texts is not clear; name it with --column: {_listed(names)}")
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise InputError(f"{file} seems to be separated by {other!r}: its header is {names[0]!r}; expected commas")
    return place


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(repr(each[:NAMED]) for each in names[:NAMED]) + more


def _parts(table: Iterator[tuple[int, list[str]]]) -> Iterator[list[list[str]]]:
    part: list[list[str]] = []
    size = 0
    for _, row in table:
        part.append(row)
        size += len(row) + sum(map(len, row))  # an empty cell takes memory too
        if len(part) >= ROWS or size >= CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _are_numbers(texts: list[str]) -> bool:
    filled = [each for each in texts if each]
    try:
        return bool([float(each) for each in filled])
    except ValueError:
        return False
