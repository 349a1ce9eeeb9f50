import numpy as np
import pytest

from sentiflow.config import params
from sentiflow.evaluation import evaluation, significance, tuning
from sentiflow.evaluation.metrics import tracked

OPTIONS = params.Evaluate(resamples=300, confidence=0.95, bins=5)
CLASSES = {2: ("negative", "positive"), 3: ("negative", "neutral", "positive")}


def answers(accuracy, classes=2, count=400, seed=1):
    """Predictions with about this accuracy, on the same reviews for every seed."""
    labels = np.arange(count) % classes
    right = np.random.default_rng(seed).random(count) < accuracy
    probabilities = np.full((count, classes), 0.2 / (classes - 1))
    probabilities[np.arange(count), np.where(right, labels, (labels + 1) % classes)] = 0.8
    return evaluation.predictions(np.arange(count), labels, probabilities, CLASSES[classes])


def report(before, after, classes=2):
    reasons = {"units": "a larger state", "view": "", "dropout": "against overfitting"}
    changes = tuning.changes({"units": 32, "view": "text"}, {"units": 64, "view": "text", "dropout": 0.2}, reasons)
    tables = answers(before, classes, seed=1), answers(after, classes, seed=2)
    return tuning.report(("small", "tuned"), changes, tables, OPTIONS, seed=7)


def test_changes_are_the_settings_that_differ():
    changes = {change["setting"]: (change["baseline"], change["tuned"]) for change in report(0.8, 0.8)["changes"]}
    assert changes == {"units": ("32", "64"), "dropout": ("none", "0.2")}


@pytest.mark.parametrize("classes", [2, 3])
def test_effects_are_differences_within_their_intervals(classes):
    found = report(0.6, 0.9, classes)
    assert [effect["score"] for effect in found["effects"]] == list(tracked())
    for effect in found["effects"]:
        assert effect["difference"] == pytest.approx(effect["tuned"] - effect["baseline"])
        assert effect["low"] < effect["difference"] < effect["high"]
    accuracy = found["effects"][1]
    assert accuracy["low"] > 0.2
    assert found["p"] < 1e-6


def test_interval_of_the_difference_is_paired():
    table = answers(0.8)
    [effect] = [e for e in tuning.effects(table, table, OPTIONS, seed=7) if e["score"] == "accuracy_score"]
    assert effect["difference"] == effect["low"] == effect["high"] == 0


@pytest.mark.parametrize(
    ("before", "after", "ending"), [(0.6, 0.9, ": better."), (0.9, 0.6, ": worse."), (0.8, 0.8, ": no significant difference.")]
)
def test_verdict_is_better_worse_or_not_significant(before, after, ending):
    assert tuning.verdict(report(before, after)).endswith(ending)


def test_page_contains_verdict_changes_effects_and_p():
    found = report(0.6, 0.9)
    page = tuning.as_markdown(("small", "tuned"), found)
    assert page.startswith("# Tuning: small to tuned\n\n" + tuning.verdict(found))
    assert "| dropout | none" in page
    assert page.count("\n| ") == 2 + len(found["changes"]) + 2 + len(tracked())
    assert f"McNemar's exact test: p = {found['p']:.2g}." in page
    assert tuning.INTERVALS in page
    assert page.endswith(f"{significance.ONE_SEED}\n")


def test_page_without_one_of_the_two_has_advice():
    assert "both models must be in `run:`" in tuning.as_markdown(("small", "tuned"), None)


@pytest.mark.parametrize("accuracy", [0.8, 0.83, 0.85, 0.87, 0.9])
def test_verdict_and_p_agree(accuracy):
    found = report(0.8, accuracy)
    assert ("no significant" in tuning.verdict(found)) == (found["p"] >= 1 - OPTIONS.confidence)


def test_p_value_is_that_of_the_comparison():
    right = [(answers(0.7, seed=seed)["predicted"] == answers(0.7, seed=seed)["label"]).to_numpy() for seed in (1, 2)]
    assert report(0.7, 0.7)["p"] == significance.mcnemar(*right)
