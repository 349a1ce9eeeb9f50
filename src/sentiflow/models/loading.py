"""Reads any trained classifier from its folder."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.models import model_config, networks
from sentiflow.models.model_config import ModelConfig


class Classifier(Protocol):
    """Computes probabilities from word ids."""

    @property
    def config(self) -> ModelConfig[Any]: ...

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability per class (n, K)."""

    def layers(self) -> list[dict[str, Any]]:
        """Name, kind, output and number of weights of each part."""


def load(folder: Path, vocabulary: Vocabulary) -> Classifier:
    """Reads a trained classifier.

    Args:
        folder: what a classifier's `save` wrote.
        vocabulary: of the view that its settings name.
    """
    config = model_config.read(folder)
    own = getattr(networks.module(config.network), "load", None)
    if own is None:
        from sentiflow.models import neural  # here, because a linear model must not wait for TensorFlow

        own = neural.load
    loaded: Classifier = own(folder, config, vocabulary)
    return loaded
