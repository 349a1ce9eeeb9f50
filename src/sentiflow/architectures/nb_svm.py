"""A linear classifier over n-grams, each weighted by how much more often one class holds it than the others.

Source: Wang & Manning (ACL 2012), with logistic loss in place of the hinge so that its scores are probabilities, and without
their interpolation. With more than two classes: each against the rest, probabilities scaled to add up to 1.

N-grams are whole numbers, id by id in base V, so that millions of them need neither strings nor a hash table.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from sentiflow.errors import InputError
from sentiflow.params import NbSvm
from sentiflow.scoring import scores
from sentiflow.vocabulary import Ragged, TrainingData, Vocabulary


@dataclass(frozen=True)
class LinearClassifier:
    """Weights of the n-grams of each length from 1 up."""

    classes: tuple[str, ...]
    settings: dict[str, Any]
    vocabulary: Vocabulary
    grams: tuple[np.ndarray, ...]  # of each length, sorted; int64, shape (n-grams,)
    weights: np.ndarray  # of the n-grams of all lengths in turn; float32, shape (C, n-grams), C = 1 where K is 2, else K
    bias: np.ndarray  # shape (C,)

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability a class (n, K)."""
        found = _documents_of(_cut(ids, self.settings, self.vocabulary), self.grams, base=len(self.vocabulary) + 1)
        positive = expit(found @ self.weights.T + self.bias)  # (n, C)
        if len(self.classes) == 2:
            return np.hstack([1 - positive, positive])
        return np.asarray(positive / positive.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> None:
        config = {"architecture": "nb_svm", "classes": self.classes, "settings": self.settings}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        grams = {f"grams_{length}": grams for length, grams in enumerate(self.grams, start=1)}
        np.savez(folder / "weights.npz", allow_pickle=False, weights=self.weights, bias=self.bias, **grams)


def load(folder: Path, config: dict[str, Any], vocabulary: Vocabulary) -> LinearClassifier:
    """Reads what `save` wrote; holds numbers only, and is read without pickle."""
    file = folder / "weights.npz"
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as saved:
            grams = tuple(saved[f"grams_{length}"] for length in range(1, config["settings"]["ngrams"] + 1))
            weights, bias = saved["weights"], saved["bias"]
    except (BadZipFile, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{file} was cut off or changed ({error}); train it anew: dvc repro train@nb_svm") from None
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise InputError(f"{file} holds weights that are no finite numbers; train it anew: dvc repro train@nb_svm")
    return LinearClassifier(tuple(config["classes"]), config["settings"], vocabulary, grams, weights, bias)


def fit(settings: NbSvm, data: TrainingData) -> tuple[LinearClassifier, pd.DataFrame]:
    """The fitted classifier and its history: one row, since there are no epochs.

    Raises:
        InputError: if no n-gram is in enough reviews.
    """
    classes, train = data.classes, data.train
    base = len(data.vocabulary) + 1
    ids = _cut(train.ids, settings.model_dump(), data.vocabulary)
    lengths = tqdm(range(1, settings.ngrams + 1), desc="count n-grams", unit="length", disable=None, leave=False)
    grams = tuple(_frequent(ids, length, base, settings.minimum_documents) for length in lengths)
    if not sum(map(len, grams)):
        raise InputError(
            f"no n-gram is in {settings.minimum_documents} reviews of train or more; "
            "lower architectures.nb_svm.minimum_documents in params.yaml or use more reviews"
        )
    found = _documents_of(ids, grams, base)
    targets = range(1, 2) if len(classes) == 2 else range(len(classes))
    fits = [_fit_one(found, train.labels == target, settings) for target in targets]
    fitted = LinearClassifier(
        classes,
        settings.model_dump(),
        data.vocabulary,
        grams,
        np.vstack([weights for weights, _ in fits]).astype(np.float32),
        np.array([bias for _, bias in fits]),
    )
    history: dict[str, float] = {"epoch": 1}
    for split, tokens in (("train", train), ("valid", data.valid)):
        result = scores(tokens.labels, fitted.probabilities(tokens.ids))
        history |= {f"{split}_{name}": value for name, value in result.items()}
    return fitted, pd.DataFrame([history])


def _cut(ids: Ragged, settings: dict[str, Any], vocabulary: Vocabulary) -> Ragged:
    size = vocabulary.size(at_most=settings["vocabulary_size"], minimum_count=settings["minimum_count"])
    return vocabulary.cut(ids, size=size, punctuation=True)


def _fit_one(found: sparse.csr_array, is_class: np.ndarray, settings: NbSvm) -> tuple[np.ndarray, float]:
    inside = found[is_class].sum(axis=0) + settings.smoothing
    outside = found[~is_class].sum(axis=0) + settings.smoothing
    ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
    regression = LogisticRegression(C=settings.regularisation, max_iter=1000)
    regression.fit(found @ sparse.diags_array(ratio), is_class)
    return regression.coef_[0] * ratio, float(regression.intercept_[0])


def _grams_of(ids: Ragged, length: int, base: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct (review, n-gram) pairs of one length, in order of review, then n-gram."""
    starts = len(ids.values) - length + 1
    if starts <= 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    grams = np.zeros(starts, np.int64)
    for place in range(length):
        grams = grams * base + ids.values[place : place + starts]
    owners = ids.owners
    inside = owners[:starts] == owners[length - 1 :]  # an n-gram ends in the review it starts in
    owners, grams = owners[:starts][inside], grams[inside]
    order = np.lexsort((grams, owners))
    owners, grams = owners[order], grams[order]
    first = np.ones(len(grams), bool)
    first[1:] = (owners[1:] != owners[:-1]) | (grams[1:] != grams[:-1])
    return owners[first], grams[first]


def _frequent(ids: Ragged, length: int, base: int, minimum_documents: int) -> np.ndarray:
    _, grams = _grams_of(ids, length, base)
    distinct, documents = np.unique(grams, return_counts=True)
    return np.asarray(distinct[documents >= minimum_documents])


def _documents_of(ids: Ragged, grams: tuple[np.ndarray, ...], base: int) -> sparse.csr_array:
    """1 where a review holds an n-gram; shape (n, n-grams of all lengths)."""
    rows, columns, before = [], [], 0
    lengths = tqdm(
        enumerate(grams, start=1), total=len(grams), desc="find n-grams", unit="length", disable=None, delay=2, leave=False
    )
    for length, known in lengths:
        owners, present = _grams_of(ids, length, base)
        if len(known):
            place = np.searchsorted(known, present)
            place[place == len(known)] = 0
            is_known = known[place] == present
            rows.append(owners[is_known])
            columns.append(place[is_known] + before)
        before += len(known)
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=(len(ids), before))
