"""Reads any trained classifier from its folder."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sentiflow.config.settings import Architectures, Reader
from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import networks
from sentiflow.system.errors import InputError


class Classifier(Protocol):
    """What answers word ids."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def temperature(self) -> float: ...

    def probabilities(self, ids: Ragged) -> np.ndarray:
        """Word ids of n reviews -> one probability a class (n, K)."""

    def layers(self) -> list[dict[str, Any]]:
        """Name, kind, output and number of weights of each part."""


def read_config(folder: Path) -> dict[str, Any]:
    """The architecture, classes, settings and temperature of a trained classifier.

    Raises:
        InputError: if the folder holds none.
    """
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        section = Architectures.model_fields[config["architecture"]].annotation
        if not (isinstance(section, type) and issubclass(section, Reader)) or len(config["classes"]) < 2:
            raise ValueError
        section.model_validate(config["settings"])
        low, high = calibration.BOUNDS
        if not low <= config["temperature"] <= high:
            raise ValueError
    except FileNotFoundError:
        raise InputError(f"no trained model in {folder}; make it: dvc repro train@{folder.name}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} does not describe a trained model; make it anew: dvc repro train@{folder.name}") from None
    return config


def load(folder: Path, vocabulary: Vocabulary) -> Classifier:
    """Reads a trained classifier.

    Args:
        folder: what a classifier's `save` wrote.
        vocabulary: of the view that its settings name.
    """
    config = read_config(folder)
    own = getattr(networks.module(config["architecture"]), "load", None)
    if own is None:
        from sentiflow.models import neural  # here, because a linear model must not wait for TensorFlow

        own = neural.load
    loaded: Classifier = own(folder, config, vocabulary)
    return loaded
