"""Compares incoming reviews with the champion's: labels, length, share of unknown words, probabilities.

A measure has drifted if its whole interval is beyond its threshold, so neither a few reviews nor a certain but small difference
raise an alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from sentiflow.config import params
from sentiflow.config.params import Params
from sentiflow.data import incoming
from sentiflow.data.incoming import Incoming
from sentiflow.data.vocabulary import Tokens
from sentiflow.evaluation import significance
from sentiflow.models import settings
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import drift_baseline, model_versions, store
from sentiflow.registry.drift_baseline import PROBABILITY, Reference
from sentiflow.system import markdown, stage, terminal
from sentiflow.system.errors import InputError

PAGE = Path(".cache/drift.md")
PART = 1000  # reviews per batch
RESAMPLES_AT_ONCE = 50
DRIFTED, WITHIN, UNCLEAR = "drifted", "within", "unclear"


@dataclass(frozen=True)
class Finding:
    """Difference of one measure between the incoming reviews and the champion's."""

    measure: str  # length | unknown words | share of CLASS | probability of CLASS
    known: str  # value in the reference, formatted
    found: str  # value in the incoming reviews, formatted
    difference: float
    low: float  # of the interval
    high: float
    threshold: float
    is_distance: bool  # Kolmogorov-Smirnov, in [0, 1]; otherwise a difference of shares, in [-1, 1]
    where: str = ""  # the value at which a distance is largest

    @property
    def outcome(self) -> str:
        """Whether the whole interval is beyond the threshold (drifted), within it, or neither (unclear)."""
        if self.low > self.threshold or self.high < -self.threshold:
            return DRIFTED
        return WITHIN if -self.threshold <= self.low and self.high <= self.threshold else UNCLEAR

    @property
    def allowed(self) -> str:
        return f"{self.threshold:.2f}" if self.is_distance else f"{100 * self.threshold:.1f}"

    def shown(self, value: float) -> str:
        return f"{value:.2f}" if self.is_distance else f"{100 * value:+.1f}"


@dataclass(frozen=True)
class Drift:
    """Result of comparing incoming reviews with a champion."""

    incoming: Incoming
    champion: str  # version and model; empty if there is none
    findings: tuple[Finding, ...]  # empty if nothing could be compared
    notes: tuple[str, ...]  # what was not compared, and why
    confidence: float

    @property
    def drifted(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.outcome == DRIFTED)

    @property
    def is_reason(self) -> bool:
        """Whether to retrain because of it."""
        return bool(self.drifted)

    @property
    def in_words(self) -> str:
        """The result in one sentence."""
        if not self.findings:
            return self.notes[0]
        count = f"{len(self.incoming.texts):,} incoming reviews"
        if not self.is_reason:
            return f"{count} do not differ from the reviews of {self.champion} by more than params.yaml allows."
        drifted = ", ".join(
            f"{each.measure} ({each.shown(each.difference)}{'' if each.is_distance else ' points'}, allowed {each.allowed})"
            for each in self.drifted
        )
        return f"{count} differ from the reviews of {self.champion}: {drifted}."


@store.errors_handled()
def look(p: Params, location: Path | None = None) -> Drift | None:
    """Compares the incoming reviews with the champion of the store that MLFLOW_TRACKING_URI names.

    Without a champion, without its reference, or with too few reviews, there are no findings, and `in_words` says why.

    Args:
        location: a file or folder; None reads `p.drift.incoming`.

    Returns:
        None if there are no incoming reviews.
    """
    found = incoming.read(location or Path(p.drift.incoming), p.download, p.drift)
    if found is None:
        return None

    def not_compared(why: str) -> Drift:
        return Drift(found, "", (), (why,), p.drift.confidence)

    if len(found.texts) < p.drift.minimum_reviews:
        return not_compared(
            f"Only {len(found.texts):,} usable incoming reviews; drift.minimum_reviews requires {p.drift.minimum_reviews:,}."
        )
    client = store.connect()
    champion = model_versions.champion(client)
    if champion is None:
        return not_compared("There is no champion yet to compare the incoming reviews with.")
    known = model_versions.reference(client, champion)
    if known is None:
        return not_compared(
            f"Version {champion.version}, the champion, has no reference to compare with, because an older release published it; "
            "`sentiflow repro` adds it if this folder has the results of that version."
        )
    opened = model_versions.opened(client, champion)
    measured = measure(opened.model, found.texts).assign(label=found.labels)
    findings, notes = compare(known, measured, p.drift, resamples=p.evaluate.resamples, seed=p.seed)
    return Drift(found, f"version {opened.version} ({opened.architecture})", findings, notes, p.drift.confidence)


def measure(model: SentimentModel, texts: pd.Series) -> pd.DataFrame:
    """Length, share of unknown words, and the probability of each class (p_CLASS) of raw texts; one row per text."""
    parts, classifier = [], model.classifier
    names = [f"{PROBABILITY}{name}" for name in classifier.config.classes]
    for start in tqdm(range(0, len(texts), PART), desc="drift", unit="part", disable=None, delay=2, leave=False):
        ids = model.ids(texts.iloc[start : start + PART])
        rows = np.arange(start, start + len(ids))
        tokens = Tokens(rows, np.zeros_like(rows), ids)
        part = drift_baseline.measures(tokens, classifier.vocabulary, classifier.config.settings)
        parts.append(part.join(pd.DataFrame(classifier.probabilities(ids), columns=names, index=part.index)))
    return pd.concat(parts)


def compare(
    known: Reference, measured: pd.DataFrame, options: params.Drift, *, resamples: int, seed: int
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The finding of every measure, and notes on what was not compared.

    Args:
        measured: of the incoming reviews, from `measure`, with `label`: the name of the class, or None.
    """
    train, test = known.train, known.test
    shown = known.classes[1:] if len(known.classes) == 2 else known.classes  # of two, one determines the other
    labels = measured["label"].dropna()
    findings: list[Finding] = []
    notes: tuple[str, ...] = ()
    if len(labels) >= options.minimum_reviews:
        new = sorted(set(labels) - set(known.classes))
        classes = [*(shown if not new else known.classes), *new]
        findings += [_share(name, train["label"], labels, options) for name in classes]
    else:
        notes = (
            f"Labels were not compared: {len(labels):,} of {len(measured):,} reviews have one; drift.minimum_reviews "
            f"requires {options.minimum_reviews:,}.",
        )
    words, chance = "median {:,.0f} words".format, "median {:.2f}".format
    findings.append(_distance("length", train["length"], measured["length"], options, options.length, words))
    findings.append(_mean_difference("unknown words", test["unknown"], measured["unknown"], options, resamples, seed))
    for name in shown:
        samples = test[f"{PROBABILITY}{name}"], measured[f"{PROBABILITY}{name}"]
        findings.append(_distance(f"probability of {name}", *samples, options, options.probability, chance))
    return tuple(findings), notes


def _share(name: str, known: pd.Series, found: pd.Series, options: params.Drift) -> Finding:
    """Difference of a class's shares, with its interval by the hybrid score method.

    Source: Newcombe (1998), Statistics in Medicine 17, method 10; from Wilson's intervals of both shares.
    """
    counts = [(int((labels == name).sum()), len(labels)) for labels in (known, found)]
    before, after = (hits / count for hits, count in counts)
    (before_low, before_high), (after_low, after_high) = (significance.wilson(*each, options.confidence) for each in counts)
    low = after - before - float(np.hypot(after - after_low, before_high - before))
    high = after - before + float(np.hypot(after_high - after, before - before_low))
    values = f"{before:.1%}", f"{after:.1%}", after - before
    return Finding(f"share of {name}", *values, low, high, options.label_share, is_distance=False)


def _mean_difference(
    measure: str, known: pd.Series, found: pd.Series, options: params.Drift, resamples: int, seed: int
) -> Finding:
    """Difference of means, with its percentile bootstrap interval.

    Source: Efron & Tibshirani (1993), chapter 13.
    """

    def difference(after: np.ndarray, before: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(after.mean(axis) - before.mean(axis))

    samples = found.to_numpy("float64"), known.to_numpy("float64")
    bootstrap = stats.bootstrap(
        samples,
        difference,
        n_resamples=resamples,
        batch=RESAMPLES_AT_ONCE,
        confidence_level=options.confidence,
        method="percentile",
        rng=seed,
    )
    low, high = map(float, bootstrap.confidence_interval)
    after, before = (float(values.mean()) for values in samples)
    values = f"{before:.1%}", f"{after:.1%}", after - before
    return Finding(measure, *values, low, high, options.unknown_words, is_distance=False)


def _distance(
    measure: str, known: pd.Series, found: pd.Series, options: params.Drift, threshold: float, shown: Callable[[float], str]
) -> Finding:
    """Kolmogorov-Smirnov distance, with an interval that is valid for any distribution and any number of reviews.

    With probability 1 - (1 - confidence) / 2 an empirical distribution is nowhere further from the true one than a bound, so the
    distance is off by at most the sum of the two bounds.

    Source: Massart (1990), the constant of the inequality of Dvoretzky, Kiefer & Wolfowitz.
    """
    samples = found.to_numpy("float64"), known.to_numpy("float64")
    test = stats.ks_2samp(*samples, method="asymp")  # its p-value, which is slow to compute exactly, is not used
    distance, value = float(test.statistic), float(test.statistic_location)
    off = sum(float(np.sqrt(np.log(4 / (1 - options.confidence)) / (2 * len(each)))) for each in samples)
    after, before = (float((each <= value).mean()) for each in samples)
    return Finding(
        measure,
        shown(float(np.median(samples[1]))),
        shown(float(np.median(samples[0]))),
        distance,
        max(distance - off, 0.0),
        min(distance + off, 1.0),
        threshold,
        is_distance=True,
        where=f"{after:.0%} up to {value:.4g}, not {before:.0%}",
    )


def as_markdown(drift: Drift) -> str:
    """The comparison as a page: the sentence, every measure, and what was not compared or not read."""
    found = drift.incoming
    labelled = int(found.labels.notna().sum())
    files = f"{found.files} {'file' if found.files == 1 else 'files'}"
    lines = [
        "# Drift",
        "",
        f"**{markdown.cell(drift.in_words)}**",
        "",
        f"Read {len(found.texts):,} reviews, {labelled:,} of them with a label, from {files} of {markdown.cell(found.location)}"
        + ("; older ones were left out because of drift.maximum_reviews." if found.left_out else "."),
        "",
    ]
    if drift.findings:
        rows = [
            [
                markdown.cell(each.measure),
                each.known,
                each.found,
                f"{each.shown(each.difference)} ({each.shown(each.low)} to {each.shown(each.high)})",
                each.allowed,
                each.outcome,
                markdown.cell(each.where),
            ]
            for each in drift.findings
        ]
        header = ["measure", "champion", "incoming", "difference (interval)", "allowed", "outcome", "where a distance is largest"]
        lines += [
            *markdown.markdown(header, rows),
            "",
            "Labels and length are compared with the champion's training reviews; unknown words and probabilities with its test "
            "reviews, which it never saw. Shares differ by percentage points. Length and probability differ by a distance: the "
            "largest difference between the shares of reviews up to any value, 0 for equal and 1 for disjoint distributions. "
            f"Confidence of the intervals: {drift.confidence:.0%}. `drifted`: the whole interval is beyond the allowed "
            "difference; `within`: none of it is; `unclear`: part of it is, and more reviews are needed.",
            "",
        ]
    notes = list(drift.notes) if drift.findings else []
    if found.rejects:
        notes.append(f"Rows that cannot be used: {', '.join(f'{count:,} x {kind}' for kind, count in found.rejects.items())}.")
    notes += [f"Skipped {name}: {reason}." for name, reason in found.passed_over.items()]
    lines += [f"- {markdown.cell(each)}" for each in notes]
    return "\n".join(lines).rstrip("\n") + "\n"


def report(file: Path | None = None) -> None:
    """Compares the reviews of a file or folder, by default `drift.incoming`, with the champion's; prints and writes PAGE."""
    p = settings.load()
    if file is not None and not (file.is_file() or file.is_dir()):
        problem = "neither a file nor a folder" if file.exists() else "missing"
        raise InputError(f"{file} is {problem}; expected a CSV file of reviews, or a folder of them")
    drift = look(p, file)
    if drift is None:
        terminal.tell(f"No incoming reviews in {file or p.drift.incoming}; nothing to compare.")
        return
    page = as_markdown(drift)
    with stage.writing(PAGE) as [place]:
        place.write_text(page, encoding="utf-8")
    terminal.tell(markdown.plain(page))
    print(f"\nSaved as {PAGE}.")
