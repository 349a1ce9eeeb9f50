"""The table of networks. A network is a file with its settings class and the code that builds it from them.

A Keras network has `Settings`, a `NeuralSettings`, and `build`, which returns a Keras model. A linear one has `Settings`, a
`LinearSettings`, and `fit`, which returns a `LinearClassifier`. A file imports TensorFlow and scikit-learn inside its functions:
every command reads the settings classes to check params.yaml.

To add a network: write its file, add its line here, and an entry of params.yaml that uses it.
"""

import importlib
from types import ModuleType

from sentiflow.config.model_settings import ModelSettings
from sentiflow.system.errors import InputError

# By name, not by import: `train@lstm` must neither load nor depend on the other networks.
NETWORKS = (
    "logistic",
    "nb_svm",
    "ngram_mean",
    "ffnn",
    "text_cnn",
    "recurrent",
    "cnn_lstm",
    "lstm_attention",
    "transformer",
)


def module(network: str) -> ModuleType:
    """The file of a network.

    Raises:
        InputError: if no network has this name.
    """
    if network not in NETWORKS:
        raise InputError(f"unknown network {network!r}; expected one of {', '.join(NETWORKS)}")
    return importlib.import_module(f"{__name__}.{network}")


def settings_class(network: str) -> type[ModelSettings]:
    """The class of this network's settings in params.yaml.

    Raises:
        InputError: if no network has this name.
    """
    settings: type[ModelSettings] = module(network).Settings
    return settings
