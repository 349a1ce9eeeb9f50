"""Runs several services in one terminal: one output stream, stopped together.

Each service runs under a wrapper process (`python -m services.supervise`), which stops it when the supervisor is gone. So nothing
outlives the supervisor, however that ended.
"""

import contextlib
import ctypes
import functools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from honcho import manager
from pydantic import BaseModel

from sentiflow.system import entry_point, locks, process_groups, terminal
from sentiflow.system.errors import InputError

MARK = "SENTIFLOW_WRAPPER"  # environment variable of everything that a wrapper started, directly or not
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
POLL = 0.3  # seconds
PORTS = 100  # ports to try if none is given
LEFTOVERS = 30.0  # seconds for the wrappers of a killed supervisor to stop their services


class Shutdown(BaseModel):
    """How a service is stopped."""

    timeout: float = 5.0  # seconds from the signal to SIGKILL
    lock: Path | None = None  # held until the service has ended
    after: tuple[Path, ...] = ()  # locks of the services that end before this one
    after_timeout: float = 0.0  # seconds to wait for them
    children_first: bool = False  # stop its child processes first, while it can still report how they ended
    interrupt: bool = False  # SIGINT instead of SIGTERM


def wrap(supervisor: int, shutdown: Shutdown, command: list[str]) -> int:
    """Runs a service until it ends, a signal comes or the supervisor is gone; then stops everything that it started.

    Returns:
        Exit status of the service.
    """
    received: list[int] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(process_groups.signals_to(lambda number, _: received.append(number)))
        if shutdown.lock is not None:
            stack.enter_context(locks.locked(shutdown.lock, patience=POLL))  # `is_free` may hold it for a moment
        mark = f"{os.getpid()}:{time.time_ns()}:{Path.cwd()}"
        stop_signal = signal.SIGINT if shutdown.interrupt else signal.SIGTERM
        service = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=os.environ | {MARK: mark},
            process_group=0,
            preexec_fn=functools.partial(die_with_parent, stop_signal),  # if this wrapper is killed
        )
        stack.callback(service.kill)  # PostgreSQL's process title overwrites its environment, and the mark with it
        stack.callback(_kill_marked, mark.__eq__)
        wait_until(lambda: service.poll() is not None or bool(received) or not is_alive(supervisor))
        if shutdown.after and service.poll() is None:
            wait_until(lambda: all(is_free(lock) for lock in shutdown.after), shutdown.after_timeout)
        if shutdown.children_first and service.poll() is None:
            children = psutil.Process(service.pid).children()
            for child in children:
                child.terminate()
            wait_until(lambda: not any(child.is_running() for child in children) or len(received) > 1, shutdown.timeout)
        if service.poll() is None:
            service.send_signal(stop_signal)
            wait_until(lambda: service.poll() is not None or len(received) > 1, shutdown.timeout)
    status = service.wait()
    return status if status >= 0 else 128 - status  # as a shell reports a signal


class Services(manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Runs services until one ends or a signal comes; each output line is prefixed with the name of its service."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.environment = {**environment, "PYTHONUNBUFFERED": "1"}  # output appears line by line
        self._timeout = 0.0

    def add(self, name: str, command: list[str], shutdown: Shutdown) -> None:
        """Adds a service; `run` starts all of them."""
        own = [name, str(os.getpid()), shutdown.model_dump_json()]
        wrapper = [sys.executable, "-m", "services.supervise", *own, *command]
        self.add_process(name, f"exec {shlex.join(wrapper)}", env=self.environment)
        self._timeout += shutdown.timeout + shutdown.after_timeout

    def has_any(self) -> bool:
        return bool(self._processes)

    def run(self) -> None:
        """Raises SystemExit when all have ended; the status is never 0, since no service ends by itself."""
        _kill_marked(_is_orphan)
        manager.KILL_WAIT = self._timeout  # longer than any wrapper takes
        self.loop()
        sys.exit(self.returncode or 1)


def die_with_parent(number: int) -> None:
    """Has the kernel send this process a signal when its parent dies, until it changes its user. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def wait_until(condition: Callable[[], bool], timeout: float = float("inf")) -> bool:
    """Polls until a condition is true; False if it is still false after `timeout` seconds."""
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(POLL)
    return True


def require_free_port(host: str, port: int, variable: str, user: str) -> None:
    """Raises InputError if the port is in use; the message names the option or variable that sets another one.

    Args:
        user: what needs the port.
    """
    if reason := _bind_error(host, port):
        raise InputError(
            f"{user} cannot use port {port} of {host}: {reason}; end what uses it, or choose another: {variable}={port + 1}"
        )


def next_free_port(host: str, first: int, variable: str, user: str) -> int:
    """The first free port from `first` on; prints it if it is another one."""
    port = next((port for port in range(first, min(first + PORTS, 65536)) if not _bind_error(host, port)), first)
    require_free_port(host, port, variable, user)
    if port != first:
        print(f"port {first} is in use, so {user} uses port {port}", flush=True)
    return port


def _bind_error(host: str, port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror
    return None


def is_free(lock: Path) -> bool:
    """Whether no process holds the lock."""
    try:
        with locks.locked(lock, patience=0):
            return True
    except locks.BusyError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process runs and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_orphan(mark: str) -> bool:
    """Whether the wrapper that set a mark was started in this folder and is gone."""
    wrapper, _, folder = mark.split(":", 2)
    return folder == str(Path.cwd()) and not is_alive(int(wrapper))


def _kill_marked(matches: Callable[[str], bool]) -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            mark = process.environ().get(MARK)
            if mark and matches(mark):
                process.kill()


if __name__ == "__main__":
    _, _name, supervisor_id, policy, *words = sys.argv  # the name is for the list of processes
    terminal.show_log("%(message)s")
    with entry_point.handled():
        sys.exit(wrap(int(supervisor_id), Shutdown.model_validate_json(policy), words))
