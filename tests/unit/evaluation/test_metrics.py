import math

import numpy as np
import pytest
from samples import answers
from sklearn import metrics

from sentiflow.evaluation.metrics import SCORES, higher_is_better, scores


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
        }
    )


def test_a_case_reckoned_by_hand():
    labels = np.array([1, 1, 1, 0, 0])
    probabilities = np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [0.25, 0.75], [0.5, 0.5]])  # a tie goes to the first class
    assert scores(labels, probabilities) == pytest.approx(
        {
            "log_loss": -sum(map(math.log, (0.8, 0.6, 0.1, 0.25, 0.5))) / 5,
            "accuracy_score": 3 / 5,
            "precision_score": 2 / 3,
            "recall_score": 2 / 3,
            "f1_score": 2 / 3,
        }
    )


def test_perfect_answers_score_1_and_lose_nothing():
    perfect = scores(np.array([0, 1, 2, 1]), np.eye(3)[[0, 1, 2, 1]])
    assert perfect == pytest.approx({name: 0.0 if name == "log_loss" else 1.0 for name in SCORES})


def test_a_class_that_is_never_predicted_has_precision_0_and_gives_no_warning():
    never = scores(np.array([0, 1, 1]), np.array([[0.9, 0.1]] * 3))
    assert (never["precision_score"], never["recall_score"], never["f1_score"]) == (0.0, 0.0, 0.0)
    of_three = scores(np.array([0, 1, 2]), np.array([[0.8, 0.1, 0.1]] * 3))
    assert of_three["precision_score"] == pytest.approx(1 / 9)
    assert of_three["recall_score"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_reviews_of_one_label_alone_are_scored_without_a_warning(labels):
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    found = scores(np.array(labels), probabilities)
    assert found["accuracy_score"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert found["log_loss"] == pytest.approx(-np.log(probabilities[range(3), labels]).mean())


def test_a_class_without_a_review_counts_in_the_means():
    found = scores(np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    assert found["accuracy_score"] == 1.0
    assert found["f1_score"] == pytest.approx(2 / 3)


def test_a_wrong_answer_that_was_sure_costs_much_and_not_infinitely_much():
    found = scores(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert 10 < found["log_loss"] < 50


def test_probabilities_of_32_bits_give_the_same_scores_without_a_warning():
    labels, probabilities = answers(200, 3, seed=1)
    assert scores(labels, probabilities.astype(np.float32)) == pytest.approx(scores(labels, probabilities), rel=1e-5)


def test_every_score_is_a_plain_number_under_its_name():
    found = scores(*answers(50, 2, seed=1))
    assert tuple(found) == SCORES
    assert {type(value) for value in found.values()} == {float}


def test_names_tell_which_direction_is_better():
    better = {name: higher_is_better(name) for name in (*SCORES, "calibration_error", "roc_auc_score")}
    assert {name for name, higher in better.items() if not higher} == {"log_loss", "calibration_error"}
