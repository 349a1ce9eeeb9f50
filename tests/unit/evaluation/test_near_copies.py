"""Pairs of near-copies across splits, and the accuracy without them."""

import itertools

import numpy as np
import pandas as pd
import pytest
import sources

from sentiflow.data.splits import SPLITS
from sentiflow.evaluation import near_copies, significance
from sentiflow.system.errors import InputError

WORDS = [f"word{i}" for i in range(200)]


def made_up_texts(seed=0, count=300):
    """Random texts of 30 to 60 words; every third is an earlier one with some words changed."""
    draw = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for i in range(count):
        words = draw.choice(WORDS, draw.integers(30, 60)).tolist()
        if i % 3 == 2:
            words = list(texts[draw.integers(0, i)])
            for place in draw.integers(0, len(words), draw.integers(1, 6)):
                words[place] = str(draw.choice(WORDS))
        texts.append(words)
    distinct = dict.fromkeys(" ".join(words) for words in texts)
    return pd.Series(list(distinct), dtype="str"), pd.Series(draw.choice(SPLITS, len(distinct)), dtype="str")


def by_definition(texts, split, similarity):
    """Every pair that is similar enough, by exhaustive comparison."""
    found = {}
    for one, other in itertools.combinations(texts.index, 2):
        if split[one] != split[other]:
            value = near_copies.jaccard(near_copies.shingles(texts[one]), near_copies.shingles(texts[other]))
            if value >= similarity:
                found[tuple(sorted((one, other), key=lambda key: SPLITS.index(split[key])))] = value
    return found


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
def test_pairs_equal_those_of_exhaustive_comparison(similarity):
    texts, split = made_up_texts()
    texts = pd.concat([texts, pd.Series(["a b c d a b c d a", "a b c d a b c d a b"])], ignore_index=True)  # the same shingles
    split = pd.concat([split, pd.Series(["test", "train"])], ignore_index=True)
    pairs = near_copies.find(texts, split, similarity)
    found = {(one, other): value for one, other, value in pairs.itertuples(index=False)}
    assert found == by_definition(texts, split, similarity)
    assert found
    assert pairs["similarity"].is_monotonic_decreasing


def test_pairs_are_reproducible():
    texts, split = made_up_texts(seed=1)
    pd.testing.assert_frame_equal(near_copies.find(texts, split, 0.6), near_copies.find(texts, split, 0.6))


@pytest.mark.parametrize("similarity", [0.1, 0.3, 0.5, 0.8, 0.9, 1.0])
def test_a_pair_at_the_threshold_is_missed_with_bounded_probability(similarity):
    bands, rows = near_copies.bands(similarity)
    assert bands * rows <= near_copies.PERMUTATIONS
    assert bands >= 2
    assert (1 - similarity**rows) ** bands <= near_copies.MISSED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("not a bad film", "a bad film not"),  # fewer words than a shingle: the words
        (
            "\u6211\u559c\u6b22\u8fd9\u90e8\u7535\u5f71" * 6 + "\u5f88\u597d",
            "\u6211\u559c\u6b22\u8fd9\u90e8\u7535\u5f71" * 6 + "\u4e0d\u597d",
        ),
    ],
)
def test_texts_of_few_words_are_compared_too(one, other):
    pairs = near_copies.find(pd.Series([one, other, "", "."]), pd.Series(["train", "test", "train", "test"]), 0.6)
    assert pairs[["one", "other"]].values.tolist() == [[0, 1]]


# the command


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Split reviews, some of test with a near-copy in train or valid."""
    monkeypatch.chdir(tmp_path)
    sources.settings("csv")
    base = {"train": "=2+3 " + " ".join(WORDS[:40]), "valid": " ".join(WORDS[50:90])}
    rows = {
        "train": [base["train"], *(f"train {i} " + " ".join(WORDS[i : i + 20]) for i in range(100, 110))],
        "valid": [base["valid"], *(f"valid {i} " + " ".join(WORDS[i : i + 20]) for i in range(130, 140))],
        "test": [base["train"] + " end", base["valid"] + " end", base["valid"] + " end", *(f"test {i}" for i in range(17))],
    }
    first = 0
    (tmp_path / "data/splits").mkdir(parents=True)
    for split, texts in rows.items():
        frame = pd.DataFrame({"row": range(first, first + len(texts)), "text": texts, "label": "positive"})
        frame.to_parquet(f"data/splits/{split}.parquet", index=False)
        first += len(texts)
    return tmp_path


def evaluate(folder, name, rows, right):
    (folder / f"data/predictions/{name}").mkdir(parents=True)
    answers = pd.DataFrame({"row": rows, "label": "positive", "predicted": np.where(right, "positive", "negative")})
    answers.sample(frac=1, random_state=1).to_parquet(folder / f"data/predictions/{name}/test.parquet", index=False)


def test_pairs_are_listed_and_test_accuracy_is_shown_without_them(project, capsys):
    evaluate(project, "lstm", range(22, 42), [True] * 3 + [True, False] * 8 + [False])
    evaluate(project, "nb_svm", range(10), [True] * 10)
    near_copies.report(similarity=0.8)
    shown = capsys.readouterr().out
    assert "pairs with a similarity of at least 0.8 among 41 distinct texts: 2" in shown
    assert "| train - test  | 1     | 1 " in shown
    assert "| accuracy | all 20 test reviews       | without 3 near-copies     |" in shown
    everything, others = (
        f"{hits / n:.4f} ({{:.4f}} to {{:.4f}})".format(*significance.wilson(hits, n, 0.95)) for hits, n in ((11, 20), (8, 17))
    )
    assert f"| lstm     | {everything} | {others} |" in shown
    assert "Evaluated on another test set, so not shown: nb_svm; run `sentiflow repro`." in shown
    table = pd.read_csv(project / "reports/near_copies.csv")
    assert table[["row", "split", "other_row", "other_split"]].values.tolist() == [
        [0, "train", 22, "test"],
        [11, "valid", 23, "test"],
    ]
    assert table["excerpt"][0].startswith("'=2+3 word0")  # not a formula


def test_missing_models_and_near_copies_are_reported(project, capsys):
    near_copies.report(similarity=1.0)
    shown = capsys.readouterr().out
    assert "distinct texts: 0" in shown
    assert "No model is evaluated yet" in shown
    assert len(pd.read_csv(project / "reports/near_copies.csv")) == 0


def test_missing_splits_are_an_error_with_advice(project):
    (project / "data/splits/valid.parquet").unlink()
    with pytest.raises(
        InputError, match=r"data/splits/valid\.parquet missing: the reviews are not split yet; run `sentiflow repro`"
    ):
        near_copies.report(similarity=0.8)


@pytest.mark.parametrize("similarity", [0.0, 1.5, float("nan")])
def test_an_invalid_similarity_is_refused(project, similarity):
    with pytest.raises(InputError, match=r"received --similarity .*; expected a number from 0\.1 to 1"):
        near_copies.report(similarity=similarity)
