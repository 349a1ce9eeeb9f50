"""Latency and size of registered versions. Each version is measured once; its run keeps the numbers as metrics."""

import logging
import time
from collections.abc import Iterable, Sequence

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from tqdm import tqdm

from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import model_versions
from sentiflow.registry.store import run_of
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

LATENCY, SIZE = "usage/latency_ms", "usage/size_mb"  # metrics of a run
PERCENTILE = 95
ROUNDS = 3  # the fastest counts: other processes only add time
WARM_UP = 10  # predictions before the measurement
REVIEWS = 50  # timed for the table of models; a verdict times promotion.latency_reviews


def latency_ms(model: SentimentModel, texts: Sequence[str]) -> float:
    """95th percentile of the time from one raw text to its prediction, in milliseconds."""
    for text in texts[:WARM_UP]:
        model.predict([text])
    took = np.empty((ROUNDS, len(texts)))
    for turn, place in tqdm(np.ndindex(took.shape), total=took.size, desc="time reviews", disable=None, delay=2, leave=False):
        started = time.perf_counter()
        model.predict([texts[place]])
        took[turn, place] = 1000 * (time.perf_counter() - started)
    return float(np.percentile(took, PERCENTILE, axis=1).min())


def complete(client: MlflowClient, versions: Iterable[ModelVersion], texts: Sequence[str]) -> None:
    """Measures the versions whose runs have no latency yet."""
    for version in versions:
        run = run_of(version)
        if LATENCY in client.get_run(run).data.metrics:
            continue
        try:
            opened = model_versions.opened(client, version)
        except InputError as error:
            log.warning("latency not measured: %s", error)
            continue
        client.log_metric(run, LATENCY, latency_ms(opened.model, texts[:REVIEWS]))
        client.log_metric(run, SIZE, opened.size_mb)
