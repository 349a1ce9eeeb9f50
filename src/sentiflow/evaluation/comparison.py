"""Comparison of the models: chosen on valid, reported on test, with significance tests."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.evaluation import significance
from sentiflow.evaluation.metrics import METRICS, tracked
from sentiflow.system import markdown
from sentiflow.system.errors import InputError

SHOWN = ("accuracy_score", "f1_score", "log_loss")  # for every split


def published() -> pd.DataFrame:
    """Published results: columns architecture, classes, recipe, accuracy, f1, note."""
    with resources.files("sentiflow.evaluation").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def compare(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    predictions: Mapping[str, pd.DataFrame],
    *,
    chosen_by: str,
    has_published: bool = True,
) -> dict[str, Any]:
    """The comparison as data.

    Args:
        scores: of each architecture and split, from `evaluation.evaluate`.
        predictions: of each architecture on test, from `evaluation.predictions`.
        chosen_by: the score on valid that determines the order.
        has_published: whether these are the data of the published results.

    Returns:
        `best`, and a `models` list, best first, each with its scores, its published result if there is one, and
        `p_against_best`: p-value of McNemar's exact test on test, with Holm's correction for the number of models. Equal scores
        are ordered by the loss on valid, then by the name.

    Raises:
        InputError: if two architectures were not evaluated on the same test reviews.
    """
    sign = -1 if METRICS[chosen_by].higher_is_better else 1
    order = sorted(scores, key=lambda name: (sign * scores[name]["valid"][chosen_by], scores[name]["valid"]["log_loss"], name))
    best, *others = order
    classes = sum(str(column).startswith("p_") for column in predictions[best])
    rows = published() if has_published else published()[:0]
    rows = rows[rows["classes"] == classes].set_index("architecture")[["recipe", "accuracy", "f1", "note"]]
    known = rows.astype(object).where(rows.notna(), None).to_dict("index")
    for name in others:
        if not np.array_equal(predictions[name]["row"], predictions[best]["row"]):
            raise InputError(
                f"{name} and {best} were evaluated on different test reviews; evaluate both again: dvc repro evaluate"
            )
    right = {name: (predictions[name]["label"] == predictions[name]["predicted"]).to_numpy() for name in order}
    p_values = significance.holm(np.array([significance.mcnemar(right[name], right[best]) for name in others]))
    models = [
        {
            "architecture": name,
            "scores": {split: dict(values) for split, values in scores[name].items()},
            "published": known.get(name),
            "p_against_best": p,
        }
        for name, p in zip(order, [None, *p_values.tolist()], strict=True)
    ]
    return {"best": best, "chosen_by": f"valid {chosen_by}", "test_reviews": len(predictions[best]), "models": models}


def as_table(comparison: Mapping[str, Any]) -> pd.DataFrame:
    """One line per model: test scores with intervals and the published accuracy."""
    lines = []
    for model in comparison["models"]:
        line = {"architecture": model["architecture"], "published": (model["published"] or {}).get("accuracy")}
        lines.append(line | model["scores"]["test"])
    return pd.DataFrame(lines).astype({"published": float})


def as_markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison as a page."""
    models = comparison["models"]
    best = models[0]
    test = best["scores"]["test"]
    chosen, values = _chosen(comparison)
    lines = [
        "# Comparison",
        "",
        f"**{best['architecture']}** is best on {comparison['chosen_by']}. "
        f"On test ({comparison['test_reviews']:,} reviews) its accuracy is {test['accuracy_score']:.2%} "
        f"(interval {test['accuracy_score_low']:.2%} to {test['accuracy_score_high']:.2%}).",
        "",
        f"Models are chosen on valid and reported on test. Order: {chosen}, then valid loss. The **best** and the _worst_ of "
        "each column are marked.",
        "",
    ]
    columns = [(split, score) for score in SHOWN for split in ("train", "valid", "test")]
    cells = {column: _marked([m["scores"][column[0]][column[1]] for m in models], column[1]) for column in columns}
    lines += markdown.markdown(
        ["model", *(f"{split} {METRICS[score].label}" for split, score in columns)],
        [[m["architecture"], *(cells[column][i] for column in columns)] for i, m in enumerate(models)],
    )
    lines += ["", "## On test, with intervals", ""]
    labels = [metric.label for metric in tracked().values()]
    lines += markdown.markdown(
        ["model", chosen, *labels, "calibration error (before)", "McNemar p (Holm)"],
        [
            [
                m["architecture"],
                values[i],
                *(_interval(m["scores"]["test"], name) for name in tracked()),
                f"{m['scores']['test']['calibration_error']:.3f} ({m['scores']['test']['uncalibrated_error']:.3f})",
                "best" if m["p_against_best"] is None else f"{m['p_against_best']:.2g}",
            ]
            for i, m in enumerate(models)
        ],
    )
    lines += [
        "",
        "Intervals: Wilson's for accuracy, percentile bootstrap over reviews for the other scores.",
        "Calibration error: with the temperature fitted on valid, and without it.",
        "McNemar p (Holm): two-sided p-value of McNemar's exact test against the best on the same reviews, with Holm's "
        f"correction for the number of comparisons ({len(models) - 1}).",
        "",
        significance.ONE_SEED,
    ]
    if not any(m["published"] for m in models):
        return "\n".join(lines) + "\n"
    lines += ["", "## Published figures", ""]
    lines += markdown.markdown(
        ["model", chosen, "recipe", "published accuracy", "ours on test", "their data"],
        [
            [
                m["architecture"],
                values[i],
                m["published"]["recipe"],
                f"{m['published']['accuracy']:.4f}",
                _interval(m["scores"]["test"], "accuracy_score"),
                m["published"]["note"],
            ]
            for i, m in enumerate(models)
            if m["published"]
        ],
    )
    lines += ["", "Published figures are single runs on other splits; less than one point apart is noise."]
    return "\n".join(lines) + "\n"


def as_summary(comparison: Mapping[str, Any]) -> str:
    """The comparison on test as a small Markdown table, in order of its first column of scores."""
    chosen, values = _chosen(comparison)
    rows = [
        [
            model["architecture"],
            value,
            _interval(model["scores"]["test"], "accuracy_score"),
            f"{model['scores']['test']['f1_score']:.4f}",
            f"{model['scores']['test']['log_loss']:.4f}",
            f"{model['published']['accuracy']:.4f}, {model['published']['recipe']}" if model["published"] else "",
        ]
        for model, value in zip(comparison["models"], values, strict=True)
    ]
    header = ["model", chosen, "test accuracy (interval)", "test F1", "test loss", "published accuracy"]
    if not any(model["published"] for model in comparison["models"]):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return "\n".join(markdown.markdown(header, rows)) + "\n"


def _chosen(comparison: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Label of the score that determines the order, and its value per model."""
    split, score = comparison["chosen_by"].split()
    return f"{split} {METRICS[score].label}", [f"{model['scores'][split][score]:.4f}" for model in comparison["models"]]


def _marked(values: list[float], score: str) -> list[str]:
    best, worst = (max(values), min(values)) if METRICS[score].higher_is_better else (min(values), max(values))
    shown = [f"{value:.4f}" for value in values]
    if best == worst:
        return shown
    return [
        f"**{text}**" if value == best else f"_{text}_" if value == worst else text
        for text, value in zip(shown, values, strict=True)
    ]


def _interval(scores: Mapping[str, float], name: str) -> str:
    return f"{scores[name]:.4f} ({scores[f'{name}_low']:.4f} to {scores[f'{name}_high']:.4f})"
