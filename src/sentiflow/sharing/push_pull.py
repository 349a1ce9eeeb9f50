"""Push data and models to the remote, or pull them from it: everything that dvc.lock and the .dvc files reference."""

from sentiflow.pipeline import objects, recovery
from sentiflow.system import locks


def push() -> str:
    with objects.opened() as project:
        name = project.remote().name
        return f"Pushed {_files(project.push())} to {name}."


def pull() -> str:
    # no stage may read what is about to be replaced
    with locks.locked(recovery.TMP / "sentiflow.lock"):
        with recovery.dvc_at_rest():
            pass
        with objects.opened() as project:
            name = project.remote().name
            return f"Pulled {_files(project.pull())} from {name}; this folder holds what dvc.lock names."


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
