"""Processes of a test, and waiting for what they do. Whatever ends between two looks is none of those found."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil


@contextlib.contextmanager
def heeding_signals():
    """What is started within the block is ended by Ctrl-C and a closed terminal, as what a user starts.

    A shell that starts the tests in the background has them ignore the first, `nohup` the second, and so would their children.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def that(is_one, but=()):
    """All that live and of which `is_one` holds, except this process and those of the ids in `but`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in {os.getpid(), *but} and is_one(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def working_in(folder, word=None):
    """All that work in the folder; with `word` only those whose command has it as one of its words."""
    return that(lambda process: process.cwd() == str(folder) and (word is None or word in process.cmdline()))


def working_below(folder, word=None):
    """The same of the folder and all folders in it."""
    return that(lambda process: Path(process.cwd()).is_relative_to(folder) and (word is None or word in process.cmdline()))


def with_variable(name, value):
    """All whose environment had this variable with this value when they began."""
    return that(lambda process: process.environ().get(name) == value)


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command(process):
    """The words of its command; none where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def listening(found):
    """The addresses at which they listen."""
    ids = {process.pid for process in found}
    return {each.laddr for each in psutil.net_connections("inet") if each.pid in ids and each.status == psutil.CONN_LISTEN}


def kill(found):
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_all(find):
    """As a power cut: kills what `find` gives until it gives nothing."""
    while found := find():
        kill(found)


def wait_until(condition, seconds=60.0, glance=0.05, told=lambda: "it never came to pass"):
    """What `condition` gives as soon as it is true; fails with what `told` says where that takes longer than `seconds`."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, told()
        time.sleep(glance)
    return value
