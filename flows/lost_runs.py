"""Ends flow runs that Prefect shows as running although their process is gone, such as after a power cut.

Prefect notices a killed run only through its worker. If the worker was killed as well, the run would stay Running forever, and
hold a concurrency slot of its deployment.
"""

import contextlib
import datetime

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed

ACTIVE = {"state": {"type": {"any_": [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]}}}
RUN_ID = "PREFECT__FLOW_RUN_ID"  # environment variable of a run's process, set by Prefect
SUBMISSION = datetime.timedelta(minutes=1)  # time for a worker to label a run that it took with its name
MESSAGE = "Its process is gone: it was killed, or the machine went down."


async def end(client: PrefectClient, pools: list[str], worker: str) -> list[FlowRun]:
    """Marks a worker's runs without a process as Crashed, or as Cancelled if that was requested, which frees their slots.

    Args:
        pools: work pools of the runs.
        worker: name of a worker on this machine that is not running. Runs of other workers are left alone.

    Returns:
        The runs as they were before.
    """
    alive = _run_ids_of_processes()
    active = await client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter.model_validate(ACTIVE),
        work_pool_filter=filters.WorkPoolFilter.model_validate({"name": {"any_": pools}}),
    )
    lost = [run for run in active if str(run.id) not in alive and _belongs_to(run, worker)]
    for run in lost:
        # from Cancelling, Prefect allows no state but Cancelled
        outcome = Cancelled if run.state_type == StateType.CANCELLING else Crashed
        await client.set_flow_run_state(run.id, outcome(message=MESSAGE))
        for task in await client.read_task_runs(
            flow_run_filter=filters.FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
            task_run_filter=filters.TaskRunFilter.model_validate(ACTIVE),
        ):
            await client.set_task_run_state(task.id, Crashed(message=MESSAGE), force=True)
    return lost


def _belongs_to(run: FlowRun, worker: str) -> bool:
    name = run.labels.get("prefect.worker.name")
    if name is not None or run.state is None:
        return bool(name == worker)
    return datetime.datetime.now(datetime.UTC) - run.state.timestamp > SUBMISSION  # its worker died before it labelled the run


def _run_ids_of_processes() -> set[str]:
    """Ids of the runs that have a process on this machine. A process id would not do: it may belong to another program by now."""
    ids = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                ids.add(process.environ().get(RUN_ID, ""))
    return ids
