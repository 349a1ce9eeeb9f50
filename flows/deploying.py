"""Puts what prefect.yaml says on a Prefect server, without undoing what somebody switched off in its UI."""

import asyncio
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas import filters, sorting
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_AUTH_STRING
from prefect.states import Cancelled
from prefect.workers.process import ProcessWorker

from flows import access, checkout, lost_runs
from sentiflow.system.errors import InputError

DEPLOYED = Path(".prefect/deployments.yaml")  # prefect.yaml with the names of this checkout
DEFAULT_RESOURCE = "sentiflow.source"  # as in prefect.yaml
# A run cannot set its command, environment or working directory, as it can with Prefect's own template. There is no `env` in
# `job_configuration` either: Prefect merges the `env` of a run into one that is there, template variable or not.
NO_VARIABLES = {"type": "object", "properties": {}, "additionalProperties": False}
TEMPLATE = {"job_configuration": {"stream_output": True}, "variables": NO_VARIABLES}
SCHEDULED = filters.FlowRunFilter.model_validate({"state": {"type": {"any_": [StateType.SCHEDULED]}}})
PLANNING = 20.0  # seconds for a server to plan the next runs of a deployment that is new to it


async def prepare(worker: str, take_over: bool) -> None:
    """Makes a server ready for a worker of this machine, and prints where its UI is and what is scheduled next.

    Args:
        worker: name of the worker; it must not be running.
        take_over: move the deployments here if another checkout serves them.
    """
    content = _content()
    async with get_client() as client:
        await _answered(client)
        moved = await _to_move(client, content, take_over)
        for run in await lost_runs.settle(client, [checkout.pool(), *moved], worker):
            print(f"{run.name} was {run.state_name} though its process is gone: settled", flush=True)
        await _make_pool(client)
        await _deploy(client, content)
        await _clean_up(client, content, moved)
        await _tell_next(client)


def _content() -> dict[str, Any]:
    """Content of prefect.yaml, with this checkout's work pool and the project's name."""
    content = checkout.definitions()
    try:
        for deployment in content["deployments"]:
            deployment |= {
                "name": checkout.with_name(deployment["name"]),
                "entrypoint": str(deployment["entrypoint"]),
                "work_pool": deployment["work_pool"] | {"name": checkout.pool()},
            }
            for trigger in deployment.get("triggers", []):
                trigger["name"] = checkout.with_name(trigger["name"])
                if trigger["match"]["prefect.resource.id"] == DEFAULT_RESOURCE:
                    trigger["match"]["prefect.resource.id"] = checkout.event_resource()
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{checkout.DEPLOYMENTS} has another form than expected ({type(error).__name__}: {error}): every deployment needs "
            "name, entrypoint and work_pool, every trigger name and match; correct it and start again"
        ) from None
    return content


async def _deploy(client: PrefectClient, content: dict[str, Any]) -> None:
    """Deploys all of prefect.yaml. What was switched off in the UI stays off, and nothing comes twice.

    A schedule keeps its switch by its slug. A paused deployment Prefect takes up again, and the automations that it makes of
    triggers it makes anew, switched on; both are switched off again here.
    """
    off = {automation.name for automation in await client.read_automations() if not automation.enabled}
    paused = [deployment.id for deployment in await _deployments(client, content) if deployment.paused]
    DEPLOYED.parent.mkdir(exist_ok=True)
    DEPLOYED.write_text(json.dumps(content, indent=2), encoding="utf-8")  # which is YAML as well
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYED)]
    deployed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    if deployed.returncode:
        raise InputError(
            f"Prefect refused {checkout.DEPLOYMENTS}; correct it and start again:\n{deployed.stdout}{deployed.stderr}"
        )
    for deployment in paused:
        await client.pause_deployment(deployment)
    for automation in await client.read_automations():
        if automation.name in off and automation.enabled:
            await client.pause_automation(automation.id)


async def _deployments(client: PrefectClient, content: dict[str, Any]) -> list[DeploymentResponse]:
    """Deployments with the names of prefect.yaml, in whatever work pool."""
    flows = {each["entrypoint"].rpartition(":")[2] for each in content["deployments"]}
    names = [each["name"] for each in content["deployments"]]
    return await client.read_deployments(
        flow_filter=filters.FlowFilter.model_validate({"name": {"any_": list(flows)}}),
        deployment_filter=filters.DeploymentFilter.model_validate({"name": {"any_": names}}),
    )


async def _to_move(client: PrefectClient, content: dict[str, Any], take_over: bool) -> list[str]:
    """Work pools from which the deployments are to be moved to that of this checkout."""
    others = {each.work_pool_name: each for each in await _deployments(client, content) if each.work_pool_name}
    others.pop(checkout.pool(), None)
    moved = []
    for name, deployment in others.items():
        pool = await client.read_work_pool(name)
        owner = pool.description or f"{_folder(deployment)}, in the work pool {name}"
        # a server that is started from this folder: the folder was copied or moved with the server's database
        is_ours = access.own_server() == str(client.api_url).rstrip("/") and await _pool(client) is None
        if not take_over and not is_ours:
            raise InputError(
                f"the deployments at {client.api_url} are served by another checkout: {owner}; leave them there, take them "
                f"over with `sentiflow schedule --take-over`, or set another `name` in {checkout.DEPLOYMENTS} to have both"
            )
        print(f"moved the deployments at {client.api_url} from {owner} to this checkout", flush=True)
        moved.append(name)
    return moved


def _folder(deployment: DeploymentResponse) -> str | None:
    """Folder in which the runs of a deployment work."""
    steps = [step for each in deployment.pull_steps or [] for step in each.values()]
    return next((step["directory"] for step in steps if "directory" in step), None)


async def _clean_up(client: PrefectClient, content: dict[str, Any], moved: list[str]) -> None:
    """Removes deployments that this checkout had under other names, and cancels runs that wait in work pools without a worker."""
    entrypoints = {each["entrypoint"] for each in content["deployments"]}
    kept = {each.id for each in await _deployments(client, content)}
    for deployment in await client.read_deployments(work_pool_filter=_in([checkout.pool()])):
        if deployment.id not in kept and deployment.entrypoint in entrypoints:
            await client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
            await client.delete_deployment(deployment.id)
    if not moved:
        return
    waiting = await client.read_flow_runs(
        flow_run_filter=SCHEDULED,
        work_pool_filter=_in(moved),
        deployment_filter=filters.DeploymentFilter.model_validate({"id": {"any_": list(kept)}}),
    )
    for run in waiting:
        await client.set_flow_run_state(run.id, Cancelled(message="Its deployment was moved to another checkout."), force=True)


def _in(pools: list[str]) -> filters.WorkPoolFilter:
    return filters.WorkPoolFilter.model_validate({"name": {"any_": pools}})


async def _answered(client: PrefectClient) -> None:
    until = time.monotonic() + access.STARTING
    while error := await client.api_healthcheck():
        if time.monotonic() > until:
            raise InputError(f"no Prefect server answers at {client.api_url} after {access.STARTING:.0f} s: {error}")
        await asyncio.sleep(0.5)
    await asyncio.to_thread(access.require)


async def _pool(client: PrefectClient) -> WorkPool | None:
    """Work pool of this checkout, if it is there."""
    return next(iter(await client.read_work_pools(work_pool_filter=_in([checkout.pool()]))), None)


async def _make_pool(client: PrefectClient) -> None:
    pool = await _pool(client)
    if pool is None:
        about = checkout.described()
        wanted = WorkPoolCreate(name=checkout.pool(), type=ProcessWorker.type, base_job_template=TEMPLATE, description=about)
        await client.create_work_pool(wanted)
    elif pool.base_job_template != TEMPLATE:
        await client.update_work_pool(pool.name, WorkPoolUpdate(base_job_template=TEMPLATE))


async def _tell_next(client: PrefectClient) -> None:
    names, planned = {}, set()
    for deployment in await client.read_deployments(work_pool_filter=_in([checkout.pool()])):
        names[deployment.id] = deployment.name
        if not deployment.paused and any(schedule.active for schedule in deployment.schedules):
            planned.add(deployment.id)
    until = time.monotonic() + PLANNING
    while (runs := await _next_runs(client)).keys() < planned and time.monotonic() < until:
        await asyncio.sleep(0.5)
    address = str(client.api_url).rstrip("/")
    print(f"Prefect's UI: {address.removesuffix('/api')}")
    export = f'export PREFECT_API_URL="{address}"'
    if access.is_generated(PREFECT_API_AUTH_STRING.value()):
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
    runs = await client.read_flow_runs(
        flow_run_filter=SCHEDULED,
        work_pool_filter=_in([checkout.pool()]),
        sort=sorting.FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=200,
    )
    first: dict[UUID, FlowRun] = {}
    for run in runs:
        if run.deployment_id is not None:
            first.setdefault(run.deployment_id, run)
    return first
