"""Whether the reviews at their source are other ones than the last download read.

What counts is content: the SHA-256 of the source against the one in the card of the last download stage that ended well. As
that looks every few minutes, a file is hashed only when the system says that it was written to, and of a URL the server is
asked for its ETag only.
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

CARD = Path("metrics/data_card.json")  # of the last download stage that ended well
DOWNLOADS = Path(".cache/download")  # where that stage keeps what it fetched, and what the server said of it
HASHES = Path(".cache/source.json")  # the hash of the source as it was when last looked at
TICK = 2.0  # seconds: some file systems tell no two writes apart that are closer


@dataclass(frozen=True)
class Change:
    """A source that has other content than what was read last.

    fingerprint: of what is there now; the same as long as it stays the same.
    in_words: which source, what it is now and what was read last.
    seen_by_dvc: whether `dvc repro` runs the download for it; where False, that stage has to be forced.
    settled: False while it is being written to: it may be only half there, or not have changed at all.
    certain: False where the server of a URL is known to call the same bytes another version.
    """

    fingerprint: str
    in_words: str
    seen_by_dvc: bool
    settled: bool = True
    certain: bool = True


def changed(p: Params, *, settle_seconds: float = 0.0) -> Change | None:
    """The change of the source that params.yaml names, or None if it is what the last download read.

    A URL of which the last download's ETag is not known any more, as on a fresh clone, counts as changed: fetching it once
    tells. A URL whose server says nothing that could be compared counts as unchanged, as the download says when it fetches.

    Args:
        settle_seconds: that have to pass after the last write to a file for the change to be `settled`.

    Raises:
        UnavailableError: if the source does not answer now.
        InputError: if there is no such source, or the download would refuse what is there.
    """
    read = _last_read(p.download)
    content = SOURCES[p.download.source].content(p.download)
    if isinstance(content, Url):
        return _change_of_url(content, read)
    return _change_of_files(content, read, settle_seconds)


class _Read(NamedTuple):
    """What the last download read."""

    sha256: str | None  # None: none has ended well here
    stale: bool  # DVC runs the download anyhow: none has ended well, or it read another source than params.yaml names now

    @property
    def in_words(self) -> str:
        return f"the last download read {_short(self.sha256)}" if self.sha256 else "no download has ended well here yet"


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
    is_seen = all(_is_seen(path, read) for path in content.top)
    found = _hash(content.find, content.fingerprint, settle_seconds if content.may_grow else 0.0)
    if isinstance(found, _Unsettled):
        return _being_written(content.shown, found, is_seen)
    if found == read.sha256:
        return None
    content.require(found)  # what the download would refuse is no new data
    return Change(found, f"{content.shown}: {content.what} is now {_short(found)}, {read.in_words}", is_seen)


def _is_seen(path: Path, read: _Read) -> bool:
    # Resolved, because DVC may not look behind a link that leads elsewhere; and whoever forces in vain only reads once more.
    return read.stale or path.resolve().is_relative_to(fetching.WATCHED.resolve())


class _Unsettled(NamedTuple):
    state: str
    seconds: float  # since the last write


def _being_written(shown: str, found: _Unsettled, seen_by_dvc: bool) -> Change:
    ago = f"{max(found.seconds, 0.0):.0f} s ago"
    return Change(found.state, f"{shown}: written to {ago}, so it may not be whole yet", seen_by_dvc, settled=False)


def _hash(find: Callable[[], list[Path]], calculate: Callable[[], str], settle_seconds: float) -> str | _Unsettled:
    """The hash of the files that are found, calculated only if one was written to, came or went since it was calculated last."""
    try:
        state, written = _state(find())
        known = _known_hash(state)
        if known is not None:
            return known
        since = time.time() - written
        if abs(since) < settle_seconds:  # below 0 where the clock of a file server is ahead
            return _Unsettled(state, since)
        sha256 = calculate()
        if _state(find())[0] != state:
            return _Unsettled(state, 0.0)
    except FileNotFoundError:  # went between two looks
        return _Unsettled("", 0.0)
    if abs(since) > TICK:
        _remember_hash(state, sha256)
    return sha256


def _state(paths: list[Path]) -> tuple[str, float]:
    """What tells whether any of the files was written to, and when the last one was.

    The time of change counts, not of modification: copying with `cp -p` or unpacking an archive sets the latter back.
    """
    whole = hashlib.sha256()
    written = -math.inf
    for path in paths:
        stat = path.stat()
        said = (os.fspath(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        whole.update(repr(said).encode())
        written = max(written, stat.st_ctime)
    return whole.hexdigest(), written


def _known_hash(state: str) -> str | None:
    try:
        known = json.loads(HASHES.read_text(encoding="utf-8"))
        return str(known["sha256"]) if known["state"] == state else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # it is only a shortcut


def _remember_hash(state: str, sha256: str) -> None:
    with stage.writing(HASHES) as [partial]:
        partial.write_text(json.dumps({"state": state, "sha256": sha256}) + "\n", encoding="utf-8")


# --- URLs ---------------------------------------------------------------------------------------------------------------


def _change_of_url(content: Url, read: _Read) -> Change | None:
    url, pinned = content.url, content.sha256
    shown = fetching.without_secrets(url)
    if pinned is not None:  # the download takes no other file, whatever the server has now
        if pinned == read.sha256:
            return None
        return Change(pinned, f"{shown}: params.yaml asks for SHA-256 {_short(pinned)}, {read.in_words}", seen_by_dvc=True)

    note = fetching.noted(url, DOWNLOADS)
    now = fetching.version_now(url, note.version if note else None)
    fingerprint = hashlib.sha256("\n".join((url, *now)).encode()).hexdigest()
    if note is None:
        said = read.in_words if read.stale else "what the last download saw is not known here any more"
        return Change(fingerprint, f"{shown}: {_said(now)}; {said}", read.stale)
    if now.is_that_of(note.version) is False:
        words = f"{shown}: {_said(now)}, the last download saw {_said(note.version)}"
        return Change(fingerprint, words, read.stale, certain=not note.restless)
    if note.sha256 != read.sha256:
        words = f"{shown}: the file that was fetched last has SHA-256 {_short(note.sha256)}, {read.in_words}"
        return Change(note.sha256, words, read.stale)
    return None


def _said(version: fetching.Version) -> str:
    names = ("ETag", "Last-Modified", "Content-Length")
    first = next(((name, value) for name, value in zip(names, version, strict=True) if value), None)
    return f"{first[0]} {excerpt(first[1])}" if first else "no ETag, time or length"


def _short(sha256: str) -> str:
    return f"{sha256[:12]}…"
