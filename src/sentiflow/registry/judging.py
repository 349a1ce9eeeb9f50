"""Judges a version against the champion on the same test reviews, and records the verdict with the version."""

import json
import logging
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from sentiflow.config.params import Evaluate, Promotion
from sentiflow.data import seen_texts
from sentiflow.registry import champion_history, measurements, model_versions, promotion_rules, verdict_report
from sentiflow.registry.candidates import Candidate
from sentiflow.registry.promotion_rules import Verdict
from sentiflow.registry.store import KEY_TAG, MODEL, run_of, write
from sentiflow.registry.test_set import HeldOut
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

HOW_TO_PROMOTE = 'To promote version {0} anyway: sentiflow models promote {0} --force --reason "..."'
VERDICTS = "verdicts"  # folder of a run's artifacts
VERDICT_TAG = "verdict"
HOLDS_TAG = "verdict.holds"  # true | false
DECISION_TAG = "decision."  # and the beginnings of a test set's hash and of a champion's key: the number of that comparison
DIGITS = 16  # of a hash in a tag
JUDGED = "\n\nJudged: "  # in a version's description, what comes before the verdict


def judge(
    client: MlflowClient,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    held_out: HeldOut,
    how: Promotion,
    evaluate: Evaluate,
    *,
    seed: int,
) -> Verdict:
    """Every rule of `promotion`, checked for both versions on the same reviews.

    The challenger is opened, so a directory that is not safe to load is refused here. Each is scored again where the test set
    is not the one that it was published with.

    Args:
        seed: of the resampling.
    """
    candidate = _timed(client, challenger, held_out, how)
    against = None
    if champion is not None:
        answers = model_versions.predictions(client, champion, held_out)
        name, seen = champion.tags.get("architecture", ""), _seen(client, champion, held_out)
        against = Candidate(str(champion.version), name, answers, None, None, seen)
    groups = promotion_rules.groups(held_out.measures, held_out.labels)
    decision = _decision(client, challenger, champion, held_out.digest)
    return promotion_rules.judge(
        candidate, against, groups, how, evaluate, test_set=held_out.digest, decision=decision, seed=seed
    )


def decisions(versions: Iterable[ModelVersion]) -> dict[str, int]:
    """Number of comparisons with a champion that each test set has served, by the first digits of its hash."""
    found: dict[str, int] = {}
    for version in versions:
        for tag, number in version.tags.items():
            if tag.startswith(DECISION_TAG):
                test_set = tag.split(".")[1]
                found[test_set] = max(found.get(test_set, 0), int(number))
    return found


def _decision(client: MlflowClient, challenger: ModelVersion, champion: ModelVersion | None, test_set: str) -> int:
    """The number of this comparison among all on a test set, from 1. Two versions that were compared before keep theirs."""
    versions = {str(each.version): each for each in model_versions.versions(client)}
    before = champion and versions[str(challenger.version)].tags.get(_decision_tag(champion, test_set))
    return int(before) if before else 1 + decisions(versions.values()).get(test_set[:DIGITS], 0)


def _decision_tag(champion: ModelVersion, test_set: str) -> str:
    return f"{DECISION_TAG}{test_set[:DIGITS]}.{champion.tags.get(KEY_TAG, str(champion.version))[:DIGITS]}"


def _seen(client: MlflowClient, version: ModelVersion, held_out: HeldOut) -> frozenset[int]:
    seen = model_versions.seen_texts(client, version)
    if seen is None:
        log.warning(
            "version %s does not record the texts that it was trained on, so none of the test reviews is left out for it",
            version.version,
        )
        return frozenset()
    return seen_texts.rows(held_out.texts, seen)


def _timed(client: MlflowClient, challenger: ModelVersion, held_out: HeldOut, how: Promotion) -> Candidate:
    opened = model_versions.opened(client, challenger)
    latency = measurements.latency_ms(opened.model, held_out.texts.tolist()[: how.latency_reviews])
    answers = model_versions.predictions(client, challenger, held_out)
    seen = _seen(client, challenger, held_out)
    return Candidate(opened.version, opened.architecture, answers, latency, opened.size_mb, seen)


def challenge(
    client: MlflowClient, challenger: ModelVersion, held_out: HeldOut, how: Promotion, evaluate: Evaluate, *, seed: int
) -> str:
    """Names a version the challenger, judges it and records the verdict; it becomes champion only if there is none.

    Returns:
        The verdict as a page, with who is champion now. Where the two cannot be compared, such as with a champion of other
        classes, it says why: that is no reason to lose what a run has made.
    """
    with champion_history.changing(client) as entries:
        champion = champion_history.champion(client, entries)
        if champion is not None and champion.version == challenger.version:
            model_versions.set_alias(client, model_versions.CHALLENGER, None)
            return f"Version {champion.version} ({champion.tags.get('architecture', '')}) is the champion already.\n"
        model_versions.set_alias(client, model_versions.CHALLENGER, str(challenger.version))
        try:
            verdict = judge(client, challenger, champion, held_out, how, evaluate, seed=seed)
        except InputError as error:
            log.warning("version %s cannot be judged: %s", challenger.version, error)
            return f"Version {challenger.version} cannot be judged: {error}\n"
        record(client, challenger, champion, verdict)
        if champion is None and champion_history.journal_is_of_another_store(entries):
            followed = (
                f"No version is champion: those of {champion_history.JOURNAL} are not in this store: sentiflow models rebuild"
            )
        elif champion is None and verdict.holds:
            champion_history.change(client, entries, challenger, champion_history.FIRST, verdict_report.in_words(verdict))
            followed = f"Version {challenger.version} is now the first champion."
        elif champion is None:
            followed = f"No version is champion. {HOW_TO_PROMOTE.format(challenger.version)}"
        elif verdict.holds:
            followed = f"Version {champion.version} is still the champion. To replace it: sentiflow models promote"
        else:
            followed = f"Version {champion.version} is still the champion. {HOW_TO_PROMOTE.format(challenger.version)}"
        log.info("%s %s", verdict_report.in_words(verdict), followed)
        return verdict_report.as_markdown(verdict, followed)


def record(client: MlflowClient, challenger: ModelVersion, champion: ModelVersion | None, verdict: Verdict) -> None:
    """Stores a verdict with the version that it is about: tags, its description, and a page in its run."""
    number = str(challenger.version)
    against = f"version-{verdict.champion.version}" if verdict.champion else "no-champion"
    name = f"{VERDICTS}/version-{number}-against-{against}-on-{verdict.test_set[:8]}"
    client.log_text(run_of(challenger), verdict_report.as_markdown(verdict), f"{name}.md")
    client.log_text(run_of(challenger), json.dumps(verdict_report.as_data(verdict), indent=2, sort_keys=True), f"{name}.json")
    tags = {
        VERDICT_TAG: verdict_report.in_words(verdict),
        f"{VERDICT_TAG}.page": f"{name}.md",
        HOLDS_TAG: str(verdict.holds).lower(),
    }
    tags |= verdict_report.as_tags(verdict)
    if champion is not None and verdict.is_compared:
        tags[_decision_tag(champion, verdict.test_set)] = str(verdict.decision)
    for tag, value in tags.items():
        write(client.set_model_version_tag, MODEL, number, tag, value)
    first = (challenger.description or "").partition(JUDGED)[0]
    rules = "\n".join(verdict_report.rules_as_markdown(verdict))
    client.update_model_version(
        MODEL, number, f"{first}{JUDGED}{verdict_report.in_words(verdict)}\n\n{rules}\n\nMore: `{name}.md` in its run."
    )
