"""Reads an untrusted .tar.gz file by file, in memory. Nothing is written to disk.

Three checks are added to `tarfile`, against malicious or damaged archives: a limit on the unpacked size, because a few kilobytes
can unpack to gigabytes; a limit on extended headers, because `tarfile` reads each into memory; and an error for a damaged
header, which `tarfile` treats as the end of the archive.
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
HEADER = 8192  # maximum bytes of an extended header (name, date, owner); `tarfile` before 3.11.10 needs quadratic time for one
EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
REJECTED = "only regular files and folders are allowed, so the archive is rejected; download it again from its publisher"


def members(path: Path, *, wanted: Callable[[str], bool], max_bytes: int, max_member: int) -> Iterator[tuple[str, bytes]]:
    """The name and the first `max_member` bytes of every regular file whose name is wanted.

    Args:
        max_bytes: limit on all unpacked bytes, including headers and unwanted members.

    Raises:
        InputError: if the file is not a .tar.gz archive, is truncated, contains anything but files and folders or a path outside
            the archive, or unpacks to more than `max_bytes`.
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
                    archive.members.clear()  # type: ignore[attr-defined]  # frees the headers
                    _check(member, path)
                    if member.isfile() and wanted(member.name):
                        content = archive.extractfile(member)
                        assert content is not None
                        yield member.name, content.read(max_member)
        except (tarfile.TarError, RecursionError) as error:
            raise InputError(f"{path} is not a .tar.gz archive, or is damaged ({error}); download it again") from None
        while unpacked.read(CHUNK):  # to the checksum of gzip at the end
            pass


class _Unpacked:
    """A file that raises InputError beyond a total number of bytes."""

    def __init__(self, unpacked: gzip.GzipFile, limit: int, path: Path) -> None:
        self.unpacked, self.limit, self.left, self.path = unpacked, limit, limit, path

    def read(self, count: int) -> bytes:
        try:
            data = self.unpacked.read(count)
        except EOFError:
            raise InputError(f"{self.path} is truncated; download it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{self.path} is not a .tar.gz archive, or is damaged ({error}); download it again") from None
        self.left -= len(data)
        if self.left < 0:
            raise InputError(
                f"{self.path} unpacks to more than max_bytes, {self.limit:,}; raise download.aclimdb.max_bytes if you trust it"
            )
        return data


class _Header(tarfile.TarInfo):
    """Raises ReadError for a damaged header, which `TarFile.next` would treat as the end of the archive."""

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
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # two blocks of zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"truncated, or with an invalid header: {error}") from None


def _check(member: tarfile.TarInfo, path: Path) -> None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise InputError(f"{path}: {member.name!r} is a path outside the archive; {REJECTED}")
    if member.size < 0:
        raise InputError(f"{path}: {member.name!r} has {member.size} bytes; {REJECTED}")
    if not (member.isfile() or member.isdir()) or member.issparse() or member.type not in tarfile.SUPPORTED_TYPES:
        kind = KINDS.get(member.type, "a sparse file" if member.issparse() else f"of the unknown type {member.type!r}")
        raise InputError(f"{path}: {member.name!r} is {kind}; {REJECTED}")
