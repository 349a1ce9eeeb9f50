"""Puts what prefect.yaml says on a Prefect server, without undoing what somebody switched off in its UI."""

import asyncio
import shlex
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas import filters, sorting
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_AUTH_STRING
from prefect.workers.process import ProcessWorker

from flows import access, lost_runs
from sentiflow.errors import InputError

DEPLOYMENTS = Path("prefect.yaml")
POOL = "sentiflow"  # as there
# A run cannot set its command, environment or working directory, as it can with Prefect's own template. There is no `env` in
# `job_configuration` either: Prefect merges the `env` of a run into one that is there, template variable or not.
NO_VARIABLES = {"type": "object", "properties": {}, "additionalProperties": False}
TEMPLATE = {"job_configuration": {"stream_output": True}, "variables": NO_VARIABLES}
IN_POOL = filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[POOL]))
STARTING = 180.0  # seconds for a server to make its tables and answer, on a busy machine
PLANNING = 20.0  # seconds for a server to plan the next runs of a deployment that is new to it


async def prepare(worker: str) -> None:
    """Makes a server ready for a worker of this machine, and prints where its UI is and what is scheduled next.

    Args:
        worker: name of the worker; it must not be running.

    Raises:
        InputError: if no server answers at PREFECT_API_URL, or prefect.yaml cannot be deployed.
    """
    async with get_client() as client:
        await _answered(client)
        for run in await lost_runs.settle(client, POOL, worker):
            print(f"{run.name} was {run.state_name} though its process is gone: settled", flush=True)
        await _make_pool(client)
        await deploy(client)
        await _tell_next(client)


async def deploy(client: PrefectClient) -> None:
    """Deploys all of prefect.yaml. What was switched off in the UI stays off, and nothing comes twice.

    A schedule keeps its switch by its slug. A paused deployment Prefect takes up again, and the automations that it makes of
    triggers it makes anew, switched on; both are switched off again here.

    Raises:
        InputError: if Prefect refuses it.
    """
    if not DEPLOYMENTS.exists():
        raise InputError(f"there is no {DEPLOYMENTS} in {Path.cwd()}; run this in the top folder of the project")
    off = {automation.name for automation in await client.read_automations() if not automation.enabled}
    paused = [deployment.id for deployment in await client.read_deployments(work_pool_filter=IN_POOL) if deployment.paused]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    deployed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    if deployed.returncode:
        raise InputError(f"Prefect refused {DEPLOYMENTS}; correct it and start again:\n{deployed.stdout}{deployed.stderr}")
    for deployment in paused:
        await client.pause_deployment(deployment)
    for automation in await client.read_automations():
        if automation.name in off and automation.enabled:
            await client.pause_automation(automation.id)


async def _answered(client: PrefectClient) -> None:
    until = time.monotonic() + STARTING
    while error := await client.api_healthcheck():
        if time.monotonic() > until:
            raise InputError(f"no Prefect server answers at {client.api_url} after {STARTING:.0f} s: {error}")
        await asyncio.sleep(0.5)
    await asyncio.to_thread(access.require)


async def _make_pool(client: PrefectClient) -> None:
    try:
        pool = await client.read_work_pool(POOL)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=TEMPLATE))
    else:
        if pool.base_job_template != TEMPLATE:
            await client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=TEMPLATE))


async def _tell_next(client: PrefectClient) -> None:
    names, planned = {}, set()
    for deployment in await client.read_deployments(work_pool_filter=IN_POOL):
        names[deployment.id] = deployment.name
        if not deployment.paused and any(schedule.active for schedule in deployment.schedules):
            planned.add(deployment.id)
    until = time.monotonic() + PLANNING
    while (runs := await _next_runs(client)).keys() < planned and time.monotonic() < until:
        await asyncio.sleep(0.5)
    address = str(client.api_url).rstrip("/")
    print(f"Prefect's UI: {address.removesuffix('/api')}")
    export = f'export PREFECT_API_URL="{address}"'
    if PREFECT_API_AUTH_STRING.value() == access.generated():
        print(f"The page asks for a password, once: paste the line in {access.PASSWORD}")
        export += f' PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(access.PASSWORD.resolve()))})"'
    print(f"In another terminal: {export}")
    for identity, run in runs.items():
        when = run.expected_start_time
        print(f"{names[identity]}: next {when:%Y-%m-%d %H:%M} UTC" if when else names[identity])
    for name in sorted(names[identity] for identity in names.keys() - runs.keys()):
        print(f"{name}: nothing scheduled")
    sys.stdout.flush()


async def _next_runs(client: PrefectClient) -> dict[UUID, FlowRun]:
    """The next run of every deployment that has one, the soonest first."""
    scheduled = filters.FlowRunFilter(
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    )
    runs = await client.read_flow_runs(
        flow_run_filter=scheduled, work_pool_filter=IN_POOL, sort=sorting.FlowRunSort.EXPECTED_START_TIME_ASC, limit=200
    )
    first: dict[UUID, FlowRun] = {}
    for run in runs:
        if run.deployment_id is not None:
            first.setdefault(run.deployment_id, run)
    return first
