"""Terminal output of stages that run in parallel: the lines of each stage, and one progress line per running stage."""

import re
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from tqdm import tqdm

from sentiflow.pipeline.workers import Stage
from sentiflow.system import terminal

PREFIX = 26  # columns for the name of a stage and the separator
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours, and cursor movements between several bars


class Display:
    """Prints lines as they come and, if standard output is a terminal, a progress line for each running stage under them.

    A context manager that removes the progress lines. Thread-safe.
    """

    def __init__(self) -> None:
        self._width = 0
        self._bars: dict[str, tqdm[NoReturn]] = {}
        # for the output of a stage; 0 without a terminal
        self.columns = max(20, shutil.get_terminal_size().columns - PREFIX) if sys.stdout.isatty() else 0

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._bars):
            self.end(name)

    def plan(self, stages: Sequence[Stage], stale: Sequence[Stage]) -> None:
        """Prints how many stages are up to date."""
        self._width = max((len(stage.name) for stage in stale), default=0)
        if not stale:
            self.print("Data and pipelines are up to date.")
        elif fresh := len(stages) - len(stale):
            self.print(f"{fresh} of {len(stages)} stages are up to date")

    def begin(self, name: str) -> None:
        line = self._line(name, "")
        self._bars[name] = tqdm(desc=line, bar_format="{desc}", leave=False, disable=not self.columns, file=sys.stdout)

    def print_line(self, name: str, line: str) -> None:
        """Prints a line of a stage."""
        if self.columns:
            line = ESCAPES.sub("", line)
            self._bars[name].set_description_str(self._line(name, ""), refresh=False)
        self.print(line if f"'{name}'" in line else self._line(name, line))

    def print(self, line: str) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            terminal.tell(line, flush=True)

    def show_bar(self, name: str, bar: str) -> None:
        """Shows the current state of a stage's own progress bar."""
        text = ESCAPES.sub("", bar).strip()
        if text not in ("", "!"):  # a bar that is not drawn yet
            self._bars[name].set_description_str(self._line(name, terminal.printable(text)))

    def end(self, name: str) -> None:
        self._bars.pop(name).close()

    def _line(self, name: str, text: str) -> str:
        return f"{name:<{self._width}} | {text}"
