"""Writes reports/decision.html: the report with the champion, the challenger and the verdict of MLflow's store on top."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sentiflow.registry import champion_history, judging, location, model_versions, publishing, store
from sentiflow.registry.champion_history import Entry
from sentiflow.reporting import decision_page
from sentiflow.reporting.decision_page import Decision, Row, Rule, Version
from sentiflow.system import artifacts, files, urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

NOT_JUDGED = "No verdict yet. `sentiflow models promote {} --dry-run` checks the promotion rules and changes nothing."
COMPARISON = Path("metrics/comparison.json")
SIZE, SECONDS = "usage/size_mb", "usage/training_seconds"  # metrics of a run
HOW_TO_START = "No version has been judged. `sentiflow repro` trains, registers and judges the models of `run:`."

Verdict = Mapping[str, Any]  # from `verdict_report.as_data`


def write() -> None:
    """Writes the page, if the report exists. A store that cannot be read is a warning: the models are not affected."""
    if not (location.REPORT.exists() and location.PUBLISHED.exists()):
        return
    try:
        client = store.connect()
        with store.errors_handled():
            found = _decision(client, champion_history.history(client))
    except (InputError, UnavailableError, MlflowException) as error:
        log.warning("%s was not written: %s", location.DECISION, error)
        return
    files.write(location.DECISION, decision_page.insert(location.REPORT.read_text(encoding="utf-8"), found))


def _decision(client: MlflowClient, entries: Sequence[Entry]) -> Decision:
    champion = champion_history.champion(client, entries)
    challenger = model_versions.with_alias(client, model_versions.CHALLENGER)
    crowned = next((entry for entry in reversed(entries) if champion and entry.version == str(champion.version)), None)
    versions = [Version("champion", "none", "", "", "", "no version passed the rules yet")]
    headline, reason, verdict = "No model to ship yet.", HOW_TO_START, None
    if champion is not None and crowned is not None:
        verdict = _verdict(client, champion, crowned.replaced)
        headline, reason = f"Ship {_name(champion)}.", crowned.why
        if crowned.how not in (champion_history.FIRST, champion_history.RULES):
            reason = f"{crowned.how.capitalize()}: {reason}"
        versions = [_version(champion, "champion", f"champion since {_date(crowned.at)} ({crowned.how})")]
    if challenger is not None and (champion is None or challenger.version != champion.version):
        verdict = _verdict(client, challenger, "" if champion is None else str(champion.version))
        headline = f"Keep {_name(champion)}." if champion else headline
        reason, status = NOT_JUDGED.format(challenger.version), "not judged"
        if verdict is not None:
            reason, status = verdict["summary"], "passes every rule" if verdict["holds"] else "not promoted"
            if champion is not None and _number(verdict["champion"]) != str(champion.version):
                reason += f" Not yet judged against version {champion.version}: run `sentiflow models promote`."
            elif verdict["holds"]:
                headline = f"Ship {_name(challenger)}: run sentiflow models promote."
        versions.append(_version(challenger, "challenger", status))
    return Decision(
        headline=headline,
        reason=reason,
        versions=versions,
        judged="" if verdict is None else _judged(verdict),
        rules=[] if verdict is None else [Rule(r["rule"], r["holds"], r["required"], r["found"]) for r in verdict["rules"]],
        models=_rows(client, {version.version: version.role for version in versions}, champion),
        store=urls.without_user(mlflow.get_tracking_uri()),
        written=_date(datetime.now(UTC)),
    )


def _verdict(client: MlflowClient, version: ModelVersion, against: str) -> Verdict | None:
    """The last verdict on a version, preferably the one against this champion; None if it was never judged."""
    run = store.run_of(version)
    names = [item.path for item in client.list_artifacts(run, judging.VERDICTS) if item.path.endswith(".json")]
    verdicts = [mlflow.artifacts.load_dict(f"runs:/{run}/{name}") for name in names]
    verdicts = [verdict for verdict in verdicts if _number(verdict["challenger"]) == str(version.version)]
    verdicts.sort(key=lambda each: (_number(each["champion"]) == against, each["decision"]))
    return verdicts[-1] if verdicts else None


def _judged(verdict: Verdict) -> str:
    champion = verdict["champion"]
    against = f"against version {champion['version']} ({champion['architecture']})" if champion else "without a champion"
    challenger = verdict["challenger"]
    return (
        f"Promotion rules: version {challenger['version']} ({challenger['architecture']}) {against}, "
        f"on {verdict['reviews']:,} test reviews"
    )


def _rows(client: MlflowClient, roles: Mapping[str, str], champion: ModelVersion | None) -> list[Row]:
    """The models of the last run, best on valid first, and the champion if it is from another run."""
    keys = artifacts.read_json(location.PUBLISHED).get("keys", {})
    ranked = [model["architecture"] for model in artifacts.read_json(COMPARISON)["models"]]
    listed = {name: model_versions.published(client, keys[name]) for name in ranked if name in keys}
    if champion is not None and champion.version not in {version.version for version in listed.values()}:
        listed[f"{champion.tags[store.ARCHITECTURE_TAG]} (earlier run)"] = champion
    rows = []
    for name, version in listed.items():
        run_id, number = store.run_of(version), str(version.version)
        test = mlflow.artifacts.load_dict(f"runs:/{run_id}/report/scores.json")["test"]
        measured = client.get_run(run_id).data.metrics
        rows.append(
            Row(
                name=name,
                accuracy=test["accuracy_score"],
                low=test["accuracy_score_low"],
                high=test["accuracy_score_high"],
                calibration_error=test["calibration_error"],
                has_page=name in keys,
                version=number,
                role=roles.get(number, ""),
                latency_ms=measured.get(publishing.LATENCY),
                size_mb=measured.get(SIZE),
                seconds=measured.get(SECONDS),
            )
        )
    return rows


def _version(version: ModelVersion, role: str, status: str) -> Version:
    commit = version.tags.get(store.COMMIT_TAG, "")[:10]
    if commit and version.tags.get(store.UNCOMMITTED_TAG) == "true":
        commit += ", with uncommitted changes"
    registered = _date(datetime.fromtimestamp(version.creation_timestamp / 1000, UTC))
    return Version(role, version.tags.get(store.ARCHITECTURE_TAG, ""), str(version.version), commit, registered, status)


def _name(version: ModelVersion) -> str:
    return f"{version.tags.get(store.ARCHITECTURE_TAG, '')}, version {version.version}"


def _number(named: Mapping[str, str] | None) -> str:
    return named["version"] if named else ""


def _date(at: datetime | str) -> str:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{moment:%Y-%m-%d %H:%M} UTC"
