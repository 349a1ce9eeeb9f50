"""How an entry point ends on an error: one line and an exit status for what a user can correct, a traceback for a bug."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator

from sentiflow.system import terminal
from sentiflow.system.errors import InputError, UnavailableError

TEMPORARY = os.EX_TEMPFAIL  # exit status that means: the same command may succeed later


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Exits the process with one message and no traceback if the block fails by an error that a user can correct.

    Exit status 75 for UnavailableError, which a scheduler may retry; 1 for every other InputError and for an OSError such as a
    full disk; 130 for Ctrl-C. Any other exception is a bug and keeps its traceback.
    """
    try:
        yield
    except UnavailableError as error:
        terminal.refuse(str(error), TEMPORARY)
    except InputError as error:
        terminal.refuse(str(error))
    except OSError as error:
        if error.errno is None and not isinstance(error, FileNotFoundError):
            raise
        terminal.refuse(_explain(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


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
