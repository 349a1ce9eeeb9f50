"""A verdict as a sentence, a Markdown page and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sentiflow.registry.candidates import in_reviews
from sentiflow.registry.promotion_rules import Verdict
from sentiflow.system import markdown


def in_words(verdict: Verdict) -> str:
    """A sentence: version, number of rules that pass, names of those that fail.

    >>> import pandas as pd
    >>> from sentiflow.registry.candidates import Named
    >>> from sentiflow.registry.promotion_rules import Outcome
    >>> floor = Outcome("floor", True, "accuracy_score 0.9068", "at least 0.8000", {"found": 0.9068, "required": 0.8})
    >>> in_words(Verdict(Named("12", "nb_svm"), Named("7", "lstm"), "", 2500, 2500, 1, (floor,) * 2, pd.DataFrame()))
    'Version 12 (nb_svm) passes all 2 promotion rules against version 7 (lstm).'
    """
    return f"Version {verdict.challenger.version} ({verdict.challenger.architecture}) {predicate(verdict)}"


def predicate(verdict: Verdict) -> str:
    """The same sentence without its subject; begins with "passes" only if the verdict permits promotion."""
    against = f"against {verdict.champion}" if verdict.champion else "that need no champion"
    rules = f"{len(verdict.outcomes) - len(verdict.unchecked)} promotion rules {against}"
    if verdict.failed:
        words = f"fails {len(verdict.failed)} of {rules}: {', '.join(verdict.failed)}."
    elif verdict.champion and not verdict.is_compared:
        words = "does not pass."
    else:
        words = f"passes all {rules}."
    if "reviews" in verdict.failed:
        [few] = [outcome for outcome in verdict.outcomes if outcome.rule == "reviews"]
        words += f" Too few reviews: {few.found}, promotion.minimum_reviews is {few.numbers['required']:,.0f}."
    elif verdict.champion and not verdict.is_compared:
        [reason] = {outcome.found for outcome in verdict.outcomes if outcome.holds is None}
        words += f" Not compared with {verdict.champion}: {reason}."
    return words


def as_markdown(verdict: Verdict, consequence: str = "") -> str:
    """A page: the sentence, its consequence, the rules, and accuracy by kind of review, worst first."""
    lines = [
        "# Promotion",
        "",
        f"**{markdown.cell(f'{in_words(verdict)} {consequence}'.strip())}**",
        "",
        f"Evaluated on {in_reviews(verdict.reviews)}, test set `{verdict.test_set}`.{_left_out(verdict)}",
        "",
        _comparisons(verdict),
        "",
        *rules_as_markdown(verdict),
        "",
        "## By kind of review",
        "",
    ]
    slices = verdict.slices.to_dict("records")
    if verdict.champion and verdict.is_compared:
        lines += [
            "Accuracy on the same reviews, the worst difference first; `class` is the true one. The interval of a difference is "
            "the inversion of McNemar's exact test; it does not decide.",
            "",
        ]
        header = ["slice", "group", "reviews", f"version {verdict.challenger.version}", f"version {verdict.champion.version}"]
        rows = [[*_accuracies(row), _difference(row), row["outcome"]] for row in slices]
        lines += _table([*header, "difference (interval)", "outcome"], rows)
    else:
        lines += ["Accuracy, the lowest first; `class` is the true one.", ""]
        lines += _table(["slice", "group", "reviews", "accuracy"], [_accuracies(row)[:4] for row in slices])
    return "\n".join(lines) + "\n"


def _left_out(verdict: Verdict) -> str:
    left_out = verdict.reviews - verdict.compared
    versions = "either version" if verdict.champion else "the version"
    return f" Left out: {left_out:,} whose texts {versions} was trained or chosen on." if left_out else ""


def _comparisons(verdict: Verdict) -> str:
    if not verdict.is_compared:
        return f"Comparisons with a champion on this test set so far: {verdict.decision - 1:,}. This is none."
    return (
        f"Comparisons with a champion on this test set, including this one: {verdict.decision:,}. The level of McNemar's test "
        "decreases with each of them. The interval of accuracy is the inversion of that test."
    )


def rules_as_markdown(verdict: Verdict) -> list[str]:
    """Lines of a table of the rules and their outcomes."""
    rows = [[each.rule, each.found, each.required, each.state] for each in verdict.outcomes]
    return _table(["rule", "found", "required", "outcome"], rows)


def as_data(verdict: Verdict) -> dict[str, Any]:
    """The verdict as values for JSON, with None for missing numbers."""
    slices = verdict.slices.astype(object).where(verdict.slices.notna(), None)
    return {
        "summary": in_words(verdict),
        "holds": verdict.holds,
        "failed": list(verdict.failed),
        "challenger": asdict(verdict.challenger),
        "champion": verdict.champion and asdict(verdict.champion),
        "test_set": verdict.test_set,
        "reviews": verdict.reviews,
        "compared": verdict.compared,
        "decision": verdict.decision,
        "rules": [asdict(outcome) for outcome in verdict.outcomes],
        "slices": slices.to_dict("records"),
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return markdown.markdown([markdown.cell(name) for name in header], [[markdown.cell(text) for text in row] for row in rows])


def _accuracies(row: dict[Any, Any]) -> list[str]:
    return [row["slice"], row["group"], f"{row['reviews']:,}", f"{row['challenger']:.4f}", f"{row['champion']:.4f}"]


def _difference(row: dict[Any, Any]) -> str:
    return f"{row['difference']:+.4f} ({row['difference_low']:+.4f} to {row['difference_high']:+.4f})"
