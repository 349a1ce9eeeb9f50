"""The report of one evaluated model: scores, tables, figures, and the data behind the figures."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics

from sentiflow import evaluation, plots


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


def write(model: Evaluated, folder: Path) -> None:
    """Writes `scores.json`, `classification_report.txt` and the figures."""
    title = f"{model.architecture}, test"
    predicted = model.probabilities.argmax(axis=1)
    curves = evaluation.curves(model.labels, model.probabilities, model.classes)
    reliability = evaluation.reliability(model.labels, model.probabilities, bins=model.bins)
    counts = metrics.confusion_matrix(model.labels, predicted, labels=list(range(len(model.classes))))

    (folder / "scores.json").write_text(json.dumps(model.scores, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    table = evaluation.classification_report(model.labels, model.probabilities, model.classes)
    (folder / "classification_report.txt").write_text(table, encoding="utf-8")
    plots.training_curves(model.history, model.architecture, folder / "curves.png")
    plots.confusion_matrix(counts, model.classes, title, folder / "confusion_matrix.png")
    plots.roc(curves["roc"], title, folder / "roc.png")
    plots.precision_recall(curves["precision_recall"], title, folder / "precision_recall.png")
    plots.reliability(reliability, model.scores["test"]["calibration_error"], title, folder / "reliability.png")


def write_plot_data(model: Evaluated, folder: Path) -> None:
    """Writes what `dvc plots` draws: `loss`, `accuracy`, `confusion`, `roc`, `precision_recall` and `reliability` as CSV."""
    names = np.array(model.classes, dtype=object)
    predicted = model.probabilities.argmax(axis=1)
    tables = evaluation.curves(model.labels, model.probabilities, model.classes)
    tables |= {
        "confusion": pd.DataFrame({"actual": names[model.labels], "predicted": names[predicted]}),
        "reliability": evaluation.reliability(model.labels, model.probabilities, bins=model.bins),
        "loss": model.history[["epoch", "train_log_loss", "valid_log_loss"]],
        "accuracy": model.history[["epoch", "train_accuracy_score", "valid_accuracy_score"]],
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
