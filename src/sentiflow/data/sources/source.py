"""Interface of a source. `download.source: NAME` in params.yaml uses SOURCE of the module NAME in this package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentiflow.config.params import Download
from sentiflow.data.sources.rows import Origin


@dataclass(frozen=True)
class Url:
    url: str
    sha256: str | None  # expected by params.yaml


@dataclass(frozen=True)
class Files:
    name: str  # for messages
    roots: list[Path]  # the files, or the folder
    find: Callable[[], list[Path]]  # the files that are read
    fingerprint: Callable[[], str]  # SHA-256 over the content of all files
    require: Callable[[str], None]  # raises InputError if the download would reject content with this fingerprint
    what: str = "its SHA-256"
    may_grow: bool = True  # whether a file may still be being written


@dataclass(frozen=True)
class Source:
    """One kind of source.

    find: opens the source; the folder caches downloads.
    content: the files or the URL to watch for changes.
    location: the location in params.yaml, as in the data card; None if the source has no such setting.
    terms: terms of use, by kind of row (`Found.source`) and location.
    has_published: whether published scores exist for these reviews.
    no_append: why rows cannot be appended, and what to do instead; None if they can.
    """

    find: Callable[[Download, Path], Origin]
    content: Callable[[Download], Url | Files]
    location: Callable[[Download], str | None]
    terms: Callable[[str, str], str]
    has_published: Callable[[Download], bool]
    no_append: str | None = None
