"""Add reviews to the project's reviews file as a new version of the data: all rows of a file, or none.

The new rows are checked as the download stage checks them. Existing lines of the file are not changed: the rows are appended in
its format to a copy, which is read back before it replaces the file.
"""

import csv
import functools
import io
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sentiflow.config.params import Download, Params, TableSource
from sentiflow.data import copies, sources
from sentiflow.data.sources import fetching, package, structured, tables, unpacking
from sentiflow.data.sources.rows import Found, by_tidied, excerpt, flaw, tidied
from sentiflow.evaluation.error_analysis import as_csv
from sentiflow.models import settings
from sentiflow.pipeline import isolated_run, objects, repro
from sentiflow.sharing.versions import recorded
from sentiflow.system import git, stage, terminal
from sentiflow.system.errors import InputError

OWN = fetching.WATCHED / "reviews.csv"  # the file that --start creates
COLUMNS = ["review", "sentiment"]
LISTING = Path(".cache/add_reviews.csv")
SHOWN = 20  # rows in a message
NEXT = [
    "Next:",
    "  sentiflow repro",
    "  git add data/external params.yaml dvc.lock metrics reports && git commit",
    "  sentiflow remote push      # the data before the commit: docs/team.md",
    "  git push",
]

Row = tuple[int, str, str]  # line, reason for the refusal, text


class Added(NamedTuple):
    """Numbers of rows: added, left out as copies, left out as unusable; and in the file now."""

    rows: int
    copies: int
    rejected: int
    total: int


@dataclass(frozen=True)
class Format:
    """Format of a file of reviews."""

    section: TableSource
    max_characters: int
    key: str  # of the section in params.yaml

    def read(self, path: Path, name: str) -> tuple[tables.Table, list[Found]]:
        """The table in a file, and its rows as the download stage reads them."""
        table = tables.read(path, self.section, labels=self.section.labels)
        where = tables.places(table.columns, self.section, self.key, name)
        return table, list(tables.rows(table, where, "csv", name))

    @functools.cached_property
    def _labels(self) -> dict[str, str | None]:
        return by_tidied(self.section.labels)

    def flaw(self, row: Found) -> str | None:
        return flaw(row, self._labels, self.max_characters)

    def label(self, row: Found) -> str:
        return self._labels[tidied(row.label)] or f"left out ({tidied(row.label)})"


def run(file: Path | None = None, commit: str | None = None, *, start: bool = False, skip_rejected: bool = False) -> None:
    """Add reviews to the project's reviews file, and print what to do next.

    Args:
        file: the new reviews, in the format of the reviews file.
        commit: instead of a file, the commit whose version of the reviews file is added.
        start: create a reviews file from the reviews of the package first.
        skip_rejected: leave out rows that cannot be used, instead of refusing all.

    Raises:
        InputError: if not exactly one of file and commit is given, or a row cannot be used; nothing was written.
    """
    if (file is None) == (commit is None):
        raise InputError("expected either a file or --commit, for example: sentiflow data add new.csv")
    with repro.at_work():
        p = settings.load()
        if file is not None:
            new, name = file, str(file)
        else:
            sha, own = git.commit(str(commit)), target(p.download)
            [new] = recorded.files(sha, [str(own)])
            name = f"{own} of {sha[: recorded.SHORT]}"
        add = start_file if start else append
        added = add(p, new, name=name, skip_rejected=skip_rejected)
        own = target(settings.load().download)
        _track(own)
    lines = [f"added {added.rows:,} reviews to {own}, which now has {added.total:,}"]
    if added.copies:
        lines.append(f"left out {added.copies:,} copies of existing reviews")
    if added.rejected:
        lines.append(f"left out {added.rejected:,} that cannot be used")
    if p.split.method != "hash":
        lines.append(
            f"split.method is {p.split.method}: with more reviews, texts can move from test to train, and then scores "
            "before and after are not comparable; with `split.method: hash` in params.yaml a text never leaves its split"
        )
    terminal.tell("\n".join([*lines, *NEXT]))


def target(p: Download) -> Path:
    """The file that reviews are added to."""
    if reason := sources.SOURCES[p.source].no_append:
        start = "start a reviews file with `sentiflow data add ... --start`, or " if p.source == "package" else ""
        raise InputError(
            f"download.source is {p.source}, {reason}; {start}set download.source: csv in params.yaml to keep a table of reviews"
        )
    section = p.table
    key = f"download.{p.source}"
    if not isinstance(section.location, str) or tables.PATTERN & set(section.location):
        raise InputError(f"{key}.location names several files; add the rows to one of them yourself")
    if fetching.is_url(section.location):
        raise InputError(f"{key}.location is a URL, expected a file under {fetching.WATCHED}: put the file there, then run again")
    path = Path(os.path.normpath(section.location))
    if not path.is_relative_to(fetching.WATCHED):
        raise InputError(
            f"{key}.location is {section.location}, expected a file under {fetching.WATCHED}, where DVC tracks its versions: "
            "move it there and set the location in params.yaml, then run again"
        )
    if section.sha256 is not None:
        raise InputError(f"{key}.sha256 in params.yaml pins the content of {path}; set it to null, then run again")
    if path.is_file():
        with unpacking.unpacked(path) as content:
            if content.is_parquet or structured.is_json(content.name) or content.name != path.name:
                raise InputError(f"reviews can only be added to a plain CSV or TSV file, which {path} is not; save it as one")
    return path


def append(p: Params, new: Path, *, name: str, skip_rejected: bool) -> Added:
    """Add the rows of a file, which messages call `name`, to the reviews file."""
    path = target(p.download)
    if not path.exists():
        tracked = path.with_name(f"{path.name}.dvc").exists()
        hint = "download it with `sentiflow remote pull`" if tracked else "put it there, or set its location in params.yaml"
        raise InputError(f"{path} does not exist; {hint}")
    layout = Format(p.download.table, p.download.max_characters, f"download.{p.download.source}")
    with stage.writing(path) as [partial]:
        shutil.copyfile(path, partial)
        partial.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)  # DVC makes links to its cache read-only
        return add_rows(partial, layout, new, name=name, skip_rejected=skip_rejected)


def start_file(p: Params, new: Path, *, name: str, skip_rejected: bool) -> Added:
    """Create a reviews file from the package, add rows to it, and make it the source in params.yaml."""
    if p.download.source != "package":
        raise InputError(
            f"--start is only for download.source: package, got {p.download.source}; leave it out to add to the existing file"
        )
    if OWN.exists():
        raise InputError(
            f"{OWN} exists already; set download.source: csv and download.csv.location: {OWN} in params.yaml to use it, "
            "or move it away, then run again"
        )
    text, label = COLUMNS
    values = tables.PLAIN.model_dump() | {
        "location": str(OWN),
        "sha256": None,
        "text": text,
        "label": label,
        "split": None,
        "group": None,
        "labels": {each: each for each in dict.fromkeys(package.LABELS.values())},
    }
    now = p.download.csv.model_dump()
    changes = {f"download.csv.{key}": value for key, value in values.items() if now[key] != value}
    section = TableSource.model_validate(values)
    params_file = Path("params.yaml")
    with stage.writing(OWN, params_file) as [partial, partial_params]:
        reviews, _, _ = sources.sort(package.find(p.download, Path(".cache/download")), p.download.max_characters)
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(_line(COLUMNS, section))
            file.writelines(_line(row, section) for row in reviews[["text", "label"]].to_numpy().tolist())
        layout = Format(section, p.download.max_characters, "download.csv")
        added = add_rows(partial, layout, new, name=name, skip_rejected=skip_rejected)
        changed = isolated_run.with_changes(params_file.read_text(encoding="utf-8"), {"download.source": "csv"} | changes)
        partial_params.write_text(changed, encoding="utf-8")
        settings.load(partial_params)
    return added


def add_rows(own: Path, layout: Format, new: Path, *, name: str, skip_rejected: bool) -> Added:
    """Append rows to a file that no other process uses yet.

    Raises:
        InputError: if a row cannot be used, or a text is in the file with another label.
    """
    fetching.require_file(new, sha256=None)
    table, rows = layout.read(new, name)
    if not rows:
        raise InputError(f"{name} has no rows; expected one review per row below the header")
    flaws = [layout.flaw(row) for row in rows]
    rejected = [(row.line, reason, row.text) for row, reason in zip(rows, flaws, strict=True) if reason is not None]
    if rejected and not skip_rejected:
        raise _refusal(
            f"{len(rejected):,} of the {len(rows):,} rows of {name} cannot be used, so none was added",
            rejected,
            "Correct them, or leave them out with --skip-rejected",
        )
    before, rows_before = layout.read(own, own.name)
    usable = [row for row, reason in zip(rows, flaws, strict=True) if reason is None]
    is_new, conflicts = _compared([row for row in rows_before if layout.flaw(row) is None], usable, layout)
    if conflicts:
        raise _refusal(
            f"{len(conflicts):,} texts of {name} have another label in the file, or twice in {name}, so none was added",
            conflicts,
            "Decide which label is right, and correct one of the files",
        )
    records = [record.fields for record, reason in zip(table.records, flaws, strict=True) if reason is None]
    records = [fields for fields, wanted in zip(records, is_new, strict=True) if wanted]
    records = _in_order_of(before.columns, table.columns, records, name)
    _append_records(own, layout.section, before.columns, records)
    after, _ = layout.read(own, own.name)
    if [record.fields for record in after.records] != [record.fields for record in before.records] + records:
        raise InputError(
            f"the rows of {name} cannot be appended to {own.name}: a quote in its last rows may be left open; "
            "correct the last lines of the file, then run again"
        )
    return Added(len(records), len(usable) - len(records), len(rejected), len(after.records))


def _compared(existing: Sequence[Found], new: Sequence[Found], layout: Format) -> tuple[list[bool], list[Row]]:
    """Whether each new row is not a copy; and the rows whose text has another label elsewhere."""
    keys = copies.identity(pd.Series([row.text for row in [*existing, *new]], dtype="str")).tolist()
    known: dict[str, set[str]] = {}  # labels by text
    for row, key in zip(existing, keys, strict=False):
        known.setdefault(key, set()).add(layout.label(row))
    is_new: list[bool] = []
    conflicts: list[Row] = []
    for row, key in zip(new, keys[len(existing) :], strict=True):
        label = layout.label(row)
        is_new.append(key not in known)
        others = known.setdefault(key, {label}) - {label}
        if label not in known[key]:
            conflicts.append((row.line, f"labelled {label} here, {' and '.join(sorted(others))} elsewhere", row.text))
    return is_new, conflicts


def _refusal(problem: str, rows: Sequence[Row], hint: str) -> InputError:
    """Error with the first rows; a longer list is also written to a file."""
    lines = [f"  line {line}: {reason}: {excerpt(text)}" for line, reason, text in rows[:SHOWN]]
    if len(rows) > SHOWN:
        listed = pd.DataFrame([(line, reason, excerpt(text)) for line, reason, text in rows], columns=["line", "reason", "text"])
        with stage.writing(LISTING) as [partial]:
            partial.write_text(as_csv(listed), encoding="utf-8", newline="")
        lines.append(f"  and {len(rows) - SHOWN:,} more: {LISTING} lists all")
    return InputError("\n".join([f"{problem}:", *lines, f"{hint}, then run again"]))


def _in_order_of(own: Sequence[str | int], new: Sequence[str | int], records: list[list[str]], name: str) -> list[list[str]]:
    """Fields in the order of the reviews file's columns, empty for a column that the new file lacks."""
    if list(own) == list(new):
        return records
    known = set(own)
    if unknown := [column for column in new if column not in known]:
        shown, expected = (", ".join(excerpt(str(each)) for each in columns[:SHOWN]) for columns in (unknown, own))
        raise InputError(
            f"{name} has columns that are missing from the reviews file: {shown}; "
            f"expected some of {expected}; remove the others, then run again"
        )
    place_in_new = {column: place for place, column in enumerate(new)}
    places = [place_in_new.get(column) for column in own]
    return [["" if place is None else fields[place] for place in places] for fields in records]


def _append_records(own: Path, section: TableSource, columns: Sequence[str | int], records: list[list[str]]) -> None:
    with own.open(encoding=section.encoding, errors="surrogateescape", newline="") as file:
        first = file.readline()
        is_complete = (first + file.read()).endswith(("\n", "\r")) or not first
    end = first[len(first.rstrip("\r\n")) :] or "\n"
    all_quoted = first.rstrip("\r\n").removeprefix("\ufeff") == _line(columns, section, "", all_quoted=True)
    # in mode "a" Python writes no second byte order mark
    with own.open("a", encoding=section.encoding, newline="") as file:
        file.write("" if is_complete else end)
        file.writelines(_line(record, section, end, all_quoted=all_quoted) for record in records)
        file.flush()
        os.fsync(file.fileno())


def _line(fields: Sequence[str | int], section: TableSource, end: str = "\n", *, all_quoted: bool = False) -> str:
    if section.quote is None:  # read without quotes, so no field contains a separator or a line end
        return section.separator.join(map(str, fields)) + end
    if section.escape is not None:
        fields = [str(field).replace(section.escape, 2 * section.escape) for field in fields]
    written = io.StringIO()
    # the writer quotes fields with a character of its line terminator; a reader needs quotes for both \r and \n
    writer = functools.partial(csv.writer, written, delimiter=section.separator, quotechar=section.quote, lineterminator="\r\n")
    (writer(quoting=csv.QUOTE_ALL) if all_quoted else writer()).writerow(fields)
    return written.getvalue().removesuffix("\r\n") + end


def _track(path: Path) -> None:
    """Have DVC store this version of a file and write its hash to a `.dvc` file."""
    try:
        with objects.dvc_errors_told(), objects.repository() as repo:
            repo.add(str(path))
    except InputError as error:
        raise InputError(
            f"the rows are in {path}, but DVC does not track it: {error}; correct that, then: dvc add '{path}'"
        ) from None
