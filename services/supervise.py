"""Services side by side in one terminal, their output in one stream, ended together.

Nothing outlives the supervisor, however it ended: each service stands under a holder, which ends the service when the supervisor
is gone.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from honcho import manager

from sentiflow.system import entry_point, locks, process_groups, terminal
from sentiflow.system.errors import InputError

MARK = "SENTIFLOW_HOLDER"  # environment variable of all that a holder started, directly or not
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
GLANCE = 0.3  # seconds between two looks at whether anything ended
PORTS = 100  # ports to try, where none is given
LEFT_OVER = 30.0  # seconds to wait for what a supervisor that was killed leaves to its holders


@dataclass(frozen=True)
class Ending:
    """How a service is ended."""

    patience: float = 5.0  # seconds to end by itself
    lock: Path | None = None  # held until it has ended
    after: tuple[Path, ...] = ()  # the locks of those that are to end before it
    wait: float = 0.0  # seconds that it waits for them
    children_first: bool = False  # while it is there to tell how they ended
    interrupt: bool = False  # by SIGINT, else by SIGTERM

    def as_options(self) -> list[str]:
        """For the command line of a holder."""
        options = [f"--patience={self.patience}", f"--wait={self.wait}", *(f"--after={each}" for each in self.after)]
        options += [f"--lock={self.lock}"] * (self.lock is not None)
        return options + ["--children-first"] * self.children_first + ["--interrupt"] * self.interrupt


def main(
    name: str,  # for whoever looks at the list of processes
    supervisor: int,
    command: list[str],
    patience: float = 5.0,
    lock: Path | None = None,
    after: Annotated[list[Path] | None, typer.Option()] = None,
    wait: float = 0.0,
    children_first: bool = False,
    interrupt: bool = False,
) -> None:
    """Run one service until it ends, a signal comes or the supervisor is gone; then end all that it started."""
    received: list[int] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(process_groups.signals_to(lambda number, _: received.append(number)))
        if lock is not None:
            stack.enter_context(locks.locked(lock, patience=GLANCE))  # somebody may be testing whether it is free
        mark = f"{os.getpid()}:{time.time_ns()}:{Path.cwd()}"
        sign = signal.SIGINT if interrupt else signal.SIGTERM
        service = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=os.environ | {MARK: mark},
            process_group=0,
            preexec_fn=functools.partial(die_with_parent, sign),  # this holder may be killed itself
        )
        stack.callback(_kill, service, mark)
        _wait(lambda: service.poll() is not None or bool(received) or not is_alive(supervisor))
        if after and service.poll() is None:
            _wait(lambda: all(is_free(each) for each in after), wait)
        if children_first:
            for child in (children := _children(service.pid)):
                child.terminate()
            _wait(lambda: not any(child.is_running() for child in children) or len(received) > 1, patience)
        if service.poll() is None:
            service.send_signal(sign)
            _wait(lambda: service.poll() is not None or len(received) > 1, patience)
    status = service.wait()
    sys.exit(status if status >= 0 else 128 - status)  # as a shell tells of a signal


class Services(manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Runs holders side by side until one ends or a signal comes, their output in one stream, each line with its service."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.environment = {**environment, "PYTHONUNBUFFERED": "1"}  # else the lines come when the buffer is full
        self._patience = 0.0

    def add(self, name: str, command: list[str], ending: Ending) -> None:
        """Adds a service; all are started by `run`."""
        options = ending.as_options()
        holder = [sys.executable, "-m", "services.supervise", *options, name, str(os.getpid()), "--", *command]
        self.add_process(name, f"exec {shlex.join(holder)}", env=self.environment)
        self._patience += ending.patience + ending.wait

    def has_any(self) -> bool:
        return bool(self._processes)

    def run(self) -> None:
        """Raises SystemExit, when all of them have ended, with a status that is not 0: none of them ends of its own accord."""
        end_orphans()
        manager.KILL_WAIT = self._patience  # holders kill in time, and what they hold as well
        self.loop()
        sys.exit(self.returncode or 1)


def die_with_parent(sign: int) -> None:
    """Has the system send this process a signal when its parent is gone, until it changes its user. Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sign)


def require_free_port(host: str, port: int, variable: str, what: str) -> None:
    """Raises InputError if something else listens there, naming the option or variable by which to choose another port."""
    if reason := _unusable(host, port):
        raise InputError(
            f"{what} cannot use port {port} of {host}: {reason}; end what uses it, or choose another: {variable}={port + 1}"
        )


def next_free_port(host: str, first: int, variable: str, what: str) -> int:
    """The first free port from `first` on; prints which one, if it is another."""
    port = next((port for port in range(first, min(first + PORTS, 65536)) if not _unusable(host, port)), None)
    if port is None:
        require_free_port(host, first, variable, what)
        return first
    if port != first:
        print(f"port {first} is in use, so {what} uses port {port}", flush=True)
    return port


def _unusable(host: str, port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror
    return None


def is_free(lock: Path) -> bool:
    """Whether nobody holds a lock."""
    try:
        with locks.locked(lock, patience=0):
            return True
    except locks.BusyError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_orphans() -> None:
    """Kills what is left of services of this folder whose holder was killed itself."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            holder, _, folder = process.environ().get(MARK, "").split(":", 2)
            if folder == str(Path.cwd()) and not is_alive(int(holder)):
                process.kill()


def _wait(done: Callable[[], bool], patience: float = float("inf")) -> None:
    until = time.monotonic() + patience
    while not done() and time.monotonic() < until:
        time.sleep(GLANCE)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _kill(service: "subprocess.Popen[bytes]", mark: str) -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                process.send_signal(signal.SIGKILL)
    service.kill()  # PostgreSQL writes its title over the environment that it was started with


if __name__ == "__main__":
    terminal.show_log("%(message)s")
    with entry_point.handled():
        typer.run(main)
