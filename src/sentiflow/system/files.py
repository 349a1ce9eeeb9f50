"""Writes files so that a reader, or a run after a crash, finds the old content or the new one and never a part of it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Gives a path next to the target to write to, on the same file system; renames it to the target if the block succeeds."""
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write(target: Path, text: str) -> None:
    """Replaces the content of a file, or creates it."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def overlap(path: Path | str, other: Path | str) -> bool:
    """Whether two paths are the same, or one is in the other."""
    return all(part == beside for part, beside in zip(Path(path).parts, Path(other).parts, strict=False))


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder; nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
