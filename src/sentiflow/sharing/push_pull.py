"""Push data and models to the remote, or pull them from it: everything that dvc.lock and the .dvc files reference."""

import argparse

from sentiflow.pipeline import objects, recovery, repro
from sentiflow.system import locks, process_groups, terminal


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sentiflow.sharing.push_pull", description="Push to or pull from the remote.")
    parser.add_argument("what", choices=["push", "pull"])
    what = parser.parse_args().what
    process_groups.die_with_starter()
    terminal.show_log()
    with repro.errors_told():
        terminal.tell(push() if what == "push" else pull())


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


if __name__ == "__main__":
    main()
