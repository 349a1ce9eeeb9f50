"""Processes that start others: a signal that ends one ends all of them, and none outlives who started it."""

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

GRACE = 5.0  # seconds for a process to end by itself before it is told more firmly
STARTER = "SENTIFLOW_STARTER"  # the process that a stage must not outlive, as `of_this_process` notes it


def end(*leaders: subprocess.Popen[Any], received: Sequence[int] = ()) -> None:
    """Ends process groups: interrupts as Ctrl-C does, which lets DVC and its stage clear up; then tells them more firmly.

    Args:
        leaders: started with `process_group=0`; they may have ended already.
        received: signals that this process was sent; a second one kills at once.
    """
    living = list(leaders)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        living = [leader for leader in living if lives(leader.pid)]
        for leader in living:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL if len(received) > 1 else sign)
        until = time.monotonic() + GRACE
        patience = len(received)
        while living and time.monotonic() < until and len(received) == patience:
            for leader in living:
                leader.poll()
            living = [leader for leader in living if lives(leader.pid)]
            time.sleep(0.05)


def lives(group: int) -> bool:
    """Whether a process group has a process that is not dead."""
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


@contextlib.contextmanager
def signals_to(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within the block the signals that end a process go to the handler.

    A signal that was ignored stays so (nohup), and only a main thread can handle any.
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
    """The environment by which processes that this one starts know whom not to outlive."""
    return {STARTER: f"{os.getpid()}:{psutil.Process().create_time()}"}


def die_with_starter(environment: Mapping[str, str] = os.environ) -> None:
    """From now on this process and its group are killed when the process that started them is gone, however that ended.

    A process that was killed with -9 cannot end what it started, and DVC's stages would go on for hours. Does nothing in a
    process that was started by hand.
    """
    pid, _, created = environment.get(STARTER, "").partition(":")
    if not pid:
        return
    threading.Thread(target=_kill_after, args=(int(pid), float(created)), name="starter", daemon=True).start()


def _kill_after(pid: int, created: float) -> None:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process = psutil.Process(pid)
        if process.create_time() == created:  # else the id was given to another process
            if hasattr(os, "pidfd_open"):  # Linux
                select.select([os.pidfd_open(pid)], [], [])
            else:
                process.wait()
    os.killpg(0, signal.SIGKILL)


def run(command: Sequence[str], told: Callable[[str], None]) -> int:
    """Runs a command, hands on each line that it prints, and gives its exit status; whatever ends this ends it too."""
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
                    told(line.rstrip())
        finally:
            end(child)
    return child.returncode
