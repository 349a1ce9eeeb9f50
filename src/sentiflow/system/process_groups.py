"""Process trees: a signal that ends a process ends its children too, and no child outlives the process that started it."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil

GRACE = 5.0  # seconds between a signal and the next, stronger one
STARTER = "SENTIFLOW_STARTER"  # environment variable: the process that a child must not outlive


def end(*leaders: subprocess.Popen[Any], received: Sequence[int] = ()) -> None:
    """End process groups: SIGINT, which lets DVC and its stage clean up, then SIGTERM, then SIGKILL.

    Args:
        leaders: processes started with `process_group=0`; they may have ended already.
        received: signals received by this process so far; a second one makes the next signal SIGKILL.
    """
    alive = list(leaders)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        alive = [leader for leader in alive if _is_alive(leader.pid)]
        for leader in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL if len(received) > 1 else sign)
        until = time.monotonic() + GRACE
        count = len(received)
        while alive and time.monotonic() < until and len(received) == count:
            for leader in alive:
                leader.poll()
            alive = [leader for leader in alive if _is_alive(leader.pid)]
            time.sleep(0.05)


def _is_alive(group: int) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


@contextlib.contextmanager
def signals_to(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP within the block.

    Signals that are ignored (nohup) stay ignored. Does nothing outside the main thread, which alone can set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def of_this_process() -> dict[str, str]:
    """Environment variables for child processes that call `die_with_starter`."""
    return {STARTER: f"{os.getpid()}:{psutil.Process().create_time()}"}


def die_with_starter(environment: Mapping[str, str] = os.environ) -> None:
    """Kill this process and its group when the process that started it ends.

    A process killed with SIGKILL cannot end its children, and DVC's stages would run on for hours. Does nothing in a process
    started by hand.
    """
    pid, _, created = environment.get(STARTER, "").partition(":")
    if not pid:
        return
    threading.Thread(target=_kill_after, args=(int(pid), float(created)), name="starter", daemon=True).start()


def _kill_after(pid: int, created: float) -> None:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process = psutil.Process(pid)
        if process.create_time() == created:  # otherwise the id was reused
            if hasattr(os, "pidfd_open"):  # Linux
                select.select([os.pidfd_open(pid)], [], [])
            else:
                process.wait()
    os.killpg(0, signal.SIGKILL)


def run(command: Sequence[str], log: Callable[[str], None]) -> int:
    """Exit status of a command; each line of its output is passed to `log`. The command ends with this process."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | of_this_process()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        process_group=0,
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if line.strip():
                    log(line.rstrip())
        finally:
            end(child)
    return child.returncode
