"""Prefect tasks that retry if something external did not respond, and fail at once for any other reason."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Failed
from prefect.tasks import Task

from sentiflow.config.params import Params
from sentiflow.system.errors import InputError, UnavailableError

P = ParamSpec("P")
R = TypeVar("R")


def retried(function: Callable[P, R]) -> Task[P, Any]:
    """Makes a task of a function: retried after UnavailableError, failed after InputError with its message and no traceback."""

    @wraps(function)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            context = TaskRunContext.get()
            if isinstance(error, UnavailableError) and context is not None and context.task_run.run_count <= context.task.retries:
                raise
            return Failed(message=str(error))

    name = function.__name__.replace("_", " ")
    options: dict[str, Any] = {"name": name, "task_run_name": name, "retry_condition_fn": _is_temporary}
    return task(cache_policy=NO_CACHE, persist_result=False, **options)(attempt)


def _is_temporary(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(getattr(state.data, "result", state.data), UnavailableError)


def with_retries(retried_task: Task[..., Any], p: Params, name: str | None = None) -> Task[..., Any]:
    """The task with the retries of params.yaml, under another name if one is given. The delay doubles each time."""
    retries = p.retrain.attempts - 1
    delays = [p.retrain.wait_seconds * 2**attempt for attempt in range(retries)]
    name = name or retried_task.name
    return retried_task.with_options(retries=retries, retry_delay_seconds=delays, name=name, task_run_name=name)


def call(retried_task: Task[..., Any], p: Params, *arguments: Any) -> Any:
    """Runs a task with the retries of params.yaml, and returns its result.

    Raises:
        InputError: if it failed, with its message.
    """
    state: Any = with_retries(retried_task, p)(*arguments, return_state=True)
    if not state.is_completed():
        raise InputError(f"{retried_task.name}: {state.message or state.name}")
    return state.result()
