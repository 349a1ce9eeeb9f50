"""Reads the files of a .tar.gz one by one, in memory, without trusting it.

Not Python's `tarfile`: before 3.11.14 hostile headers can make it loop, recurse or take quadratic time, and it reads a
header of any size into memory. What is left to do without it is little: walk over blocks of 512 bytes that a bounded reader
hands out. Nothing is written to disk.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from tqdm import tqdm

from sentiflow.system.errors import InputError

BLOCK = 512
CHUNK = 65536
FILE, FOLDER = b"0\0", b"5"  # old programs write NUL for a file
EXTRA = b"xgLK"  # headers with a long name, a date or an owner for the next member; no name that is wanted needs one
KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
REFUSED = "only plain files and folders are read, so the whole archive is refused; fetch it again from where it is published"


def members(path: Path, *, wanted: Callable[[str], bool], max_bytes: int, max_member: int) -> Iterator[tuple[str, bytes]]:
    """The name and the content of every regular file whose name is wanted; of a longer one the first max_member bytes.

    Args:
        max_bytes: unpacked bytes at most, those of unwanted members and of headers included.
        max_member: bytes of one member at most that are held in memory.

    Raises:
        InputError: if the archive is cut, is none, holds anything but files and folders, names a place outside itself, or
            unpacks to more than max_bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file, tqdm.wrapattr(file, "read", total=size, desc=path.name, disable=None, delay=2) as counted:
        tape = _Tape(gzip.GzipFile(fileobj=cast("IO[bytes]", counted)), max_bytes, path)
        while any(header := tape.take(BLOCK)):
            name, kind, length = _parse(header, path)
            if kind in FILE and wanted(name):
                kept = min(length, max_member)
                yield name, tape.take(kept)
                tape.skip(length - kept)
            elif kind in FILE or kind in FOLDER or kind in EXTRA:
                tape.skip(length)
            else:
                raise InputError(f"{path}: {name!r} is {KINDS.get(kind, f'of the unknown kind {kind!r}')}; {REFUSED}")
            tape.skip(-length % BLOCK)
        tape.finish()


class _Tape:
    """Hands out exactly the bytes asked for, and in all no more than the limit."""

    def __init__(self, unpacked: gzip.GzipFile, limit: int, path: Path) -> None:
        self.unpacked, self.limit, self.left, self.path = unpacked, limit, limit, path

    def take(self, count: int) -> bytes:
        data = self._up_to(count)
        if len(data) < count:
            raise InputError(f"{self.path} ends in the middle; the file is not whole, so fetch it again")
        return data

    def skip(self, count: int) -> None:
        while count > 0:
            count -= len(self.take(min(count, CHUNK)))

    def finish(self) -> None:
        """Reads what is left, because the checksum of gzip stands at the very end."""
        while self._up_to(CHUNK):
            pass

    def _up_to(self, count: int) -> bytes:
        try:
            data = self.unpacked.read(count)
        except EOFError:
            raise InputError(f"{self.path} ends in the middle; the file is not whole, so fetch it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{self.path} is not a .tar.gz archive, or a damaged one ({error}); fetch it again") from None
        self.left -= len(data)
        if self.left < 0:
            raise InputError(
                f"{self.path} unpacks to more than max_bytes, {self.limit:,}; if you trust it, raise download.aclimdb.max_bytes"
            )
        return data


def _parse(header: bytes, path: Path) -> tuple[str, bytes, int]:
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    length = _octal(header[124:136])
    if _octal(header[148:156]) != checksum or length is None:
        raise InputError(f"{path} is not a .tar.gz archive, or a damaged one (a header in it does not add up); fetch it again")
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and (folder := _text(header[345:500])):
        name = f"{folder}/{name}"
    if name.startswith("/") or ".." in name.split("/"):
        raise InputError(f"{path}: {name!r} names a place outside the archive; {REFUSED}")
    kind = header[156:157]
    return name, kind, 0 if kind in FOLDER else length


def _octal(field: bytes) -> int | None:
    digits = OCTAL.fullmatch(field)
    return int(digits[1] or b"0", 8) if digits else None


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")
