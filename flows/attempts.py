"""Tasks that are tried again where something outside did not answer, and nowhere else."""

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


class StoppedError(InputError):
    """A task failed, so the run ends here."""


def tried_again(function: Callable[P, R]) -> Task[P, Any]:
    """A task that is tried again, later each time, where something outside did not answer; any other failure is one at once.

    What is in the way is the state's message, without a traceback.
    """

    @wraps(function)
    def attempt(*arguments: P.args, **named: P.kwargs) -> R | State[Any]:
        try:
            return function(*arguments, **named)
        except UnavailableError as error:
            context = TaskRunContext.get()
            if context is not None and context.task_run.run_count <= context.task.retries:
                raise
            return Failed(message=str(error))
        except InputError as error:
            return Failed(message=str(error))

    return task(cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_temporary)(attempt)


def _is_temporary(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(getattr(state.data, "result", state.data), UnavailableError)


def with_attempts(asked: Task[..., Any], p: Params, name: str | None = None) -> Task[..., Any]:
    """The task with as many attempts as params.yaml gives; the name is what people see, without it that of the function."""
    name = name or _name(asked)
    again = p.retrain.attempts - 1
    waits = [p.retrain.wait_seconds * 2**attempt for attempt in range(again)]
    return asked.with_options(retries=again, retry_delay_seconds=waits, name=name, task_run_name=name)


def _name(asked: Task[..., Any]) -> str:
    return asked.name.replace("_", " ")


def done(asked: Task[..., Any], p: Params, *arguments: Any) -> Any:
    """What a task gives that ends well.

    Raises:
        StoppedError: with its message, if it does not.
    """
    state: Any = with_attempts(asked, p)(*arguments, return_state=True)
    if state.is_completed():
        return state.result()
    raise StoppedError(f"{_name(asked)}: {state.message or state.name}")
