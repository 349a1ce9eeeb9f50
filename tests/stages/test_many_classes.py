"""130 classes, some with unusual names, through every stage from download to report."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from sentiflow.config import params
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import sentiment_model
from sentiflow.registry import model_directory
from sentiflow.registry.test_set import HeldOut
from stages import analyse, clean, compare, download, evaluate, explain, report, split, tokenize, train

PARAMS = Path(__file__).parents[2] / "params.yaml"
HARD = ["差评", "50 % off/sale", "<b>bold</b>", "a|b", "🤷 unsure", "x" * 100]
CLASSES = [*HARD, *(f"intent {number:03}" for number in range(124))]
RUN = ["nb_svm", "logistic"]
ROWS = 10  # per class


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the stages have run."""
    folder = tmp_path_factory.mktemp("project")
    p = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    source = {"location": "reviews.csv", "text": "text", "label": "label", "labels": {name: name for name in CLASSES}}
    p["download"] |= {"source": "csv", "csv": p["download"]["csv"] | source}
    p |= {"run": {name: name for name in RUN}, "compare": {"baseline": RUN[0], "tuned": RUN[1]}}
    p["evaluate"]["resamples"] = 100
    rows = [(f"please tell me about topic{place} now {row}", name) for row in range(ROWS) for place, name in enumerate(CLASSES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params.yaml").write_text(yaml.safe_dump(p, sort_keys=False), encoding="utf-8")
        pd.DataFrame(rows, columns=["text", "label"]).to_csv("reviews.csv", index=False)
        _run(*map(Path, ("data/reviews", "data/tokens", "metrics", "reports", "data/predictions", "models")))
    return folder


def _run(reviews, tokens, metrics, reports, predictions, models):
    table, card, splits = reviews / "reviews.parquet", metrics / "data_card.json", metrics / "splits.json"
    words, history, best = metrics / "vocabulary.json", metrics / "history", metrics / "comparison.json"
    download.main(reviews, card, reports / "data_card.md", Path("partial"))
    clean.main(table, Path("clean.parquet"), metrics / "cleaning.json")
    split.main(reviews, Path("clean.parquet"), Path("splits"), Path("data/test_set"), splits)
    tokenize.main(Path("splits"), reviews / "classes.json", tokens, words)
    for name in RUN:
        train.main(name, name, tokens, models / name, history / f"{name}.csv", Path("cache"))
        made = reports / "models" / name, Path("plots") / name, predictions / name, metrics / f"{name}.json"
        evaluate.main(models / name, tokens, history / f"{name}.csv", *made)
    pages = reports / "comparison.md", reports / "tuning.md", best, Path("plots/comparison"), metrics / "environment.json"
    compare.main(reports / "models", predictions, history, models, *pages)
    analyse.main(
        Path("data/test_set/reviews.parquet"), tokens, predictions, models, best, reports / "errors", metrics / "slices.json"
    )
    explain.main(table, models, tokens, predictions, best, reports / "explanations")
    found = models, predictions, reports / "models", reports / "errors", reports / "explanations"
    report.main(card, splits, words, best, history, *found, reports / "report.html")


def test_the_test_set_has_the_raw_texts_of_test_and_a_recorded_digest(finished):
    raw = pd.read_parquet(finished / "data/reviews/reviews.parquet").set_index("row")["text"]
    test = pd.read_parquet(finished / "splits/test.parquet")
    reviews = HeldOut.read(
        finished / "data/test_set/reviews.parquet", finished / "data/tokens", params.load(finished / "params.yaml").analyse
    )
    assert reviews.texts.to_dict() == raw.loc[test["row"]].to_dict()
    assert reviews.labels.tolist() == test["label"].tolist()
    assert reviews.measures.index.equals(reviews.texts.index)
    assert json.loads((finished / "metrics/splits.json").read_text())["test_set"] == reviews.digest

    names = json.loads((finished / "data/reviews/classes.json").read_text())
    hashed = hashlib.sha256(json.dumps(names).encode())
    for label, row in zip(test["label"], test["row"], strict=True):
        hashed.update(json.dumps([label, raw[row]]).encode())
    assert reviews.digest == hashed.hexdigest()


def test_every_class_is_learned_and_has_its_probability(finished):
    answers = pd.read_parquet(finished / "data/predictions/nb_svm/test.parquet")
    assert [name for name in answers if name.startswith("p_")] == [f"p_{name}" for name in CLASSES]
    assert answers["label"].nunique() == len(CLASSES)
    assert (answers["label"] == answers["predicted"]).mean() > 0.9
    assert (np.abs(answers.filter(regex="^p_").sum(axis=1) - 1) < 1e-6).all()


def test_figures_and_their_data_stay_bounded(finished):
    for figure in [*finished.glob("reports/models/*/*.png"), *finished.glob("reports/explanations/*.png")]:
        with Image.open(figure) as image:
            assert max(image.size) < 2500, figure
    assert len(list((finished / "reports/explanations").glob("nb_svm_*.png"))) == 10
    for curve in ("roc", "precision_recall"):
        table = pd.read_csv(finished / f"plots/nb_svm/{curve}.csv")
        assert table["class"].nunique() == 6
        assert len(table) <= 6 * 200
    assert pd.read_csv(finished / "plots/nb_svm/confusion.csv")["actual"].nunique() == 20


def test_tables_have_all_classes(finished):
    table = (finished / "reports/models/nb_svm/classification_report.txt").read_text(encoding="utf-8")
    assert all(f"{name} " in table for name in CLASSES)
    card = (finished / "reports/data_card.md").read_text(encoding="utf-8")
    assert all(len(line) < 250 for line in card.splitlines())
    assert sum(line.endswith(f"| {ROWS} |") for line in card.splitlines()) == len(CLASSES)


def test_the_page_is_readable_and_class_names_are_escaped(finished):
    page = (finished / "reports/report.html").read_text(encoding="utf-8")
    assert len(page) < 400_000
    assert "130 classes with 10 reviews each" in page
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert max(line.count("<th") for line in page.splitlines()) < 20


@pytest.mark.parametrize("name", RUN)
def test_registration_accepts_the_models(finished, tmp_path, name):
    bundle = tmp_path / "bundle"
    stopwords = Stopwords("english", keep_negations=True)
    sentiment_model.bundle(bundle, model_dir=finished / "models" / name, tokens_dir=finished / "data/tokens", stopwords=stopwords)
    assert model_directory.check_bundle(bundle) == tuple(CLASSES)
    answer = sentiment_model.SentimentModel.load(bundle).predict(["Please tell me about topic0 now"])
    assert answer["label"].tolist() == ["差评"]


def test_scores_do_not_grow_with_the_number_of_classes(finished):
    scores = json.loads((finished / "reports/models/nb_svm/scores.json").read_text(encoding="utf-8"))
    assert len(scores["test"]) < 40
