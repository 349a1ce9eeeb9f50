"""Adds reviews to the project's own file of them, so that there is a new version of it: all rows, or none.

What stands in the file is not touched: rows are written behind it, as the file writes its own, into a copy that is read again
before it takes the file's place.
"""

import csv
import functools
import io
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sentiflow.config.params import Download, Params, TableSource
from sentiflow.data import copies, sources
from sentiflow.data.sources import fetching, package, structured, tables, unpacking
from sentiflow.data.sources.rows import Found, by_tidied, excerpt, flaw, tidied
from sentiflow.evaluation.error_analysis import as_csv
from sentiflow.models import settings
from sentiflow.pipeline import isolated_run, site
from sentiflow.system import stage
from sentiflow.system.errors import InputError

OWN = fetching.WATCHED / "reviews.csv"  # where an own file is started
COLUMNS = ["review", "sentiment"]
PARTIAL_DIR = Path(".cache/download")
LISTING = Path(".cache/add_reviews.csv")
SHOWN = 20  # rows in a message
HINT = "`sentiflow data add ... --start` starts a file of your own from the package's reviews"


@dataclass(frozen=True)
class Added:
    """What became of the rows: added, already there, or left out as they cannot be used; and how many the file has now."""

    rows: int
    copies: int
    rejected: int
    total: int


@dataclass(frozen=True)
class Format:
    """How a file of reviews is written."""

    section: TableSource
    max_characters: int
    key: str  # of the section in params.yaml

    def read(self, path: Path) -> tables.Table:
        return tables.read(path, self.section, labels=self.section.labels)

    def found(self, table: tables.Table, name: str) -> list[Found]:
        """The rows of a table as the download would take them."""
        where = tables.places(table.columns, self.section, self.key, name)
        return list(tables.rows(table, where, "csv", name))

    @property
    def labels(self) -> dict[str, str | None]:
        """The class by the tidied label."""
        return by_tidied(self.section.labels)

    def flaw(self, row: Found) -> str | None:
        return flaw(row, self.labels, self.max_characters)


def target(p: Download) -> Path:
    """The file that reviews are added to."""
    if reason := sources.SOURCES[p.source].no_append:
        hint = f"{HINT}; or" if p.source == "package" else "or"
        raise InputError(
            f"download.source is {p.source}, {reason}; {hint} set download.source: csv in params.yaml to keep a table of reviews"
        )
    section = p.table
    key = f"download.{p.source}"
    if not isinstance(section.location, str) or tables.PATTERN & set(section.location):
        raise InputError(f"{key}.location names several files; add the rows to one of them yourself")
    if fetching.is_url(section.location):
        raise InputError(f"{key}.location is a URL; expected a file under {fetching.WATCHED}: put the file there, then run again")
    path = Path(os.path.normpath(section.location))
    if not path.is_relative_to(fetching.WATCHED):
        raise InputError(
            f"{key}.location is {section.location}; expected a file under {fetching.WATCHED}, where DVC keeps its versions: "
            "move it there and set the location in params.yaml, then run again"
        )
    if section.sha256 is not None:
        raise InputError(f"{key}.sha256 in params.yaml admits one content of {path} only; set it to null, then run again")
    if path.is_file():
        with unpacking.unpacked(path) as content:
            if content.is_parquet or structured.is_json(content.name) or content.name != path.name:
                raise InputError(f"reviews can be added to a plain CSV or TSV file, and {path} is none; save it as one")
    return path


def append(p: Params, new: Path, *, name: str, skip_rejected: bool) -> Added:
    """Adds the rows of a file to the project's file of reviews, and has DVC track what came of it.

    Args:
        new: written as the project's file is: separator, encoding and names of columns.
        name: of the new file in messages.
        skip_rejected: leaves out rows that cannot be used, instead of refusing all.

    Raises:
        InputError: if a row cannot be used, or a text is there with another label; nothing was written.
    """
    path = target(p.download)
    if not path.exists():
        tracked = path.with_name(f"{path.name}.dvc").exists()
        advice = "`sentiflow remote pull` downloads it" if tracked else "put it there, or set its location in params.yaml"
        raise InputError(f"no file {path} to add to; {advice}")
    how = Format(p.download.table, p.download.max_characters, f"download.{p.download.source}")
    with stage.writing(path) as [partial]:
        shutil.copyfile(path, partial)
        partial.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)  # DVC protects what it links to its cache
        added = add_rows(partial, how, new, name=name, skip_rejected=skip_rejected)
    _track(path)
    return added


def start(p: Params, new: Path, *, name: str, skip_rejected: bool, params_file: Path = Path("params.yaml")) -> Added:
    """Starts a file of one's own with the package's reviews, adds rows to it, and makes it the source in params.yaml."""
    if p.download.source != "package":
        raise InputError(
            f"received START, but download.source is {p.download.source}; leave START away, which adds to the file it names"
        )
    if OWN.exists():
        raise InputError(
            f"{OWN} is there already; set download.source: csv and download.csv.location: {OWN} in params.yaml to go on with it, "
            "or move it away, then run again"
        )
    classes = dict.fromkeys(package.LABELS.values())
    labels = {each: each for each in classes}
    text, label = COLUMNS
    values = {
        "location": str(OWN),
        "sha256": None,
        **tables.PLAIN.model_dump(),
        "text": text,
        "label": label,
        "split": None,
        "group": None,
        "labels": labels,
    }
    now = p.download.csv.model_dump()
    changes = {f"download.csv.{key}": value for key, value in values.items() if now[key] != value}
    section = TableSource.model_validate(values)
    with stage.writing(OWN, params_file) as [partial, partial_params]:
        reviews, _, _ = sources.sort(package.find(p.download, PARTIAL_DIR), p.download.max_characters)
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(_line(COLUMNS, section))
            file.writelines(_line(row, section) for row in reviews[["text", "label"]].to_numpy().tolist())
        how = Format(section, p.download.max_characters, "download.csv")
        added = add_rows(partial, how, new, name=name, skip_rejected=skip_rejected)
        changed = isolated_run.with_changes(params_file.read_text(encoding="utf-8"), {"download.source": "csv"} | changes)
        partial_params.write_text(changed, encoding="utf-8")
        settings.load(partial_params)
    _track(OWN)
    return added


def add_rows(own: Path, how: Format, new: Path, *, name: str, skip_rejected: bool) -> Added:
    """Adds to a file that nobody else knows of yet."""
    fetching.require_file(new, sha256=None)
    table, more = how.read(own), how.read(new)
    rows = how.found(more, name)
    if not rows:
        raise InputError(f"{name} holds no rows; expected one a review below the header")
    rejected = [(row.line, reason, row.text) for row in rows if (reason := how.flaw(row)) is not None]
    if rejected and not skip_rejected:
        raise _refusal(
            f"{len(rejected):,} of the {len(rows):,} rows of {name} cannot be used, so none was added",
            rejected,
            "Correct them, or leave them out with --skip-rejected",
        )
    usable = [(row, record.fields) for row, record in zip(rows, more.records, strict=True) if how.flaw(row) is None]
    there = [row for row in how.found(table, own.name) if how.flaw(row) is None]
    wanted, conflicts = _sorted_out(there, [row for row, _ in usable], how.labels)
    if conflicts:
        raise _refusal(
            f"{len(conflicts):,} texts of {name} have another label in the file, or twice in {name}, so none was added",
            conflicts,
            "Decide which label is right, and correct it in the one file or the other",
        )
    fields = _in_order_of(
        table.columns, more.columns, [each for (_, each), wants in zip(usable, wanted, strict=True) if wants], name
    )
    _write_behind(own, how.section, table.columns, fields)
    _require_whole(how.read(own), table, fields, own, name)
    return Added(len(fields), len(usable) - len(fields), len(rejected), len(table.records) + len(fields))


def _sorted_out(
    there: Sequence[Found], new: Sequence[Found], labels: Mapping[str, str | None]
) -> tuple[list[bool], list[tuple[int, str, str]]]:
    """Whether each new row is wanted, which a copy is not; and line, reason and text of those with another label."""
    keys = copies.identity(pd.Series([row.text for row in [*there, *new]], dtype="str")).tolist()
    known: dict[str, set[str]] = {}
    for row, key in zip(there, keys, strict=False):
        known.setdefault(key, set()).add(_class(row, labels))
    wanted: list[bool] = []
    conflicts: list[tuple[int, str, str]] = []
    for row, key in zip(new, keys[len(there) :], strict=True):
        label = _class(row, labels)
        wanted.append(key not in known)
        others = known.setdefault(key, {label}) - {label}
        if label not in known[key]:
            conflicts.append((row.line, f"labelled {label} here, {' and '.join(sorted(others))} elsewhere", row.text))
    return wanted, conflicts


def _refusal(what: str, rows: Sequence[tuple[int, str, str]], advice: str) -> InputError:
    """Names the first rows, and lists all in a file where there are more."""
    lines = [f"  line {line}: {reason}: {excerpt(text)}" for line, reason, text in rows[:SHOWN]]
    if len(rows) > SHOWN:
        listed = pd.DataFrame([(line, reason, excerpt(text)) for line, reason, text in rows], columns=["line", "reason", "text"])
        with stage.writing(LISTING) as [partial]:
            partial.write_text(as_csv(listed), encoding="utf-8", newline="")
        lines.append(f"  and {len(rows) - SHOWN:,} more: {LISTING} lists all")
    return InputError("\n".join([f"{what}:", *lines, f"{advice}, then run again"]))


def _class(row: Found, labels: Mapping[str, str | None]) -> str:
    return labels[tidied(row.label)] or f"left out ({tidied(row.label)})"


def _in_order_of(own: Sequence[str | int], new: Sequence[str | int], records: list[list[str]], name: str) -> list[list[str]]:
    """The fields of each record under the columns of the file; a column that the new file does not have stays empty."""
    if list(own) == list(new):
        return records
    known = set(own)
    if unknown := [column for column in new if column not in known]:
        raise InputError(
            f"{name} has columns that the file of reviews has not: {', '.join(excerpt(str(each)) for each in unknown[:SHOWN])}; "
            f"expected some of {', '.join(excerpt(str(each)) for each in own[:SHOWN])}; leave the others out, then run again"
        )
    place_in_new = {column: place for place, column in enumerate(new)}
    places = [place_in_new.get(column) for column in own]
    return [["" if place is None else fields[place] for place in places] for fields in records]


def _write_behind(own: Path, section: TableSource, columns: Sequence[str | int], records: list[list[str]]) -> None:
    with own.open(encoding=section.encoding, errors="surrogateescape", newline="") as file:
        first = file.readline()
        whole = (first + file.read()).endswith(("\n", "\r")) or not first
    end = first[len(first.rstrip("\r\n")) :] or "\n"
    all_quoted = first.rstrip("\r\n").removeprefix("\ufeff") == _line(columns, section, "", all_quoted=True)
    # Python writes no second byte order mark where it opens a file to go on with it
    with own.open("a", encoding=section.encoding, newline="") as file:
        file.write("" if whole else end)
        file.writelines(_line(record, section, end, all_quoted=all_quoted) for record in records)
        file.flush()
        os.fsync(file.fileno())


def _line(fields: Sequence[str | int], section: TableSource, end: str = "\n", *, all_quoted: bool = False) -> str:
    if section.quote is None:  # it was read without quotes, so no field holds a separator or a line's end
        return section.separator.join(map(str, fields)) + end
    if section.escape is not None:
        fields = [str(field).replace(section.escape, 2 * section.escape) for field in fields]
    written = io.StringIO()
    # the writer puts quotes where a field holds a character of the line's end, and a reader wants them around either of the two
    writer = functools.partial(csv.writer, written, delimiter=section.separator, quotechar=section.quote, lineterminator="\r\n")
    (writer(quoting=csv.QUOTE_ALL) if all_quoted else writer()).writerow(fields)
    return written.getvalue().removesuffix("\r\n") + end


def _require_whole(written: tables.Table, before: tables.Table, added: list[list[str]], own: Path, name: str) -> None:
    """Raises InputError unless the file now reads as it did, and then as the new rows."""
    expected = [record.fields for record in before.records] + added
    if [record.fields for record in written.records] != expected:
        raise InputError(
            f"{own.name} would not read as its rows and those of {name}: a quote in its last rows may be left open; "
            "correct the last lines of the file, then run again"
        )


def _track(path: Path) -> None:
    """Has DVC keep this version of a file, and note it in a `.dvc` file for git."""
    added = [sys.executable, "-P", "-m", "dvc", "add", "--quiet", str(path)]
    ended = subprocess.run(added, capture_output=True, text=True, check=False, env=os.environ | site.environment())
    if ended.returncode:
        raise InputError(
            f"the rows are in {path}, but DVC does not track it: {ended.stderr.strip()}; "
            f"put that right, then run: dvc add '{path}'"
        )
