import json

import numpy as np
import pandas as pd
import pytest

from sentiflow.data.stopwords import Stopwords
from sentiflow.models import sentiment_model
from sentiflow.system.errors import InputError


@pytest.fixture
def served(trained, tmp_path):
    model_dir, tokens_dir, _, _ = trained
    sentiment_model.bundle(
        tmp_path / "bundle", model_dir=model_dir, tokens_dir=tokens_dir, stopwords=Stopwords("english", keep_negations=True)
    )
    return sentiment_model.SentimentModel.load(tmp_path / "bundle")


def test_raw_text_is_predicted_as_in_training(trained, served):
    _, _, raw, expected = trained
    answer = served.predict(raw.tolist())
    np.testing.assert_allclose(answer[["p_negative", "p_positive"]], expected, atol=1e-12)
    assert (answer["label"] == np.where(expected[:, 1] > 0.5, "positive", "negative")).all()


def test_prediction_of_a_text_does_not_depend_on_its_batch(trained, served):
    raw = trained[2].tolist()
    alone = served.predict(raw[:1])
    together = served.predict(raw[:5])
    pd.testing.assert_frame_equal(alone, together.head(1))


def test_empty_and_unusual_texts_are_predicted(served):
    answer = served.predict(["", "<br />", "\U0001f600", "x" * 100_000, "zzz qqq"])
    assert np.isfinite(answer[["p_negative", "p_positive"]].to_numpy()).all()
    assert served.predict([]).shape == (0, 3)


def test_bundle_contains_no_pickle(trained, tmp_path):
    model_dir, tokens_dir, _, _ = trained
    sentiment_model.bundle(
        tmp_path / "bundle", model_dir=model_dir, tokens_dir=tokens_dir, stopwords=Stopwords("english", keep_negations=True)
    )
    files = sorted(str(file.relative_to(tmp_path / "bundle")) for file in (tmp_path / "bundle").rglob("*") if file.is_file())
    assert files == [
        "cleaning.json",
        "model/config.json",
        "model/environment.json",
        "model/weights.npz",
        "probe.json",
        "vocabulary.json",
    ]
    with np.load(tmp_path / "bundle/model/weights.npz", allow_pickle=False) as weights:
        assert all(weights[name].dtype.kind in "if" for name in weights.files)


def test_model_with_other_predictions_than_when_registered_is_refused(trained, served, tmp_path):
    served.prove(tmp_path / "bundle")
    probe = tmp_path / "bundle/probe.json"
    values = json.loads(probe.read_text())
    values["probabilities"][0] = [0.5, 0.5]
    probe.write_text(json.dumps(values))
    with pytest.raises(InputError, match="probabilities differ from those when it was registered"):
        served.prove(tmp_path / "bundle")


def test_bundle_stores_the_language_of_its_stopwords_and_older_ones_are_english(trained, tmp_path):
    model_dir, tokens_dir, _, _ = trained
    german = Stopwords("german", keep_negations=False)
    sentiment_model.bundle(tmp_path / "bundle", model_dir=model_dir, tokens_dir=tokens_dir, stopwords=german)
    assert sentiment_model.SentimentModel.load(tmp_path / "bundle").stopwords == german
    file = tmp_path / "bundle/cleaning.json"
    values = json.loads(file.read_text())
    assert values.pop("language") == "german"
    file.write_text(json.dumps(values))
    assert sentiment_model.SentimentModel.load(tmp_path / "bundle").stopwords == Stopwords("english", keep_negations=False)
