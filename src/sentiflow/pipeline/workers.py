"""Runs DVC's stages one at a time or side by side, each in a process that can be ended with everything it started.

A worker is a `dvc_worker` in a process group of its own. It imports DVC once and runs one stage after another; as many
stages run at once as there are workers, and each gets its share of the processor's cores.
"""

import contextlib
import errno
import json
import os
import pty
import queue
import selectors
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentiflow.system import process_groups
from sentiflow.system.errors import InputError, UnavailableError

PIECE = 65_536  # bytes read at once
REFUSAL = "error: "  # how a stage begins the line that says why it ends, as `terminal.refuse` writes it
# What numpy's, scikit-learn's and TensorFlow's thread pools read when they start.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class StageError(InputError):
    """DVC or a stage failed, or took longer than it may.

    answered: whether DVC told of it; else its process was ended, or ended before.
    disk_full: whether there was no space left.
    """

    answered = False
    disk_full = False


class UnavailableStageError(StageError, UnavailableError):
    """It failed since something outside did not answer."""


@dataclass(frozen=True)
class Stage:
    """A stage as DVC sees it before the run.

    needs: names of the stages whose outputs it reads.
    makes: paths of its outputs.
    changed: what DVC finds changed, as `dvc status --json` gives it; empty where the stage itself is up to date.
    """

    name: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    changed: list[Any]
    is_new: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a stage; how is ran | restored (from DVC's run cache) | fresh."""

    name: str
    how: str
    seconds: float


@dataclass
class Workers:
    """Processes that run DVC, started when they are needed; a context manager that ends them all.

    side_by_side: workers at most, and so stages at once.
    received: signals that this process was sent, for `process_groups.end`.
    columns: width of the terminal that what is printed will be shown in; 0 if it will not. Where it is, progress bars are drawn.
    """

    side_by_side: int
    received: Sequence[int] = ()
    columns: int = 0
    _idle: "queue.LifoQueue[_Worker | None]" = field(default_factory=queue.LifoQueue, init=False)
    _started: "list[_Worker]" = field(default_factory=list, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)
    _closed: bool = field(default=False, init=False)

    def __enter__(self) -> "Workers":
        for _ in range(self.side_by_side):
            self._idle.put(None)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends every process at once, also where a thread still waits for one, which then gets a StageError."""
        with self._guard:
            self._closed = True
            started = list(self._started)
        for worker in started:
            worker.ask_to_end()
        process_groups.end(*(worker.process for worker in started), received=self.received)
        for worker in started:
            worker.end()

    def plan(self, targets: Sequence[str] = ()) -> list[Stage]:
        """All stages, or some as DVC names them with those they depend on, in the order of `dvc repro`."""
        return [
            Stage(each["name"], tuple(each["needs"]), tuple(each["makes"]), each["changed"], each["is_new"])
            for each in self.ask("plan", targets=list(targets), about="reading dvc.yaml")
        ]

    def run(
        self,
        name: str,
        *,
        force: bool,
        told: Callable[[str], None],
        seconds: float | None = None,
        shown: Callable[[str], None] = lambda _: None,
    ) -> Outcome:
        """Runs one stage, and none of those it depends on.

        Args:
            force: also if it is up to date.
            told: gets every line that DVC and the stage print, as it comes.
            seconds: after which it is ended; None for never.
            shown: gets each state of a progress bar.

        Raises:
            UnavailableStageError: if it failed since something outside did not answer.
            StageError: if it failed otherwise, or took too long; nothing of it runs any more.
        """
        started = time.monotonic()
        reasons: list[str] = []

        def tell(line: str) -> None:
            told(line)
            if line.startswith(REFUSAL):
                reasons[:] = [line.removeprefix(REFUSAL)]
            elif reasons and line.startswith("  "):  # what a reason lists, such as lines to put into params.yaml
                reasons.append(line)

        try:
            how = self.ask("run", seconds=seconds, told=tell, shown=shown, about=f"stage {name!r}", name=name, force=force)
        except StageError as error:
            if reasons and error.answered:  # DVC knows the exit status, the stage why
                error.args = ("\n".join([f"stage {name!r} failed: {reasons[0]}", *reasons[1:]]),)
            raise
        return Outcome(name, how, time.monotonic() - started)

    def ask(
        self,
        what: str,
        *,
        seconds: float | None = 3600.0,
        told: Callable[[str], None] = lambda _: None,
        shown: Callable[[str], None] = lambda _: None,
        about: str | None = None,
        **named: Any,
    ) -> Any:
        """The answer to one request, as `dvc_operations.OPERATIONS` gives it.

        Raises:
            UnavailableStageError, StageError: as `run` does.
        """
        with self._worker() as worker, worker.in_use:
            return worker.ask({"what": what} | named, seconds, _Lines(told, shown), about or f"dvc {what}")

    @contextlib.contextmanager
    def _worker(self) -> "Iterator[_Worker]":
        worker = self._idle.get()
        try:
            if worker is None:
                with self._guard:  # so that none is started while all are being ended
                    if self._closed:
                        raise StageError("the run is being ended, so nothing is started any more")
                    worker = _Worker(self.side_by_side, self.columns)
                    self._started.append(worker)
            yield worker
        finally:
            self._idle.put(worker if worker is not None and worker.lives else None)


class _Worker:
    def __init__(self, side_by_side: int, columns: int) -> None:
        theirs_in, self._requests = os.pipe()
        self._answers, theirs_out = os.pipe()
        self._output, theirs = _terminal(columns) if columns else os.pipe()
        command = [sys.executable, "-P", "-m", "sentiflow.pipeline.dvc_worker", str(theirs_in), str(theirs_out)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            pass_fds=(theirs_in, theirs_out),
            process_group=0,
            env=environment(side_by_side) | process_groups.of_this_process(),
        )
        for number in (theirs_in, theirs_out, theirs):
            os.close(number)
        self.lives = True
        self.in_use = threading.RLock()  # its pipes are closed only when nobody reads them
        self._writing = threading.Lock()  # nor writes to them

    def ask(self, request: dict[str, Any], seconds: float | None, lines: "_Lines", about: str) -> Any:
        if not self.lives:
            raise StageError(f"{about} was not begun, since the run is being ended")
        try:
            self._request(request)
            answer = self._answer(None if seconds is None else time.monotonic() + seconds, lines)
        except BrokenPipeError:
            answer = b""
        except TimeoutError:
            self.end()
            raise StageError(
                f"{about} had not ended after {(seconds or 0) / 60:.3g} minutes, so it was ended "
                "(retrain.stage_minutes in params.yaml)"
            ) from None
        if not answer:
            self.end()
            raise StageError(f"{about} was cut short: its process ended before it was done") from None
        received = json.loads(answer)
        if "error" not in received:
            return received["value"]
        kind = UnavailableStageError if received["is_temporary"] else StageError
        error = kind(f"{about} failed: {received['error']}")
        error.answered, error.disk_full = True, received["disk_full"]
        raise error

    def _request(self, request: dict[str, Any]) -> None:
        os.write(self._requests, (json.dumps(request) + "\n").encode())

    def _answer(self, until: float | None, lines: "_Lines") -> bytes:
        """Waits for the answer, and meanwhile hands on what is printed; empty if the process ends before."""
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            selector.register(self._answers, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                left = None if until is None else max(0.0, until - time.monotonic())
                ready = [key.fd for key, _ in selector.select(left)]
                if not ready:
                    raise TimeoutError
                if self._output in ready:
                    piece = self._printed()
                    lines.add(piece)
                    if not piece:
                        selector.unregister(self._output)
                elif piece := os.read(self._answers, PIECE):  # only when all that was printed before it is read
                    answer += piece
                else:
                    return b""
        lines.end()
        return answer

    def _printed(self) -> bytes:
        try:
            return os.read(self._output, PIECE)
        except OSError as error:  # a terminal whose last process has ended
            if error.errno != errno.EIO:
                raise
            return b""

    def ask_to_end(self) -> None:
        """It ends by itself when what it is at has ended."""
        with self._writing, contextlib.suppress(BrokenPipeError):
            if self.lives:
                self._request({"what": "end"})

    def end(self) -> None:
        process_groups.end(self.process)
        self.process.wait()
        with self.in_use, self._writing:
            if self.lives:
                self.lives = False
                for number in (self._output, self._requests, self._answers):
                    os.close(number)


def _terminal(columns: int) -> tuple[int, int]:
    """Both ends of a terminal of that width, which hands on bytes as they are: a progress bar is drawn only in one."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    termios.tcsetwinsize(theirs, (24, columns))
    return ours, theirs


class _Lines:
    """Whole lines out of pieces of bytes; of a line that a progress bar wrote over, the last state, and each one meanwhile."""

    def __init__(self, told: Callable[[str], None], shown: Callable[[str], None] = lambda _: None) -> None:
        self._told = told
        self._shown = shown
        self._rest = b""

    def add(self, piece: bytes) -> None:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            self._tell(line)
        if b"\r" in self._rest and (text := _last_state(self._rest)):
            self._shown(text)

    def end(self) -> None:
        self._tell(self._rest)
        self._rest = b""

    def _tell(self, line: bytes) -> None:
        if text := _last_state(line):
            self._told(text)


def _last_state(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace").rstrip()


def environment(side_by_side: int) -> dict[str, str]:
    """What a stage's process gets: this Python first in its path, and its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = str(max(1, cores // side_by_side))
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # `python` is this one
        "SHELL": "/bin/sh",  # DVC runs commands in the user's shell, which may be any
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",  # so that a line is seen when it is printed
    }
    return os.environ | own | dict.fromkeys(THREADS, share)
