"""Reviews that arrived since a model was trained: a file or a folder of files, with or without labels.

Their format is that of `download.csv` in params.yaml, or of `download.tsv` if that is the source. Nobody has checked them yet, so
invalid rows are counted and skipped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sentiflow.config import params
from sentiflow.data.sources import tables
from sentiflow.data.sources.rows import Found, by_tidied, flaw, tidied
from sentiflow.system.errors import InputError


@dataclass(frozen=True)
class Incoming:
    """The newest valid reviews, and a summary of the rest."""

    location: str
    texts: pd.Series  # shape (n,)
    labels: pd.Series  # class, or None; shape (n,)
    files: int  # files read
    rejects: Mapping[str, int]  # invalid rows by kind of flaw
    passed_over: Mapping[str, str]  # unreadable files and the reasons
    left_out: bool  # whether there are older reviews


def read(location: Path, download: params.Download, limits: params.Drift) -> Incoming | None:
    """The newest `limits.maximum_reviews` reviews, newest first; None without files.

    A file that was modified later is newer, and so is a row further down. To limit memory, files are read one at a time until
    there are enough reviews, and files above `limits.max_bytes` are skipped.

    Args:
        location: a file, or a folder whose files with the suffix of the source are read.
        download: format of the files, labels mapping and maximum length of a review.

    Raises:
        InputError: if there are files, but none can be read.
    """
    kind = "tsv" if download.source == "tsv" else "csv"
    section = download.table
    classes = by_tidied(section.labels)
    files = _newest_first(location, kind)
    if not files:
        return None
    texts: list[str] = []
    labels: list[str | None] = []
    rejects: Counter[str] = Counter()
    passed_over: dict[str, str] = {}
    opened = 0

    def rows() -> Iterator[Found]:
        nonlocal opened
        for file in files:
            try:
                found = _rows(file, section, f"download.{kind}", limits.max_bytes)
            except (InputError, OSError) as error:
                passed_over[file.name] = str(error)
                continue
            opened += 1
            yield from reversed(found)

    left_out = False
    for row in rows():
        if len(texts) == limits.maximum_reviews:
            left_out = True
            break
        label = tidied(row.label) or None
        labelled = row if label else row._replace(label=next(iter(classes)))  # labels are optional
        if reason := flaw(labelled, classes, download.max_characters):
            rejects[reason.partition(":")[0]] += 1
        elif label is None or classes[label] is not None:
            texts.append(row.text)
            labels.append(classes[label] if label else None)
    if not opened:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(passed_over.items())[:3])
        raise InputError(f"no file of {location} can be read: {reasons}")
    columns = pd.Series(texts, dtype="str"), pd.Series(labels, dtype=object)
    return Incoming(str(location), *columns, opened, dict(rejects.most_common()), passed_over, left_out)


def _newest_first(location: Path, suffix: str) -> list[Path]:
    if not location.is_dir():
        return [location] if location.is_file() else []
    suffixes = {suffix, *tables.SUFFIXES}
    found = [
        file for file in location.iterdir() if not file.name.startswith(".") and suffixes & set(file.name.lower().split(".")[1:])
    ]
    return sorted(filter(Path.is_file, found), key=lambda file: (file.stat().st_mtime, file.name), reverse=True)


def _rows(file: Path, section: params.TableSource, key: str, max_bytes: int) -> list[Found]:
    if (size := file.stat().st_size) > max_bytes:
        raise InputError(
            f"it has {size / 1e6:,.1f} MB, but drift.max_bytes allows {max_bytes / 1e6:,.1f}; split it, or raise the limit"
        )
    table = tables.read(file, section, labels=section.labels, most=max_bytes)
    columns = tables.places(table.columns, section, key, "it", only_text=True)
    return list(tables.rows(table, columns, "incoming", file.name))
