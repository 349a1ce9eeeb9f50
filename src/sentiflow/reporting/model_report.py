"""The report of one evaluated model: scores, tables, figures and data of the figures."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from sentiflow.evaluation import calibration, evaluation, metrics
from sentiflow.reporting import fonts, png_plots
from sentiflow.system import markdown

log = logging.getLogger("sentiflow")

MOST_PAIRS = 20  # confused pairs of classes
MOST_CONFUSED = 20  # true classes in the data of DVC's confusion matrix: those with most mistakes
OTHER = "(other)"  # any other predicted class in it


@dataclass(frozen=True)
class Evaluated:
    """Input of a report."""

    architecture: str
    classes: tuple[str, ...]
    scores: dict[str, dict[str, float]]  # by split, from `evaluation.evaluate`
    labels: np.ndarray  # of test, shape (n,)
    probabilities: np.ndarray  # of test, shape (n, K)
    history: pd.DataFrame  # one row per epoch
    bins: int  # of the reliability diagram
    layers: Sequence[Mapping[str, Any]]  # name, kind, output, weights
    temperature: float  # of the probabilities


def write(model: Evaluated, folder: Path) -> None:
    """Writes the figures and the tables.

    These are `scores.json`, `classification_report.txt`, `confused_pairs.md`, `layers.json` and `calibration.json`.
    """
    title = f"{model.architecture}, test"
    predicted = model.probabilities.argmax(axis=1)
    curves = evaluation.curves(model.labels, model.probabilities, model.classes)
    uncalibrated = calibration.unscaled(model.probabilities, model.temperature)
    before = metrics.reliability(model.labels, uncalibrated, bins=model.bins)
    after = metrics.reliability(model.labels, model.probabilities, bins=model.bins)
    names, shown = np.array(model.classes, dtype=object), fonts.class_labels(model.classes)
    counts = confusion_matrix(model.labels, predicted, labels=list(range(len(model.classes))))

    layers = {"layers": model.layers, "weights": sum(layer["weights"] for layer in model.layers)}
    for name, values in (("scores", model.scores), ("layers", layers), ("calibration", _calibration(model))):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    table = evaluation.classification_report(model.labels, model.probabilities, model.classes)
    (folder / "classification_report.txt").write_text(table + _key(model.classes, shown), encoding="utf-8")
    pairs = evaluation.confused_pairs(names[model.labels], names[predicted], most=MOST_PAIRS)
    (folder / "confused_pairs.md").write_text(_pairs_as_markdown(title, pairs), encoding="utf-8")
    in_figures = dict(zip(model.classes, shown, strict=True))
    curves = {name: curve.replace({"class": in_figures}) for name, curve in curves.items()}
    png_plots.training_curves(model.history, model.architecture, folder / "curves.png")
    png_plots.confusion_matrix(counts, shown, title, folder / "confusion_matrix.png")
    png_plots.roc(curves["roc"], title, folder / "roc.png")
    png_plots.precision_recall(curves["precision_recall"], title, folder / "precision_recall.png")
    png_plots.reliability(before, after, model.scores["test"], model.temperature, title, folder / "reliability.png")


def _key(classes: Sequence[str], shown: Sequence[str]) -> str:
    """The classes whose label in figures is not their name."""
    renamed = {name: label for name, label in zip(classes, shown, strict=True) if name != label}
    if missing := "".join(sorted(fonts.undrawable(renamed))):
        log.warning("no installed font has the characters %s, so figures number the classes; %s", missing[:20], fonts.ADVICE)
    return "\n".join(["", "In the figures:", *(f"{label} = {name}" for name, label in renamed.items()), ""]) if renamed else ""


def _pairs_as_markdown(title: str, pairs: pd.DataFrame) -> str:
    lines = [f"# Most confused classes: {title}", ""]
    if pairs.empty:
        return "\n".join([*lines, "No class is confused with another."]) + "\n"
    rows = [
        [markdown.cell(pair["label"]), markdown.cell(pair["predicted"]), f"{pair['reviews']:,}", f"{pair['share']:.1%}"]
        for pair in pairs.to_dict("records")
    ]
    lines += markdown.markdown(["true class", "predicted", "reviews", "share of the true class"], rows)
    return "\n".join(lines) + "\n"


def _calibration(model: Evaluated) -> dict[str, Any]:
    """The temperature, and calibration error and loss of each split before and after it."""
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
    """Writes the CSV files of `dvc plots`.

    These are `confusion`, `roc`, `precision_recall`, `reliability`, and in the folder `epochs` one file per tracked metric.
    """
    names = np.array(model.classes, dtype=object)
    predicted = model.probabilities.argmax(axis=1)
    data = evaluation.curves(model.labels, model.probabilities, model.classes)
    data |= {
        "confusion": _confusion(pd.DataFrame({"actual": names[model.labels], "predicted": names[predicted]})),
        "reliability": metrics.reliability(model.labels, model.probabilities, bins=model.bins),
    }
    (folder / "epochs").mkdir()
    data |= {f"epochs/{name}": model.history[["epoch", f"train_{name}", f"valid_{name}"]] for name in metrics.tracked()}
    for name, table in data.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def _confusion(answers: pd.DataFrame) -> pd.DataFrame:
    """True and predicted class of each review; of many classes, only the MOST_CONFUSED."""
    if answers["actual"].nunique() <= MOST_CONFUSED:
        return answers
    wrong = answers["actual"].ne(answers["predicted"]).groupby(answers["actual"]).sum()
    worst = wrong.sort_values(ascending=False, kind="stable").index[:MOST_CONFUSED]
    shown = answers[answers["actual"].isin(worst)]
    return shown.assign(predicted=shown["predicted"].where(shown["predicted"].isin(worst), OTHER))
