"""Versions to compare, with their predictions on the test reviews."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.evaluation.metrics import scores
from sentiflow.system import terminal
from sentiflow.system.errors import InputError

AGAIN = "judge again, so that both are scored on this test set"


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


def checked(candidate: Candidate) -> pd.DataFrame:
    """The predictions by `row`, one per review, each with a probability for every class."""
    table = candidate.predictions.set_index("row")
    if table.empty:
        raise InputError(f"{candidate} has no predictions; expected one for each test review; {AGAIN}")
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{candidate} has several predictions for row {twice}; expected one for each test review; {AGAIN}")
    classes = classes_of(table)
    foreign = table.index[~table["label"].isin(classes)]
    if len(foreign):
        raise InputError(
            f"{candidate} has the classes {terminal.some(classes)}, but {len(foreign)} of {len(table)} test reviews have "
            f"another label, such as row {foreign[0]} ({table['label'][foreign[0]]}); judge it on a test set of its own classes"
        )
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    # float32 sums differ a little from 1; comparisons with NaN are false, so NaN is invalid too
    valid = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not valid.all():
        raise InputError(
            f"{candidate} has invalid probabilities for {int((~valid).sum())} of {len(table)} test reviews, such as row "
            f"{table.index[~valid][0]}; expected numbers in [0, 1] that add up to 1; train the model again"
        )
    return table


def classes_of(table: pd.DataFrame) -> list[str]:
    return [str(column).removeprefix("p_") for column in table if str(column).startswith("p_")]


def answers_of(table: pd.DataFrame, classes: Sequence[str]) -> Answers:
    labels = pd.Index(list(classes)).get_indexer(pd.Index(table["label"]))
    return Answers(np.asarray(labels, np.int64), table[[f"p_{name}" for name in classes]].to_numpy(np.float64))


def aligned(challenger: Candidate, table: pd.DataFrame, champion: Candidate, champions: pd.DataFrame) -> pd.DataFrame:
    """The champion's predictions in the order of the challenger's.

    Raises:
        InputError: if the two are not of the same reviews, labels and classes.
    """
    both = f"{challenger} and {champion} cannot be compared:"
    classes, others = classes_of(table), classes_of(champions)
    if set(classes) != set(others):
        raise InputError(
            f"{both} they have different classes, {terminal.some(classes)} and {terminal.some(others)}; "
            f"{AGAIN}, or remove the champion's alias if the classes are meant to change"
        )
    common = table.index.intersection(champions.index)
    if not len(common) == len(table) == len(champions):
        raise InputError(
            f"{both} they have predictions for {in_reviews(len(table))} and {in_reviews(len(champions))}, of which "
            f"{len(common):,} are common; {AGAIN}"
        )
    champions = champions.loc[table.index]
    differ = table.index[table["label"].to_numpy(object) != champions["label"].to_numpy(object)]
    if len(differ):
        first = differ[0]
        raise InputError(
            f"{both} {len(differ)} of {in_reviews(len(table))} have different labels, such as row {first} "
            f"({table['label'][first]} and {champions['label'][first]}); {AGAIN}"
        )
    return champions


def in_reviews(reviews: int) -> str:
    return f"{reviews:,} {'review' if reviews == 1 else 'reviews'}"
