"""Refuse to run the code of one project in the folder of another."""

from pathlib import Path

from sentiflow.system.errors import InputError

HERE, RUNNING = Path("src/sentiflow"), Path(__file__).parents[1]


def is_running() -> bool:
    """Whether the running package is that of the working folder, or the folder has none."""
    return not HERE.is_dir() or HERE.samefile(RUNNING)


def require() -> None:
    """Raise InputError if the working folder has its own package, but another one is running.

    This happens in a copy of a project while the environment of the original is active.
    """
    if not is_running():
        raise InputError(
            f"this environment runs the code of {RUNNING}, expected that of {HERE.absolute()}; activate the environment of this "
            "folder: make setup, then source .venv/bin/activate"
        )
