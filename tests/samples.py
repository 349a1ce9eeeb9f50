"""Small reviews that a model can learn, all that stands between them and a trained model, and answers to score."""

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
    """Texts of 3 to 30 tokens, each with a word of its class, and the index of that class."""
    draw = random.Random(seed)
    labels = [i % len(classes) for i in range(count)]
    texts = []
    for label in labels:
        words = draw.choices(FILLER, k=draw.randint(2, 29))
        words.insert(draw.randrange(len(words)), draw.choice(FEELINGS[classes[label]]))
        texts.append(" ".join(words))
    return pd.Series(texts), pd.Series(labels)


def training_data(*, classes=("negative", "positive"), train=96, valid=32):
    """The same as the stages would make of `reviews`."""
    texts, labels = reviews(train + valid, classes=classes)
    words = vocabulary.Vocabulary.from_json(vocabulary.fit(texts[:train], minimum_count=1))
    rows = pd.Series(range(train + valid)).to_numpy()

    def part(some):
        return vocabulary.Tokens(rows[some], labels[some].to_numpy(), words.ids(texts[some]))

    return vocabulary.TrainingData(part(slice(0, train)), part(slice(train, None)), tuple(classes), words)


def configuration(name, classes=("negative", "positive"), **changes):
    """A model as params.yaml has it; settings by name may differ, where it has them."""
    p = params.load(PARAMS)
    shipped = settings.of(p, name, p.networks[name])
    known = {key: value for key, value in changes.items() if key in type(shipped).model_fields}
    return ModelConfig(name, p.networks[name], shipped.model_copy(update=known), tuple(classes))


def answers(count, classes, *, seed):
    """Labels, and probabilities that are right more often than not."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    probabilities = 0.7 * draw.dirichlet(np.ones(classes), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities
