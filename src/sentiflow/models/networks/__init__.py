"""The table of architectures. To add one: write its file, add its line, add its section to params.yaml and settings.py.

A neural architecture has `build`, which gives a Keras model; any other has `fit` and `load`, which give a classifier.
"""

import importlib
from types import ModuleType

from sentiflow.system.errors import InputError

# By module, not by import: `train@lstm` must neither load nor depend on the other architectures.
ARCHITECTURES = {
    "logistic": "sentiflow.models.networks.logistic",
    "nb_svm": "sentiflow.models.networks.nb_svm",
    "ngram_mean": "sentiflow.models.networks.ngram_mean",
    "ffnn": "sentiflow.models.networks.ffnn",
    "text_cnn": "sentiflow.models.networks.text_cnn",
    "rnn": "sentiflow.models.networks.rnn",
    "stacked_rnn": "sentiflow.models.networks.stacked_rnn",
    "lstm_small": "sentiflow.models.networks.lstm_small",
    "lstm_tuned": "sentiflow.models.networks.lstm_tuned",
    "lstm": "sentiflow.models.networks.lstm",
    "lstm_dropout": "sentiflow.models.networks.lstm_dropout",
    "stacked_lstm": "sentiflow.models.networks.stacked_lstm",
    "bilstm": "sentiflow.models.networks.bilstm",
    "gru": "sentiflow.models.networks.gru",
    "cnn_lstm": "sentiflow.models.networks.cnn_lstm",
    "lstm_attention": "sentiflow.models.networks.lstm_attention",
    "transformer": "sentiflow.models.networks.transformer",
}


def module(name: str) -> ModuleType:
    """The file of an architecture.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"no architecture {name!r}; choose one of {', '.join(ARCHITECTURES)}")
    return importlib.import_module(ARCHITECTURES[name])
