"""Which words an answer rests on: by the model's own attention, or by what changes when a word is left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logit
from tqdm import tqdm

from sentiflow.config.params import Explain
from sentiflow.data import cleaning
from sentiflow.data.stopwords import Stopwords
from sentiflow.data.vocabulary import PAD, UNKNOWN, Ragged, Vocabulary
from sentiflow.models import loading, model_config
from sentiflow.models.loading import Classifier
from sentiflow.system import markdown
from sentiflow.system.errors import InputError

if TYPE_CHECKING:
    from sentiflow.models.neural import NeuralClassifier

ATTENTION, LEAVE_ONE_OUT = "attention", "leave one out"
ATTENTION_LAYER = "attention"  # gives each word of a review its share; (B, T, 1)
MOST_WORDS = 1000  # of one text where each is left out in turn, which costs their square
CHUNK = 32  # reviews of the deletion check at once, so that memory does not grow with their number
SHOWN_WORDS = 5  # of an explanation in the page
EXAMPLE_WORDS = 30  # of a review that is shown as an example: enough to weigh, and a few rows of a heatmap
MOST_EXAMPLES = 10  # classes that have one
NEAREST = 1e-7  # a probability is kept this far from 0 and 1 before its log-odds are taken; float32 resolves no less
# What gets the strongest shade, the same for every text and model, so that shades can be compared:
STRONG_LOG_ODDS = 2.0  # a word that changes the odds by a factor of e^2 = 7.4
STRONG_SHARE = 4.0  # a word with four times an equal share of the attention


class Reader(Classifier, Protocol):
    """A classifier that says what it reads."""

    @property
    def vocabulary(self) -> Vocabulary: ...


@dataclass(frozen=True)
class Explanation:
    """The answer to one text, and what each word that was read weighs in it."""

    method: str  # attention | leave one out
    words: tuple[str, ...]  # as they stand in the cleaned text, T of them
    known: tuple[bool, ...]  # false where the classifier reads <unk>; T
    weights: np.ndarray  # shape (T,); attention: at least 0, sum 1; leave one out: fall of the log-odds of `label`, signed
    label: str
    probability: float  # of `label`
    cut_off: int  # words that were too many to be read

    @property
    def strengths(self) -> np.ndarray:
        """How strongly each word is shaded, in [-1, 1], shape (T,).

        0 is a word whose removal changes nothing, or one with an equal share of the attention or less: attention that is
        spread evenly says nothing of any word.
        """
        if self.method == ATTENTION:
            return np.clip((self.weights * len(self.weights) - 1) / (STRONG_SHARE - 1), 0, 1)
        return np.clip(self.weights / STRONG_LOG_ODDS, -1, 1)


@dataclass(frozen=True)
class _Text:
    words: tuple[str, ...]
    known: tuple[bool, ...]
    ids: np.ndarray  # int32, shape (T,)
    cut_off: int


def read(model_dir: Path, tokens_dir: Path) -> Reader:
    """A trained classifier with the vocabulary of the view that it reads."""
    view = model_config.read(model_dir).settings.view
    return cast(Reader, loading.load(model_dir, Vocabulary.read(tokens_dir / f"{view}.json")))


def has_attention(model: Reader) -> bool:
    """Whether a layer of the model says by itself how much each word counts."""
    network = getattr(model, "model", None)  # a linear classifier has none
    return network is not None and any(layer.name == ATTENTION_LAYER for layer in network.layers)


def explain(model: Reader, texts: Sequence[str], *, stopwords: Stopwords) -> list[Explanation]:
    """What each word of each raw text weighs in the model's answer to it.

    By attention where the model has it, otherwise by leaving out each word in turn, of MOST_WORDS at most; the answer is of
    the words that are weighed. A text of which the model reads no word has an answer and no weights.

    Args:
        texts: raw, at least one.
        stopwords: as when the model was trained.
    """
    views = cleaning.clean(pd.Series(list(texts), dtype="str"), stopwords=stopwords)
    readings = [_read_text(model, text) for text in views[model.config.settings.view]]
    if has_attention(model):
        ids = _ragged([reading.ids for reading in readings])
        method, answers, weights = ATTENTION, model.probabilities(ids), _attention(model)(ids)
    else:
        method, (answers, weights) = LEAVE_ONE_OUT, _leave_one_out(model, [reading.ids for reading in readings])
    return [
        Explanation(
            method,
            reading.words,
            reading.known,
            weight,
            model.config.classes[answer.argmax()],
            float(answer.max()),
            reading.cut_off,
        )
        for reading, answer, weight in zip(readings, answers, weights, strict=True)
    ]


def deletion(
    model: Reader, ids: Ragged, how: Explain, *, confidence: float, seed: int
) -> dict[str, int | float | dict[str, float]]:
    """Whether a model with attention misses the words that it attends to more than words drawn at random.

    Args:
        ids: the reviews that are drawn from; those of which the model reads no word do not count.
        how: `reviews` to draw, the fraction `deleted` of each one's words (at least one word), random `draws` a review.
        confidence: of Student's t interval of the mean difference over reviews.
        seed: the same seed draws the same reviews for every model.

    Returns:
        `reviews` and `deleted`; for `attended` and `random` the mean `drop` of P(answer) in [-1, 1] and the share `flipped`
        of answers that become others; `difference` of the two drops, positive where attended words matter more, with the
        ends of its interval (`difference_low`, `difference_high`).

    Raises:
        InputError: if the model reads no word of any review drawn.

    Source: DeYoung et al. (ACL 2020), comprehensiveness, against random words.
    """
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.choice(len(ids), min(how.reviews, len(ids)), replace=False))
    read = [ids[review][_places_read(model, ids[review])[0]] for review in drawn]
    reviews = [words for words in read if len(words)]
    if not reviews:
        raise InputError(
            f"the model reads no word of the {len(drawn)} test reviews drawn for the deletion check; "
            "raise explain.reviews in params.yaml, or check that the reviews hold text"
        )

    attention = _attention(model)
    drops, flips = [], []
    with tqdm(total=len(reviews), desc="leave out words", unit="review", disable=None, delay=2, leave=False) as bar:
        for start in range(0, len(reviews), CHUNK):
            chunk = reviews[start : start + CHUNK]
            variants: list[np.ndarray] = []
            for words, weights in zip(chunk, attention(_ragged(chunk)), strict=True):
                count = max(1, round(how.deleted * len(words)))
                attended = np.argsort(-weights, kind="stable")[:count]
                at_random = [generator.choice(len(words), count, replace=False) for _ in range(how.draws)]
                variants += [words, *(np.delete(words, places) for places in (attended, *at_random))]
            answers = model.probabilities(_ragged(variants)).reshape(len(chunk), 2 + how.draws, -1)  # (n, V, K)
            answered = answers[:, :1].argmax(axis=2)  # (n, 1)
            left = np.take_along_axis(answers, answered[:, :, None], axis=2)[:, :, 0]  # (n, V)
            drops.append(left[:, :1] - left[:, 1:])
            flips.append(answers[:, 1:].argmax(axis=2) != answered)
            bar.update(len(chunk))

    drop, flip = np.concatenate(drops), np.concatenate(flips)  # (n, 1 + draws), attended first
    difference = drop[:, 0] - drop[:, 1:].mean(axis=1)
    low, high = _interval_of_mean(difference, confidence)
    return {
        "reviews": len(reviews),
        "deleted": how.deleted,
        "attended": {"drop": float(drop[:, 0].mean()), "flipped": float(flip[:, 0].mean())},
        "random": {"drop": float(drop[:, 1:].mean()), "flipped": float(flip[:, 1:].mean())},
        "difference": float(difference.mean()),
        "difference_low": low,
        "difference_high": high,
    }


def finding(checked: Mapping[str, Any]) -> str:
    """What `deletion` found, in a sentence."""
    if checked["difference_low"] > 0:
        verdict = "attended words matter more than random ones"
    elif checked["difference_high"] < 0:
        verdict = "attended words matter less than random ones"
    else:
        verdict = "it does not show that attended words matter more than random ones"
    return (
        f"{verdict}: without the {100 * checked['deleted']:g}% of words that get most attention P(answer) falls by "
        f"{checked['attended']['drop']:.3f}, without as many random words by {checked['random']['drop']:.3f} "
        f"(difference {checked['difference']:.3f}, interval {checked['difference_low']:.3f} to {checked['difference_high']:.3f})"
    )


def examples(texts: pd.Series, predictions: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """For each class the correctly answered test review whose length is closest to EXAMPLE_WORDS.

    A class without a correct answer has one that is answered wrongly. Of more than MOST_EXAMPLES classes, those with most test
    reviews.

    Args:
        texts: raw, by row.
        predictions: of one model on test, as `evaluation.predictions` gives them.
    """
    distance = {row: abs(len(texts[row].split()) - EXAMPLE_WORDS) for row in predictions["row"]}
    counts = predictions["label"].value_counts().reindex(list(classes), fill_value=0)
    commonest = set(counts.sort_values(ascending=False, kind="stable").index[:MOST_EXAMPLES])
    chosen = []
    for name in (each for each in classes if each in commonest):
        of_class = predictions[predictions["label"] == name]
        right = of_class[of_class["predicted"] == name]
        rows = (of_class if right.empty else right)["row"]
        if len(rows):
            chosen.append(str(texts[min(rows, key=distance.__getitem__)]))
    return list(dict.fromkeys(chosen))  # a text may have two labels


def as_data(model: str, sentence: str, explained: Explanation) -> dict[str, Any]:
    """An explanation as JSON holds it, weights rounded to 6 digits."""
    return {
        "architecture": model,
        "method": explained.method,
        "sentence": sentence,
        "words": list(explained.words),
        "known": list(explained.known),
        "weights": [round(float(weight), 6) for weight in explained.weights],
        "strengths": [round(float(strength), 3) for strength in explained.strengths],
        "label": explained.label,
        "probability": round(explained.probability, 6),
        "cut_off": explained.cut_off,
    }


def as_markdown(explanations: Sequence[Mapping[str, Any]], deletions: Sequence[Mapping[str, Any]]) -> str:
    """The page: each text under every model with its figures NAME_1.png and so on, and the deletion check.

    Args:
        explanations: as `as_data` gives them, the texts of each model in the same order.
        deletions: as `deletion` gives them, each with its `architecture`.
    """
    lines = [
        "# Explanations",
        "",
        "Which words each model's answer depends on. **attention** is the share of the model's attention that each word gets; "
        "the shares add up to 1, and are shaded where they exceed an equal share. **leave one out**, for models without "
        "attention, is how much the log-odds of the answer fall when the word is removed; a negative weight means that they "
        "rise. Words in [brackets] are unknown to the model.",
    ]
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for explained in explanations:
        by_model.setdefault(explained["architecture"], []).append(explained)
    for number, of_sentence in enumerate(zip(*by_model.values(), strict=True), start=1):
        lines += ["", f"## Text {number}", "", f"> {markdown.cell(of_sentence[0]['sentence'])}", ""]
        rows = [
            [each["architecture"], markdown.cell(each["label"]), f"{each['probability']:.3f}", each["method"], _heaviest(each)]
            for each in of_sentence
        ]
        lines += markdown.markdown(["model", "answer", "P(answer)", "method", "words that weigh most"], rows)
        for each in of_sentence:
            name = each["architecture"]
            lines += ["", f"![weights of the words of text {number}, {name}]({name}_{number}.png)"]
    return "\n".join([*lines, "", "## Do attended words matter?", "", *_deletion_lines(deletions)]) + "\n"


def _deletion_lines(deletions: Sequence[Mapping[str, Any]]) -> list[str]:
    if not deletions:
        return ["No model of this run has attention, so there is nothing to check."]
    lines = [
        "If attention explains an answer, the answer must suffer more from leaving out the words that get most of it than from "
        "leaving out as many words at random. Tried on test reviews; the interval is Student's t interval of the mean difference "
        "of the two falls.",
        "",
    ]
    lines += [f"- **{each['architecture']}**: {finding(each)}." for each in deletions]
    header = ["model", "reviews", "left out", "fall, attended", "fall, random", "difference (interval)"]
    header += ["answers flipped, attended", "answers flipped, random"]
    rows = [
        [
            each["architecture"],
            f"{each['reviews']:,}",
            f"{100 * each['deleted']:g}%",
            f"{each['attended']['drop']:.4f}",
            f"{each['random']['drop']:.4f}",
            f"{each['difference']:.4f} ({each['difference_low']:.4f} to {each['difference_high']:.4f})",
            f"{each['attended']['flipped']:.1%}",
            f"{each['random']['flipped']:.1%}",
        ]
        for each in deletions
    ]
    return [*lines, "", *markdown.markdown(header, rows)]


def _heaviest(explained: Mapping[str, Any]) -> str:
    order = np.argsort(-np.abs(explained["weights"]), kind="stable")[:SHOWN_WORDS]
    words = [markdown.cell(explained["words"][i]) for i in order]
    marked = [word if explained["known"][i] else f"[{word}]" for word, i in zip(words, order, strict=True)]
    shown = [f"{word} {explained['weights'][i]:.3f}" for word, i in zip(marked, order, strict=True)]
    return ", ".join(shown) or "reads no word of it"


def _read_text(model: Reader, text: str) -> _Text:
    words, ids = text.split(), model.vocabulary.ids(pd.Series([text], dtype="str"))[0]
    places, cut_off = _places_read(model, ids)
    settings = model.config.settings
    size = model.vocabulary.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
    known = (ids[places] != UNKNOWN) & (ids[places] < size)
    return _Text(tuple(words[place] for place in places), tuple(known.tolist()), ids[places], cut_off)


def _places_read(model: Reader, ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Which tokens of a review are read, shape (T,), and how many more there are."""
    settings = model.config.settings
    places = np.arange(len(ids)) if settings.punctuation else np.flatnonzero(model.vocabulary.is_word[ids])
    length = settings.length if has_attention(model) else min(settings.length, MOST_WORDS)
    kept = places[-length:] if settings.truncating == "pre" else places[:length]
    return kept, len(places) - len(kept)


def _attention(model: Reader) -> Callable[[Ragged], list[np.ndarray]]:
    """Gives, for reviews cut to what the model reads, the share of attention of each word; they add up to 1."""
    from sentiflow.models.tf import keras, tf  # here, because a linear classifier must not wait for TensorFlow

    neural = cast("NeuralClassifier", model)
    network = keras.Model(neural.model.inputs, neural.model.get_layer(ATTENTION_LAYER).output)
    ids_of = tf.TensorSpec((None, neural.config.settings.length), tf.int32)
    attend = tf.function(lambda ids: network(ids, training=False), input_signature=[ids_of])

    def weigh(ids: Ragged) -> list[np.ndarray]:
        matrix = neural.matrix(ids)  # (n, T)
        raw = attend(matrix).numpy().reshape(matrix.shape).astype(np.float64)  # (n, T)
        of_words = [row[read != PAD] for row, read in zip(raw, matrix, strict=True)]
        return [weights / weights.sum() for weights in of_words]

    return weigh


def _leave_one_out(model: Reader, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The answer to each text, shape (n, K), and for each the fall of the log-odds of its answer without each word.

    Log-odds, because a probability near 1 hardly moves whichever word is removed.
    """
    variants = [variant for ids in texts for variant in (ids, *(np.delete(ids, place) for place in range(len(ids))))]
    probabilities = model.probabilities(_ragged(variants))
    answers, falls, start = [], [], 0
    for ids in texts:
        whole, *without = probabilities[start : start + len(ids) + 1]
        answers.append(whole)
        answered = np.array([each[whole.argmax()] for each in (whole, *without)])
        log_odds = logit(np.clip(answered.astype(np.float64), NEAREST, 1 - NEAREST))
        falls.append(log_odds[0] - log_odds[1:])
        start += len(ids) + 1
    return np.array(answers), falls


def _ragged(reviews: Sequence[np.ndarray]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum([len(words) for words in reviews])]).astype(np.int64)
    return Ragged(np.concatenate(reviews).astype(np.int32), offsets)


def _interval_of_mean(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Student's t interval. A bootstrap interval is too narrow for a handful of reviews, and has no width for a single one."""
    if len(values) == 1:
        return -1.0, 1.0  # every difference that is possible
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return float(values.mean()) - half, float(values.mean()) + half
