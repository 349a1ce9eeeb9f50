"""Refuses to work on a folder with the code of another one."""

from pathlib import Path

from sentiflow.system.errors import InputError

HERE, RUNNING = Path("src/sentiflow"), Path(__file__).parents[1]


def is_running() -> bool:
    """Whether the working folder has no package of its own, or its package is the one that runs."""
    return not HERE.is_dir() or HERE.samefile(RUNNING)


def require() -> None:
    """Raises InputError if the working folder has a package of its own that is not the one that runs.

    So it is in a copy of a project while the environment of the original is active.
    """
    if not is_running():
        raise InputError(
            f"this environment runs the code of {RUNNING}, expected that of {HERE.absolute()}; activate the environment of this "
            "folder: make setup, then source .venv/bin/activate"
        )
