"""One text file per review, one folder per class: CLASS/*, or train/CLASS/*, valid/CLASS/* and test/CLASS/*."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from sentiflow.config.params import Download
from sentiflow.data.sources import fetching, folders, terms
from sentiflow.data.sources.rows import SPLITS, Found, Origin
from sentiflow.data.sources.source import Source
from sentiflow.system.errors import InputError


def find(p: Download, partial_dir: Path) -> Origin:
    """Rows in the order of their paths."""
    location = Path(p.folder.location)
    fetching.warn_if_not_watched(location)
    contents = list(_contents(p))
    return Origin(str(location), folders.sha256_of(contents), p.folder.labels, _found(contents, p.folder.encoding))


def _files(p: Download) -> list[Path]:
    location = Path(p.folder.location)
    paths = [path for pattern in ("*/*", "*/*/*") for path in location.glob(pattern) if not path.is_dir()]
    found = [path for path in paths if not path.name.startswith(".") and _is_review(path.relative_to(location))]
    if not found:
        raise InputError(
            f"{location} contains no reviews; expected files such as {location}/positive/1.txt or {location}/train/positive/1.txt"
        )
    return sorted(found)


def _is_review(path: Path) -> bool:
    return len(path.parts) == 2 or _split(path) is not None


def _split(path: Path) -> str | None:
    return SPLITS.get(path.parts[0].lower()) if len(path.parts) == 3 else None


def _contents(p: Download) -> Iterator[tuple[str, bytes]]:
    limit = 4 * p.max_characters + 1  # UTF-8 has at most 4 bytes per character: a truncated text is still rejected as too long
    return folders.contents(Path(p.folder.location), _files(p), max_bytes=p.folder.max_bytes, max_member=limit, key="folder")


def _found(contents: list[tuple[str, bytes]], encoding: str) -> Iterator[Found]:
    try:
        decode = codecs.getdecoder(encoding)
    except LookupError:
        raise InputError(f"unknown text encoding {encoding!r}; use one that Python supports, such as utf-8 or cp1252") from None
    for name, content in contents:
        text, _ = decode(content, "surrogateescape")
        yield Found("folder", name, 1, text, Path(name).parent.name, _split(Path(name)))


SOURCE = Source(
    find,
    content=lambda p: folders.files(p.folder.location, lambda: _files(p), lambda: _contents(p)),
    location=lambda p: str(Path(p.folder.location)),
    terms=terms.of_file,
    has_published=lambda p: False,
    no_append="a folder with one file per review; put new files into that folder yourself",
)
