import itertools

import numpy as np
import pandas as pd
import pytest

from sentiflow.evaluation.metrics import METRICS
from sentiflow.reporting import svg_charts


def history(*scores):
    return pd.DataFrame({"epoch": range(1, len(scores) + 1), "valid_f1_score": scores})


def reliability(*confidences):
    return pd.DataFrame(
        {"confidence": confidences, "accuracy": [0.5] * len(confidences), "reviews": range(1, len(confidences) + 1)}
    )


@pytest.mark.parametrize(
    "values", [[0.2, 0.9], [0.913, 0.914], [1.0, 1.0], [0.0], [-0.2, 3.7], [0.5, float("nan")], [40.0, 1200.0]], ids=str
)
def test_an_axis_covers_every_value_with_distinct_tick_labels(values):
    axis = svg_charts.axis(values)
    known = [value for value in values if value == value]
    assert axis.low <= min(known) <= max(known) <= axis.high
    for percent in (False, True):
        ticks = axis.ticks(0, 100, percent=percent)
        assert len(ticks) >= 2
        assert len({tick.label for tick in ticks}) == len(ticks)
        places = [tick.place for tick in ticks]
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, 100)


def test_a_tick_label_is_the_value_at_its_place():
    ticks = svg_charts.axis([0.81, 0.89]).ticks(0, 100)
    assert [tick.label for tick in ticks] == ["0.80", "0.82", "0.84", "0.86", "0.88", "0.90"]
    assert svg_charts.axis([0.81, 0.89]).place(0.85, 0, 100) == 50
    assert [tick.label for tick in svg_charts.axis([0.5, 0.9]).ticks(0, 100, percent=True)][:2] == ["50%", "60%"]


@pytest.mark.parametrize("last", [1, 2, 5, 15, 200])
def test_epochs_are_whole_numbers_from_the_first_to_the_last_at_most(last):
    axis = svg_charts.epoch_axis(last)
    labels = [tick.label for tick in axis.ticks(0, 100)]
    assert labels == sorted({str(int(label)) for label in labels}, key=int)
    assert all(1 <= int(label) <= last for label in labels)
    assert 0 < axis.place(1, 0, 100) <= axis.place(last, 0, 100) < 100


def test_each_model_has_a_line_of_its_own_style_with_one_point_per_epoch():
    panel = svg_charts.curves({"a": history(0.7, 0.8, 0.75), "b": history(0.9)}, METRICS["f1_score"])
    assert [(line.style, len(line.points)) for line in panel.lines] == [(0, 3), (1, 1)]
    first, best, _ = panel.lines[0].points
    assert best.x > first.x
    assert best.y < first.y  # up is smaller in an SVG
    assert panel.lines[1].points[0].radius > first.radius
    assert "a 0.750; b 0.900" in panel.description


def test_points_are_within_the_frame():
    drawn = [
        svg_charts.curves({"a": history(0.7, 0.8)}, METRICS["f1_score"]),
        *svg_charts.reliability({"a": reliability(0.3, 0.99)}),
    ]
    for point in itertools.chain(*(line.points for panel in drawn for line in panel.lines)):
        assert svg_charts.LEFT <= point.x <= svg_charts.RIGHT
        assert svg_charts.TOP <= point.y <= svg_charts.BOTTOM


def test_reliability_has_the_same_axes_for_every_model_and_larger_dots_for_more_reviews():
    first, second = svg_charts.reliability({"a": reliability(0.6, 0.9), "b": reliability(0.5)})
    assert first.x_ticks == second.x_ticks
    assert [tick.label for tick in first.x_ticks] == [tick.label for tick in first.y_ticks]
    fewer, more = first.lines[0].points
    assert more.radius > fewer.radius
    assert "overconfident" in first.description


@pytest.mark.parametrize("published", [[0.9, np.nan], [np.nan, np.nan]], ids=["some published", "none published"])
def test_accuracies_are_within_their_intervals_and_published_figures_are_shown(published):
    table = pd.DataFrame(
        {
            "architecture": ["a", "b"],
            "accuracy_score": [0.85, 0.8],
            "accuracy_score_low": [0.83, 0.78],
            "accuracy_score_high": [0.88, 0.82],
            "published": published,
        }
    )
    found = svg_charts.accuracies(table)
    low, high = svg_charts.NAMES
    for row in found.rows:
        assert low <= row.low < row.middle < row.high <= high
    assert [row.published is not None for row in found.rows] == [value == value for value in published]
    assert [row.label for row in found.rows] == ["85.0%", "80.0%"]
