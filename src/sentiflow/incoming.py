"""Reviews that came in since a model was trained: a file or a folder of files, with labels or without.

They are written as `params.yaml: download` says for the source `csv`, or `tsv` where that is the source. Nobody has looked at
them yet, so what cannot be used is counted and told, and the rest is read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sentiflow import params
from sentiflow.corpus import delimited
from sentiflow.corpus.rows import Found, excerpt, flaw
from sentiflow.errors import InputError

MEGABYTE = 1e6
NAMED = 20  # columns in an error


@dataclass(frozen=True)
class Incoming:
    """The newest usable reviews, and what became of the rest."""

    location: str
    texts: pd.Series  # shape (n,)
    labels: pd.Series  # name of the class, or None; shape (n,)
    files: int  # that were read
    rejects: Mapping[str, int]  # rows that cannot be used, by kind of flaw
    passed_over: Mapping[str, str]  # files that cannot be read, and why
    left_out: bool  # whether there are older reviews


def read(location: Path, download: params.Download, how: params.Drift) -> Incoming | None:
    """The newest reviews, `how.maximum_reviews` at most, newest first; None where there is no file.

    A file that was changed later is newer, and so is a row further down. Files are read one at a time, none above
    `how.max_bytes`, and reading stops where there are enough, so memory is bounded whatever comes in.

    Args:
        location: a file, or a folder of which files with the source's suffix are read.
        download: how the files are written, what the labels mean, and the longest review.
        how: how many reviews and bytes.

    Raises:
        InputError: if there are files, and none of them can be read.
    """
    written = download.tsv if download.source == "tsv" else download.csv
    files = _newest_first(location, f".{'tsv' if download.source == 'tsv' else 'csv'}")
    texts: list[str] = []
    labels: list[str | None] = []
    rejects: Counter[str] = Counter()
    tables = _Tables(files, written, how.max_bytes)
    left_out = False
    for row in tables.rows():
        if len(texts) == how.maximum_reviews:
            left_out = True
            break
        label = row.label if row.label.strip() else None
        as_if = row if label else row._replace(label=next(iter(written.labels)))  # a label may be missing here
        if reason := flaw(as_if, written.labels, download.max_characters):
            rejects[reason.partition(":")[0]] += 1
        else:
            texts.append(row.text)
            labels.append(written.labels[label] if label else None)
    if not files:
        return None
    if not tables.read:
        told = "; ".join(f"{name}: {reason}" for name, reason in list(tables.passed_over.items())[:3])
        raise InputError(f"no file of {location} can be read: {told}")
    found = pd.Series(texts, dtype="str"), pd.Series(labels, dtype=object)
    return Incoming(str(location), *found, tables.read, dict(rejects.most_common()), tables.passed_over, left_out)


def _newest_first(location: Path, suffix: str) -> list[Path]:
    if not location.is_dir():
        return [location] if location.is_file() else []
    named = [file for file in location.iterdir() if file.suffix.lower() == suffix and not file.name.startswith(".")]
    return sorted(filter(Path.is_file, named), key=lambda file: (file.stat().st_mtime, file.name), reverse=True)


class _Tables:
    """Reads one file after the other, as far as anybody asks for its rows."""

    def __init__(self, files: Sequence[Path], written: params.CsvSource | params.TsvSource, max_bytes: int) -> None:
        self._files, self._written, self._max_bytes = files, written, max_bytes
        self.read = 0
        self.passed_over: dict[str, str] = {}

    def rows(self) -> Iterator[Found]:
        """Every row, the last of a file first."""
        for file in self._files:
            try:
                table = self._table(file)
            except (InputError, OSError) as error:
                self.passed_over[file.name] = str(error)
                continue
            self.read += 1
            text, label = (
                list(table.columns).index(column) if column in table.columns else None
                for column in (self._written.text, self._written.label)
            )
            for line, fields, broken in reversed(table.records):
                said, meant = ("" if place is None or broken else fields[place] for place in (text, label))
                yield Found("incoming", file.name, line, said, meant, flaw=broken)

    def _table(self, file: Path) -> delimited.Table:
        if (size := file.stat().st_size) > self._max_bytes:
            raise InputError(
                f"it has {size / MEGABYTE:,.1f} MB, and drift.max_bytes allows {self._max_bytes / MEGABYTE:,.1f}; "
                "split it, or raise the limit"
            )
        written = self._written
        is_tsv = isinstance(written, params.TsvSource)
        header = written.header if isinstance(written, params.TsvSource) else True
        table = delimited.read(file, separator=written.separator, encoding=written.encoding, quoted=not is_tsv, header=header)
        columns = list(table.columns)
        for key, column, fewest in (("text", written.text, 1), ("label", written.label, 0)):
            if not fewest <= columns.count(column) <= 1:
                there = ", ".join(excerpt(str(name)) for name in columns[:NAMED])
                problem = "more than one column" if columns.count(column) else "no column"
                named = f"download.{'tsv' if is_tsv else 'csv'}.{key}"
                raise InputError(f"it has {problem} {column!r}, expected one, as {named} in params.yaml; it has {there}")
        return table
