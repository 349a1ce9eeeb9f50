"""Atomic file writes: a reader, or a run after a crash, finds the old content or the new content, never a part of it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to the target if the block succeeds."""
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write(target: Path, text: str) -> None:
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def overlap(path: Path | str, other: Path | str) -> bool:
    """Whether two paths are equal or one is inside the other."""
    return all(one == two for one, two in zip(Path(path).parts, Path(other).parts, strict=False))


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
