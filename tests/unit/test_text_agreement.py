"""What the stages make of a raw text is what the served model makes of it, in every script and on damaged text."""

import importlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml

from sentiflow.data import sources, vocabulary
from sentiflow.data.sources.rows import Found, Origin
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import explanation, sentiment_model

ROOT = Path(__file__).parents[2]
CLASSES = ("negative", "positive")


def nfd(text):
    return unicodedata.normalize("NFD", text)


def mojibake(text):
    return text.encode().decode("cp1252")


# Words of each class and words that say nothing, what is between words, and how a sentence is damaged.
REVIEWS = {
    "English": ("awful dull poor", "great superb fine", "the film's story &amp; <b>cast</b> <happy> isn't", " ", str),
    "French, half of it in NFD": ("gênant médiocre raté", "génial réussi élégant", "l’été le numéro était", " ", nfd),
    "Chinese": ("很差 难看 无聊", "很好 好看 精彩", "电影 故事 演员 导演", "", str),
    "Thai": ("แย่มาก น่าเบื่อ", "ดีมาก สนุก", "หนัง เรื่อง นี้", "", str),
    "Hindi": ("बुरी बेकार", "अच्छी शानदार", "फ़िल्म कहानी क्\u200dष", " ", nfd),
    "Persian": ("بد افتضاح", "خوب عالی", "فیلم می\u200cخواهم داستان", " ", str),
    "emoji": ("\U0001f621 \U0001f44e\U0001f3fd", "\U0001f600 \u2764\ufe0f", "\U0001f469\u200d\U0001f4bb 1\ufe0f\u20e3", "", str),
    "mojibake": ("gênant médiocre raté", "génial réussi élégant", "numéro théâtre", " ", mojibake),
    "escapes": ("awful dull", "great fine", "story.\n\nThe", " ", lambda text: json.dumps(text)[1:-1]),
}


@pytest.fixture(scope="module", params=REVIEWS)
def project(request, tmp_path_factory):
    """A folder in which the stages up to tokenize have run, and its raw texts with their labels."""
    *words, between, damage = REVIEWS[request.param]
    negative, positive, filler = (each.split(" ") for each in words)
    draw = np.random.default_rng(1)
    rows = []
    for number in range(120):
        feeling = draw.choice(positive if number % 2 else negative)
        text = between.join([*draw.choice(filler, draw.integers(1, 9)), feeling, *draw.choice(filler, draw.integers(1, 9))])
        rows.append((damage(text) if number % 3 else text, CLASSES[number % 2]))
    folder = tmp_path_factory.mktemp("project")
    p = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    p["clean"]["language"] = "none"
    (folder / "params.yaml").write_text(yaml.safe_dump(p), encoding="utf-8")
    found = [Found("csv", "reviews.csv", line, text, label) for line, (text, label) in enumerate(rows)]
    reviews, rejects, _ = sources.sort(Origin("reviews.csv", "", dict(zip(CLASSES, CLASSES, strict=True)), found), 10_000)
    assert rejects.empty
    (folder / "reviews").mkdir()
    reviews.to_parquet(folder / "reviews/reviews.parquet", index=False)
    (folder / "reviews/classes.json").write_text(json.dumps(CLASSES))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("clean", "reviews/reviews.parquet", "clean.parquet", "clean.json")
        run("split", "reviews", "clean.parquet", "splits", "test_set", "splits.json")
        run("tokenize", "splits", "reviews/classes.json", "tokens", "tokenize.json")
    return folder, [text for text, _ in rows]


def run(stage, *paths):
    importlib.import_module(f"stages.{stage}").main(*map(Path, paths))


@pytest.mark.parametrize("view", ["text", "content"])
def test_the_served_model_answers_raw_texts_exactly_as_the_stages_tokens(project, view, monkeypatch):
    folder, raw = project
    monkeypatch.chdir(folder)
    p = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    p["models"]["nb_svm"]["view"] = view
    Path("params.yaml").write_text(yaml.safe_dump(p), encoding="utf-8")
    importlib.import_module("stages.train").main(
        "nb_svm", "nb_svm", *map(Path, ["tokens", f"models/{view}", f"{view}.csv", "cache"])
    )
    stopwords = Stopwords("none", keep_negations=True)
    sentiment_model.bundle(Path("bundles", view), model_dir=Path("models", view), tokens_dir=Path("tokens"), stopwords=stopwords)
    served = sentiment_model.SentimentModel.load(Path("bundles", view))

    tokens = vocabulary.read_tokens(Path("tokens/train.parquet"), view)
    answers = served.predict([raw[row] for row in tokens.rows])
    expected = served.classifier.probabilities(tokens.ids)
    np.testing.assert_array_equal(answers[["p_negative", "p_positive"]].to_numpy(), expected)
    assert (answers["label"] == np.array(CLASSES)[tokens.labels]).all()

    [first] = explanation.explain(served.classifier, [raw[tokens.rows[0]]], stopwords=stopwords)
    assert len(first.words) == len(tokens.ids[0])
    assert all(first.known)
