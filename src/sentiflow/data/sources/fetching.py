"""Local file for a path or URL: downloads resume after interruptions and are never used partially."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from tqdm import tqdm

from sentiflow.system import files, urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

WATCHED = Path("data/external")  # dependency of DVC's download stage
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
HEADERS_TIMEOUT = (10.0, 20.0)  # the same for requests without a body
LONGEST_WAIT = 60.0  # seconds between attempts, also if the server requests more
CHUNK = 1 << 18
UNCOMPRESSED = {"Accept-Encoding": "identity"}  # a compressed response may have another ETag


class Version(NamedTuple):
    """Headers that identify a version of a file; empty if missing."""

    etag: str
    modified: str  # Last-Modified
    length: str  # Content-Length

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Version":
        return cls(headers.get("ETag", ""), headers.get("Last-Modified", ""), headers.get("Content-Length", ""))

    def matches(self, other: "Version") -> bool | None:
        """Whether the first header that both versions have is equal; None if they have none in common."""
        for mine, its in zip(self, other, strict=True):
            if mine and its:
                return mine.removeprefix("W/") == its.removeprefix("W/")
        return None

    def validator(self) -> str:
        """The value for If-Range, where a weak ETag is not allowed."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Note(NamedTuple):
    """Record of the last download of a URL."""

    version: Version
    sha256: str
    unreliable: bool  # whether the server had changed its version although the bytes were the same as before


class _InterruptedError(Exception):
    """Retry, after `wait` seconds if the server requested it."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(location: str, partial_dir: Path, *, sha256: str | None) -> Path:
    """The local file of a location, with a verified checksum; a URL is downloaded into `partial_dir`."""
    if is_url(location):
        try:
            urlsplit(location)
        except ValueError as error:
            raise InputError(
                f"the location in params.yaml is not a valid URL: {error}; expected http(s)://host/path, or a path"
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
    """A URL without user, password, query and fragment; a path unchanged."""
    return urls.public(location) if is_url(location) else location


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path, *, sha256: str | None) -> None:
    """Raises InputError unless the path is a file that is not empty and has this checksum; None accepts any."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file; use the path of the file in it")
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in path.parent.glob("*"))[:10])
        raise InputError(
            f"no file {path}; {f'its folder contains {others}' if others else f'{path.parent} is empty or missing'}. "
            "Put the file there, or change its location in params.yaml"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty, 0 bytes; was its download interrupted?")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise InputError(
            f"{path} does not have the checksum in params.yaml:\n"
            f"  SHA-256 of the file  {found}\n  in params.yaml       {sha256}\n"
            "get the right file, or set its SHA-256 (or null) in params.yaml if you want this one"
        )


def warn_if_not_watched(path: Path) -> None:
    if not Path(os.path.normpath(path.absolute())).is_relative_to(WATCHED.absolute()):
        log.warning("%s is not under %s, so DVC does not detect when it changes", path, WATCHED)


def download(url: str, folder: Path, *, sha256: str | None, attempts: int = 6, first_wait: float = 1.0) -> Path:
    """Downloads a URL into a folder. An interrupted download stays there as NAME.partial and is resumed.

    Args:
        sha256: expected checksum; a file that has it is not downloaded again. None accepts any file whose length the server
            declares.
        attempts: maximum number of attempts while the server is busy or unreachable, or closes the connection.
        first_wait: seconds before the second attempt, doubled before each further one, at most 60; a Retry-After header
            takes precedence.

    Raises:
        UnavailableError: if all attempts fail.
        InputError: if the URL is unsupported, the server rejects the request, or the checksum is wrong.
    """
    name = without_secrets(url)
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise InputError(f"{name}: only http:// and https:// URLs are supported; use the plain path of a local file")
    complete = _complete_file(url, folder)
    if sha256 is not None and complete.is_file() and sha256_of(complete) == sha256:
        log.info("%s is already downloaded as %s", name, complete)
        return complete

    folder.mkdir(parents=True, exist_ok=True)
    partial = complete.with_name(f"{complete.name}.partial")
    for attempt in range(1, attempts + 1):
        try:
            _receive(url, partial, sha256)
            break
        except _InterruptedError as error:
            if attempt == attempts:
                raise UnavailableError(
                    f"{name} could not be downloaded in {attempts} attempts; last error: {error}. Run again to resume, or "
                    f"download it by hand and set its path as the location"
                ) from None
            wait = min(first_wait * 2 ** (attempt - 1) if error.wait is None else error.wait, LONGEST_WAIT)
            log.warning("%s: %s; attempt %d of %d in %.1f s", name, error, attempt + 1, attempts, wait)
            time.sleep(wait)

    found = sha256_of(partial)
    if sha256 is not None and found != sha256:
        partial.unlink()
        raise InputError(
            f"{name} does not have the checksum in params.yaml:\n  SHA-256 received  {found}\n  in params.yaml    {sha256}\n"
            "it was removed; run again in case the download was corrupted, or set the new SHA-256 in params.yaml if the "
            "publisher has changed the file and you trust it"
        )
    _record(url, folder, _partial_version(partial), found)
    partial.replace(complete)
    _version_file(partial).unlink(missing_ok=True)
    return complete


def noted(url: str, folder: Path) -> Note | None:
    """The record of the last download of this URL into the folder, or None."""
    try:
        version, sha256, unreliable = json.loads(_note_file(url, folder).read_text(encoding="utf-8"))
        return Note(Version(*version), sha256, unreliable)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def version_now(url: str, known: Version | None) -> Version:
    """The current version of the file on the server, without downloading it.

    Args:
        known: the last downloaded version. If the response to HEAD cannot be compared with it, a conditional GET follows, of
            which only the headers are read.

    Raises:
        UnavailableError: if the server is busy or does not respond.
        InputError: if it rejects the request, or the URL cannot be used.
    """
    conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.modified} if known else {}
    conditions = {name: value for name, value in conditions.items() if value}
    try:
        with requests.head(url, headers=UNCOMPRESSED, timeout=HEADERS_TIMEOUT, allow_redirects=True) as response:
            found = Version.of(response.headers)
            if response.status_code == requests.codes.ok and any(found) and not (known and found.matches(known) is None):
                return found
        with requests.get(url, headers=UNCOMPRESSED | conditions, stream=True, timeout=HEADERS_TIMEOUT) as response:
            status = response.status_code
            if known and status == requests.codes.not_modified:
                return known
            if status == requests.codes.ok:
                return Version.of(response.headers)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise UnavailableError(
            f"{without_secrets(url)} does not respond ({_cause(error)}); try again later, or check the URL"
        ) from None
    except requests.RequestException as error:
        raise InputError(f"{without_secrets(url)} cannot be requested: {type(error).__name__}; check the URL") from error
    reason = f"{without_secrets(url)}: the server answered {status} {response.reason}"
    if _is_busy(status):
        raise UnavailableError(f"{reason}; look again later")
    raise InputError(f"{reason}; check the URL")


def _record(url: str, folder: Path, version: Version, sha256: str) -> None:
    if not any(version):
        log.warning(
            "%s: the server sends neither ETag nor Last-Modified nor Content-Length, so changes of the file cannot be detected",
            without_secrets(url),
        )
    before = noted(url, folder)
    same_bytes = before is not None and before.sha256 == sha256
    unreliable = before is not None and same_bytes and before.version.matches(version) is False
    files.write(_note_file(url, folder), json.dumps(Note(version, sha256, unreliable)) + "\n")


def _note_file(url: str, folder: Path) -> Path:
    complete = _complete_file(url, folder)
    return complete.with_name(f"{complete.name}.seen")


def _complete_file(url: str, folder: Path) -> Path:
    name = re.sub(r"[^\w.-]", "_", name_of(url))[-80:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def _receive(url: str, partial: Path, sha256: str | None) -> None:
    validator = _partial_version(partial).validator()
    have = partial.stat().st_size if validator and partial.exists() else 0
    headers = UNCOMPRESSED
    if have:
        headers = headers | {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _require_success(response, url, partial, have, validator)
            if response.status_code == requests.codes.ok:
                have = 0
                partial.write_bytes(b"")
                _version_file(partial).write_text(json.dumps(Version.of(response.headers)), encoding="utf-8")
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else None
            if total is None and not response.raw.chunked and sha256 is None:
                raise InputError(
                    f"{without_secrets(url)}: the server does not send the length of the file, so a truncated one would not be "
                    "detected; set its SHA-256 in params.yaml, or download it by hand"
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
        raise _InterruptedError(f"received {size:,} of {total:,} bytes")


def _require_success(response: requests.Response, url: str, partial: Path, have: int, validator: str) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    if have and status == requests.codes.partial_content:
        same = Version.of(response.headers).validator() in ("", validator)
        if same and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return
        partial.unlink()
        raise _InterruptedError("the server resumed another file or offset, restarting the download", wait=0.0)
    if have and status == requests.codes.requested_range_not_satisfiable:
        partial.unlink()
        raise _InterruptedError("the server has no more bytes, restarting the download", wait=0.0)
    reason = f"{status} {response.reason}"
    if _is_busy(status):
        raise _InterruptedError(f"the server answered {reason}", wait=_retry_after(response))
    raise InputError(f"{without_secrets(url)}: the server answered {reason}; check the URL")


def _is_busy(status: int) -> bool:
    return bool(status == requests.codes.too_many_requests or status >= requests.codes.server_error)


def _partial_version(partial: Path) -> Version:
    try:
        return Version(*json.loads(_version_file(partial).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: not a list of three
        return Version("", "", "")


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _retry_after(response: requests.Response) -> float | None:
    try:
        return urllib3.Retry().get_retry_after(response.raw)
    except urllib3.exceptions.InvalidHeader:
        return None


def _cause(error: BaseException) -> str:
    while error.__context__ is not None:  # outer errors repeat the URL with its secrets
        error = error.__context__
    return f"{type(error).__name__}: {error}"
