"""Evaluation of one model: metrics with intervals, curves, tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from sentiflow.config.params import Evaluate
from sentiflow.evaluation import calibration, significance
from sentiflow.evaluation.metrics import METRICS, Counts, calibration_error, f1, of_counts, precision, recall, scores, tracked

MOST_CURVES = 10  # up to this number of classes each has a curve; with more there are the mean and the worst
WORST_CURVES = 5


def evaluate(
    labels: np.ndarray, probabilities: np.ndarray, options: Evaluate, *, temperature: float, seed: int
) -> dict[str, float]:
    """Every metric of one split, the tracked ones with the ends of their interval (`_low`, `_high`).

    Also calibration error and loss without the model's temperature (`uncalibrated_`), and precision, recall and F1 averaged over
    the classes, unweighted (`macro_`) and weighted by class size (`weighted_`).

    Args:
        labels: index of each review's class; shape (n,).
        probabilities: shape (n, K).
        options: resamples, confidence and bins.
        temperature: of the probabilities.
        seed: of the bootstrap; the same seed draws the same reviews for every model.
    """
    probabilities = np.asarray(probabilities, np.float64)
    result = scores(labels, probabilities)
    ends = intervals(labels, probabilities, resamples=options.resamples, confidence=options.confidence, seed=seed)
    for name, (low, high) in ends.items():
        result |= {f"{name}_low": low, f"{name}_high": high}
    before = calibration.unscaled(probabilities, temperature)
    result |= {name: metric.of_set(labels, probabilities, options.bins) for name, metric in METRICS.items() if metric.of_set}
    result["uncalibrated_error"] = calibration_error(labels, before, bins=options.bins)
    result["uncalibrated_log_loss"] = scores(labels, before)["log_loss"]
    return result | _averages(labels, probabilities)


def _averages(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    counts = Counts.of(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    return {
        f"{average}_{function.__name__}_score": float(np.average(function(counts), weights=weights))
        for average, weights in (("macro", None), ("weighted", counts.true))
        for function in (precision, recall, f1)
    }


def intervals(
    labels: np.ndarray, probabilities: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Interval of each tracked metric: Wilson's for accuracy, percentile bootstrap over reviews for the others.

    For a value at an end of the metric's range, which is the same in every resample, the interval is Wilson's too, for the
    number of reviews given by `Metric.proportion_of`.

    Source: Efron & Tibshirani (1993), chapter 13; Wilson (1927).
    """
    found, classes = scores(labels, probabilities), probabilities.shape[1]
    reviews = {
        "all": len(labels),
        "true": _rarest(labels, classes),
        "predicted": _rarest(probabilities.argmax(axis=1), classes),
    }
    resampled = bootstrap_scores(labels, probabilities, resamples=resamples, seed=seed)
    tail = (1 - confidence) / 2
    ends = {}
    for name, metric in tracked().items():
        value, span, count = found[name], metric.highest - metric.lowest, reviews[metric.proportion_of]
        if metric.of_counts and (metric.proportion_of == "all" or value in (metric.lowest, metric.highest)):
            share = (value - metric.lowest) / span
            low, high = (metric.lowest + span * end for end in significance.wilson(round(share * count), count, confidence))
        else:
            low, high = np.quantile(resampled[name], [tail, 1 - tail])
        ends[name] = float(low), float(high)
    return ends


def _rarest(of_reviews: np.ndarray, classes: int) -> int:
    """Number of reviews, at least 1, in the rarest class that is scored: of two classes the second."""
    counts = np.bincount(of_reviews, minlength=classes)
    return max(1, int(counts[1] if classes == 2 else counts.min()))


def bootstrap_scores(labels: np.ndarray, probabilities: np.ndarray, *, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Each tracked metric per resample; shape (resamples,). The same seed draws the same reviews for every model."""
    count, classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    is_right = labels == predicted
    of_reviews = {name: metric.of_reviews(labels, probabilities) for name, metric in METRICS.items() if metric.of_reviews}
    means = {name: np.empty(resamples) for name in of_reviews}
    counts = Counts(*(np.empty((resamples, classes)) for _ in Counts._fields))
    generator = np.random.default_rng(seed)
    for i in range(resamples):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count)  # number of times each review is drawn
        for name, values in of_reviews.items():
            means[name][i] = drawn @ values / count
        counts.right[i] = np.bincount(labels[is_right], weights=drawn[is_right], minlength=classes)
        counts.true[i] = np.bincount(labels, weights=drawn, minlength=classes)
        counts.predicted[i] = np.bincount(predicted, weights=drawn, minlength=classes)
    return means | of_counts(counts)


def curves(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, points: int = 200
) -> dict[str, pd.DataFrame]:
    """ROC and precision-recall curves of the second class, or of each against the rest, with at most `points` points.

    With more than MOST_CURVES classes: the mean of all curves, and the WORST_CURVES with the smallest area.

    Returns:
        `roc` with columns class, false_positive_rate, true_positive_rate; `precision_recall` with class, recall, precision.
    """
    shown = [1] if len(classes) == 2 else range(len(classes))
    roc, precision_recall = {}, {}
    for index in shown:
        is_class, scores = labels == index, probabilities[:, index]
        roc[classes[index]] = metrics.roc_curve(is_class, scores)[:2]
        precision, recall, _ = metrics.precision_recall_curve(is_class, scores)
        precision_recall[classes[index]] = recall[::-1], precision[::-1]
    return {
        "roc": _table(roc, ("false_positive_rate", "true_positive_rate"), points),
        "precision_recall": _table(precision_recall, ("recall", "precision"), points),
    }


def _table(curves: dict[str, tuple[np.ndarray, np.ndarray]], columns: tuple[str, str], points: int) -> pd.DataFrame:
    if len(curves) > MOST_CURVES:
        grid, names = np.linspace(0, 1, points), list(curves)
        heights = np.array([np.interp(grid, x, y) for x, y in curves.values()])
        worst = np.argsort(heights.mean(axis=1), kind="stable")[:WORST_CURVES]
        mean = {f"mean of {len(curves)} classes": (grid, heights.mean(axis=0))}
        curves = mean | {names[i]: curves[names[i]] for i in worst}
    tables = []
    for name, (x, y) in curves.items():
        places = np.unique(np.linspace(0, len(x) - 1, points).round().astype(int))
        tables.append(pd.DataFrame({"class": name, columns[0]: x[places], columns[1]: y[places]}))
    return pd.concat(tables)


def confused_pairs(true: Sequence[str], predicted: Sequence[str], *, most: int) -> pd.DataFrame:
    """The pairs of classes that are confused most often, at most `most`.

    Args:
        true: name of each review's class, shape (n,).
        predicted: name of the predicted class, shape (n,).

    Returns:
        Columns label, predicted, reviews, share (of the true class); most reviews first, then the largest share.
    """
    answers = pd.DataFrame({"label": true, "predicted": predicted}, dtype="str")
    sizes = answers["label"].value_counts()
    wrong = answers[answers["label"] != answers["predicted"]]
    pairs = wrong.groupby(["label", "predicted"]).size().reset_index(name="reviews")
    pairs["share"] = pairs["reviews"] / sizes.reindex(pairs["label"]).to_numpy()
    order = ["reviews", "share", "label", "predicted"]
    return pairs.sort_values(order, ascending=[False, False, True, True]).head(most).reset_index(drop=True)


def classification_report(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> str:
    """scikit-learn's text table of precision, recall, F1 and support per class."""
    predicted, names = probabilities.argmax(axis=1), {"labels": list(range(len(classes))), "target_names": list(classes)}
    return str(metrics.classification_report(labels, predicted, **names, digits=4, zero_division=0.0))


def predictions(rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One line per review: `row`, `label`, `predicted` (names of classes) and `p_CLASS` for each class."""
    names = np.array(classes, dtype=object)
    table: dict[str, Any] = {"row": rows, "label": names[labels], "predicted": names[probabilities.argmax(axis=1)]}
    table |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return pd.DataFrame(table)
