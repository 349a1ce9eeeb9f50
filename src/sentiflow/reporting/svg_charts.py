"""Coordinates of the SVG charts of the report. The templates draw them, in their own colours."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from sentiflow.evaluation.metrics import Metric

WIDTH, HEIGHT = 340, 232  # of a panel, in units of about a pixel
LEFT, RIGHT, TOP, BOTTOM = 46, 322, 10, 190  # frame of a panel
NAMES = 27, 88  # ends of the axis of `Intervals` in percent of the width; names are left of it, values right


@dataclass(frozen=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear axis with ticks at `values`."""

    low: float
    high: float
    values: Sequence[float]

    def place(self, value: float, start: float, end: float) -> float:
        """Coordinate of a value, where `low` is at start and `high` at end."""
        return round(start + (value - self.low) / (self.high - self.low) * (end - start), 2)

    def ticks(self, start: float, end: float, *, percent: bool = False) -> list[Tick]:
        step = (self.values[1] - self.values[0] if len(self.values) > 1 else 1.0) * (100 if percent else 1)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        unit, scale = ("%", 100) if percent else ("", 1)
        return [Tick(self.place(value, start, end), f"{value * scale:.{decimals}f}{unit}") for value in self.values]


def axis(values: Iterable[float]) -> Axis:
    """An axis around the finite values, at least 0.02 long, with about five ticks."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known), max(known)
    margin = max(0.0, 0.02 - (high - low)) / 2
    places = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low - margin, high + margin)
    return Axis(float(places[0]), float(places[-1]), [float(place) for place in places])


def epoch_axis(last: int) -> Axis:
    """An axis over the epochs 1 to `last`, with half a step of margin."""
    places = MaxNLocator(nbins=6, integer=True).tick_values(1, max(last, 2))
    return Axis(0.5, last + 0.5, [float(place) for place in places if 1 <= place <= last])


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Line:
    style: int  # rank of its model in the comparison: the same colour and dashes in every chart
    points: Sequence[Point]


@dataclass(frozen=True)
class Panel:
    """A plot of lines in a frame of WIDTH x HEIGHT units."""

    title: str
    description: str  # for screen readers
    x_name: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    diagonal: tuple[Point, Point] | None = None


def curves(histories: Mapping[str, pd.DataFrame], metric: Metric) -> Panel:
    """One metric on valid by epoch, one line per model. A model that is trained in one step is a point.

    Args:
        histories: columns epoch and valid_METRIC, in the order of the comparison.
    """
    column = f"valid_{metric.name}"
    x = epoch_axis(max(int(history["epoch"].max()) for history in histories.values()))
    y = axis(float(value) for history in histories.values() for value in history[column])
    lines = []
    for style, history in enumerate(histories.values()):
        radius = 2.5 if len(history) > 1 else 4.5
        columns = zip(history["epoch"], history[column], strict=True)
        lines.append(Line(style, [_point(x, y, epoch, value, radius=radius) for epoch, value in columns]))
    last = "; ".join(f"{model} {history[column].iloc[-1]:.3f}" for model, history in histories.items())
    return Panel(
        title=metric.label,
        description=f"{metric.label} on valid by epoch. In the last epoch: {last}.",
        x_name="epoch",
        x_ticks=x.ticks(LEFT, RIGHT),
        y_ticks=y.ticks(BOTTOM, TOP),
        lines=lines,
    )


def reliability(tables: Mapping[str, pd.DataFrame]) -> list[Panel]:
    """Accuracy against confidence, one panel per model, all on the same axes.

    Args:
        tables: from `metrics.reliability`, in the order of the comparison.
    """
    known = pd.concat(tables.values())
    both = axis([*known["confidence"], *known["accuracy"], 1.0])
    panels = []
    for style, (model, table) in enumerate(tables.items()):
        radii = 2 + 5 * np.sqrt(table["reviews"] / table["reviews"].max())
        columns = zip(table["confidence"], table["accuracy"], radii, strict=True)
        gap = np.average(table["accuracy"] - table["confidence"], weights=table["reviews"])
        panels.append(
            Panel(
                title=model,
                description=(
                    f"{model}: mean confidence and accuracy differ by {abs(gap):.1%}; "
                    f"the model is {'underconfident' if gap > 0 else 'overconfident'}."
                ),
                x_name="confidence",
                x_ticks=both.ticks(LEFT, RIGHT, percent=True),
                y_ticks=both.ticks(BOTTOM, TOP, percent=True),
                lines=[Line(style, [_point(both, both, x, y, radius=float(radius)) for x, y, radius in columns])],
                diagonal=(_point(both, both, both.low, both.low, radius=0), _point(both, both, both.high, both.high, radius=0)),
            )
        )
    return panels


def _point(x: Axis, y: Axis, x_value: float, y_value: float, *, radius: float) -> Point:
    return Point(x.place(x_value, LEFT, RIGHT), y.place(y_value, BOTTOM, TOP), round(radius, 2))


@dataclass(frozen=True)
class Interval:
    name: str
    low: float
    middle: float
    high: float
    published: float | None
    label: str


@dataclass(frozen=True)
class Intervals:
    """Rows of scores with their intervals; all coordinates are in percent of the width."""

    rows: Sequence[Interval]
    ticks: Sequence[Tick]


def accuracies(table: pd.DataFrame) -> Intervals:
    """Accuracy of each model with its interval, and the published accuracy if there is one.

    Args:
        table: from `comparison.as_table`.
    """
    columns = ["accuracy_score_low", "accuracy_score", "accuracy_score_high", "published"]
    scale = axis(table[columns].to_numpy().ravel().tolist())
    rows = [
        Interval(
            name=str(name),
            low=scale.place(low, *NAMES),
            middle=scale.place(middle, *NAMES),
            high=scale.place(high, *NAMES),
            published=None if math.isnan(published) else scale.place(published, *NAMES),
            label=f"{middle:.1%}",
        )
        for name, low, middle, high, published in table[["architecture", *columns]].itertuples(index=False)
    ]
    return Intervals(rows, scale.ticks(*NAMES, percent=True))
