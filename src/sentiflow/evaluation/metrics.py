"""The table of metrics, which training, evaluation, comparison, pages, figures and promotion read.

To add a metric, add an entry to METRICS. Precision, recall and F1 are those of the second class where there are two classes,
otherwise unweighted means over the classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score as area_under_roc


class Counts(NamedTuple):
    """Number of reviews per class: diagonal, row sums and column sums of the confusion matrix; shape (..., K)."""

    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> "Counts":
        """The counts of predictions; `labels` and `predicted` are indices of classes, shape (n,)."""
        of_each = (labels[labels == predicted], labels, predicted)
        return cls(*(np.bincount(each, minlength=classes).astype(np.float64) for each in of_each))


def precision(counts: Counts) -> np.ndarray:
    """Precision per class; 0 for a class that is never predicted; shape (..., K)."""
    return _ratio(counts.right, counts.predicted)


def recall(counts: Counts) -> np.ndarray:
    """Recall per class; 0 for a class without reviews; shape (..., K)."""
    return _ratio(counts.right, counts.true)


def f1(counts: Counts) -> np.ndarray:
    """F1 per class; 0 for a class that neither occurs nor is predicted; shape (..., K)."""
    return _ratio(2 * counts.right, counts.true + counts.predicted)


def matthews(counts: Counts) -> np.ndarray:
    """Matthews correlation coefficient; 0 if all reviews, or all predictions, are of one class.

    Source: Matthews (1975); for more than two classes Gorodkin (2004).
    """
    right, true, predicted = (np.asarray(each, np.float64) for each in counts)
    n = true.sum(axis=-1)
    covariance = n * right.sum(axis=-1) - (true * predicted).sum(axis=-1)
    variances = [n**2 - (each**2).sum(axis=-1) for each in (true, predicted)]
    return _ratio(covariance, np.sqrt(variances[0] * variances[1]))


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log loss per review; shape (n,)."""
    smallest = np.finfo(np.float64).eps
    of_class = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(of_class, smallest, 1 - smallest)))


def roc_auc_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve; for more than two classes the mean of one against the rest."""
    if probabilities.shape[1] == 2:
        return float(area_under_roc(labels, probabilities[:, 1]))
    return float(area_under_roc(labels, probabilities, multi_class="ovr", labels=np.arange(probabilities.shape[1])))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, bins: int) -> float:
    """Expected calibration error (ECE): mean distance between confidence and accuracy. Lower is better.

    Args:
        labels: index of each review's class; shape (n,).
        probabilities: shape (n, K).
        bins: number of equal intervals of [0, 1], at least 1.

    Returns:
        Fraction in [0, 1].

    Source: Guo, Pleiss, Sun & Weinberger (ICML 2017), confidence of the predicted class.

    >>> round(calibration_error(np.array([1, 1, 0, 0]), np.array([[0.1, 0.9]] * 3 + [[0.9, 0.1]]), bins=2), 3)
    0.15
    """
    table = reliability(labels, probabilities, bins=bins)
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["reviews"]))


def reliability(labels: np.ndarray, probabilities: np.ndarray, *, bins: int) -> pd.DataFrame:
    """Mean confidence, accuracy and number of reviews per non-empty interval of confidence."""
    confidence = probabilities.max(axis=1)
    interval = np.minimum((confidence * bins).astype(int), bins - 1)  # 1.0 belongs to the last interval
    right = probabilities.argmax(axis=1) == labels
    table = pd.DataFrame({"interval": interval, "confidence": confidence, "accuracy": right, "reviews": 1})
    return table.groupby("interval").agg({"confidence": "mean", "accuracy": "mean", "reviews": "sum"}).reset_index(drop=True)


def _scored(of_classes: np.ndarray) -> np.ndarray:
    """The value of the second of two classes, otherwise the mean over the classes."""
    return np.asarray(of_classes[..., 1] if of_classes.shape[-1] == 2 else of_classes.mean(axis=-1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))


@dataclass(frozen=True)
class Metric:
    """One metric with exactly one of the three functions.

    Metrics of counts and of reviews are computed for every epoch and every split, with an interval; those of a set per split.
    """

    name: str  # in files and params.yaml
    label: str  # on pages and figures
    of_counts: Callable[[Counts], np.ndarray] | None = None  # shape (..., K) to (...)
    of_reviews: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # labels, probabilities: the metric is the mean
    of_set: Callable[[np.ndarray, np.ndarray, int], float] | None = None  # labels, probabilities, bins of confidence
    higher_is_better: bool = True
    lowest: float = 0.0
    highest: float = 1.0
    # The reviews of which a value at an end of the range is a proportion: all, or those of the rarest true or predicted class.
    proportion_of: Literal["all", "true", "predicted"] = "true"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("log_loss", "loss", of_reviews=losses, higher_is_better=False, highest=float("inf")),
        Metric("accuracy_score", "accuracy", lambda c: c.right.sum(axis=-1) / c.true.sum(axis=-1), proportion_of="all"),
        Metric("precision_score", "precision", lambda c: _scored(precision(c)), proportion_of="predicted"),
        Metric("recall_score", "recall", lambda c: _scored(recall(c))),
        Metric("f1_score", "F1", lambda c: _scored(f1(c))),
        Metric("balanced_accuracy_score", "balanced accuracy", lambda c: recall(c).mean(axis=-1)),
        Metric("matthews_corrcoef", "Matthews correlation", matthews, lowest=-1.0),
        Metric(
            "calibration_error",
            "calibration error",
            of_set=lambda y, p, n: calibration_error(y, p, bins=n),
            higher_is_better=False,
        ),
        Metric("roc_auc_score", "area under the ROC curve", of_set=lambda y, p, _: roc_auc_score(y, p)),
    )
}


def tracked() -> dict[str, Metric]:
    """The metrics of every epoch, with intervals, by name."""
    return {name: metric for name, metric in METRICS.items() if metric.of_set is None}


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Each tracked metric by name, in the order of the table.

    Args:
        labels: index of each review's class; shape (n,).
        probabilities: shape (n, K).

    >>> scores(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))["accuracy_score"]
    0.6666666666666666
    """
    probabilities = np.asarray(probabilities, np.float64)  # the clipping of the loss depends on the precision
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)  # in 32 bits rows need not sum to 1 exactly
    counts = Counts.of(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    of_reviews = {name: metric.of_reviews(labels, probabilities) for name, metric in METRICS.items() if metric.of_reviews}
    found = of_counts(counts) | {name: np.average(values) for name, values in of_reviews.items()}
    return {name: float(found[name]) for name in tracked()}


def of_counts(counts: Counts) -> dict[str, np.ndarray]:
    """Each metric that follows from counts, by name; shape (...)."""
    return {name: metric.of_counts(counts) for name, metric in METRICS.items() if metric.of_counts}
