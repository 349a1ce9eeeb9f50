"""Checks of paths and hashes that could make DVC write, link or delete outside the project.

dvc.lock, .dvc files and the list of files of a folder contain paths and hashes, and DVC follows them: `..` in a list leaves the
project, `.git/hooks` as an output is code that git runs, and a path may pass through a symbolic link that git tracks.
"""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sentiflow.system import git
from sentiflow.system.errors import InputError

HASH = "md5"
LIST = ".dir"  # suffix of the hash of a folder's list of files
MAX_LIST_BYTES = 100_000_000  # about a million files
RESERVED = (".git", ".dvc")  # their hooks and settings are commands to run


class UnsafeError(InputError):
    """A path or a hash leads out of the project, or into the folders of git or DVC."""


def require_path(path: str) -> None:
    """Raises UnsafeError unless the path stays inside the folder that it is relative to, on every operating system."""
    parts = path.split("/")
    if "\0" in path or "\\" in path or re.match("[A-Za-z]:", path) or not {"", ".", ".."}.isdisjoint(parts):
        raise UnsafeError(f"{path!r} is not a plain relative path")
    if any(part.casefold() in RESERVED for part in parts):
        raise UnsafeError(f"{path!r} is in {' or '.join(RESERVED)}, which belong to git and DVC")


def require_hash(oid: str, *, is_file: bool = False) -> None:
    """Raises UnsafeError unless this is an MD5 hash: DVC builds a cache path from it."""
    if not re.fullmatch(r"[0-9a-f]{32}" if is_file else r"[0-9a-f]{32}(\.dir)?", oid):
        raise UnsafeError(f"{oid[:80]!r} is not an MD5 hash")


def require_unlinked(root: Path, path: str, *, is_folder: bool = False) -> None:
    """Raises UnsafeError if a parent of the path is a symbolic link; a file itself may be a link into DVC's cache."""
    parts = Path(path).parts
    for count in range(1, len(parts) + is_folder):
        parent = Path(*parts[:count])
        if (root / parent).is_symlink():
            raise UnsafeError(f"{path!r} passes through the symbolic link {str(parent)!r}; replace the link by a folder")


def require_links_inside(folder: Path) -> None:
    """Raises UnsafeError if git tracks a symbolic link that leads out of this checkout."""
    tracked = git.ask("ls-files", "--stage", "-z", folder=folder, errors="surrogateescape")
    top = folder.resolve()
    for entry in filter(None, tracked.split("\0")):
        mode, _, path = entry.partition("\t")
        if mode.startswith("120000") and not (folder / path).resolve().is_relative_to(top):
            raise UnsafeError(f"the commit has a symbolic link that leads out of the project: {path!r}")


def files_in(content: bytes, oid: str) -> dict[str, str] | None:
    """The hash of each file in a folder's list, by path; None if the content does not have the list's hash.

    Raises:
        UnsafeError: if it has, but DVC cannot have written it.
    """
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != oid.removesuffix(LIST):
        return None
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError):
        raise UnsafeError("it is not JSON") from None
    return files_of_entries(listed)


def files_of_entries(listed: Any) -> dict[str, str]:
    """The hash of each entry of a list, by path.

    Raises:
        UnsafeError: if an entry leads out of the folder, or is not a path with a hash.
    """
    found: dict[str, str] = {}
    if not isinstance(listed, list):
        raise UnsafeError("it is not a list of files")
    for entry in listed:
        path, oid = (entry.get("relpath"), entry.get(HASH)) if isinstance(entry, dict) else (None, None)
        if not isinstance(path, str) or not isinstance(oid, str):
            raise UnsafeError(f"{str(entry)[:80]!r} has no path and hash")
        require_path(path)
        require_hash(oid, is_file=True)
        if path in found:
            raise UnsafeError(f"{path!r} is listed twice")
        found[path] = oid
    return found


def require_files_unlinked(root: Path, folder: str, files: Collection[str]) -> None:
    """Raises UnsafeError if files of a folder output would be written through a symbolic link."""
    for parent in sorted({str((Path(folder) / file).parent) for file in files}):
        require_unlinked(root, parent, is_folder=True)
