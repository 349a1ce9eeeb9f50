"""The report of one evaluated model: scores, tables, figures, and the data behind the figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from sentiflow import calibration, evaluation, plots


@dataclass(frozen=True)
class Evaluated:
    """What a report is made of."""

    architecture: str
    classes: tuple[str, ...]
    scores: dict[str, dict[str, float]]  # by split, as `evaluation.evaluate` gives them
    labels: np.ndarray  # of test, shape (n,)
    probabilities: np.ndarray  # of test, shape (n, K)
    history: pd.DataFrame  # one row an epoch
    bins: int  # of the reliability diagram
    layers: Sequence[Mapping[str, Any]]  # name, kind, output and weights of each
    temperature: float  # that the probabilities are given at


def write(model: Evaluated, folder: Path) -> None:
    """Writes `scores.json`, `classification_report.txt`, `layers.json`, `calibration.json` and the figures."""
    title = f"{model.architecture}, test"
    predicted = model.probabilities.argmax(axis=1)
    curves = evaluation.curves(model.labels, model.probabilities, model.classes)
    before = evaluation.reliability(model.labels, _uncalibrated(model), bins=model.bins)
    after = evaluation.reliability(model.labels, model.probabilities, bins=model.bins)
    counts = metrics.confusion_matrix(model.labels, predicted, labels=list(range(len(model.classes))))

    layers = {"layers": model.layers, "weights": sum(layer["weights"] for layer in model.layers)}
    for name, told in (("scores", model.scores), ("layers", layers), ("calibration", _calibration(model))):
        (folder / f"{name}.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    table = evaluation.classification_report(model.labels, model.probabilities, model.classes)
    (folder / "classification_report.txt").write_text(table, encoding="utf-8")
    plots.training_curves(model.history, model.architecture, folder / "curves.png")
    plots.confusion_matrix(counts, model.classes, title, folder / "confusion_matrix.png")
    plots.roc(curves["roc"], title, folder / "roc.png")
    plots.precision_recall(curves["precision_recall"], title, folder / "precision_recall.png")
    plots.reliability(before, after, model.scores["test"], model.temperature, title, folder / "reliability.png")


def _uncalibrated(model: Evaluated) -> np.ndarray:
    return calibration.unscaled(model.probabilities, model.temperature)


def _calibration(model: Evaluated) -> dict[str, Any]:
    """The temperature, and what it does to each split."""
    return {
        "temperature": model.temperature,
        "splits": {
            split: {
                "calibration_error": {"before": of_split["uncalibrated_error"], "after": of_split["calibration_error"]},
                "log_loss": {"before": of_split["uncalibrated_log_loss"], "after": of_split["log_loss"]},
            }
            for split, of_split in model.scores.items()
        },
    }


def write_plot_data(model: Evaluated, folder: Path) -> None:
    """Writes what DVC draws as CSV.

    These are `loss`, `accuracy`, `precision`, `recall`, `f1`, `confusion`, `roc`, `precision_recall` and `reliability`.
    """
    names = np.array(model.classes, dtype=object)
    predicted = model.probabilities.argmax(axis=1)
    tables = evaluation.curves(model.labels, model.probabilities, model.classes)
    tables |= {
        "confusion": pd.DataFrame({"actual": names[model.labels], "predicted": names[predicted]}),
        "reliability": evaluation.reliability(model.labels, model.probabilities, bins=model.bins),
    }
    tables |= {name.lower(): model.history[["epoch", f"train_{score}", f"valid_{score}"]] for score, name in plots.CURVES.items()}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
