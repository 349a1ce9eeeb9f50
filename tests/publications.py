"""Publications of tiny models, better and worse, and test reviews to evaluate them on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from samples import PARAMS, configuration, reviews, training_data

from sentiflow.config import params
from sentiflow.data import cleaning, seen_texts, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.evaluation import evaluation, metrics
from sentiflow.models import networks
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.models.training_record import Record
from sentiflow.registry import publishing
from sentiflow.registry.test_set import HeldOut
from sentiflow.system import environment

CLASSES = ("negative", "positive")
SCORES = dict.fromkeys(metrics.METRICS, 0.9) | {
    "accuracy_score_low": 0.88,
    "accuracy_score_high": 0.92,
    "log_loss": 0.3,
    "calibration_error": 0.02,
    "uncalibrated_error": 0.05,
}
HISTORY = pd.DataFrame({"epoch": [1, 2]} | {f"{s}_{name}": [0.6, 0.55] for s in ("train", "valid") for name in publishing.CURVES})


def train(folder):
    """A trained model, its tokens folder, raw texts, and the probabilities that the training code predicts for them."""
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
    """Raw texts as test reviews with alternating classes."""
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
    """Record of the texts that a version was trained on."""
    return pd.DataFrame({"hash": np.unique(seen_texts.hashes(texts))})


def publication(trained, folder, **changes):
    """A publication, with changed fields.

    Args:
        trained: result of `train`.
        folder: an empty folder.
    """
    model_dir, tokens_dir, raw, probabilities = trained
    reviews = held_out(raw)
    defaults = {
        "architecture": "nb_svm",
        "key": "a" * 64,
        "params": params.load(PARAMS).models["nb_svm"],
        "provenance": {"reviews": "1" * 32, "tokens": "2" * 32, "model": "3" * 32},
        "history": HISTORY,
        "record": Record([1.5, 1.25], [{"time": 1.5e9, "system/cpu_utilization_percentage": 50.0}]),
        "scores": dict.fromkeys(("train", "valid", "test"), SCORES),
        "weights": 12,
        "environment": environment.describe(gpus=[], threads=1),
        "artifacts": {"report": model_dir},
        "reviews": dict.fromkeys(("train", "valid", "test"), 80),
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
    """A copy of `trained` with the sign of a share of its weights inverted, and with its predictions."""
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
    """A publication of a small model of params.yaml, which is trained here.

    Args:
        folder: folder for the model and its vocabulary.
        key: a letter that identifies the publication.
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
        provenance={"reviews": "1" * 32, "tokens": "2" * 32, "model": "3" * 32},
        history=HISTORY,
        record=None,
        scores=dict.fromkeys(("train", "valid", "test"), SCORES),
        weights=1,
        environment=environment.describe(gpus=[], threads=1),
        artifacts={},
        reviews=dict.fromkeys(("train", "valid", "test"), 32),
        test_set="0" * 64,
        predictions_file=folder / "test.parquet",
        model_dir=model_dir,
        tokens_dir=tokens_dir,
        seen=seen(texts[:0]),
        stopwords=Stopwords("english", keep_negations=True),
        classes=CLASSES,
    )
