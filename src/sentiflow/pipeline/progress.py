"""What the terminal shows of stages that run side by side: whose line it is, and a bar of each that is at work."""

import re
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from tqdm import tqdm

from sentiflow.pipeline.workers import Stage
from sentiflow.system import terminal

BESIDE = 26  # columns for the name of a stage, and for what parts it from what the stage says
NARROWEST = 20
STEERING = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours, and moves of the cursor between bars, which are one here
EMPTY = ("", "!")  # of a bar that is not drawn yet


class Stages:
    """Lines of the stages as they come, and under them, where standard output is a terminal, one that changes for each at work.

    A context manager that takes the latter away. Several threads may call it.
    """

    def __init__(self) -> None:
        self._width = 0
        self._bars: dict[str, tqdm[NoReturn]] = {}
        # of what a stage says; 0 where no bars are shown
        self.columns = max(NARROWEST, shutil.get_terminal_size().columns - BESIDE) if sys.stdout.isatty() else 0

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._bars):
            self.end(name)

    def plan(self, every: Sequence[Stage], stale: Sequence[Stage]) -> None:
        """Says how much there is to do."""
        self._width = max((len(stage.name) for stage in stale), default=0)
        if not stale:
            self.say("Data and pipelines are up to date.")
        elif fresh := len(every) - len(stale):
            self.say(f"{fresh} of {len(every)} stages are up to date")

    def begin(self, name: str) -> None:
        line = self._line(name, "")
        self._bars[name] = tqdm(desc=line, bar_format="{desc}", leave=False, disable=not self.columns, file=sys.stdout)

    def tell(self, name: str, line: str) -> None:
        """A whole line, which DVC or the stage printed."""
        if self.columns:
            line = STEERING.sub("", line)
            self._bars[name].set_description_str(self._line(name, ""), refresh=False)
        self.say(line if f"'{name}'" in line else self._line(name, line))

    def say(self, line: str) -> None:
        """A line that is no stage's."""
        with tqdm.external_write_mode(file=sys.stdout):
            terminal.tell(line, flush=True)

    def update(self, name: str, bar: str) -> None:
        """Another state of the stage's own progress bar."""
        if (text := STEERING.sub("", bar).strip()) not in EMPTY:
            self._bars[name].set_description_str(self._line(name, terminal.printable(text)))

    def end(self, name: str) -> None:
        self._bars.pop(name).close()

    def _line(self, name: str, text: str) -> str:
        return f"{name:<{self._width}} | {text}"
