from itertools import product

import numpy as np
import pandas as pd
import pytest
from samples import answers
from sklearn import metrics as reference

from sentiflow.config.params import Evaluate
from sentiflow.evaluation import calibration, evaluation, metrics, significance
from sentiflow.evaluation.metrics import scores, tracked

OPTIONS = Evaluate(resamples=300, confidence=0.95, bins=10)


def intervals(labels, probabilities, *, resamples=300, confidence=0.95, seed=1):
    return evaluation.intervals(labels, probabilities, resamples=resamples, confidence=confidence, seed=seed)


def width(interval):
    return interval[1] - interval[0]


two_and_more_classes = pytest.mark.parametrize("classes", [2, 3, 4])


# evaluate


@two_and_more_classes
def test_an_evaluation_has_every_score_with_its_interval(classes):
    labels, probabilities = answers(200, classes, seed=1)
    found = evaluation.evaluate(labels, probabilities, OPTIONS, temperature=1.0, seed=3)
    ends = {f"{name}_{end}" for name in tracked() for end in ("low", "high")}
    averages = {f"{kind}_{name}_score" for kind in ("macro", "weighted") for name in ("precision", "recall", "f1")}
    assert set(found) == {
        *tracked(),
        *ends,
        *averages,
        "calibration_error",
        "uncalibrated_error",
        "uncalibrated_log_loss",
        "roc_auc_score",
    }
    assert {type(value) for value in found.values()} == {float}
    assert {name: found[name] for name in tracked()} == scores(labels, probabilities)
    for name, (low, high) in intervals(labels, probabilities, seed=3).items():
        assert (found[f"{name}_low"], found[f"{name}_high"]) == (low, high)
    assert found["calibration_error"] == metrics.calibration_error(labels, probabilities, bins=10)
    assert found["roc_auc_score"] == metrics.roc_auc_score(labels, probabilities)


@pytest.mark.parametrize("classes", [2, 3])
def test_averages_are_macro_and_weighted(classes):
    labels, probabilities = answers(200, classes, seed=1)
    found = evaluation.evaluate(labels, probabilities, OPTIONS, temperature=1.0, seed=3)
    right = labels == probabilities.argmax(axis=1)
    recalls = [right[labels == label].mean() for label in range(classes)]
    assert found["macro_recall_score"] == pytest.approx(np.mean(recalls))
    assert found["weighted_recall_score"] == pytest.approx(right.mean())
    if classes == 3:
        assert found["macro_f1_score"] == pytest.approx(found["f1_score"])


def test_the_arguments_are_not_changed():
    labels, probabilities = answers(100, 3, seed=1)
    before = labels.copy(), probabilities.copy()
    evaluation.evaluate(labels, probabilities, OPTIONS, temperature=1.0, seed=3)
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(probabilities, before[1])


def test_a_class_that_is_never_predicted_is_evaluated_without_a_warning():
    found = evaluation.evaluate(np.array([0, 1, 2] * 5), np.array([[0.8, 0.1, 0.1]] * 15), OPTIONS, temperature=1.0, seed=1)
    assert found["precision_score"] == pytest.approx(1 / 9)
    assert found["precision_score_low"] < found["precision_score"] < found["precision_score_high"]


# intervals


@two_and_more_classes
@pytest.mark.parametrize("seed", range(5))
def test_an_interval_contains_the_score(classes, seed):
    labels, probabilities = answers(150, classes, seed=seed)
    found = scores(labels, probabilities)
    for name, (low, high) in intervals(labels, probabilities, seed=seed).items():
        assert low < found[name] < high


def test_higher_confidence_gives_wider_intervals():
    sample = answers(300, 3, seed=1)
    half, most = intervals(*sample, confidence=0.5), intervals(*sample, confidence=0.99)
    assert all(most[name][0] < half[name][0] < half[name][1] < most[name][1] for name in tracked())


def test_the_seed_determines_the_intervals():
    sample = answers(200, 2, seed=1)
    assert intervals(*sample, seed=5) == intervals(*sample, seed=5) != intervals(*sample, seed=6)


def test_the_same_seed_draws_the_same_reviews_for_every_model():
    """With the loss of each review doubled, so are the loss of each resample and both ends."""
    labels, probabilities = answers(200, 2, seed=1)
    chance = probabilities[np.arange(200), labels] ** 2
    squared = np.empty_like(probabilities)
    squared[np.arange(200), labels], squared[np.arange(200), 1 - labels] = chance, 1 - chance
    once, twice = intervals(labels, probabilities), intervals(labels, squared)
    assert twice["log_loss"] == pytest.approx([2 * end for end in once["log_loss"]])


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_agree_with_a_naive_bootstrap(classes):
    labels, probabilities = answers(250, classes, seed=2)
    draw = np.random.default_rng(99)
    samples = []
    for _ in range(400):
        drawn = draw.choice(250, 250)
        samples.append(scores(labels[drawn], probabilities[drawn]))
    slow = pd.DataFrame(samples).quantile([0.025, 0.975])
    for name, interval in intervals(labels, probabilities, resamples=2000).items():
        assert interval == pytest.approx(slow[name].to_list(), abs=0.15 * width(interval))


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_0_or_1_have_an_interval_of_positive_width(classes, right):
    labels = np.r_[np.zeros(40, int), np.arange(classes).repeat(4)]
    found = intervals(labels, np.eye(classes)[labels if right else (labels + 1) % classes])
    hits = len(labels) if right else 0
    assert found["accuracy_score"] == significance.wilson(hits, len(labels), 0.95)
    rarest = significance.wilson(4 if right else 0, 4, 0.95)
    assert found["recall_score"] == found["f1_score"] == rarest
    assert found["precision_score"][right] == float(right)
    for name in ("accuracy_score", "precision_score", "recall_score", "f1_score"):
        assert width(found[name]) > 0.05


def test_interval_of_a_precision_of_1_depends_on_the_predicted_reviews():
    labels = np.array([0, 1] * 50)
    predicted = np.zeros(100, int)
    predicted[[1, 3]] = 1
    assert intervals(labels, np.eye(2)[predicted])["precision_score"] == significance.wilson(2, 2, 0.95)


def test_the_interval_of_accuracy_is_wilsons():
    labels, probabilities = answers(200, 3, seed=1)
    hits = int((labels == probabilities.argmax(axis=1)).sum())
    for seed in (1, 2):
        assert intervals(labels, probabilities, seed=seed)["accuracy_score"] == significance.wilson(hits, 200, 0.95)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_loss_is_clipped_in_its_interval_too(dtype):
    labels = np.array([0, 1] * 50)
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]] * 50, dtype=dtype)
    labels[:10] = 1 - labels[:10]
    low, high = intervals(labels, probabilities, resamples=1000)["log_loss"]
    assert scores(labels, probabilities)["log_loss"] == pytest.approx((low + high) / 2, rel=0.15)


# calibration


def test_a_calibration_error_calculated_by_hand():
    """Right in 2 of 4 at confidence 0.6, in 1 of 2 at 0.8, in 2 of 2 at 0.9: (4 * 0.1 + 2 * 0.3 + 2 * 0.1) / 8."""
    confidence = np.array([0.6] * 4 + [0.8] * 2 + [0.9] * 2)
    right = np.array([1, 1, 0, 0, 1, 0, 1, 1])
    probabilities = np.column_stack([1 - confidence, confidence])
    assert metrics.calibration_error(right, probabilities, bins=20) == pytest.approx(1.2 / 8)


def test_a_calibration_error_of_three_classes_is_about_the_predicted_class():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7], [0.7, 0.1, 0.2]])
    assert metrics.calibration_error(np.array([0, 1, 1, 2]), probabilities, bins=10) == pytest.approx(0.2)


@pytest.mark.parametrize(("classes", "bins"), product([2, 3], [1, 7, 15]))
def test_reliability_counts_every_review_once_and_keeps_the_means(classes, bins):
    labels, probabilities = answers(300, classes, seed=4)
    table = metrics.reliability(labels, probabilities, bins=bins)
    assert list(table.columns) == ["confidence", "accuracy", "reviews"]
    assert table["reviews"].sum() == 300
    assert 1 <= len(table) <= bins
    assert table["confidence"].is_monotonic_increasing
    assert np.average(table["confidence"], weights=table["reviews"]) == pytest.approx(probabilities.max(axis=1).mean())
    assert np.average(table["accuracy"], weights=table["reviews"]) == pytest.approx(
        scores(labels, probabilities)["accuracy_score"]
    )
    assert (np.ceil(table["confidence"] * bins).diff().dropna() > 0).all()


def test_full_confidence_belongs_to_the_last_interval():
    table = metrics.reliability(np.array([0, 0]), np.array([[1.0, 0.0], [0.95, 0.05]]), bins=10)
    assert table.to_dict("list") == {"confidence": [pytest.approx(0.975)], "accuracy": [1.0], "reviews": [2]}


# AUC and curves


def share_of_pairs_in_order(is_class, score):
    inside, outside = score[is_class], score[~is_class]
    return np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside])


def test_the_auc_is_the_share_of_correctly_ordered_pairs():
    labels, probabilities = answers(80, 2, seed=1)
    probabilities = probabilities.round(1)  # with ties
    assert metrics.roc_auc_score(labels, probabilities) == pytest.approx(
        share_of_pairs_in_order(labels == 1, probabilities[:, 1])
    )


def test_the_auc_of_three_classes_is_the_mean_of_each_against_the_rest():
    labels, probabilities = answers(80, 3, seed=1)
    expected = np.mean([share_of_pairs_in_order(labels == i, probabilities[:, i]) for i in range(3)])
    assert metrics.roc_auc_score(labels, probabilities) == pytest.approx(expected)


def test_curves_of_two_classes_are_those_of_the_second_one_as_scikit_learn_has_them():
    labels, probabilities = answers(60, 2, seed=1)
    found = evaluation.curves(labels, probabilities, ("negative", "positive"), points=1000)
    false_positive, true_positive, _ = reference.roc_curve(labels, probabilities[:, 1])
    assert list(found["roc"].columns) == ["class", "false_positive_rate", "true_positive_rate"]
    np.testing.assert_array_equal(found["roc"]["false_positive_rate"], false_positive)
    np.testing.assert_array_equal(found["roc"]["true_positive_rate"], true_positive)
    precision, recall, _ = reference.precision_recall_curve(labels, probabilities[:, 1])
    assert list(found["precision_recall"].columns) == ["class", "recall", "precision"]
    np.testing.assert_array_equal(found["precision_recall"]["recall"], recall[::-1])
    np.testing.assert_array_equal(found["precision_recall"]["precision"], precision[::-1])
    assert set(found["roc"]["class"]) == set(found["precision_recall"]["class"]) == {"positive"}


@pytest.mark.parametrize("classes", [("no", "yes"), ("low", "mid", "high")])
@pytest.mark.parametrize("points", [2, 3, 50, 200])
def test_curves_are_thinned_and_keep_both_ends(classes, points):
    labels, probabilities = answers(2000, len(classes), seed=1)
    found = evaluation.curves(labels, probabilities, classes, points=points)
    shown = classes[1:] if len(classes) == 2 else classes
    for name in shown:
        roc = found["roc"][found["roc"]["class"] == name].drop(columns="class")
        assert 2 <= len(roc) <= points
        assert (roc.iloc[0].to_list(), roc.iloc[-1].to_list()) == ([0.0, 0.0], [1.0, 1.0])
        line = found["precision_recall"][found["precision_recall"]["class"] == name]
        assert 2 <= len(line) <= points
        assert line["recall"].is_monotonic_increasing
        assert (line["recall"].iloc[0], line["precision"].iloc[0], line["recall"].iloc[-1]) == (0.0, 1.0, 1.0)
    assert list(dict.fromkeys(found["roc"]["class"])) == list(shown)


def test_a_thinned_curve_has_nearly_the_same_area():
    labels, probabilities = answers(3000, 2, seed=1)
    roc = evaluation.curves(labels, probabilities, ("no", "yes"))["roc"]
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(metrics.roc_auc_score(labels, probabilities), abs=0.005)


# tables


def test_the_classification_report_is_that_of_scikit_learn():
    labels, probabilities = answers(100, 3, seed=1)
    expected = reference.classification_report(
        labels, probabilities.argmax(axis=1), target_names=["low", "mid", "high"], digits=4
    )
    assert evaluation.classification_report(labels, probabilities, ("low", "mid", "high")) == expected


def test_the_classification_report_handles_absent_classes():
    table = evaluation.classification_report(np.array([0, 0]), np.array([[0.8, 0.1, 0.1]] * 2), ("low", "mid", "high"))
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    assert rows["low"] == ["1.0000", "1.0000", "1.0000", "2"]
    assert rows["mid"] == rows["high"] == ["0.0000", "0.0000", "0.0000", "0"]


@pytest.mark.parametrize("classes", [("negative", "positive"), ("low", "mid", "high")])
def test_predictions_have_names_and_the_probability_of_each_class(classes):
    labels, probabilities = answers(20, len(classes), seed=1)
    table = evaluation.predictions(np.arange(100, 120), labels, probabilities, classes)
    assert list(table.columns) == ["row", "label", "predicted", *(f"p_{name}" for name in classes)]
    assert table["row"].to_list() == list(range(100, 120))
    assert table["label"].to_list() == [classes[i] for i in labels]
    assert table["predicted"].to_list() == [classes[i] for i in probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(table[[f"p_{name}" for name in classes]], probabilities)


def test_scores_before_the_temperature_are_those_of_the_probabilities_without_it():
    labels, raw = answers(200, 2, seed=1)
    found = evaluation.evaluate(labels, calibration.scaled(raw, 2.0), OPTIONS, temperature=2.0, seed=3)
    assert found["uncalibrated_error"] == pytest.approx(metrics.calibration_error(labels, raw, bins=OPTIONS.bins))
    assert found["uncalibrated_log_loss"] == pytest.approx(scores(labels, raw)["log_loss"])
    assert found["calibration_error"] != pytest.approx(found["uncalibrated_error"])


# many classes


def test_more_than_ten_classes_have_a_mean_curve_and_the_five_worst():
    labels, probabilities = answers(2000, 12, seed=4)
    probabilities[:, 7] = np.random.default_rng(1).random(2000) / 12  # uninformative
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = [f"class {i}" for i in range(12)]
    for name, columns in {
        "roc": ["false_positive_rate", "true_positive_rate"],
        "precision_recall": ["recall", "precision"],
    }.items():
        table = evaluation.curves(labels, probabilities, classes)[name]
        shown = list(table["class"].unique())
        assert shown[:2] == ["mean of 12 classes", "class 7"]
        assert len(shown) == 6
        assert table.groupby("class").size().max() <= 200
        assert list(table) == ["class", *columns]
    roc = evaluation.curves(labels, probabilities, classes)["roc"]
    mean = roc[roc["class"] == "mean of 12 classes"]
    area = reference.auc(mean["false_positive_rate"], mean["true_positive_rate"])
    assert area == pytest.approx(metrics.roc_auc_score(labels, probabilities), abs=0.01)


def test_ten_classes_have_a_curve_each():
    labels, probabilities = answers(500, 10, seed=4)
    classes = [f"class {i}" for i in range(10)]
    assert list(evaluation.curves(labels, probabilities, classes)["roc"]["class"].unique()) == classes


def test_confused_pairs_are_ordered_by_number_then_by_share():
    true = ["a"] * 10 + ["b"] * 4 + ["c"] * 3
    predicted = ["a"] * 7 + ["b", "b", "c"] + ["b", "b", "a", "a"] + ["c", "c", "a"]
    found = evaluation.confused_pairs(true, predicted, most=3)
    assert found[["label", "predicted", "reviews"]].values.tolist() == [["b", "a", 2], ["a", "b", 2], ["c", "a", 1]]
    assert found["share"].round(3).tolist() == [0.5, 0.2, 0.333]


def test_correct_predictions_have_no_confused_pairs():
    assert evaluation.confused_pairs(["a", "b"], ["a", "b"], most=3).empty
