"""Figures of the report page: where each tick and point stands in an SVG. The page's template draws them in its own colours."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from sentiflow.evaluation.metrics import Metric

WIDTH, HEIGHT = 340, 232  # units of a panel; at its usual size on the page one is about a pixel
LEFT, RIGHT, TOP, BOTTOM = 46, 322, 10, 190  # its frame
NAMES = 27, 88  # percent of a row between which the axis of `Intervals` lies; names stand before it, numbers after it


@dataclass(frozen=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True)
class Axis:
    """An axis whose ends are ticks, or lie half a step outside of them where only whole numbers mean anything."""

    low: float
    high: float
    values: Sequence[float]

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value stands, if `low` stands at start and `high` at end."""
        return round(start + (value - self.low) / (self.high - self.low) * (end - start), 2)

    def ticks(self, start: float, end: float, *, percent: bool = False) -> list[Tick]:
        step = (self.values[1] - self.values[0] if len(self.values) > 1 else 1.0) * (100 if percent else 1)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        unit, scale = ("%", 100) if percent else ("", 1)
        return [Tick(self.place(value, start, end), f"{value * scale:.{decimals}f}{unit}") for value in self.values]


def axis(values: Iterable[float], *, ticks: int) -> Axis:
    """An axis around numbers, with about so many ticks."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known), max(known)
    margin = max(0.0, 0.02 - (high - low)) / 2  # an axis shorter than that would make much of nothing
    places = MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10]).tick_values(low - margin, high + margin)
    return Axis(float(places[0]), float(places[-1]), [float(place) for place in places])


def epoch_axis(last: int) -> Axis:
    """An axis over the epochs 1 to `last`."""
    places = MaxNLocator(nbins=6, integer=True).tick_values(1, max(last, 2))
    return Axis(0.5, last + 0.5, [float(place) for place in places if 1 <= place <= last])


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Line:
    style: int  # place of its architecture in the comparison: the same colour and dashes in every figure
    points: Sequence[Point]


@dataclass(frozen=True)
class Panel:
    """One plot of lines over a frame of WIDTH x HEIGHT units."""

    title: str
    description: str  # what a reader who cannot see the figure is told
    x_name: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    diagonal: tuple[Point, Point] | None


def curves(histories: Mapping[str, pd.DataFrame], metric: Metric) -> Panel:
    """One metric on valid over the epochs, a line an architecture; one without epochs is a point.

    Args:
        histories: columns epoch and valid_METRIC, in the order of the comparison.
    """
    column = f"valid_{metric.name}"
    x = epoch_axis(max(int(history["epoch"].max()) for history in histories.values()))
    y = axis((float(value) for history in histories.values() for value in history[column]), ticks=5)
    lines = []
    for style, history in enumerate(histories.values()):
        radius = 2.5 if len(history) > 1 else 4.5  # a point without a line is easily overlooked
        columns = zip(history["epoch"], history[column], strict=True)
        lines.append(Line(style, [_point(x, y, epoch, value, radius=radius) for epoch, value in columns]))
    last = "; ".join(f"{architecture} {history[column].iloc[-1]:.3f}" for architecture, history in histories.items())
    return Panel(
        title=metric.label,
        description=f"{metric.label} on valid over the epochs. In the last epoch: {last}.",
        x_name="epoch",
        x_ticks=x.ticks(LEFT, RIGHT),
        y_ticks=y.ticks(BOTTOM, TOP),
        lines=lines,
        diagonal=None,
    )


def reliability(tables: Mapping[str, pd.DataFrame]) -> list[Panel]:
    """Share of right answers against stated confidence, a panel an architecture, all on the same axes.

    Args:
        tables: of each architecture, as `metrics.reliability` gives them, in the order of the comparison.
    """
    known = pd.concat(tables.values())
    both = axis([*known["confidence"], *known["accuracy"], 1.0], ticks=5)
    ends = [_point(both, both, end, end, radius=0) for end in (both.low, both.high)]
    panels = []
    for style, (architecture, table) in enumerate(tables.items()):
        radii = 2 + 5 * np.sqrt(table["reviews"] / table["reviews"].max())
        columns = zip(table["confidence"], table["accuracy"], radii, strict=True)
        gap = np.average(table["accuracy"] - table["confidence"], weights=table["reviews"])
        panels.append(
            Panel(
                title=architecture,
                description=(
                    f"{architecture}: mean confidence and share right differ by {abs(gap):.1%}; "
                    f"it is {'less' if gap > 0 else 'more'} sure than right."
                ),
                x_name="confidence",
                x_ticks=both.ticks(LEFT, RIGHT, percent=True),
                y_ticks=both.ticks(BOTTOM, TOP, percent=True),
                lines=[Line(style, [_point(both, both, x, y, radius=float(radius)) for x, y, radius in columns])],
                diagonal=(ends[0], ends[1]),
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
    """Rows of scores with their intervals; all places are percent of the figure's width."""

    rows: Sequence[Interval]
    ticks: Sequence[Tick]


def accuracies(table: pd.DataFrame) -> Intervals:
    """Accuracy of each architecture with its interval, and the published figure where there is one.

    Args:
        table: as `comparison.as_table` gives it: columns architecture, accuracy_score, accuracy_score_low,
            accuracy_score_high, published (may be missing).
    """
    columns = ["accuracy_score_low", "accuracy_score", "accuracy_score_high", "published"]
    scale = axis(table[columns].to_numpy().ravel().tolist(), ticks=5)
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
