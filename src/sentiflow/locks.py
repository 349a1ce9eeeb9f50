"""One at a time: an flock on a file, which the system releases when its holder dies, however it dies."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from sentiflow.errors import UnavailableError

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
    with path.open("a+") as file:

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
