import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import answers
from sklearn import metrics

from sentiflow.evaluation import calibration


@pytest.mark.parametrize("classes", [2, 3])
def test_no_other_temperature_has_a_lower_loss(classes):
    labels, probabilities = answers(500, classes, seed=1)
    found = calibration.fit(labels, probabilities)

    def loss(temperature):
        return metrics.log_loss(labels, calibration.scaled(probabilities, temperature), labels=list(range(classes)))

    assert all(loss(found) <= loss(found * factor) + 1e-9 for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


def test_overconfidence_and_underconfidence_are_corrected():
    labels, probabilities = answers(500, 2, seed=1)
    fair = calibration.scaled(probabilities, calibration.fit(labels, probabilities))
    assert calibration.fit(labels, calibration.scaled(fair, 0.5)) == pytest.approx(2.0, rel=1e-3)
    assert calibration.fit(labels, calibration.scaled(fair, 2.0)) == pytest.approx(0.5, rel=1e-3)


@given(st.floats(0.1, 10), st.integers(2, 4), st.integers(0, 99))
def test_temperature_changes_no_prediction_and_can_be_undone(temperature, classes, seed):
    _, probabilities = answers(30, classes, seed=seed)
    scaled = calibration.scaled(probabilities, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    np.testing.assert_allclose(calibration.unscaled(scaled, temperature), probabilities, atol=1e-6)


def test_certain_predictions_give_a_temperature_within_bounds():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]] * 50)
    assert calibration.fit(np.array([1, 0] * 50), sure) == pytest.approx(calibration.BOUNDS[1], rel=0.01)
    assert np.isfinite(calibration.scaled(sure, 0.1)).all()


@pytest.mark.parametrize("count", [1, 2, 49])
def test_too_few_reviews_give_no_temperature(count):
    labels, probabilities = answers(50, 2, seed=1)
    assert calibration.fit(labels[:count], probabilities[:count]) == calibration.NONE
    assert calibration.fit(labels, probabilities) != calibration.NONE


def test_only_correct_predictions_give_no_temperature():
    labels, _ = answers(200, 2, seed=1)
    probabilities = np.where(np.eye(2)[labels] == 1, 0.6, 0.4)
    assert calibration.fit(labels, probabilities) == calibration.NONE
    labels[0] = 1 - labels[0]
    assert calibration.fit(labels, probabilities) < calibration.NONE


def test_no_temperature_changes_no_bit():
    _, probabilities = answers(20, 3, seed=1)
    assert calibration.scaled(probabilities, calibration.NONE) is probabilities
