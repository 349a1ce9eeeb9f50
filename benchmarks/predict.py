"""Throughput of predictions from raw text, compared with the same weights in MLflow's pyfunc with Keras's `predict`.

Also the latency of one review, by step. Reads the outputs of `sentiflow repro`.

python benchmarks/predict.py [--model NAME]...
"""

import html
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import mlflow
import numpy as np
import pandas as pd
import typer
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema

from sentiflow.data import cleaning
from sentiflow.data.stopwords import Stopwords
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import loading, sentiment_model, settings
from sentiflow.models.neural import PREDICTION_BATCH, NeuralClassifier
from sentiflow.registry import registered_model
from sentiflow.system import artifacts, stage
from sentiflow.system.errors import InputError

MODELS = ["nb_svm", "ngram_mean", "lstm_tuned"]  # the best linear one, a cheap network, a recurrent one of 200 words
WARM_UP = 50  # reviews
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
CLOSE = 1e-5  # largest difference between two equal probabilities


class Stock(PythonModel):
    """The same weights without this project's code: Python's `re`, Keras's Tokenizer, Keras's `predict`."""

    MARKUP = re.compile(r"<[A-Za-z/!][^<>]*>")
    URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
    APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u0060\u00b4]")
    LETTER, NUMBER = r"[^\W\d_\u00b2\u00b3\u00b9\u00bc-\u00be]", r"[\d\u00b2\u00b3\u00b9\u00bc-\u00be]"
    TOKEN = re.compile(rf"{LETTER}+(?:'{LETTER}+)*|{NUMBER}+|[^\w\s\x00-\x1f\x7f-\x9f]|_")

    def load_context(self, context: PythonModelContext) -> None:
        from tensorflow.keras.preprocessing.text import tokenizer_from_json

        folder = Path(context.artifacts["bundle"])
        cleaning_settings = artifacts.read_json(folder / "cleaning.json")
        words = Vocabulary.read(folder / "vocabulary.json")
        trained = loading.load(folder / "model", words)
        self.model, self.settings = trained.model, trained.config.settings
        self.stopwords = Stopwords(cleaning_settings["language"], cleaning_settings["keep_negations"]).words()
        self.tokenizer = tokenizer_from_json((folder / "vocabulary.json").read_text(encoding="utf-8"))
        self.tokenizer.num_words = words.size(at_most=self.settings.vocabulary_size, minimum_count=self.settings.minimum_count)

    def clean(self, text: str) -> str:
        text = self.MARKUP.sub(" ", html.unescape(text))
        text = self.APOSTROPHES.sub("'", self.URL.sub(" ", text)).lower()
        tokens = self.TOKEN.findall(text)
        if self.settings.view == "content":
            tokens = [token for token in tokens if token[0].isalpha() and token not in self.stopwords]
            tokens = [token for token in (token.replace("'", "") for token in tokens) if token not in self.stopwords]
        elif not self.settings.punctuation:
            tokens = [token for token in tokens if token[0].isalnum()]
        return " ".join(tokens)

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        from tensorflow.keras.preprocessing.sequence import pad_sequences

        texts = [self.clean(text) for text in model_input["text"]]
        padded = pad_sequences(
            self.tokenizer.texts_to_sequences(texts),
            maxlen=self.settings.length,
            padding=self.settings.padding,
            truncating=self.settings.truncating,
        )
        return np.asarray(self.model.predict(padded, verbose=0))  # a progress bar takes time


def served(code: str, bundle: Path, folder: Path, example: pd.DataFrame) -> Any:
    """A model after saving and loading with MLflow."""
    mlflow.pyfunc.save_model(
        folder,
        python_model=code,
        artifacts={"bundle": str(bundle)},
        input_example=example,
        signature=ModelSignature(Schema([ColSpec("string", "text")])),
        pip_requirements=[],
    )
    return mlflow.pyfunc.load_model(str(folder))


def seconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def compare_bulk(bundle: Path, temperature: float, table: pd.DataFrame, rounds: int, scratch: Path) -> None:
    """Prints reviews per second of both sides, which alternate so that other load affects both."""
    sides = {
        "ours": served(registered_model.__file__, bundle, scratch / "ours", table[:1]),
        "stock": served(__file__, bundle, scratch / "stock", table[:1]),
    }
    predictions = {name: side.predict(table) for name, side in sides.items()}  # compiles
    ours, stock = predictions["ours"].filter(like="p_").to_numpy(), predictions["stock"]
    stock = calibration.scaled(np.hstack([1 - stock, stock]) if stock.shape[1] == 1 else stock, temperature)
    difference = np.abs(ours - stock).max(axis=1)  # (n,)

    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(seconds(lambda side=side: side.predict(table)))
    rate = {name: len(table) / float(np.median(each)) for name, each in taken.items()}
    print(
        f"  {len(table)} reviews per call: ours {rate['ours']:.0f} per second, stock {rate['stock']:.0f}, "
        f"ratio {rate['ours'] / rate['stock']:.2f}"
    )
    agree = int((difference <= CLOSE).sum())
    print(f"    {agree} of {len(table)} predictions agree to {CLOSE:g}; the largest difference is {difference.max():.1g}")


def time_bulk(model: sentiment_model.SentimentModel, texts: list[str], rounds: int) -> None:
    model.predict(texts)
    taken = [seconds(lambda: model.predict(texts)) for _ in range(rounds)]
    print(
        f"  {len(texts)} reviews per call: {len(texts) / float(np.median(taken)):.0f} per second; no Keras model to compare with"
    )


def time_one(model: sentiment_model.SentimentModel, texts: list[str]) -> None:
    """Prints the latency of one review, and the share of each step."""
    for text in texts[:WARM_UP]:
        model.predict([text])
    whole = [seconds(lambda text=text: model.predict([text])) for text in texts[WARM_UP:]]
    parts = [parts_of(model, [text]) for text in texts[WARM_UP:]]
    p50, p99 = np.percentile(whole, [50, 99])
    print(f"  one review: p50 {1000 * p50:.2f} ms, p99 {1000 * p99:.2f} ms over {len(whole)} calls")
    print(f"    {shares(parts)}")


def shares(calls: list[dict[str, float]]) -> str:
    """The share of each step in the median time, largest first; `calls` are results of `parts_of`."""
    medians = pd.DataFrame(calls).median().sort_values(ascending=False)
    return "limited by " + ", ".join(f"{part} {share:.0%}" for part, share in (medians / medians.sum()).items())


def parts_of(model: sentiment_model.SentimentModel, texts: list[str]) -> dict[str, float]:
    """Seconds of each step of one prediction."""
    started = time.perf_counter()
    view = model.classifier.config.settings.view
    views = cleaning.clean(pd.Series(texts, dtype="str"), stopwords=model.stopwords, views=[view])
    cleaned = time.perf_counter()
    ids = model.classifier.vocabulary.ids(views[view])
    parts = {"clean": cleaned - started, "ids": time.perf_counter() - cleaned}
    trained = model.classifier
    if not isinstance(trained, NeuralClassifier):
        return parts | {"n-grams and their weights": seconds(lambda: trained.probabilities(ids))}
    started = time.perf_counter()
    matrix = trained.matrix(ids)
    parts["matrix"] = time.perf_counter() - started
    return parts | {"forward": seconds(lambda: trained.probabilities_of_matrix(matrix, batch=PREDICTION_BATCH))}


def main(
    model: Annotated[list[str], typer.Option(help="Name of a trained model; may be repeated.")] = MODELS,
    reviews: Annotated[int, typer.Option(min=1, help="Reviews per call, and number of single calls.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of each side; the median is printed.")] = 5,
) -> None:
    drawn = artifacts.read_table(Path("data/reviews/reviews.parquet"), ["text"]).to_pandas()
    if len(drawn) <= WARM_UP:
        raise InputError(
            f"data/reviews/reviews.parquet has {len(drawn)} reviews; expected more than {WARM_UP}; "
            "raise download.sample in params.yaml and run: sentiflow repro"
        )
    drawn = drawn.sample(min(reviews + WARM_UP, len(drawn)), random_state=1)
    texts = drawn["text"].tolist()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    how = settings.load().clean
    print(f"on {len(os.sched_getaffinity(0))} cores")
    for name in model:
        print(name)
        with tempfile.TemporaryDirectory() as made:
            scratch = Path(made)
            sentiment_model.bundle(
                scratch / "bundle",
                model_dir=Path("models") / name,
                tokens_dir=Path("data/tokens"),
                stopwords=Stopwords(how.language, how.keep_negations),
            )
            loaded = sentiment_model.SentimentModel.load(scratch / "bundle")
            if isinstance(loaded.classifier, NeuralClassifier):
                compare_bulk(scratch / "bundle", loaded.classifier.config.temperature, drawn[:reviews], rounds, scratch)
            else:
                time_bulk(loaded, texts[:reviews], rounds)
            print(f"    {shares([parts_of(loaded, texts[:reviews]) for _ in range(rounds)])}")
            time_one(loaded, texts)


if __name__ == "__main__":
    stage.run(main)
else:  # MLflow imports this file to load `Stock`
    mlflow.models.set_model(Stock())
