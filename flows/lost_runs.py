"""Runs that Prefect takes for running though their process is gone, as after a power cut: told what became of them.

Prefect itself notices a killed run only through a worker that is still there. Nobody tells it when the worker went as well, and
the run would say Running for ever, and hold the one slot of its deployment.
"""

import contextlib
import datetime

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed

UNDER_WAY = {"state": {"type": {"any_": [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]}}}
RUN_ID = "PREFECT__FLOW_RUN_ID"  # the environment variable by which Prefect tells a process which run it is
SUBMITTING = datetime.timedelta(minutes=1)  # a worker that takes a run has put its name on it by then
PAGE = 200  # runs that Prefect gives at once
GONE = "Its process is gone: it was killed, or the machine went down."


async def settle(client: PrefectClient, pools: list[str], worker: str) -> list[FlowRun]:
    """Marks the runs of one worker whose process is gone: Crashed, or Cancelled where that was asked for; frees their slots.

    Args:
        client: of the server that keeps the runs.
        pools: work pools of the runs.
        worker: name of the worker that had them, on this machine; it must not be running. Runs of others stay as they are.

    Returns:
        The runs as they were before.
    """
    alive = _running_here()
    lost = [run for run in await _under_way(client, pools) if str(run.id) not in alive and _was_of(run, worker)]
    for run in lost:
        # Prefect lets a run that is being cancelled become nothing but Cancelled
        outcome = Cancelled if run.state_type == StateType.CANCELLING else Crashed
        await client.set_flow_run_state(run.id, outcome(message=GONE))
        for task in await client.read_task_runs(
            flow_run_filter=filters.FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
            task_run_filter=filters.TaskRunFilter.model_validate(UNDER_WAY),
        ):
            await client.set_task_run_state(task.id, Crashed(message=GONE), force=True)
    return lost


async def _under_way(client: PrefectClient, pools: list[str]) -> list[FlowRun]:
    runs: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter.model_validate(UNDER_WAY),
            work_pool_filter=filters.WorkPoolFilter.model_validate({"name": {"any_": pools}}),
            limit=PAGE,
            offset=len(runs),
        )
        runs += page
        if len(page) < PAGE:
            return runs


def _was_of(run: FlowRun, worker: str) -> bool:
    name = run.labels.get("prefect.worker.name")
    if name is not None or run.state is None:
        return bool(name == worker)
    return datetime.datetime.now(datetime.UTC) - run.state.timestamp > SUBMITTING  # its worker died before it put its name on it


def _running_here() -> set[str]:
    """Ids of the runs that a process of this machine is at work on; a process id alone may have been given to another."""
    ids = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                ids.add(process.environ().get(RUN_ID, ""))
    return ids
