"""Find processes, and wait for conditions. Processes that end during a search are not found."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil


@contextlib.contextmanager
def heeding_signals():
    """Start processes within the block with the default handlers of SIGINT and SIGHUP.

    Tests that a shell runs in the background ignore the first, with `nohup` the second, and children inherit that.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def that(is_one, but=()):
    """All running processes for which `is_one` is true, except this process and the ids in `but`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in {os.getpid(), *but} and is_one(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def working_in(folder, word=None):
    """All processes with this working folder and, if given, with `word` as an argument."""
    return that(lambda process: process.cwd() == str(folder) and (word is None or word in process.cmdline()))


def working_below(folder, word=None):
    """All processes with a working folder inside this folder and, if given, with `word` as an argument."""
    return that(lambda process: Path(process.cwd()).is_relative_to(folder) and (word is None or word in process.cmdline()))


def with_variable(name, value):
    """All processes started with this environment variable."""
    return that(lambda process: process.environ().get(name) == value)


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command(process):
    """Command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def listening(found):
    """Addresses on which these processes listen."""
    ids = {process.pid for process in found}
    return {each.laddr for each in psutil.net_connections("inet") if each.pid in ids and each.status == psutil.CONN_LISTEN}


def kill(found):
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_all(find):
    """Kill the processes that `find` returns until it returns none."""
    while found := find():
        kill(found)


def wait_until(condition, seconds=60.0, glance=0.05, message=lambda: "timeout"):
    """Value of `condition` as soon as it is true. Fails with `message()` after `seconds`."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, message()
        time.sleep(glance)
    return value
