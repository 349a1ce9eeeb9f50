"""Errors of the models on test: accuracy by slice, most confident mistakes, disagreements of the two best models."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sentiflow.config.model_settings import ModelSettings
from sentiflow.config.params import Analyse
from sentiflow.data.vocabulary import UNKNOWN, Tokens, Vocabulary
from sentiflow.evaluation import significance
from sentiflow.system.errors import InputError

# Per slice, which is a numeric measure of reviews, the upper bound of each group.
SLICES: dict[str, dict[str, float]] = {
    "length": {"up to 100 words": 100, "101 to 200 words": 200, "201 to 400 words": 400, "more than 400 words": np.inf},
    "negation": {"none": 0, "one or two": 2, "three or more": np.inf},
    "contrast": {"none": 0, "some": np.inf},
    "unknown words": {"none": 0, "up to 2%": 0.02, "up to 5%": 0.05, "more than 5%": np.inf},
    "truncation": {"read whole": 0, "cut": np.inf},
}

# Characters with which a cell of a spreadsheet becomes a formula (OWASP, "CSV Injection"), full-width forms included, and the
# escape character itself.
FORMULA = "^([-=+@\t\r\n\uff1d\uff0b\uff0d\uff20'])"


@dataclass(frozen=True)
class Answers:
    """Predictions of every architecture on the same n test reviews, all with the same index, `row`."""

    labels: pd.Series  # name of the true class, shape (n,)
    texts: pd.Series  # as downloaded, shape (n,)
    predicted: pd.DataFrame  # names of classes, one column per architecture, shape (n, A)
    confidence: pd.DataFrame  # probability of that class, in [0, 1], the same columns

    @property
    def right(self) -> pd.DataFrame:
        """Whether each prediction is correct; shape (n, A)."""
        return self.predicted.eq(self.labels, axis=0)


def collect(predictions: Mapping[str, pd.DataFrame], texts: pd.Series) -> Answers:
    """The predictions of all architectures, in the given order.

    Args:
        predictions: of each architecture on test, from `evaluation.predictions`.
        texts: by `row`.

    Raises:
        InputError: if the architectures were evaluated on different reviews, or on reviews without a text.
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
            f"{len(unknown)} of {len(rows)} test reviews, such as row {unknown[0]}, are not among the {len(texts)} of the data; "
            "the predictions are of other data, so evaluate again: dvc repro evaluate"
        )
    return Answers(
        tables[first]["label"],
        texts.loc[rows],
        pd.DataFrame({name: table["predicted"] for name, table in tables.items()}),
        pd.DataFrame({name: table.filter(regex="^p_").max(axis=1) for name, table in tables.items()}),
    )


def analyse(answers: Answers, slices: pd.DataFrame, options: Analyse, *, seed: int) -> dict[str, pd.DataFrame]:
    """The tables of the analysis by name: samples, samples_with_text, slices, mistakes, disagreements.

    Args:
        answers: best architecture first.
        slices: from `accuracy_by_slice`.
    """
    drawn = answers.labels.index[np.random.default_rng(seed).permutation(len(answers.labels))]
    with_text = pd.DataFrame({"label": answers.labels, "text": answers.texts}).join(answers.predicted)
    return {
        "samples": with_text.loc[drawn[: options.samples]].drop(columns="text").reset_index(),
        "samples_with_text": with_text.loc[drawn[: options.samples_with_text]].reset_index(),
        "slices": slices,
        "mistakes": mistakes(answers, options.mistakes),
        "disagreements": disagreements(answers, options.disagreements),
    }


def read_as(row: int, tokens: Mapping[str, Tokens], words: Mapping[str, Vocabulary]) -> pd.DataFrame:
    """The word ids of one review decoded to words; columns row, view, text; one line per view."""
    return pd.DataFrame(
        {"row": row, "view": view, "text": words[view].decode(of_view.ids[int(np.flatnonzero(of_view.rows == row)[0])])}
        for view, of_view in tokens.items()
    )


def measures_of_texts(tokens: Tokens, words: Vocabulary, options: Analyse) -> pd.DataFrame:
    """Length in words, number of negations and number of contrast words of each review; shape (n, 3), index `row`.

    Args:
        tokens: of the view `text`. A negation that is not in train is <unk>, and so not counted.
        options: the negations and contrast words. Every word that ends in n't is a negation, too.
    """
    negations, contrasts = set(options.negations), set(options.contrasts)
    of_interest = {
        "length": words.is_word,
        "negation": np.array([word in negations or word.endswith("n't") for word in words.words]),
        "contrast": np.array([word in contrasts for word in words.words]),
    }
    owners, ids = tokens.ids.owners, tokens.ids.values
    counts = {name: np.bincount(owners[wanted[ids]], minlength=len(tokens)) for name, wanted in of_interest.items()}
    return pd.DataFrame(counts, index=pd.Index(tokens.rows, name="row"))


def measures_of_reading(tokens: Tokens, words: Vocabulary, settings: ModelSettings) -> pd.DataFrame:
    """Share of unknown words in what a model reads of each review, and words it truncates; shape (n, 2), index `row`."""
    size = words.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
    ids = words.cut(tokens.ids, size=size, punctuation=settings.punctuation)
    lengths, owners = np.diff(ids.offsets), ids.owners
    surplus = np.maximum(lengths - settings.length, 0)
    place = np.arange(len(owners)) - ids.offsets[owners]  # of a token in its review
    is_read = place >= surplus[owners] if settings.truncating == "pre" else place < (lengths - surplus)[owners]
    read = ids.keep(is_read)
    unknown = np.bincount(read.owners, weights=read.values == UNKNOWN, minlength=len(read))
    return pd.DataFrame(
        {"unknown words": unknown / np.maximum(np.diff(read.offsets), 1), "truncation": surplus},
        index=pd.Index(tokens.rows, name="row"),
    )


def accuracy_by_slice(answers: Answers, measures: Mapping[str, pd.DataFrame], *, confidence: float) -> pd.DataFrame:
    """Accuracy in each group with reviews of each slice, with Wilson's interval.

    Args:
        measures: per architecture, a column for each of SLICES.
        confidence: of the intervals, in (0, 1).

    Returns:
        Columns architecture, slice, group, reviews, accuracy_score, accuracy_score_low, accuracy_score_high.

    Raises:
        InputError: if the measures are of other reviews than the answers.
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
    """Tests whether accuracy in a group is lower than on the other reviews.

    Args:
        slices: from `accuracy_by_slice`.

    Returns:
        The lines of `slices` whose group does not contain all reviews, with two more columns: `rest`, the accuracy on the other
        reviews, and `p`, the one-sided p-value of Fisher's exact test, with Holm's correction for the number of lines.

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
    """The most confident mistakes of each architecture, at most `count`.

    Returns:
        Columns architecture, row, label, predicted, confidence, text; most confident first within an architecture.
    """
    tables = [
        pd.DataFrame(
            {
                "architecture": str(name),
                "row": right.index,
                "label": answers.labels,
                "predicted": answers.predicted[name],
                "confidence": answers.confidence[name],
                "text": answers.texts,
            }
        )[~right].nlargest(count, "confidence")
        for name, right in answers.right.items()
    ]
    return pd.concat(tables, ignore_index=True)


def disagreements(answers: Answers, count: int) -> pd.DataFrame:
    """Reviews with different predictions of the first two architectures, largest sum of confidences first, at most `count`.

    Returns:
        Columns row, label, architecture, predicted, confidence, other, other_predicted, other_confidence, text; no lines if
        there is only one architecture.
    """
    names = answers.predicted.columns
    one, other = names[0], names[:2][-1]  # of one architecture, that one again
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
    """The accuracies as {architecture: {slice: {group: scores}}}, rounded to six digits."""
    nested: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for line in slices.round(6).to_dict("records"):
        architecture, kind, group = (str(line.pop(name)) for name in ("architecture", "slice", "group"))
        nested.setdefault(architecture, {}).setdefault(kind, {})[group] = {str(name): value for name, value in line.items()}
    return nested


def as_csv(table: pd.DataFrame) -> str:
    """A table as CSV that is lossless and safe to open in a spreadsheet.

    A text that is a formula, or begins with ', is prefixed with '. To get every text back, read the file with
    `keep_default_na=False`, as a review may be "NA", and apply `table["text"].str.removeprefix("'")`.

    >>> print(as_csv(pd.DataFrame({"row": [1, 2], "text": ["=1+1", "Fine."]})), end="")
    "row","text"
    1,"'=1+1"
    2,"Fine."
    """
    if "text" in table:
        table = table.assign(text=table["text"].str.replace(FORMULA, r"'\1", regex=True))
    # all texts are quoted, because minimal quoting misses a lone carriage return
    written: str = table.round(6).to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return written
