"""Synthetic inputs of the report: results of every earlier stage, computed by the real code from random predictions."""

import numpy as np
import pandas as pd
from samples import answers, reviews

from sentiflow.config import params
from sentiflow.data import data_card, splits, vocabulary
from sentiflow.data.sources import TYPES, Corpus
from sentiflow.evaluation import comparison, error_analysis, evaluation
from sentiflow.evaluation.metrics import tracked
from sentiflow.models import explanation
from sentiflow.reporting import html_report

HOW = params.Evaluate(resamples=100, confidence=0.95, bins=5)
ROWS = {"train": 40, "valid": 40, "test": 60}


def results(
    folder,
    *,
    names=("nb_svm", "lstm"),
    classes=("negative", "positive"),
    texts=None,
    location="reviews.csv",
    right=None,
    rows=None,
):
    """
    Args:
        folder: empty folder for the tables of the error analysis.
        names: names of the models.
        classes: names of at least 2 classes.
        texts: the first test reviews.
        location: location of the source in the data card.
        right: whether all predictions are correct; None for a mixture.
        rows: number of rows of each split; by default ROWS.
    """
    sizes = ROWS if rows is None else dict.fromkeys(ROWS, rows)
    labels = {split: answers(count, len(classes), seed=seed)[0] for seed, (split, count) in enumerate(sizes.items())}
    assigned = pd.Series([split for split, count in sizes.items() for _ in range(count)])
    known = [f"{text} {row}" for row, text in enumerate(reviews(len(assigned))[0])]
    first = sizes["train"] + sizes["valid"]
    known[first : first + len(texts or [])] = texts or []
    of_class = np.array(classes, dtype=object)[np.concatenate(list(labels.values()))]
    table = pd.DataFrame({"row": range(len(known)), "text": known, "label": of_class, "source": "csv"})
    table = table.assign(split=None, rating=None, film=None, group=None).astype(TYPES)
    corpus = Corpus(table, pd.DataFrame({"reason": []}, dtype=str), {}, list(classes), location, "0" * 64)

    probabilities = {
        name: {split: drawn(labels[split], len(classes), seed, right) for split in sizes} for seed, name in enumerate(names)
    }
    scores = {
        name: {split: evaluation.evaluate(labels[split], of_split[split], HOW, temperature=1.0, seed=1) for split in sizes}
        for name, of_split in probabilities.items()
    }
    words = vocabulary.Vocabulary.from_json(vocabulary.fit(table["text"], minimum_count=1))
    tested = np.arange(first, len(known))
    predictions = {
        name: evaluation.predictions(tested, labels["test"], of_split["test"], classes)
        for name, of_split in probabilities.items()
    }
    compared = comparison.compare(scores, predictions, chosen_by="f1_score") | {"tuning": None}
    best_first = [model["architecture"] for model in compared["models"]]
    return html_report.Results(
        card=data_card.describe(corpus, "csv"),
        splits=splits.prove(table, assigned, params.load().split),
        vocabulary=dict.fromkeys(("text", "content"), vocabulary.describe(words, {"test": words.ids(table["text"])})),
        comparison=compared,
        models={name: model(name, predictions[name], classes) for name in names},
        errors=errors(folder, {name: predictions[name] for name in best_first}, table.set_index("row")["text"]),
        explanations={
            "explanations": [
                explained(name, classes, method) for name, method in zip(names, ["attention", "leave one out"], strict=False)
            ],
            "deletion": [],
        },
    )


def drawn(labels, classes, seed, right):
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(classes), len(labels))
    share = 0.3 if right is None else 0.9
    answered = (labels + 1) % classes if right is False else labels
    return (1 - share) * probabilities + share * np.eye(classes)[answered]


def model(name, predictions, classes):
    draw = np.random.default_rng(len(name))
    epochs = 1 if name == "nb_svm" else 3
    history = {f"{split}_{score}": draw.random(epochs) for split in ("train", "valid") for score in tracked()}
    return html_report.Model(
        config={"model": name, "classes": list(classes), "settings": {"view": "text", "length": None, "units": 8}},
        environment={
            "processor": "a processor",
            "processor_model": "cpu family 1, model 2",
            "instruction_sets": ["avx", "fma"],
            "caches": ["1 Data 32K"],
            "cores": 2,
            "threads": 1,
            "gpus": [],
            "system": "Linux x86_64",
            "python": "3.11",
            "libraries": {"numpy": "2", "keras": "3"},
        },
        layers={"layers": [{"name": "word", "kind": "Embedding", "output": "(B, 5, 2)", "weights": 2000}], "weights": 2017},
        classification="a classification report",
        history=pd.DataFrame({"epoch": range(1, epochs + 1), **history}),
        predictions=predictions,
    )


def errors(folder, predictions, texts):
    collected = error_analysis.collect(predictions, texts)
    index = collected.labels.index
    counts = {kind: np.arange(len(index)) % 4 for kind in error_analysis.SLICES}
    measures = {name: pd.DataFrame(counts, index=index) for name in predictions}
    slices = error_analysis.accuracy_by_slice(collected, measures, confidence=HOW.confidence)
    how = params.load().analyse
    tables = error_analysis.analyse(collected, slices, how, seed=1)
    rows, views = index.to_numpy(), ("text", "content")
    words = vocabulary.Vocabulary.from_json(vocabulary.fit(texts.loc[rows], minimum_count=1))
    tokens = vocabulary.Tokens(rows, np.zeros(len(rows), int), words.ids(texts.loc[rows]))
    row = int(tables["samples"]["row"].iloc[0])
    tables["read_as"] = error_analysis.read_as(row, dict.fromkeys(views, tokens), dict.fromkeys(views, words))
    for name, table in tables.items():
        (folder / f"{name}.csv").write_text(error_analysis.as_csv(table), encoding="utf-8", newline="")
    return {file.stem: html_report.read_texts(file) for file in folder.glob("*.csv")}


def explained(name, classes, method):
    words, weights = ("a", "dull", "story"), np.array([0.1, 0.7, 0.2] if method == "attention" else [0.02, -0.4, 0.0])
    found = explanation.Explanation(method, words, (True, True, False), weights, classes[-1], 0.9, 0)
    return explanation.as_data(name, "A dull story", found)
