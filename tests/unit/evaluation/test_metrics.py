import math
from typing import get_args

import numpy as np
import pytest
from samples import answers
from sklearn import metrics

from sentiflow.config.params import Evaluate, Promotion, Train
from sentiflow.evaluation import comparison, evaluation, tuning
from sentiflow.evaluation.metrics import METRICS, Metric, recall, scores, tracked


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_are_scored_as_scikit_learn_scores_the_second_one(seed):
    labels, probabilities = answers(200, 2, seed=seed)
    predicted = (probabilities[:, 1] > 0.5).astype(int)
    assert scores(labels, probabilities) == pytest.approx(
        {
            "log_loss": metrics.log_loss(labels, probabilities[:, 1]),
            "accuracy_score": metrics.accuracy_score(labels, predicted),
            "precision_score": metrics.precision_score(labels, predicted),
            "recall_score": metrics.recall_score(labels, predicted),
            "f1_score": metrics.f1_score(labels, predicted),
            "balanced_accuracy_score": metrics.balanced_accuracy_score(labels, predicted),
            "matthews_corrcoef": metrics.matthews_corrcoef(labels, predicted),
        }
    )


@pytest.mark.parametrize("classes", [3, 5])
def test_more_classes_are_scored_as_scikit_learns_unweighted_means(classes):
    labels, probabilities = answers(300, classes, seed=classes)
    predicted = probabilities.argmax(axis=1)
    assert scores(labels, probabilities) == pytest.approx(
        {
            "log_loss": metrics.log_loss(labels, probabilities),
            "accuracy_score": metrics.accuracy_score(labels, predicted),
            "precision_score": metrics.precision_score(labels, predicted, average="macro"),
            "recall_score": metrics.recall_score(labels, predicted, average="macro"),
            "f1_score": metrics.f1_score(labels, predicted, average="macro"),
            "balanced_accuracy_score": metrics.balanced_accuracy_score(labels, predicted),
            "matthews_corrcoef": metrics.matthews_corrcoef(labels, predicted),
        }
    )


def test_a_case_calculated_by_hand():
    labels = np.array([1, 1, 1, 0, 0])
    probabilities = np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [0.25, 0.75], [0.5, 0.5]])  # a tie goes to the first class
    assert scores(labels, probabilities) == pytest.approx(
        {
            "log_loss": -sum(map(math.log, (0.8, 0.6, 0.1, 0.25, 0.5))) / 5,
            "accuracy_score": 3 / 5,
            "precision_score": 2 / 3,
            "recall_score": 2 / 3,
            "f1_score": 2 / 3,
            "balanced_accuracy_score": (1 / 2 + 2 / 3) / 2,
            "matthews_corrcoef": (2 * 1 - 1 * 1) / 6,  # right positive and negative, wrong positive and negative answers
        }
    )


def test_a_class_that_is_never_predicted_has_precision_0_and_gives_no_warning():
    never = scores(np.array([0, 1, 1]), np.array([[0.9, 0.1]] * 3))
    assert (never["precision_score"], never["recall_score"], never["f1_score"]) == (0.0, 0.0, 0.0)
    of_three = scores(np.array([0, 1, 2]), np.array([[0.8, 0.1, 0.1]] * 3))
    assert of_three["precision_score"] == pytest.approx(1 / 9)
    assert of_three["recall_score"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_reviews_of_a_single_class_are_scored_without_a_warning(labels):
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    found = scores(np.array(labels), probabilities)
    assert found["accuracy_score"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert found["log_loss"] == pytest.approx(-np.log(probabilities[range(3), labels]).mean())


def test_a_class_without_a_review_counts_in_the_means():
    found = scores(np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    assert found["accuracy_score"] == 1.0
    assert found["f1_score"] == pytest.approx(2 / 3)


def test_a_certain_mistake_has_a_finite_loss():
    found = scores(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert 10 < found["log_loss"] < 50


def test_float32_probabilities_give_the_same_scores():
    labels, probabilities = answers(200, 3, seed=1)
    assert scores(labels, probabilities.astype(np.float32)) == pytest.approx(scores(labels, probabilities), rel=1e-5)


def test_every_score_is_a_float():
    found = scores(*answers(50, 2, seed=1))
    assert tuple(found) == tuple(tracked())
    assert {type(value) for value in found.values()} == {float}


# every metric of the table


OPTIONS = Evaluate(resamples=100, confidence=0.9, bins=10)
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def value_of(metric, labels, probabilities):
    return evaluation.evaluate(np.array(labels), np.array(probabilities), OPTIONS, temperature=1.0, seed=1)[metric.name]


@every_metric
def test_metric_has_a_name_a_label_and_one_function(metric):
    assert METRICS[metric.name] is metric
    assert metric.label
    assert sum(each is not None for each in (metric.of_counts, metric.of_reviews, metric.of_set)) == 1


@every_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_perfect_predictions_have_the_best_value_and_wrong_ones_the_worst(metric, classes):
    labels = np.arange(60) % classes
    perfect = np.eye(classes)[labels]
    wrong = perfect[:, ::-1] if classes == 2 else np.eye(classes)[(labels + 1) % classes]
    best, worst = value_of(metric, labels, perfect), value_of(metric, labels, wrong)
    assert best == pytest.approx(metric.highest if metric.higher_is_better else metric.lowest)
    assert (worst < best) == metric.higher_is_better
    if classes == 2 and metric.name != "log_loss":  # unbounded
        assert worst == pytest.approx(metric.lowest if metric.higher_is_better else metric.highest)


@every_metric
@pytest.mark.parametrize("classes", [2, 3, 20])
def test_values_are_in_the_range_of_the_metric(metric, classes):
    for seed in range(5):
        labels, probabilities = answers(300, classes, seed=seed)
        assert metric.lowest <= value_of(metric, labels, probabilities) <= metric.highest


@every_metric
def test_better_predictions_have_a_better_value(metric):
    """The same predictions, but those of every tenth review are swapped."""
    labels = np.arange(100) % 2
    good = np.where(np.eye(2)[labels] == 1, 0.9, 0.1)
    bad = good.copy()
    bad[::10] = bad[::10, ::-1]
    bad[5::10] = bad[5::10, ::-1]
    better, worse = value_of(metric, labels, good), value_of(metric, labels, bad)
    if metric.name == "calibration_error":  # an accuracy of 90% at a confidence of 90% is best
        return
    assert (better > worse) == metric.higher_is_better


@pytest.mark.parametrize("name", tracked())
@pytest.mark.parametrize("is_right", [True, False])
def test_interval_at_an_end_of_the_range_has_positive_width(name, is_right):
    labels = np.arange(40) % 2
    probabilities = np.where((np.eye(2)[labels] == 1) == is_right, 0.8, 0.2) + np.linspace(0, 0.1, 40)[:, None] * [1, -1]
    low, high = evaluation.intervals(labels, probabilities, resamples=100, confidence=0.9, seed=1)[name]
    assert METRICS[name].lowest <= low < high <= METRICS[name].highest


def test_a_metric_is_one_entry_in_the_table(monkeypatch):
    """Specificity: recall of the first class."""
    labels, probabilities = answers(200, 2, seed=1)
    entry = Metric("specificity_score", "specificity", of_counts=lambda counts: recall(counts)[..., 0])
    monkeypatch.setitem(METRICS, entry.name, entry)
    found = evaluation.evaluate(labels, probabilities, OPTIONS, temperature=1.0, seed=3)
    assert found["specificity_score"] == (probabilities.argmax(axis=1) == labels)[labels == 0].mean()
    assert found["specificity_score_low"] < found["specificity_score"] < found["specificity_score_high"]

    table = evaluation.predictions(np.arange(200), labels, probabilities, ["bad", "good"])
    of_splits = dict.fromkeys(("train", "valid", "test"), found)
    compared = comparison.compare({"lstm": of_splits}, {"lstm": table}, chosen_by="specificity_score")
    page = comparison.as_markdown(compared)
    assert "| valid specificity | " in page
    assert f"{found['specificity_score']:.4f} ({found['specificity_score_low']:.4f} to " in page
    effects = tuning.effects(table, table, OPTIONS, seed=1)
    assert effects[-1]["score"] == "specificity_score"


@pytest.mark.parametrize(("section", "key"), [(Train, "keep_best"), (Promotion, "metric")])
def test_metrics_of_params_yaml_are_tracked(section, key):
    names = get_args(section.model_fields[key].annotation)
    assert names
    assert set(names) <= set(tracked())
