"""Reads a trained classifier from its folder."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sentiflow.config.model_settings import LinearSettings
from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.models import model_config
from sentiflow.models.model_config import ModelConfig


class Classifier(Protocol):
    """Computes probabilities from word ids."""

    @property
    def config(self) -> ModelConfig[Any]: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability per class (n, K)."""

    def layers(self) -> list[dict[str, Any]]:
        """Name, kind, output and number of weights of each part."""


def load(folder: Path, vocabulary: Vocabulary) -> Classifier:
    """Reads a trained classifier.

    Args:
        folder: written by the classifier's `save`.
        vocabulary: of the view that its settings name.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    config = model_config.read(folder)
    if isinstance(config.settings, LinearSettings):
        from sentiflow.models.networks import _linear

        return _linear.load(folder, config, vocabulary)
    from sentiflow.models import neural  # here, so that a linear model does not load TensorFlow

    return neural.load(folder, config, vocabulary)
