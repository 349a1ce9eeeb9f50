"""One at a time: an flock on a file, which the system releases when its holder dies, however it dies."""

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

PATIENCE = 600.0  # seconds to wait for another process before giving up


class BusyError(UnavailableError):
    """Another process is at work and holds a lock."""


@contextlib.contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Holds the lock within the block, and notes this process's id in the file.

    Args:
        patience: seconds to wait for another process; without it PATIENCE.

    Raises:
        BusyError: if another process holds it for longer, naming that process.
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
        file.write(f" {os.getpid()}\n")  # as DVC writes its own
        file.flush()
        yield


def _opened(path: Path) -> IO[str]:
    """For reading and writing; made where there is none. A link is not followed: what it points to would be emptied."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # a fifo is not waited for
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path} is a link, expected a file of this project's own; remove it and run again") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no plain file, expected one of this project's own; remove it and run again")
    return os.fdopen(descriptor, "r+")


def wait_for(holder: Callable[[], str | None], patience: float | None = None) -> None:
    """Waits until `holder` names nobody any more, and says once whom it waits for.

    Raises:
        BusyError: if it still names somebody after that many seconds.
    """
    patience = PATIENCE if patience is None else patience
    started = time.monotonic()
    told = None
    while name := holder():
        if time.monotonic() - started >= patience:
            since = f" for over {patience:.0f} s" if patience else ""
            raise BusyError(
                f"{name} has been at work in this project{since}, and two runs at once would be in each other's way; "
                "wait until it ends, or end it with `kill`, then run again"
            )
        process = name.split(" (")[0]
        if process != told:
            log.warning("waiting for %s, which is at work in this project", name)
            told = process
        time.sleep(0.2)


def described(pid: str) -> str:
    """A process by its id and command line, as far as the system tells."""
    if not pid.strip().isdigit():
        return "another process"
    try:
        return f"process {int(pid)} ({' '.join(psutil.Process(int(pid)).cmdline())[:120]})"
    except psutil.Error:
        return f"process {int(pid)}"
