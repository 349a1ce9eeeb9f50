"""Verdicts on models with too few reviews, on a rare class, and on test reviews that the champion was trained on."""

import json
import random

import pandas as pd
import pytest
from clones import change, fresh, repro, run, sentiflow

from sentiflow.data import seen_texts

pytestmark = pytest.mark.slow  # whole runs: `make test-runs`
SMALL = {
    "run": {"nb_svm": "nb_svm", "logistic": "logistic"},
    "evaluate.resamples": 200,
    "explain.reviews": 20,
    "promotion.latency_ms": 10_000.0,  # the machine may be busy
    "promotion.latency_reviews": 20,
}
CSV = {"download.source": "csv", "download.csv.location": "data/external/reviews.csv"}


def of_file(folder, reviews, **changes):
    """A project on reviews (text, label), after its first run."""
    project = fresh(folder, SMALL | CSV | changes)
    (project / "data/external").mkdir(exist_ok=True)
    pd.DataFrame(reviews, columns=["review", "sentiment"]).to_csv(project / "data/external/reviews.csv", index=False)
    return project, repro(project)


@pytest.fixture(scope="module")
def twenty_rows(tmp_path_factory):
    words = {"good": "positive", "bad": "negative"}
    reviews = [(f"{word} film {number}", label) for word, label in words.items() for number in range(10)]
    return of_file(tmp_path_factory.mktemp("twenty"), reviews)


def test_twenty_rows_give_no_temperature(twenty_rows):
    project, _ = twenty_rows
    assert {json.loads(file.read_text())["temperature"] for file in project.glob("models/*/config.json")} == {1.0}


def test_twenty_rows_give_an_interval_that_says_how_little_is_known(twenty_rows):
    project, _ = twenty_rows
    for file in project.glob("reports/models/*/scores.json"):
        scores = json.loads(file.read_text())["test"]
        assert scores["accuracy_score_high"] - scores["accuracy_score_low"] > 0.5
    assert "(1.0000 to 1.0000)" not in (project / "reports/comparison.md").read_text()


def test_nothing_is_promoted_on_two_test_reviews_and_the_run_says_what_is_missing(twenty_rows):
    project, ran = twenty_rows
    assert "Too few reviews: 2 in the test set that it was not trained on, promotion.minimum_reviews is 30." in ran.stdout
    assert "No version is champion." in ran.stdout
    assert not (project / "metrics/champions.csv").exists()


def test_model_that_never_finds_the_rare_class_does_not_become_champion(tmp_path):
    draw = random.Random(1)
    words = ["".join(draw.choices("abdeiklmnorstuvz", k=6)) for _ in range(300)]
    reviews = [(f"{' '.join(draw.choices(words, k=9))} {row}", "spam" if row % 100 == 0 else "ham") for row in range(2000)]
    labels = {"download.csv.labels": {"spam": "spam", "ham": "ham"}}
    project, ran = of_file(tmp_path, reviews, **labels)
    best = json.loads((project / "metrics/comparison.json").read_text())["models"][0]["scores"]["test"]
    assert best["accuracy_score"] > 0.95
    assert best["macro_recall_score"] == 0.5, "it always answers ham"
    assert " promotion rules that need no champion: majority" in ran.stdout
    assert "No version is champion." in ran.stdout
    assert not (project / "metrics/champions.csv").exists()


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A project with a champion, after a run on more reviews with a split that was drawn again."""
    package = {"download.source": "package", "download.sample": 240, "split.test": 0.4, "split.method": "stratified"}
    one = {"run": {"nb_svm": "nb_svm"}}
    project = fresh(tmp_path_factory.mktemp("grown"), SMALL | package | one | {"promotion.calibration_error": 1.0})
    first = repro(project).stdout
    trained_on = texts_of(project, "train", "valid")
    change(project, {"download.sample": 480, "models.nb_svm.ngrams": 1})
    return project, first, trained_on, repro(project).stdout


def texts_of(project, *splits):
    texts = pd.read_parquet(project / "data/reviews/reviews.parquet").set_index("row")["text"]
    rows = [row for split in splits for row in pd.read_parquet(project / f"data/tokens/{split}.parquet")["row"]]
    return set(seen_texts.hashes(texts.loc[rows]).tolist())


def test_first_version_becomes_champion_and_the_run_says_so(grown):
    assert "passes all 5 promotion rules that need no champion. Version 1 is now the first champion." in grown[1]


def test_test_reviews_that_the_champion_was_trained_on_are_left_out_of_the_comparison(grown):
    project, _, trained_on, said = grown
    test_set = texts_of(project, "test")
    left_out = len(test_set & trained_on)
    assert left_out > 10
    page = (project / ".cache/verdict.md").read_text()
    assert f"Evaluated on {len(test_set)} reviews" in page
    assert f"Left out: {left_out} whose texts either version was trained or chosen on." in page
    assert "Version 1 is still the champion." in said


def test_with_too_few_others_left_nothing_is_promoted_and_the_run_says_why(grown):
    project, _, trained_on, _ = grown
    test_set = texts_of(project, "test")
    change(project, {"promotion.minimum_reviews": len(test_set)})
    said = repro(project).stdout
    left = len(test_set - trained_on)
    assert f"Not compared with version 1 (nb_svm): only {left} of {len(test_set)} test reviews are new to both versions" in said
    assert "Version 1 is still the champion." in said
    ended = run(["bash", "-c", ".venv/bin/sentiflow models promote 2>&1; true"], project)
    assert "It was not promoted" in ended.stdout
    assert "Test set" in sentiflow(project, "models", "list").stdout
