"""Whether a version may become champion: the rules of params.yaml, each with what was found and what was required.

To add a rule, add an entry to RULES and its key to params.yaml.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.params import Evaluate, Promotion
from sentiflow.evaluation import significance
from sentiflow.evaluation.error_analysis import SLICES
from sentiflow.evaluation.evaluation import bootstrap_scores
from sentiflow.evaluation.metrics import calibration_error
from sentiflow.registry.candidates import AGAIN, Answers, Candidate, Named, aligned, answers_of, checked, classes_of, in_reviews
from sentiflow.system.errors import InputError

# What a value may fall short of its limit and still reach it, since 0.9 - 0.8 is a little less than 0.1 in binary digits.
TOLERANCE = 1e-9

# Slices that follow from the texts alone, so that every model has the same reviews in each group.
KINDS = ("length", "negation", "contrast")

NAMED = 3  # groups that are too small to be judged; all stand in a table of their own
STATES = {True: "passes", False: "fails", None: "not checked"}


@dataclass(frozen=True)
class Outcome:
    """What became of one rule."""

    rule: str  # name of one of RULES
    holds: bool | None  # None where it could not be checked: no champion, or too few reviews that neither version has seen
    found: str  # with its numbers
    required: str
    numbers: dict[str, float]  # the same for machines: `required`, `found` where there is one, and what they come from

    @property
    def state(self) -> str:
        return STATES[self.holds]


@dataclass(frozen=True)
class Verdict:
    """The outcome of every rule."""

    challenger: Named
    champion: Named | None
    test_set: str  # hash
    reviews: int  # in the test set
    compared: int  # of these, the ones that neither version was trained or chosen on
    decision: int  # number of this decision among the comparisons with a champion on this test set, from 1
    outcomes: tuple[Outcome, ...]
    slices: pd.DataFrame  # as `by_slice` gives them

    @property
    def holds(self) -> bool:
        """Whether every rule passes; without a champion, every rule that needs none."""
        return not self.failed and (self.champion is None or self.is_compared)

    @property
    def is_compared(self) -> bool:
        """Whether the version was compared with a champion; if not, McNemar's test used no part of its level."""
        return not self.unchecked

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the rules that fail."""
        return tuple(outcome.rule for outcome in self.outcomes if outcome.holds is False)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Names of the rules that could not be checked."""
        return tuple(outcome.rule for outcome in self.outcomes if outcome.holds is None)


@dataclass(frozen=True)
class Case:
    """What a rule is checked on."""

    challenger: Candidate
    answers: Answers  # of the challenger, to the reviews that it was not trained or chosen on
    both: tuple[Answers, ...]  # of challenger and champion, to the reviews new to both; empty where they are not compared
    not_compared: str  # why
    slices: pd.DataFrame  # as `by_slice` gives them
    level: float  # of McNemar's test, see `level_of`
    how: Promotion
    evaluate: Evaluate
    seed: int


class Check(NamedTuple):
    """What became of a rule that was checked; see `Outcome`."""

    holds: bool
    found: str
    required: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Rule:
    """One rule. It is required, or, where `asks` is given, checked only against a champion."""

    name: str
    key: str | None  # of the limit in params.yaml: promotion; None where the limit is fixed
    check: Callable[[Case], Check | None]  # None where params.yaml switches the rule off
    asks: Callable[[Case], tuple[str, float]] | None = None  # what is required, in words and as `numbers` has it

    def outcome(self, case: Case) -> Outcome | None:
        if self.asks and not case.both:
            words, number = self.asks(case)
            return Outcome(self.name, None, case.not_compared, words, {"required": number})
        check = self.check(case)
        return check and Outcome(self.name, *check)


def groups(measures: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """The group that each test review is in, by KINDS and by true class; index `row`, one column a slice.

    Args:
        measures: as `analysis.measures_of_texts` gives them.
        labels: name of the true class, index `row`.

    Raises:
        InputError: if the two are of different reviews.
    """
    if not measures.index.sort_values().equals(labels.index.sort_values()):
        raise InputError(
            f"the word ids are of other test reviews ({len(measures)}) than the labels ({len(labels)}); run again: dvc repro"
        )
    cut = {kind: pd.cut(measures[kind], [-1, *SLICES[kind].values()], labels=list(SLICES[kind])) for kind in KINDS}
    return pd.DataFrame(cut).assign(**{"class": labels})


def judge(
    challenger: Candidate,
    champion: Candidate | None,
    groups: pd.DataFrame,
    how: Promotion,
    evaluate: Evaluate,
    *,
    test_set: str,
    decision: int,
    seed: int,
) -> Verdict:
    """Checks every rule on what the two answered on the same test reviews.

    A limit counts as reached where less than TOLERANCE is missing.

    Args:
        challenger: timed and measured.
        champion: None where there is none; then the rules that compare are left open.
        groups: as `groups` gives them, of the same reviews.
        how: the rules.
        evaluate: resamples, confidence and bins.
        test_set: hash of the test reviews, for the record.
        decision: number of this decision among the comparisons on this test set, from 1; see `level_of`.
        seed: of the resampling.

    Raises:
        InputError: if both are the same version, if one did not answer the test reviews once each with probabilities, or if
            the two, or the groups, are of other reviews, labels or classes.
        ValueError: if the challenger was not timed or not measured.
    """
    if champion is not None and champion.version == challenger.version:
        raise InputError(f"version {champion.version} is the champion already; name another version to judge")
    table = checked(challenger)
    if not groups.index.sort_values().equals(table.index.sort_values()):
        raise InputError(
            f"the groups are of other test reviews ({len(groups)}) than {challenger} answered ({len(table)}); {AGAIN}"
        )
    classes = classes_of(table)
    unseen = table[~table.index.isin(challenger.seen)]
    if unseen.empty:
        all_of_them = f"every one of the {len(table)} test reviews"
        raise InputError(f"{challenger} was trained on {all_of_them}; train it again: sentiflow repro")
    answers = answers_of(unseen, classes)
    both: tuple[Answers, ...] = ()
    not_compared, compared = "there is no champion", unseen
    if champion is not None:
        champions = aligned(challenger, table, champion, checked(champion))
        compared = unseen[~unseen.index.isin(champion.seen)]
        if len(compared) < how.minimum_reviews:
            of_all = f"only {len(compared):,} of {len(table):,} test reviews are new to both versions"
            not_compared = f"{of_all}, promotion.minimum_reviews is {how.minimum_reviews:,}"
        else:
            both = answers_of(compared, classes), answers_of(champions.loc[compared.index], classes)
    if both:
        slices = by_slice(both[0].right, both[1].right, groups.loc[compared.index], how, evaluate)
    else:
        slices = by_slice(answers.right, None, groups.loc[unseen.index], how, evaluate)
    case = Case(challenger, answers, both, not_compared, slices, level_of(decision, how), how, evaluate, seed)
    outcomes = tuple(outcome for rule in RULES if (outcome := rule.outcome(case)) is not None)
    named = challenger.named, champion and champion.named
    return Verdict(*named, test_set, len(table), len(compared), decision, outcomes, slices)


def level_of(decision: int, how: Promotion) -> float:
    """Significance level of a decision: p_value / (k (k + 1)) for the k-th on a test set.

    The levels of any number of decisions add up to less than `how.p_value`. This bounds the probability that one test set, which
    every decision uses again, ever promotes a model that is no better. Rounded down to the three digits that are shown.

    Source: Bonferroni's inequality over an open-ended sequence (alpha spending).

    >>> [level_of(decision, Promotion.model_construct(p_value=0.05)) for decision in (1, 2, 3)]
    [0.025, 0.00833, 0.00416]
    """
    level = how.p_value / (decision * (decision + 1))
    return float(Context(prec=3, rounding=ROUND_FLOOR).create_decimal(repr(level)))


def by_slice(
    right: np.ndarray, champion_right: np.ndarray | None, groups: pd.DataFrame, how: Promotion, evaluate: Evaluate
) -> pd.DataFrame:
    """Accuracy of both in each group, and the difference with its interval; worst group first.

    Args:
        right: whether the challenger answers each review correctly; shape (n,).
        champion_right: the same of the champion; None where the two are not compared.
        groups: of the same reviews in the same order.
        how: the margin, and the number of reviews that a group needs to be checked.
        evaluate: confidence of the intervals.

    Returns:
        Columns slice, group, reviews, challenger, champion, difference, difference_low, difference_high, outcome: passes,
        fails, too small or not compared. Without a champion its columns are nan, and the lowest accuracy comes first.

    Source: `significance.accuracy_difference`.
    """
    lines = []
    for kind in groups:
        codes, names = pd.factorize(groups[kind], sort=True)
        for code, name in enumerate(names):
            inside = codes == code
            reviews = int(inside.sum())
            line = {"slice": str(kind), "group": str(name), "reviews": reviews, "challenger": right[inside].mean()}
            if champion_right is None:
                unknown = dict.fromkeys(("champion", "difference", "difference_low", "difference_high"), np.nan)
                lines.append(line | unknown | {"outcome": "not compared"})
                continue
            low, high = significance.accuracy_difference(right[inside], champion_right[inside], evaluate.confidence)
            difference = float(right[inside].mean() - champion_right[inside].mean())
            fits = "passes" if _reaches(difference, -how.slice_margin) else "fails"
            lines.append(
                line
                | {"champion": champion_right[inside].mean(), "difference": difference}
                | {"difference_low": low, "difference_high": high}
                | {"outcome": fits if reviews >= how.slice_reviews else "too small"}
            )
    worst_first = "challenger" if champion_right is None else "difference"
    return pd.DataFrame(lines).sort_values(worst_first, kind="stable", ignore_index=True)


# the rules


def _reviews(case: Case) -> Check:
    count, least = len(case.answers.labels), case.how.minimum_reviews
    numbers = {"found": float(count), "required": float(least)}
    return Check(count >= least, f"{count:,} in the test set that it was not trained on", f"at least {least:,}", numbers)


def _majority(case: Case) -> Check:
    """Better than always answering the most frequent class, by a measure in which every class counts alike."""
    metric, answers, confidence = "balanced_accuracy_score", case.answers, case.evaluate.confidence
    low = float(np.quantile(_resampled(answers, metric, case), (1 - confidence) / 2))
    baseline = 1 / answers.probabilities.shape[1]
    value = answers.score(metric)
    shown, allowed = _told_apart(low, baseline, ".{}f", 4)
    found = f"{metric} {value:.4f}, lower end of its {confidence:.0%} interval {shown}"
    numbers = {"found": low, "required": baseline, metric: value}
    return Check(low > baseline + TOLERANCE, found, f"lower end above {allowed}, that of always answering one class", numbers)


def _floor(case: Case) -> Check | None:
    value, limit = case.answers.score(case.how.metric), case.how.floor
    if limit is None:
        return None
    shown, allowed = _told_apart(value, limit, ".{}f", 4)
    numbers = {"found": value, "required": limit}
    return Check(_reaches(value, limit), f"{case.how.metric} {shown}", f"at least {allowed}", numbers)


def _gain(case: Case) -> Check:
    value, champions = (each.score(case.how.metric) for each in case.both)
    gain = value - champions
    shown, allowed = _told_apart(gain, case.how.gain, "+.{}f", 4)
    found = f"{case.how.metric} {shown} ({value:.4f} against {champions:.4f})"
    numbers = {"found": gain, "required": case.how.gain, "challenger": value, "champion": champions}
    return Check(_reaches(gain, case.how.gain), found, f"at least {allowed}", numbers)


def _mcnemar(case: Case) -> Check:
    right, champion_right = (each.right for each in case.both)
    p = significance.mcnemar(right, champion_right)
    one, other = significance.only_one_right(right, champion_right)
    shown, _ = _told_apart(p, case.level, ".{}g", 2)
    found = f"p {shown}; {in_reviews(one)} only the challenger answers correctly, {in_reviews(other)} only the champion"
    numbers = {"found": p, "required": case.level, "challenger_only": float(one), "champion_only": float(other)}
    # The test is two-sided: a champion that is better gives a small p as well.
    return Check(one > other and _reaches(case.level, p), found, _mcnemar_asks(case)[0], numbers)


def _mcnemar_asks(case: Case) -> tuple[str, float]:
    return f"p at most {case.level:.3g}, and correct more often", case.level


def _interval(case: Case) -> Check:
    one, other = case.both
    metric = case.how.metric
    if metric == "accuracy_score":  # the interval that agrees with McNemar's test
        confidence = 1 - case.level
        low, high = significance.accuracy_difference(one.right, other.right, confidence)
    else:
        confidence = case.evaluate.confidence  # a bootstrap has too few resamples for a much lower level
        differences = _resampled(one, metric, case) - _resampled(other, metric, case)
        low, high = (float(end) for end in np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2]))
    shown, _ = _told_apart(low, 0.0, "+.{}f", 4)
    found = f"{metric} {shown} to {high:+.4f} ({100 * confidence:.4g}% interval)"
    numbers = {"found": low, "required": 0.0, "high": high, "confidence": confidence}
    return Check(low > TOLERANCE, found, _interval_asks(case)[0], numbers)


def _interval_asks(case: Case) -> tuple[str, float]:
    return "lower end above 0", 0.0


def _slices(case: Case) -> Check:
    is_small = case.slices["outcome"] == "too small"
    judged, small = case.slices[~is_small], case.slices[is_small]
    failing = judged[judged["outcome"] == "fails"]
    required, limit = _slices_ask(case)
    numbers = {"required": limit, "judged": len(judged), "too_small": len(small), "failing": len(failing)}
    if len(judged):
        numbers["found"] = float(judged["difference"].iloc[0])
        beginning = f"{len(failing)} of {len(judged)} groups lose more: " if len(failing) else f"worst of {len(judged)} groups: "
        shown = failing if len(failing) else judged.head(1)
        found = beginning + ", ".join(_loss(line, case.how) for line in shown.to_dict("records"))
    else:
        found = "no group is large enough to be judged"
    if len(small):
        too_small = [f"{each['slice']} {each['group']} ({each['reviews']})" for each in small.head(NAMED).to_dict("records")]
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        found += f"; too small: {', '.join(too_small)}{more}"
    return Check(failing.empty, found, required, {name: float(number) for name, number in numbers.items()})


def _slices_ask(case: Case) -> tuple[str, float]:
    how = case.how
    words = f"at least {-how.slice_margin:+.4f} accuracy in every group of {in_reviews(how.slice_reviews)} or more"
    return words, -how.slice_margin


def _calibration(case: Case) -> Check:
    error = calibration_error(case.answers.labels, case.answers.probabilities, bins=case.evaluate.bins)
    return _at_most(error, case.how.calibration_error, "calibration_error ", "", digits=4)


def _latency(case: Case) -> Check:
    return _at_most(_measured(case.challenger, "latency_ms"), case.how.latency_ms, "95th percentile ", " ms", digits=1)


def _size(case: Case) -> Check:
    return _at_most(_measured(case.challenger, "size_mb"), case.how.size_mb, "", " MB", digits=1)


RULES = (
    Rule("reviews", "minimum_reviews", _reviews),
    Rule("majority", None, _majority),
    Rule("floor", "floor", _floor),
    Rule("gain", "gain", _gain, asks=lambda case: (f"at least {case.how.gain:+.4f}", case.how.gain)),
    Rule("mcnemar", "p_value", _mcnemar, asks=_mcnemar_asks),
    Rule("interval", None, _interval, asks=_interval_asks),
    Rule("slices", "slice_margin", _slices, asks=_slices_ask),
    Rule("calibration", "calibration_error", _calibration),
    Rule("latency", "latency_ms", _latency),
    Rule("size", "size_mb", _size),
)


def _at_most(value: float, limit: float, before: str, unit: str, *, digits: int) -> Check:
    shown, allowed = _told_apart(value, limit, ".{}f", digits)
    numbers = {"found": value, "required": limit}
    return Check(_reaches(limit, value), f"{before}{shown}{unit}", f"at most {allowed}{unit}", numbers)


def _resampled(answers: Answers, metric: str, case: Case) -> np.ndarray:
    resamples = case.evaluate.resamples
    return bootstrap_scores(answers.labels, answers.probabilities, resamples=resamples, seed=case.seed)[metric]


def _loss(line: dict[Any, Any], how: Promotion) -> str:
    shown, _ = _told_apart(line["difference"], -how.slice_margin, "+.{}f", 4)
    return f"{line['slice']} {line['group']} {shown} ({in_reviews(line['reviews'])})"


def _reaches(value: float, limit: float) -> bool:
    return bool(value >= limit - TOLERANCE)


def _measured(challenger: Candidate, what: str) -> float:
    value = getattr(challenger, what)
    if value is None or not np.isfinite(value):
        raise ValueError(f"{what} of {challenger} is {value}; measure it before it is judged")
    return float(value)


# words


def _told_apart(value: float, limit: float, form: str, digits: int) -> tuple[str, str]:
    """Both in the fewest digits, no fewer than given, that keep the limit as it is and show on which side of it the value is.

    >>> _told_apart(0.79998, 0.8, ".{}f", 4), _told_apart(0.7, 0.8, ".{}f", 4)
    (('0.79998', '0.80000'), ('0.7000', '0.8000'))
    """
    while True:
        shown, allowed = format(value, form.format(digits)), format(limit, form.format(digits))
        if abs(float(allowed) - limit) <= TOLERANCE and (shown != allowed or abs(value - limit) <= TOLERANCE):
            return shown, allowed
        digits += 1
