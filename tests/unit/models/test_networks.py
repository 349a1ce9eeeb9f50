"""One contract for every model of params.yaml, and so for every network: a new one is tested by being registered."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from samples import PARAMS, configuration

from sentiflow.config import params
from sentiflow.config.model_settings import NeuralSettings
from sentiflow.data import vocabulary
from sentiflow.models import loading, networks, training
from sentiflow.models.networks._ngrams import NGrams
from sentiflow.models.neural import NeuralClassifier
from sentiflow.models.tf import keras, tf
from sentiflow.system.errors import InputError

TINY = {
    "length": 20,
    "embedding": 4,
    "units": 5,
    "second_units": 3,
    "hidden": 6,
    "heads": 2,
    "filters": 6,
    "window": 3,
    "windows": [2, 3],
    "pool": 2,
    "buckets": 50,
    "batch": 16,
    "epochs": 2,
}
OPTIONS = params.Train(keep_best="f1_score", patience=5, seed=None, class_weights=None, threads=1)
MODELS = params.load(PARAMS).networks
NEURAL = [name for name, network in MODELS.items() if issubclass(networks.settings_class(network), NeuralSettings)]

every_model = pytest.mark.parametrize("name", MODELS)
every_neural_model = pytest.mark.parametrize("name", NEURAL)
two_and_three_classes = pytest.mark.parametrize("data", ["two_classes", "three_classes"])


def tiny(name, classes=("negative", "positive"), **changes):
    """A tiny model; what params.yaml disables, such as a second layer, is disabled here too."""
    shipped = configuration(name).settings.model_dump()
    return configuration(name, classes, **{key: value for key, value in TINY.items() if shipped.get(key)} | changes)


def fit(name, data, backups, *, options=OPTIONS):
    """The fitted model and its history."""
    config = tiny(name, data.classes)
    if name in NEURAL:
        return training.fit(config, data, options=options, seed=7, backups=backups)[:2]
    return networks.module(config.network).fit(config, data, options=options)


def weights_of(model):
    return model.model.get_weights() if isinstance(model, NeuralClassifier) else [model.weights, model.bias]


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, request):
    """Each model, fitted once on each data set."""
    known = {}

    def get(name, data):
        if (name, data) not in known:
            known[name, data] = fit(name, request.getfixturevalue(data), tmp_path_factory.mktemp("backups"))
        return known[name, data]

    return get


@every_model
@two_and_three_classes
def test_one_row_of_probabilities_per_review(name, data, fitted, request):
    model, _ = fitted(name, data)
    tokens = request.getfixturevalue(data).valid
    probabilities = model.probabilities(tokens.ids)
    assert probabilities.shape == (len(tokens), len(model.config.classes))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


@every_model
@two_and_three_classes
def test_a_loaded_model_predicts_the_same(name, data, fitted, tmp_path, request):
    model, _ = fitted(name, data)
    known = request.getfixturevalue(data)
    model.save(tmp_path)
    loaded = loading.load(tmp_path, known.vocabulary)
    np.testing.assert_array_equal(loaded.probabilities(known.valid.ids), model.probabilities(known.valid.ids))
    assert loaded.config.classes == known.classes


@every_model
def test_same_seed_gives_the_same_weights_and_history(name, fitted, two_classes, tmp_path):
    # Their files have the same bytes only if both processes built the same number of layers before, which Keras counts.
    one, history = fitted(name, "two_classes")
    other, other_history = fit(name, two_classes, tmp_path)
    assert len(weights_of(one)) == len(weights_of(other)) > 1
    for weight, other_weight in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(weight, other_weight)
    pd.testing.assert_frame_equal(history, other_history, check_exact=True)


@every_model
def test_reviews_without_words_or_of_unknown_words_are_predicted(name, fitted, two_classes):
    model, _ = fitted(name, "two_classes")
    ids = vocabulary.Ragged(np.ones(3, np.int32), np.array([0, 0, 3]))
    probabilities = model.probabilities(ids)
    assert np.isfinite(probabilities).all()
    assert probabilities.shape == (2, 2)
    assert model.probabilities(vocabulary.Ragged(np.empty(0, np.int32), np.zeros(1, np.int64))).shape == (0, 2)


@every_model
def test_history_has_every_score_of_train_and_valid(name, fitted):
    _, history = fitted(name, "two_classes")
    scores = ("log_loss", "accuracy_score", "precision_score", "recall_score", "f1_score")
    assert list(history["epoch"]) == list(range(1, len(history) + 1))
    for split in ("train", "valid"):
        for score in scores:
            assert history[f"{split}_{score}"].notna().all()


@every_model
@two_and_three_classes
def test_layers_account_for_all_weights(name, data, fitted):
    model, _ = fitted(name, data)
    layers = model.layers()
    assert all(set(layer) == {"name", "kind", "output", "weights"} for layer in layers)
    assert len({layer["name"] for layer in layers}) == len(layers)
    weights = model.model.count_params() if name in NEURAL else model.weights.size + model.bias.size
    assert sum(layer["weights"] for layer in layers) == weights


@pytest.mark.parametrize(("name", "weights"), [("stacked_rnn", 197_185), ("stacked_lstm", 293_953)])
def test_number_of_weights_is_that_of_the_recipe(name, weights):
    words = ("<pad>", "<unk>", *(f"word{i}" for i in range(6000)))
    known = vocabulary.Vocabulary(words, np.full(len(words), 9))
    model = NeuralClassifier.create(configuration(name), known)
    assert model.model.count_params() == weights


@pytest.mark.parametrize("name", ["logistic", "nb_svm", "lstm"])  # the neural ones are all fitted by the same function
def test_class_weights_increase_the_probability_of_a_rare_class(name, two_classes, tmp_path):
    rows = np.flatnonzero((two_classes.train.labels == 0) | (np.arange(len(two_classes.train)) % 8 == 1))
    offsets = np.concatenate([[0], np.cumsum(np.diff(two_classes.train.ids.offsets)[rows])])
    values = np.concatenate([two_classes.train.ids[row] for row in rows])
    few = vocabulary.Tokens(rows, two_classes.train.labels[rows], vocabulary.Ragged(values, offsets))
    data = replace(two_classes, train=few)
    assert few.labels.mean() < 0.25
    probability = {}
    for weights in (None, "balanced"):
        model, _ = fit(name, data, tmp_path, options=OPTIONS.model_copy(update={"class_weights": weights}))
        probability[weights] = model.probabilities(data.valid.ids)[:, 1].mean()
    assert probability["balanced"] > probability[None]


@every_neural_model
@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")], ids=len)
def test_settings_compute_the_number_of_weights_and_the_widest_layer(name, classes):
    words = vocabulary.Vocabulary(("<pad>", "<unk>", *(f"w{i}" for i in range(50))), np.full(52, 9))
    config = tiny(name, classes)
    model = NeuralClassifier.create(config, words).model
    size = words.size(at_most=config.settings.vocabulary_size, minimum_count=config.settings.minimum_count)
    assert config.settings.weights(vocabulary_size=size, classes=len(classes)) == model.count_params()
    assert config.settings.widest() >= max(math.prod(layer.output.shape[1:]) for layer in model.layers)


@every_neural_model
@pytest.mark.parametrize("classes", [2, 3])
def test_gradients_reach_every_weight(name, classes, two_classes, three_classes):
    data = two_classes if classes == 2 else three_classes
    keras.utils.set_random_seed(3)
    model = NeuralClassifier.create(tiny(name, data.classes), data.vocabulary)
    matrix = model.matrix(data.train.ids)
    with tf.GradientTape() as tape:
        answers = model.model(matrix, training=False)
        loss = tf.reduce_mean(tf.square(answers - 0.3))
    for weight, gradient in zip(
        model.model.trainable_weights, tape.gradient(loss, [w.value for w in model.model.trainable_weights]), strict=True
    ):
        assert gradient is not None, weight.path
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, weight.path


@every_neural_model
def test_every_layer_with_weights_is_named(name, two_classes):
    model = NeuralClassifier.create(tiny(name), two_classes.vocabulary).model
    for layer in model.layers:
        if layer.weights:
            assert not layer.name.startswith(type(layer).__name__.lower()), layer.name


def test_input_follows_the_settings(two_classes):
    config = tiny("cnn_lstm", vocabulary_size=6, length=4, padding="post", truncating="post")
    model = NeuralClassifier.create(config, two_classes.vocabulary)
    comma = two_classes.vocabulary.words.index(",")
    ids = vocabulary.Ragged(np.array([2, comma, 3, 9, 4, 5, 2], np.int32), np.array([0, 6, 7]))
    assert model.matrix(ids).tolist() == [[2, 3, 1, 4], [2, 0, 0, 0]]


def test_naive_bayes_weights_favour_the_class_that_contains_the_word(fitted, two_classes):
    model, _ = fitted("nb_svm", "two_classes")
    grams = model.ngrams.of_length[0]
    weight = dict(zip(grams.tolist(), model.weights[0, : len(grams)], strict=True))
    words = two_classes.vocabulary.words
    assert weight[words.index("superb")] > 0 > weight[words.index("awful")]


def counted_by_hand(reviews, known):
    """`known`: n-grams by length."""
    runs = [Counter(tuple(review[i : i + n]) for n in (1, 2, 3) for i in range(len(review) - n + 1)) for review in reviews]
    return [[found[run] for of_length in known for run in of_length] for found in runs]


@pytest.mark.parametrize("seed", range(20))
def test_counts_of_ngrams_equal_a_naive_implementation(seed):
    draw = np.random.default_rng(seed)
    reviews = [draw.integers(1, 5, draw.integers(0, 12)).tolist() for _ in range(draw.integers(1, 6))]
    known = [sorted({tuple(run) for run in draw.integers(1, 5, (n * 4, n)).tolist()}) for n in (1, 2, 3)]
    grams = tuple(np.array([int("".join(map(str, run))) for run in of_length]) for of_length in known)
    ids = vocabulary.Ragged(np.array([i for review in reviews for i in review], np.int32), np.cumsum([0, *map(len, reviews)]))
    counts = NGrams(grams, base=10).counts(ids)
    assert counts.toarray().tolist() == counted_by_hand(reviews, known)
    assert counts.dtype == np.float32
    assert counts.has_canonical_format  # each n-gram once, in order, so that the order of summation is fixed


def test_unknown_network_is_an_error_that_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unknown network 'lstn'; expected one of logistic, nb_svm"):
        networks.module("lstn")


def test_weights_of_another_shape_are_refused(fitted, two_classes, three_classes, tmp_path):
    fitted("lstm", "two_classes")[0].save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"classes": ["a", "b", "c"]}))
    with pytest.raises(InputError, match="weights of another shape"):
        loading.load(tmp_path, two_classes.vocabulary)
