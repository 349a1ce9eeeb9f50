"""The error analysis as a page: each table with how to read it and what stands out."""

import re
from collections.abc import Hashable, Mapping

import pandas as pd

from sentiflow.evaluation import error_analysis
from sentiflow.evaluation.error_analysis import Answers
from sentiflow.system import markdown

MOST_COLUMNS = 6  # answers that have a column each
EXCERPT = 300  # characters of a review that the page shows
LINE_BREAK = r"(?i)<br\s*/?>"

HOW_TO_READ = {
    "length": "The number of words of the review, marks of punctuation not counted.",
    "negation": "How many negations the review holds: words of `analyse.negations` in params.yaml, and words in n't. "
    "A long review holds more.",
    "contrast": "Whether the review holds a word of `analyse.contrasts` in params.yaml. A long review does so more often.",
    "unknown words": "The share of unknown words in what the model reads, which follows from its own vocabulary and length.",
    "truncation": "Whether the review is longer than the model reads.",
}


def as_markdown(answers: Answers, found: Mapping[str, pd.DataFrame], *, confidence: float) -> str:
    """The analysis as a page.

    Args:
        answers: of all architectures, best on valid first.
        found: the tables that `analysis.analyse` gives.
        confidence: coverage of the intervals; one minus it is the level of the tests.
    """
    names = list(answers.predicted.columns)
    lines = [
        "# Errors on test",
        "",
        f"What is answered wrongly of the {len(answers.labels):,} reviews of test. The models, best on valid first: "
        f"{', '.join(names)}. A `row` is the number of a review in the downloaded data.",
        "",
        f"Texts end here after {EXCERPT} characters, without their line breaks, and stand whole in the CSV files beside this "
        "page. There a text that a spreadsheet would run as a formula, or that begins with ', has one ' put in front of it.",
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
    answered = [
        [str(name), *(_answer(label, hit) for label, hit in zip(predicted[name], right[name], strict=True))] for name in predicted
    ]
    return [
        "",
        f"## The same {len(samples)} random reviews under every model",
        "",
        "A column is a review, a line is what a model says of it; wrong answers are **bold**. The last two lines say how many "
        f"models agree with the label, and whether they all agree with each other. {_agreement(answers, samples)}",
        "",
        *markdown.markdown(
            ["", *(f"row {row}" for row in samples["row"])],
            [
                ["label", *map(markdown.cell, samples["label"])],
                *answered,
                ["right", *(f"{hits} of {predicted.shape[1]}" for hits in right.sum(axis=1))],
                ["alike", *("yes" if answers_given == 1 else "no" for answers_given in predicted.nunique(axis=1))],
            ],
        ),
    ]


def _samples_with_text(answers: Answers, samples: pd.DataFrame) -> list[str]:
    names = list(answers.predicted.columns)
    labels = sorted({*samples["label"], *samples[names].to_numpy().ravel()})
    many = len(labels) > MOST_COLUMNS
    columns = ["answers"] if many else [f"says {markdown.cell(label)}" for label in labels]
    how = (
        "The column `answers` has each answer with the models that give it."
        if many
        else ("A column `says ...` names the models that give this answer.")
    )
    return [
        "",
        f"## {len(samples)} random reviews with their text",
        "",
        f"The reviews of the table above come first. {how} {_agreement(answers, samples)}",
        "",
        *markdown.markdown(
            ["row", "label", *columns, "text"],
            [
                [
                    str(sample["row"]),
                    markdown.cell(sample["label"]),
                    *_who_says(sample, names, labels, many=many),
                    _excerpt(sample["text"]),
                ]
                for sample in samples.to_dict("records")
            ],
        ),
    ]


def _who_says(sample: Mapping[Hashable, str], names: list[str], labels: list[str], *, many: bool) -> list[str]:
    who = {label: _who([name for name in names if sample[name] == label], of=len(names)) for label in labels}
    if not many:
        return list(who.values())
    return ["; ".join(f"{markdown.cell(label)}: {models}" for label, models in who.items() if models)]


def _agreement(answers: Answers, samples: pd.DataFrame) -> str:
    predicted = samples[answers.predicted.columns]
    all_right = int(predicted.eq(samples["label"], axis=0).all(axis=1).sum())
    none_right = int(predicted.ne(samples["label"], axis=0).all(axis=1).sum())
    if predicted.shape[1] == 1:
        return f"It is right on {all_right} of {len(samples)}."
    alike = int((predicted.nunique(axis=1) == 1).sum())
    return (
        f"Of {len(samples)} reviews, all models are right on {all_right} and none on {none_right}; "
        f"on {alike} they all answer alike."
    )


def _answer(label: str, right: bool) -> str:
    return markdown.cell(label) if right else f"**{markdown.cell(label)}**"


def _who(names: list[str], *, of: int) -> str:
    return f"all {of}" if len(names) == of > 1 else ", ".join(names)


def _slices(slices: pd.DataFrame, confidence: float) -> list[str]:
    tested = error_analysis.against_the_rest(slices)
    worse = tested[tested["p"] < 1 - confidence]
    worse = worse.assign(gap=worse["rest"] - worse["accuracy_score"]).sort_values("gap", ascending=False, kind="stable")
    lines = [
        "",
        "## Accuracy by kind of review",
        "",
        f"In brackets: Wilson's {confidence:.0%} interval. A group is worse by more than chance, and its accuracy is **bold**, "
        "where Fisher's exact test against the rest of the same model's reviews (one-sided), corrected by Holm's method for all "
        f"{len(tested)} groups on this page, gives p below {1 - confidence:.3g}. "
        + (f"These are {len(worse)} groups, ordered by the gap." if len(worse) else "This is true of no group."),
    ]
    if len(worse):
        lines += [
            "",
            *markdown.markdown(
                ["model", "slice", "group", "reviews", "accuracy", "on the rest", "gap", "p (Holm)"],
                [
                    [
                        line["architecture"],
                        line["slice"],
                        line["group"],
                        f"{line['reviews']:,}",
                        f"{line['accuracy_score']:.1%}",
                        f"{line['rest']:.1%}",
                        f"{100 * line['gap']:.1f} points",
                        f"{line['p']:.2g}",
                    ]
                    for line in worse.to_dict("records")
                ],
            ),
        ]
    marked = set(worse.index)
    for kind, how_to_read in HOW_TO_READ.items():
        of_kind = slices[slices["slice"] == kind]
        groups = [group for group in error_analysis.SLICES[kind] if group in set(of_kind["group"])]
        cells = {(line["architecture"], line["group"]): _score(line, place in marked) for place, line in of_kind.iterrows()}
        lines += ["", f"### By {kind}", "", f"{how_to_read} {_finding(worse[worse['slice'] == kind], of_kind)}", ""]
        lines += markdown.markdown(
            ["model", *groups],
            [[name, *(cells.get((name, group), "") for group in groups)] for name in of_kind["architecture"].unique()],
        )
    return lines


def _finding(worse: pd.DataFrame, of_kind: pd.DataFrame) -> str:
    """Which groups of one slice are worse, for how many models and for which most."""
    if of_kind["group"].nunique() == 1:
        return "All reviews are in one group, so there is no rest to compare it with."
    if worse.empty:
        return "No group is worse by more than chance."
    count = of_kind["architecture"].nunique()
    groups = [
        f"`{group}` is worse for {len(lines)} of {count} {'model' if count == 1 else 'models'}, most for {_gap(lines.iloc[0])}"
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
        "Confidence is the probability that the model gives to its wrong answer. A review that many models get wrong with "
        "confidence may have the wrong label." + ("" if right.shape[1] == 1 else f" {_shared(mistakes, right)}"),
    ]
    for name in answers.predicted.columns:
        hits = right[name]
        lines += ["", f"### {name}", ""]
        if hits.all():
            lines += [f"All {len(hits):,} answers are right."]
            continue
        sure = answers.confidence[name]
        lines += [
            f"{(~hits).sum():,} of {len(hits):,} answers are wrong, with a mean confidence of {sure[~hits].mean():.1%}"
            + (f" ({sure[hits].mean():.1%} where it is right)." if hits.any() else "."),
            "",
            *markdown.markdown(
                ["row", "label", "predicted", "confidence", "text"],
                [
                    [
                        str(line["row"]),
                        markdown.cell(line["label"]),
                        markdown.cell(line["predicted"]),
                        f"{line['confidence']:.4f}",
                        _excerpt(line["text"]),
                    ]
                    for line in mistakes[mistakes["architecture"] == name].to_dict("records")
                ],
            ),
        ]
    return lines


def _shared(mistakes: pd.DataFrame, right: pd.DataFrame) -> str:
    wrong_by_all = int((~right).all(axis=1).sum())
    said = (
        f"{wrong_by_all:,} {'review is' if wrong_by_all == 1 else 'reviews are'} answered wrongly by all {right.shape[1]} models"
    )
    lists = mistakes["row"].value_counts()
    if len(lists) and lists.iloc[0] > 1:
        often = lists.index[lists == lists.iloc[0]].min()
        said += f"; row {often} stands in {lists.iloc[0]} of the lists below"
    return f"{said}."


def _disagreements(answers: Answers, disagreements: pd.DataFrame) -> list[str]:
    names = list(answers.predicted.columns)
    lines = ["", "## Where the two best models disagree most", ""]
    if len(names) == 1:
        return [*lines, f"{names[0]} is the only model, so there is none to disagree with."]
    one, other = names[:2]
    differ = answers.predicted[one] != answers.predicted[other]
    lines += [
        f"Reviews that {one} and {other} answer differently, the ones on which they are together surest first. "
        f"They differ on {differ.sum():,} of {len(differ):,} reviews"
        + (
            f"; of these {one} is right on {answers.right[one][differ].sum():,} and {other} on "
            f"{answers.right[other][differ].sum():,}."
            if differ.any()
            else "."
        )
    ]
    if differ.any():
        lines += [
            "",
            *markdown.markdown(
                ["row", "label", one, other, "text"],
                [
                    [
                        str(line["row"]),
                        markdown.cell(line["label"]),
                        f"{markdown.cell(line['predicted'])} {line['confidence']:.4f}",
                        f"{markdown.cell(line['other_predicted'])} {line['other_confidence']:.4f}",
                        _excerpt(line["text"]),
                    ]
                    for line in disagreements.to_dict("records")
                ],
            ),
        ]
    return lines


def _excerpt(text: str) -> str:
    plain = " ".join(re.sub(LINE_BREAK, " ", text).split())
    return markdown.cell(plain if len(plain) <= EXCERPT else plain[:EXCERPT].rstrip() + "\u2026")
