"""Reviews in a comma- or tab-separated file.

In a csv file a field may stand in quotes, and then hold separators, line ends and doubled quotes. In a tsv file a quote is
a letter like any other, because tweets hold single ones: there a record is a line and cannot hold a tab.
"""

import codecs
import contextlib
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sentiflow.corpus import fetching
from sentiflow.corpus.rows import INVALID, Found, Origin, excerpt
from sentiflow.errors import InputError
from sentiflow.params import CsvSource, Download, TsvSource

MOST_COLUMNS = 1_000
MOST_CHARACTERS = 2_000_000_000  # of a file, which is in memory as a whole
LONGEST = 100_000_000  # characters in a line or a field, of which the csv module takes four bytes each
NAMED = 20  # columns in an error


class Record(NamedTuple):
    line: int  # physical line on which it starts, from 1
    fields: list[str]
    flaw: str | None


class Table(NamedTuple):
    columns: Sequence[str | int]  # names, or numbers from 0 where there is no header
    records: list[Record]  # every one that is not flawed has a field a column


def find_csv(p: Download, partial_dir: Path) -> Origin:
    return _find("csv", p.csv, partial_dir, quoted=True, header=True)


def find_tsv(p: Download, partial_dir: Path) -> Origin:
    return _find("tsv", p.tsv, partial_dir, quoted=False, header=p.tsv.header)


def _find(source: str, p: CsvSource | TsvSource, partial_dir: Path, *, quoted: bool, header: bool) -> Origin:
    path = fetching.bring(p.location, partial_dir, sha256=p.sha256)
    table = read(path, separator=p.separator, encoding=p.encoding, quoted=quoted, header=header)
    text, label = (position(table.columns, f"download.{source}", key, getattr(p, key), str(path)) for key in ("text", "label"))
    found = rows(table, source, fetching.name_of(p.location), text=text, label=label)
    return Origin(fetching.without_secrets(p.location), fetching.sha256_of(path), p.labels, found)


def rows(table: Table, source: str, file: str, *, text: int, label: int) -> Iterator[Found]:
    """A row a record; text and label are positions from 0."""
    for line, fields, flaw in table.records:
        if flaw is None:
            yield Found(source, file, line, fields[text], fields[label])
        else:
            yield Found(source, file, line, " ".join(fields), "", flaw=flaw)


def read(path: Path, *, separator: str, encoding: str, quoted: bool, header: bool) -> Table:
    """Every record of a file, those that cannot be read as such included; only blank lines are left out.

    Bytes that are not valid in the encoding come out as lone surrogates, so that they cost their own row and no other.

    Raises:
        InputError: if the file is empty, the encoding unknown or not the file's, or the header unreadable.
    """
    records = list(_records(_lines(path, encoding), separator, quoted))
    if not records:
        raise InputError(f"{path} is empty: expected {'a header and ' if header else ''}one row a review")
    columns: Sequence[str | int]
    if header:
        first = records.pop(0)
        if first.flaw is not None or any("\0" in name or INVALID.search(name) for name in first.fields):
            raise InputError(
                f"{path}: the header on line {first.line} cannot be read as {encoding}: {excerpt(separator.join(first.fields))}"
                f"{f' ({first.flaw})' if first.flaw else ''}; set encoding and separator to those of the file"
            )
        columns = first.fields
    else:
        widths = Counter(len(record.fields) for record in records)
        columns = range(widths.most_common(1)[0][0])
    check_width(columns, str(path))
    return Table(columns, [_of_width(record, len(columns)) for record in records])


def check_width(columns: Sequence[object], name: str) -> None:
    """Raises InputError if a table has too many columns; `name` is that of the table."""
    if len(columns) > MOST_COLUMNS:
        raise InputError(
            f"{name} has {len(columns):,} columns, expected at most {MOST_COLUMNS:,}; keep the text and what belongs to it"
        )


def _lines(path: Path, encoding: str) -> list[str]:
    try:
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"  # the same, without the byte order mark that some programs put first
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
            lines, size = [], 0
            while line := file.readline(LONGEST + 1):
                size += len(line)
                if len(line) > LONGEST or size > MOST_CHARACTERS:
                    raise InputError(
                        f"{path} is too large: expected at most {MOST_CHARACTERS:,} characters, "
                        f"and {LONGEST:,} in a line; split it"
                    )
                lines.append(line)
            return lines
    except LookupError:
        raise InputError(f"no text encoding {encoding!r}; use one that Python knows, such as utf-8 or cp1252") from None
    except UnicodeError as error:
        raise InputError(f"{path} is not {encoding}: {error}; set encoding to that of the file") from None


def _records(lines: list[str], separator: str, quoted: bool) -> Iterator[Record]:
    # Where quotes do not match, one line is given up and reading starts anew on the next, so that a quote left open takes
    # no good rows with it. A file made of such lines would be read over and over: when `spare` lines were read again, all
    # lines up to the error are given up.
    start, spare = 0, 10 * len(lines)
    with _long_fields():
        while start < len(lines):
            rest = (lines[index] for index in range(start, len(lines)))
            reader = csv.reader(rest, delimiter=separator, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
            first = start
            try:
                for fields in reader:
                    if fields:
                        yield Record(first + 1, fields, None)
                    first = start + reader.line_num
                return
            except csv.Error as error:
                last = start + reader.line_num
                start = first + 1 if last - first <= spare else last
                spare -= last - start
                for index in range(first, start):
                    yield Record(index + 1, [lines[index].rstrip("\r\n")], f"quotes do not match: {error}")


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST)  # 131,072 characters by default; the caller checks the length of a review
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _of_width(record: Record, width: int) -> Record:
    if record.flaw is not None or len(record.fields) == width:
        return record
    return record._replace(flaw=f"wrong number of fields: {len(record.fields)} where {width} were expected")


def position(columns: Sequence[str | int], section: str, key: str, column: str | int, name: str) -> int:
    """The place of the column that a key of a section of params.yaml names.

    Raises:
        InputError: if the file, called `name`, does not have it exactly once.
    """
    if list(columns).count(column) == 1:
        return list(columns).index(column)
    is_twice = column in columns
    problem = "more than one column" if is_twice else "no column"
    there = ", ".join(excerpt(str(each)) for each in columns[:NAMED]) + (", ..." if len(columns) > NAMED else "")
    separator = f", and {section}.separator to the character between them" if len(columns) == 1 else ""
    advice = "rename one of the two in the file" if is_twice else f"set {section}.{key} to one of its columns{separator}"
    raise InputError(f"{name} has {problem} {column!r}, which {section}.{key} in params.yaml names; it has {there}: {advice}")
