"""The report page: what a run found, as one HTML file that asks for nothing from the network and runs no script.

Everything that comes from data is escaped by the template, which also holds the colours: those of `plots.STYLE`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from sklearn.metrics import confusion_matrix

from sentiflow.config.params import Evaluate
from sentiflow.evaluation import comparison, error_analysis, evaluation, metrics, significance, tuning
from sentiflow.reporting import svg_charts
from sentiflow.system import artifacts, environment

TEST = "McNemar's exact test, Holm's correction:"
CHARACTERS = 3000  # of a review that the page holds; the tables beside the page hold it whole
OPENING = 160  # characters of a review that can be read before it is opened
WEAK_GROUPS = 10  # shown, the clearest
MOST_CLASSES = 10  # named in a sentence; of more, the fewest and the most reviews are given
MOST_CELLS = 20  # classes up to which there is a confusion matrix; of more the most confused pairs are listed
MOST_PAIRS = 20
MOST_ROWS = 20  # of a table that is not collapsed
NAMED = 4  # models listed in a sentence; more are counted
FILMS = {"imdb", "aclimdb", "rotten_tomatoes"}  # kinds of source with reviews of films
HEAVIEST = 3  # words named beside a heatmap


@dataclass(frozen=True)
class Model:
    """What is known of one trained and evaluated architecture."""

    config: Mapping[str, Any]  # architecture, classes, settings
    environment: Mapping[str, Any]  # as `environment.describe` gives it
    layers: Mapping[str, Any]  # layers, weights
    classification: str  # scikit-learn's classification report of test
    history: pd.DataFrame  # every metric of every epoch
    predictions: pd.DataFrame  # of test, as `evaluation.predictions` gives them


@dataclass(frozen=True)
class Errors:
    """What the error analysis found; each as `read_texts` reads it."""

    slices: pd.DataFrame
    samples: pd.DataFrame
    samples_with_text: pd.DataFrame
    mistakes: pd.DataFrame
    disagreements: pd.DataFrame
    read_as: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """What a run found."""

    card: Mapping[str, Any]  # as `data_card.describe` gives it
    splits: Mapping[str, Any]  # as `splits.prove` gives it
    vocabulary: Mapping[str, Any]  # by view, as `vocabulary.describe` gives it
    comparison: Mapping[str, Any]  # as `comparison.compare` gives it
    models: Mapping[str, Model]  # by architecture
    errors: Errors
    explanations: Mapping[str, Any]  # explanations and deletion, as `explanation.as_data` and `explanation.deletion` give them


def read_texts(file: Path) -> pd.DataFrame:
    """A CSV file as `analysis.as_csv` writes it: a review that says "NA" is no gap, and a class called "1" no number."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise artifacts.damaged(file, error) from None
    return table.assign(text=table["text"].str.removeprefix("'")) if "text" in table else table


def render(results: Results, how: Evaluate) -> str:
    """The page.

    Args:
        results: what the stages before found, all of the same run.
        how: the coverage of the intervals, and the intervals of confidence of the reliability diagrams.
    """
    templates = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    templates.filters |= {"number": "{:,}".format, "percent": "{:.1%}".format, "three": "{:.3f}".format, "p": p_value}
    templates.filters["setting"] = lambda value: value if isinstance(value, str) else json.dumps(value)  # as in params.yaml
    template = resources.files("sentiflow.reporting").joinpath("page.html.jinja").read_text(encoding="utf-8")
    names = [model["architecture"] for model in results.comparison["models"]]
    classes = results.models[names[0]].config["classes"]
    histories = {name: results.models[name].history for name in names}
    table = comparison.as_table(results.comparison)
    slices = _numbers(results.errors.slices)
    return templates.from_string(template).render(
        results=results,
        models={name: results.models[name] for name in names},
        classes=classes,
        confidence=how.confidence,
        score_names={name: metric.label for name, metric in metrics.METRICS.items()}
        | {"uncalibrated_error": "calibration error without temperature"},
        sizes=svg_charts,
        about_data=about_data(results.card, results.splits),
        findings=findings(results.card, results.splits),
        views=[(view, told, _least_unknown(told)) for view, told in results.vocabulary.items()],
        read_as=_read_as(results.errors),
        verdict=verdict(results.comparison, how.confidence),
        chosen_by=results.comparison["chosen_by"].split(),
        one_seed=significance.ONE_SEED,
        intervals_of_differences=tuning.INTERVALS,
        tuning_verdict="" if results.comparison["tuning"] is None else tuning.verdict(results.comparison["tuning"]),
        accuracies=svg_charts.accuracies(table),
        has_published=bool(table["published"].notna().any()),
        curves=[svg_charts.curves(histories, metric) for metric in metrics.tracked().values()],
        many_columns=len(classes) > MOST_CLASSES,
        most_rows=MOST_ROWS,
        **_confusions({name: results.models[name].predictions for name in names}, classes),
        reliability=svg_charts.reliability(
            {name: _reliability(results.models[name].predictions, classes, how) for name in names}
        ),
        weak=weak_groups(slices, how.confidence).head(WEAK_GROUPS).to_dict("records"),
        groups=_groups(slices),
        samples=_samples(results.errors.samples, names),
        samples_with_text=_samples(results.errors.samples_with_text, names),
        mistakes=[(name, _with_text(results.errors.mistakes.query("architecture == @name"))) for name in names],
        disagreements=_with_text(results.errors.disagreements),
        explanations=_explanations(results.explanations["explanations"]),
        deletion=[about_deletion(found, how.confidence) for found in results.explanations["deletion"]],
        machines=environment.grouped({name: results.models[name].environment for name in names}),
    )


def p_value(p: float) -> str:
    """
    >>> p_value(0.2), p_value(1e-9)
    ('p = 0.200', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def about_data(card: Mapping[str, Any], splits: Mapping[str, Any]) -> str:
    """One sentence: how many reviews of which classes, and in which split they are."""
    counts = card["rows_per_label"]
    if len(counts) > MOST_CLASSES:
        fewest, most = min(counts.values()), max(counts.values())
        labels = f"{len(counts):,} classes with {fewest:,}{f' to {most:,}' if most > fewest else ''} reviews each"
    else:
        labels = _counted(counts)
    rows = splits["rows"]
    return (
        f"{card['rows']:,} reviews, {labels}: {rows['train']:,} to train on, {rows['valid']:,} to "
        f"choose by (valid) and {rows['test']:,} to report on (test)."
    )


def _counted(labels: Mapping[str, int]) -> str:
    return listed([f"{count:,} {name}" for name, count in labels.items()])


def findings(card: Mapping[str, Any], splits: Mapping[str, Any]) -> list[str]:
    """A line for each thing about the data that a reader of the scores should know."""
    found = []
    counts = card["rows_per_label"]
    if card["rejected_rows"]:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(card["rejected_by_reason"].items()))
        found.append(f"Rows of the source that could not be used: {card['rejected_rows']:,} ({reasons}).")
    if max(counts.values()) > 1.5 * min(counts.values()):
        most = max(counts, key=lambda name: counts[name])
        share = f"{counts[most] / card['rows']:.1%}"
        found.append(f"Uneven classes: {share} of the reviews are {most}, so a model that always says so has that accuracy.")
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
    is_of_films = FILMS & set(card["kinds"]) or "imdb" in card["location"].lower()
    if splits["shared_films"] is None and is_of_films:
        found.append("The source does not say which film a review is about, so reviews of one film may be in train and in test.")
    return found


def verdict(compared: Mapping[str, Any], confidence: float) -> list[str]:
    """Sentences: which model is best, its accuracy, and which differences are more than chance.

    A difference is more than chance where its p-value, by McNemar's exact test and corrected by Holm's method, is below
    1 - `confidence`.
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
            sentences.append("The difference to every other model is more than chance.")
        elif len(alike) <= NAMED:
            sentences.append(f"The difference to {listed(alike)} is not more than chance.")
        else:
            sentences.append(f"The difference to {len(alike)} of the {len(rest)} other models is not more than chance.")
    return sentences


def _gap(best: str, accuracy: float, second: Mapping[str, Any], confidence: float) -> str:
    gap = 100 * (accuracy - second["scores"]["test"]["accuracy_score"])
    p = second["p_against_best"]
    other = f"{second['architecture']}, the second on valid"
    if gap == 0:
        return f"That is equal to {other} ({TEST} {p_value(p)})."
    chance = "more than chance" if p < 1 - confidence else "not more than chance"
    return f"That is {abs(gap):.1f} points {'above' if gap > 0 else 'below'} {other}: {chance} ({TEST} {p_value(p)})."


def about_deletion(found: Mapping[str, Any], confidence: float) -> str:
    """One sentence: whether the words with most attention matter more to the answer than others."""
    low, high = (100 * found[f"difference_{end}"] for end in ("low", "high"))
    meaning = (
        "so its attention points at words that matter"
        if low > 0
        else "so its attention points at words that matter less than others"
        if high < 0
        else "so its attention does not point at words that matter more than others"
    )
    return (
        f"{found['architecture']}: without the {found['deleted']:.0%} of words with most attention its probability for its own "
        f"answer falls by {100 * found['attended']['drop']:.1f} points (mean of {found['reviews']:,} test reviews) and "
        f"{found['attended']['flipped']:.1%} of the answers flip; without as many random words it falls by "
        f"{100 * found['random']['drop']:.1f} points and {found['random']['flipped']:.1%} flip. The difference is "
        f"{100 * found['difference']:.1f} points ({confidence:.0%} t interval {low:.1f} to {high:.1f}), {meaning}."
    )


def _least_unknown(told: Mapping[str, Any]) -> float:
    """Share of the words of test that are unknown where every word of train is kept."""
    rates: Mapping[str, float] = told["unknown_rate"]["test"]
    return rates[max(rates, key=int)]


def _read_as(errors: Errors) -> list[tuple[str, str]]:
    """One review as it was written and as each view decodes it."""
    row = errors.read_as["row"].iloc[0]
    [raw] = errors.samples_with_text.loc[errors.samples_with_text["row"] == row, "text"]
    decoded = zip(errors.read_as["view"], errors.read_as["text"], strict=True)
    return [(name, text[:CHARACTERS]) for name, text in (("as written", raw), *decoded)]


def _reliability(predictions: pd.DataFrame, classes: Sequence[str], how: Evaluate) -> pd.DataFrame:
    labels = pd.Categorical(predictions["label"], categories=list(classes)).codes
    return metrics.reliability(labels, predictions[[f"p_{name}" for name in classes]].to_numpy(), bins=how.bins)


def _confusions(predictions: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> dict[str, Any]:
    """By architecture, the confusion matrices; of many classes instead the most confused pairs."""
    if len(classes) <= MOST_CELLS:
        return {"confusions": {name: _confusion(table, classes) for name, table in predictions.items()}, "pairs": {}}
    pairs = {
        name: evaluation.confused_pairs(table["label"].tolist(), table["predicted"].tolist(), most=MOST_PAIRS).to_dict("records")
        for name, table in predictions.items()
    }
    return {"confusions": {}, "pairs": pairs}


def _confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """For each true class its name and, for each predicted one: reviews, their share of the true class, whether it is right."""
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=list(classes))
    shares = counts / counts.sum(axis=1, keepdims=True)
    return [
        (name, [(int(count), float(share), place == column) for column, (count, share) in enumerate(zip(*cells, strict=True))])
        for place, (name, *cells) in enumerate(zip(classes, counts, shares, strict=True))
    ]


def weak_groups(slices: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """The groups of reviews that are harder for a model than the rest of its reviews, by more than chance; lowest p first.

    Args:
        slices: as `analysis.accuracy_by_slice` gives them.
        confidence: one minus the level of Fisher's exact test with Holm's correction, in (0, 1).

    Returns:
        Their lines, as `analysis.against_the_rest` gives them.
    """
    found = error_analysis.against_the_rest(slices)
    return found[found["p"] < 1 - confidence].sort_values("p", kind="stable")


def _numbers(slices: pd.DataFrame) -> pd.DataFrame:
    return slices.astype({f"accuracy_score{end}": float for end in ("", "_low", "_high")} | {"reviews": int})


def _groups(slices: pd.DataFrame) -> list[dict[str, Any]]:
    """Each slice and group with, by architecture, accuracy and reviews."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in slices.to_dict("records"):
        group = found.setdefault((line["slice"], line["group"]), {"slice": line["slice"], "group": line["group"], "cells": {}})
        group["cells"][line["architecture"]] = line["accuracy_score"], line["reviews"]
    return list(found.values())


def _samples(samples: pd.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    lines = _with_text(samples) if "text" in samples else samples.to_dict("records")
    return [
        {str(key): value for key, value in line.items()}
        | {"answers": [(name, line[name]) for name in names], "right": sum(line[name] == line["label"] for name in names)}
        for line in lines
    ]


def _with_text(lines: pd.DataFrame) -> list[dict[Any, Any]]:
    found = []
    for line in lines.to_dict("records"):
        text = line.pop("text")
        opening, rest = divided(text[:CHARACTERS], OPENING)
        found.append({**line, "opening": opening, "rest": rest, "characters": len(text), "is_cut": len(text) > CHARACTERS})
    return found


def divided(text: str, characters: int) -> tuple[str, str]:
    """The beginning of a text, this long at most and up to a space if it can be, and what follows it.

    >>> divided("a good film", 20), divided("a good film", 8), divided("unbroken", 2)
    (('a good film', ''), ('a good ', 'film'), ('un', 'broken'))
    """
    if len(text) <= characters:
        return text, ""
    end = text.rfind(" ", 0, characters) + 1 or characters
    return text[:end], text[end:]


def _explanations(explanations: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By text: each explanation with its words as (word, strength from -1 to 1, known), and the heaviest of them named."""
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
