"""The report: the results of a run as one HTML file that loads nothing from the network and runs no script.

The templates escape everything that comes from data. Their colours are those of `png_plots.STYLE`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.metrics import confusion_matrix

from sentiflow.config.params import Evaluate
from sentiflow.evaluation import comparison, error_analysis, evaluation, metrics, significance, tuning
from sentiflow.reporting import page, svg_charts
from sentiflow.reporting.decision_page import Row
from sentiflow.system import artifacts, environment

TEST = "McNemar's exact test, Holm's correction:"
CHARACTERS = 3000  # of a review on the page; the CSV tables of the error analysis have the whole text
OPENING = 160  # characters of a review that are shown before it is opened
WEAK_GROUPS = 10  # rows of the table of weak groups
MOST_CLASSES = 10  # named in a sentence; of more, only the smallest and the largest count are given
MOST_CELLS = 20  # classes up to which there is a confusion matrix; beyond, a list of the most confused pairs
MOST_PAIRS = 20
MOST_ROWS = 20  # of a table that is not collapsed
NAMED = 4  # models listed in a sentence; more are counted
FILM_SOURCES = {"imdb", "aclimdb", "rotten_tomatoes"}
HEAVIEST = 3  # words named below an explanation
ERROR_TABLES = ("slices", "samples", "samples_with_text", "mistakes", "disagreements", "read_as")  # CSV files of `analyse`


@dataclass(frozen=True)
class Model:
    """Results of one model."""

    config: Mapping[str, Any]  # architecture, classes, settings
    environment: Mapping[str, Any]  # from `environment.describe`
    layers: Mapping[str, Any]  # layers, weights
    classification: str  # scikit-learn's classification report on test
    history: pd.DataFrame  # all metrics by epoch
    predictions: pd.DataFrame  # on test, from `evaluation.predictions`


@dataclass(frozen=True)
class Results:
    """Results of a run."""

    card: Mapping[str, Any]  # from `data_card.describe`
    splits: Mapping[str, Any]  # from `splits.prove`
    vocabulary: Mapping[str, Any]  # by view, from `vocabulary.describe`
    comparison: Mapping[str, Any]  # from `comparison.compare`
    models: Mapping[str, Model]
    errors: Mapping[str, pd.DataFrame]  # tables of the error analysis by name, from `read_texts`
    explanations: Mapping[str, Any]  # keys `explanations` and `deletion`, from `explanation.as_data` and `.deletion`


def read_texts(file: Path) -> pd.DataFrame:
    """A CSV file of the error analysis. All values stay text: "NA" is a review, "1" the name of a class."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise artifacts.damaged(file, error) from None
    return table.assign(text=table["text"].str.removeprefix("'")) if "text" in table else table


def render(results: Results, config: Evaluate) -> str:
    """The page. The same results give the same bytes."""
    ranked = results.comparison["models"]
    models = {model["architecture"]: results.models[model["architecture"]] for model in ranked}
    classes = next(iter(models.values())).config["classes"]
    predictions = {name: model.predictions for name, model in models.items()}
    histories = {name: model.history for name, model in models.items()}
    table = comparison.as_table(results.comparison)
    errors, tuned = results.errors, results.comparison["tuning"]
    slices = errors["slices"].astype({f"accuracy_score{end}": float for end in ("", "_low", "_high")} | {"reviews": int})
    confusions = {} if len(classes) > MOST_CELLS else {name: _confusion(each, classes) for name, each in predictions.items()}
    pairs = {} if confusions else {name: _confused_pairs(each) for name, each in predictions.items()}
    template = page.environment().get_template("report.html.jinja")
    return template.render(
        results=results,
        models=models,
        classes=classes,
        confidence=config.confidence,
        score_names={name: metric.label for name, metric in metrics.METRICS.items()}
        | {"uncalibrated_error": "calibration error without temperature"},
        sizes=svg_charts,
        rows=[_row(model["architecture"], model["scores"]["test"]) for model in ranked],
        conclusion=conclusion(results.comparison, config.confidence),
        about_data=about_data(results.card, results.splits),
        findings=findings(results.card, results.splits),
        read_as=_read_as(errors),
        chosen_by=results.comparison["chosen_by"].split(),
        one_seed=significance.ONE_SEED,
        intervals_of_differences=tuning.INTERVALS,
        tuning_verdict="" if tuned is None else tuning.verdict(tuned),
        accuracies=svg_charts.accuracies(table),
        has_published=bool(table["published"].notna().any()),
        curves=[svg_charts.curves(histories, metric) for metric in metrics.tracked().values()],
        many_columns=len(classes) > MOST_CLASSES,
        most_rows=MOST_ROWS,
        confusions=confusions,
        pairs=pairs,
        reliability=svg_charts.reliability(
            {name: _reliability(each, classes, config.bins) for name, each in predictions.items()}
        ),
        weak=weak_groups(slices, config.confidence).head(WEAK_GROUPS).to_dict("records"),
        groups=_groups(slices),
        samples=errors["samples"].to_dict("records"),
        samples_with_text=[
            {**line, "right": sum(line[name] == line["label"] for name in models)}
            for line in _with_text(errors["samples_with_text"])
        ],
        mistakes={name: _with_text(errors["mistakes"].query("architecture == @name")) for name in models},
        disagreements=_with_text(errors["disagreements"]),
        explanations=_explanations(results.explanations["explanations"]),
        deletion=[about_deletion(found, config.confidence) for found in results.explanations["deletion"]],
        machines=environment.grouped({name: model.environment for name, model in models.items()}),
    )


def _row(name: str, test: Mapping[str, float]) -> Row:
    ends = test["accuracy_score_low"], test["accuracy_score_high"]
    return Row(name, test["accuracy_score"], *ends, calibration_error=test["calibration_error"])


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def about_data(card: Mapping[str, Any], splits: Mapping[str, Any]) -> str:
    """One sentence: number of reviews, by class and by split."""
    counts = card["rows_per_label"]
    if len(counts) > MOST_CLASSES:
        fewest, most = min(counts.values()), max(counts.values())
        labels = f"{len(counts):,} classes with {fewest:,}{f' to {most:,}' if most > fewest else ''} reviews each"
    else:
        labels = _counted(counts)
    rows = splits["rows"]
    return (
        f"{card['rows']:,} reviews, {labels}: {rows['train']:,} to train on, {rows['valid']:,} to "
        f"choose the model (valid) and {rows['test']:,} to report scores (test)."
    )


def _counted(labels: Mapping[str, int]) -> str:
    return listed([f"{count:,} {name}" for name, count in labels.items()])


def findings(card: Mapping[str, Any], splits: Mapping[str, Any]) -> list[str]:
    """Properties of the data that limit what the scores mean, one sentence each."""
    found = []
    counts = card["rows_per_label"]
    if card["rejected_rows"]:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(card["rejected_by_reason"].items()))
        found.append(f"Rows of the source that could not be used: {card['rejected_rows']:,} ({reasons}).")
    if max(counts.values()) > 1.5 * min(counts.values()):
        most = max(counts, key=lambda name: counts[name])
        share = f"{counts[most] / card['rows']:.1%}"
        found.append(f"Uneven classes: {share} of the reviews are {most}, so always predicting it has that accuracy.")
    if card["surplus_copies"]:
        share = f"{card['surplus_copies'] / card['rows']:.1%}"
        found.append(f"Copies of another review: {card['surplus_copies']:,} ({share}); all copies of a text are in one split.")
    for text in card["frequent_texts"]:
        found.append(f"One text is {text['share']:.1%} of the reviews: {text['excerpt']} ({_counted(text['labels'])}).")
    conflicts, copied = splits["left_out_conflicts"], splits["left_out"] - splits["left_out_conflicts"]
    if card["texts_with_conflicting_labels"]:
        text = card["conflicting_texts"][0]
        found.append(
            f"Texts with several labels: {card['texts_with_conflicting_labels']:,}, of {card['rows_with_conflicting_labels']:,} "
            f"reviews, such as {text['excerpt']} ({_counted(text['labels'])}); "
            + (f"{conflicts:,} reviews are left out of every split." if conflicts else "no model can be right on all of them.")
        )
    if copied:
        found.append(
            f"Left out, because a copy or another review of the same group is in a later split of the source: {copied:,}."
        )
    shared_films = sorted((splits["shared_films"] or {}).items())
    found += [f"Films in both of {pair.replace('-', ' and ')}: {count:,}." for pair, count in shared_films if count]
    if card["markup_share"]:
        found.append(f"Reviews with HTML markup: {card['markup_share']:.1%}; cleaning removes it.")
    is_of_films = FILM_SOURCES & set(card["kinds"]) or "imdb" in card["location"].lower()
    if splits["shared_films"] is None and is_of_films:
        found.append("The source does not say which film a review is about, so reviews of one film may be in train and in test.")
    return found


def conclusion(compared: Mapping[str, Any], confidence: float) -> list[str]:
    """Sentences: the best model, its accuracy, and which differences are significant.

    Significant: the p-value of McNemar's exact test with Holm's correction is below 1 - `confidence`.
    """
    best, *others = compared["models"]
    name, test = best["architecture"], best["scores"]["test"]
    split, score = compared["chosen_by"].split()
    sentences = [
        f"{name} is best on {split} ({metrics.METRICS[score].label} {best['scores'][split][score]:.3f})."
        if others
        else f"{name} is the only model of this run.",
        f"On test its accuracy is {test['accuracy_score']:.1%} on {compared['test_reviews']:,} reviews "
        f"({confidence:.0%} interval {test['accuracy_score_low']:.1%} to {test['accuracy_score_high']:.1%}).",
    ]
    if others:
        sentences.append(_gap(name, test["accuracy_score"], others[0], confidence))
    if len(others) > 1:
        rest = others[1:]
        alike = [model["architecture"] for model in rest if model["p_against_best"] >= 1 - confidence]
        if not alike:
            sentences.append("The difference to every other model is significant.")
        elif len(alike) <= NAMED:
            sentences.append(f"The difference to {listed(alike)} is not significant.")
        else:
            sentences.append(f"The difference to {len(alike)} of the {len(rest)} other models is not significant.")
    return sentences


def _gap(best: str, accuracy: float, second: Mapping[str, Any], confidence: float) -> str:
    gap = 100 * (accuracy - second["scores"]["test"]["accuracy_score"])
    p = second["p_against_best"]
    other = f"{second['architecture']}, the second on valid"
    if gap == 0:
        return f"That is equal to {other} ({TEST} {page.p_value(p)})."
    significance = "significant" if p < 1 - confidence else "not significant"
    return f"That is {abs(gap):.1f} points {'above' if gap > 0 else 'below'} {other}: {significance} ({TEST} {page.p_value(p)})."


def about_deletion(found: Mapping[str, Any], confidence: float) -> str:
    """One sentence: whether removing the most attended words changes the prediction more than removing random ones."""
    low, high = (100 * found[f"difference_{end}"] for end in ("low", "high"))
    if low > 0:
        meaning = "so its attention points at words that matter"
    elif high < 0:
        meaning = "so its attention points at words that matter less than others"
    else:
        meaning = "so its attention does not point at words that matter more than others"
    return (
        f"{found['architecture']}: without the {found['deleted']:.0%} of words with most attention the probability of its "
        f"prediction falls by {100 * found['attended']['drop']:.1f} points (mean of {found['reviews']:,} test reviews) and "
        f"{found['attended']['flipped']:.1%} of the predictions flip; without as many random words it falls by "
        f"{100 * found['random']['drop']:.1f} points and {found['random']['flipped']:.1%} flip. The difference is "
        f"{100 * found['difference']:.1f} points ({confidence:.0%} t interval {low:.1f} to {high:.1f}), {meaning}."
    )


def _read_as(errors: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """One review as written, and as decoded from the word ids of each view."""
    decoded, samples = errors["read_as"], errors["samples_with_text"]
    [raw] = samples.loc[samples["row"] == decoded["row"].iloc[0], "text"]
    texts = [("as written", raw), *zip(decoded["view"], decoded["text"], strict=True)]
    return [(name, text[:CHARACTERS]) for name, text in texts]


def _reliability(predictions: pd.DataFrame, classes: Sequence[str], bins: int) -> pd.DataFrame:
    labels = pd.Categorical(predictions["label"], categories=list(classes)).codes
    return metrics.reliability(labels, predictions[[f"p_{name}" for name in classes]].to_numpy(), bins=bins)


def _confused_pairs(predictions: pd.DataFrame) -> list[dict[Any, Any]]:
    labels, predicted = predictions["label"].tolist(), predictions["predicted"].tolist()
    return evaluation.confused_pairs(labels, predicted, most=MOST_PAIRS).to_dict("records")


def _confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """Rows of (true class, cells), a cell being (reviews, share of the true class, whether it is correct) per predicted class."""
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=list(classes))
    shares = counts / counts.sum(axis=1, keepdims=True)
    return [
        (name, [(int(counts[i, j]), float(shares[i, j]), i == j) for j in range(len(classes))]) for i, name in enumerate(classes)
    ]


def weak_groups(slices: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of `error_analysis.against_the_rest` with p below 1 - `confidence`, lowest p first."""
    found = error_analysis.against_the_rest(slices)
    return found[found["p"] < 1 - confidence].sort_values("p", kind="stable")


def _groups(slices: pd.DataFrame) -> list[dict[str, Any]]:
    """Each slice and group with accuracy and number of reviews by model."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in slices.to_dict("records"):
        group = found.setdefault((line["slice"], line["group"]), {"slice": line["slice"], "group": line["group"], "cells": {}})
        group["cells"][line["architecture"]] = line["accuracy_score"], line["reviews"]
    return list(found.values())


def _with_text(lines: pd.DataFrame) -> list[dict[Any, Any]]:
    found = []
    for line in lines.to_dict("records"):
        text = line.pop("text")
        opening, rest = divided(text[:CHARACTERS], OPENING)
        found.append({**line, "opening": opening, "rest": rest, "characters": len(text), "is_cut": len(text) > CHARACTERS})
    return found


def divided(text: str, characters: int) -> tuple[str, str]:
    """The beginning of a text, at most `characters` long and if possible up to a space, and the rest.

    >>> divided("a good film", 20), divided("a good film", 8), divided("unbroken", 2)
    (('a good film', ''), ('a good ', 'film'), ('un', 'broken'))
    """
    if len(text) <= characters:
        return text, ""
    end = text.rfind(" ", 0, characters) + 1 or characters
    return text[:end], text[end:]


def _explanations(explanations: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By text: the explanations, each with its words as (word, strength in [-1, 1], known) and a list of the heaviest words."""
    found: dict[str, list[dict[str, Any]]] = {}
    for explanation in explanations:
        weights = explanation["weights"]
        words = list(zip(explanation["words"], weights, strict=True))
        heaviest = sorted(words, key=lambda word: -abs(word[1]))[:HEAVIEST]
        sign = "" if explanation["method"] == "attention" else "+"
        shown = {
            "shaded": list(zip(explanation["words"], explanation["strengths"], explanation["known"], strict=True)),
            "heaviest": ", ".join(f"“{word}” {weight:{sign}.2f}" for word, weight in heaviest),
        }
        found.setdefault(explanation["sentence"], []).append({**explanation, **shown})
    return found
