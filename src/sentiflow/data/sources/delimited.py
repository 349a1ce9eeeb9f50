"""Parses delimited text such as CSV and TSV. A parse error affects its own line only."""

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from sentiflow.config.params import Dialect
from sentiflow.data.sources import unpacking
from sentiflow.data.sources.rows import INVALID, excerpt
from sentiflow.system.errors import InputError

MOST_CHARACTERS = 2_000_000_000  # in a file, which is read into memory
LONGEST = 100_000_000  # characters in a line or field; the csv module needs four bytes for each
PEEKED = 4096  # bytes to detect binary files
BROKEN = 0.1  # fraction of broken records above which the file is parsed again with blanks allowed before quotes
EXCEL = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # Excel's line that declares the separator
# Unicode noncharacters that replace escaped characters during parsing, because the csv module would drop every escape character.
STANDINS = ("\ufdd0", "\ufdd1", "\ufdd2")


class Record(NamedTuple):
    line: int  # first physical line, from 1
    fields: list[str]
    flaw: str | None


class Content(NamedTuple):
    columns: Sequence[str | int]  # empty for an empty file
    records: list[Record]
    blank_before_quote: bool  # whether fields may have blanks before their quote


def read(file: IO[bytes], dialect: Dialect, path: Path, labels: Collection[str], most: int = MOST_CHARACTERS) -> Content:
    """The columns and records of a file without its blank lines; see `tables.read`."""
    lines = list(lines_of(file, dialect.encoding, path, most=most))
    first = preamble(lines[: dialect.skip_rows + 1], dialect, path)
    records = list(_records(lines, first, dialect, labels, blank_before_quote=False))
    blank_before_quote = False
    if dialect.quote is not None and _broken(records) > BROKEN:
        again = list(_records(lines, first, dialect, labels, blank_before_quote=True))
        if blank_before_quote := _broken(again) < _broken(records):
            records = again
    if not records:
        return Content([], [], blank_before_quote)
    columns: Sequence[str | int]
    if dialect.header:
        columns = header(records.pop(0), dialect, path)
    else:
        widths = Counter(len(record.fields) for record in records)
        columns = range(widths.most_common(1)[0][0])
    return Content(columns, [_of_width(record, len(columns)) for record in records], blank_before_quote)


def lines_of(file: IO[bytes], encoding: str, path: Path, *, most: int | None) -> Iterator[str]:
    """The lines of a file with their line ends. Bytes that are invalid in the encoding become lone surrogates.

    Args:
        most: maximum characters of the file; None if the caller does not keep it in memory.

    Raises:
        InputError: if the file is not text, not in this encoding, or too large.
    """
    try:
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"  # skips a byte order mark
        buffered = io.BufferedReader(file)  # type: ignore[type-var]
        text = io.TextIOWrapper(buffered, encoding=encoding, errors="surrogateescape", newline="")
        size = 0
        try:
            unpacking.require_text(path, buffered.peek(PEEKED)[:PEEKED], encoding)
            while line := text.readline(LONGEST + 1):
                size += len(line)
                if len(line) > LONGEST or (most is not None and size > most):
                    limit = "" if most is None else f"{most:,} characters, and "
                    raise InputError(f"{path} is too large: expected at most {limit}{LONGEST:,} characters in a line; split it")
                yield line
        finally:
            with contextlib.suppress(ValueError):  # the caller has closed the file already
                text.detach()
                buffered.detach()
    except LookupError:
        raise InputError(f"unknown text encoding {encoding!r}; use one that Python supports, such as utf-8 or cp1252") from None
    except UnicodeError as error:
        raise InputError(f"{path} is not {encoding}: {error}; set encoding to the encoding of the file") from None


def preamble(lines: Sequence[str], dialect: Dialect, path: Path) -> int:
    """The number of lines before the header: `skip_rows`, and Excel's line that declares the separator.

    Raises:
        InputError: if that line declares another separator than the dialect.
    """
    line = next(iter(lines[dialect.skip_rows :]), "")
    if not (declared := EXCEL.fullmatch(line)):
        return dialect.skip_rows
    if declared[1] != dialect.separator:
        raise InputError(f"{path} is separated by {declared[1]!r} according to its line {line.strip()!r}; set separator to it")
    return dialect.skip_rows + 1


def header(record: Record, dialect: Dialect, path: Path) -> list[str]:
    """The names of the columns, without surrounding white space."""
    if record.flaw is not None or any("\0" in name or INVALID.search(name) for name in record.fields):
        raise InputError(
            f"{path}: the header on line {record.line} cannot be read as {dialect.encoding}: "
            f"{excerpt(dialect.separator.join(record.fields))}{f' ({record.flaw})' if record.flaw else ''}; "
            "check encoding, separator, quote and skip_rows"
        )
    return [name.strip() for name in record.fields]


def reader(lines: Iterator[str], dialect: Dialect, *, blank_before_quote: bool = False) -> Any:
    """A strict csv.reader of `escaped` lines; call `unescaped` on its rows."""
    return csv.reader(
        lines,
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        skipinitialspace=blank_before_quote and not dialect.separator.isspace(),  # Python 3.13 does not allow both
        strict=True,
    )


def escaped(line: str, dialect: Dialect) -> str:
    """The line with each escaped quote, separator and escape character replaced by its noncharacter."""
    if dialect.escape is None or dialect.escape not in line:
        return line
    standins = dict(zip((dialect.escape, dialect.quote or "", dialect.separator), STANDINS, strict=True))
    return re.sub(f"{re.escape(dialect.escape)}(.)", lambda found: standins.get(found[1], found[0]), line)


def unescaped(fields: list[str], dialect: Dialect) -> list[str]:
    if dialect.escape is None:
        return fields
    meant = str.maketrans(dict(zip(STANDINS, (dialect.escape, dialect.quote or "", dialect.separator), strict=True)))
    return [field.translate(meant) for field in fields]


def _records(
    lines: list[str], start: int, dialect: Dialect, labels: Collection[str], *, blank_before_quote: bool
) -> Iterator[Record]:
    # If quotes do not match, one line is rejected and parsing restarts on the next, so that an unclosed quote does not swallow
    # valid rows. To keep the time linear, all lines up to the error are rejected once `spare` lines have been parsed again.
    spare = 10 * len(lines)
    width = 0
    with _long_fields():
        while start < len(lines):
            rest = (escaped(line, dialect) for line in itertools.islice(lines, start, None))
            parsed = reader(rest, dialect, blank_before_quote=blank_before_quote)
            first = start
            try:
                for fields in parsed:
                    end = start + parsed.line_num
                    width = width or len(fields)
                    if end - first > 2 and spare > 0 and _holds_a_row(lines[first + 1 : end - 1], dialect, width, labels):
                        raise csv.Error("unclosed quote, and the lines after it are separate rows")
                    if fields:
                        yield Record(first + 1, unescaped(fields, dialect), None)
                    first = end
                return
            except csv.Error as error:
                last = start + parsed.line_num
                start = first + 1 if last - first <= spare else last
                spare -= last - start
                for index in range(first, start):
                    line = lines[index].rstrip("\r\n")
                    hint = "; set escape if a backslash escapes quotes" if dialect.escape is None and '\\"' in line else ""
                    yield Record(index + 1, [line], f"quotes do not match: {error}{hint}")


def _holds_a_row(lines: list[str], dialect: Dialect, width: int, labels: Collection[str]) -> bool:
    """Whether a line inside a quoted field is a row with a label, so that the quote before it was not closed."""
    for line in lines:
        try:
            fields: list[str] = next(reader(iter([escaped(line, dialect)]), dialect), [])
        except csv.Error:
            continue
        if len(fields) == width > 1 and any(field.strip() in labels for field in fields):
            return True
    return False


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST)  # default: 131,072 characters; the caller limits the length of reviews
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _broken(records: list[Record]) -> float:
    """Fraction of records that are flawed or have another number of fields than the first."""
    broken = [record.flaw is not None or len(record.fields) != len(records[0].fields) for record in records]
    return sum(broken) / max(1, len(broken))


def _of_width(record: Record, width: int) -> Record:
    if record.flaw is not None or len(record.fields) == width:
        return record
    return record._replace(flaw=f"wrong number of fields: {len(record.fields)}, expected {width}")
