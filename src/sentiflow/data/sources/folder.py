"""Reviews in one text file each, in a folder per class: CLASS/*, or train/CLASS/*, valid/CLASS/* and test/CLASS/*."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from sentiflow.config.params import Download
from sentiflow.data.sources import fetching, folders, terms
from sentiflow.data.sources.rows import SPLITS, Found, Origin
from sentiflow.data.sources.source import Files, Source
from sentiflow.system.errors import InputError


def find(p: Download, partial_dir: Path) -> Origin:
    """Rows in the order of their paths; a folder that the labels do not name gives rejects."""
    location = Path(p.folder.location)
    fetching.warn_if_not_watched(location)
    contents = list(_contents(p))
    return Origin(str(location), folders.sha256_of(contents), p.folder.labels, _found(contents, p))


def files_of(p: Download) -> list[Path]:
    """The files that are read, in their order; hidden ones are none.

    Raises:
        InputError: if there are none.
    """
    location = Path(p.folder.location)
    paths = [path for pattern in ("*/*", "*/*/*") for path in location.glob(pattern) if not path.is_dir()]
    places = {path: path.relative_to(location) for path in paths}
    found = [
        path for path in paths if not places[path].name.startswith(".") and (len(places[path].parts) == 2 or _split(places[path]))
    ]
    if not found:
        raise InputError(
            f"{location} holds no review; expected files such as {location}/positive/1.txt or {location}/train/positive/1.txt"
        )
    return sorted(found)


def sha256_of_folder(p: Download) -> str:
    """The SHA-256 that `find` gives; one file at a time is in memory."""
    return folders.sha256_of(_contents(p))


def _contents(p: Download) -> Iterator[tuple[str, bytes]]:
    limit = 4 * p.max_characters + 1  # a character has 4 bytes at most: what is cut here is still too long
    return folders.contents(Path(p.folder.location), files_of(p), max_bytes=p.folder.max_bytes, max_member=limit, key="folder")


def _split(place: Path) -> str | None:
    return SPLITS.get(place.parts[0].lower()) if len(place.parts) == 3 else None


def _found(contents: list[tuple[str, bytes]], p: Download) -> Iterator[Found]:
    try:
        decode = codecs.getdecoder(p.folder.encoding)
    except LookupError:
        raise InputError(f"no text encoding {p.folder.encoding!r}; use one that Python knows, such as utf-8 or cp1252") from None
    for name, content in contents:
        text, _ = decode(content, "surrogateescape")
        yield Found("folder", name, 1, text, Path(name).parent.name, _split(Path(name)))


def content(p: Download) -> Files:
    return folders.files(p.folder.location, lambda: files_of(p), lambda: sha256_of_folder(p))


SOURCE = Source(
    find,
    content,
    location=lambda p: str(Path(p.folder.location)),
    terms=terms.of_a_file,
    has_published=lambda p: False,
    no_append="with one file per review; put new files into that folder yourself",
)
