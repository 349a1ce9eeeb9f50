"""The files of a folder in which every file is a review."""

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from sentiflow.data.sources.source import Files
from sentiflow.system.errors import InputError


def contents(top: Path, paths: list[Path], *, max_bytes: int, max_member: int, key: str) -> Iterator[tuple[str, bytes]]:
    """The path below `top` and the content of each file, of a longer one the first `max_member` bytes.

    Args:
        key: of the source in params.yaml, for errors.

    Raises:
        InputError: if one is no plain file, or all together have more than `max_bytes`.
    """
    for path in tqdm(paths, desc=str(top), unit=" files", disable=None, delay=2):
        if not stat.S_ISREG(path.lstat().st_mode):  # a link may lead anywhere, and a fifo is waited for without end
            raise InputError(f"{path} is not a plain file, expected a review; remove it, or fetch the folder again")
        with path.open("rb") as file:
            content = file.read(max_member)
        max_bytes -= len(content)
        if max_bytes < 0:
            raise InputError(f"{top} holds more than download.{key}.max_bytes; if you trust it, raise that number")
        yield path.relative_to(top).as_posix(), content


def sha256_of(contents: Iterable[tuple[str, bytes]]) -> str:
    """One SHA-256 over the names and contents of all files."""
    whole = hashlib.sha256()
    for name, content in contents:
        whole.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def files(location: str, find: Callable[[], list[Path]], sha256: Callable[[], str]) -> Files:
    """The content of a folder, of which the download refuses nothing that `find` finds."""
    top = Path(location)
    return Files(str(top), [top], find, sha256, lambda found: None, what="the SHA-256 of its files")
