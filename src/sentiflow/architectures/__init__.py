"""The table of architectures. To add one: write its file, add its line, add its section to params.yaml and settings.py.

A neural architecture has `build`, which gives a Keras model; any other has `fit` and `load`, which give a classifier.
"""

import importlib
from types import ModuleType

from sentiflow.errors import InputError

# By module, not by import: `train@lstm` must neither load nor depend on the other architectures.
ARCHITECTURES = {
    "logistic": "sentiflow.architectures.logistic",
    "nb_svm": "sentiflow.architectures.nb_svm",
    "ngram_mean": "sentiflow.architectures.ngram_mean",
    "ffnn": "sentiflow.architectures.ffnn",
    "text_cnn": "sentiflow.architectures.text_cnn",
    "rnn": "sentiflow.architectures.rnn",
    "stacked_rnn": "sentiflow.architectures.stacked_rnn",
    "lstm_small": "sentiflow.architectures.lstm_small",
    "lstm_tuned": "sentiflow.architectures.lstm_tuned",
    "lstm": "sentiflow.architectures.lstm",
    "lstm_dropout": "sentiflow.architectures.lstm_dropout",
    "stacked_lstm": "sentiflow.architectures.stacked_lstm",
    "bilstm": "sentiflow.architectures.bilstm",
    "gru": "sentiflow.architectures.gru",
    "cnn_lstm": "sentiflow.architectures.cnn_lstm",
    "lstm_attention": "sentiflow.architectures.lstm_attention",
    "transformer": "sentiflow.architectures.transformer",
}


def module(name: str) -> ModuleType:
    """The file of an architecture.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"no architecture {name!r}; choose one of {', '.join(ARCHITECTURES)}")
    return importlib.import_module(ARCHITECTURES[name])
