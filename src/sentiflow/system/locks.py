"""Lock files: an flock, which the system releases when the process that holds it ends, even after SIGKILL."""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

PATIENCE = 600.0  # default timeout in seconds


class BusyError(UnavailableError):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold a lock within the block, and write the id of this process to the lock file.

    Args:
        patience: timeout in seconds; by default PATIENCE.

    Raises:
        BusyError: if another process, which the message names, holds the lock for longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as file:

        def holder() -> str | None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                return described(file.read())
            return None

        wait_for(holder, patience)
        file.seek(0)
        file.truncate()
        file.write(f" {os.getpid()}\n")  # the format of DVC's own lock files
        file.flush()
        yield


def _opened(path: Path) -> IO[str]:
    """Open or create a lock file. A symbolic link is refused, since its target would be truncated."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO does not block
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path} is a symbolic link, expected a regular file; delete it and run again") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is not a regular file; delete it and run again")
    return os.fdopen(descriptor, "r+")


def wait_for(holder: Callable[[], str | None], patience: float | None = None) -> None:
    """Wait until `holder` returns None; log once for each process it names.

    Raises:
        BusyError: after `patience` seconds.
    """
    patience = PATIENCE if patience is None else patience
    started = time.monotonic()
    logged = None
    while name := holder():
        if time.monotonic() - started >= patience:
            waited = f" after {patience:.0f} s" if patience else ""
            raise BusyError(
                f"{name} is still running in this project{waited}, and only one run at a time is possible; "
                "wait until it ends, or stop it with `kill`, then run again"
            )
        process = name.split(" (")[0]
        if process != logged:
            log.warning("waiting for %s, which is running in this project", name)
            logged = process
        time.sleep(0.2)


def described(pid: str) -> str:
    """Id and command line of a process, as far as they are known."""
    if not pid.strip().isdigit():
        return "another process"
    try:
        return f"process {int(pid)} ({' '.join(psutil.Process(int(pid)).cmdline())[:120]})"
    except psutil.Error:
        return f"process {int(pid)}"
