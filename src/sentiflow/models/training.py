"""Fits one neural model and keeps its best epoch.

A killed training resumes after its last complete epoch: after each one, the complete training state is saved. Shuffling depends
on seed and epoch number alone, and the state of dropout's random numbers is a variable of the model, so a resumed training ends
with the same weights as one that was never interrupted.
"""

import hashlib
import inspect
import json
import logging
import time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_class_weight
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sentiflow.config.model_settings import NeuralSettings
from sentiflow.config.params import Train
from sentiflow.data.vocabulary import TrainingData
from sentiflow.evaluation import metrics
from sentiflow.models import networks
from sentiflow.models.model_config import ModelConfig
from sentiflow.models.neural import NeuralClassifier
from sentiflow.models.tf import keras, ops, tf
from sentiflow.system import files

log = logging.getLogger("sentiflow")

# Reviews per batch of the validation set. Keras draws random numbers for a recurrent layer's dropout at every batch, even when it
# applies none, so another number here trains other weights.
VALIDATION_BATCH = 256


class Confusion(keras.metrics.Metric):  # type: ignore[misc]
    """Per class and over an epoch, the number of correct, true and predicted reviews, for `metrics.of_counts`."""

    def __init__(self, classes: int) -> None:
        super().__init__(name="confusion")
        self.classes = classes
        self.counts = self.add_weight(shape=(3, classes), initializer="zeros", name="counts")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        answers = ops.cast(y_pred[:, 0] > 0.5, "int32") if self.classes == 2 else ops.argmax(y_pred, axis=-1)
        true, predicted = ops.one_hot(labels, self.classes), ops.one_hot(answers, self.classes)
        counted = ops.stack([ops.sum(each, axis=0) for each in (true * predicted, true, predicted)])
        self.counts.assign_add(ops.cast(counted, self.counts.dtype))

    def result(self) -> dict[str, Any]:
        return {}

    def reset_state(self) -> None:
        self.counts.assign(ops.zeros_like(self.counts))

    def scores(self) -> dict[str, np.ndarray]:
        """Each metric that follows from counts, in 32 bits."""
        return metrics.of_counts(metrics.Counts(*np.asarray(self.counts)))


def use_threads(count: int) -> None:
    """Sets the number of TensorFlow's threads; call it before the first computation.

    The gradient of a convolution is a sum whose order depends on the number of threads, and so do the last bits of the weights:
    the same number gives the same bytes on any number of cores.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def fit(
    config: ModelConfig[NeuralSettings], data: TrainingData, *, options: Train, seed: int, backups: Path
) -> tuple[NeuralClassifier, pd.DataFrame, list[float]]:
    """Fits for `settings.epochs` epochs, or stops after `options.patience` epochs without improvement.

    Args:
        options: a `patience` of None fits all epochs; with `class_weights` "balanced" a review's loss is multiplied by
            n / (K * reviews of its class).
        backups: folder for the state of an unfinished training, which is removed at the end.

    Returns:
        The classifier with the weights of its best epoch; one row per epoch with `epoch` from 1, and each of `metrics.tracked`
        prefixed with `train_` and `valid_`, those of train being means over the epoch, with dropout; seconds per epoch.
    """
    train, valid, classes, settings = data.train, data.valid, data.classes, config.settings
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    classifier = NeuralClassifier.create(config, data.vocabulary)
    model = classifier.model
    confusion = Confusion(len(classes))
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="binary_crossentropy" if len(classes) == 2 else "sparse_categorical_crossentropy",
        metrics=[confusion],
    )
    model.optimizer.build(model.trainable_variables)
    train_ids, valid_ids = classifier.matrix(train.ids), classifier.matrix(valid.ids)

    key = _key(config, options, seed, train_ids, train.labels, valid_ids, valid.labels, *model.get_weights())
    backup = backups / f"{config.model}-{key}.npz"
    history, seconds, best_weights = _restore(model, backup)
    class_weights = _class_weights(train.labels, len(classes)) if options.class_weights else None
    steps = -(-len(train_ids) // settings.batch)
    bar = tqdm(
        total=steps * settings.epochs, initial=steps * len(history), desc=f"train {config.model}", unit="batch", disable=None
    )
    with bar, logging_redirect_tqdm():  # log lines above the bar
        for epoch in range(len(history), settings.epochs):
            if options.patience is not None and _stale_epochs(history, options) >= options.patience:
                log.info("stopped after epoch %d: no better %s for %d epochs", epoch, options.keep_best, options.patience)
                break
            started = time.monotonic()
            order = np.random.default_rng([seed, epoch]).permutation(len(train_ids))
            # Not by `model.fit`, whose tf.data iterator can block for half a minute when it is destroyed.
            model.reset_metrics()
            for start in range(0, len(order), settings.batch):
                rows = order[start : start + settings.batch]
                weights = None if class_weights is None else class_weights[train.labels[rows]]
                result = model.train_on_batch(train_ids[rows], train.labels[rows], sample_weight=weights, return_dict=True)
                bar.update()
            row = {"epoch": epoch + 1, "train_log_loss": float(result["loss"])}
            row |= {f"train_{name}": float(value) for name, value in confusion.scores().items()}
            scores = metrics.scores(valid.labels, classifier.probabilities_of_matrix(valid_ids, batch=VALIDATION_BATCH))
            row |= {f"valid_{name}": value for name, value in scores.items()}
            history.append(row)
            if _stale_epochs(history, options) == 0:
                best_weights = model.get_weights()
            seconds.append(time.monotonic() - started)
            _back_up(model, history, seconds, best_weights, backup)
            accuracy, loss = f"{scores['accuracy_score']:.4f}", f"{scores['log_loss']:.4f}"
            bar.set_postfix({"valid accuracy": accuracy, "valid loss": loss})
            progress = epoch + 1, settings.epochs, accuracy, loss, seconds[-1]
            log.info("epoch %d of %d: valid accuracy %s, loss %s (%.0f s)", *progress)
    model.set_weights(best_weights)
    for file in backups.glob(f"{config.model}-*.npz"):  # those of other settings too, which are obsolete
        file.unlink()
    log.info("kept epoch %d, the best by valid %s", _best(history, options) + 1, options.keep_best)
    return classifier, pd.DataFrame(history), seconds


def gpus() -> list[str]:
    """Names of the GPUs that TensorFlow trains on."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]


def _class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.asarray(compute_class_weight("balanced", classes=np.arange(classes), y=labels), np.float32)


def _best(history: list[dict[str, Any]], options: Train) -> int:
    """Index of the first of the best epochs."""
    values = [row[f"valid_{options.keep_best}"] for row in history]
    return values.index(max(values) if metrics.METRICS[options.keep_best].higher_is_better else min(values))


def _stale_epochs(history: list[dict[str, Any]], options: Train) -> int:
    return len(history) - 1 - _best(history, options) if history else 0


def _key(config: ModelConfig[NeuralSettings], options: Train, seed: int, *arrays: np.ndarray) -> str:
    """Key of the backup of a training: it changes with data, code, settings and libraries."""
    code = inspect.getsource(networks.module(config.network))
    setup = [config.settings.model_dump_json(), options.model_dump_json(), seed, list(metrics.METRICS)]
    digest = hashlib.sha256(json.dumps([code, *setup, keras.__version__, tf.__version__]).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _state(model: keras.Model) -> list[Any]:
    """Weights, the state of dropout's random numbers, the optimizer's moments and step."""
    return [*model.variables, *model.optimizer.variables]


def _back_up(
    model: keras.Model, history: list[dict[str, Any]], seconds: list[float], best_weights: list[np.ndarray], backup: Path
) -> None:
    with files.replacing(backup) as partial, partial.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            history=np.array(json.dumps(history)),
            seconds=np.array(seconds),
            **{f"state_{i}": np.asarray(variable) for i, variable in enumerate(_state(model))},
            **{f"best_{i}": weight for i, weight in enumerate(best_weights)},
        )


def _restore(model: keras.Model, backup: Path) -> tuple[list[dict[str, Any]], list[float], list[np.ndarray]]:
    if not backup.exists():
        return [], [], model.get_weights()
    try:
        with backup.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            history: list[dict[str, Any]] = json.loads(str(saved["history"]))
            seconds: list[float] = saved["seconds"].tolist()
            state = [saved[f"state_{i}"] for i in range(len(_state(model)))]
            best_weights = [saved[f"best_{i}"] for i in range(len(model.get_weights()))]
    except (BadZipFile, ValueError, KeyError, EOFError):
        log.warning("%s is damaged: training starts from the beginning", backup)
        return [], [], model.get_weights()
    for variable, value in zip(_state(model), state, strict=True):
        variable.assign(value)
    log.info("resuming after epoch %d of an interrupted training", len(history))
    return history, seconds, best_weights
