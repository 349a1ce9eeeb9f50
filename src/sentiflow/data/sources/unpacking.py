"""Opens a possibly compressed file. The compression is detected from the content, not from the name."""

import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from sentiflow.system.errors import InputError

MAGIC = 16  # bytes that identify the file format
COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": lambda file: bz2.BZ2File(file),
    b"\xfd7zXZ\x00": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 the caller closes it
}
ZIP, PARQUET, OLD_EXCEL = b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0"
WORKBOOKS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")  # members of a spreadsheet, which is a zip file
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)
CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b")  # control bytes that are rare in text
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Unpacked(NamedTuple):
    file: IO[bytes]  # decompressed
    name: str  # without the suffix of the compression, such as reviews.jsonl
    is_parquet: bool
    on_disk: IO[bytes]  # compressed


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """Opens a file and decompresses it while it is read.

    Raises:
        InputError: if the file is a spreadsheet, a zip archive of several files, or damaged (which may only show during reading).
    """
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        on_disk, start, name = file, file.read(MAGIC), path.name
        file.seek(0)
        if start.startswith(OLD_EXCEL):
            raise _spreadsheet(path)
        if start.startswith(ZIP):
            file, name = _only_member(file, path, stack)
        elif unpack := next((unpack for magic, unpack in COMPRESSED.items() if start.startswith(magic)), None):
            file, name = stack.enter_context(unpack(file)), path.stem
        try:
            yield Unpacked(file, name, start.startswith(PARQUET), on_disk)
        except DAMAGED as error:
            if not start.startswith((ZIP, *COMPRESSED)):
                raise
            raise InputError(f"{path} is damaged or truncated ({error}); download it again") from None


def _only_member(file: IO[bytes], path: Path, stack: contextlib.ExitStack) -> tuple[IO[bytes], str]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
        if any(each in WORKBOOKS for each in names):
            raise _spreadsheet(path)
        if len(names) != 1:
            raise InputError(
                f"{path} contains {len(names)} files, expected one; unpack it and set the location to the file of reviews"
            )
        return stack.enter_context(archive.open(names[0])), Path(names[0]).name
    except DAMAGED as error:
        raise InputError(
            f"{path} is damaged or uses an unsupported compression ({error}); download it again or unpack it"
        ) from None


def _spreadsheet(path: Path) -> InputError:
    return InputError(f"{path} is a spreadsheet; save it as CSV (UTF-8) and set the location to that file")


def require_text(path: Path, start: bytes, encoding: str) -> None:
    """Raises InputError if the first bytes of a file cannot be text in this encoding."""
    if "16" in encoding or "32" in encoding:
        return
    if start.startswith(UTF_16):
        raise InputError(f"{path} is UTF-16 text (it starts with a byte order mark); set encoding: utf-16")
    if sum(byte in CONTROLS for byte in start) > 0.05 * len(start):
        raise InputError(f"{path} is not a text file; expected CSV, TSV, JSON lines or Parquet, optionally compressed")
