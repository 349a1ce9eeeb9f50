"""Refuses to work on a folder with the code of another one."""

from pathlib import Path

from sentiflow.system.errors import InputError


def require() -> None:
    """Raises InputError if the working folder has a package of its own that is not the one that runs.

    So it is in a copy of a project while the environment of the original is active.
    """
    here, running = Path("src/sentiflow"), Path(__file__).parents[1]
    if here.is_dir() and not here.samefile(running):
        raise InputError(
            f"this environment runs the code of {running}, expected that of {here.absolute()}; use make, or activate the "
            "environment of this folder: make setup, then source .venv/bin/activate"
        )
