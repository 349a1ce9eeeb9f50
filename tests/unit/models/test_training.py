import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import configuration

from sentiflow.config import params
from sentiflow.evaluation.metrics import scores
from sentiflow.models import training
from sentiflow.models.tf import keras

OPTIONS = params.Train(keep_best="f1_score", patience=9, seed=None, class_weights=None, threads=1)


def config(**changes):
    tiny = {"length": 20, "embedding": 4, "units": 5, "filters": 6, "window": 3, "batch": 16, "epochs": 4}
    return configuration("cnn_lstm", **tiny | changes)


def fit(data, backups, *, options=OPTIONS, **changes):
    return training.fit(config(**changes), data, options=options, seed=7, backups=backups)


DIES_AFTER_TWO_EPOCHS = """
import os, signal, sys
from pathlib import Path
from samples import training_data
from sentiflow.config import params
from sentiflow.models import training
from sentiflow.models.model_config import ModelConfig
from sentiflow.models.networks import cnn_lstm

back_up = training._back_up
def back_up_and_die(model, history, seconds, best_weights, backup):
    back_up(model, history, seconds, best_weights, backup)
    if len(history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
training._back_up = back_up_and_die
config = ModelConfig("cnn_lstm", "cnn_lstm", cnn_lstm.Settings.model_validate_json(sys.argv[1]), ("negative", "positive"))
options = params.Train.model_validate_json(sys.argv[2])
training.fit(config, training_data(), options=options, seed=7, backups=Path(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The backups of a training that was killed after two epochs."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = [config().settings.model_dump_json(), OPTIONS.model_dump_json(), str(folder)]
    ended = subprocess.run(
        [sys.executable, "-c", DIES_AFTER_TWO_EPOCHS, *arguments],
        env=os.environ | {"PYTHONPATH": "tests"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return folder


@pytest.fixture
def backups(killed, tmp_path):
    return Path(shutil.copytree(killed, tmp_path / "backups"))


@pytest.fixture(scope="module")
def uninterrupted(two_classes, tmp_path_factory):
    return fit(two_classes, tmp_path_factory.mktemp("backups"))


def test_killed_training_resumes_with_the_same_weights(uninterrupted, two_classes, backups, caplog):
    assert len(list(backups.glob("cnn_lstm-*.npz"))) == 1

    with caplog.at_level("INFO", "sentiflow"):
        classifier, history, seconds = fit(two_classes, backups)
    assert "resuming after epoch 2" in caplog.text
    expected, expected_history, _ = uninterrupted
    assert len(seconds) == len(history), "those of the epochs before the kill are known too"
    assert history.equals(expected_history)
    for weights, wanted in zip(classifier.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, wanted)
    assert not list(backups.iterdir()), "the backup goes when the training ends well"


def test_backup_of_other_settings_is_ignored(two_classes, backups, caplog):
    with caplog.at_level("INFO", "sentiflow"):
        fit(two_classes, backups, epochs=1, learning_rate=0.01)
    assert "resuming" not in caplog.text


def test_damaged_backup_is_ignored(uninterrupted, two_classes, backups):
    (backup,) = backups.glob("cnn_lstm-*.npz")
    backup.write_bytes(backup.read_bytes()[:1000])
    _, history, _ = fit(two_classes, backups)
    assert history.equals(uninterrupted[1])


def test_training_stops_early_and_keeps_the_best_epoch(two_classes, tmp_path):
    options = params.Train(keep_best="log_loss", patience=1, seed=None, class_weights=None, threads=1)
    classifier, history, _ = fit(two_classes, tmp_path, options=options, epochs=30, learning_rate=0.2)
    assert len(history) < 30
    assert history["valid_log_loss"].iloc[-1] > history["valid_log_loss"].min()
    kept = scores(two_classes.valid.labels, classifier.probabilities(two_classes.valid.ids))
    assert kept["log_loss"] == pytest.approx(history["valid_log_loss"].min(), abs=1e-9)


def test_training_without_patience_fits_all_epochs(two_classes, tmp_path):
    options = params.Train(keep_best="log_loss", patience=1, seed=None, class_weights=None, threads=1)
    rough = {"epochs": 12, "learning_rate": 0.2}
    stopped = fit(two_classes, tmp_path, options=options, **rough)[1]
    _, history, seconds = fit(two_classes, tmp_path, options=options.model_copy(update={"patience": None}), **rough)
    assert len(stopped) < len(history) == len(seconds) == 12
    assert history[: len(stopped)].equals(stopped)


def test_metrics_on_train_are_those_of_scikit_learn():
    for classes in (2, 3):
        generator = np.random.default_rng(classes)
        labels = generator.integers(0, classes, 50)
        probabilities = generator.dirichlet(np.ones(classes), 50)
        metric = training.Confusion(classes)
        outputs = probabilities[:, 1:] if classes == 2 else probabilities
        for some in (slice(0, 20), slice(20, 50)):
            metric.update_state(labels[some], keras.ops.convert_to_tensor(outputs[some], "float32"))
        expected = scores(labels, probabilities)
        for name, value in metric.scores().items():
            assert float(value) == pytest.approx(expected[name], abs=1e-6), name


def test_model_learns_the_sentiment_of_words(two_classes, tmp_path):
    _, history, _ = fit(
        two_classes, tmp_path, epochs=30, learning_rate=0.01, spatial_dropout=0.0, dropout=0.0, recurrent_dropout=0.0
    )
    assert history["valid_accuracy_score"].max() >= 0.9
