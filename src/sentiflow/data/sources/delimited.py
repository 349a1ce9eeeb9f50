"""Records of delimited text, such as CSV and TSV. Whatever cannot be read costs its own line and no other."""

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

MOST_CHARACTERS = 2_000_000_000  # of a file, which is in memory as a whole
LONGEST = 100_000_000  # characters in a line or a field, of which the csv module takes four bytes each
PEEKED = 4096  # bytes in which something shows that is no text
BROKEN = 0.1  # share of records that cannot be read, from which blanks before quotes are tried as the reason
EXCEL = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # the line that tells Excel the separator
# What an escaped character is while the csv module reads, which would drop the escape of any character: noncharacters of Unicode.
STANDINS = ("\ufdd0", "\ufdd1", "\ufdd2")


class Record(NamedTuple):
    line: int  # physical line on which it starts, from 1
    fields: list[str]
    flaw: str | None


class Content(NamedTuple):
    columns: Sequence[str | int]  # empty where there is not even a header
    records: list[Record]
    blank_before_quote: bool


def read(file: IO[bytes], dialect: Dialect, path: Path, labels: Collection[str], most: int = MOST_CHARACTERS) -> Content:
    """The columns and every record of a file, blank lines left out; see `tables.read`."""
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
    """The lines of a file with their ends; bytes that are not valid in the encoding come out as lone surrogates.

    Args:
        most: characters of the unpacked file, at most; None where only a part of it is ever in memory.

    Raises:
        InputError: if the file is no text, not in this encoding, or too large.
    """
    try:
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"  # the same, without the byte order mark that some programs put first
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
            with contextlib.suppress(ValueError):  # the caller, whose file it is, has closed it already
                text.detach()
                buffered.detach()
    except LookupError:
        raise InputError(f"no text encoding {encoding!r}; use one that Python knows, such as utf-8 or cp1252") from None
    except UnicodeError as error:
        raise InputError(f"{path} is not {encoding}: {error}; set encoding to that of the file") from None


def preamble(lines: Sequence[str], dialect: Dialect, path: Path) -> int:
    """The number of lines before the header: those to skip, and the line that tells Excel the separator.

    Raises:
        InputError: if that line names another separator than the dialect.
    """
    line = next(iter(lines[dialect.skip_rows :]), "")
    if not (said := EXCEL.fullmatch(line)):
        return dialect.skip_rows
    if said[1] != dialect.separator:
        raise InputError(f"{path} is separated by {said[1]!r}, as its line {line.strip()!r} says; set separator to that")
    return dialect.skip_rows + 1


def header(record: Record, dialect: Dialect, path: Path) -> list[str]:
    """The names of the columns, without white space around them.

    Raises:
        InputError: if they cannot be read.
    """
    if record.flaw is not None or any("\0" in name or INVALID.search(name) for name in record.fields):
        raise InputError(
            f"{path}: the header on line {record.line} cannot be read as {dialect.encoding}: "
            f"{excerpt(dialect.separator.join(record.fields))}{f' ({record.flaw})' if record.flaw else ''}; "
            "set encoding, separator, quote and skip_rows to those of the file"
        )
    return [name.strip() for name in record.fields]


def reader(lines: Iterator[str], dialect: Dialect, *, blank_before_quote: bool = False) -> Any:
    """A strict reader of the csv module; `unescaped` undoes what `escaped` has done to the lines."""
    return csv.reader(
        lines,
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        skipinitialspace=blank_before_quote and not dialect.separator.isspace(),  # Python 3.13 refuses the two together
        strict=True,
    )


def escaped(line: str, dialect: Dialect) -> str:
    """The line with a stand-in for each escaped quote, separator and escape."""
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
    # Where quotes do not match, one line is given up and reading starts again on the next, so that a quote left open takes
    # no good rows with it. A file made of such lines would be read over and over: when `spare` lines were read again, all
    # lines up to the error are given up.
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
                        raise csv.Error("a quote is left open, and the lines after it are rows of their own")
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
                    hint = "; if a backslash escapes quotes, set escape" if dialect.escape is None and '\\"' in line else ""
                    yield Record(index + 1, [line], f"quotes do not match: {error}{hint}")


def _holds_a_row(lines: list[str], dialect: Dialect, width: int, labels: Collection[str]) -> bool:
    """Whether one of the lines within a field is a row with a label: then the quote before it was left open."""
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
    before = csv.field_size_limit(LONGEST)  # 131,072 characters by default; the caller checks the length of a review
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _broken(records: list[Record]) -> float:
    """Share of records that are flawed or have another number of fields than the first."""
    return sum(record.flaw is not None or len(record.fields) != len(records[0].fields) for record in records) / max(
        1, len(records)
    )


def _of_width(record: Record, width: int) -> Record:
    if record.flaw is not None or len(record.fields) == width:
        return record
    return record._replace(flaw=f"wrong number of fields: {len(record.fields)} where {width} were expected")
