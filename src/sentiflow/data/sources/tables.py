"""Reviews in tables: delimited text, JSON lines or Parquet, in one or several files.

With a quote character, fields may contain separators, line ends and quotes. Without one, each line is a record and a quote is an
ordinary character.
"""

import contextlib
import glob
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sentiflow.config.params import Column, Dialect, Download, TableSource
from sentiflow.data.sources import delimited, fetching, structured, terms
from sentiflow.data.sources.rows import SPLITS, Found, Origin, excerpt, tidied
from sentiflow.data.sources.source import Files, Source, Url
from sentiflow.data.sources.unpacking import unpacked
from sentiflow.system.errors import InputError

MOST_COLUMNS = 1_000
NAMED = 20  # columns in an error message
PATTERN = frozenset("*?[")
SUFFIXES = ("jsonl", "ndjson", "json", "parquet")  # of formats without a dialect
PLAIN = Dialect(separator=",", encoding="utf-8", quote='"', escape=None, skip_rows=0, header=True)


class Table(NamedTuple):
    columns: Sequence[str | int]  # names, or numbers from 0 without a header
    records: list[delimited.Record]  # with one field per column, unless flawed


class Written(NamedTuple):
    """The format of a table, as detected from its first bytes."""

    dialect: Dialect
    blank_before_quote: bool


class Columns(NamedTuple):
    """Indices of the columns, from 0."""

    texts: list[int]
    label: int | None
    split: int | None
    group: int | None


def find(source: str, p: Download, partial_dir: Path) -> Origin:
    section: TableSource = getattr(p, source)
    files = located(section)
    found: list[Found] = []
    hashes = []
    for split, location in files:
        path = fetching.fetch(location, partial_dir, sha256=section.sha256)
        table = read(path, section, labels=section.labels)
        columns = places(table.columns, section, f"download.{source}", str(path))
        found += rows(table, columns, source, fetching.name_of(location), split=split)
        hashes.append(fetching.sha256_of(path))
    if section.quote is None:
        _require_no_cut_quotes(found, source)
    return Origin(location_of(section), combined(hashes), section.labels, found)


def located(section: TableSource) -> list[tuple[str | None, str]]:
    """The split, if it has one, and the path or URL of each file of a source."""
    location = section.location
    files: list[tuple[str | None, str]]
    if isinstance(location, dict):
        files = list(location.items())
    elif fetching.is_url(location) or not PATTERN & set(location) or Path(location).exists():
        files = [(None, location)]
    else:
        matches = map(Path, glob.glob(location))  # noqa: PTH207 Path.glob rejects absolute patterns
        found = sorted(path for path in matches if path.is_file())
        if not found:
            raise InputError(f"no file matches the pattern {location}; add the files, or change the location in params.yaml")
        splits = [SPLITS.get(path.name.partition(".")[0].lower()) for path in found]
        files = [(split if all(splits) else None, str(path)) for split, path in zip(splits, found, strict=True)]
    if len(files) > 1 and section.sha256 is not None:
        raise InputError("the location in params.yaml has several files, but sha256 is for a single one; set sha256 to null")
    if len(files) > 1 and any(fetching.is_url(each) for _, each in files):
        raise InputError("the location in params.yaml has several files, and one is a URL; download it and use its path")
    return files


def location_of(section: TableSource) -> str:
    """The location for messages, without passwords."""
    if isinstance(section.location, dict):
        return ", ".join(f"{split}: {each}" for split, each in section.location.items())
    return fetching.without_secrets(section.location)


def content(source: str, p: Download) -> Url | Files:
    section: TableSource = getattr(p, source)
    locations = [location for _, location in located(section)]
    if fetching.is_url(locations[0]):
        return Url(locations[0], section.sha256)
    return files([Path(each) for each in locations], ", ".join(locations), section.sha256)


def files(paths: list[Path], name: str, sha256: str | None, *, may_grow: bool = True) -> Files:
    """The content of files that the download rejects if one is missing or empty, or the first has another checksum."""
    for path in paths:
        if not path.is_file():
            fetching.require_file(path, sha256=None)

    def require(found: str) -> None:
        if sha256 not in (None, found):
            fetching.require_file(paths[0], sha256=sha256)
        for path in paths:
            fetching.require_file(path, sha256=None)

    def fingerprint() -> str:
        return combined([fetching.sha256_of(path) for path in paths])

    return Files(name, paths, lambda: paths, fingerprint, require, may_grow=may_grow)


def combined(hashes: list[str]) -> str:
    """One SHA-256 for one or several files."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def rows(table: Table, columns: Columns, source: str, file: str, *, split: str | None = None) -> Iterator[Found]:
    """One row per record; `split` applies to all of them."""
    for line, fields, flaw in table.records:
        if flaw is not None:
            yield Found(source, file, line, " ".join(fields), "", flaw=flaw)
            continue
        own = fields[columns.split].strip() if columns.split is not None else ""
        yield Found(
            source,
            file,
            line,
            text_of(fields, columns.texts),
            "" if columns.label is None else fields[columns.label],
            split=split or SPLITS.get(own.lower(), own) or None,
            group=fields[columns.group].strip() or None if columns.group is not None else None,
        )


def text_of(fields: Sequence[str], places: Sequence[int]) -> str:
    """The text of a row: the cells of its text columns, joined by line feeds."""
    return fields[places[0]] if len(places) == 1 else "\n".join(filter(None, (fields[place] for place in places)))


def read(path: Path, dialect: Dialect, *, labels: Iterable[str] = (), most: int = delimited.MOST_CHARACTERS) -> Table:
    """Every record of a file, including malformed ones, but no blank lines.

    Bytes that are invalid in the encoding become lone surrogates, so that they affect their own row only.

    Args:
        labels: known labels, to recognise rows inside an unclosed quote.
        most: maximum characters of the unpacked file.

    Raises:
        InputError: if the file is empty or not a table, or its header cannot be read.
    """
    with unpacked(path) as content:
        if content.is_parquet or structured.is_json(content.name):
            columns, found = structured.read(content, path, most)
            table = Table(list(columns), list(found))
        else:
            table = Table(*delimited.read(content.file, dialect, path, set(map(tidied, labels)), most)[:2])
    if not table.records and not table.columns:
        raise InputError(f"{path} is empty: expected {'a header and ' if dialect.header else ''}one review per row")
    check_width(table.columns, str(path))
    return table


def check_width(columns: Sequence[object], name: str) -> None:
    """Raises InputError if the table `name` has too many columns."""
    if len(columns) > MOST_COLUMNS:
        raise InputError(f"{name} has {len(columns):,} columns, expected at most {MOST_COLUMNS:,}; remove unused columns")


def places(columns: Sequence[str | int], section: TableSource, key: str, name: str, *, only_text: bool = False) -> Columns:
    """The indices of the columns in a section of params.yaml.

    Args:
        key: key of the section, such as download.csv.
        name: file name, for errors.
        only_text: whether the label may be missing, and split and group are ignored.

    Raises:
        InputError: if a column does not occur exactly once.
    """

    def place(what: str, column: Column | None) -> int | None:
        return None if column is None else _require_position(columns, column, section, f"{key}.{what}", name)

    texts = [_require_position(columns, each, section, f"{key}.text", name) for each in section.texts]
    if only_text:
        return Columns(texts, place("label", section.label) if _is_named(section.label, columns) else None, None, None)
    return Columns(texts, place("label", section.label), place("split", section.split), place("group", section.group))


def positions(columns: Sequence[str | int], wanted: Sequence[Column]) -> list[int] | None:
    """The indices of several columns, or None unless each occurs exactly once."""
    found = [place for column in wanted if (place := position(columns, column)) is not None]
    return found if len(found) == len(wanted) else None


def position(columns: Sequence[str | int], column: Column) -> int | None:
    """The index of a column, or None unless it occurs exactly once."""
    found = [place for place, each in enumerate(columns) if str(each).strip() == str(column).strip()]
    return found[0] if len(found) == 1 else None


def dialect_of(start: bytes, section: TableSource, columns: Sequence[Column]) -> Written | None:
    """The format of a table if it matches a section of params.yaml, else None.

    Args:
        start: the first bytes of the unpacked table.
        columns: required columns.
    """
    start = start[: start.rfind(b"\n") + 1] or start
    dialect = section
    with contextlib.suppress(UnicodeDecodeError):
        if not start.isascii() and start.decode("utf-8-sig"):
            dialect = section.model_copy(update={"encoding": "utf-8"})
    try:
        found, records, blank_before_quote = delimited.read(io.BytesIO(start), dialect, Path("it"), ())
    except InputError:
        return None
    if section.header:
        return Written(dialect, blank_before_quote) if positions(found, columns) else None
    label = position(found, section.label)
    first = records[0].fields if records else []
    is_one = label is not None and len(first) == len(found) and tidied(first[label]) in map(tidied, section.labels)
    return Written(dialect, blank_before_quote) if is_one and positions(found, columns) else None


def _is_named(column: Column, columns: Sequence[str | int]) -> bool:
    return str(column).strip() in map(str, columns)


def _require_position(columns: Sequence[str | int], column: Column, section: TableSource, key: str, name: str) -> int:
    if (place := position(columns, column)) is not None:
        return place
    is_duplicate = _is_named(column, columns)
    problem = "more than one column" if is_duplicate else "no column"
    names = ", ".join(excerpt(str(each)) for each in columns[:NAMED]) + (", ..." if len(columns) > NAMED else "")
    single = str(columns[0]) if len(columns) == 1 else ""
    separator = next((mark for mark in ",;\t|" if mark in single), None)
    if {tidied(label) for label in section.labels} & {str(each) for each in columns}:
        advice = "the first line looks like a review, so set header: false and use column numbers from 0"
    elif separator is not None:
        advice = f"set separator to {separator!r}, or {key} to one of its columns"
    else:
        advice = "rename one of them in the file" if is_duplicate else f"set {key} to one of its columns"
    raise InputError(f"{name} has {problem} {column!r}, which {key} in params.yaml requires; it has {names}: {advice}")


def _require_no_cut_quotes(found: list[Found], source: str) -> None:
    """Raises InputError if many texts were cut at a separator because the quote character is not configured."""
    usable = [row for row in found if row.flaw is None]
    cut = [row for row in usable if row.text.startswith('"') and row.text.count('"') % 2]
    if len(cut) > max(2, 0.05 * len(usable)):
        raise InputError(
            f"{len(cut):,} of {len(usable):,} texts start with an unclosed quote, such as {excerpt(cut[0].text)} in line "
            f"{cut[0].line}, so they are cut at a separator; set download.{source}.quote: '\"'"
        )


def source(name: str, *, published: str) -> Source:
    """A source of tables.

    Args:
        name: its section in params.yaml.
        published: part of the location of the data set with published scores, in lower case.
    """
    return Source(
        partial(find, name),
        partial(content, name),
        location=lambda p: location_of(getattr(p, name)),
        terms=terms.of_file,
        has_published=lambda p: published in str(getattr(p, name).location).lower(),
    )
