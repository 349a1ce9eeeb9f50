"""What every stage script needs around its work: a log, its own lock, whole outputs or none, errors without tracebacks."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from sentiflow import quiet
from sentiflow.errors import InputError

log = logging.getLogger("sentiflow")

LOCK_PATIENCE = 600.0  # seconds a stage waits for another one that is still writing the same outputs


def run(main: Callable[..., None]) -> None:
    """Runs a stage script's `main` with its typed parameters as the command line.

    A mistake of the user's, or a refusal of the machine's (no space, no permission, no such file), ends in one message and
    exit status 1. Everything else is a fault of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="  %(message)s", stream=sys.stderr)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=(sys.modules[main.__module__].__doc__ or "").replace("\n", "\n\n"))(main)
    try:
        with quiet.chatter_dropped():
            app()
    except InputError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        _refuse(_explain(error))


def _refuse(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _explain(error: OSError) -> str:
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
    where = error.filename2 or error.filename  # of a rename, the place it was to get
    return f"{where}: {what}" if where else what


@contextlib.contextmanager
def writing(*targets: Path) -> Iterator[list[Path]]:
    """Gives a path beside each target to write to; all take their targets' places when the block ends well.

    The block holds a lock while it writes, so that a stage whose DVC was killed and a second run of the same stage cannot mix
    their outputs. The system releases the lock when the process dies, however it dies.
    """
    beside = [target.with_name(f".{target.name}.partial") for target in targets]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(targets[0].with_name(f".{targets[0].name}.lock")):
        for place in beside:
            _remove(place)
        try:
            yield beside
            for place, target in zip(beside, targets, strict=True):
                _replace(place, target)
        finally:
            for place in beside:
                _remove(place)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+") as file:
        started = time.monotonic()
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                if time.monotonic() - started > LOCK_PATIENCE:
                    raise InputError(
                        f"{path}: process {holder} has been writing the same outputs for over {LOCK_PATIENCE:.0f} s, probably "
                        f"left by a killed run; end it with `kill {holder}` and run again"
                    ) from None
                if not told:
                    log.warning("waiting for process %s, which still writes the same outputs", holder)
                    told = True
                time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _replace(place: Path, target: Path) -> None:
    if place.is_dir() and target.is_dir():  # a folder that is not empty cannot be renamed over
        old = target.with_name(f".{target.name}.old.partial")
        _remove(old)
        target.rename(old)
        place.rename(target)
        _remove(old)
    else:
        place.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
