"""A linear classifier over n-grams: one weight per n-gram, regardless of their order in the text.

With more than two classes: one against the rest, with probabilities normalised to sum to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfTransformer

from sentiflow.config.model_settings import LinearSettings
from sentiflow.data.vocabulary import Ragged, TrainingData, Vocabulary
from sentiflow.evaluation import calibration
from sentiflow.evaluation.metrics import scores
from sentiflow.models.model_config import ModelConfig
from sentiflow.models.networks._ngrams import NGrams
from sentiflow.system.errors import InputError

# n-gram features (n, G) and whether each review is of the class (n,) -> one weight per n-gram (G,) and the bias.
FitOneClass = Callable[[sparse.csr_array, np.ndarray], tuple[np.ndarray, float]]


@dataclass(frozen=True)
class LinearClassifier:
    """Weights of n-grams. The features of a review are TF-IDF values if `idf` is given, otherwise presence (0 or 1)."""

    config: ModelConfig[LinearSettings]
    vocabulary: Vocabulary
    ngrams: NGrams
    weights: np.ndarray  # float32, shape (C, n-grams), C = 1 where K is 2, else K
    bias: np.ndarray  # shape (C,)
    idf: np.ndarray | None  # float32, shape (n-grams,)

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability per class (n, K)."""
        counts = self.ngrams.counts(_cut(ids, self.config.settings, self.vocabulary))
        positive = expit(_features(counts, self.idf) @ self.weights.T + self.bias)  # (n, C)
        two = len(self.config.classes) == 2
        of_classes = np.hstack([1 - positive, positive]) if two else positive / positive.sum(axis=1, keepdims=True)
        return calibration.scaled(of_classes, self.config.temperature)

    def layers(self) -> list[dict[str, Any]]:
        """Name, kind, output and number of weights of each part."""
        kind = "presence" if self.idf is None else "TF-IDF"
        parts = [
            {"name": f"n-grams of {length}", "kind": kind, "output": str(len(grams)), "weights": len(self.weights) * len(grams)}
            for length, grams in enumerate(self.ngrams.of_length, start=1)
        ]
        return [*parts, {"name": "bias", "kind": "logistic", "output": str(len(self.config.classes)), "weights": len(self.bias)}]

    def save(self, folder: Path) -> None:
        """Writes `config.json` and `weights.npz`: numbers only, no pickle, the same bytes for the same weights."""
        self.config.write(folder)
        arrays = {f"grams_{length}": grams for length, grams in enumerate(self.ngrams.of_length, start=1)}
        if self.idf is not None:
            arrays["idf"] = self.idf
        np.savez(folder / "weights.npz", allow_pickle=False, weights=self.weights, bias=self.bias, **arrays)


def fit(
    config: ModelConfig[LinearSettings],
    data: TrainingData,
    fit_one: FitOneClass,
    *,
    idf: Callable[[sparse.csr_array], np.ndarray] | None = None,
) -> tuple[LinearClassifier, pd.DataFrame]:
    """The fitted classifier and its history: one row, since there are no epochs.

    Args:
        fit_one: fits one class against the rest.
        idf: computes the inverse document frequencies from the counts of train; None selects presence features.

    Raises:
        InputError: if no n-gram occurs in enough reviews.
    """
    classes, train, settings = data.classes, data.train, config.settings
    ids = _cut(train.ids, settings, data.vocabulary)
    base = len(data.vocabulary) + 1
    ngrams = NGrams.frequent(ids, longest=settings.ngrams, minimum_documents=settings.minimum_documents, base=base)
    if not len(ngrams):
        raise InputError(
            f"no n-gram occurs in {settings.minimum_documents} or more reviews of train; "
            f"lower models.{config.model}.minimum_documents in params.yaml or use more reviews"
        )
    counts = ngrams.counts(ids)
    frequencies = None if idf is None else idf(counts)
    features = _features(counts, frequencies)
    targets = range(1, 2) if len(classes) == 2 else range(len(classes))
    fits = [fit_one(features, train.labels == target) for target in targets]
    weights = np.vstack([weights for weights, _ in fits]).astype(np.float32)
    bias = np.array([bias for _, bias in fits])
    fitted = LinearClassifier(config, data.vocabulary, ngrams, weights, bias, frequencies)
    history: dict[str, float] = {"epoch": 1}
    for split, tokens in (("train", train), ("valid", data.valid)):
        result = scores(tokens.labels, fitted.probabilities(tokens.ids))
        history |= {f"{split}_{name}": value for name, value in result.items()}
    return fitted, pd.DataFrame([history])


def load(folder: Path, config: ModelConfig[LinearSettings], vocabulary: Vocabulary) -> LinearClassifier:
    """Reads what `LinearClassifier.save` wrote, without pickle.

    Raises:
        InputError: if the file is damaged or contains weights that are not finite.
    """
    file = folder / "weights.npz"
    advice = f"train it again: dvc repro train@{config.model}"
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as saved:
            of_length = tuple(saved[f"grams_{length}"] for length in range(1, config.settings.ngrams + 1))
            weights, bias, idf = saved["weights"], saved["bias"], saved.get("idf")
    except (BadZipFile, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{file} is truncated or damaged ({error}); {advice}") from None
    if not all(np.isfinite(array).all() for array in (weights, bias, idf) if array is not None):
        raise InputError(f"{file} contains weights that are not finite; {advice}")
    return LinearClassifier(config, vocabulary, NGrams(of_length, base=len(vocabulary) + 1), weights, bias, idf)


def _features(counts: sparse.csr_array, idf: np.ndarray | None) -> sparse.csr_array:
    """Features of each review from its n-gram counts; shape (n, n-grams).

    Without `idf` 1 where the review contains the n-gram. With it 1 + log of the count, times the n-gram's `idf`, each review
    scaled to length 1.
    """
    if idf is None:
        return sparse.csr_array((np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape)
    if counts.shape[0] == 0:  # scikit-learn refuses
        return counts
    transformer = TfidfTransformer(sublinear_tf=True)
    transformer.idf_ = idf
    return transformer.transform(counts)


def _cut(ids: Ragged, settings: LinearSettings, vocabulary: Vocabulary) -> Ragged:
    size = vocabulary.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
    return vocabulary.cut(ids, size=size, punctuation=settings.punctuation)
