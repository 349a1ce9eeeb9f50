"""What a retraining does, step by step, as Prefect's tasks: tried again where the world can break, and nowhere else."""

import contextlib
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from flows import telling
from flows.attempts import tried_again
from sentiflow.config.params import Params
from sentiflow.data import source_changes
from sentiflow.pipeline import repro
from sentiflow.pipeline.workers import Outcome, Workers
from sentiflow.system import process_groups
from sentiflow.system.errors import InputError, UnavailableError

MINUTE = 60.0


@tried_again
def pull(workers: Workers) -> str:
    """Downloads what dvc.lock references, and sources that are missing here."""
    remote = workers.ask("remote")
    if remote is None:
        return "no remote is set, so nothing was pulled"
    sources = workers.ask("pull_sources", log=get_run_logger().info)
    fetched = workers.ask("fetch", log=get_run_logger().info)
    return f"pulled {fetched} files from the remote {remote}" + (f", {', '.join(sources)} among them" if sources else "")


@tried_again
def push(workers: Workers) -> str:
    """Hands what was made to the remote."""
    remote = workers.ask("remote")
    if remote is None:
        return "no remote is set, so nothing was pushed"
    return f"pushed {workers.ask('push', log=get_run_logger().info)} files to the remote {remote}"


@tried_again
def look_for_drift(p: Params) -> str | None:
    """Why incoming reviews are a reason to retrain; None if they are none."""
    if not Path(p.drift.incoming).exists():
        return None
    from sentiflow.registry import store
    from sentiflow.serving import drift  # here, since they load MLflow, and the champion's library, which takes seconds

    store.connect()  # what is wrong with the store is no matter of the reviews: it fails the run, which would fail on it later
    try:
        found = drift.look(p)
    except UnavailableError:
        raise
    except InputError as error:  # such as a file without the column: no reason to let what is due wait
        get_run_logger().warning("the incoming reviews were not compared: %s", error)
        return None
    if found is None:
        return None
    get_run_logger().info(found.in_words)
    telling.page("drift", drift.as_markdown(found), "Incoming reviews against what the champion learned from.")
    return f"drift: {found.in_words}" if found.is_reason else None


@tried_again
def look_for_new_data(p: Params) -> "tuple[str, bool] | None":
    """How the source changed, in words, and whether DVC sees that by itself; None if it did not change."""
    change = source_changes.changed(p, settle_seconds=p.watch.settle_seconds)
    if change is None:
        return None
    if not change.settled:
        raise UnavailableError(f"{change.in_words}; it is being written to, so it may be only half there")
    return change.in_words, change.seen_by_dvc


@tried_again
def run_stage(name: str, workers: Workers, force: bool, minutes: float) -> Outcome:
    """Has DVC run one stage if it is stale; its output goes to the log as it comes."""
    log = get_run_logger()
    outcome = workers.run(
        name, force=force, seconds=minutes * MINUTE, log=telling.epochs(name, lambda line: log.info(line.strip()))
    )
    log.info("%s: %s, %.1f s", name, outcome.how, outcome.seconds)
    return outcome


@tried_again
def promote_challenger(version: str) -> tuple[str, bool]:
    """Judges the challenger once more, now with nobody else promoting, and makes it champion if it passes every rule.

    It is `sentiflow models promote`, in a process of its own. Who was champion when it was judged first may not be so now.

    Returns:
        What came of it, and whether it is champion.
    """
    lines: list[str] = []

    def tell(line: str) -> None:
        get_run_logger().info(line)
        lines.append(line)

    from sentiflow.registry import judging, model_versions, store

    client = store.connect()
    before = _number_of_champion(client)
    status = process_groups.run([sys.executable, "-m", "sentiflow", "models", "promote", version], tell)
    if status == 0:
        return next((line for line in lines if line.startswith("Champion: ")), f"Champion: version {version}"), True
    now = _number_of_champion(client)
    if now == version:
        return f"Champion: version {version}, which was promoted meanwhile.", True
    verdict, passes = judging.recorded(model_versions.version(client, version))
    if passes is False:
        return verdict, False
    said = lines[-1].removeprefix("error: ") if lines else f"the promotion of version {version} ended with status {status}"
    raise (UnavailableError if now != before else InputError)(said)  # another change came first: it is judged again


def _number_of_champion(client: Any) -> str:
    from sentiflow.registry import model_versions, store

    with store.errors_handled():
        champion = model_versions.champion(client)
    return "" if champion is None else str(champion.version)


@tried_again
def look_at_verdict(started: datetime) -> tuple[str, str, bool]:
    """The challenger's version, its verdict, and whether it passes every rule; leaves the pages in Prefect's UI.

    Without a challenger the version is empty, and the words are those of the champion that this run crowned, if it did.
    """
    from sentiflow.registry import champion_history, judging, model_versions, store

    client = store.connect()
    with champion_history.changing(client) as entries:  # so that what a killed promotion began is ended, and not begun again
        telling.pages()
        _link_runs(client)
        challenger = model_versions.with_alias(client, model_versions.CHALLENGER)
        if challenger is not None and champion_history.current(entries) == str(challenger.version):
            model_versions.set_alias(client, model_versions.CHALLENGER, None)
            champion_history.write_journal(client)
            challenger = None
        if challenger is None:
            newest = entries[-1] if entries else None
            is_new = newest is not None and newest.at >= started.isoformat(timespec="seconds")
            return "", f"Champion: {newest.described}" if newest is not None and is_new else "", False
        verdict, passes = judging.recorded(challenger)
        return str(challenger.version), verdict, passes is True


def _link_runs(client: Any) -> None:
    from sentiflow.registry import publishing, store

    with contextlib.suppress(FileNotFoundError):
        keys = json.loads(repro.PUBLISHED[0].read_text(encoding="utf-8"))["keys"]
        if published := publishing.runs(client, keys["comparison"]):
            telling.runs(store.experiment_id(client), *published)
