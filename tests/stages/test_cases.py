"""Real-world files, from the download to a trained model."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sentiflow.config import params
from sentiflow.data import splits, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import loading, sentiment_model
from sentiflow.serving import predict
from sentiflow.system.errors import InputError
from stages import clean, download, split, tokenize, train

TOP = Path(__file__).parents[2]
CASES = TOP / "tests/cases"
REVIEWS, TOKENS, MODEL = Path("data/reviews"), Path("data/tokens"), Path("models/logistic")


class Case:
    """A project with the files of a case as its source."""

    def __init__(self, name, source="csv", max_rejected=None, splitting=None, **section):
        Path("data/external").mkdir(parents=True)
        for file in (CASES / name).iterdir():
            shutil.copyfile(file, Path("data/external") / file.name)
        values = yaml.safe_load((TOP / "params.yaml").read_text())
        values["run"] = {"logistic": "logistic"}
        values["download"]["source"] = source
        values["download"][source] |= section
        values["split"] |= splitting or {}
        if max_rejected is not None:
            values["download"]["max_rejected"] = max_rejected
        Path("params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))

    def download(self):
        download.main(REVIEWS, Path("metrics/data_card.json"), Path("reports/data_card.md"), Path(".cache"))
        return pd.read_parquet(REVIEWS / "reviews.parquet")

    @property
    def card(self):
        return json.loads(Path("metrics/data_card.json").read_text())

    @property
    def rejects(self):
        return pd.read_csv(REVIEWS / "rejects.csv")["reason"].tolist()

    def split(self):
        """The rows of each split, after download and clean."""
        self.download()
        clean.main(REVIEWS / "reviews.parquet", Path("data/clean.parquet"), Path("metrics/cleaning.json"))
        split.main(REVIEWS, *map(Path, ("data/clean.parquet", "data/splits", "data/test_set", "metrics/splits.json")))
        return {name: pd.read_parquet(f"data/splits/{name}.parquet") for name in splits.SPLITS}

    def accuracy(self):
        """Test accuracy of the logistic regression."""
        self.split()
        tokenize.main(Path("data/splits"), REVIEWS / "classes.json", TOKENS, Path("metrics/vocabulary.json"))
        train.main("logistic", "logistic", TOKENS, MODEL, Path("metrics/history/logistic.csv"), Path(".cache/training"))
        model = loading.load(MODEL, vocabulary.Vocabulary.read(TOKENS / "text.json"))
        test = vocabulary.read_tokens(TOKENS / "test.parquet", "text")
        return float((model.probabilities(test.ids).argmax(axis=1) == test.labels).mean())

    def model(self):
        """The registered model, after `accuracy` has trained it."""
        sentiment_model.bundle(
            Path("bundle"), model_dir=MODEL, tokens_dir=TOKENS, stopwords=Stopwords("english", keep_negations=True)
        )
        return sentiment_model.SentimentModel.load(Path("bundle"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SENTIMENT140 = {"encoding": "latin-1", "labels": {"0": "negative", "4": "positive"}}


def test_six_quoted_columns_without_a_header_are_read_by_number():
    found = Case("01-sentiment140", location="data/external/tweets.csv", header=False, text=5, label=0, **SENTIMENT140).download()
    assert found["label"].value_counts().to_dict() == {"negative": 30, "positive": 30}
    assert found["text"][0] == "@bob The film number 0 was wonderful wonderful and wonderful caf\xe9"


def test_the_same_without_quotes_is_an_error():
    cut = {"encoding": "latin-1", "labels": {'"0"': "negative", '"4"': "positive"}, "separator": ",", "header": False}
    case = Case("01b-sentiment140-cut", "tsv", location="data/external/tweets.csv", text=5, label=0, **cut)
    with pytest.raises(InputError, match=r"texts start with an unclosed quote.*set download\.tsv\.quote"):
        case.download()


def test_two_columns_without_a_header_and_with_escaped_line_ends_are_read():
    labels = {"1": "negative", "2": "positive"}
    found = Case("02-yelp-polarity", location="data/external/train.csv", header=False, text=1, label=0, labels=labels).download()
    assert len(found) == 60
    assert found["text"][0] == 'The film number 0 was wonderful, wonderful and wonderful.\n\nNot "cheap" though'


def test_excluded_rows_are_counted_separately_from_rejects():
    labels = {"1": "negative", "2": "negative", "3": None, "4": "positive", "5": "positive"}
    case = Case("04-stars-drop-3", location="data/external/r.csv", label="stars", labels=labels, max_rejected=0.0)
    assert len(case.download()) == 40
    assert (case.card["excluded_by_label"], case.card["rejected_rows"]) == ({"3": 20}, 0)


def test_blanks_around_labels_are_removed_and_other_case_gets_a_suggestion():
    case = Case("07b-label-case-few", location="data/external/r.csv")
    assert len(case.download()) == 599
    assert "did you mean 'positive'?" in case.rejects[0]


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("08-excel-semicolon", {"location": "data/external/r.csv", "separator": ";", "encoding": "cp1252"}),
        ("09-csv-gz", {"location": "data/external/r.csv.gz"}),
        (
            "11-jsonl",
            {
                "location": "data/external/reviews.jsonl",
                "text": "text",
                "label": "stars",
                "labels": {"1.0": "negative", "5.0": "positive"},
            },
        ),
        ("16-backslash-quotes", {"location": "data/external/r.csv", "escape": "\\"}),
        ("17b-space-before-quote", {"location": "data/external/r.csv", "text": " review"}),
    ],
)
def test_other_formats_are_read_completely(name, section):
    case = Case(name, **section)
    found = case.download()
    assert (len(found), case.rejects) == (60, [])
    assert found["text"].str.contains("number 0 was wonderful, wonderful and wonderful").any()


def test_an_excel_file_is_an_error():
    with pytest.raises(InputError, match="is a spreadsheet; save it as CSV"):
        Case("13-xlsx", location="data/external/r.xlsx").download()


def test_129_classes_train():
    labels = {f"intent_{n:03}": f"intent_{n:03}" for n in range(129)}
    case = Case("30-classes-129", location="data/external/clinc.csv", text="text", label="intent", labels=labels)
    assert case.accuracy() > 0.9
    assert set(vocabulary.read_tokens(TOKENS / "train.parquet", "text").labels) == set(range(129))


def test_chinese_is_learned():
    labels = {"差评": "negative", "好评": "positive"}
    assert Case("40-chinese", location="data/external/r.csv", labels=labels).accuracy() == 1.0


def test_forms_of_unicode_are_copies_of_one_text():
    case = Case("41-nfc-nfd", location="data/external/r.csv")
    parts = case.split()
    texts = {name: {unicodedata.normalize("NFC", text) for text in part["text"]} for name, part in parts.items()}
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())), "no text is in two splits"
    assert case.card["surplus_copies"] == 200


def test_other_unicode_forms_get_the_same_predictions():
    case = Case("93-nfc-train", location="data/external/r.csv")
    assert case.accuracy() == 1.0
    texts = pd.read_csv("data/external/r.csv")["review"]
    answers = [case_model.predict(texts.str.normalize(form).tolist()) for form in ("NFC", "NFD") for case_model in [_once(case)]]
    pd.testing.assert_frame_equal(*answers)


def _once(case):
    return case.model() if not Path("bundle").exists() else sentiment_model.SentimentModel.load(Path("bundle"))


def test_a_label_with_too_few_rows_can_be_excluded():
    every = {"negative": "negative", "neutral": "neutral", "positive": "positive"}
    location = "data/external/r.csv"
    with pytest.raises(InputError, match="map that label to null to exclude it"):
        Case("51b-class-of-two-left-out", location=location, labels=every).download()
    shutil.rmtree("data")
    assert len(Case("51b-class-of-two-left-out", location=location, labels=every | {"neutral": None}).download()) == 60


def test_a_class_of_copies_is_an_error():
    labels = {"negative": "negative", "neutral": "neutral", "positive": "positive"}
    with pytest.raises(InputError, match="12 reviews labelled neutral are copies of 1 text"):
        Case("52-class-of-copies", location="data/external/r.csv", labels=labels).split()


def test_reviews_of_emoji_alone_train():
    assert Case("55-emoji-only", location="data/external/r.csv").accuracy() > 0.9


def test_a_stray_quote_affects_its_own_line_only():
    case = Case("80-stray-quote", location="data/external/r.csv")
    assert len(case.download()) == 199
    assert case.rejects == ["quotes do not match: unclosed quote, and the lines after it are separate rows"]


def test_a_frequent_text_is_reported_and_can_be_excluded(caplog):
    labels = {"negative": "negative", "neutral": "neutral", "positive": "positive"}
    section = {"location": "data/external/s.txt", "header": False, "text": 2, "label": 1, "labels": labels}
    case = Case("82-semeval", "tsv", splitting={"leave_out_conflicts": True}, **section)
    parts = case.split()
    assert "'Not Available' is the text of 300 of 1,000 rows (30.0%)" in caplog.text
    assert "'Not Available'" in Path("reports/data_card.md").read_text()
    assert sum(map(len, parts.values())) == 700


@pytest.mark.parametrize(
    "section",
    [
        {"location": "data/external/*.csv"},
        {"location": {"train": "data/external/train.csv", "test": "data/external/test.csv"}},
    ],
)
def test_files_per_split_are_the_official_split(section):
    case = Case("84-two-files", splitting={"method": "official"}, **section)
    assert case.download()["split"].value_counts().to_dict() == {"train": 60, "test": 20}
    with pytest.raises(InputError, match="test would have 20 reviews and none labelled negative"):
        case.split()


def test_an_official_split_is_kept():
    case = Case("83-own-split-column", location="data/external/r.csv", split="split", splitting={"method": "official"})
    own = case.download()["split"]
    assert set(own) == {"train", "test"}
    assert set(case.split()["test"]["row"]) == set(np.flatnonzero(own == "test"))


def test_an_unused_official_split_is_reported(caplog):
    Case("83-own-split-column", location="data/external/r.csv", split="split").split()
    assert "an official split (48 in train, 12 in test), which split.method: stratified ignores" in caplog.text


def test_an_official_split_without_a_column_is_an_error():
    with pytest.raises(InputError, match=r"download\.csv\.split"):
        Case("83-own-split-column", location="data/external/r.csv", splitting={"method": "official"}).split()


def test_phrases_of_a_sentence_stay_together():
    section = {"location": "data/external/train.tsv", "text": "Phrase", "label": "Sentiment", "group": "SentenceId"}
    parts = Case("85-sentence-groups", "tsv", labels={"0": "negative", "1": "positive"}, **section).split()
    assert not set(parts["train"]["group"]) & set(parts["test"]["group"])


def test_words_in_angle_brackets_are_learned():
    assert Case("92-ekphrasis-tags", location="data/external/r.csv").accuracy() == 1.0


def test_predict_reads_the_file_that_the_model_was_trained_on():
    written = {"separator": ";", "encoding": "cp1252", "text": "Kommentar", "label": "Label"}
    case = Case("94-predict-own-dialect", location="data/external/kommentare.csv", **written)
    case.accuracy()
    model, file, out = case.model(), Path("data/external/kommentare.csv"), Path("answers.csv")
    answered = predict.answer_file(model, file, out, params.load().download, column=None)
    assert (answered.rows, answered.column) == (60, "Kommentar")
    expected = model.predict(pd.read_csv(file, sep=";", encoding="cp1252")["Kommentar"].tolist())
    assert pd.read_csv(out)["predicted"].tolist() == expected["label"].tolist()
