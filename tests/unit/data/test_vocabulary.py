import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentiflow.data import cleaning, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.system.errors import InputError

ROOT = Path(__file__).parents[3]
TRAIN = ["a good film .", "good , good story", "", "a film", "caf\u00e9 \U0001f600 10 \u597d", "isn't good"]


def random_texts(count, *, seed):
    """Texts of rare and frequent words, marks and numbers; some are empty."""
    draw = random.Random(seed)
    words = [f"w{i}" for i in range(60)] + ["it's", "\u00e9t\u00e9", "\u597d", ",", ".", "!", "\U0001f600", "10", "\u00bd"]
    weights = [1 / (i + 1) for i in range(len(words))]
    return pd.Series([" ".join(draw.choices(words, weights, k=draw.randint(0, 25))) for _ in range(count)])


@pytest.fixture(scope="module")
def keras_text():
    """Keras's module, imported once."""
    from tensorflow.keras.preprocessing import text

    return text


@pytest.fixture
def fitted(keras_text, tmp_path):
    """Writes the vocabulary of texts to a file and reads it."""

    def fit(texts, *, minimum_count=1):
        file = tmp_path / "text.json"
        file.write_text(vocabulary.fit(pd.Series(texts), minimum_count=minimum_count), encoding="utf-8")
        return Vocabulary.read(file)

    return fit


@pytest.fixture
def words():
    return Vocabulary(("<pad>", "<unk>", "good", ".", "film", "10", "\u2026", "old"), np.array([0, 0, 9, 7, 5, 4, 2, 1]))


def ragged(*reviews):
    offsets = np.cumsum([0, *map(len, reviews)])
    return Ragged(np.array([i for review in reviews for i in review], dtype=np.int32), offsets.astype(np.int64))


def as_lists(ids):
    return [ids[i].tolist() for i in range(len(ids))]


# fit


def test_words_are_ordered_by_frequency_after_padding_and_unknown(fitted):
    found = fitted(TRAIN)
    expected = Counter(" ".join(TRAIN).split())
    assert found.words[:5] == ("<pad>", "<unk>", "good", "a", "film")
    assert sorted(found.words[2:]) == sorted(expected)
    assert found.counts.tolist() == [0, 0, *(expected[word] for word in found.words[2:])]
    assert (np.diff(found.counts[2:]) <= 0).all()


@pytest.mark.parametrize(("minimum_count", "kept"), [(1, 11), (2, 3), (3, 1), (4, 1)])
def test_words_below_the_minimum_count_are_unknown(fitted, minimum_count, kept):
    found = fitted(TRAIN, minimum_count=minimum_count)
    counts = Counter(" ".join(TRAIN).split())
    expected = {word: count for word, count in counts.items() if count >= minimum_count}
    assert dict(zip(found.words[2:], found.counts[2:].tolist(), strict=True)) == expected
    assert len(expected) == kept
    for word in counts:
        assert found.ids(pd.Series([word]))[0].tolist() == [found.words.index(word) if word in expected else 1]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["", ""], r"the view content has no words in train: every review is empty in it;"),
        (["a b c"], r"none reaches tokenize\.minimum_count; lower tokenize\.minimum_count in params\.yaml"),
    ],
)
def test_a_view_without_words_fails_only_models_that_read_it(fitted, texts, message):
    found = fitted(texts, minimum_count=2)
    assert (found.words, found.counts.tolist()) == (("<pad>", "<unk>"), [0, 0])
    ids = found.ids(pd.Series(texts))
    assert vocabulary.describe(found, {"train": ids})["words"] == 0
    tokens = vocabulary.Tokens(np.arange(len(texts)), np.zeros(len(texts)), ids)
    data = vocabulary.TrainingData(tokens, tokens, ("negative", "positive"), found)
    with pytest.raises(InputError, match=rf"{message}.*choose another view for lstm \(models\.lstm\.view\)") as refused:
        vocabulary.require_words(data, "content", "lstm")
    assert ("minimum_count" in str(refused.value)) == ("lower" in message)


@pytest.mark.parametrize("minimum_count", [1, 3])
def test_ids_equal_those_of_keras(keras_text, fitted, minimum_count):
    train, others = random_texts(150, seed=1), pd.concat([random_texts(40, seed=2), pd.Series(["unseen w0 words"])])
    others = pd.Series(others.to_list())
    theirs = keras_text.tokenizer_from_json(vocabulary.fit(train, minimum_count=minimum_count))
    ours = fitted(train, minimum_count=minimum_count)
    for texts in (train, others):
        assert as_lists(ours.ids(texts)) == theirs.texts_to_sequences(texts.to_list())


def test_a_tokenizer_written_by_keras_gives_the_same_ids(keras_text, tmp_path):
    train, others = random_texts(150, seed=1), random_texts(40, seed=2)
    theirs = keras_text.Tokenizer(oov_token="<unk>", filters="", lower=False)
    theirs.fit_on_texts(train.to_list())
    file = tmp_path / "text.json"
    file.write_text(theirs.to_json(), encoding="utf-8")
    ours = Vocabulary.read(file)
    assert as_lists(ours.ids(others)) == theirs.texts_to_sequences(others.to_list())
    assert ours.counts[2] == max(theirs.word_counts.values())


def test_every_count_is_the_frequency_of_the_id_in_train(fitted):
    for texts in (random_texts(150, seed=1), pd.Series(TRAIN)):
        found = fitted(texts)
        assert np.bincount(found.ids(texts).values, minlength=len(found)).tolist() == found.counts.tolist()


def test_every_count_is_the_frequency_of_the_id_in_cleaned_reviews(fitted):
    raw = ["A good\u00a0film\x85", "good\u2003\u3000film \x1c", "It's&nbsp;good \u2764\ufe0f \u200b 10/10<br />"]
    cleaned = cleaning.clean(pd.Series(raw), stopwords=Stopwords("english", keep_negations=True))
    for view in ("text", "content"):
        found = fitted(cleaned[view])
        assert np.bincount(found.ids(cleaned[view]).values, minlength=len(found)).tolist() == found.counts.tolist()


FIT = """
import sys, pandas as pd
from sentiflow.data import vocabulary
sys.stdout.write(vocabulary.fit(pd.Series(sys.stdin.read().split("\\n")), minimum_count=2))
"""


def test_two_processes_with_other_hash_seeds_give_the_same_bytes(keras_text):
    texts = random_texts(100, seed=3)
    here = vocabulary.fit(texts, minimum_count=2)
    other_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    there = subprocess.run(
        [sys.executable, "-c", FIT],
        input="\n".join(texts).encode(),
        env=os.environ | {"PYTHONHASHSEED": other_seed},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert there.stdout == here.encode()


def test_the_same_texts_give_the_same_bytes_and_are_not_modified(keras_text):
    texts = random_texts(50, seed=4)
    before = texts.copy()
    assert vocabulary.fit(texts, minimum_count=1) == vocabulary.fit(texts, minimum_count=1)
    pd.testing.assert_series_equal(texts, before)


def test_the_vocabulary_of_the_stage_is_fitted_on_train_only(keras_text, tmp_path, monkeypatch):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    Path("splits").mkdir()
    Path("classes.json").write_text('["negative", "positive"]')
    for split in ("train", "valid", "test"):
        texts = [f"shared only{split} .", f"shared {split}'s", ""]
        table = {"row": [1, 2, 3], "text": texts, "content": texts, "label": ["positive", "negative", "positive"]}
        pd.DataFrame(table).to_parquet(f"splits/{split}.parquet")
    spec = importlib.util.spec_from_file_location("tokenize_stage", ROOT / "stages" / "tokenize.py")
    tokenize = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tokenize)
    tokenize.main(Path("splits"), Path("classes.json"), Path("tokens"), Path("report.json"))

    data = vocabulary.read_training_data(Path("tokens"), "text")
    assert set(data.vocabulary.words) == {"<pad>", "<unk>", "shared", "onlytrain", ".", "train's"}
    assert [data.vocabulary.decode(data.valid.ids[i]) for i in range(3)] == ["shared <unk> .", "shared <unk>", ""]
    test = vocabulary.read_tokens(Path("tokens/test.parquet"), "content")
    assert [data.vocabulary.decode(test.ids[i]) for i in range(3)] == ["shared <unk> .", "shared <unk>", ""]
    assert data.classes == ("negative", "positive")
    assert data.train.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(("valid", "has_warning"), [("a good film", False), ("another one altogether", True)])
def test_stage_warns_if_most_words_of_valid_are_out_of_vocabulary(keras_text, tmp_path, monkeypatch, caplog, valid, has_warning):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    Path("splits").mkdir()
    Path("classes.json").write_text('["negative", "positive"]')
    for split, text in {"train": "a good film", "valid": valid, "test": ""}.items():
        table = {"row": [1], "text": [text], "content": [""], "label": ["positive"]}
        pd.DataFrame(table).to_parquet(f"splits/{split}.parquet")
    with caplog.at_level("WARNING", logger="sentiflow"):
        importlib.import_module("stages.tokenize").main(*map(Path, ["splits", "classes.json", "tokens", "report.json"]))
    warnings = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert warnings == ["100% of the words in valid are not in the vocabulary of train"] * has_warning
    assert Vocabulary.read(Path("tokens/content.json")).words == ("<pad>", "<unk>")


# ids and decoding


def test_known_words_are_decoded_from_their_ids(fitted):
    texts = random_texts(60, seed=5)
    found = fitted(texts)
    ids = found.ids(texts)
    assert [found.decode(ids[i]) for i in range(len(ids))] == texts.to_list()


def test_an_unseen_word_is_unknown_and_padding_is_not_decoded(words):
    ids = words.ids(pd.Series(["good Good goods", "", "film"]))
    assert as_lists(ids) == [[2, 1, 1], [], [4]]
    assert words.decode([0, 0, 2, 1, 0]) == "good <unk>"


def test_ids_are_int32_and_offsets_start_at_0(words):
    ids = words.ids(pd.Series(["", "good film", ""]))
    assert (ids.values.dtype, ids.offsets.tolist()) == (np.int32, [0, 0, 2, 2])


@pytest.mark.parametrize("dtype", ["str", "object", "string"])
def test_any_dtype_and_index_gives_the_same_ids(words, dtype):
    texts = pd.Series(["good film", "old"], index=[9, 3], dtype=dtype)
    assert as_lists(words.ids(texts)) == [[2, 4], [7]]
    assert as_lists(words.ids(texts[1:])) == [[7]]


def test_a_column_of_several_arrow_chunks_has_ids(words):
    assert as_lists(words.ids(pd.concat([pd.Series(["good film"]), pd.Series(["old"])], ignore_index=True))) == [[2, 4], [7]]


def test_no_texts_give_no_ids(words):
    ids = words.ids(pd.Series([], dtype="str"))
    assert (len(ids), len(ids.values)) == (0, 0)


@pytest.mark.parametrize("few", [0, 10**9])
def test_few_and_many_tokens_have_the_same_ids(fitted, monkeypatch, few):
    train, others = random_texts(150, seed=1), random_texts(40, seed=2)
    found = fitted(train, minimum_count=2)
    at_hand = {word: i for i, word in enumerate(found.words)}
    monkeypatch.setattr(vocabulary, "FEW", few)
    for texts in (train, others, pd.Series(["", ""]), pd.Series([], dtype="str")):
        ids = found.ids(texts)
        assert as_lists(ids) == [[at_hand.get(word, 1) for word in text.split()] for text in texts]
        assert (ids.values.dtype, ids.offsets.dtype) == (np.int32, np.int64)


# sizes


def test_a_cut_maps_ids_from_the_size_on_to_unknown(words):
    ids = ragged([2, 3, 7, 1], [], [5, 4])
    cut = words.cut(ids, size=5, punctuation=True)
    assert as_lists(cut) == [[2, 3, 1, 1], [], [1, 4]]
    assert cut.values.dtype == np.int32
    assert as_lists(ids) == [[2, 3, 7, 1], [], [5, 4]]


def test_a_cut_without_punctuation_removes_only_marks(words):
    cut = words.cut(ragged([3, 2, 3], [6, 5], [3], [1, 6, 7]), size=8, punctuation=False)
    assert as_lists(cut) == [[2], [5], [], [1, 7]]


def test_an_emoji_is_a_word(fitted):
    emoji = ["\U0001f600", "\u2764", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "1\u20e3", "#\u20e3"]
    found = fitted([" ".join([*emoji, "!", "\u2122", "\u2192", "#"])])
    assert {word for word, is_word in zip(found.words[2:], found.is_word[2:], strict=True) if is_word} == set(emoji)


def test_a_mark_beyond_the_size_is_removed_and_not_unknown(words):
    assert as_lists(words.cut(ragged([2, 6, 7]), size=4, punctuation=False)) == [[2, 1]]


@pytest.mark.parametrize(
    ("at_most", "minimum_count", "size"),
    [(None, 1, 8), (None, 5, 5), (4, 1, 4), (100, 1, 8), (6, 5, 5), (3, 5, 3), (None, 100, 2)],
)
def test_the_size_is_the_minimum_of_the_limit_and_the_frequent_words(words, at_most, minimum_count, size):
    assert words.size(at_most=at_most, minimum_count=minimum_count) == size


def test_a_cut_equals_keras_with_num_words(keras_text, fitted):
    train, others = random_texts(150, seed=1), random_texts(40, seed=2)
    theirs = keras_text.Tokenizer(num_words=20, oov_token="<unk>", filters="", lower=False)
    theirs.fit_on_texts(train.to_list())
    ours = fitted(train)
    assert as_lists(ours.cut(ours.ids(others), size=20, punctuation=True)) == theirs.texts_to_sequences(others.to_list())


@pytest.mark.parametrize(("size", "rate"), [(8, 1 / 6), (5, 3 / 6), (3, 4 / 6), (2, 1.0)])
def test_the_unknown_rate_is_the_fraction_of_tokens_beyond_the_size(size, rate):
    assert vocabulary.unknown_rate(ragged([2, 2, 7], [], [1, 4, 5]), size) == pytest.approx(rate)


def test_the_unknown_rate_of_no_tokens_is_0():
    assert vocabulary.unknown_rate(ragged([], []), 5) == 0.0


def test_the_description_has_sizes_and_rates_of_every_split_and_is_json(words):
    described = vocabulary.describe(words, {"train": ragged([2, 3], [4]), "valid": ragged([1], [7])})
    assert json.loads(json.dumps(described)) == {
        "words": 6,
        "tokens": {"train": 3, "valid": 2},
        "unknown_rate": {"train": {"8": 0.0}, "valid": {"8": 0.5}},
        "most_frequent": [["good", 9], [".", 7], ["film", 5], ["10", 4], ["\u2026", 2], ["old", 1]],
    }


def test_the_description_gives_a_rate_for_each_usual_size_below_that_of_the_vocabulary():
    many = Vocabulary(("<pad>", "<unk>", *(f"w{i}" for i in range(6000))), np.array([0, 0, *range(6000, 0, -1)]))
    described = vocabulary.describe(many, {"train": ragged([2, 999, 1000, 5000, 6001])})
    assert described["unknown_rate"] == {"train": {"1000": 0.6, "5000": 0.4, "6002": 0.0}}
    assert len(described["most_frequent"]) == 30


# files


def keras_json(**config):
    usual = {"num_words": 3, "word_counts": '{"good": 2}', "word_index": '{"<unk>": 1, "good": 2}'}
    return json.dumps({"class_name": "Tokenizer", "config": usual | config})


def test_a_minimal_file_is_read(tmp_path):
    file = tmp_path / "text.json"
    file.write_text(keras_json())
    found = Vocabulary.read(file)
    assert (found.words, found.counts.tolist()) == (("<pad>", "<unk>", "good"), [0, 0, 2])


@pytest.mark.parametrize(
    "content",
    [
        *["", "words", "[]", "3", "null", "{}", '{"config": []}', '{"config": {}}', '["negative", "positive"]'],
        *[keras_json(word_counts="{"), keras_json(word_index={"good": 2}), keras_json(num_words="3"), keras_json(word_index="3")],
        pytest.param(keras_json(word_index='{"good": "two", "<unk>": 1}'), id="ids that are not numbers"),
        pytest.param(keras_json(word_index="[]"), id="a list of words"),
        pytest.param(keras_json(word_index="{}"), id="no words"),
        pytest.param(keras_json(word_index='{"good": 1}', num_words=2), id="fitted without <unk>, so that 1 is a word"),
        pytest.param(keras_json(word_index='{"<unk>": 1, "good": 3}', num_words=4), id="a gap among the ids"),
    ],
)
def test_any_other_file_is_an_error_that_says_how_to_create_it(tmp_path, content):
    file = tmp_path / "text.json"
    file.write_text(content)
    with pytest.raises(
        InputError, match=r"text\.json is not a tokenizer from Keras's Tokenizer\.to_json\(\).*dvc repro tokenize"
    ):
        Vocabulary.read(file)


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    file = tmp_path / "text.json"
    file.write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match=r"text\.json is not a tokenizer"):
        Vocabulary.read(file)


REVIEWS = [[2, 3, 1], [], [5], [], []]


@pytest.mark.parametrize("reviews", [REVIEWS, [[], []], [[7]], []], ids=["some empty", "all empty", "one", "none"])
def test_tokens_are_read_as_they_were_written(tmp_path, reviews):
    file = tmp_path / "valid.parquet"
    rows, labels = pd.Series(range(10, 10 + len(reviews))), pd.Series([i % 2 for i in range(len(reviews))])
    reversed_reviews = [review[::-1] for review in reviews]
    vocabulary.write_tokens(file, rows, labels, {"text": ragged(*reviews), "content": ragged(*reversed_reviews)})
    for view, expected in (("text", reviews), ("content", reversed_reviews)):
        read = vocabulary.read_tokens(file, view)
        assert as_lists(read.ids) == expected
        assert (read.rows.tolist(), read.labels.tolist()) == (rows.to_list(), labels.to_list())
        assert (read.ids.values.dtype, read.labels.dtype) == (np.int32, np.int64)
        assert len(read) == len(read.ids) == len(reviews)


def test_the_same_tokens_give_the_same_bytes(tmp_path):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file in files:
        vocabulary.write_tokens(file, pd.Series([1, 2]), pd.Series([0, 1]), {"text": ragged([2], [3, 4])})
    assert files[0].read_bytes() == files[1].read_bytes()


# ragged


def test_a_slice_of_an_arrow_column_is_read_from_its_start():
    lists = pa.array([[1, 2], [3], [], [4, 5]], pa.list_(pa.int32()))
    part = Ragged.from_arrow(lists.slice(1, 2))
    assert (part.values.tolist(), part.offsets.tolist()) == ([3], [0, 1, 1])
    assert Ragged.from_arrow(lists).to_arrow().to_pylist() == lists.to_pylist()


def test_the_owner_of_a_token_is_its_review():
    assert ragged([5, 6], [], [7]).owners.tolist() == [0, 0, 2]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    reviews=st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6),
    length=st.integers(1, 9),
    padding=st.sampled_from(["pre", "post"]),
    truncating=st.sampled_from(["pre", "post"]),
)
@example(reviews=[], length=3, padding="pre", truncating="pre")
@example(reviews=[[], [1, 2, 3, 4], []], length=3, padding="pre", truncating="post")
def test_padded_rows_equal_those_of_keras(keras_text, reviews, length, padding, truncating):
    from tensorflow.keras.preprocessing.sequence import pad_sequences

    theirs = pad_sequences(reviews, maxlen=length, padding=padding, truncating=truncating)
    ours = ragged(*reviews).padded(length, padding=padding, truncating=truncating)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tolist() == theirs.tolist()


def test_keeping_some_tokens_adjusts_the_offsets():
    kept = ragged([5, 6], [7], [], [8, 9]).keep(np.array([True, False, False, True, True]))
    assert as_lists(kept) == [[5], [], [], [8, 9]]


def test_labels_of_thousands_of_classes_are_read_as_they_were_written(tmp_path):
    file, labels = tmp_path / "train.parquet", pd.Series([0, 127, 128, 9_999])
    vocabulary.write_tokens(file, pd.Series(range(4)), labels, {"text": ragged([2], [3], [2], [3])})
    assert vocabulary.read_tokens(file, "text").labels.tolist() == labels.tolist()
