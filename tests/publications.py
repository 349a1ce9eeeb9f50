"""Publications of tiny models, better and worse, and the test reviews to judge them on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from samples import PARAMS, configuration, reviews, training_data

from sentiflow.config import params
from sentiflow.data import cleaning, seen_texts, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.evaluation import evaluation
from sentiflow.models import networks
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.models.training_record import Record
from sentiflow.registry import publishing
from sentiflow.registry.test_set import HeldOut
from sentiflow.system import environment

CLASSES = ("negative", "positive")
SCORES = {
    "accuracy_score": 0.9,
    "accuracy_score_low": 0.88,
    "accuracy_score_high": 0.92,
    "log_loss": 0.3,
    "calibration_error": 0.02,
    "uncalibrated_error": 0.05,
}
HISTORY = pd.DataFrame({"epoch": [1, 2], "train_log_loss": [0.7, 0.5], "valid_log_loss": [0.6, 0.55]})


def train(folder):
    """A model, the tokens folder it was trained on, and raw texts with the probabilities that the training path gives them."""
    texts, labels = reviews(80)
    raw = pd.Series([f"<b>{text.upper()}</b>!" for text in texts])
    views = cleaning.clean(raw, stopwords=Stopwords("english", keep_negations=True))
    tokens_dir, model_dir = folder / "tokens", folder / "nb_svm"
    tokens_dir.mkdir()
    model_dir.mkdir()
    (tokens_dir / "text.json").write_text(vocabulary.fit(views["text"], minimum_count=1))
    (tokens_dir / "classes.json").write_text(json.dumps(["negative", "positive"]))
    words = vocabulary.Vocabulary.read(tokens_dir / "text.json")
    for split in ("train", "valid", "test"):
        vocabulary.write_tokens(tokens_dir / f"{split}.parquet", pd.Series(raw.index), labels, {"text": words.ids(views["text"])})
    data = vocabulary.read_training_data(tokens_dir, "text")
    shipped = params.load(PARAMS)
    model, _ = networks.module("nb_svm").fit(configuration("nb_svm"), data, options=shipped.train)
    model.save(model_dir)
    (model_dir / "environment.json").write_text(json.dumps(environment.describe(gpus=[], threads=1)))
    return model_dir, tokens_dir, raw, model.probabilities(data.train.ids)


def held_out(raw):
    """The reviews of `trained` as test reviews; two classes in turn."""
    rows = pd.Index(range(len(raw)), name="row")
    labels = pd.Series([CLASSES[row % 2] for row in rows], index=rows)
    measures = pd.DataFrame({"length": 10, "negation": rows.to_numpy() % 3, "contrast": 0}, index=rows)
    return HeldOut(raw.set_axis(rows), labels, measures, CLASSES)


def predictions_file(folder, raw, probabilities):
    labels = np.arange(len(raw)) % 2
    file = folder / "test.parquet"
    evaluation.predictions(np.arange(len(raw)), labels, probabilities, CLASSES).to_parquet(file, index=False)
    return file


def seen(texts):
    """What a version that was trained on these texts records of them."""
    return pd.DataFrame({"hash": np.unique(seen_texts.hashes(texts))})


def publication(trained, folder, **changes):
    """What `register` publishes; fields by name may differ.

    Args:
        trained: the fixture.
        folder: an empty one of the caller's.
    """
    model_dir, tokens_dir, raw, probabilities = trained
    reviews = held_out(raw)
    splits = [publishing.Split(name, f"data/tokens/{name}.parquet", "0" * 32, 80) for name in ("train", "valid", "test")]
    defaults = {
        "architecture": "nb_svm",
        "key": "a" * 64,
        "params": params.load(PARAMS).models["nb_svm"],
        "tags": {"dvc.tokens": "0" * 32},
        "history": HISTORY,
        "record": Record([1.5, 1.25], [{"time": 1.5e9, "system/cpu_utilization_percentage": 50.0}]),
        "scores": dict.fromkeys(("train", "valid", "test"), SCORES),
        "temperature": 1.0,
        "weights": 12,
        "environment": environment.describe(gpus=[], threads=1),
        "artifacts": {"report": model_dir},
        "splits": splits,
        "test_set": reviews.digest,
        "predictions_file": predictions_file(folder, raw, probabilities),
        "model_dir": model_dir,
        "tokens_dir": tokens_dir,
        "seen": seen(raw[:0]),
        "stopwords": Stopwords("english", keep_negations=True),
        "classes": CLASSES,
    }
    return publishing.Publication(**(defaults | changes))


def worse(trained, folder, *, share):
    """The same model as `trained`, with a share of its weights turned round, so that it answers worse; with its answers."""
    model_dir, tokens_dir, raw, _ = trained
    changed = Path(shutil.copytree(model_dir, folder / "nb_svm"))
    with np.load(changed / "weights.npz", allow_pickle=False) as saved:
        arrays = dict(saved)
    turned = np.random.default_rng(1).random(arrays["weights"].shape) < share
    arrays["weights"] = np.where(turned, -arrays["weights"], arrays["weights"])
    np.savez(changed / "weights.npz", allow_pickle=False, **arrays)
    bundle = folder / "bundle"
    (bundle / "model").parent.mkdir(parents=True)
    shutil.copytree(changed, bundle / "model")
    shutil.copyfile(tokens_dir / "text.json", bundle / "vocabulary.json")
    (bundle / "cleaning.json").write_text(json.dumps({"keep_negations": True, "view": "text"}))
    answers = SentimentModel.load(bundle).predict(raw.tolist())
    return changed, tokens_dir, raw, answers[["p_negative", "p_positive"]].to_numpy()


def fitted(folder, name, key):
    """What `register` publishes of a small model of params.yaml, fitted here.

    Args:
        folder: that the model and its words are written to.
        key: a letter of its own.
    """
    texts, _ = reviews(128)
    data = training_data()
    model_dir, tokens_dir = folder / "models" / key[0] / name, folder / "data/tokens"
    model_dir.mkdir(parents=True)
    tokens_dir.mkdir(parents=True, exist_ok=True)
    (tokens_dir / "text.json").write_text(vocabulary.fit(texts[:96], minimum_count=1))
    shipped = params.load(PARAMS)
    model, _ = networks.module(name).fit(configuration(name), data, options=shipped.train)
    model.save(model_dir)
    (model_dir / "environment.json").write_text(json.dumps(environment.describe(gpus=[], threads=1)))
    pd.DataFrame({"row": [0], "label": [0]}).to_parquet(folder / "test.parquet")
    return publishing.Publication(
        architecture=name,
        key=key * 64,
        params={},
        tags={},
        history=pd.DataFrame({"epoch": [1], "valid_log_loss": [0.6]}),
        record=None,
        scores=dict.fromkeys(("train", "valid", "test"), SCORES),
        temperature=1.0,
        weights=1,
        environment=environment.describe(gpus=[], threads=1),
        artifacts={},
        splits=[publishing.Split(split, "reviews.parquet", "0" * 32, 32) for split in ("train", "valid", "test")],
        test_set="0" * 64,
        predictions_file=folder / "test.parquet",
        model_dir=model_dir,
        tokens_dir=tokens_dir,
        seen=seen(texts[:0]),
        stopwords=Stopwords("english", keep_negations=True),
        classes=CLASSES,
    )
