import shutil

import numpy as np
import pandas as pd
import pytest
from publications import predictions_file
from samples import configuration

from sentiflow.config.model_settings import WholeTextSettings
from sentiflow.data import vocabulary
from sentiflow.data.vocabulary import Ragged, Tokens, Vocabulary
from sentiflow.registry import drift_baseline
from sentiflow.registry.drift_baseline import Reference
from sentiflow.system.errors import InputError

WORDS = Vocabulary(("<pad>", "<unk>", "good", ".", "film"), np.array([0, 0, 9, 7, 5]))
WHOLE = WholeTextSettings(view="text", vocabulary_size=None, minimum_count=1)
WITHOUT_MARKS = configuration("lstm", view="text", vocabulary_size=None, minimum_count=1, punctuation=False).settings


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """Inputs of a reference; test has the reviews of train."""
    model_dir, tokens_dir, raw, probabilities = trained
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(tokens_dir, folder / "tokens")
    shutil.copy(tokens_dir / "train.parquet", folder / "tokens/test.parquet")
    return model_dir, folder / "tokens", predictions_file(folder, raw, probabilities)


def tokens_of(*reviews):
    values = np.concatenate([np.array(review, np.int32) for review in reviews])
    offsets = np.cumsum([0, *map(len, reviews)])
    return Tokens(np.arange(len(reviews)) + 10, np.zeros(len(reviews), np.int64), Ragged(values, offsets))


@pytest.mark.parametrize(
    ("settings", "unknown"),
    [
        (WHOLE, [0.0, 1 / 3]),
        (WHOLE.model_copy(update={"vocabulary_size": 4}), [1 / 3, 2 / 3]),
        (WITHOUT_MARKS, [0.0, 1 / 3]),
    ],
)
def test_length_counts_words_and_unknown_is_the_fraction_of_unknown_words(settings, unknown):
    found = drift_baseline.measures(tokens_of([2, 3, 4], [1, 4, 2]), WORDS, settings)
    assert found["length"].tolist() == [2, 3]
    assert found.index.tolist() == [10, 11]
    np.testing.assert_allclose(found["unknown"], unknown)


def test_empty_review_has_length_0_and_no_unknown_words():
    assert drift_baseline.measures(tokens_of([], [2]), WORDS, WHOLE).iloc[0].tolist() == [0, 0]


def test_reference_has_lengths_and_labels_of_train_and_all_measures_of_test(made, trained):
    found = Reference.of_model(*made)
    assert found.classes == ["negative", "positive"]
    assert found.train["label"].value_counts().to_dict() == {"negative": 40, "positive": 40}
    assert found.train[["unknown", "p_negative", "p_positive"]].isna().all(axis=None)
    tokens = vocabulary.read_tokens(made[1] / "train.parquet", "text")
    words = Vocabulary.read(made[1] / "text.json")
    said = [words.decode(tokens.ids[review]).split() for review in range(len(tokens))]
    assert found.train["length"].tolist() == [sum(word[0].isalnum() for word in review) for review in said]
    np.testing.assert_allclose(found.test[["p_negative", "p_positive"]], trained[3], atol=1e-6)


def test_reference_is_deterministic_and_survives_a_round_trip(made, tmp_path):
    for name in "ab":
        Reference.of_model(*made).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    pd.testing.assert_frame_equal(Reference.read(tmp_path / "a").table, Reference.of_model(*made).table)


def test_predictions_on_other_reviews_are_refused(made, tmp_path):
    pd.read_parquet(made[2])[:-1].to_parquet(tmp_path / "fewer.parquet", index=False)
    with pytest.raises(InputError, match=r"\(79\) and test \(80\) are of different reviews.*dvc repro evaluate"):
        Reference.of_model(*made[:2], tmp_path / "fewer.parquet")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda table: table.drop(columns="length"), "not a table of train and test"),
        (lambda table: table.drop(columns=["p_positive"]), "not a table of train and test"),
        (lambda table: table[table["split"] == "train"], "not a table of train and test"),
        (lambda table: table.assign(p_positive=np.nan), "missing or not numbers"),
        (lambda table: table.assign(unknown=np.inf), "missing or not numbers"),
        (lambda table: table.assign(length="long"), "missing or not numbers"),
    ],
)
def test_invalid_table_is_refused(made, tmp_path, damage, said):
    damage(Reference.of_model(*made).table).to_parquet(tmp_path / "reference.parquet", index=False)
    with pytest.raises(InputError, match=said):
        Reference.read(tmp_path / "reference.parquet")


def test_truncated_file_is_refused(made, tmp_path):
    file = tmp_path / "reference.parquet"
    Reference.of_model(*made).write(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="cut off"):
        Reference.read(file)
