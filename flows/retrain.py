"""Retrain if there is a reason to, promote the best model if it passes every rule, and notify.

DVC decides which stages are stale, the rules of params.yaml decide what is promoted. The flow decides when to run, what to retry
and whom to notify.
"""

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import deployment
from prefect.runtime import flow_run as this_run
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    temporary_settings,
)
from prefect.states import Cancelled, Completed, Failed

from flows import access
from flows.notifications import notify
from flows.retries import call
from flows.stages_in_parallel import Run
from flows.tasks import Verdict, check_drift, check_source, promote_challenger, pull, push, read_verdict
from sentiflow.config.params import Params
from sentiflow.config.schema import ModelName
from sentiflow.data.source_changes import Change
from sentiflow.models import settings
from sentiflow.pipeline import recovery, repro, staleness
from sentiflow.pipeline.workers import Workers
from sentiflow.system import files, locks, terminal
from sentiflow.system.errors import InputError
from services import secrets

UNFINISHED = Path(".cache/retraining.json")  # exists during a retraining, and after one that did not complete

Models = list[ModelName] | None


def _notify_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    blocks: list[str] = []
    with contextlib.suppress(InputError):  # params.yaml may be what failed
        blocks = settings.load().retrain.notify
    subject, body = f"Retraining {flow_run.name}: {state.name}", state.message or "no message"
    notify(flow_run_logger(flow_run, flow), subject, body, blocks, logging.ERROR)


@flow(
    name="retrain",
    description=__doc__,
    log_prints=True,
    persist_result=False,
    on_failure=[_notify_failure],
    on_crashed=[_notify_failure],
)
def retrain(models: Models = None, force: bool = False, promote: bool = True) -> State[Any]:
    """Ends as Completed with the outcome, as Failed with the reason, or as Cancelled if another retraining is running.

    Args:
        models: train and evaluate these of `run:` in params.yaml; none means all of them.
        force: run stages that are up to date as well; where models are named, not the training of the others.
        promote: make the best model champion if it passes every rule; otherwise it is only evaluated.
    """
    try:
        p = settings.load()
        _require_known(models, p)
        if later := _later_run():
            return Cancelled(message=f"This run is late, and {later}, which was due after it, replaces it.")
        with repro.at_work(patience=0), Workers(p.retrain.side_by_side) as workers:
            call(pull, p, workers)
            change = call(check_source, p, p)
            reasons = _reasons(p, workers, force, change)
            if not reasons:
                return Completed(message="No reason to retrain: source, code, parameters and results are unchanged.")
            get_run_logger().info("Retraining, because: %s", "; ".join(reasons))
            repro.require_entry()
            with _unfinished() as started:
                # DVC cannot detect a change of a source outside the project, such as a URL
                forced = {"download"} if change is not None and not change.seen_by_dvc else set()
                before = recovery.lock_entries()
                run = Run(p, workers, force, forced)
                if skipped := run.stages(models):
                    return Completed(message=f"Trained and evaluated {', '.join(models or [])}. Nothing was compared: {skipped}.")
                if force:
                    _notify_if_not_reproduced(p, before)
                verdict = call(read_verdict, p, started)
                outcome = _promote_and_notify(verdict, p, promote, is_new=run.did_run("judge"))
                call(push, p, workers)
                return Completed(message=f"{outcome} {run.summary()} Because: {'; '.join(reasons).removesuffix('.')}.")
    except locks.BusyError as error:
        return Cancelled(message=f"One retraining at a time: {error}.")
    except InputError as error:
        return Failed(message=str(error))


@contextlib.contextmanager
def _unfinished() -> Iterator[datetime]:
    """Marks the retraining as unfinished until the block succeeds. Gives the time of its start."""
    started = datetime.now(UTC)
    files.write(UNFINISHED, json.dumps({"run": this_run.name, "started": started.isoformat(timespec="seconds")}))
    yield started
    UNFINISHED.unlink(missing_ok=True)


def _require_known(models: Models, p: Params) -> None:
    if unknown := sorted(set(models or []) - set(p.run)):
        raise InputError(
            f"received {' '.join(unknown)}, which is not in `run:` of params.yaml; "
            f"expected some of {', '.join(p.run)}, or add it there"
        )


def _later_run() -> str | None:
    """A scheduled run of the same deployment that was due after this one and is due by now, as after a night without a worker."""
    if deployment.id is None:
        return None
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(UUID(this_run.id))
        if not this.auto_scheduled:
            return None
        states = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
        due_later = {
            "deployment_id": {"any_": [deployment.id]},
            "state": {"type": {"any_": states}},
            "expected_start_time": {"after_": this.expected_start_time, "before_": datetime.now(UTC)},
        }
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(due_later))
    return next((run.name for run in runs if run.auto_scheduled and run.expected_start_time != this.expected_start_time), None)


def _reasons(p: Params, workers: Workers, force: bool, change: Change | None) -> list[str]:
    reasons = ["forced"] if force else []
    if UNFINISHED.exists():
        name = json.loads(UNFINISHED.read_text(encoding="utf-8"))["run"]
        reasons.append(f"the retraining {name} did not end")
    stale = staleness.of(workers.plan())
    if change is not None:
        stale = [reason for reason in stale if not reason.startswith("source data changed")]
        reasons.append(f"source data changed: {change.in_words}")
    drift = call(check_drift, p, p)
    return [*reasons, *stale, *([drift] if drift else [])]


def _notify_if_not_reproduced(p: Params, before: dict[str, Any]) -> None:
    """Notifies of stages that produced other outputs than before from the same inputs."""
    different = [
        name
        for name, entry in recovery.lock_entries().items()
        if name in before
        and all(entry.get(key) == before[name].get(key) for key in ("cmd", "deps", "params"))
        and entry.get("outs") != before[name].get("outs")
    ]
    if different:
        body = f"stages produced other results than before from the same inputs: {', '.join(different)}"
        notify(get_run_logger(), "Not reproduced", body, p.retrain.notify, logging.WARNING)


def _promote_and_notify(verdict: Verdict, p: Params, promote: bool, *, is_new: bool) -> str:
    """Promotes the challenger if it passes the rules and `promote` is set. Notifies of that, and of every new verdict.

    Returns:
        The outcome as a sentence.
    """
    text, outcome = verdict.text, "Rejected" if verdict.challenger else "Promoted"
    if verdict.passes:
        if not promote:
            return f"{text} It waits for `sentiflow models promote`, since this run was started with promote=false."
        text, is_champion = call(promote_challenger, p, verdict.challenger)
        outcome = "Promoted" if is_champion else "Rejected"
    if text and (is_new or verdict.passes):
        notify(get_run_logger(), outcome, text, p.retrain.notify)
    return text or "No version waits to be promoted."


def _server_settings() -> dict[Any, str | None]:
    """Settings of the Prefect server to use: that of PREFECT_API_URL or of this checkout, else a temporary one."""
    configured, own = access.configured_address(), access.own_server()
    candidates = (PREFECT_API_AUTH_STRING.value(), access.generated())
    if own and configured in ("", own) and (password := access.password_of(own, *candidates)):
        return {PREFECT_API_URL: own, PREFECT_API_AUTH_STRING: password}
    if configured:
        access.require()
        return {}
    password = f"admin:{secrets.generated()}"
    # with an API key, which is for another server, Prefect sends no events to a temporary one
    return {PREFECT_SERVER_API_AUTH_STRING: password, PREFECT_API_AUTH_STRING: password, PREFECT_API_KEY: None}


def run_here(names: Models = None, *, force: bool = False, promote: bool = True) -> bool:
    """Runs the flow in this process; parameters are those of `retrain`.

    Returns:
        Whether it completed.
    """
    _require_known(names, settings.load())  # here too, since Prefect would log a traceback
    with temporary_settings(_server_settings()):
        state = retrain(names or None, force=force, promote=promote, return_state=True)
    terminal.tell(f"{state.name}: {state.message}")
    return state.is_completed()
