"""Upload data and models to the remote, or download them: everything that dvc.lock and the .dvc files reference."""

from sentiflow.pipeline import objects, recovery
from sentiflow.system import locks


def push() -> str:
    """Returns a summary for the user, as does `pull`."""
    with objects.opened() as project:
        name = project.remote().name
        return f"Pushed {_files(project.push())} to {name}."


def pull() -> str:
    # no stage may read files that are being replaced
    with locks.locked(recovery.TMP / "sentiflow.lock"):
        with recovery.dvc_at_rest():
            pass
        with objects.opened() as project:
            name = project.remote().name
            return f"Pulled {_files(project.pull())} from {name}; this folder is up to date with dvc.lock."


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
