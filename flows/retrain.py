"""Retrain if there is a reason to, judge the best model, promote it if it earned that, and tell.

DVC decides what is stale, the rules of params.yaml decide what is promoted; this says when, what is tried again, and who is told.
"""

import contextlib
import json
import logging
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

from flows import access, telling
from flows.attempts import done
from flows.stages_side_by_side import Run
from flows.tasks import look_at_verdict, look_for_drift, look_for_new_data, promote_challenger, pull, push
from sentiflow.config.params import Params
from sentiflow.config.schema import ModelName
from sentiflow.models import settings
from sentiflow.pipeline import recovery, repro, staleness
from sentiflow.pipeline.workers import Workers
from sentiflow.system import locks, terminal
from sentiflow.system.errors import InputError
from services import secrets

UNFINISHED = Path(".cache/retraining.json")  # there while a retraining is at work, and after one that did not end
RAN = "ran"
AT_WORK = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]  # or about to be, or done

Models = list[ModelName] | None


def _tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    blocks: list[str] = []
    with contextlib.suppress(InputError):  # a slip in params.yaml may be what failed
        blocks = settings.load().retrain.notify
    telling.notify(
        flow_run_logger(flow_run, flow),
        f"Retraining {flow_run.name}: {state.name}",
        state.message or "without a message",
        blocks,
        logging.ERROR,
    )


@flow(
    name="retrain",
    description=__doc__,
    log_prints=True,
    persist_result=False,
    on_failure=[_tell_failure],
    on_crashed=[_tell_failure],
)
def retrain(models: Models = None, force: bool = False, promote: bool = True) -> State[Any]:
    """Ends as Completed, saying what came of it or that there was no reason; Failed; or Cancelled, if another one is at work.

    Args:
        models: train and evaluate these of `run:` in params.yaml; none means all of them.
        force: run stages that are up to date as well; where models are named, not the training of the others.
        promote: let the best model become champion if it passes every rule; otherwise it is only judged.
    """
    try:
        p = settings.load()
        _check(models, p)
        if later := _due_later():
            return Cancelled(message=f"It was late, and {later}, which was due after it, does its work.")
        with repro.at_work(patience=0), Workers(p.retrain.side_by_side) as workers:
            return _retrain(p, workers, models, force, promote)
    except locks.BusyError as error:
        return Cancelled(message=f"One retraining at a time: {error}.")
    except InputError as error:
        return Failed(message=str(error))


def _retrain(p: Params, workers: Workers, models: Models, force: bool, promote: bool) -> State[Any]:
    log = get_run_logger()
    log.info(done(pull, p, workers))
    new_data = done(look_for_new_data, p, p)
    why = _reasons(p, workers, force, new_data)
    if not why:
        return Completed(message="No reason to retrain: source, code, parameters and results are as the last run left them.")
    log.info("Retraining, because: %s", "; ".join(why))
    repro.require_entry()

    started = datetime.now(UTC)
    UNFINISHED.parent.mkdir(parents=True, exist_ok=True)
    UNFINISHED.write_text(json.dumps({"run": this_run.name, "started": started.isoformat(timespec="seconds")}), encoding="utf-8")
    before = recovery.lock_entries()
    # a source that DVC does not watch, such as a URL, is read again only if it is told to
    forced = frozenset({"download"} if new_data and not new_data[1] else ())
    run = Run(p, workers, force, forced)
    try:
        left_out = run.of(models) if models else run.all()
    finally:
        telling.stages_table(run.outcomes)
    if left_out:
        UNFINISHED.unlink(missing_ok=True)
        return Completed(message=f"Trained and evaluated {', '.join(models or [])}. Nothing was compared: {left_out}.")
    outcomes = run.outcomes
    others = _not_reproduced(before, recovery.lock_entries()) if force else []
    if others:
        told = f"stages gave other results from the same inputs than before: {', '.join(others)}"
        telling.notify(get_run_logger(), "Not reproduced", told, p.retrain.notify, logging.WARNING)
    verdict = _judged(p, promote, started, judged_now=any(each.name == "judge" and each.how == RAN for each in outcomes))
    log.info(done(push, p, workers))
    UNFINISHED.unlink(missing_ok=True)
    counts = ", ".join(f"{sum(each.how == how for each in outcomes)} {how}" for how in ("ran", "restored", "fresh"))
    return Completed(message=f"{verdict} Stages: {counts}. Because: {'; '.join(why).removesuffix('.')}.")


def _check(models: Models, p: Params) -> None:
    if unknown := sorted(set(models or []) - set(p.run)):
        raise InputError(
            f"received {' '.join(unknown)}, which is not in `run:` of params.yaml; "
            f"expected some of {', '.join(p.run)}, or add it there"
        )


def _due_later() -> str | None:
    """A scheduled run of the same deployment that was due after this one and by now, as after a night without a worker."""
    if deployment.id is None:
        return None
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(UUID(this_run.id))
        if not this.auto_scheduled:
            return None
        after = {
            "deployment_id": {"any_": [deployment.id]},
            "state": {"type": {"any_": AT_WORK}},
            "expected_start_time": {"after_": this.expected_start_time, "before_": datetime.now(UTC)},
        }
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(after))
    return next((run.name for run in runs if run.auto_scheduled and run.expected_start_time != this.expected_start_time), None)


def _reasons(p: Params, workers: Workers, force: bool, new_data: "tuple[str, bool] | None") -> list[str]:
    why = ["forced"] if force else []
    if UNFINISHED.exists():
        name = "before"
        with contextlib.suppress(ValueError, KeyError):  # it was killed while it wrote its name
            name = json.loads(UNFINISHED.read_text(encoding="utf-8"))["run"]
        why.append(f"the retraining {name} did not end")
    plan = workers.plan()
    found = staleness.of(plan)
    if new_data is not None:
        found = [f"source data changed: {new_data[0]}", *(each for each in found if not each.startswith("source data changed"))]
    why += found
    if drift := done(look_for_drift, p, p):
        why.append(drift)
    return why


def _not_reproduced(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Stages that were run again on the same inputs and gave other outputs."""
    inputs = ("cmd", "deps", "params")
    return [
        name
        for name, entry in after.items()
        if name in before
        and all(entry.get(each) == before[name].get(each) for each in inputs)
        and entry.get("outs") != before[name].get("outs")
    ]


def _judged(p: Params, promote: bool, started: datetime, *, judged_now: bool) -> str:
    """Promotes the challenger if it passes the rules and that is wanted; returns the outcome as a sentence."""
    judged: tuple[str, str, bool] = done(look_at_verdict, p, started)
    challenger, verdict, holds = judged
    if challenger and holds and promote:
        told, is_champion = done(promote_challenger, p, challenger)
        telling.notify(get_run_logger(), "Promoted" if is_champion else "Rejected", told, p.retrain.notify)
        return str(told)
    if challenger and holds:
        return f"{verdict} It waits for `sentiflow models promote`, since this run was told not to promote."
    if challenger and judged_now:
        telling.notify(get_run_logger(), "Rejected", verdict, p.retrain.notify)
    elif not challenger and judged_now and verdict:
        telling.notify(get_run_logger(), "Promoted", verdict, p.retrain.notify)
    return verdict or "No version waits to be promoted."


def _server() -> dict[Any, str | None]:
    """Settings of the Prefect server to use."""
    named, own = access.named(), access.own_server()
    if own and named in ("", own) and (password := access.password_of(own, PREFECT_API_AUTH_STRING.value(), access.generated())):
        return {PREFECT_API_URL: own, PREFECT_API_AUTH_STRING: password}
    if named:
        access.require()
        return {}
    # A server of this checkout that rejects our password got another one from the user; a temporary one does no harm.
    password = f"admin:{secrets.generated()}"
    # With an API key, which is for another server, Prefect sends no events to a temporary one.
    return {PREFECT_SERVER_API_AUTH_STRING: password, PREFECT_API_AUTH_STRING: password, PREFECT_API_KEY: None}


def run_here(names: Models = None, *, force: bool = False, promote: bool = True) -> bool:
    """Runs the flow here and now, on the Prefect server of PREFECT_API_URL or of this checkout, else on a temporary one.

    Args:
        names: of `run:` in params.yaml; None for all.
        force: run stages that are up to date as well.
        promote: let the best model become champion if it passes every rule.

    Returns:
        Whether it completed.
    """
    _check(names, settings.load())  # before a Prefect server starts, which would refuse by a traceback
    with temporary_settings(_server()):
        state = retrain(names or None, force=force, promote=promote, return_state=True)
    terminal.tell(f"{state.name}: {state.message}")
    return state.is_completed()
