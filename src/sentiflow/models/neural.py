"""A Keras classifier: model, weights, vocabulary and configuration."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from sentiflow.config.model_settings import NeuralSettings
from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import networks
from sentiflow.models.model_config import ModelConfig
from sentiflow.models.tf import keras, tf
from sentiflow.system.errors import InputError

PREDICTION_BATCH = 512  # reviews


@dataclass(frozen=True)
class NeuralClassifier:
    """A Keras model and the preprocessing of its input."""

    config: ModelConfig[NeuralSettings]
    vocabulary: Vocabulary
    model: keras.Model

    @classmethod
    def create(cls, config: ModelConfig[NeuralSettings], vocabulary: Vocabulary) -> Self:
        """A model with new weights."""
        build = networks.module(config.network).build
        size = _size(config.settings, vocabulary)
        model = build(config.settings, vocabulary_size=size, classes=len(config.classes))
        model.name = config.model  # saved with the weights; the default name is numbered, and so differs from run to run
        return cls(config, vocabulary, model)

    def matrix(self, ids: Ragged) -> np.ndarray:
        """The input of the model: ids of its own vocabulary, padded and truncated to its length; int32 (n, T)."""
        settings = self.config.settings
        cut = self.vocabulary.cut(ids, size=_size(settings, self.vocabulary), punctuation=settings.punctuation)
        return cut.padded(settings.length, padding=settings.padding, truncating=settings.truncating)

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability per class (n, K)."""
        return self.probabilities_of_matrix(self.matrix(ids), batch=PREDICTION_BATCH)

    @cached_property
    def _forward(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The model as one compiled graph, without the data pipeline that Keras's `predict` sets up at every call."""
        ids = tf.TensorSpec((None, self.config.settings.length), tf.int32)
        graph = tf.function(lambda ids: self.model(ids, training=False), input_signature=[ids])
        return graph.get_concrete_function()  # type: ignore[no-any-return]

    def probabilities_of_matrix(self, matrix: np.ndarray, *, batch: int) -> np.ndarray:
        """Rows of `matrix` (n, T) -> one probability per class (n, K), computed `batch` rows at a time."""
        starts = tqdm(range(0, len(matrix), batch), desc="predict", unit="batch", disable=None, delay=2, leave=False)
        batches = [self._forward(tf.constant(matrix[start : start + batch])).numpy() for start in starts]
        raw = np.concatenate([np.empty((0, *self.model.output_shape[1:])), *batches])  # in float64, so that each row sums to 1
        of_classes = np.hstack([1 - raw, raw]) if len(self.config.classes) == 2 else raw / raw.sum(axis=1, keepdims=True)
        return calibration.scaled(of_classes, self.config.temperature)

    def layers(self) -> list[dict[str, Any]]:
        """Name, kind, output and number of weights of each layer."""
        return [
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "output": f"({', '.join('B' if size is None else str(size) for size in layer.output.shape)})",
                "weights": layer.count_params(),
            }
            for layer in self.model.layers
        ]

    def save(self, folder: Path) -> None:
        """Writes `config.json` and `model.weights.h5`: no pickle, no date, the same bytes for the same weights."""
        self.config.write(folder)
        bare = self.create(self.config, self.vocabulary).model
        bare.set_weights(self.model.get_weights())  # a compiled model would save its optimizer too
        bare.save_weights(folder / "model.weights.h5")


def load(folder: Path, config: ModelConfig[NeuralSettings], vocabulary: Vocabulary) -> NeuralClassifier:
    """Reads what `NeuralClassifier.save` wrote.

    Raises:
        InputError: if the weights are missing, damaged, not finite, or do not fit the configuration.
    """
    classifier = NeuralClassifier.create(config, vocabulary)
    file = folder / "model.weights.h5"
    advice = f"train it again: dvc repro train@{config.model}"
    if not file.exists():  # h5py's own error does not name the file
        raise InputError(f"{file} is missing; {advice}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns about layers without saved weights
            classifier.model.load_weights(file)
    except (ValueError, UserWarning) as error:
        raise InputError(f"{folder} contains weights of another shape than its config.json: {error}; {advice}") from None
    except (OSError, KeyError) as error:
        raise InputError(f"{file} is truncated or damaged ({error}); {advice}") from None
    if not all(np.isfinite(weight).all() for weight in classifier.model.get_weights()):
        raise InputError(f"{file} contains weights that are not finite; {advice}")
    return classifier


def _size(settings: NeuralSettings, vocabulary: Vocabulary) -> int:
    return vocabulary.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
