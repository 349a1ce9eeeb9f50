"""What a user edits to add a model, in a copy of the project: a variant of a network, and a network of their own."""

import shutil

import pytest
from clones import LINEAR, change, commit, fresh, run
from ruamel.yaml import YAML

from sentiflow.config import params

pytestmark = pytest.mark.slow

NETWORK = '''"""The mean of the embedded words."""

from typing import TYPE_CHECKING

from sentiflow.config.model_settings import Dropout, NeuralSettings, head

if TYPE_CHECKING:
    from sentiflow.models.tf import keras


class Settings(NeuralSettings):
    dropout: Dropout

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        return vocabulary_size * self.embedding + head(self.embedding, classes)

    def widest(self) -> int:
        return self.length * self.embedding


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers

    ids = keras.Input((settings.length,), dtype="int32", name="ids")
    x = layers.Embedding(vocabulary_size, settings.embedding, name="word")(ids)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(ids, sentiment_head(layers.Dropout(settings.dropout, name="hide")(x), classes))
'''
READING = ("view", "vocabulary_size", "minimum_count", "length", "padding", "truncating", "punctuation")
TRAINING = ("embedding", "batch", "epochs", "learning_rate")
SMALL = {"length": 20, "embedding": 4, "units": 4, "epochs": 1}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small LSTM trained and evaluated, everything committed."""
    lstm = params.load().models["lstm"] | SMALL
    folder = fresh(tmp_path_factory.mktemp("project"), LINEAR | {"run": {"lstm": "recurrent"}, "models.lstm": lstm})
    evaluate(folder, "lstm")
    commit(folder)
    return folder


@pytest.fixture
def copy(project, tmp_path):
    return shutil.copytree(project, tmp_path / "copy", symlinks=True)


def dvc(folder, *arguments):
    command = [folder / ".venv/bin/python", "-m", "dvc", *arguments]
    # python as DVC finds it on PATH; the code of this copy, not what is installed
    own = {"PYTHONPATH": str(folder / "src"), "PATH": f"{folder}/.venv/bin:/usr/bin:/bin", "DVC_NO_ANALYTICS": "1"}
    return run(command, folder, **own, DVC_SITE_CACHE_DIR=str(folder.parent / "site")).stdout


def evaluate(folder, model):
    return dvc(folder, "repro", f"evaluate@{model}")


def add(folder, model, network, settings):
    """By params.yaml alone."""
    values = YAML().load(folder / "params.yaml")
    change(folder, {"run": {**values["run"], model: network}, "models": {**values["models"], model: settings}})


def changed_by_hand(folder):
    lines = run(["git", "status", "--porcelain", "--", "params.yaml", "dvc.yaml", "src"], folder).stdout.splitlines()
    return {line[3:] for line in lines}


def test_a_variant_of_an_lstm_needs_params_yaml_alone(copy):
    settings = params.load(copy / "params.yaml").models["lstm"]
    add(copy, "lstm_wide", "recurrent", settings | {"units": 8, "second_units": 3, "bidirectional": True})
    assert changed_by_hand(copy) == {"params.yaml"}
    said = evaluate(copy, "lstm_wide")
    assert "Running stage 'train@lstm_wide'" in said
    assert (copy / "metrics/test/lstm_wide.json").exists()
    assert "didn't change, skipping" in evaluate(copy, "lstm")


def test_a_network_needs_its_file_a_line_in_the_table_and_a_model(copy):
    networks = copy / "src/sentiflow/models/networks"
    (networks / "word_mean.py").write_text(NETWORK)
    table = (networks / "__init__.py").read_text()
    (networks / "__init__.py").write_text(table.replace('    "ffnn",\n', '    "ffnn",\n    "word_mean",\n'))
    lstm = params.load(copy / "params.yaml").models["lstm"]
    add(copy, "means", "word_mean", {key: lstm[key] for key in READING + TRAINING} | {"dropout": 0.1})
    added = {f"src/sentiflow/models/networks/{name}.py" for name in ("__init__", "word_mean")}
    assert changed_by_hand(copy) == {"params.yaml", *added}
    said = evaluate(copy, "means")
    assert "Running stage 'train@means'" in said
    assert (copy / "metrics/test/means.json").exists()
    assert "train@lstm" not in said
    assert "didn't change, skipping" in evaluate(copy, "lstm"), "a network is no dependency of the others"
