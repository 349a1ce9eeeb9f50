"""Reviews that came in since a model was trained: a file or a folder of files, with labels or without.

They are written as `params.yaml: download` says for the source `csv`, or `tsv` where that is the source. Nobody has looked at
them yet, so what cannot be used is counted and told, and the rest is read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sentiflow.config import params
from sentiflow.data.sources import tables
from sentiflow.data.sources.rows import Found, by_tidied, flaw, tidied
from sentiflow.system.errors import InputError

MEGABYTE = 1e6


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
    written = download.table
    meant = by_tidied(written.labels)
    files = _newest_first(location, "tsv" if download.source == "tsv" else "csv")
    texts: list[str] = []
    labels: list[str | None] = []
    rejects: Counter[str] = Counter()
    found = _Tables(files, written, f"download.{'tsv' if download.source == 'tsv' else 'csv'}", how.max_bytes)
    left_out = False
    for row in found.rows():
        if len(texts) == how.maximum_reviews:
            left_out = True
            break
        label = tidied(row.label) or None
        as_if = row if label else row._replace(label=next(iter(meant)))  # a label may be missing here
        if reason := flaw(as_if, meant, download.max_characters):
            rejects[reason.partition(":")[0]] += 1
        elif label is None or meant[label] is not None:
            texts.append(row.text)
            labels.append(meant[label] if label else None)
    if not files:
        return None
    if not found.read:
        told = "; ".join(f"{name}: {reason}" for name, reason in list(found.passed_over.items())[:3])
        raise InputError(f"no file of {location} can be read: {told}")
    columns = pd.Series(texts, dtype="str"), pd.Series(labels, dtype=object)
    return Incoming(str(location), *columns, found.read, dict(rejects.most_common()), found.passed_over, left_out)


def _newest_first(location: Path, suffix: str) -> list[Path]:
    if not location.is_dir():
        return [location] if location.is_file() else []
    read = {suffix, *tables.SUFFIXES}
    named = [
        file for file in location.iterdir() if not file.name.startswith(".") and read & set(file.name.lower().split(".")[1:])
    ]
    return sorted(filter(Path.is_file, named), key=lambda file: (file.stat().st_mtime, file.name), reverse=True)


class _Tables:
    """Reads one file after the other, as far as anybody asks for its rows."""

    def __init__(self, files: Sequence[Path], written: params.TableSource, key: str, max_bytes: int) -> None:
        self._files, self._written, self._key, self._max_bytes = files, written, key, max_bytes
        self.read = 0
        self.passed_over: dict[str, str] = {}

    def rows(self) -> Iterator[Found]:
        """Every row, the last of a file first."""
        for file in self._files:
            try:
                read = self._rows(file)
            except (InputError, OSError) as error:
                self.passed_over[file.name] = str(error)
                continue
            self.read += 1
            yield from reversed(read)

    def _rows(self, file: Path) -> list[Found]:
        if (size := file.stat().st_size) > self._max_bytes:
            raise InputError(
                f"it has {size / MEGABYTE:,.1f} MB, and drift.max_bytes allows {self._max_bytes / MEGABYTE:,.1f}; "
                "split it, or raise the limit"
            )
        table = tables.read(file, self._written, labels=self._written.labels, most=self._max_bytes)
        where = tables.places(table.columns, self._written, self._key, "it", only_text=True)
        return list(tables.rows(table, where, "incoming", file.name))
