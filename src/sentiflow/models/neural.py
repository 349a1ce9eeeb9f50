"""A Keras model with all it needs to answer word ids: what it reads of them, its weights and its classes."""

import dataclasses
import inspect
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import networks
from sentiflow.models.tf import keras, tf
from sentiflow.system.errors import InputError

PREDICTION_BATCH = 512  # reviews


@dataclass(frozen=True)
class NeuralClassifier:
    """A model and how a review becomes its input."""

    architecture: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    vocabulary: Vocabulary
    model: keras.Model
    temperature: float  # of `calibration`, that its probabilities are given at

    @classmethod
    def create(cls, architecture: str, settings: dict[str, Any], *, classes: tuple[str, ...], vocabulary: Vocabulary) -> Self:
        """A model with fresh weights, and no temperature yet."""
        build: Callable[..., keras.Model] = networks.module(architecture).build
        sized = settings | {"vocabulary_size": _size(settings, vocabulary), "classes": len(classes)}
        chosen = {name: sized[name] for name in inspect.signature(build).parameters}
        return cls(architecture, settings, classes, vocabulary, build(**chosen), calibration.NONE)

    def matrix(self, ids: Ragged) -> np.ndarray:
        """What the model reads: the architecture's cut of the ids, padded and truncated to its length; int32 (n, T)."""
        cut = self.vocabulary.cut(ids, size=_size(self.settings, self.vocabulary), punctuation=self.settings["punctuation"])
        told = self.settings
        return cut.padded(told["length"], padding=told["padding"], truncating=told["truncating"])

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability a class (n, K)."""
        return self.probabilities_of_matrix(self.matrix(ids), batch=PREDICTION_BATCH)

    @cached_property
    def _forward(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The model as one compiled graph: without the data pipeline that Keras's `predict` sets up at every call."""
        ids = tf.TensorSpec((None, self.settings["length"]), tf.int32)
        graph = tf.function(lambda ids: self.model(ids, training=False), input_signature=[ids])
        return graph.get_concrete_function()  # type: ignore[no-any-return]

    def probabilities_of_matrix(self, matrix: np.ndarray, *, batch: int) -> np.ndarray:
        """The same for the rows of `matrix`, `batch` of them at once."""
        starts = tqdm(range(0, len(matrix), batch), desc="predict", unit="batch", disable=None, delay=2, leave=False)
        batches = [self._forward(tf.constant(matrix[start : start + batch])).numpy() for start in starts]
        raw = np.concatenate([np.empty((0, *self.model.output_shape[1:])), *batches])  # in float64, so that each row adds up to 1
        of_classes = np.hstack([1 - raw, raw]) if len(self.classes) == 2 else raw / raw.sum(axis=1, keepdims=True)
        return calibration.scaled(of_classes, self.temperature)

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
        config = {
            "architecture": self.architecture,
            "classes": self.classes,
            "settings": self.settings,
            "temperature": self.temperature,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        bare = self.create(self.architecture, self.settings, classes=self.classes, vocabulary=self.vocabulary).model
        bare.set_weights(self.model.get_weights())  # a compiled model would save its optimizer too
        bare.save_weights(folder / "model.weights.h5")


def load(folder: Path, config: dict[str, Any], vocabulary: Vocabulary) -> NeuralClassifier:
    """Reads what `NeuralClassifier.save` wrote."""
    made = NeuralClassifier.create(
        config["architecture"], config["settings"], classes=tuple(config["classes"]), vocabulary=vocabulary
    )
    file = folder / "model.weights.h5"
    anew = f"train it anew: dvc repro train@{config['architecture']}"
    if not file.exists():  # h5py's own error does not say which file
        raise InputError(f"no {file}; {anew}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that keep their fresh weights
            made.model.load_weights(file)
    except (ValueError, UserWarning) as error:
        raise InputError(f"{folder} holds weights of another shape than its config.json says: {error}; {anew}") from None
    except (OSError, KeyError) as error:
        raise InputError(f"{file} was cut off or changed ({error}); {anew}") from None
    if not all(np.isfinite(weight).all() for weight in made.model.get_weights()):
        raise InputError(f"{file} holds weights that are no finite numbers; {anew}")
    return dataclasses.replace(made, temperature=config["temperature"])


def _size(settings: dict[str, Any], vocabulary: Vocabulary) -> int:
    return vocabulary.size(at_most=settings["vocabulary_size"], minimum_count=settings["minimum_count"])
