"""Versions to compare, with their predictions on the test reviews."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.evaluation.metrics import scores


@dataclass(frozen=True)
class Named:
    """Number and model of a registered version.

    >>> str(Named("12", "nb_svm"))
    'version 12 (nb_svm)'
    """

    version: str
    architecture: str

    def __str__(self) -> str:
        return f"version {self.version} ({self.architecture})"


@dataclass(frozen=True)
class Candidate(Named):
    """A registered version with its predictions on the test reviews."""

    predictions: pd.DataFrame  # see `evaluation.predictions`
    latency_ms: float | None  # 95th percentile for one review; None for a champion
    size_mb: float | None  # None for a champion
    seen: frozenset[int] = frozenset()  # rows of the test set whose texts it was trained or chosen on

    @property
    def named(self) -> Named:
        return Named(self.version, self.architecture)


@dataclass(frozen=True)
class Answers:
    """Predictions as arrays."""

    labels: np.ndarray  # index of each review's class, shape (n,)
    probabilities: np.ndarray  # shape (n, K)

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)

    def score(self, metric: str) -> float:
        return scores(self.labels, self.probabilities)[metric]


def classes_of(table: pd.DataFrame) -> list[str]:
    return [str(column).removeprefix("p_") for column in table if str(column).startswith("p_")]


def answers_of(table: pd.DataFrame, classes: Sequence[str]) -> Answers:
    labels = pd.Index(list(classes)).get_indexer(pd.Index(table["label"]))
    return Answers(np.asarray(labels, np.int64), table[[f"p_{name}" for name in classes]].to_numpy(np.float64))


def in_reviews(reviews: int) -> str:
    return f"{reviews:,} {'review' if reviews == 1 else 'reviews'}"
