"""Opens a file of rows whatever it is packed in, by what it holds and not by its name."""

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

MAGIC = 16  # bytes that say what a file is
PACKED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": lambda file: bz2.BZ2File(file),
    b"\xfd7zXZ\x00": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 the caller closes it
}
ZIP, PARQUET, OLD_EXCEL = b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0"
WORKBOOKS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")  # in the zip file that a spreadsheet is
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)
CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b")  # bytes that text hardly ever has
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Unpacked(NamedTuple):
    file: IO[bytes]  # unpacked
    name: str  # without what it is packed in, such as reviews.jsonl
    is_parquet: bool
    on_disk: IO[bytes]  # packed


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """The content of a file, unpacked while it is read; what is packed must be one file.

    Raises:
        InputError: if the file is a spreadsheet, a zip file of several files, or damaged. Damage shows while it is read.
    """
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        on_disk = file
        start, name = _start(file), path.name
        if start.startswith(OLD_EXCEL):
            raise _spreadsheet(path)
        if start.startswith(ZIP):
            file, name = _only_member(file, path, stack)
        elif unpack := next((unpack for magic, unpack in PACKED.items() if start.startswith(magic)), None):
            file, name = stack.enter_context(unpack(file)), path.stem
        try:
            yield Unpacked(file, name, start.startswith(PARQUET), on_disk)
        except DAMAGED as error:
            if not start.startswith((ZIP, *PACKED)):
                raise
            raise InputError(f"{path} is damaged or cut ({error}); fetch it again") from None


def _start(file: IO[bytes]) -> bytes:
    start = file.read(MAGIC)
    file.seek(0)
    return start


def _only_member(file: IO[bytes], path: Path, stack: contextlib.ExitStack) -> tuple[IO[bytes], str]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
        if any(each in WORKBOOKS for each in names):
            raise _spreadsheet(path)
        if len(names) != 1:
            raise InputError(
                f"{path} holds {len(names)} files, expected one; unpack it, and set the location to the file of reviews"
            )
        return stack.enter_context(archive.open(names[0])), Path(names[0]).name
    except DAMAGED as error:
        raise InputError(f"{path} is damaged, or packed in a way that cannot be read ({error}); fetch or unpack it") from None


def _spreadsheet(path: Path) -> InputError:
    return InputError(f"{path} is a spreadsheet; save it there as CSV (UTF-8), and set the location to that file")


def require_text(path: Path, start: bytes, encoding: str) -> None:
    """Raises InputError if the first bytes of a file are not those of text in an encoding like this one."""
    if "16" in encoding or "32" in encoding:
        return
    if start.startswith(UTF_16):
        raise InputError(f"{path} is UTF-16 text (as its first two bytes say); set encoding: utf-16")
    if sum(byte in CONTROLS for byte in start) > 0.05 * len(start):
        raise InputError(f"{path} is no text file; expected CSV, TSV, JSON lines or Parquet, which may be compressed")
