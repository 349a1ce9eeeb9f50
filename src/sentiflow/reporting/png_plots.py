"""Figures as PNG files. The same data give the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiflow.evaluation.metrics import tracked
from sentiflow.reporting import fonts

# Okabe & Ito's palette for colour-blind readers
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
LINES = cycler(linestyle=["-", "--", ":"]) * cycler(color=COLOURS)
MOST_CELLS = 20  # classes up to which the cells of a confusion matrix have numbers
MOST_TICKS = 60  # class names along the axis of a larger confusion matrix
COLUMNS = 4  # panels per row
WIDEST = 14  # characters of a class name that fit below a cell
STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "font.size": 9,
    "text.parse_math": False,  # a class name may contain "$"
    "axes.prop_cycle": cycler(color=COLOURS),
}


def _figure(panels: int = 1, *, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    columns, rows = min(panels, COLUMNS), -(-panels // COLUMNS)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(panels)]


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, format="png", metadata={"Software": None})


def training_curves(history: pd.DataFrame, title: str, file: Path) -> None:
    """Each tracked metric by epoch, on train and on valid."""
    with mpl.rc_context(STYLE):
        figure, axes = _by_epoch({split: (history, split) for split in ("train", "valid")}, "", marker="o")
        axes[0].legend()
        figure.suptitle(title)
        _save(figure, file)


def overlaid_curves(histories: Mapping[str, pd.DataFrame], file: Path) -> None:
    """Each tracked metric on valid by epoch, one line per model. A model that is trained in one step is a point."""
    with mpl.rc_context(STYLE | {"axes.prop_cycle": LINES}):
        lines = {name: (history, "valid") for name, history in histories.items()}
        figure, axes = _by_epoch(lines, "valid ", marker="o", markersize=4)
        if histories:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        _save(figure, file)


def _by_epoch(lines: Mapping[str, tuple[pd.DataFrame, str]], prefix: str, **style: Any) -> tuple[Figure, list[Axes]]:
    """One panel per tracked metric. `lines`: history and split by label."""
    figure, axes = _figure(len(tracked()), width=3.4)
    for axis, (name, metric) in zip(axes, tracked().items(), strict=True):
        for label, (history, split) in lines.items():
            axis.plot(history["epoch"], history[f"{split}_{name}"], label=label, **style)
        axis.set(title=f"{prefix}{metric.label}", xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def confusion_matrix(counts: np.ndarray, labels: Sequence[str], title: str, file: Path) -> None:
    """Counts of (true class, predicted class), coloured by their share of the true class.

    The size of the figure is bounded: with more than MOST_CELLS classes the cells have no numbers, and with more than MOST_TICKS
    only every n-th class is named.

    Args:
        counts: shape (K, K).
        labels: class names from `fonts.class_labels`.
    """
    many = len(labels) > MOST_CELLS
    step = -(-len(labels) // MOST_TICKS) if many else 1
    width, height = (9.5, 8.5) if many else (1.6 + 1.1 * len(labels), 1.2 + 1.0 * len(labels))
    with mpl.rc_context(STYLE | {"axes.grid": False} | fonts.style(labels)):
        figure, (axis,) = _figure(width=width, height=height)
        share = counts / counts.sum(axis=1, keepdims=True)
        image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        if many:
            figure.colorbar(image, label="share of the true class", shrink=0.6)
            title = f"{title}: {len(labels)} classes" + (f", one in {step} named" if step > 1 else "")
        else:
            for (true, predicted), count in np.ndenumerate(counts):
                part = share[true, predicted]
                colour = "white" if part > 0.5 else "black"
                axis.text(predicted, true, f"{count:,}\n{part:.1%}", ha="center", va="center", color=colour)
        ticks = range(0, len(labels), step)
        axis.set(title=title, xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
        upright = many or max(map(len, labels)) > WIDEST
        axis.set_xticklabels([labels[i] for i in ticks], rotation=90 if upright else 0, size=7 if many else None)
        axis.set_yticklabels([labels[i] for i in ticks], size=7 if many else None)
        _save(figure, file)


def roc(curve: pd.DataFrame, title: str, file: Path) -> None:
    """True positive rate against false positive rate, one line per value of the column `class`."""
    _by_class(curve, "false_positive_rate", "true_positive_rate", title, file, chance=True)


def precision_recall(curve: pd.DataFrame, title: str, file: Path) -> None:
    """Precision against recall, one line per value of the column `class`."""
    _by_class(curve, "recall", "precision", title, file)


def _by_class(curve: pd.DataFrame, x: str, y: str, title: str, file: Path, *, chance: bool = False) -> None:
    with mpl.rc_context(STYLE | fonts.style(curve["class"])):
        figure, (axis,) = _figure()
        for name, line in curve.groupby("class", sort=False):
            axis.plot(line[x], line[y], label=name)
        if chance:
            axis.plot([0, 1], [0, 1], linestyle=":", color="grey", label="chance")
        axis.set(title=title, xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
        axis.legend()
        _save(figure, file)


def reliability(
    before: pd.DataFrame, after: pd.DataFrame, scores: Mapping[str, float], temperature: float, title: str, file: Path
) -> None:
    """Accuracy against confidence; a calibrated model is on the diagonal.

    Args:
        before: from `metrics.reliability`, at temperature 1.
        after: the same at the fitted temperature.
        scores: from `evaluation.evaluate`.
    """
    with mpl.rc_context(STYLE):
        figure, (axis,) = _figure()
        axis.plot([0, 1], [0, 1], linestyle=":", color="grey", label="calibrated")
        axis.plot(before["confidence"], before["accuracy"], linestyle="--", label="before: temperature 1")
        axis.plot(after["confidence"], after["accuracy"], label=f"with temperature {temperature:.2f}")
        axis.scatter(
            after["confidence"], after["accuracy"], s=8 + 150 * after["reviews"] / after["reviews"].max(), color="C1", alpha=0.7
        )
        lowest = min(0.45, *(float(table[["confidence", "accuracy"]].min().min()) - 0.05 for table in (before, after)))
        axis.set(xlim=(lowest, 1.02), ylim=(lowest, 1.02), xlabel="confidence", ylabel="accuracy")
        axis.set_title(f"{title}\ncalibration error {scores['uncalibrated_error']:.3f}, then {scores['calibration_error']:.3f}")
        axis.legend()
        _save(figure, file)


def scores_with_intervals(table: pd.DataFrame, file: Path) -> None:
    """Accuracy of each model on test with its interval, and the published accuracy if there is one.

    Args:
        table: from `comparison.as_table`.
    """
    with mpl.rc_context(STYLE):
        figure, (axis,) = _figure(width=6.4, height=1.4 + 0.45 * len(table))
        places = np.arange(len(table))[::-1]
        middle = table["accuracy_score"].to_numpy()
        # an interval of low confidence may not contain the score
        low = np.maximum(middle - table["accuracy_score_low"].to_numpy(), 0)
        high = np.maximum(table["accuracy_score_high"].to_numpy() - middle, 0)
        axis.errorbar(middle, places, xerr=[low, high], fmt="o", capsize=4, label="test, with interval")
        axis.scatter(table["published"], places, marker="D", facecolors="none", edgecolors="#D55E00", label="published")
        axis.set(xlabel="accuracy", yticks=places, title="Accuracy on test")
        axis.set_yticklabels(table["architecture"])
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        _save(figure, file)
