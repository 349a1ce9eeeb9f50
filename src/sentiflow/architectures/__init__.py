"""The table of architectures. To add one: write its file, add its line, add its section to params.yaml and params.py.

A neural architecture has `build`, which gives a Keras model; any other has `fit` and `load`, which give a classifier.
"""

import importlib
from types import ModuleType

from sentiflow.errors import InputError

# By module, not by import: `train@lstm` must neither load nor depend on the other architectures.
ARCHITECTURES = {
    "nb_svm": "sentiflow.architectures.nb_svm",
    "lstm": "sentiflow.architectures.lstm",
    "cnn_lstm": "sentiflow.architectures.cnn_lstm",
    "lstm_attention": "sentiflow.architectures.lstm_attention",
}


def module(name: str) -> ModuleType:
    """The file of an architecture.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"no architecture {name!r}; choose one of {', '.join(ARCHITECTURES)}")
    return importlib.import_module(ARCHITECTURES[name])
