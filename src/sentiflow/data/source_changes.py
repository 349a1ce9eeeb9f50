"""Detects changes of the source since the last successful download stage.

The SHA-256 of the source is compared with the one in the data card. This runs every few minutes, so a file is hashed only after
it was written to, and a URL is checked by its ETag without downloading it.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sentiflow.config.params import Download, Params
from sentiflow.data.sources import SOURCES, fetching
from sentiflow.data.sources.rows import excerpt
from sentiflow.data.sources.source import Files, Url
from sentiflow.system import artifacts, stage

CARD = Path("metrics/data_card.json")  # of the last successful download stage
DOWNLOADS = Path(".cache/download")  # downloaded files of that stage with their ETags
HASHES = Path(".cache/source.json")  # cached hash of the source
TICK = 2.0  # seconds; resolution of the time stamps of some file systems


@dataclass(frozen=True)
class Change:
    """A change of the source since the last download.

    fingerprint: hash of the current content.
    in_words: the source, its current content and the content of the last download.
    seen_by_dvc: whether `dvc repro` runs the download for it; if False, that stage has to be forced.
    settled: False while the source is being written, so that it may be incomplete or even unchanged.
    certain: False if the server of a URL is known to change its version without changing the content.
    """

    fingerprint: str
    in_words: str
    seen_by_dvc: bool
    settled: bool = True
    certain: bool = True


def changed(p: Params, *, settle_seconds: float = 0.0) -> Change | None:
    """The change of the source since the last download, or None.

    A URL without a recorded ETag, as in a fresh clone, counts as changed until it is downloaded once. A URL whose server sends no
    comparable headers counts as unchanged; the download logs a warning about it.

    Args:
        settle_seconds: time after the last write to a file until the change is `settled`.

    Raises:
        UnavailableError: if the server does not respond.
        InputError: if the source does not exist, or the download would reject it.
    """
    read = _last_read(p.download)
    content = SOURCES[p.download.source].content(p.download)
    if isinstance(content, Url):
        return _change_of_url(content, read)
    return _change_of_files(content, read, settle_seconds)


class _Read(NamedTuple):
    """Content of the last download."""

    sha256: str | None  # None: no download has succeeded here
    stale: bool  # whether DVC runs the download anyway: none has succeeded, or params.yaml names another source now

    @property
    def in_words(self) -> str:
        return f"the last download read {_short(self.sha256)}" if self.sha256 else "no download has succeeded here yet"


def _last_read(p: Download) -> _Read:
    if not CARD.exists():
        return _Read(None, stale=True)
    card = artifacts.read_json(CARD)
    location = SOURCES[p.source].location(p)
    try:
        is_same = card["source"] == p.source and location in (None, card["location"])
        return _Read(card["sha256_source"], stale=not is_same)
    except (KeyError, TypeError) as error:
        raise artifacts.damaged(CARD, error) from None


# --- files and folders --------------------------------------------------------------------------------------------------


def _change_of_files(content: Files, read: _Read, settle_seconds: float) -> Change | None:
    is_seen = all(_is_seen(path, read) for path in content.roots)
    found = _hash(content.find, content.fingerprint, settle_seconds if content.may_grow else 0.0)
    if isinstance(found, _Unsettled):
        written = f"{content.name}: written {max(found.seconds, 0.0):.0f} s ago, so it may be incomplete"
        return Change(found.state, written, is_seen, settled=False)
    if found == read.sha256:
        return None
    content.require(found)
    return Change(found, f"{content.name}: {content.what} is now {_short(found)}, {read.in_words}", is_seen)


def _is_seen(path: Path, read: _Read) -> bool:
    # Resolved, because DVC may not follow a link to another folder; forcing the stage needlessly only costs time.
    return read.stale or path.resolve().is_relative_to(fetching.WATCHED.resolve())


class _Unsettled(NamedTuple):
    state: str
    seconds: float  # since the last write


def _hash(find: Callable[[], list[Path]], calculate: Callable[[], str], settle_seconds: float) -> str | _Unsettled:
    """The hash of the files, cached until one of them is written, added or removed."""
    try:
        state, written = _state(find())
        known = _known_hash(state)
        if known is not None:
            return known
        since = time.time() - written
        if abs(since) < settle_seconds:  # negative if the clock of a file server is ahead
            return _Unsettled(state, since)
        sha256 = calculate()
        if _state(find())[0] != state:
            return _Unsettled(state, 0.0)
    except FileNotFoundError:  # removed meanwhile
        return _Unsettled("", 0.0)
    if abs(since) > TICK:
        with stage.writing(HASHES) as [partial]:
            partial.write_text(json.dumps({"state": state, "sha256": sha256}) + "\n", encoding="utf-8")
    return sha256


def _state(paths: list[Path]) -> tuple[str, float]:
    """Digest of the metadata of the files, and the time of the last change.

    Uses ctime, because `cp -p` and unpacking an archive set mtime to the past.
    """
    digest = hashlib.sha256()
    written = -math.inf
    for path in paths:
        stat = path.stat()
        digest.update(repr((os.fspath(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)).encode())
        written = max(written, stat.st_ctime)
    return digest.hexdigest(), written


def _known_hash(state: str) -> str | None:
    try:
        known = json.loads(HASHES.read_text(encoding="utf-8"))
        return str(known["sha256"]) if known["state"] == state else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


# --- URLs ---------------------------------------------------------------------------------------------------------------


def _change_of_url(content: Url, read: _Read) -> Change | None:
    url, pinned = content.url, content.sha256
    name = fetching.without_secrets(url)
    if pinned is not None:  # the download accepts no other file
        if pinned == read.sha256:
            return None
        return Change(pinned, f"{name}: params.yaml expects SHA-256 {_short(pinned)}, {read.in_words}", seen_by_dvc=True)

    note = fetching.noted(url, DOWNLOADS)
    now = fetching.version_now(url, note.version if note else None)
    fingerprint = hashlib.sha256("\n".join((url, *now)).encode()).hexdigest()
    if note is None:
        last = read.in_words if read.stale else "the version of the last download is not recorded here"
        return Change(fingerprint, f"{name}: {_first(now)}; {last}", read.stale)
    if now.matches(note.version) is False:
        words = f"{name}: {_first(now)}, at the last download {_first(note.version)}"
        return Change(fingerprint, words, read.stale, certain=not note.unreliable)
    if note.sha256 != read.sha256:
        words = f"{name}: the last downloaded file has SHA-256 {_short(note.sha256)}, {read.in_words}"
        return Change(note.sha256, words, read.stale)
    return None


def _first(version: fetching.Version) -> str:
    names = ("ETag", "Last-Modified", "Content-Length")
    first = next(((name, value) for name, value in zip(names, version, strict=True) if value), None)
    return f"{first[0]} {excerpt(first[1])}" if first else "no ETag, Last-Modified or Content-Length"


def _short(sha256: str) -> str:
    return f"{sha256[:12]}…"
