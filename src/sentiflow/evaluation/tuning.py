"""The settings that differ between two models, and the differences of their scores on test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.config.params import Evaluate
from sentiflow.evaluation import significance
from sentiflow.evaluation.evaluation import bootstrap_scores
from sentiflow.evaluation.metrics import METRICS, scores
from sentiflow.system import markdown

INTERVALS = (
    "The interval of accuracy is the inversion of McNemar's exact test; the others are paired percentile bootstrap intervals."
)


def changes(baseline: Mapping[str, Any], tuned: Mapping[str, Any], reasons: Mapping[str, str]) -> list[dict[str, str]]:
    """The settings that differ: `setting`, `baseline`, `tuned` and `reason`, from `reasons`.

    >>> changes({"units": 32}, {"units": 64}, {"units": "a larger state"})[0]["tuned"]
    '64'
    """
    shown = [
        {"setting": name, "baseline": _shown(baseline, name), "tuned": _shown(tuned, name), "reason": reasons[name]}
        for name in {**baseline, **tuned}
    ]
    return [change for change in shown if change["baseline"] != change["tuned"]]


def effects(baseline: pd.DataFrame, tuned: pd.DataFrame, options: Evaluate, *, seed: int) -> list[dict[str, Any]]:
    """Each tracked metric of both, and the difference with its interval; see INTERVALS.

    Args:
        baseline, tuned: predictions for the same test reviews in the same order, from `evaluation.predictions`.
    """
    labels, of_baseline = _answers(baseline)
    _, of_tuned = _answers(tuned)
    before, after = scores(labels, of_baseline), scores(labels, of_tuned)
    resampled = [bootstrap_scores(labels, each, resamples=options.resamples, seed=seed) for each in (of_baseline, of_tuned)]
    tail = (1 - options.confidence) / 2
    bounds = {name: np.quantile(resampled[1][name] - resampled[0][name], [tail, 1 - tail]) for name in before}
    bounds["accuracy_score"] = np.array(significance.accuracy_difference(_right(tuned), _right(baseline), options.confidence))
    return [
        {
            "score": name,
            "baseline": before[name],
            "tuned": after[name],
            "difference": after[name] - before[name],
            "low": float(bounds[name][0]),
            "high": float(bounds[name][1]),
        }
        for name in before
    ]


def report(
    names: tuple[str, str],
    changed: Sequence[Mapping[str, str]],
    predictions: tuple[pd.DataFrame, pd.DataFrame],
    options: Evaluate,
    *,
    seed: int,
) -> dict[str, Any]:
    """The tuning report as data: `baseline`, `tuned`, `changes`, `effects` and `p` (McNemar on test)."""
    return {
        "baseline": names[0],
        "tuned": names[1],
        "changes": changed,
        "effects": effects(*predictions, options, seed=seed),
        "p": significance.mcnemar(*map(_right, predictions)),
    }


def as_markdown(names: tuple[str, str], tuning: Mapping[str, Any] | None) -> str:
    """The tuning report as a page; `tuning` is None if one of the two did not run."""
    baseline, tuned = names
    title = f"# Tuning: {baseline} to {tuned}"
    if tuning is None:
        return f"{title}\n\nNothing to compare: both models must be in `run:` of params.yaml.\n"
    lines = [title, "", verdict(tuning), "", "## What changed", ""]
    lines += markdown.markdown(
        ["setting", baseline, tuned, "purpose of a larger value, or of having it"],
        [[change["setting"], change["baseline"], change["tuned"], change["reason"]] for change in tuning["changes"]],
    )
    lines += ["", "## Scores on test", ""]
    lines += markdown.markdown(
        ["score", baseline, tuned, "difference (interval)"],
        [
            [
                METRICS[effect["score"]].label,
                f"{effect['baseline']:.4f}",
                f"{effect['tuned']:.4f}",
                f"{effect['difference']:+.4f} ({effect['low']:+.4f} to {effect['high']:+.4f})",
            ]
            for effect in tuning["effects"]
        ],
    )
    lines += [
        "",
        f"McNemar's exact test: p = {tuning['p']:.2g}. {INTERVALS}",
        "The settings changed together, so the effect is that of all of them.",
        "",
        significance.ONE_SEED,
    ]
    return "\n".join(lines) + "\n"


def verdict(tuning: Mapping[str, Any]) -> str:
    """One sentence: better, worse, or no significant difference, by the interval of accuracy.

    >>> verdict({"baseline": "a", "tuned": "b", "effects": [
    ...     {"score": "accuracy_score", "difference": 0.01, "low": -0.005, "high": 0.025}]})
    'On test, the accuracy of b is 1.0 points above that of a (interval -0.5 to +2.5): no significant difference.'
    """
    [effect] = [effect for effect in tuning["effects"] if effect["score"] == "accuracy_score"]
    direction = "above" if effect["difference"] >= 0 else "below"
    chance = effect["low"] <= 0 <= effect["high"]
    meaning = "no significant difference" if chance else "better" if effect["difference"] > 0 else "worse"
    return (
        f"On test, the accuracy of {tuning['tuned']} is {abs(100 * effect['difference']):.1f} points {direction} that of "
        f"{tuning['baseline']} (interval {100 * effect['low']:+.1f} to {100 * effect['high']:+.1f}): {meaning}."
    )


def _shown(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name, "none")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _right(predictions: pd.DataFrame) -> np.ndarray:
    return np.asarray(predictions["label"] == predictions["predicted"])


def _answers(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Index of each review's class (n,), and the probabilities (n, K)."""
    columns = [str(column) for column in predictions if str(column).startswith("p_")]
    labels = pd.Categorical(predictions["label"], [column.removeprefix("p_") for column in columns]).codes
    return np.asarray(labels, np.int64), predictions[columns].to_numpy()
