"""Tasks of a retraining, in the order in which `flows.retrain` calls them."""

import contextlib
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from prefect import get_run_logger

from flows import artifacts
from flows.retries import retried
from sentiflow.config.params import Params
from sentiflow.data import source_changes
from sentiflow.pipeline import repro
from sentiflow.pipeline.workers import Outcome, Workers
from sentiflow.system import process_groups
from sentiflow.system.errors import InputError, UnavailableError

# Functions import MLflow, which takes seconds to load, only when they need it.


@retried
def pull(workers: Workers) -> None:
    """Downloads everything that dvc.lock references, and sources that are missing here."""
    log = get_run_logger()
    remote = workers.ask("remote")
    if remote is None:
        log.info("no remote is set, so nothing was pulled")
        return
    sources = workers.ask("pull_sources", log=log.info)
    fetched = workers.ask("fetch", log=log.info)
    log.info("pulled %s files from the remote %s%s", fetched, remote, f", including {', '.join(sources)}" if sources else "")


@retried
def push(workers: Workers) -> None:
    """Uploads everything that dvc.lock references."""
    log = get_run_logger()
    remote = workers.ask("remote")
    if remote is None:
        log.info("no remote is set, so nothing was pushed")
        return
    log.info("pushed %s files to the remote %s", workers.ask("push", log=log.info), remote)


@retried
def check_source(p: Params) -> source_changes.Change | None:
    """How the source differs from what the last download read; None if it does not."""
    change = source_changes.changed(p, settle_seconds=p.watch.settle_seconds)
    if change is not None and not change.settled:
        raise UnavailableError(f"{change.in_words}; it may be incomplete, since it is still being written")
    return change


@retried
def check_drift(p: Params) -> str | None:
    """Why drift of the incoming reviews is a reason to retrain; None if it is none."""
    if not Path(p.drift.incoming).exists():
        return None
    from sentiflow.registry import store
    from sentiflow.serving import drift

    store.connect()  # fails the run if the store cannot be used, unlike errors in the incoming reviews
    try:
        found = drift.look(p)
    except UnavailableError:
        raise
    except InputError as error:  # such as a missing column, which must not stop a due retraining
        get_run_logger().warning("the incoming reviews were not compared: %s", error)
        return None
    if found is None:
        return None
    get_run_logger().info(found.in_words)
    artifacts.page("drift", drift.as_markdown(found), "Incoming reviews compared with the champion's training data.")
    return f"drift: {found.in_words}" if found.is_reason else None


@retried
def run_stage(name: str, workers: Workers, force: bool, minutes: float) -> Outcome:
    """Has DVC run one stage if it is stale; logs its output."""
    log = get_run_logger()
    log_line = artifacts.with_epochs(name, lambda line: log.info(line.strip()))
    outcome = workers.run(name, force=force, seconds=minutes * 60, log=log_line)
    log.info("%s: %s, %.1f s", name, outcome.how, outcome.seconds)
    return outcome


class Verdict(NamedTuple):
    """Verdict on the challenger.

    challenger: its version; empty if there is no challenger.
    text: the verdict; without a challenger, which champion was promoted since the run started, empty if none was.
    passes: whether it passes every promotion rule.
    """

    challenger: str
    text: str
    passes: bool


@retried
def read_verdict(started: datetime) -> Verdict:
    """Reads the verdict on the challenger; shows comparison, verdict and MLflow's runs in Prefect's UI."""
    from sentiflow.registry import champion_history, judging, model_versions, store

    client = store.connect()
    with champion_history.changing(client) as entries:  # completes a promotion that was killed
        artifacts.result_pages()
        _link_mlflow_runs(client)
        challenger = model_versions.with_alias(client, model_versions.CHALLENGER)
        if challenger is not None and champion_history.current(entries) == str(challenger.version):
            model_versions.set_alias(client, model_versions.CHALLENGER, None)
            champion_history.write_journal(client)
            challenger = None
        if challenger is None:
            newest = entries[-1] if entries else None
            is_new = newest is not None and newest.at >= started.isoformat(timespec="seconds")
            return Verdict("", f"Champion: {newest.described}" if newest is not None and is_new else "", False)
        verdict, passes = judging.recorded(challenger)
        return Verdict(str(challenger.version), verdict, passes is True)


def _link_mlflow_runs(client: Any) -> None:
    from sentiflow.registry import publishing, store

    with contextlib.suppress(FileNotFoundError):
        keys = json.loads(repro.PUBLISHED[0].read_text(encoding="utf-8"))["keys"]
        if published := publishing.runs(client, keys["comparison"]):
            artifacts.mlflow_links(store.experiment_id(client), *published)


@retried
def promote_challenger(version: str) -> tuple[str, bool]:
    """Promotes a challenger if it passes every rule, through `sentiflow models promote` in a process of its own.

    That evaluates the rules again under the lock of the registry, since the champion may have changed after the first evaluation.

    Returns:
        The outcome as a sentence, and whether the version is champion.
    """
    from sentiflow.registry import judging, model_versions, store

    lines: list[str] = []

    def log_line(line: str) -> None:
        get_run_logger().info(line)
        lines.append(line)

    client = store.connect()
    before = _champion_version(client)
    status = process_groups.run([sys.executable, "-m", "sentiflow", "models", "promote", version], log_line)
    if status == 0:
        return next((line for line in lines if line.startswith("Champion: ")), f"Champion: version {version}"), True
    now = _champion_version(client)
    if now == version:
        return f"Champion: version {version}, which was promoted meanwhile.", True
    verdict, passes = judging.recorded(model_versions.version(client, version))
    if passes is False:
        return verdict, False
    reason = lines[-1].removeprefix("error: ") if lines else f"promoting version {version} failed with exit status {status}"
    raise (UnavailableError if now != before else InputError)(reason)  # with another champion the rules are evaluated again


def _champion_version(client: Any) -> str:
    from sentiflow.registry import model_versions, store

    with store.errors_handled():
        champion = model_versions.champion(client)
    return "" if champion is None else str(champion.version)
