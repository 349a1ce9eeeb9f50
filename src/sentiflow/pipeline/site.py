"""Folder of DVC's indexes of this project, which are pickles: by default other users can write to it."""

import os
import shutil
from pathlib import Path

VARIABLE = "DVC_SITE_CACHE_DIR"


def environment() -> dict[str, str]:
    """The variable that makes DVC use a private folder in the project; empty if the user has set it."""
    if VARIABLE in os.environ or not Path(".dvc").is_dir():
        return {}
    return {VARIABLE: str(private(Path(f".dvc/tmp/site-{os.getuid()}").absolute()))}


def private(folder: Path) -> Path:
    """Creates a folder that only this user can access; one that others could write to is removed first, DVC rebuilds it."""
    if folder.is_symlink():
        folder.unlink()
    if folder.exists():
        found = folder.stat()
        if found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    return folder
