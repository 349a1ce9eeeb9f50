"""Reads the files of a .tar.gz one by one, in memory, without trusting it. Nothing is written to disk.

`tarfile` reads the format. Three checks are added, against hostile or damaged archives: a limit on what is unpacked, because a
few kilobytes can unpack to gigabytes; a limit on extended headers, because `tarfile` reads each into memory; and an error for a
damaged header, because `tarfile` takes one for the end of the archive.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self, cast

from tqdm import tqdm

from sentiflow.system.errors import InputError

CHUNK = 65536
HEADER = 8192  # bytes of an extended header at most (name, date, owner); before 3.11.10 `tarfile` takes quadratic time for one
EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
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
        unpacked = _Unpacked(gzip.GzipFile(fileobj=cast("IO[bytes]", counted)), max_bytes, path)
        try:
            with tarfile.open(
                fileobj=cast("IO[bytes]", unpacked),
                mode="r|",
                bufsize=CHUNK,
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            ) as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # or every header stays in memory
                    _check(member, path)
                    if member.isfile() and wanted(member.name):
                        content = archive.extractfile(member)
                        assert content is not None
                        yield member.name, content.read(max_member)
        except (tarfile.TarError, RecursionError) as error:
            raise InputError(f"{path} is not a .tar.gz archive, or a damaged one ({error}); fetch it again") from None
        while unpacked.read(CHUNK):  # the checksum of gzip is at the very end
            pass


class _Unpacked:
    """Reads no more bytes in all than the limit."""

    def __init__(self, unpacked: gzip.GzipFile, limit: int, path: Path) -> None:
        self.unpacked, self.limit, self.left, self.path = unpacked, limit, limit, path

    def read(self, count: int) -> bytes:
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


class _Header(tarfile.TarInfo):
    """Raises ReadError for a damaged header, which `TarFile.next` would take for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in EXTENDED and header.size > HEADER):
            raise tarfile.ReadError(f"a header has {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # two blocks of zeros: the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it ends in the middle, or a header in it does not add up: {error}") from None


def _check(member: tarfile.TarInfo, path: Path) -> None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise InputError(f"{path}: {member.name!r} names a place outside the archive; {REFUSED}")
    if member.size < 0:
        raise InputError(f"{path}: {member.name!r} has {member.size} bytes; {REFUSED}")
    if not (member.isfile() or member.isdir()) or member.issparse() or member.type not in tarfile.SUPPORTED_TYPES:
        kind = KINDS.get(member.type, "a sparse file" if member.issparse() else f"of the unknown kind {member.type!r}")
        raise InputError(f"{path}: {member.name!r} is {kind}; {REFUSED}")
