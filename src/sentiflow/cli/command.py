"""Decorator for commands that work on a project."""

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
    """Require a project in the working folder, and send the log to standard error.

    Args:
        line: format of a log line; None if the command sets up the log itself, as Prefect does.
        computes: the command loads a model. TensorFlow's start-up messages are dropped, and linear algebra uses one thread, so
            that no result depends on the number of cores.
    """

    def decorate(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
        @functools.wraps(function)
        def run(*args: Parameters.args, **options: Parameters.kwargs) -> None:
            if not any(path.exists() for path in PROJECT):
                raise InputError(
                    f"no sentiflow project in {Path.cwd()}; run this in the top folder of a project, where params.yaml is"
                )
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
