"""What the rest of the project knows of a source: one value of `sources.SOURCES`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentiflow.config.params import Download
from sentiflow.data.sources.rows import Origin


@dataclass(frozen=True)
class Url:
    """Content behind a URL. `sha256` is what params.yaml asks for, or None."""

    url: str
    sha256: str | None


@dataclass(frozen=True)
class Files:
    """Content in files: one or several, or all that are found in a folder."""

    shown: str  # for people
    top: list[Path]  # the files, or the folder
    find: Callable[[], list[Path]]  # the files that are read
    fingerprint: Callable[[], str]  # SHA-256 that changes with the content of one of them
    require: Callable[[str], None]  # raises InputError if the download would refuse content with this fingerprint
    what: str = "its SHA-256"
    may_grow: bool = True  # False where nobody writes to it piece by piece


@dataclass(frozen=True)
class Source:
    """One kind of source.

    find: opens it; the folder keeps what is fetched.
    content: where to look for a change.
    location: what the data card calls the place that params.yaml names; None where it names none.
    terms: of use of one kind of row (`Found.source`) from a location.
    has_published: whether there are published figures of its reviews.
    no_append: why rows cannot be appended, and what to do; None where they can.
    """

    find: Callable[[Download, Path], Origin]
    content: Callable[[Download], Url | Files]
    location: Callable[[Download], str | None]
    terms: Callable[[str, str], str]
    has_published: Callable[[Download], bool]
    no_append: str | None = None
