"""What every stage script needs around its work: a log, its own lock, whole outputs or none, errors without tracebacks."""

import contextlib
import errno
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import typer

from sentiflow.system import entry_point, files, locks, own_code, process_groups, tensorflow_log, terminal, threads

log = logging.getLogger("sentiflow")

LOCKS = Path(".cache/locks")


def run(main: Callable[..., None]) -> None:
    """Runs a stage script's `main` with its typed parameters as the command line."""
    process_groups.die_with_starter()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=(sys.modules[main.__module__].__doc__ or "").replace("\n", "\n\n"))(main)
    with entry_point.handled(), tensorflow_log.chatter_dropped():
        # here, so that log and progress bars take the same way and keep their order
        terminal.show_log(force=True)
        own_code.require()
        threads.limit(1)  # so that no result follows from the number of cores, or of stages at work
        app()


@contextlib.contextmanager
def writing(*targets: Path) -> Iterator[list[Path]]:
    """Gives a path beside each target to write to; all take their targets' places when the block ends well.

    The block holds a lock while it writes, so that a stage whose DVC was killed and a second run of the same stage cannot mix
    their outputs. The system releases the lock when the process dies, however it dies.
    """
    beside = [working_files(target)[0] for target in targets]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(lock_of(targets[0])):
        _clear(targets)
        try:
            yield beside
            pairs = list(zip(beside, targets, strict=True))
            for place, target in pairs:  # before the first is replaced, so that it is all of them or none
                _check(place, target)
            for place, target in pairs:
                _replace(place, target)
        finally:
            _clear(targets)


def lock_of(target: Path) -> Path:
    """The lock of a target: in the working folder's cache, so that none lies in a folder that people open."""
    place = hashlib.sha256(os.fsencode(target.parent.resolve() / target.name)).hexdigest()
    return LOCKS / f"{target.name[:40]}-{place[:16]}.lock"


def working_files(target: Path) -> tuple[Path, Path]:
    """The names next to a target under which its new and its old content exist for a while; what is there is removed."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old.partial")


def _clear(targets: Iterable[Path]) -> None:
    for target in targets:
        for path in working_files(target):
            files.remove(path)


def _check(place: Path, target: Path) -> None:
    if not os.path.lexists(place):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    if place.is_file() and target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if place.is_dir() and os.path.lexists(target) and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))


def _replace(place: Path, target: Path) -> None:
    if place.is_dir() and target.is_dir():  # a folder that is not empty cannot be renamed over
        target.rename(working_files(target)[1])
        place.rename(target)
    else:
        place.replace(target)
