"""The Large Movie Review Dataset as its authors publish it: an archive, or its unpacked folder.

aclImdb/{train,test}/{pos,neg}/ID_RATING.txt holds a review each, aclImdb/{train,test}/urls_{pos,neg}.txt on line ID (from
0) the page of its film. The unlabelled half, unsup, is left out.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from sentiflow.config.params import Download
from sentiflow.data.sources import archives, fetching, folders, tables
from sentiflow.data.sources.rows import Found, Origin
from sentiflow.data.sources.source import Files, Source, Url
from sentiflow.data.sources.terms import MAAS
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

LABELS = {"neg": "negative", "pos": "positive"}
TOP = re.compile(r"(\./)?(aclImdb/)?")
FILE = re.compile(r"(?P<split>train|test)/(?P<label>pos|neg)/(?P<name>[^./][^/]*)")  # hidden files are no reviews
NAME = re.compile(r"(?P<number>[0-9]{1,9})_(?P<rating>10|[1-9])\.txt")
URLS = re.compile(r"(?P<split>train|test)/urls_(?P<label>pos|neg)\.txt")
FILM = re.compile(rb"/title/(tt[0-9]+)")
URLS_BYTES = 16_000_000  # read of a list of URLs at most; the real ones have 0.6 MB


def find(p: Download, partial_dir: Path) -> Origin:
    """Rows in the order of split, label and number, the same from the archive and from its folder."""
    location, max_bytes = p.aclimdb.location, p.aclimdb.max_bytes
    max_member = _max_member(p)
    if not fetching.is_url(location) and Path(location).is_dir():
        if p.aclimdb.sha256 is not None:
            log.info("%s is a folder: download.aclimdb.sha256 is that of the archive and is not checked", location)
        fetching.warn_if_not_watched(Path(location))
        contents = list(_in_folder(p))
        sha256 = folders.sha256_of(contents)
    else:
        path = fetching.bring(location, partial_dir, sha256=p.aclimdb.sha256)
        members = archives.members(path, wanted=_is_wanted, max_bytes=max_bytes, max_member=max_member)
        contents = sorted((_inside(name), content) for name, content in members)
        sha256 = fetching.sha256_of(path)
    found = list(_found(contents))
    if not found:
        raise no_review(location)
    return Origin(fetching.without_secrets(location), sha256, LABELS, found)


def no_review(location: str) -> InputError:
    return InputError(f"{location} holds no review; expected files such as aclImdb/train/pos/0_9.txt")


def files_of(folder: Path) -> list[Path]:
    """The files of an unpacked folder that are read, in their order."""
    top = _top(folder)
    names = [path.relative_to(top).as_posix() for pattern in ("*/*.txt", "*/*/*") for path in top.glob(pattern)]
    return [top / name for name in sorted(filter(_is_wanted, names))]


def sha256_of_folder(p: Download) -> str:
    """The SHA-256 that `find` gives for an unpacked folder; a file at a time is in memory."""
    return folders.sha256_of(_in_folder(p))


def _top(folder: Path) -> Path:
    return folder / "aclImdb" if (folder / "aclImdb").is_dir() else folder


def _max_member(p: Download) -> int:
    return max(4 * p.max_characters + 1, URLS_BYTES)  # a character has 4 bytes at most: what is cut here is still too long


def _inside(name: str) -> str:
    return TOP.sub("", name, count=1)


def _is_wanted(name: str) -> bool:
    return bool(FILE.fullmatch(_inside(name)) or URLS.fullmatch(_inside(name)))


def _in_folder(p: Download) -> Iterator[tuple[str, bytes]]:
    folder = Path(p.aclimdb.location)
    return folders.contents(
        _top(folder), files_of(folder), max_bytes=p.aclimdb.max_bytes, max_member=_max_member(p), key="aclimdb"
    )


def _found(contents: list[tuple[str, bytes]]) -> Iterator[Found]:
    films = {(m["split"], m["label"]): content.splitlines() for name, content in contents if (m := URLS.fullmatch(name))}
    rows = {}
    for name, content in contents:
        if not (place := FILE.fullmatch(name)):
            continue
        split, label, text = place["split"], place["label"], content.decode("utf-8", "surrogateescape")
        row = Found("aclimdb", name, 1, text, label, split)
        if not (parts := NAME.fullmatch(place["name"])):
            yield row._replace(flaw="file name is not ID_RATING.txt with a rating from 1 to 10")
            continue
        number, rating = int(parts["number"]), int(parts["rating"])
        if (split, label, number, rating) in rows:
            yield row._replace(flaw="same file name twice")
            continue
        rows[split, label, number, rating] = row._replace(rating=rating, film=_film(films.get((split, label), []), number))
    for key in sorted(rows):
        yield rows[key]


def _film(urls: list[bytes], number: int) -> str | None:
    found = FILM.search(urls[number]) if number < len(urls) else None
    return found[1].decode() if found else None


def content(p: Download) -> Url | Files:
    location, sha256 = p.aclimdb.location, p.aclimdb.sha256
    if fetching.is_url(location):
        return Url(location, sha256)
    if Path(location).is_dir():
        return folders.files(location, lambda: _some_files(location), lambda: sha256_of_folder(p))
    return tables.files([Path(location)], location, sha256)


def _some_files(location: str) -> list[Path]:
    if not (paths := files_of(Path(location))):
        raise no_review(location)
    return paths


SOURCE = Source(
    find,
    content,
    location=lambda p: fetching.without_secrets(p.aclimdb.location),
    terms=lambda kind, location: MAAS,
    has_published=lambda p: True,
    no_append="an archive or folder of one file a review; put new files into that folder yourself",
)
