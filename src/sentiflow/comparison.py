"""Choose on valid, report on test: the models side by side, and whether they differ by more than chance."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sentiflow import tables
from sentiflow.errors import InputError
from sentiflow.scoring import SCORES, higher_is_better

SHOWN = {"accuracy_score": "accuracy", "f1_score": "F1", "log_loss": "loss"}


def published() -> pd.DataFrame:
    """The figures of the literature: columns architecture, classes, recipe, accuracy, f1, note."""
    with resources.files("sentiflow").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> float:
    """How likely two models that are equally good would differ this much or more on the same reviews.

    Args:
        right: whether one model answers each review rightly; shape (n,).
        other_right: the same of the other.

    Returns:
        p-value in [0, 1] of the exact two-sided test; 1 where they never differ.

    Source: McNemar (1947); exact binomial form.

    >>> mcnemar(np.array([True] * 10), np.array([True, False] * 5))
    0.0625
    """
    only_one, only_other = int((right & ~other_right).sum()), int((~right & other_right).sum())
    if only_one + only_other == 0:
        return 1.0
    return float(stats.binomtest(only_one, only_one + only_other).pvalue)


def compare(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]], predictions: Mapping[str, pd.DataFrame], *, chosen_by: str
) -> dict[str, Any]:
    """The comparison as data.

    Args:
        scores: of each architecture and split, as `evaluation.evaluate` gives them.
        predictions: of each architecture on test, as `evaluation.predictions` gives them.
        chosen_by: the score that decides, on valid.

    Returns:
        `best` (on valid), and a `models` list in order of that score, best first, each with its scores, its published
        figure if there is one, and `p_against_best` (McNemar on test).

    Raises:
        InputError: if two architectures were not evaluated on the same test reviews.
    """
    order = sorted(scores, key=lambda name: scores[name]["valid"][chosen_by], reverse=higher_is_better(chosen_by))
    best = order[0]
    classes = sum(str(column).startswith("p_") for column in predictions[best])
    known = {str(row["architecture"]): row for row in published().to_dict("records") if row["classes"] == classes}
    models = []
    for name in order:
        if not np.array_equal(predictions[name]["row"], predictions[best]["row"]):
            raise InputError(
                f"{name} and {best} were evaluated on different test reviews; evaluate both again: dvc repro evaluate"
            )
        right = {each: (predictions[each]["label"] == predictions[each]["predicted"]).to_numpy() for each in (name, best)}
        models.append(
            {
                "architecture": name,
                "scores": {split: dict(values) for split, values in scores[name].items()},
                "published": _plain(known[name]) if name in known else None,
                "p_against_best": None if name == best else mcnemar(right[name], right[best]),
            }
        )
    return {"best": best, "chosen_by": f"valid {chosen_by}", "test_reviews": len(predictions[best]), "models": models}


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: None if pd.isna(row[key]) else row[key] for key in ("recipe", "accuracy", "f1", "note")}


def as_table(comparison: Mapping[str, Any]) -> pd.DataFrame:
    """One line a model: test scores with intervals and the published accuracy."""
    lines = []
    for model in comparison["models"]:
        line = {"architecture": model["architecture"], "published": (model["published"] or {}).get("accuracy")}
        lines.append(line | model["scores"]["test"])
    return pd.DataFrame(lines).astype({"published": float})


def as_markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison as a page: in each column **best** and _worst_ are marked."""
    models = comparison["models"]
    best = models[0]
    test = best["scores"]["test"]
    lines = [
        "# Comparison",
        "",
        f"**{best['architecture']}** is best on {comparison['chosen_by']}. "
        f"On test ({comparison['test_reviews']:,} reviews) it is right in {test['accuracy_score']:.2%} of them "
        f"(interval {test['accuracy_score_low']:.2%} to {test['accuracy_score_high']:.2%}).",
        "",
        "In each column the **best** and the _worst_ are marked. Models are chosen on valid and reported on test.",
        "",
    ]
    columns = [(split, score) for score in SHOWN for split in ("train", "valid", "test")]
    cells = {column: _marked([m["scores"][column[0]][column[1]] for m in models], column[1]) for column in columns}
    lines += tables.markdown(
        ["architecture", *(f"{split} {SHOWN[score]}" for split, score in columns)],
        [[m["architecture"], *(cells[column][i] for column in columns)] for i, m in enumerate(models)],
    )
    lines += ["", "## On test, with intervals", ""]
    lines += tables.markdown(
        [
            "architecture",
            *(name.removesuffix("_score").replace("_", " ") for name in SCORES),
            "calibration error (before)",
            "McNemar p",
        ],
        [
            [
                m["architecture"],
                *(_interval(m["scores"]["test"], name) for name in SCORES),
                f"{m['scores']['test']['calibration_error']:.3f} ({m['scores']['test']['uncalibrated_error']:.3f})",
                "best" if m["p_against_best"] is None else f"{m['p_against_best']:.2g}",
            ]
            for m in models
        ],
    )
    lines += [
        "",
        "Calibration error: with the temperature that valid chose, and before it.",
        f"McNemar p: how likely a model as good as {best['architecture']} would differ from it this much on the same reviews.",
        "",
        "## Beside the published figures",
        "",
    ]
    lines += tables.markdown(
        ["architecture", "recipe", "published accuracy", "ours on test", "their data"],
        [
            [
                m["architecture"],
                m["published"]["recipe"],
                f"{m['published']['accuracy']:.4f}",
                _interval(m["scores"]["test"], "accuracy_score"),
                m["published"]["note"],
            ]
            for m in models
            if m["published"]
        ],
    )
    lines += ["", "Published figures are single runs on other splits; less than one point apart is noise."]
    return "\n".join(lines) + "\n"


def as_summary(comparison: Mapping[str, Any]) -> str:
    """The comparison on test as one small Markdown table."""
    rows = [
        [
            model["architecture"],
            _interval(model["scores"]["test"], "accuracy_score"),
            f"{model['scores']['test']['f1_score']:.4f}",
            f"{model['scores']['test']['log_loss']:.4f}",
            f"{model['published']['accuracy']:.4f}, {model['published']['recipe']}" if model["published"] else "",
        ]
        for model in comparison["models"]
    ]
    return (
        "\n".join(tables.markdown(["architecture", "accuracy on test (interval)", "F1", "loss", "published accuracy"], rows))
        + "\n"
    )


def _marked(values: list[float], score: str) -> list[str]:
    best, worst = (max(values), min(values)) if higher_is_better(score) else (min(values), max(values))
    shown = [f"{value:.4f}" for value in values]
    if best == worst:
        return shown
    return [
        f"**{text}**" if value == best else f"_{text}_" if value == worst else text
        for text, value in zip(shown, values, strict=True)
    ]


def _interval(scores: Mapping[str, float], name: str) -> str:
    return f"{scores[name]:.4f} ({scores[f'{name}_low']:.4f} to {scores[f'{name}_high']:.4f})"
