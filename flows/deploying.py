"""Deploys prefect.yaml to a Prefect server, and keeps what was switched off in its UI switched off."""

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
# Unlike with Prefect's default template, a run cannot set its command, environment or working directory. `job_configuration` has
# no `env` either: Prefect merges the `env` of a run into it, template variable or not.
NO_VARIABLES = {"type": "object", "properties": {}, "additionalProperties": False}
TEMPLATE = {"job_configuration": {"stream_output": True}, "variables": NO_VARIABLES}
SCHEDULED = filters.FlowRunFilter.model_validate({"state": {"type": {"any_": [StateType.SCHEDULED]}}})
SCHEDULING = 20.0  # seconds for a server to schedule the runs of a new deployment


async def prepare(worker: str, take_over: bool) -> None:
    """Prepares a server for a worker of this machine; prints the address of its UI and the next scheduled runs.

    Args:
        worker: name of the worker; it must not be running.
        take_over: move the deployments here if another checkout serves them.
    """
    content = _content()
    async with get_client() as client:
        await _wait_for_server(client)
        moved_from = await _pools_to_move_from(client, content, take_over)
        for run in await lost_runs.end(client, [checkout.pool(), *moved_from], worker):
            print(f"{run.name} was {run.state_name} although its process is gone: marked as ended", flush=True)
        await _create_pool(client)
        await _deploy(client, content)
        await _remove_renamed(client, content)
        await _cancel_waiting(client, content, moved_from)
        await _print_next_runs(client)


def _content() -> dict[str, Any]:
    """Content of prefect.yaml with this checkout's work pool and the project's name."""
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
            f"{checkout.DEPLOYMENTS} has an unexpected structure ({type(error).__name__}: {error}): every deployment needs "
            "name, entrypoint and work_pool, every trigger name and match; correct it and start again"
        ) from None
    return content


async def _deploy(client: PrefectClient, content: dict[str, Any]) -> None:
    """Deploys everything in prefect.yaml. Whatever was switched off in the UI stays off.

    Prefect identifies schedules by their slug and keeps them paused. But it resumes paused deployments, and recreates the
    automations of triggers as enabled, so both are switched off again here.
    """
    off = {automation.name for automation in await client.read_automations() if not automation.enabled}
    paused = [deployment.id for deployment in await _deployments(client, content) if deployment.paused]
    DEPLOYED.parent.mkdir(exist_ok=True)
    DEPLOYED.write_text(json.dumps(content, indent=2), encoding="utf-8")  # JSON is YAML
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
    """Deployments with the names of prefect.yaml, in any work pool."""
    flows = {each["entrypoint"].rpartition(":")[2] for each in content["deployments"]}
    names = [each["name"] for each in content["deployments"]]
    return await client.read_deployments(
        flow_filter=filters.FlowFilter.model_validate({"name": {"any_": list(flows)}}),
        deployment_filter=filters.DeploymentFilter.model_validate({"name": {"any_": names}}),
    )


async def _pools_to_move_from(client: PrefectClient, content: dict[str, Any], take_over: bool) -> list[str]:
    """Work pools of other checkouts that serve these deployments.

    Raises:
        InputError: if there is one from which they must not be moved.
    """
    others = {each.work_pool_name: each for each in await _deployments(client, content) if each.work_pool_name}
    others.pop(checkout.pool(), None)
    for name, deployment in others.items():
        pool = await client.read_work_pool(name)
        owner = pool.description or f"{_folder(deployment)}, in the work pool {name}"
        # on this checkout's own server the other pool is its former one: the folder was copied or moved with the database
        is_own_server = access.own_server() == str(client.api_url).rstrip("/")
        if not take_over and not (is_own_server and await _pool(client) is None):
            raise InputError(
                f"the deployments at {client.api_url} are served by another checkout: {owner}; leave them there, take them "
                f"over with `sentiflow schedule --take-over`, or set another `name` in {checkout.DEPLOYMENTS} to have both"
            )
        print(f"moved the deployments at {client.api_url} from {owner} to this checkout", flush=True)
    return list(others)


def _folder(deployment: DeploymentResponse) -> str | None:
    """Working directory of a deployment's runs."""
    steps = [step for each in deployment.pull_steps or [] for step in each.values()]
    return next((step["directory"] for step in steps if "directory" in step), None)


async def _remove_renamed(client: PrefectClient, content: dict[str, Any]) -> None:
    """Removes the deployments that this checkout had under an earlier `name` of prefect.yaml."""
    entrypoints = {each["entrypoint"] for each in content["deployments"]}
    current = {each.id for each in await _deployments(client, content)}
    for deployment in await client.read_deployments(work_pool_filter=_in([checkout.pool()])):
        if deployment.id not in current and deployment.entrypoint in entrypoints:
            await client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
            await client.delete_deployment(deployment.id)


async def _cancel_waiting(client: PrefectClient, content: dict[str, Any], pools: list[str]) -> None:
    """Cancels runs of these deployments that wait in work pools which have no worker any more."""
    if not pools:
        return
    deployments = [each.id for each in await _deployments(client, content)]
    waiting = await client.read_flow_runs(
        flow_run_filter=SCHEDULED,
        work_pool_filter=_in(pools),
        deployment_filter=filters.DeploymentFilter.model_validate({"id": {"any_": deployments}}),
    )
    for run in waiting:
        await client.set_flow_run_state(run.id, Cancelled(message="Its deployment was moved to another checkout."), force=True)


def _in(pools: list[str]) -> filters.WorkPoolFilter:
    return filters.WorkPoolFilter.model_validate({"name": {"any_": pools}})


async def _wait_for_server(client: PrefectClient) -> None:
    until = time.monotonic() + access.STARTING
    while error := await client.api_healthcheck():
        if time.monotonic() > until:
            raise InputError(f"no Prefect server answers at {client.api_url} after {access.STARTING:.0f} s: {error}")
        await asyncio.sleep(0.5)
    await asyncio.to_thread(access.require)


async def _pool(client: PrefectClient) -> WorkPool | None:
    """Work pool of this checkout, if it exists."""
    return next(iter(await client.read_work_pools(work_pool_filter=_in([checkout.pool()]))), None)


async def _create_pool(client: PrefectClient) -> None:
    pool = await _pool(client)
    if pool is None:
        await client.create_work_pool(
            WorkPoolCreate(
                name=checkout.pool(), type=ProcessWorker.type, base_job_template=TEMPLATE, description=checkout.description()
            )
        )
    elif pool.base_job_template != TEMPLATE:
        await client.update_work_pool(pool.name, WorkPoolUpdate(base_job_template=TEMPLATE))


async def _print_next_runs(client: PrefectClient) -> None:
    names, expected = {}, set()
    for deployment in await client.read_deployments(work_pool_filter=_in([checkout.pool()])):
        names[deployment.id] = deployment.name
        if not deployment.paused and any(schedule.active for schedule in deployment.schedules):
            expected.add(deployment.id)
    until = time.monotonic() + SCHEDULING
    while (runs := await _next_runs(client)).keys() < expected and time.monotonic() < until:
        await asyncio.sleep(0.5)
    address = str(client.api_url).rstrip("/")
    print(f"Prefect's UI: {address.removesuffix('/api')}")
    export = f'export PREFECT_API_URL="{address}"'
    if access.is_generated(PREFECT_API_AUTH_STRING.value()):
        print(f"The page asks for a password, once: paste the line in {access.PASSWORD}")
        export += f' PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(access.PASSWORD.resolve()))})"'
    print(f"In another terminal: {export}")
    for deployment_id, run in runs.items():
        when = run.expected_start_time
        print(f"{names[deployment_id]}: next {when:%Y-%m-%d %H:%M} UTC" if when else names[deployment_id])
    for name in sorted(names[deployment_id] for deployment_id in names.keys() - runs.keys()):
        print(f"{name}: nothing scheduled")
    sys.stdout.flush()


async def _next_runs(client: PrefectClient) -> dict[UUID, FlowRun]:
    """The next run of each deployment that has one, soonest first."""
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
