import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from samples import FEELINGS, configuration, reviews
from scipy.special import logit

from sentiflow.config import params
from sentiflow.data import cleaning
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import explanation, networks, neural
from sentiflow.models.tf import keras, layers, ops
from sentiflow.system.errors import InputError

KINDS = ["attending", "lstm_attention", "lstm", "nb_svm"]
FEELING_WORDS = [word for words in FEELINGS.values() for word in words]


def tiny_configuration(name, classes, **changes):
    tiny = {"length": 40, "embedding": 4, "units": 5, "view": "text", "vocabulary_size": None, "minimum_count": 1}
    tiny |= {"padding": "pre", "truncating": "pre", "punctuation": True}
    return configuration(name, classes, **tiny | changes)


def attending(data, scores, values, *, bias=0.0, **changes):
    """A classifier whose attention and prediction are determined by `scores` and `values` of words, by default 0."""
    config = tiny_configuration("lstm_attention", data.classes, **changes)
    size = data.vocabulary.size(at_most=config.settings.vocabulary_size, minimum_count=config.settings.minimum_count)
    classes = len(data.classes)
    outputs = 1 if classes == 2 else classes

    def table(of_words, width):
        rows = np.zeros((size, width), np.float32)
        for word, value in of_words.items():
            if (place := data.vocabulary.words.index(word)) < size:
                rows[place] = value
        return rows

    ids = keras.Input((config.settings.length,), dtype="int32", name="ids")
    score = layers.Embedding(size, 1, name="score")
    value = layers.Embedding(size, outputs, name="value")
    is_word = ops.expand_dims(ops.not_equal(ids, 0), -1)
    attention = layers.Softmax(axis=1, name="attention")(score(ids), mask=is_word)
    summed = layers.Flatten()(layers.Dot(axes=1)([attention, value(ids)]))
    answer = layers.Activation("sigmoid" if classes == 2 else "softmax")(summed + bias)
    model = keras.Model(ids, answer)
    score.set_weights([table(scores, 1)])
    value.set_weights([table(values, outputs)])
    return neural.NeuralClassifier(config, data.vocabulary, model)


def feeling_model(data, **changes):
    """Attends to the words of a sentiment, and predicts by them."""
    classes = len(data.classes)
    pull = np.array([[-4.0], [4.0]]) if classes == 2 else 8 * np.eye(classes)
    values = {
        word: pull[place] for place, name in enumerate(data.classes) for word in FEELINGS[name] if word in data.vocabulary.words
    }
    return attending(data, dict.fromkeys(values, 4.0), values, **changes)


def model_of(kind, data, **changes):
    keras.utils.set_random_seed(3)
    if kind == "attending":
        return feeling_model(data, **changes)
    if kind == "nb_svm":
        p = params.load()
        model, _ = networks.module("nb_svm").fit(configuration("nb_svm", data.classes), data, options=p.train)
        return model
    return neural.NeuralClassifier.create(tiny_configuration(kind, data.classes, **changes), data.vocabulary)


@pytest.fixture(scope="module", params=[2, 3], ids=["two classes", "three classes"])
def data(request, two_classes, three_classes):
    return two_classes if request.param == 2 else three_classes


@pytest.fixture(scope="module", params=KINDS)
def model(request, data):
    return model_of(request.param, data)


def explain(model, *texts):
    return explanation.explain(model, texts, stopwords=Stopwords("english", keep_negations=True))


def explain_one(model, text):
    [explained] = explain(model, text)
    return explained


def answer(model, words):
    """Probability of each class for some words, as in evaluation."""
    return model.probabilities(model.vocabulary.ids(pd.Series([" ".join(words)], dtype="str")))[0]


def as_ragged(words, texts):
    return words.ids(pd.Series(texts, dtype="str"))


TEXTS = ["The film was GREAT, and <b>moving</b>!", "dull story . dull music . i think", "really"]


# words


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("punctuation", [True, False])
@pytest.mark.parametrize("length", [4, 9, 30])
def test_attention_is_assigned_to_the_words_that_the_model_read(two_classes, padding, truncating, punctuation, length):
    scores = {word: float(i) / 3 for i, word in enumerate(two_classes.vocabulary.words[2:])}
    model = attending(two_classes, scores, {}, padding=padding, truncating=truncating, punctuation=punctuation, length=length)
    tokens = ["the", "film", ",", "was", "great", ".", "and", ",", "the", "story", "unheard", "was", "moving", "."]
    read = [token for token in tokens if punctuation or token.isalpha()]
    kept = read[-length:] if truncating == "pre" else read[:length]
    strength = np.exp([scores.get(word, 0.0) for word in kept])

    explained = explain_one(model, " ".join(tokens))
    assert explained.method == "attention"
    assert list(explained.words) == kept
    assert explained.cut_off == len(read) - len(kept)
    np.testing.assert_allclose(explained.weights, strength / strength.sum(), rtol=1e-4)


@pytest.mark.parametrize("truncating", ["pre", "post"])
def test_a_word_left_out_is_not_replaced_by_a_truncated_one(two_classes, truncating):
    model = model_of("lstm", two_classes, length=4, truncating=truncating)
    tokens = ["great", "film", "and", "the", "story", "was", "dull"]
    kept = tokens[-4:] if truncating == "pre" else tokens[:4]
    explained = explain_one(model, " ".join(tokens))
    assert list(explained.words) == kept
    assert explained.cut_off == 3
    whole = answer(model, kept)
    without = [answer(model, kept[:place] + kept[place + 1 :])[whole.argmax()] for place in range(4)]
    np.testing.assert_allclose(explained.weights, logit(whole.max()) - logit(without), atol=1e-5)


def test_out_of_vocabulary_words_are_shown_as_written(model):
    explained = explain_one(model, "a Zyzzyva film \U0001f600")
    assert explained.words == ("a", "zyzzyva", "film", "\U0001f600")
    assert explained.known == (False, False, True, False)


def test_a_word_beyond_the_models_own_vocabulary_is_unknown(two_classes):
    last, first = two_classes.vocabulary.words[-1], two_classes.vocabulary.words[2]
    for kind in ("attending", "lstm"):
        model = model_of(kind, two_classes, vocabulary_size=5)
        assert explain_one(model, f"{first} {last}").known == (True, False)


def test_words_correspond_to_ids_in_any_text(two_classes):
    model = model_of("nb_svm", two_classes)
    odd = "It\u2019s\u00a0a\u2003film\x1c\x85\u2028\u200b\u202e caf\u00e9 e\u0301 \u4e2d\u6587 3\u00bd &amp; <3 \x00 "
    odd += "\U0001f468\u200d\U0001f469 n't''x"
    text = cleaning.clean(pd.Series([odd]), stopwords=Stopwords("english", keep_negations=True))["text"].iloc[0]
    explained = explain_one(model, odd)
    assert len(explained.words) == len(as_ragged(model.vocabulary, [text])[0]) > 10
    assert [word in model.vocabulary.words for word in explained.words] == list(explained.known)


@pytest.mark.parametrize("text", ["", " ", "<br/>"])
def test_a_text_without_a_word_has_a_prediction_and_no_weights(model, text):
    explained = explain_one(model, text)
    assert explained.words == explained.known == ()
    assert len(explained.weights) == explained.cut_off == 0
    assert explained.label in model.config.classes
    assert 1 / len(model.config.classes) - 1e-6 <= explained.probability <= 1


def test_leaving_out_words_of_a_long_text_is_limited(two_classes, monkeypatch):
    monkeypatch.setattr(explanation, "MOST_WORDS", 6)
    tokens = ["the", "film", "was", "really", "great", "and", "moving", "dull", "dull"]
    linear = explain_one(model_of("nb_svm", two_classes), " ".join(tokens))
    assert (list(linear.words), linear.cut_off) == (tokens[:6], 3)
    cut_by_limit = explain_one(model_of("lstm", two_classes), " ".join(tokens))
    assert (list(cut_by_limit.words), cut_by_limit.cut_off) == (tokens[-6:], 3)
    cut_by_length = explain_one(model_of("lstm", two_classes, length=2), " ".join(tokens))
    assert (list(cut_by_length.words), cut_by_length.cut_off) == (tokens[-2:], 7)
    attended = explain_one(model_of("attending", two_classes), " ".join(tokens))
    assert (list(attended.words), attended.cut_off) == (tokens, 0)


def test_view_and_stopwords_are_those_of_the_model(two_classes):
    model = model_of("lstm", two_classes, view="content")
    [kept] = explanation.explain(model, ["The film was not great!"], stopwords=Stopwords("english", keep_negations=True))
    [lost] = explanation.explain(model, ["The film was not great!"], stopwords=Stopwords("english", keep_negations=False))
    assert kept.words == ("film", "not", "great")
    assert lost.words == ("film", "great")


# weights


def test_only_a_model_with_an_attention_layer_has_attention(two_classes):
    found = {kind: explanation.has_attention(model_of(kind, two_classes)) for kind in KINDS}
    assert found == {"attending": True, "lstm_attention": True, "lstm": False, "nb_svm": False}


@pytest.mark.parametrize("kind", ["attending", "lstm_attention"])
def test_attention_is_at_least_0_and_sums_to_1(data, kind):
    for explained in explain(model_of(kind, data), *TEXTS):
        assert (explained.weights >= 0).all()
        assert explained.weights.sum() == pytest.approx(1)
        assert len(explained.weights) == len(explained.words) == len(explained.known)


@pytest.mark.parametrize("kind", ["lstm", "nb_svm"])
def test_the_weight_of_a_word_is_the_drop_in_log_odds_without_it(data, kind):
    model = model_of(kind, data)
    for explained in explain(model, *TEXTS):
        words = list(explained.words)
        whole = answer(model, words)
        without = [answer(model, words[:i] + words[i + 1 :])[whole.argmax()] for i in range(len(words))]
        expected = logit(float(whole.max())) - logit(np.array(without, np.float64))
        assert explained.method == "leave one out"
        np.testing.assert_allclose(explained.weights, expected, atol=1e-4)
        assert np.abs(explained.weights).max() > 1e-6


def test_the_prediction_is_that_of_the_evaluated_model(model):
    for text, explained in zip(TEXTS, explain(model, *TEXTS), strict=True):
        clean = cleaning.clean(pd.Series([text]), stopwords=Stopwords("english", keep_negations=True))["text"].iloc[0]
        expected = answer(model, clean.split())
        assert explained.label == model.config.classes[expected.argmax()]
        assert explained.probability == pytest.approx(expected.max(), abs=1e-6)


def test_the_explanation_of_a_text_does_not_depend_on_its_batch(model):
    together = explain(model, *TEXTS, "")
    for text, explained in zip([*TEXTS, ""], together, strict=True):
        alone = explain_one(model, text)
        assert (alone.words, alone.known, alone.label) == (explained.words, explained.known, explained.label)
        np.testing.assert_allclose(alone.weights, explained.weights, atol=1e-6)


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing either fails
import numpy as np
import pandas as pd
from sentiflow.config import params
from sentiflow.data.stopwords import Stopwords
from sentiflow.data.vocabulary import Tokens, TrainingData, Vocabulary
from sentiflow.models import explanation, networks, settings
from sentiflow.models.model_config import ModelConfig

words = Vocabulary(("<pad>", "<unk>", "good", "dull"), np.array([0, 0, 9, 9]))
part = Tokens(np.arange(8), np.array([1, 0] * 4), words.ids(pd.Series(["good", "dull"] * 4)))
data = TrainingData(part, part, ("negative", "positive"), words)
p = params.load()
config = ModelConfig("nb_svm", "nb_svm", settings.of(p, "nb_svm", "nb_svm"), data.classes)
model, _ = networks.module("nb_svm").fit(config, data, options=p.train)
[explained] = explanation.explain(model, ["good dull good"], stopwords=Stopwords("english", keep_negations=True))
print(len(explained.weights))
"""


# shades


def strengths(weights, method):
    weights = np.array(weights)
    words = ("word",) * len(weights)
    return explanation.Explanation(method, words, (True,) * len(words), weights, "positive", 0.9, 0).strengths


def test_uniform_attention_is_not_shaded():
    for count in (1, 7, 200):
        np.testing.assert_allclose(strengths(np.full(count, 1 / count), "attention"), 0, atol=1e-12)
    nearly = np.array([0.16, *[0.14] * 6])
    assert strengths(nearly, "attention").max() < 0.05
    np.testing.assert_allclose(strengths([0.7, *[0.05] * 6], "attention"), [1, *[0] * 6])
    np.testing.assert_allclose(strengths([0.3, *[0.1] * 7], "attention"), [1.4 / 3, *[0] * 7])


def test_the_shade_of_a_word_does_not_depend_on_other_words():
    assert strengths([0.5], "leave one out")[0] == strengths([0.5, -3.0], "leave one out")[0] == 0.25
    np.testing.assert_allclose(strengths([0.001, -0.002, 9, -9], "leave one out"), [0.0005, -0.001, 1, -1])


def test_explaining_a_linear_model_does_not_import_tensorflow():
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "3\n", ended.stderr


# deletion


OPTIONS = params.Explain(sentences=["x"], words_a_row=10, reviews=24, deleted=0.2, draws=3)


def check(model, texts, *, seed=7, confidence=0.95, **changes):
    options = OPTIONS.model_copy(update=changes)
    return explanation.deletion(model, as_ragged(model.vocabulary, texts), options, confidence=confidence, seed=seed)


@pytest.fixture(scope="module")
def some_texts(data):
    return reviews(40, classes=data.classes, seed=5)[0]


def test_attended_words_matter_if_they_determine_the_prediction(data, some_texts):
    found = check(feeling_model(data), some_texts)
    assert found["reviews"] == 24
    assert found["deleted"] == 0.2
    assert found["attended"]["drop"] > found["random"]["drop"]
    assert found["attended"]["flipped"] > found["random"]["flipped"] >= 0
    assert 0 < found["difference_low"] <= found["difference"] <= found["difference_high"]
    assert found["difference"] == pytest.approx(found["attended"]["drop"] - found["random"]["drop"])
    assert explanation.finding(found).startswith("attended words matter more than random ones")


def test_attended_words_that_change_nothing_do_not_matter(two_classes):
    texts = reviews(40)[0]
    found = check(
        attending(two_classes, {word: 4.0 for word in FEELING_WORDS if word in two_classes.vocabulary.words}, {}), texts
    )
    assert found["difference_low"] == found["difference"] == found["difference_high"] == 0
    assert found["attended"] == found["random"] == {"drop": 0, "flipped": 0}
    assert explanation.finding(found).startswith("no evidence that")


def test_attended_words_against_the_prediction_matter_less(two_classes):
    feelings = [word for word in FEELING_WORDS if word in two_classes.vocabulary.words]
    against = attending(two_classes, dict.fromkeys(feelings, 4.0), dict.fromkeys(feelings, -1.0), bias=2.0)
    found = check(against, reviews(40)[0])
    assert found["difference_high"] < 0
    assert found["attended"]["drop"] < 0
    assert explanation.finding(found).startswith("attended words matter less than random ones")


def test_the_drop_is_the_mean_of_that_of_each_review(data, some_texts):
    model = model_of("lstm_attention", data)
    falls, flips = [], []
    for explained in explain(model, *some_texts):
        words = np.array(explained.words)
        count = max(1, round(0.2 * len(words)))
        left = [word for i, word in enumerate(words) if i not in np.argsort(-explained.weights)[:count]]
        before, after = answer(model, words), answer(model, left)
        falls.append(before.max() - after[before.argmax()])
        flips.append(after.argmax() != before.argmax())
    found = check(model, some_texts, reviews=1000)
    assert found["reviews"] == len(some_texts)
    assert found["attended"]["drop"] == pytest.approx(np.mean(falls), abs=1e-5)
    assert found["attended"]["flipped"] == pytest.approx(np.mean(flips))


def test_at_least_one_word_of_a_short_review_is_deleted(two_classes):
    found = check(feeling_model(two_classes), ["great", "dull", "the great film"], deleted=0.01)
    assert found["reviews"] == 3
    assert found["attended"]["drop"] > 0.1


def test_the_seed_determines_the_reviews_of_the_deletion_check(two_classes):
    model, texts = model_of("lstm_attention", two_classes), reviews(60)[0]
    assert check(model, texts) == check(model, texts)
    assert check(model, texts, seed=8)["attended"] != check(model, texts)["attended"]


def test_every_model_is_checked_on_the_same_reviews(two_classes):
    texts = reviews(60)[0]
    one = check(feeling_model(two_classes), texts)
    blind = check(attending(two_classes, {}, {}, bias=1.0), texts)
    drawn = np.sort(np.random.default_rng(7).choice(60, 24, replace=False))
    assert one["attended"] == check(feeling_model(two_classes), texts[drawn], reviews=24)["attended"]
    assert blind["reviews"] == one["reviews"]


def test_reviews_without_words_are_skipped(two_classes):
    model, texts = feeling_model(two_classes, punctuation=False), list(reviews(6)[0])
    with_empty = check(model, [*texts, "", ". , .", ""])
    assert with_empty["reviews"] == 6
    assert with_empty["attended"] == pytest.approx(check(model, texts)["attended"])


def test_only_reviews_without_words_are_an_error(two_classes):
    model = feeling_model(two_classes, punctuation=False)
    with pytest.raises(InputError, match=r"no word of the 2 test reviews sampled.*explain\.reviews"):
        check(model, [". ,", ""])


def test_a_single_review_is_no_evidence(two_classes):
    found = check(feeling_model(two_classes), ["the great film and the story"])
    assert found["reviews"] == 1
    assert found["difference"] > 0
    assert (found["difference_low"], found["difference_high"]) == (-1, 1)
    assert explanation.finding(found).startswith("no evidence that")


def test_interval_of_a_mean_is_student_s_t():
    values = np.array([0.1, 0.3])
    half = 12.706 * 0.1  # the 97.5th percentile of t with one degree of freedom, times the standard error
    assert explanation._interval_of_mean(values, 0.95) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)


def test_the_deletion_check_does_not_depend_on_the_batch_size(two_classes, monkeypatch):
    model, texts = model_of("lstm_attention", two_classes), reviews(40)[0]
    whole = check(model, texts)
    monkeypatch.setattr(explanation, "CHUNK", 5)
    parts = check(model, texts)
    for key in ("attended", "random"):
        assert parts[key] == pytest.approx(whole[key], abs=1e-6)


# data and page


def made_up(architecture="lstm", sentence="Good film.", words=("good", "film", "."), **changes):
    weights = np.linspace(0.5, -0.25, len(words))
    explained = explanation.Explanation("leave one out", tuple(words), (True,) * len(words), weights, "positive", 0.75, 0)
    return explanation.as_data(architecture, sentence, explained) | changes


DELETION = {
    "architecture": "lstm_attention",
    "reviews": 1234,
    "deleted": 0.125,
    "attended": {"drop": 0.2, "flipped": 0.25},
    "random": {"drop": 0.05, "flipped": 0.01},
    "difference": 0.15,
    "difference_low": 0.1,
    "difference_high": 0.2,
}


def test_an_explanation_is_json_with_one_weight_per_word(model):
    for text, explained in zip(TEXTS, explain(model, *TEXTS), strict=True):
        found = explanation.as_data("name", text, explained)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert (found["architecture"], found["sentence"], found["label"]) == ("name", text, explained.label)
        assert len(found["words"]) == len(found["weights"]) == len(found["known"])
        np.testing.assert_allclose(found["weights"], explained.weights, atol=1e-6)


def test_the_page_shows_each_text_for_every_model_with_its_figures():
    made = [made_up(name, sentence) for name in ("nb_svm", "lstm") for sentence in ("Good film.", "Bad film.")]
    page = explanation.as_markdown(made, [])
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == ["Text 1", "Text 2", "Do attended words matter?"]
    assert re.findall(r"^> (.+)", page, re.MULTILINE) == ["Good film.", "Bad film."]
    assert re.findall(r"\((\w+\.png)\)", page) == ["nb_svm_1.png", "lstm_1.png", "nb_svm_2.png", "lstm_2.png"]
    assert page.count("| positive | 0.750 ") == 4
    assert page.endswith("\n")
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(line) for line in block.splitlines()}) == 1


def test_the_page_lists_words_by_absolute_weight():
    words = ("a", "bad", "zzz", "but", "fine", "film", "!")
    weights = [0.0, -0.5, 0.3, 0.01, 0.2, -0.05, 0.02]
    made = made_up(words=words, weights=weights, known=[word != "zzz" for word in words])
    assert "bad -0.500, [zzz] 0.300, fine 0.200, film -0.050, ! 0.020 |" in explanation.as_markdown([made], [])


def test_the_page_handles_a_text_without_words():
    page = explanation.as_markdown([made_up(words=(), sentence="...")], [])
    assert "| none that the model reads " in page


def test_the_page_escapes_texts():
    hostile = "<script>alert(1)</script> | a\n# b `c`"
    page = explanation.as_markdown([made_up(sentence=hostile, words=("<b>", "|", "`"), label="<i>|")], [])
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "\n# b" not in page
    [line] = [line for line in page.splitlines() if line.startswith("| lstm")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 6


def test_the_page_shows_the_deletion_check():
    page = explanation.as_markdown([made_up()], [DELETION])
    assert "- **lstm_attention**: attended words matter more than random ones: without the 12.5% of words" in page
    assert "| lstm_attention | 1,234   | 12.5%   | 0.2000         | 0.0500       | 0.1500 (0.1000 to 0.2000) |" in page
    assert "25.0%" in page
    without = explanation.as_markdown([made_up()], [])
    assert "No model of this run has attention" in without
    assert "flipped" not in without


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "attended words matter more than random ones"),
        (0.0, 0.2, "no evidence that attended words matter more than random ones"),
        (-0.1, 0.2, "no evidence that attended words matter more than random ones"),
        (-0.2, -0.1, "attended words matter less than random ones"),
    ],
)
def test_the_finding_follows_from_the_interval(low, high, verdict):
    found = explanation.finding(DELETION | {"difference_low": low, "difference_high": high})
    assert found.startswith(f"{verdict}: ")
    assert f"interval {low:.3f} to {high:.3f}" in found


def test_of_many_classes_the_ten_largest_have_an_example():
    counts = {f"class {place}": 2 + place % 7 for place in range(20)}
    labels = [name for name, count in counts.items() for _ in range(count)]
    texts = pd.Series([f"text of {name} number {row}" for row, name in enumerate(labels)])
    predictions = pd.DataFrame({"row": range(len(labels)), "label": labels, "predicted": labels})
    found = explanation.examples(texts, predictions, list(counts))
    of_classes = [re.search("class [0-9]+", text).group() for text in found]
    assert len(of_classes) == 10
    assert of_classes == sorted(of_classes, key=list(counts).index)
    assert min(counts[name] for name in of_classes) >= max(counts[name] for name in set(counts) - set(of_classes))
