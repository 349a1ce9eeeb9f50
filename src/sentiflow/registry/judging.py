"""Judge a version against the champion on the same test reviews, and record the verdict with the version."""

import json
import logging
import time
from collections.abc import Iterable, Sequence

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from tqdm import tqdm

from sentiflow.config.params import Evaluate, Promotion
from sentiflow.data import seen_texts
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import champion_history, model_versions, promotion_rules, verdict_report
from sentiflow.registry.candidates import Candidate
from sentiflow.registry.promotion_rules import Verdict
from sentiflow.registry.publishing import LATENCY
from sentiflow.registry.store import ARCHITECTURE_TAG, KEY_TAG, MODEL, NOT_JUDGED, VERDICT_TAG, run_of, write
from sentiflow.registry.test_set import HeldOut
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

HOW_TO_PROMOTE = 'To promote version {0} anyway: sentiflow models promote {0} --force --reason "..."'
ROUNDS = 3  # of timing; the fastest counts, since other load on the machine only adds time
WARM_UP = 10  # reviews predicted before timing
LATENCY_REVIEWS = 50  # timed for a version that is not judged
VERDICTS = "verdicts"  # folder of a run's artifacts
DECISION_TAG = "decision."  # prefix of a version's tags TEST_SET.CHAMPION_KEY = number of the comparison on that test set
DIGITS = 16  # of a hash in a tag
JUDGED = "\n\nJudged: "  # separates a version's description from its verdict


def judge(
    client: MlflowClient,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    held_out: HeldOut,
    limits: Promotion,
    evaluate: Evaluate,
    *,
    seed: int,
) -> Verdict:
    """Checks every promotion rule for a version.

    The challenger is opened, so a model directory that is not safe to load is refused. A version without stored predictions
    on this test set is scored again.

    Args:
        seed: of the resampling.
    """
    candidate = _timed(client, challenger, held_out, limits)
    against = None
    if champion is not None:
        answers = model_versions.predictions(client, champion, held_out)
        name, seen = champion.tags.get(ARCHITECTURE_TAG, ""), _seen_rows(client, champion, held_out)
        against = Candidate(str(champion.version), name, answers, None, None, seen)
    groups = promotion_rules.groups(held_out.measures, held_out.labels)
    decision = _decision(client, challenger, champion, held_out.digest)
    return promotion_rules.judge(
        candidate, against, groups, limits, evaluate, test_set=held_out.digest, decision=decision, seed=seed
    )


def decisions(versions: Iterable[ModelVersion]) -> dict[str, int]:
    """Number of comparisons with a champion so far, by the first DIGITS of a test set's hash."""
    found: dict[str, int] = {}
    for version in versions:
        for tag, number in version.tags.items():
            if tag.startswith(DECISION_TAG):
                test_set = tag.split(".")[1]
                found[test_set] = max(found.get(test_set, 0), int(number))
    return found


def _decision(client: MlflowClient, challenger: ModelVersion, champion: ModelVersion | None, test_set: str) -> int:
    """Number of this comparison on a test set, from 1; a repeated comparison keeps its number."""
    versions = {str(each.version): each for each in model_versions.versions(client)}
    before = champion and versions[str(challenger.version)].tags.get(_decision_tag(champion, test_set))
    return int(before) if before else 1 + decisions(versions.values()).get(test_set[:DIGITS], 0)


def _decision_tag(champion: ModelVersion, test_set: str) -> str:
    return f"{DECISION_TAG}{test_set[:DIGITS]}.{champion.tags.get(KEY_TAG, str(champion.version))[:DIGITS]}"


def _seen_rows(client: MlflowClient, version: ModelVersion, held_out: HeldOut) -> frozenset[int]:
    seen = model_versions.seen_texts(client, version)
    if seen is None:
        log.warning("version %s has no record of its training texts, so no test review is left out for it", version.version)
        return frozenset()
    return seen_texts.rows(held_out.texts, seen)


def measure_latency(client: MlflowClient, versions: Iterable[ModelVersion], texts: Sequence[str]) -> None:
    """Logs the latency of each version whose run does not have it, so that it is measured once."""
    for version in versions:
        run_id = run_of(version)
        if LATENCY in client.get_run(run_id).data.metrics:
            continue
        try:
            model = model_versions.opened(client, version).model
        except InputError as error:
            log.warning("latency not measured: %s", error)
            continue
        client.log_metric(run_id, LATENCY, latency_ms(model, texts[:LATENCY_REVIEWS]))


def latency_ms(model: SentimentModel, texts: Sequence[str]) -> float:
    """95th percentile of the time from one raw text to its prediction, in milliseconds."""
    for text in texts[:WARM_UP]:
        model.predict([text])
    milliseconds = np.empty((ROUNDS, len(texts)))
    places = np.ndindex(milliseconds.shape)
    for turn, place in tqdm(places, total=milliseconds.size, desc="time reviews", disable=None, delay=2, leave=False):
        started = time.perf_counter()
        model.predict([texts[place]])
        milliseconds[turn, place] = 1000 * (time.perf_counter() - started)
    return float(np.percentile(milliseconds, 95, axis=1).min())


def _timed(client: MlflowClient, challenger: ModelVersion, held_out: HeldOut, limits: Promotion) -> Candidate:
    opened = model_versions.opened(client, challenger)
    latency = latency_ms(opened.model, held_out.texts.tolist()[: limits.latency_reviews])
    answers = model_versions.predictions(client, challenger, held_out)
    seen = _seen_rows(client, challenger, held_out)
    return Candidate(opened.version, opened.architecture, answers, latency, opened.size_mb, seen)


def challenge(
    client: MlflowClient, challenger: ModelVersion, held_out: HeldOut, limits: Promotion, evaluate: Evaluate, *, seed: int
) -> str:
    """Gives a version the alias `challenger` and judges it; if there is no champion and every rule passes, promotes it.

    Returns:
        The verdict as a page; or why the version cannot be judged, as against a champion of other classes.
    """
    with champion_history.changing(client) as entries:
        champion = champion_history.champion(client, entries)
        if champion is not None and champion.version == challenger.version:
            model_versions.set_alias(client, model_versions.CHALLENGER, None)
            return f"Version {champion.version} ({champion.tags.get(ARCHITECTURE_TAG, '')}) is the champion already.\n"
        model_versions.set_alias(client, model_versions.CHALLENGER, str(challenger.version))
        try:
            verdict = judge(client, challenger, champion, held_out, limits, evaluate, seed=seed)
        except InputError as error:
            log.warning("version %s cannot be judged: %s", challenger.version, error)
            return f"Version {challenger.version} cannot be judged: {error}\n"
        record(client, challenger, champion, verdict)
        if champion is None and champion_history.journal_is_of_another_store(entries):
            consequence = (
                f"No version is champion: this store lacks those of {champion_history.JOURNAL}: sentiflow models rebuild"
            )
        elif champion is None and verdict.holds:
            champion_history.change(client, entries, challenger, champion_history.FIRST, verdict_report.in_words(verdict))
            consequence = f"Version {challenger.version} is now the first champion."
        elif champion is None:
            consequence = f"No version is champion. {HOW_TO_PROMOTE.format(challenger.version)}"
        else:
            next_step = "To replace it: sentiflow models promote" if verdict.holds else HOW_TO_PROMOTE.format(challenger.version)
            consequence = f"Version {champion.version} is still the champion. {next_step}"
        log.info("%s %s", verdict_report.in_words(verdict), consequence)
        return verdict_report.as_markdown(verdict, consequence)


def record(client: MlflowClient, challenger: ModelVersion, champion: ModelVersion | None, verdict: Verdict) -> None:
    """Stores a verdict with the version it is about: in its tags and description, and as a page, JSON and metric of its run."""
    number, run_id = str(challenger.version), run_of(challenger)
    against = f"version-{verdict.champion.version}" if verdict.champion else "no-champion"
    name = f"{VERDICTS}/version-{number}-against-{against}-on-{verdict.test_set[:8]}"
    client.log_text(run_id, verdict_report.as_markdown(verdict), f"{name}.md")
    client.log_text(run_id, json.dumps(verdict_report.as_data(verdict), indent=2, sort_keys=True), f"{name}.json")
    [latency] = [outcome.numbers["found"] for outcome in verdict.outcomes if outcome.rule == "latency"]
    client.log_metric(run_id, LATENCY, latency)
    tags = {VERDICT_TAG: verdict_report.predicate(verdict)}
    if champion is not None and verdict.is_compared:
        tags[_decision_tag(champion, verdict.test_set)] = str(verdict.decision)
    for tag, value in tags.items():
        write(client.set_model_version_tag, MODEL, number, tag, value)
    description = (challenger.description or "").partition(JUDGED)[0]
    rules = "\n".join(verdict_report.rules_as_markdown(verdict))
    client.update_model_version(
        MODEL, number, f"{description}{JUDGED}{verdict_report.in_words(verdict)}\n\n{rules}\n\nMore: `{name}.md` in its run."
    )


def recorded(version: ModelVersion) -> tuple[str, bool | None]:
    """The recorded verdict of a version as a sentence, and whether it permits promotion; None if it is not judged."""
    verdict = version.tags.get(VERDICT_TAG, NOT_JUDGED)
    name = f"Version {version.version} ({version.tags.get(ARCHITECTURE_TAG, '')})"
    if verdict == NOT_JUDGED:
        return f"{name} is not judged.", None
    return f"{name} {verdict}", verdict.startswith("passes ")
