"""Runs DVC stages in worker processes, and terminates them with everything that they started.

A worker is a `dvc_worker` in a process group of its own. It imports DVC once and runs one stage after another. As many stages
run in parallel as there are workers, and each gets an equal share of the CPU cores.
"""

import contextlib
import errno
import os
import pty
import queue
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from sentiflow.system import process_groups
from sentiflow.system.errors import InputError, UnavailableError

ERROR = "error: "  # start of a stage's error message, as `terminal.refuse` prints it
# Read by the thread pools of numpy, scikit-learn and TensorFlow when they start.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class StageError(InputError):
    """A stage failed, or exceeded its time limit.

    reported: whether DVC reported the failure; otherwise the worker died or was terminated.
    disk_full: whether the disk was full.
    """

    reported = False
    disk_full = False


class UnavailableStageError(StageError, UnavailableError):
    """A stage failed because an external service did not answer."""


@dataclass(frozen=True)
class Stage:
    """A stage as DVC sees it before the run.

    needs: names of the stages whose outputs it reads.
    makes: paths of its outputs.
    changed: what DVC finds changed, as in `dvc status --json`; empty if the stage itself is up to date.
    is_new: whether it has never run.
    """

    name: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    changed: list[Any]
    is_new: bool


@dataclass(frozen=True)
class Outcome:
    """Result of a stage; `how` is ran | restored (from DVC's run cache) | fresh (up to date)."""

    name: str
    how: str
    seconds: float


class Workers:
    """A thread-safe pool of DVC processes that are started on demand; a context manager that terminates them all.

    count: maximum number of processes, and so of parallel stages.
    signals: signals received by this process, for `process_groups.end`.
    columns: width of the terminal in which the output is shown; 0 for none, which also disables progress bars.
    """

    def __init__(self, count: int, signals: Sequence[int] = (), columns: int = 0) -> None:
        self._count = count
        self._signals = signals
        self._columns = columns
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # None: not started yet
        for _ in range(count):
            self._idle.put(None)
        self._started: list[_Worker] = []
        self._starting = threading.Lock()
        self._closed = False

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        """Terminates every process, even if a thread is waiting for it, which then gets a StageError."""
        with self._starting:
            self._closed = True
        for worker in self._started:
            worker.ask_to_end()
        process_groups.end(*(worker.process for worker in self._started), received=self._signals)
        for worker in self._started:
            worker.end()

    def plan(self, targets: Sequence[str] = ()) -> list[Stage]:
        """The stages in the order of `dvc repro`: all, or the targets with those that they depend on."""
        plan: list[Stage] = self.ask("plan", {"targets": list(targets)}, about="reading dvc.yaml")
        return plan

    def run(
        self,
        name: str,
        *,
        force: bool,
        log: Callable[[str], None],
        seconds: float | None = None,
        show_bar: Callable[[str], None] = lambda _: None,
    ) -> Outcome:
        """Runs one stage, without those that it depends on.

        Args:
            force: run it even if it is up to date.
            log: receives every line that DVC and the stage print.
            seconds: time limit; None for no limit.
            show_bar: receives every state of a progress bar.

        Raises:
            UnavailableStageError: if it failed because an external service did not answer.
            StageError: if it failed for another reason or exceeded its time limit; none of its processes is left.
        """
        started = time.monotonic()
        reasons: list[str] = []

        def keep_reasons(line: str) -> None:
            log(line)
            if line.startswith(ERROR):
                reasons[:] = [line.removeprefix(ERROR)]
            elif reasons and line.startswith("  "):  # a list in the error message
                reasons.append(line)

        try:
            arguments = {"name": name, "force": force}
            how = self.ask("run", arguments, seconds=seconds, log=keep_reasons, show_bar=show_bar, about=f"stage {name!r}")
        except StageError as error:
            if reasons and error.reported:  # the stage's own message says more than DVC's, which has the exit status
                error.args = ("\n".join([f"stage {name!r} failed: {reasons[0]}", *reasons[1:]]),)
            raise
        return Outcome(name, how, time.monotonic() - started)

    def ask(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = 3600.0,
        log: Callable[[str], None] = lambda _: None,
        show_bar: Callable[[str], None] = lambda _: None,
        about: str | None = None,
    ) -> Any:
        """The result of one of `dvc_operations.OPERATIONS`.

        Raises:
            UnavailableStageError, StageError: as `run` does.
        """
        with self._worker() as worker, worker.in_use:
            return worker.ask((operation, dict(arguments or {})), seconds, _Lines(log, show_bar), about or f"dvc {operation}")

    @contextlib.contextmanager
    def _worker(self) -> "Iterator[_Worker]":
        worker = self._idle.get()
        try:
            if worker is None:
                with self._starting:
                    if self._closed:
                        raise StageError("the run is stopping, so nothing else is started")
                    worker = _Worker(self._count, self._columns)
                    self._started.append(worker)
            yield worker
        finally:
            self._idle.put(worker if worker is not None and worker.is_open else None)


class _Worker:
    def __init__(self, count: int, columns: int) -> None:
        self._connection, theirs = Pipe()
        self._output, output = _terminal(columns) if columns else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sentiflow.pipeline.dvc_worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            process_group=0,
            env=environment(count) | process_groups.of_this_process(),
        )
        theirs.close()
        os.close(output)
        self.is_open = True
        self.in_use = threading.RLock()  # held while reading: the connection is closed only when nobody reads
        self._sending = threading.Lock()

    def ask(self, request: Any, seconds: float | None, lines: "_Lines", about: str) -> Any:
        if not self.is_open:
            raise StageError(f"{about} was not started, because the run is stopping")
        try:
            with self._sending:
                self._connection.send(request)
            answer = self._answer(None if seconds is None else time.monotonic() + seconds, lines)
        except TimeoutError:
            self.end()
            raise StageError(
                f"{about} did not finish within {(seconds or 0) / 60:.3g} minutes, so it was terminated "
                "(retrain.stage_minutes in params.yaml)"
            ) from None
        except (EOFError, ConnectionError):
            self.end()
            raise StageError(f"{about} was interrupted: its process died") from None
        if isinstance(answer, StageError):
            answer.args = (f"{about} failed: {answer}",)
            raise answer
        return answer

    def _answer(self, until: float | None, lines: "_Lines") -> Any:
        """Waits for the answer, and logs what is printed meanwhile."""
        while ready := wait([self._output, self._connection], None if until is None else max(0.0, until - time.monotonic())):
            if self._output in ready and (printed := self._read()):
                lines.add(printed)
            elif self._connection in ready:  # everything that was printed before the answer has been read
                lines.end()
                return self._connection.recv()
        raise TimeoutError

    def _read(self) -> bytes:
        try:
            return os.read(self._output, 65_536)
        except OSError as error:  # a terminal whose last process has ended
            if error.errno != errno.EIO:
                raise
            return b""

    def ask_to_end(self) -> None:
        """Makes the process exit when its current operation has ended."""
        with self._sending, contextlib.suppress(ConnectionError):
            if self.is_open:
                self._connection.send(None)

    def end(self) -> None:
        process_groups.end(self.process)
        self.process.wait()
        with self.in_use, self._sending:
            if self.is_open:
                self.is_open = False
                os.close(self._output)
                self._connection.close()


def _terminal(columns: int) -> tuple[int, int]:
    """Both ends of a pseudo-terminal of that width, which does not change the bytes: progress bars need a terminal."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    termios.tcsetwinsize(theirs, (24, columns))
    return ours, theirs


class _Lines:
    """Splits chunks of output into lines. Of a progress bar, each state goes to `show_bar` and the last one to `log`."""

    def __init__(self, log: Callable[[str], None], show_bar: Callable[[str], None] = lambda _: None) -> None:
        self._log = log
        self._show_bar = show_bar
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._log_line(line)
        if b"\r" in self._rest and (text := _last_state(self._rest)):
            self._show_bar(text)

    def end(self) -> None:
        self._log_line(self._rest)
        self._rest = b""

    def _log_line(self, line: bytes) -> None:
        if text := _last_state(line):
            self._log(text)


def _last_state(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace").rstrip()


def environment(count: int) -> dict[str, str]:
    """Environment of a worker: `python` is this Python, and the number of threads is its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SHELL": "/bin/sh",  # DVC runs commands in the user's shell
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",  # print lines immediately
    }
    return os.environ | own | dict.fromkeys(THREADS, str(max(1, cores // count)))
