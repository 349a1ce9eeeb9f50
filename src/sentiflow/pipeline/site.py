"""Where DVC keeps its indexes of this project: pickles, in a folder that anyone can write to unless it is told another one."""

import os
import shutil
from pathlib import Path

VARIABLE = "DVC_SITE_CACHE_DIR"


def environment() -> dict[str, str]:
    """The variable that names the folder, as it is set, or else a private folder of this user in the project."""
    if VARIABLE in os.environ or not Path(".dvc").is_dir():
        return {}
    return {VARIABLE: str(private(Path(f".dvc/tmp/site-{os.getuid()}").absolute()))}


def private(folder: Path) -> Path:
    """Makes the folder this user's alone. What another user could have written to before is removed: DVC rebuilds it."""
    if folder.is_symlink():
        folder.unlink()
    if folder.exists():
        found = folder.stat()
        if found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    return folder
