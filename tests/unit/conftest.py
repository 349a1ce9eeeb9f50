import json

import pandas as pd
import pytest
from samples import reviews, training_data

from sentiflow import architectures, cleaning, environment, params, vocabulary


@pytest.fixture(scope="session")
def two_classes():
    return training_data()


@pytest.fixture(scope="session")
def three_classes():
    return training_data(classes=("negative", "neutral", "positive"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A model, the tokens folder it was trained on, and raw texts with the probabilities that the training path gives them."""
    folder = tmp_path_factory.mktemp("trained")
    texts, labels = reviews(80)
    raw = pd.Series([f"<b>{text.upper()}</b>!" for text in texts])
    views = cleaning.clean(raw, keep_negations=True)
    tokens_dir, model_dir = folder / "tokens", folder / "nb_svm"
    tokens_dir.mkdir()
    model_dir.mkdir()
    (tokens_dir / "text.json").write_text(vocabulary.fit(views["text"], minimum_count=1))
    (tokens_dir / "classes.json").write_text(json.dumps(["negative", "positive"]))
    words = vocabulary.Vocabulary.read(tokens_dir / "text.json")
    for split in ("train", "valid"):
        vocabulary.write_tokens(tokens_dir / f"{split}.parquet", pd.Series(raw.index), labels, {"text": words.ids(views["text"])})
    data = vocabulary.read_training_data(tokens_dir, "text")
    shipped = params.load()
    model, _ = architectures.module("nb_svm").fit(shipped.architectures["nb_svm"], data, how=shipped.train)
    model.save(model_dir)
    (model_dir / "environment.json").write_text(json.dumps(environment.describe(gpus=[], threads=1)))
    return model_dir, tokens_dir, raw, model.probabilities(data.train.ids)
