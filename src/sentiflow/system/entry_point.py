"""How an entry point ends on an error: one line and an exit status for what a user can correct, a traceback for a bug."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator

from sentiflow.system import terminal
from sentiflow.system.errors import InputError, UnavailableError

TEMPORARY = os.EX_TEMPFAIL  # exit status: the same command may succeed later


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Exit the process with one message and no traceback if the block fails with an error that a user can correct.

    Exit status 75 for UnavailableError, which a scheduler may retry; 1 for any other InputError and for an OSError such as a
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
    if "temporary directory" in str(error.strerror):  # from Python's `tempfile`, if no candidate folder is writable
        return f"{error.strerror}: these disks may be full; free some space, or set TMPDIR to a folder on another, and run again"
    if error.errno is None:  # raised by Arrow
        return str(error)
    reason = {
        errno.ENOSPC: "the disk is full; free some space and run again, no partial output was kept",
        errno.EDQUOT: "the disk quota is used up; free some space and run again, no partial output was kept",
        errno.EACCES: "permission denied; make it readable and writable for this user and run again",
        errno.EPERM: "not permitted; make it readable and writable for this user and run again",
        errno.EROFS: "the file system is read-only; run from a writable folder",
        errno.ENOENT: "no such file or folder; check the path, or run `dvc repro` so that an earlier stage creates it",
        errno.EEXIST: "this is a file where a folder was expected; move it away and run again",
        errno.EISDIR: "this is a folder where a file was expected",
        errno.ENOTDIR: "this is a file where a folder was expected",
    }.get(error.errno, os.strerror(error.errno))
    path = error.filename2 or error.filename  # of a rename, its target
    return f"{path}: {reason}" if path else reason
