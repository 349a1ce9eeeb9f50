"""How much each word contributes to a prediction: by the model's attention, or by leaving out one word at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
ATTENTION_LAYER = "attention"  # its output is the attention weight of each word; (B, T, 1)
MOST_WORDS = 1000  # per text for leaving one out, whose cost is quadratic
CHUNK = 32  # reviews of the deletion check per batch, to bound memory
SHOWN_WORDS = 5  # of an explanation, in the page
EXAMPLE_WORDS = 30  # preferred length of an example: a few rows of a heatmap
MOST_EXAMPLES = 10  # classes with an example
NEAREST = 1e-7  # probabilities are clipped to this distance from 0 and 1 before taking log-odds; the resolution of float32
# Weights of the strongest shade, the same for every text and model, so that shades can be compared:
STRONG_LOG_ODDS = 2.0  # a word that changes the odds by a factor of e^2 = 7.4
STRONG_SHARE = 4.0  # a word with four times an equal share of the attention


@dataclass(frozen=True)
class Explanation:
    """The prediction for one text, and the weight of each word that the model reads."""

    method: str  # attention | leave one out
    words: tuple[str, ...]  # of the cleaned text, T of them
    known: tuple[bool, ...]  # false for out-of-vocabulary words; T
    weights: np.ndarray  # shape (T,); attention: at least 0, sum 1; leave one out: drop in the log-odds of `label`, signed
    label: str
    probability: float  # of `label`
    cut_off: int  # words truncated

    @property
    def strengths(self) -> np.ndarray:
        """Strength of each word's shade, in [-1, 1], shape (T,).

        0 for a word whose removal changes nothing, or with an equal share of the attention or less.
        """
        if self.method == ATTENTION:
            return np.clip((self.weights * len(self.weights) - 1) / (STRONG_SHARE - 1), 0, 1)
        return np.clip(self.weights / STRONG_LOG_ODDS, -1, 1)


def read(model_dir: Path, tokens_dir: Path) -> Classifier:
    """A trained classifier with the vocabulary of its view."""
    view = model_config.read(model_dir).settings.view
    return loading.load(model_dir, Vocabulary.read(tokens_dir / f"{view}.json"))


def has_attention(model: Classifier) -> bool:
    """Whether the model has an attention layer."""
    network = getattr(model, "model", None)  # a linear classifier has none
    return network is not None and any(layer.name == ATTENTION_LAYER for layer in network.layers)


def explain(model: Classifier, texts: Sequence[str], *, stopwords: Stopwords) -> list[Explanation]:
    """The prediction for each raw text and the weight of each of its words.

    The weights are attention if the model has it, otherwise found by leaving out one word at a time. The prediction is for the
    words that are weighed, at most MOST_WORDS without attention. A text of which the model reads no word has no weights.

    Args:
        stopwords: the same as in training.
    """
    settings = model.config.settings
    cleaned = cleaning.clean(pd.Series(list(texts), dtype="str"), stopwords=stopwords, views=[settings.view])[settings.view]
    all_ids = model.vocabulary.ids(cleaned)
    read_by_model = [_places_read(model, all_ids[i]) for i in range(len(all_ids))]
    ids = [all_ids[i][places] for i, (places, _) in enumerate(read_by_model)]
    if has_attention(model):
        method, answers, weights = ATTENTION, model.probabilities(_ragged(ids)), _attention(model)(_ragged(ids))
    else:
        method, (answers, weights) = LEAVE_ONE_OUT, _leave_one_out(model, ids)
    size = model.vocabulary.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
    return [
        Explanation(
            method,
            words=tuple(np.array(text.split(), dtype=object)[places]),
            known=tuple(((each != UNKNOWN) & (each < size)).tolist()),
            weights=weight,
            label=model.config.classes[answer.argmax()],
            probability=float(answer.max()),
            cut_off=cut_off,
        )
        for text, (places, cut_off), each, answer, weight in zip(cleaned, read_by_model, ids, answers, weights, strict=True)
    ]


def deletion(
    model: Classifier, ids: Ragged, options: Explain, *, confidence: float, seed: int
) -> dict[str, int | float | dict[str, float]]:
    """Whether deleting the words with most attention changes predictions more than deleting random words.

    Args:
        ids: reviews to sample from; those of which the model reads no word are skipped.
        options: number of `reviews`, fraction `deleted` of each one's words (at least one word), random `draws` per review.
        confidence: of Student's t interval of the mean difference over reviews.
        seed: the same seed samples the same reviews for every model.

    Returns:
        `reviews` and `deleted`; for `attended` and `random` the mean `drop` of P(predicted class) in [-1, 1] and the share of
        predictions `flipped`; `difference` of the two drops, positive if attended words matter more, with the ends of its
        interval (`difference_low`, `difference_high`).

    Raises:
        InputError: if the model reads no word of any review in the sample.

    Source: DeYoung et al. (ACL 2020), comprehensiveness, against random words.
    """
    generator = np.random.default_rng(seed)
    sample = np.sort(generator.choice(len(ids), min(options.reviews, len(ids)), replace=False))
    read = [ids[review][_places_read(model, ids[review])[0]] for review in sample]
    reviews = [words for words in read if len(words)]
    if not reviews:
        raise InputError(
            f"the model reads no word of the {len(sample)} test reviews sampled for the deletion check; "
            "increase explain.reviews in params.yaml, or check that the reviews contain text"
        )

    attention = _attention(model)
    drops, flips = [], []
    with tqdm(total=len(reviews), desc="leave out words", unit="review", disable=None, delay=2, leave=False) as bar:
        for start in range(0, len(reviews), CHUNK):
            chunk = reviews[start : start + CHUNK]
            variants: list[np.ndarray] = []
            for words, weights in zip(chunk, attention(_ragged(chunk)), strict=True):
                count = max(1, round(options.deleted * len(words)))
                attended = np.argsort(-weights, kind="stable")[:count]
                at_random = [generator.choice(len(words), count, replace=False) for _ in range(options.draws)]
                variants += [words, *(np.delete(words, places) for places in (attended, *at_random))]
            answers = model.probabilities(_ragged(variants)).reshape(len(chunk), 2 + options.draws, -1)  # (n, V, K)
            predicted = answers[:, :1].argmax(axis=2)  # (n, 1)
            left = np.take_along_axis(answers, predicted[:, :, None], axis=2)[:, :, 0]  # (n, V)
            drops.append(left[:, :1] - left[:, 1:])
            flips.append(answers[:, 1:].argmax(axis=2) != predicted)
            bar.update(len(chunk))

    drop, flip = np.concatenate(drops), np.concatenate(flips)  # (n, 1 + draws), attended first
    difference = drop[:, 0] - drop[:, 1:].mean(axis=1)
    low, high = _interval_of_mean(difference, confidence)
    return {
        "reviews": len(reviews),
        "deleted": options.deleted,
        "attended": {"drop": float(drop[:, 0].mean()), "flipped": float(flip[:, 0].mean())},
        "random": {"drop": float(drop[:, 1:].mean()), "flipped": float(flip[:, 1:].mean())},
        "difference": float(difference.mean()),
        "difference_low": low,
        "difference_high": high,
    }


def finding(check: Mapping[str, Any]) -> str:
    """The result of `deletion` in one sentence."""
    if check["difference_low"] > 0:
        verdict = "attended words matter more than random ones"
    elif check["difference_high"] < 0:
        verdict = "attended words matter less than random ones"
    else:
        verdict = "no evidence that attended words matter more than random ones"
    return (
        f"{verdict}: without the {100 * check['deleted']:g}% of words with most attention P(answer) drops by "
        f"{check['attended']['drop']:.3f}, without as many random words by {check['random']['drop']:.3f} "
        f"(difference {check['difference']:.3f}, interval {check['difference_low']:.3f} to {check['difference_high']:.3f})"
    )


def examples(texts: pd.Series, predictions: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """For each class the correctly predicted test review whose length is closest to EXAMPLE_WORDS.

    A class without a correct prediction gets a wrongly predicted one. Of more than MOST_EXAMPLES classes, those with most test
    reviews.

    Args:
        texts: raw, by row.
        predictions: of one model on test, from `evaluation.predictions`.
    """
    distance = {row: abs(len(texts[row].split()) - EXAMPLE_WORDS) for row in predictions["row"]}
    counts = predictions["label"].value_counts().reindex(list(classes), fill_value=0)
    most_common = set(counts.sort_values(ascending=False, kind="stable").index[:MOST_EXAMPLES])
    chosen = []
    for name in (each for each in classes if each in most_common):
        of_class = predictions[predictions["label"] == name]
        right = of_class[of_class["predicted"] == name]
        rows = (of_class if right.empty else right)["row"]
        if len(rows):
            chosen.append(str(texts[min(rows, key=distance.__getitem__)]))
    return list(dict.fromkeys(chosen))  # a text may have two labels


def as_data(model: str, sentence: str, explained: Explanation) -> dict[str, Any]:
    """An explanation for JSON, with weights rounded to 6 digits."""
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
    """The page: explanations, from `as_data`, with their figures NAME_1.png and so on, and results of `deletion`."""
    lines = [
        "# Explanations",
        "",
        "Which words each model's answer depends on. **attention** is the share of the model's attention that each word gets; "
        "the shares sum to 1, and are shaded where they exceed an equal share. **leave one out**, for models without "
        "attention, is the drop in the log-odds of the answer when the word is removed; a negative weight is a rise. Words in "
        "[brackets] are out-of-vocabulary.",
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
        lines += markdown.markdown(["model", "answer", "P(answer)", "method", "words with the largest weights"], rows)
        for each in of_sentence:
            name = each["architecture"]
            lines += ["", f"![weights of the words of text {number}, {name}]({name}_{number}.png)"]
    return "\n".join([*lines, "", "## Do attended words matter?", "", *_deletion_lines(deletions)]) + "\n"


def _deletion_lines(deletions: Sequence[Mapping[str, Any]]) -> list[str]:
    if not deletions:
        return ["No model of this run has attention, so there is nothing to check."]
    lines = [
        "If attention explains an answer, deleting the words with most attention must change it more than deleting as many "
        "random words. Measured on test reviews; the interval is Student's t interval of the mean difference of the two drops.",
        "",
        *(f"- **{each['architecture']}**: {finding(each)}." for each in deletions),
        "",
    ]
    header = ["model", "reviews", "deleted", "drop, attended", "drop, random", "difference (interval)"]
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
    return [*lines, *markdown.markdown(header, rows)]


def _heaviest(explained: Mapping[str, Any]) -> str:
    shown = []
    for i in np.argsort(-np.abs(explained["weights"]), kind="stable")[:SHOWN_WORDS]:
        word = markdown.cell(explained["words"][i])
        shown.append(f"{word if explained['known'][i] else f'[{word}]'} {explained['weights'][i]:.3f}")
    return ", ".join(shown) or "none that the model reads"


def _places_read(model: Classifier, ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Positions of the tokens that the model reads, shape (T,), and the number of those that it truncates."""
    settings = model.config.settings
    places = np.arange(len(ids)) if settings.punctuation else np.flatnonzero(model.vocabulary.is_word[ids])
    length = settings.length if has_attention(model) else min(settings.length, MOST_WORDS)
    kept = places[-length:] if settings.truncating == "pre" else places[:length]
    return kept, len(places) - len(kept)


def _attention(model: Classifier) -> Callable[[Ragged], list[np.ndarray]]:
    """Function from reviews, cut to what the model reads, to the attention share of each word; the shares sum to 1."""
    from sentiflow.models.tf import keras, tf  # here, so that a linear model does not load TensorFlow

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


def _leave_one_out(model: Classifier, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Probabilities of each text, shape (n, K), and the drop in the log-odds of its predicted class without each word.

    Log-odds, because a probability near 1 hardly changes, whichever word is removed.
    """
    variants = [variant for ids in texts for variant in (ids, *(np.delete(ids, place) for place in range(len(ids))))]
    probabilities = model.probabilities(_ragged(variants))
    answers, drops, start = [], [], 0
    for ids in texts:
        whole, *without = probabilities[start : start + len(ids) + 1]
        answers.append(whole)
        of_predicted = np.array([each[whole.argmax()] for each in (whole, *without)])
        log_odds = logit(np.clip(of_predicted.astype(np.float64), NEAREST, 1 - NEAREST))
        drops.append(log_odds[0] - log_odds[1:])
        start += len(ids) + 1
    return np.array(answers), drops


def _ragged(reviews: Sequence[np.ndarray]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum([len(words) for words in reviews])]).astype(np.int64)
    return Ragged(np.concatenate(reviews).astype(np.int32), offsets)


def _interval_of_mean(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Student's t interval, because a bootstrap interval of few reviews is too narrow."""
    if len(values) == 1:
        return -1.0, 1.0  # the whole range
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return float(values.mean()) - half, float(values.mean()) + half
