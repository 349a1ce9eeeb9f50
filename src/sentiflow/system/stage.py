"""Common parts of every stage script: log, lock, atomic outputs, errors without tracebacks."""

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
    """Run the `main` of a stage script; its typed parameters define the command line."""
    process_groups.die_with_starter()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=(sys.modules[main.__module__].__doc__ or "").replace("\n", "\n\n"))(main)
    with entry_point.handled(), tensorflow_log.chatter_dropped():
        # inside the filter, so that log and progress bars use the same stream and keep their order
        terminal.show_log(force=True)
        own_code.require()
        threads.limit(1)  # so that no result depends on the number of cores or of parallel stages
        app()


@contextlib.contextmanager
def writing(*targets: Path) -> Iterator[list[Path]]:
    """Yield a temporary path next to each target; rename all of them to their targets if the block succeeds.

    The block holds a lock, so that a stage whose DVC was killed and a second run of the same stage cannot mix their outputs.
    """
    partials = [working_files(target)[0] for target in targets]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(lock_of(targets[0])):
        _clear(targets)
        try:
            yield partials
            pairs = list(zip(partials, targets, strict=True))
            for partial, target in pairs:  # before the first is replaced, so that all are replaced or none
                _check(partial, target)
            for partial, target in pairs:
                _replace(partial, target)
        finally:
            _clear(targets)


def lock_of(target: Path) -> Path:
    """Lock file of a target, in the cache of the working folder."""
    digest = hashlib.sha256(os.fsencode(target.parent.resolve() / target.name)).hexdigest()
    return LOCKS / f"{target.name[:40]}-{digest[:16]}.lock"


def working_files(target: Path) -> tuple[Path, Path]:
    """Temporary paths of a target's new and old content. Files left there by a killed run are removed."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old.partial")


def _clear(targets: Iterable[Path]) -> None:
    for target in targets:
        for path in working_files(target):
            files.remove(path)


def _check(partial: Path, target: Path) -> None:
    if not os.path.lexists(partial):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(partial))
    if partial.is_file() and target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if partial.is_dir() and os.path.lexists(target) and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))


def _replace(partial: Path, target: Path) -> None:
    if partial.is_dir() and target.is_dir():  # a rename cannot replace a folder with files
        target.rename(working_files(target)[1])
        partial.rename(target)
    else:
        partial.replace(target)
