"""A verdict for people and machines: a sentence, a page, JSON and tags."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sentiflow.registry.candidates import in_reviews
from sentiflow.registry.promotion_rules import Verdict
from sentiflow.system import markdown

LONGEST_TAG = 500  # characters


def in_words(verdict: Verdict) -> str:
    """One sentence: how many rules pass, and which do not.

    >>> import pandas as pd
    >>> from sentiflow.registry.candidates import Named
    >>> from sentiflow.registry.promotion_rules import Outcome
    >>> floor = Outcome("floor", True, "accuracy_score 0.9068", "at least 0.8000", {"found": 0.9068, "required": 0.8})
    >>> in_words(Verdict(Named("12", "nb_svm"), Named("7", "lstm"), "", 2500, 2500, 1, (floor,) * 2, pd.DataFrame()))
    'Version 12 (nb_svm) passes all 2 promotion rules against version 7 (lstm).'
    """
    name = f"{verdict.challenger}".replace("version", "Version", 1)
    against = f"against {verdict.champion}" if verdict.champion else "that need no champion"
    rules = f"{len(verdict.outcomes) - len(verdict.unchecked)} promotion rules {against}"
    said = f"{name} passes all {rules}."
    if verdict.failed:
        said = f"{name} fails {len(verdict.failed)} of {rules}: {', '.join(verdict.failed)}."
    if "reviews" in verdict.failed:
        [few] = [outcome for outcome in verdict.outcomes if outcome.rule == "reviews"]
        said += f" Too few reviews: {few.found}, promotion.minimum_reviews is {few.numbers['required']:,.0f}."
    elif verdict.champion and not verdict.is_compared:
        [reason] = {outcome.found for outcome in verdict.outcomes if outcome.holds is None}
        said = f"{said if verdict.failed else f'{name} does not pass.'} Not compared with {verdict.champion}: {reason}."
    return said


def as_markdown(verdict: Verdict, followed: str = "") -> str:
    """The verdict as a page: the sentence, what followed from it, the rules, and the groups of reviews, worst first."""
    lines = [
        "# Promotion",
        "",
        f"**{markdown.cell(f'{in_words(verdict)} {followed}'.strip())}**",
        "",
        f"Evaluated on {in_reviews(verdict.reviews)}, test set `{verdict.test_set}`.{_left_out(verdict)}",
        "",
        _served(verdict),
        "",
        *rules_as_markdown(verdict),
        "",
        "## By kind of review",
        "",
    ]
    found = verdict.slices.to_dict("records")
    if verdict.champion and verdict.is_compared:
        lines += [
            "Accuracy on the same reviews, the worst difference first; `class` is the true one. The interval of a difference is "
            "the inversion of McNemar's exact test; it does not decide.",
            "",
        ]
        header = ["slice", "group", "reviews", f"version {verdict.challenger.version}", f"version {verdict.champion.version}"]
        rows = [[*_accuracies(line), _difference(line), line["outcome"]] for line in found]
        lines += _table([*header, "difference (interval)", "outcome"], rows)
    else:
        lines += ["Accuracy, the lowest first; `class` is the true one.", ""]
        lines += _table(["slice", "group", "reviews", "accuracy"], [_accuracies(line)[:4] for line in found])
    return "\n".join(lines) + "\n"


def _left_out(verdict: Verdict) -> str:
    left_out = verdict.reviews - verdict.compared
    versions = "either version" if verdict.champion else "the version"
    return f" Left out: {left_out:,} whose texts {versions} was trained or chosen on." if left_out else ""


def _served(verdict: Verdict) -> str:
    if not verdict.is_compared:
        return f"Comparisons with a champion on this test set so far: {verdict.decision - 1:,}. This is none."
    return (
        f"Comparisons with a champion on this test set, including this one: {verdict.decision:,}. The more it has served, the "
        "lower the level of McNemar's test. The interval of accuracy is the inversion of that test."
    )


def rules_as_markdown(verdict: Verdict) -> list[str]:
    """The lines of a table with what became of each rule."""
    rows = [[each.rule, each.found, each.required, each.state] for each in verdict.outcomes]
    return _table(["rule", "found", "required", "outcome"], rows)


def as_data(verdict: Verdict) -> dict[str, Any]:
    """The verdict for JSON: no gaps but None."""
    known = verdict.slices.astype(object).where(verdict.slices.notna(), None)
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
        "slices": known.to_dict("records"),
    }


def as_tags(verdict: Verdict) -> dict[str, str]:
    """Tags of a registered version, one a rule: its state, what was found and what was required; LONGEST_TAG at most."""
    return {f"rule.{each.rule}": _cut(f"{each.state}: {each.found}, {each.required}") for each in verdict.outcomes}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TAG else text[: LONGEST_TAG - 1] + "\u2026"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return markdown.markdown([markdown.cell(name) for name in header], [[markdown.cell(text) for text in row] for row in rows])


def _accuracies(line: dict[Any, Any]) -> list[str]:
    return [line["slice"], line["group"], f"{line['reviews']:,}", f"{line['challenger']:.4f}", f"{line['champion']:.4f}"]


def _difference(line: dict[Any, Any]) -> str:
    return f"{line['difference']:+.4f} ({line['difference_low']:+.4f} to {line['difference_high']:+.4f})"
