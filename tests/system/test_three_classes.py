"""Tweets of three classes, one of them at 10 % of the rows, by the steps that the README gives for them."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from clones import PROJECT, fresh, repro, run, sentiflow

from sentiflow.config import params

pytestmark = pytest.mark.slow  # whole runs: `make test-runs`
CLASSES = ["negative", "neutral", "positive"]
# Smaller and fewer networks, so that it takes seconds; what is read changes in the section `download` alone.
SMALL = {
    "run": {"logistic": "logistic", "lstm_attention": "lstm_attention"},
    "train.class_weights": "balanced",
    "evaluate.resamples": 200,
    "explain.reviews": 20,
    "models.lstm_attention.length": 20,
    "models.lstm_attention.minimum_count": 1,
    "models.lstm_attention.batch": 16,
    "models.lstm_attention.epochs": 12,
    "models.lstm_attention.learning_rate": 0.005,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    clone = fresh(tmp_path_factory.mktemp("clone"), SMALL)
    steps = (PROJECT / "README.md").read_text(encoding="utf-8").split("```console\n$ cp examples")[1].split("```")[0]
    for step in f"cp examples{steps}".replace("$ ", "").splitlines()[:-1]:  # the last is `sentiflow repro`
        run(["bash", "-c", step], clone)
    assert params.load(clone / "params.yaml").download.source == "tsv"
    return clone, repro(clone)


def test_shipped_settings_need_no_other_change_for_the_example():
    shipped = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))["download"]["tsv"]
    assert shipped["location"] == "data/external/tweets.tsv"
    tweets = pd.read_csv(PROJECT / "examples/tweets.tsv", sep="\t", dtype="str")
    assert set(tweets["label"]) == set(shipped["labels"])
    assert tweets["label"].value_counts(normalize=True).min() == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["logistic", "lstm_attention"])
def test_labels_come_from_the_data_and_scores_are_means_over_the_classes(finished, name):
    clone, _ = finished
    answers = pd.read_parquet(clone / f"data/predictions/{name}/test.parquet")
    assert set(answers["label"]) == set(CLASSES)
    probabilities = answers[[f"p_{label}" for label in CLASSES]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    scores = json.loads((clone / f"reports/models/{name}/scores.json").read_text())["test"]
    recalls = [(answers["predicted"] == answers["label"])[answers["label"] == label].mean() for label in CLASSES]
    assert scores["recall_score"] == scores["macro_recall_score"] == pytest.approx(np.mean(recalls))
    assert scores["weighted_recall_score"] == pytest.approx(scores["accuracy_score"])


@pytest.mark.parametrize("name", ["logistic", "lstm_attention"])
def test_models_learn_the_rare_class_too(finished, name):
    answers = pd.read_parquet(finished[0] / f"data/predictions/{name}/test.parquet")
    rare = answers["label"] == "neutral"
    assert rare.sum() == 4
    assert (answers["predicted"] == "neutral")[rare].mean() >= 0.5
    assert (answers["predicted"] == answers["label"]).mean() > 0.6


def test_curves_are_of_each_class_against_the_rest_and_confusion_is_of_all(finished):
    clone, _ = finished
    for curve in ("roc", "precision_recall"):
        assert set(pd.read_csv(clone / f"plots/lstm_attention/{curve}.csv")["class"]) == set(CLASSES)
    assert set(pd.read_csv(clone / "plots/lstm_attention/confusion.csv")["actual"]) == set(CLASSES)
    assert "weighted avg" in (clone / "reports/models/lstm_attention/classification_report.txt").read_text()


def test_comparison_stands_beside_the_published_figure_of_three_classes(finished):
    clone, run_ = finished
    assert "001-multiclass" in run_.stdout
    assert "neutral" in (clone / "reports/report.html").read_text(encoding="utf-8")


def test_the_network_answers_a_tweet_with_one_of_the_three(finished):
    said = sentiflow(finished[0], "explain", "the app is a real joy", "--model", "lstm_attention").stdout
    assert any(label in said for label in CLASSES)


def test_registered_model_gives_the_probability_of_each_class(finished):
    code = (
        "import mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "print(list(mlflow.pyfunc.load_model('models:/sentiflow@champion').predict(['the app is a real joy']).columns))"
    )

    said = run([sys.executable, "-c", code], finished[0], PYTHONPATH="").stdout
    assert said.splitlines()[-1] == str(["label", *(f"p_{label}" for label in CLASSES)])
