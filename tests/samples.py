"""Small reviews that a model can learn, training data and configurations of models, and predictions."""

import random
from pathlib import Path

import numpy as np
import pandas as pd

from sentiflow.config import params
from sentiflow.data import vocabulary
from sentiflow.models import settings
from sentiflow.models.model_config import ModelConfig

PARAMS = Path(__file__).parents[1] / "params.yaml"

FEELINGS = {
    "negative": ["awful", "boring", "dull", "poor", "waste"],
    "positive": ["great", "moving", "funny", "superb", "loved"],
    "neutral": ["average", "plain", "usual", "normal", "fair"],
}
FILLER = ["the", "film", "was", "really", "and", "i", "think", "that", "story", ",", "actor", "scene", ".", "with", "music"]


def reviews(count, *, classes=("negative", "positive"), seed=1):
    """Texts of 3 to 30 tokens, each with a word of its class, and the class indices."""
    draw = random.Random(seed)
    labels = [i % len(classes) for i in range(count)]
    texts = []
    for label in labels:
        words = draw.choices(FILLER, k=draw.randint(2, 29))
        words.insert(draw.randrange(len(words)), draw.choice(FEELINGS[classes[label]]))
        texts.append(" ".join(words))
    return pd.Series(texts), pd.Series(labels)


def training_data(*, classes=("negative", "positive"), train=96, valid=32):
    """Training data as the stages make them from `reviews`."""
    texts, labels = reviews(train + valid, classes=classes)
    words = vocabulary.Vocabulary.from_json(vocabulary.fit(texts[:train], minimum_count=1))
    rows = pd.Series(range(train + valid)).to_numpy()

    def part(some):
        return vocabulary.Tokens(rows[some], labels[some].to_numpy(), words.ids(texts[some]))

    return vocabulary.TrainingData(part(slice(0, train)), part(slice(train, None)), tuple(classes), words)


def configuration(name, classes=("negative", "positive"), **changes):
    """Configuration of a model in params.yaml, with changed settings. Settings that it does not have are ignored."""
    p = params.load(PARAMS)
    shipped = settings.of(p, name, p.networks[name])
    known = {key: value for key, value in changes.items() if key in type(shipped).model_fields}
    return ModelConfig(name, p.networks[name], shipped.model_copy(update=known), tuple(classes))


def answers(count, classes, *, seed):
    """Random labels, and predicted probabilities that are mostly correct."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    probabilities = 0.7 * draw.dirichlet(np.ones(classes), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities
