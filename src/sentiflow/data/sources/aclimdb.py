"""The Large Movie Review Dataset as published: an archive, or the unpacked folder.

aclImdb/{train,test}/{pos,neg}/ID_RATING.txt is one review; line ID (from 0) of aclImdb/{train,test}/urls_{pos,neg}.txt is the
URL of its film. The unlabelled reviews in `unsup` are not used.
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
FILE = re.compile(r"(?P<split>train|test)/(?P<label>pos|neg)/(?P<name>[^./][^/]*)")  # without hidden files
NAME = re.compile(r"(?P<number>[0-9]{1,9})_(?P<rating>10|[1-9])\.txt")
URLS = re.compile(r"(?P<split>train|test)/urls_(?P<label>pos|neg)\.txt")
FILM = re.compile(rb"/title/(tt[0-9]+)")
URLS_BYTES = 16_000_000  # read from a list of URLs; the published ones have 0.6 MB


def find(p: Download, partial_dir: Path) -> Origin:
    """Rows in the order of split, label and number, for the archive and for the folder."""
    location = p.aclimdb.location
    if _is_folder(p):
        if p.aclimdb.sha256 is not None:
            log.info("%s is a folder: download.aclimdb.sha256 is the checksum of the archive and is not verified", location)
        fetching.warn_if_not_watched(Path(location))
        contents = list(_folder_contents(p))
        sha256 = folders.sha256_of(contents)
    else:
        path = fetching.fetch(location, partial_dir, sha256=p.aclimdb.sha256)
        members = archives.members(path, wanted=_is_wanted, max_bytes=p.aclimdb.max_bytes, max_member=_max_member(p))
        contents = sorted((_below_top(name), content) for name, content in members)
        sha256 = fetching.sha256_of(path)
    found = list(_found(contents))
    if not found:
        raise _no_reviews(location)
    return Origin(fetching.without_secrets(location), sha256, LABELS, found)


def _is_folder(p: Download) -> bool:
    return not fetching.is_url(p.aclimdb.location) and Path(p.aclimdb.location).is_dir()


def _no_reviews(location: str) -> InputError:
    return InputError(f"{location} contains no reviews; expected files such as aclImdb/train/pos/0_9.txt")


def _max_member(p: Download) -> int:
    return max(4 * p.max_characters + 1, URLS_BYTES)  # UTF-8 has at most 4 bytes per character: still too long if truncated


def _below_top(name: str) -> str:
    return TOP.sub("", name, count=1)


def _is_wanted(name: str) -> bool:
    return bool(FILE.fullmatch(_below_top(name)) or URLS.fullmatch(_below_top(name)))


def _top(p: Download) -> Path:
    folder = Path(p.aclimdb.location)
    return folder / "aclImdb" if (folder / "aclImdb").is_dir() else folder


def _files(p: Download) -> list[Path]:
    top = _top(p)
    names = [path.relative_to(top).as_posix() for pattern in ("*/*.txt", "*/*/*") for path in top.glob(pattern)]
    return [top / name for name in sorted(filter(_is_wanted, names))]


def _folder_contents(p: Download) -> Iterator[tuple[str, bytes]]:
    return folders.contents(_top(p), _files(p), max_bytes=p.aclimdb.max_bytes, max_member=_max_member(p), key="aclimdb")


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
            yield row._replace(flaw="duplicate file name")
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
    if _is_folder(p):
        return folders.files(location, lambda: _some_files(p), lambda: _folder_contents(p))
    return tables.files([Path(location)], location, sha256)


def _some_files(p: Download) -> list[Path]:
    if not (paths := _files(p)):
        raise _no_reviews(p.aclimdb.location)
    return paths


SOURCE = Source(
    find,
    content,
    location=lambda p: fetching.without_secrets(p.aclimdb.location),
    terms=lambda kind, location: MAAS,
    has_published=lambda p: True,
    no_append="an archive or folder with one file per review; put new files into that folder yourself",
)
