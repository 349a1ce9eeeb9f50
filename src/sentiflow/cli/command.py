"""What every command has around its work."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from sentiflow.system import own_code, tensorflow_log, terminal
from sentiflow.system.errors import InputError

PROJECT = (Path("params.yaml"), Path("dvc.yaml"), Path(".dvc"), own_code.HERE)
Parameters = ParamSpec("Parameters")


def in_project(
    *, line: str | None = terminal.LINE, computes: bool = False
) -> Callable[[Callable[Parameters, None]], Callable[Parameters, None]]:
    """Decorator of a command that works on the project in the working folder, with the log on standard error.

    Args:
        line: format of a line of the log; None leaves the log to the command, as Prefect sets up its own.
        computes: the command loads a model: TensorFlow's start-up messages are dropped, and linear algebra uses one thread, so
            that no result depends on the number of cores.
    """

    def decorate(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
        @functools.wraps(function)
        def run(*args: Parameters.args, **options: Parameters.kwargs) -> None:
            _require_project()
            own_code.require()
            with tensorflow_log.chatter_dropped() if computes else contextlib.nullcontext():
                if line is not None:
                    terminal.show_log(line, force=True)
                if computes:
                    from sentiflow.system import threads

                    threads.limit(1)
                function(*args, **options)

        return run

    return decorate


def _require_project() -> None:
    if not any(path.exists() for path in PROJECT):
        raise InputError(f"no sentiflow project in {Path.cwd()}; run this in the top folder of a project, where params.yaml is")
