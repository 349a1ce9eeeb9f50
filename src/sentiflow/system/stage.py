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

from sentiflow.system import files, locks, own_code, process_groups, tensorflow_log, terminal, threads
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

LOCKS = Path(".cache/locks")
TEMPORARY = os.EX_TEMPFAIL  # exit status that means: the same again may work later


def run(main: Callable[..., None]) -> None:
    """Runs a stage script's `main` with its typed parameters as the command line.

    A mistake of the user's, or a refusal of the machine's (no space, no permission, no such file), ends in one message and
    exit status 1; what is outside and does not answer, in one message and exit status 75, which a scheduler may try again.
    Everything else is a fault of ours and keeps its traceback.
    """
    process_groups.die_with_starter()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=(sys.modules[main.__module__].__doc__ or "").replace("\n", "\n\n"))(main)
    try:
        with tensorflow_log.chatter_dropped():
            # here, so that log and progress bars take the same way and keep their order
            terminal.show_log(force=True)
            own_code.require()
            threads.limit(1)  # so that no result follows from the number of cores, or of stages at work
            app()
    except UnavailableError as error:
        terminal.refuse(str(error), TEMPORARY)
    except InputError as error:
        terminal.refuse(str(error))
    except OSError as error:
        if error.errno is None and not isinstance(error, FileNotFoundError):
            raise
        terminal.refuse(_explain(error))


def _explain(error: OSError) -> str:
    if "temporary directory" in str(error.strerror):  # Python's `tempfile`, which can write to none of its candidates
        return f"{error.strerror}: these disks may be full; free some space, or set TMPDIR to a folder on another, and run again"
    what = {
        errno.ENOSPC: "the disk is full; free some space and run again, nothing half written was kept",
        errno.EDQUOT: "the disk quota is used up; free some space and run again, nothing half written was kept",
        errno.EACCES: "permission denied; make it readable and writable for this user and run again",
        errno.EPERM: "not permitted; make it readable and writable for this user and run again",
        errno.EROFS: "the file system is read-only; run from a folder that can be written",
        errno.ENOENT: "no such file or folder; check the path, or run `dvc repro` so that the stage before makes it",
        errno.EEXIST: "this is a file where a folder was expected; move it away and run again",
        errno.EISDIR: "this is a folder where a file was expected",
        errno.ENOTDIR: "this is a file where a folder was expected",
    }.get(error.errno or 0, os.strerror(error.errno or 0))
    if error.errno is None:  # Arrow's
        return str(error)
    where = error.filename2 or error.filename  # of a rename, the place it was to get
    return f"{where}: {what}" if where else what


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
