"""Brings the file at a path or a URL within reach, whole or not at all."""

import email.utils
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from tqdm import tqdm

from sentiflow.system import files, urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

WATCHED = Path("data/external")  # what DVC's download stage depends on
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
TIMEOUT = (10.0, 60.0)  # seconds to connect; seconds without a byte
LOOK_TIMEOUT = (10.0, 20.0)  # the same, where only a few lines are asked for
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever a server asks for
CHUNK = 1 << 18
AS_IT_IS = {"Accept-Encoding": "identity"}  # not packed on its way; a packed file may have another ETag


class Version(NamedTuple):
    """What a server says of a file without giving it; empty where it says nothing."""

    etag: str
    modified: str  # Last-Modified, as the server wrote it
    length: str  # bytes

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Version":
        return cls(headers.get("ETag", ""), headers.get("Last-Modified", ""), headers.get("Content-Length", ""))

    def is_that_of(self, other: "Version") -> bool | None:
        """Whether two files are the same, by the first that is known of both: ETag, time, length; None if there is none."""
        for mine, its in zip(self, other, strict=True):
            if mine and its:
                return mine.removeprefix("W/") == its.removeprefix("W/")
        return None

    def continues(self) -> str:
        """What an If-Range may hold: only a strong ETag or a time promises the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Note(NamedTuple):
    """What the last download of a URL saw and brought."""

    version: Version
    sha256: str
    restless: bool  # whether it brought the bytes of the download before, though the server called them another version


class _InterruptedError(Exception):
    """Worth another attempt, after `wait` seconds if the server said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def bring(location: str, partial_dir: Path, *, sha256: str | None) -> Path:
    """The local file for a location, with the SHA-256 asked for; a URL is downloaded into partial_dir."""
    if is_url(location):
        try:
            urlsplit(location)
        except ValueError as error:
            raise InputError(
                f"the location in params.yaml is no URL: {error}; expected http(s)://host/path, or a plain path"
            ) from None
        return download(location, partial_dir, sha256=sha256)
    path = Path(location)
    require_file(path, sha256=sha256)
    warn_if_not_watched(path)
    return path


def is_url(location: str) -> bool:
    return bool(SCHEME.match(location))


def name_of(location: str) -> str:
    return Path(unquote(urlsplit(location).path) if is_url(location) else location).name


def without_secrets(location: str) -> str:
    """A URL without user, password, query and fragment, which may hold tokens; a path as it is."""
    return urls.public(location) if is_url(location) else location


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path, *, sha256: str | None) -> None:
    """Raises InputError unless path is a file that is not empty and has this SHA-256; None accepts any."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file; give the path of the file in it")
    if not path.is_file():
        beside = ", ".join(sorted(other.name for other in path.parent.glob("*"))[:10])
        raise InputError(
            f"no file {path}; {f'beside it are {beside}' if beside else f'{path.parent} is empty or not there'}. "
            "Put the file there, or set its location in params.yaml"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty, 0 bytes; was it downloaded to the end?")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise InputError(
            f"{path} is not the file that params.yaml asks for:\n"
            f"  SHA-256 of the file  {found}\n  in params.yaml       {sha256}\n"
            "fetch the right file, or, if this one is what you want, put its SHA-256 (or null) into params.yaml"
        )


def warn_if_not_watched(path: Path) -> None:
    if not Path(os.path.normpath(path.absolute())).is_relative_to(WATCHED.absolute()):
        log.warning("%s is not under %s, so DVC does not see when it changes and will not read it again", path, WATCHED)


def download(url: str, folder: Path, *, sha256: str | None, attempts: int = 6, first_wait: float = 1.0) -> Path:
    """The file at a URL, in folder. What a broken attempt has brought stays there as NAME.partial and is continued.

    Args:
        sha256: what the whole file must have; a file that has it is not downloaded again. None accepts any file, as long
            as the server says how long it is.
        attempts: how often to try while the server is busy, unreachable or cuts the connection.
        first_wait: seconds after the first failed attempt, doubled after each further one, 60 at most; the server's own
            Retry-After goes first.

    Raises:
        InputError: if the URL cannot be used, the server refuses, every attempt fails or the file is another one.
    """
    shown = without_secrets(url)
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise InputError(f"{shown}: only http:// and https:// can be downloaded; give a file on this machine by its plain path")
    whole = _whole_file(url, folder)
    if sha256 is not None and whole.is_file() and sha256_of(whole) == sha256:
        log.info("%s is already here, as %s", shown, whole)
        return whole

    folder.mkdir(parents=True, exist_ok=True)
    partial = whole.with_name(f"{whole.name}.partial")
    for attempt in range(1, attempts + 1):
        try:
            _receive(url, partial, sha256)
            break
        except _InterruptedError as error:
            if attempt == attempts:
                raise UnavailableError(
                    f"{shown} could not be downloaded in {attempts} attempts; the last one: {error}. Run again to go on from "
                    f"what is here, or download it by hand and set its path as the location"
                ) from None
            wait = min(first_wait * 2 ** (attempt - 1) if error.wait is None else error.wait, LONGEST_WAIT)
            log.warning("%s: %s; attempt %d of %d in %.1f s", shown, error, attempt + 1, attempts, wait)
            time.sleep(wait)

    found = sha256_of(partial)
    if sha256 is not None and found != sha256:
        partial.unlink()
        raise InputError(
            f"{shown} is not the file that params.yaml asks for:\n  SHA-256 received  {found}\n  in params.yaml    {sha256}\n"
            "it was removed; run again in case it was damaged on its way, or, if its publisher has changed it and you "
            "trust that, put the new SHA-256 into params.yaml"
        )
    _note(url, folder, _version_so_far(partial), found)
    partial.replace(whole)
    _version_file(partial).unlink(missing_ok=True)
    return whole


def noted(url: str, folder: Path) -> Note | None:
    """What the last download of this URL into the folder saw; None if that is not known any more."""
    try:
        version, sha256, restless = json.loads(_note_file(url, folder).read_text(encoding="utf-8"))
        return Note(Version(*version), sha256, restless)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def version_now(url: str, known: Version | None) -> Version:
    """What the server says of the file now; the file itself is not fetched.

    Args:
        known: what a download saw. Where the server does not answer a HEAD, or says too little to compare the two, it is asked
            to send the file if it is another one; of that only the beginning of the answer is read.

    Raises:
        UnavailableError: if the server is busy or does not answer.
        InputError: if it refuses, or the URL cannot be used.
    """
    conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.modified} if known else {}
    conditions = {name: value for name, value in conditions.items() if value}
    try:
        with requests.head(url, headers=AS_IT_IS, timeout=LOOK_TIMEOUT, allow_redirects=True) as response:
            said = Version.of(response.headers)
            if response.status_code == requests.codes.ok and any(said) and not (known and said.is_that_of(known) is None):
                return said
        with requests.get(url, headers=AS_IT_IS | conditions, stream=True, timeout=LOOK_TIMEOUT) as response:
            status = response.status_code
            if known and status == requests.codes.not_modified:
                return known
            if status == requests.codes.ok:
                return Version.of(response.headers)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise UnavailableError(
            f"{without_secrets(url)} does not answer ({_cause(error)}); look again later, or check the URL"
        ) from None
    except requests.RequestException as error:
        raise InputError(f"{without_secrets(url)} cannot be asked: {type(error).__name__}; check the URL") from error
    reason = f"{without_secrets(url)}: the server answered {status} {response.reason}"
    if _is_busy(status):
        raise UnavailableError(f"{reason}; look again later")
    raise InputError(f"{reason}, so it will not give the file; check the URL")


def _note(url: str, folder: Path, version: Version, sha256: str) -> None:
    if not any(version):
        log.warning(
            "%s: the server gives neither ETag nor time nor length, so it cannot be seen from outside when the file changes",
            without_secrets(url),
        )
    before = noted(url, folder)
    same_bytes = before is not None and before.sha256 == sha256
    restless = before is not None and same_bytes and before.version.is_that_of(version) is False
    file = _note_file(url, folder)
    files.write(file, json.dumps(Note(version, sha256, restless)) + "\n")


def _note_file(url: str, folder: Path) -> Path:
    whole = _whole_file(url, folder)
    return whole.with_name(f"{whole.name}.seen")


def _whole_file(url: str, folder: Path) -> Path:
    name = re.sub(r"[^\w.-]", "_", name_of(url))[-80:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def _receive(url: str, partial: Path, sha256: str | None) -> None:
    have, validator = _so_far(partial)
    headers = AS_IT_IS
    if have:
        headers = headers | {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _require_good(response, url, partial, have, validator)
            if response.status_code == requests.codes.ok:
                have = 0
                partial.write_bytes(b"")
                _version_file(partial).write_text(json.dumps(Version.of(response.headers)), encoding="utf-8")
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else None
            if total is None and not response.raw.chunked and sha256 is None:
                raise InputError(
                    f"{without_secrets(url)}: the server does not say how long the file is, so a cut one would pass for whole; "
                    "give its SHA-256 in params.yaml, or download it by hand"
                )
            log.info("downloading %s, %s bytes%s", without_secrets(url), f"{total or 0:,}", f" from {have:,}" if have else "")
            with (
                partial.open("ab") as file,
                tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name_of(url), disable=None) as bar,
            ):
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    bar.update(file.write(chunk))
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _InterruptedError(_cause(error)) from error
    except requests.RequestException as error:
        raise InputError(f"{without_secrets(url)} cannot be downloaded: {type(error).__name__}; check the URL") from error
    if total is not None and (size := partial.stat().st_size) != total:
        raise _InterruptedError(f"{size:,} of {total:,} bytes came")


def _so_far(partial: Path) -> tuple[int, str]:
    """Bytes that can be continued, and what tells whether the file behind the URL is still the same; (0, "") to start anew."""
    validator = _version_so_far(partial).continues()
    return (partial.stat().st_size, validator) if validator and partial.exists() else (0, "")


def _require_good(response: requests.Response, url: str, partial: Path, have: int, validator: str) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    if have and status == requests.codes.partial_content:
        same = Version.of(response.headers).continues() in ("", validator)
        if same and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return
        partial.unlink()
        raise _InterruptedError("the server continued another file or at another place, so from the start", wait=0.0)
    if have and status == requests.codes.requested_range_not_satisfiable:
        partial.unlink()
        raise _InterruptedError("the server has nothing behind what is here, so from the start", wait=0.0)
    reason = f"{status} {response.reason}"
    if _is_busy(status):
        raise _InterruptedError(f"the server answered {reason}", wait=_retry_after(response.headers))
    raise InputError(f"{without_secrets(url)}: the server answered {reason}, so it will not give the file; check the URL")


def _is_busy(status: int) -> bool:
    return bool(status == requests.codes.too_many_requests or status >= requests.codes.server_error)


def _version_so_far(partial: Path) -> Version:
    try:
        return Version(*json.loads(_version_file(partial).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: not a list of three
        return Version("", "", "")


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    said = headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _cause(error: BaseException) -> str:
    while error.__context__ is not None:  # the outer ones repeat the URL, with whatever secret it holds
        error = error.__context__
    return f"{type(error).__name__}: {error}"
