"""Compare incoming reviews with what the champion was trained and tested on: labels, length, unknown words, probabilities.

A measure has drifted where its whole interval lies beyond its threshold, so a few reviews raise no alarm, and neither does a
difference that is certain and small.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from sentiflow.config import params
from sentiflow.config.params import Params
from sentiflow.data import cleaning, incoming
from sentiflow.data.incoming import Incoming
from sentiflow.data.vocabulary import Tokens
from sentiflow.models import settings
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import drift_baseline, model_versions, store
from sentiflow.registry.drift_baseline import PROBABILITY, Reference
from sentiflow.system import markdown, stage, terminal
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

PAGE = Path(".cache/drift.md")
PART = 1000  # reviews answered at once
RESAMPLES_AT_ONCE = 50
DRIFTED, WITHIN, UNCLEAR = "drifted", "within", "unclear"


@dataclass(frozen=True)
class Finding:
    """How far one measure of the incoming reviews lies from the champion's."""

    measure: str  # length | unknown words | share of CLASS | probability of CLASS
    known: str  # what it is in the reference, for people
    found: str  # what it is in the incoming reviews
    difference: float
    low: float  # of the interval
    high: float
    threshold: float
    is_distance: bool  # Kolmogorov-Smirnov, in [0, 1]; otherwise a difference of shares, in [-1, 1]
    where: str  # at which value a distance is widest

    @property
    def outcome(self) -> str:
        """Whether the whole interval lies beyond the threshold (drifted), within it, or on both sides (unclear)."""
        if self.low > self.threshold or self.high < -self.threshold:
            return DRIFTED
        return WITHIN if -self.threshold <= self.low and self.high <= self.threshold else UNCLEAR

    def shown(self, value: float) -> str:
        """A value of this measure's kind, for people."""
        return f"{value:.2f}" if self.is_distance else f"{100 * value:+.1f}"


@dataclass(frozen=True)
class Drift:
    """What became of comparing incoming reviews with a champion."""

    incoming: Incoming
    champion: str  # in words; empty where there is none
    findings: tuple[Finding, ...]  # empty where nothing could be compared
    notes: tuple[str, ...]  # what was not compared, and why
    confidence: float

    @property
    def drifted(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.outcome == DRIFTED)

    @property
    def is_reason(self) -> bool:
        """Whether this is a reason to retrain."""
        return bool(self.drifted)

    @property
    def in_words(self) -> str:
        """One sentence."""
        if not self.findings:
            return self.notes[0]
        count = f"{len(self.incoming.texts):,} incoming reviews"
        if not self.is_reason:
            return f"{count} do not differ from what {self.champion} learned from by more than params.yaml allows."
        named = ", ".join(
            f"{each.measure} ({each.shown(each.difference)}{'' if each.is_distance else ' points'}, allowed {_allowed(each)})"
            for each in self.drifted
        )
        return f"{count} differ from what {self.champion} learned from: {named}."


def look(p: Params, location: Path | None = None) -> Drift | None:
    """Compares the incoming reviews with the champion of the store that MLFLOW_TRACKING_URI names.

    Where there is no champion, it keeps no reference, or the reviews are too few, there are no findings, and `in_words` says so.

    Args:
        location: a file or folder; None takes `p.drift.incoming`.

    Returns:
        None where there are no incoming reviews.
    """
    found = incoming.read(location or Path(p.drift.incoming), p.download, p.drift)
    if found is None:
        return None
    if len(found.texts) < p.drift.minimum_reviews:
        usable = f"{len(found.texts):,} usable reviews came in"
        return _nothing(p, found, f"{usable}, too few to tell: drift.minimum_reviews asks for {p.drift.minimum_reviews:,}.")
    return _against_the_champion(p, found)


@store.errors_handled()
def _against_the_champion(p: Params, found: Incoming) -> Drift:
    client = store.connect()
    champion = model_versions.champion(client)
    if champion is None:
        return _nothing(p, found, "There is no champion yet, so the incoming reviews were compared with nothing.")
    known = model_versions.reference(client, champion)
    if known is None:
        return _nothing(
            p,
            found,
            f"Version {champion.version}, the champion, keeps no reference to compare with, as it was published before there was "
            "one; `sentiflow repro` adds it if this folder's results are that version's, and every version it publishes has one.",
        )
    opened = model_versions.opened(client, champion)
    measured = measure(opened.model, found.texts).assign(label=found.labels)
    findings, notes = compare(known, measured, p.drift, resamples=p.evaluate.resamples, seed=p.seed)
    return Drift(found, f"version {opened.version} ({opened.architecture})", findings, notes, p.drift.confidence)


def _nothing(p: Params, found: Incoming, why: str) -> Drift:
    return Drift(found, "", (), (why,), p.drift.confidence)


def measure(model: SentimentModel, texts: pd.Series) -> pd.DataFrame:
    """Length, share of unknown words, and the probability of each class (p_CLASS) of raw texts; one row per text."""
    parts, config = [], model.classifier.config
    for start in tqdm(range(0, len(texts), PART), desc="drift", unit="part", disable=None, delay=2, leave=False):
        raw = texts.iloc[start : start + PART]
        views = cleaning.clean(raw, stopwords=model.stopwords, views=[model.view])
        ids = model.vocabulary.ids(views[model.view])
        rows = np.arange(start, start + len(ids))
        told = drift_baseline.measures(Tokens(rows, np.zeros_like(rows), ids), model.vocabulary, config.settings)
        names = [f"{PROBABILITY}{name}" for name in config.classes]
        parts.append(told.join(pd.DataFrame(model.classifier.probabilities(ids), columns=names, index=told.index)))
    return pd.concat(parts)


def compare(
    known: Reference, measured: pd.DataFrame, how: params.Drift, *, resamples: int, seed: int
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Every measure with its interval, and what was not compared and why.

    Args:
        measured: of the incoming reviews, as `measure` gives them, with `label`: the name of the class, or None.
        how: thresholds, confidence, and the fewest labelled reviews whose labels are compared.
        resamples: of the bootstrap.
        seed: of the resampling.
    """
    train, test = known.train, known.test
    shown = known.classes[1:] if len(known.classes) == 2 else known.classes  # of two, one tells the other
    labels = measured["label"].dropna()
    findings: list[Finding] = []
    notes: tuple[str, ...] = ()
    if len(labels) >= how.minimum_reviews:
        new = sorted(set(labels) - set(known.classes))
        classes = [*(shown if not new else known.classes), *new]
        findings += [_share(name, train["label"], labels, how) for name in classes]
    else:
        notes = (
            f"Labels were not compared: {len(labels):,} of {len(measured):,} reviews have one, and drift.minimum_reviews "
            f"asks for {how.minimum_reviews:,}.",
        )
    findings.append(_distance("length", train["length"], measured["length"], how, how.length, "median {:,.0f} words".format))
    findings.append(_mean_difference("unknown words", test["unknown"], measured["unknown"], how, resamples, seed))
    for name in shown:
        column = f"{PROBABILITY}{name}"
        findings.append(
            _distance(f"probability of {name}", test[column], measured[column], how, how.probability, "median {:.2f}".format)
        )
    return tuple(findings), notes


def _share(name: str, known: pd.Series, found: pd.Series, how: params.Drift) -> Finding:
    """Difference of a class's shares, with its interval by the hybrid score method.

    Source: Newcombe (1998), Statistics in Medicine 17, method 10; Wilson's intervals of both shares, put together.
    """
    shares, ends = [], []
    for labels in (known, found):
        hits = int((labels == name).sum())
        shares.append(hits / len(labels))
        ends.append(stats.binomtest(hits, len(labels)).proportion_ci(how.confidence, method="wilson"))
    (before, after), (of_known, of_found) = shares, ends
    low = after - before - float(np.hypot(after - of_found.low, of_known.high - before))
    high = after - before + float(np.hypot(of_found.high - after, before - of_known.low))
    told = f"{before:.1%}", f"{after:.1%}"
    return Finding(f"share of {name}", *told, after - before, low, high, how.label_share, is_distance=False, where="")


def _mean_difference(measure: str, known: pd.Series, found: pd.Series, how: params.Drift, resamples: int, seed: int) -> Finding:
    """Difference of means of the reviews' shares, with its percentile bootstrap interval.

    Source: Efron & Tibshirani (1993), chapter 13.
    """

    def difference(after: np.ndarray, before: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(after.mean(axis) - before.mean(axis))

    samples = found.to_numpy("float64"), known.to_numpy("float64")
    drawn = stats.bootstrap(
        samples,
        difference,
        n_resamples=resamples,
        batch=RESAMPLES_AT_ONCE,
        confidence_level=how.confidence,
        method="percentile",
        rng=seed,
    )
    low, high = map(float, drawn.confidence_interval)
    after, before = (float(values.mean()) for values in samples)
    told = f"{before:.1%}", f"{after:.1%}"
    return Finding(measure, *told, after - before, low, high, how.unknown_words, is_distance=False, where="")


def _distance(
    measure: str, known: pd.Series, found: pd.Series, how: params.Drift, threshold: float, in_words: Callable[[float], str]
) -> Finding:
    """Kolmogorov-Smirnov distance, with an interval that holds for any distribution and any number of reviews.

    Either empirical distribution is nowhere further from the true one than a bound, at half the chance of an error each; the
    distance is thus off by the sum of the two bounds at most.

    Source: Massart (1990), the constant of the inequality of Dvoretzky, Kiefer & Wolfowitz.
    """
    samples = found.to_numpy("float64"), known.to_numpy("float64")
    widest = stats.ks_2samp(*samples, method="asymp")  # its p-value, which takes long to reckon exactly, is of no interest
    distance, value = float(widest.statistic), float(widest.statistic_location)
    off = sum(float(np.sqrt(np.log(4 / (1 - how.confidence)) / (2 * len(each)))) for each in samples)
    after, before = (float((each <= value).mean()) for each in samples)
    return Finding(
        measure,
        in_words(float(np.median(samples[1]))),
        in_words(float(np.median(samples[0]))),
        distance,
        max(distance - off, 0.0),
        min(distance + off, 1.0),
        threshold,
        is_distance=True,
        where=f"{after:.0%} up to {value:.4g}, not {before:.0%}",
    )


def _allowed(finding: Finding) -> str:
    return f"{finding.threshold:.2f}" if finding.is_distance else f"{100 * finding.threshold:.1f}"


def as_markdown(drift: Drift) -> str:
    """The comparison as a page: the sentence, every measure, and what was not compared or not read."""
    found = drift.incoming
    lines = ["# Drift", "", f"**{markdown.cell(drift.in_words)}**", ""]
    labelled = int(found.labels.notna().sum())
    read = f"{found.files} {'file' if found.files == 1 else 'files'}"
    lines += [
        f"Read {len(found.texts):,} reviews, {labelled:,} of them with a label, from {read} of {markdown.cell(found.location)}"
        + ("; there are older ones, which drift.maximum_reviews leaves out." if found.left_out else "."),
        "",
    ]
    if drift.findings:
        rows = [
            [
                markdown.cell(each.measure),
                each.known,
                each.found,
                f"{each.shown(each.difference)} ({each.shown(each.low)} to {each.shown(each.high)})",
                _allowed(each),
                each.outcome,
                markdown.cell(each.where),
            ]
            for each in drift.findings
        ]
        header = ["measure", "champion", "incoming", "difference (interval)", "allowed", "outcome", "where a distance is widest"]
        lines += [
            *markdown.markdown(header, rows),
            "",
            "Labels and length are compared with the champion's training reviews; unknown words and probabilities with its test "
            "reviews, which it never saw. Shares differ by points of a hundred. Length and probability differ by a distance: the "
            "largest difference between the shares of reviews up to any value, 0 where the two are alike and 1 where they have "
            f"nothing in common. Intervals hold at {drift.confidence:.0%}. `drifted`: the whole interval is beyond what is "
            "allowed; `within`: none of it is; `unclear`: a part of it is, and more reviews would tell.",
            "",
        ]
    told = [*(drift.notes if drift.findings else ())]
    if found.rejects:
        told.append(f"Rows that cannot be used: {', '.join(f'{count:,} x {kind}' for kind, count in found.rejects.items())}.")
    told += [f"{name} was passed over: {reason}." for name, reason in found.passed_over.items()]
    lines += [f"- {markdown.cell(each)}" for each in told]
    return "\n".join(lines).rstrip("\n") + "\n"


def report(file: Path | None = None) -> None:
    """Compares the reviews of a file or a folder, by default of `drift.incoming`, with the champion's; prints and writes PAGE."""
    p = settings.load()
    if file is not None and not (file.is_file() or file.is_dir()):
        what = "neither a file nor a folder" if file.exists() else "not there"
        raise InputError(f"received {file}, which is {what}; expected a CSV file of reviews, or a folder of them")
    drift = look(p, file)
    if drift is None:
        terminal.tell(f"No incoming reviews in {file or p.drift.incoming}, so nothing was compared.")
        return
    page = as_markdown(drift)
    with stage.writing(PAGE) as [place]:
        place.write_text(page, encoding="utf-8")
    terminal.tell(markdown.plain(page))
    print(f"\nThis page stands in {PAGE}.")
