"""The error analysis as a Markdown page."""

import re
from collections.abc import Hashable, Mapping

import pandas as pd

from sentiflow.evaluation import error_analysis
from sentiflow.evaluation.error_analysis import Answers
from sentiflow.system import markdown
from sentiflow.system.markdown import cell

MOST_COLUMNS = 6  # classes up to which each has a column
EXCERPT = 300  # characters of a review
LINE_BREAK = r"(?i)<br\s*/?>"

HOW_TO_READ = {
    "length": "Number of words, without punctuation.",
    "negation": "Number of negations: words of `analyse.negations` in params.yaml and words in n't. Increases with length.",
    "contrast": "Whether the review has a word of `analyse.contrasts` in params.yaml. More frequent in long reviews.",
    "unknown words": "Share of out-of-vocabulary words in the model's input.",
    "truncation": "Whether the review is longer than the model's input.",
}


def as_markdown(answers: Answers, found: Mapping[str, pd.DataFrame], *, confidence: float) -> str:
    """The page.

    Args:
        answers: of all models, best on valid first.
        found: the tables of `error_analysis.analyse`.
        confidence: coverage of the intervals; 1 - confidence is the significance level.
    """
    names = list(answers.predicted.columns)
    lines = [
        "# Errors on test",
        "",
        f"Mistakes on the {len(answers.labels):,} reviews of test. Models, best on valid first: {', '.join(names)}. "
        "`row` is the number of a review in the downloaded data.",
        "",
        f"Texts are cut after {EXCERPT} characters; the CSV files in this folder have them in full. There, a ' is put before a "
        "text that begins with ' or that a spreadsheet would run as a formula.",
    ]
    lines += _samples(answers, found["samples"])
    lines += _samples_with_text(answers, found["samples_with_text"])
    lines += _slices(found["slices"], confidence)
    lines += _mistakes(answers, found["mistakes"])
    lines += _disagreements(answers, found["disagreements"])
    return "\n".join(lines) + "\n"


def _samples(answers: Answers, samples: pd.DataFrame) -> list[str]:
    predicted = samples[answers.predicted.columns]
    right = predicted.eq(samples["label"], axis=0)
    marked = predicted.map(cell).where(right, "**" + predicted.map(cell) + "**")
    return [
        "",
        f"## Predictions on the same {len(samples)} random reviews",
        "",
        "One column per review, one line per model; mistakes are **bold**. Last lines: number of correct models, and whether all "
        f"models give the same prediction. {_agreement(answers, samples)}",
        "",
        *markdown.markdown(
            ["", *(f"row {row}" for row in samples["row"])],
            [
                ["label", *map(cell, samples["label"])],
                *([str(name), *marked[name]] for name in marked),
                ["correct", *(f"{hits} of {predicted.shape[1]}" for hits in right.sum(axis=1))],
                ["same", *("yes" if count == 1 else "no" for count in predicted.nunique(axis=1))],
            ],
        ),
    ]


def _samples_with_text(answers: Answers, samples: pd.DataFrame) -> list[str]:
    names = list(answers.predicted.columns)
    labels = sorted({*samples["label"], *samples[names].to_numpy().ravel()})
    many = len(labels) > MOST_COLUMNS
    columns = ["predicted"] if many else [f"predicted {cell(label)}" for label in labels]
    return [
        "",
        f"## {len(samples)} random reviews with their text",
        "",
        "The reviews of the table above come first. The columns `predicted` name the models that predict a class. "
        f"{_agreement(answers, samples)}",
        "",
        *markdown.markdown(
            ["row", "label", *columns, "text"],
            [
                [
                    str(row["row"]),
                    cell(row["label"]),
                    *_models_by_prediction(row, names, labels, many=many),
                    _excerpt(row["text"]),
                ]
                for row in samples.to_dict("records")
            ],
        ),
    ]


def _models_by_prediction(sample: Mapping[Hashable, str], names: list[str], labels: list[str], *, many: bool) -> list[str]:
    models = {label: ", ".join(name for name in names if sample[name] == label) for label in labels}
    if len(names) > 1:
        models = {label: f"all {len(names)}" if each == ", ".join(names) else each for label, each in models.items()}
    return ["; ".join(f"{cell(label)}: {each}" for label, each in models.items() if each)] if many else list(models.values())


def _agreement(answers: Answers, samples: pd.DataFrame) -> str:
    predicted = samples[answers.predicted.columns]
    all_right = int(predicted.eq(samples["label"], axis=0).all(axis=1).sum())
    none_right = int(predicted.ne(samples["label"], axis=0).all(axis=1).sum())
    if predicted.shape[1] == 1:
        return f"The model is correct on {all_right} of {len(samples)}."
    alike = int((predicted.nunique(axis=1) == 1).sum())
    return (
        f"Of {len(samples)} reviews, all models are correct on {all_right} and none on {none_right}; "
        f"on {alike} all predictions are the same."
    )


def _slices(slices: pd.DataFrame, confidence: float) -> list[str]:
    tested = error_analysis.against_the_rest(slices)
    worse = tested[tested["p"] < 1 - confidence]
    worse = worse.assign(gap=worse["rest"] - worse["accuracy_score"]).sort_values("gap", ascending=False, kind="stable")
    lines = [
        "",
        "## Accuracy by kind of review",
        "",
        f"In brackets: Wilson's {confidence:.0%} interval. **Bold**: significantly worse than the rest of the model's reviews, "
        f"p below {1 - confidence:.3g} by Fisher's exact test (one-sided) with Holm's correction for all {len(tested)} groups on "
        "this page. " + (f"These are {len(worse)} groups, largest gap first." if len(worse) else "No group is."),
    ]
    if len(worse):
        rows = [
            [
                row["architecture"],
                row["slice"],
                row["group"],
                f"{row['reviews']:,}",
                f"{row['accuracy_score']:.1%}",
                f"{row['rest']:.1%}",
                f"{100 * row['gap']:.1f} points",
                f"{row['p']:.2g}",
            ]
            for row in worse.to_dict("records")
        ]
        header = ["model", "slice", "group", "reviews", "accuracy", "on the rest", "gap", "p (Holm)"]
        lines += ["", *markdown.markdown(header, rows)]
    marked = set(worse.index)
    for kind, how_to_read in HOW_TO_READ.items():
        of_kind = slices[slices["slice"] == kind]
        groups = [group for group in error_analysis.SLICES[kind] if group in set(of_kind["group"])]
        cells = {(row["architecture"], row["group"]): _score(row, place in marked) for place, row in of_kind.iterrows()}
        lines += ["", f"### By {kind}", "", f"{how_to_read} {_finding(worse[worse['slice'] == kind], of_kind)}", ""]
        lines += markdown.markdown(
            ["model", *groups],
            [[name, *(cells.get((name, group), "") for group in groups)] for name in of_kind["architecture"].unique()],
        )
    return lines


def _finding(worse: pd.DataFrame, of_kind: pd.DataFrame) -> str:
    """The groups of one slice that are significantly worse: for how many models, and the largest gap."""
    if of_kind["group"].nunique() == 1:
        return "All reviews are in one group, so it has no rest to compare with."
    if worse.empty:
        return "No group is significantly worse."
    count = of_kind["architecture"].nunique()
    groups = [
        f"`{group}` is worse for {len(lines)} of {count} {'model' if count == 1 else 'models'}, most of all {_gap(lines.iloc[0])}"
        for group, lines in worse.groupby("group", sort=False)
    ]
    return "; ".join(groups) + "."


def _gap(line: pd.Series) -> str:
    return f"{line['architecture']} ({line['accuracy_score']:.1%} against {line['rest']:.1%} on the rest)"


def _score(line: pd.Series, worse: bool) -> str:
    score = f"{line['accuracy_score']:.1%}"
    interval = f"({line['accuracy_score_low']:.1%} to {line['accuracy_score_high']:.1%})"
    return f"{f'**{score}**' if worse else score} {interval}, {line['reviews']:,} reviews"


def _mistakes(answers: Answers, mistakes: pd.DataFrame) -> list[str]:
    right = answers.right
    lines = [
        "",
        "## The most confident mistakes of each model",
        "",
        "Confidence is the predicted probability of the wrong class. A confident mistake of many models may be a wrong label."
        + ("" if right.shape[1] == 1 else f" {_shared(mistakes, right)}"),
    ]
    for name in answers.predicted.columns:
        hits = right[name]
        lines += ["", f"### {name}", ""]
        if hits.all():
            lines += [f"All {len(hits):,} predictions are correct."]
            continue
        confidence = answers.confidence[name]
        lines += [
            f"{(~hits).sum():,} of {len(hits):,} predictions are wrong, with a mean confidence of {confidence[~hits].mean():.1%}"
            + (f" ({confidence[hits].mean():.1%} of the correct ones)." if hits.any() else "."),
        ]
        rows = [
            [str(row["row"]), cell(row["label"]), cell(row["predicted"]), f"{row['confidence']:.4f}", _excerpt(row["text"])]
            for row in mistakes[mistakes["architecture"] == name].to_dict("records")
        ]
        lines += ["", *markdown.markdown(["row", "label", "predicted", "confidence", "text"], rows)]
    return lines


def _shared(mistakes: pd.DataFrame, right: pd.DataFrame) -> str:
    wrong_by_all = int((~right).all(axis=1).sum())
    words = f"All {right.shape[1]} models are wrong on {wrong_by_all:,} {'review' if wrong_by_all == 1 else 'reviews'}"
    lists = mistakes["row"].value_counts()
    if len(lists) and lists.iloc[0] > 1:
        often = lists.index[lists == lists.iloc[0]].min()
        words += f"; row {often} is in {lists.iloc[0]} of the lists below"
    return f"{words}."


def _disagreements(answers: Answers, disagreements: pd.DataFrame) -> list[str]:
    names = list(answers.predicted.columns)
    lines = ["", "## Where the two best models disagree", ""]
    if len(names) == 1:
        return [*lines, f"{names[0]} is the only model."]
    one, other = names[:2]
    differ = answers.predicted[one] != answers.predicted[other]
    lines += [
        f"{one} and {other} give different predictions on {differ.sum():,} of {len(differ):,} reviews; {one} is correct on "
        f"{answers.right[one][differ].sum():,} of them, {other} on {answers.right[other][differ].sum():,}. The highest joint "
        "confidence comes first."
    ]
    if differ.any():
        rows = [
            [
                str(row["row"]),
                cell(row["label"]),
                f"{cell(row['predicted'])} {row['confidence']:.4f}",
                f"{cell(row['other_predicted'])} {row['other_confidence']:.4f}",
                _excerpt(row["text"]),
            ]
            for row in disagreements.to_dict("records")
        ]
        lines += ["", *markdown.markdown(["row", "label", one, other, "text"], rows)]
    return lines


def _excerpt(text: str) -> str:
    plain = " ".join(re.sub(LINE_BREAK, " ", text).split())
    return cell(plain if len(plain) <= EXCERPT else plain[:EXCERPT].rstrip() + "\u2026")
