"""Folders with one file per review."""

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from sentiflow.data.sources.source import Files
from sentiflow.system.errors import InputError


def contents(top: Path, paths: list[Path], *, max_bytes: int, max_member: int, key: str) -> Iterator[tuple[str, bytes]]:
    """The path below `top` and the first `max_member` bytes of each file.

    Args:
        max_bytes: of all files together.
        key: name of the source in params.yaml, for errors.

    Raises:
        InputError: if one is not a regular file, or the files exceed `max_bytes`.
    """
    for path in tqdm(paths, desc=str(top), unit=" files", disable=None, delay=2):
        if not stat.S_ISREG(path.lstat().st_mode):  # a symbolic link could point anywhere, and reading a FIFO blocks
            raise InputError(f"{path} is not a regular file, expected a review; remove it, or download the folder again")
        with path.open("rb") as file:
            content = file.read(max_member)
        max_bytes -= len(content)
        if max_bytes < 0:
            raise InputError(f"{top} exceeds download.{key}.max_bytes; raise that limit if you trust the folder")
        yield path.relative_to(top).as_posix(), content


def sha256_of(contents: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 over the names and contents of all files."""
    digest = hashlib.sha256()
    for name, content in contents:
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def files(location: str, find: Callable[[], list[Path]], read: Callable[[], Iterable[tuple[str, bytes]]]) -> Files:
    """The content of a folder; the download accepts whatever `find` returns."""
    top = Path(location)
    return Files(str(top), [top], find, lambda: sha256_of(read()), lambda _: None, what="the SHA-256 of its files")
