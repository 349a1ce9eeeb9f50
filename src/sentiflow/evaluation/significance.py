"""Significance of differences between two models on the same reviews: exact tests, and intervals consistent with them."""

import numpy as np
from scipy import stats

ONE_SEED = (
    "Each model was trained once, so intervals and tests cover the choice of test reviews, not the seed of the training. Repeat "
    "the run with other values of train.seed before you act on a difference. Another kind of processor changes the figures too."
)


def wilson(hits: int, count: int, confidence: float) -> tuple[float, float]:
    """Wilson score interval of a proportion; not degenerate for a proportion of 0 or 1.

    Source: Wilson (1927), without continuity correction.

    >>> [round(end, 3) for end in wilson(28, 28, 0.95)]
    [0.879, 1.0]
    """
    low, high = stats.binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def only_one_right(right: np.ndarray, other_right: np.ndarray) -> tuple[int, int]:
    """Number of reviews that only the one model predicts correctly, and only the other; arguments of shape (n,)."""
    return int((right & ~other_right).sum()), int((~right & other_right).sum())


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> float:
    """Exact two-sided p-value of McNemar's test.

    Args:
        right: whether one model predicts each review correctly; shape (n,).
        other_right: the same for the other model.

    Returns:
        In [0, 1]; 1 if the two models are correct on the same reviews.

    Source: McNemar (1947); exact binomial form.

    >>> mcnemar(np.array([True] * 10), np.array([True, False] * 5))
    0.0625
    """
    one, other = only_one_right(right, other_right)
    return float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0


def accuracy_difference(right: np.ndarray, other_right: np.ndarray, confidence: float) -> tuple[float, float]:
    """Interval of the accuracy of one model minus that of the other, by inverting McNemar's exact test.

    Args:
        right: whether one model predicts each review correctly; shape (n,).
        other_right: the same for the other model.
        confidence: in (0, 1), given the number of reviews on which only one of the two is correct.

    Returns:
        Fractions in [-1, 1]; they exclude 0 if and only if `mcnemar` is below 1 - confidence.

    Source: Clopper & Pearson (1934), applied to the share of those reviews that the first model predicts correctly.

    >>> low, high = accuracy_difference(np.array([True] * 10), np.array([True, False] * 5), 0.95)
    >>> round(low, 3), round(high, 3)
    (-0.022, 0.5)
    """
    one, other = only_one_right(right, other_right)
    if not one + other:
        return 0.0, 0.0
    share = stats.binomtest(one, one + other).proportion_ci(confidence, method="exact")
    low, high = ((2 * end - 1) * (one + other) / len(right) for end in share)
    return float(low), float(high)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values with Holm's correction, which controls the family-wise error under any dependence.

    Source: Holm (1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.asarray(np.minimum(stepped, 1)[np.argsort(order)])
