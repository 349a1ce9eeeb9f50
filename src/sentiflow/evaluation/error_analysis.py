"""Where the models go wrong on test: by kind of review, most confidently, and where the two best of them disagree."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sentiflow.config.model_settings import ModelSettings
from sentiflow.config.params import Analyse
from sentiflow.data.vocabulary import UNKNOWN, Ragged, Tokens, Vocabulary
from sentiflow.evaluation import significance
from sentiflow.system.errors import InputError

# A slice is a number that each review has, and its groups by the largest number that belongs to each.
SLICES: dict[str, dict[str, float]] = {
    "length": {
        "up to 100 words": 100,
        "101 to 200 words": 200,
        "201 to 400 words": 400,
        "more than 400 words": np.inf,
    },
    "negation": {"none": 0, "one or two": 2, "three or more": np.inf},
    "contrast": {"none": 0, "some": np.inf},
    "unknown words": {"none": 0, "up to 2%": 0.02, "up to 5%": 0.05, "more than 5%": np.inf},
    "truncation": {"read whole": 0, "cut": np.inf},
}

# What makes a spreadsheet run a cell as a formula (OWASP, "CSV Injection"), the forms of full width included; and the sign that
# keeps it from doing so, since a text that begins with that must be told from one that it was put in front of.
FORMULA = "^([-=+@\t\r\n\uff1d\uff0b\uff0d\uff20'])"


@dataclass(frozen=True)
class Answers:
    """What every architecture answers on the same n test reviews. All share one index, `row`."""

    labels: pd.Series  # name of the true class, shape (n,)
    texts: pd.Series  # as downloaded, shape (n,)
    predicted: pd.DataFrame  # names of classes, one column an architecture, shape (n, A)
    confidence: pd.DataFrame  # probability of that class, in [0, 1], the same columns

    @property
    def right(self) -> pd.DataFrame:
        """Whether each answer is the true class; shape (n, A)."""
        return self.predicted.eq(self.labels, axis=0)


def collect(predictions: Mapping[str, pd.DataFrame], texts: pd.Series) -> Answers:
    """Puts the architectures side by side, in the order they come in.

    Args:
        predictions: of each architecture on test, as `evaluation.predictions` gives them.
        texts: of all downloaded reviews, by `row`.

    Raises:
        InputError: if two architectures were not evaluated on the same reviews, or on reviews that have no text.
    """
    tables = {name: table.set_index("row") for name, table in predictions.items()}
    first, *others = tables
    rows = tables[first].index
    for name in others:
        if not tables[name].index.equals(rows):
            raise InputError(
                f"{name} and {first} were evaluated on different test reviews; evaluate both again: dvc repro evaluate"
            )
    unknown = rows.difference(texts.index)
    if len(unknown):
        raise InputError(
            f"{len(unknown)} of {len(rows)} test reviews, such as row {unknown[0]}, are not among the {len(texts)} that were "
            "downloaded; the predictions are of other data, so make them anew: dvc repro evaluate"
        )
    return Answers(
        tables[first]["label"],
        texts.loc[rows],
        pd.DataFrame({name: table["predicted"] for name, table in tables.items()}),
        pd.DataFrame({name: table.filter(regex="^p_").max(axis=1) for name, table in tables.items()}),
    )


def analyse(answers: Answers, slices: pd.DataFrame, how: Analyse, *, seed: int) -> dict[str, pd.DataFrame]:
    """The tables of the analysis by name: samples, samples_with_text, slices, mistakes, disagreements.

    Args:
        answers: of all architectures, best first.
        slices: as `accuracy_by_slice` gives them.
        how: the number of reviews in each table.
        seed: of the random samples, which follow from it and from the test reviews, not from what the models are.
    """
    drawn = answers.labels.index[np.random.default_rng(seed).permutation(len(answers.labels))]
    with_text = pd.DataFrame({"label": answers.labels, "text": answers.texts}).join(answers.predicted)
    return {
        "samples": with_text.loc[drawn[: how.samples]].drop(columns="text").reset_index(),
        "samples_with_text": with_text.loc[drawn[: how.samples_with_text]].reset_index(),
        "slices": slices,
        "mistakes": mistakes(answers, how.mistakes),
        "disagreements": disagreements(answers, how.disagreements),
    }


def read_as(row: int, tokens: Mapping[str, Tokens], words: Mapping[str, Vocabulary]) -> pd.DataFrame:
    """One review as its word ids say it, decoded back to words; columns row, view, text, a line a view.

    Args:
        row: of the review.
        tokens: of the split that it is in, by view.
        words: the vocabularies that they are written in, by view.
    """
    lines = [
        {"row": row, "view": view, "text": words[view].decode(of_view.ids[int(np.flatnonzero(of_view.rows == row)[0])])}
        for view, of_view in tokens.items()
    ]
    return pd.DataFrame(lines)


def measures_of_texts(tokens: Tokens, words: Vocabulary, how: Analyse) -> pd.DataFrame:
    """Length in words, number of negations and number of contrast words of each review; shape (n, 3), index `row`.

    Args:
        tokens: of the view `text`. A negation that train never holds is <unk> there, to every model and so here too.
        words: the vocabulary they are written in.
        how: the words that are negations and contrasts. Every word in n't is a negation besides.
    """
    negations, contrasts = set(how.negations), set(how.contrasts)
    of_interest = {
        "length": words.is_word,
        "negation": np.array([word in negations or word.endswith("n't") for word in words.words]),
        "contrast": np.array([word in contrasts for word in words.words]),
    }
    owners, ids = tokens.ids.owners, tokens.ids.values
    counts = {name: np.bincount(owners[wanted[ids]], minlength=len(tokens)) for name, wanted in of_interest.items()}
    return pd.DataFrame(counts, index=pd.Index(tokens.rows, name="row"))


def measures_of_reading(tokens: Tokens, words: Vocabulary, settings: ModelSettings) -> pd.DataFrame:
    """Share of unknown words in what a model reads of each review, and words it cuts off; shape (n, 2), index `row`.

    Args:
        tokens: of the view that the model reads.
        words: the vocabulary they are written in.
        settings: of the model.
    """
    size = words.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
    ids = words.cut(tokens.ids, size=size, punctuation=settings.punctuation)
    lengths = np.diff(ids.offsets)
    surplus = np.maximum(lengths - settings.length, 0)
    read = ids.keep(_is_read(ids, surplus, settings.truncating)) if surplus.any() else ids
    unknown = np.bincount(read.owners, weights=read.values == UNKNOWN, minlength=len(read))
    return pd.DataFrame(
        {"unknown words": unknown / np.maximum(np.diff(read.offsets), 1), "truncation": surplus},
        index=pd.Index(tokens.rows, name="row"),
    )


def _is_read(ids: Ragged, surplus: np.ndarray, truncating: str) -> np.ndarray:
    owners = ids.owners
    place = np.arange(len(owners)) - ids.offsets[owners]  # of a token in its review
    if truncating == "pre":
        return np.asarray(place >= surplus[owners])
    return np.asarray(place < (np.diff(ids.offsets) - surplus)[owners])


def accuracy_by_slice(answers: Answers, measures: Mapping[str, pd.DataFrame], *, confidence: float) -> pd.DataFrame:
    """Share of right answers in each group of each slice that holds a review, with Wilson's interval.

    Args:
        answers: of all architectures.
        measures: of each architecture, a column for each of SLICES.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        Columns architecture, slice, group, reviews, accuracy_score, accuracy_score_low, accuracy_score_high.

    Raises:
        InputError: if the measures are of other reviews than the answers.

    Source: Wilson (1927), without continuity correction.
    """
    lines = []
    for name, right in answers.right.items():
        of_model = measures[str(name)]
        if not of_model.index.equals(right.index):
            raise InputError(
                f"{name} was evaluated on other test reviews ({len(right)}) than the word ids are of ({len(of_model)}); "
                "evaluate it again: dvc repro evaluate"
            )
        for kind, groups in SLICES.items():
            group = pd.cut(of_model[kind], [-1, *groups.values()], labels=list(groups))
            counts = right.groupby(group, observed=True).agg(["size", "sum"])
            for label, reviews, hits in counts.itertuples():
                lines.append((name, kind, label, reviews, hits / reviews, *significance.wilson(hits, reviews, confidence)))
    scores = ("accuracy_score", "accuracy_score_low", "accuracy_score_high")
    return pd.DataFrame(lines, columns=["architecture", "slice", "group", "reviews", *scores])


def against_the_rest(slices: pd.DataFrame) -> pd.DataFrame:
    """Whether a group is harder for a model than the rest of its reviews, by more than chance.

    Args:
        slices: as `accuracy_by_slice` gives them.

    Returns:
        The lines of `slices` that have a rest, with two more columns: `rest`, the accuracy there, and `p`, the one-sided p-value
        of Fisher's exact test, corrected by Holm's method for the number of lines.

    Source: Fisher's exact test; Holm (1979), valid under any dependence of the lines.
    """
    of_slice = ["architecture", "slice"]
    hits = (slices["accuracy_score"] * slices["reviews"]).round()
    all_hits = hits.groupby([slices[name] for name in of_slice]).transform("sum")
    all_reviews = slices.groupby(of_slice)["reviews"].transform("sum")
    p = stats.hypergeom.cdf(hits, all_reviews, all_hits, slices["reviews"])
    has_rest = all_reviews > slices["reviews"]
    found = slices.assign(rest=(all_hits - hits) / (all_reviews - slices["reviews"]).where(has_rest), p=p)[has_rest]
    return found.assign(p=significance.holm(found["p"].to_numpy()))


def mistakes(answers: Answers, count: int) -> pd.DataFrame:
    """The most confident mistakes of each architecture, `count` at most.

    Returns:
        Columns architecture, row, label, predicted, confidence, text; most confident first within an architecture.
    """
    tables = []
    for name, right in answers.right.items():
        table = pd.DataFrame(
            {
                "architecture": str(name),
                "row": right.index,
                "label": answers.labels,
                "predicted": answers.predicted[name],
                "confidence": answers.confidence[name],
                "text": answers.texts,
            }
        )
        tables.append(table[~right].nlargest(count, "confidence"))
    return pd.concat(tables, ignore_index=True)


def disagreements(answers: Answers, count: int) -> pd.DataFrame:
    """The reviews on which the first two architectures answer differently and are together surest of it, `count` at most.

    Returns:
        Columns row, label, architecture, predicted, confidence, other, other_predicted, other_confidence, text; none where
        there is one architecture.
    """
    names = answers.predicted.columns
    one, other = names[0], names[:2][-1]  # alone, a model never differs from itself
    table = pd.DataFrame(
        {
            "label": answers.labels,
            "architecture": one,
            "predicted": answers.predicted[one],
            "confidence": answers.confidence[one],
            "other": other,
            "other_predicted": answers.predicted[other],
            "other_confidence": answers.confidence[other],
            "text": answers.texts,
        }
    )
    table = table[table["predicted"] != table["other_predicted"]]
    surest = (table["confidence"] + table["other_confidence"]).nlargest(count)
    return table.loc[surest.index].reset_index()


def as_metrics(slices: pd.DataFrame) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """The accuracies as {architecture: {slice: {group: scores}}}, with six digits, for JSON."""
    nested: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for line in slices.round(6).to_dict("records"):
        architecture, kind, group = (str(line.pop(name)) for name in ("architecture", "slice", "group"))
        nested.setdefault(architecture, {}).setdefault(kind, {})[group] = {str(name): value for name, value in line.items()}
    return nested


def as_csv(table: pd.DataFrame) -> str:
    """A table as CSV that is safe to open in a spreadsheet and loses nothing.

    A text that a spreadsheet would run as a formula has ' in front of it. So has a text that begins with ', and so a program gets
    every text back with `table["text"].str.removeprefix("'")`, once read with `keep_default_na=False`: a review may be "NA".

    >>> print(as_csv(pd.DataFrame({"row": [1, 2], "text": ["=1+1", "Fine."]})), end="")
    "row","text"
    1,"'=1+1"
    2,"Fine."
    """
    if "text" in table:
        table = table.assign(text=table["text"].str.replace(FORMULA, r"'\1", regex=True))
    # All texts stand in quotes, since a writer that puts only some there overlooks a lone carriage return.
    written: str = table.round(6).to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return written
