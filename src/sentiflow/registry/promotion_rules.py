"""The promotion rules: one table, RULES.

To add a rule, add an entry to RULES and its limit to params.yaml.
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
from sentiflow.registry.candidates import Answers, Candidate, Named, answers_of, classes_of, in_reviews
from sentiflow.system.errors import InputError

TOLERANCE = 1e-9  # of comparisons with a limit: in floating point 0.9 - 0.8 < 0.1
KINDS = ("length", "negation", "contrast")  # slices that depend only on the text, so all models have the same groups
NAMED = 3  # groups too small to be judged; the verdict's page lists all
STATES = {True: "passes", False: "fails", None: "not checked"}


@dataclass(frozen=True)
class Outcome:
    """Result of one rule."""

    rule: str  # its name
    holds: bool | None  # None if it was not checked: no champion, or too few reviews that neither version has seen
    found: str
    required: str
    numbers: dict[str, float]  # `required`, `found` if it was checked, and values behind them

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
    compared: int  # those of them that neither version was trained or chosen on
    decision: int  # number of this comparison with a champion on this test set, from 1
    outcomes: tuple[Outcome, ...]
    slices: pd.DataFrame  # see `by_slice`

    @property
    def holds(self) -> bool:
        """Whether the version may be promoted: every rule passes; without a champion, every rule that needs none."""
        return not self.failed and (self.champion is None or self.is_compared)

    @property
    def is_compared(self) -> bool:
        """Whether the version was compared with a champion, which uses a part of the significance level."""
        return not self.unchecked

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the rules that fail."""
        return tuple(outcome.rule for outcome in self.outcomes if outcome.holds is False)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Names of the rules that were not checked."""
        return tuple(outcome.rule for outcome in self.outcomes if outcome.holds is None)


@dataclass(frozen=True)
class Case:
    """Input of a rule."""

    challenger: Candidate
    answers: Answers  # of the challenger, on reviews that it was not trained or chosen on
    both: tuple[Answers, ...]  # of challenger and champion, on reviews new to both; empty if they are not compared
    not_compared: str  # the reason
    slices: pd.DataFrame  # see `by_slice`
    level: float  # of McNemar's test, see `level_of`
    limits: Promotion
    evaluate: Evaluate
    seed: int


class Check(NamedTuple):
    """Result of a checked rule; see `Outcome`."""

    holds: bool
    found: str
    required: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Rule:
    """A promotion rule. With `asks` it compares with the champion, and is not checked without one."""

    name: str
    key: str | None  # of the limit in params.yaml: promotion; None if the limit is fixed
    check: Callable[[Case], Check | None]  # None if params.yaml turns the rule off
    asks: Callable[[Case], tuple[str, float]] | None = None  # the requirement, in words and as a number

    def outcome(self, case: Case) -> Outcome | None:
        if self.asks and not case.both:
            words, number = self.asks(case)
            return Outcome(self.name, None, case.not_compared, words, {"required": number})
        check = self.check(case)
        return check and Outcome(self.name, *check)


def groups(measures: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Group of each test review by KINDS and true class; index `row`, one column per slice.

    Args:
        measures: see `error_analysis.measures_of_texts`.
        labels: name of the true class, index `row`.
    """
    if not measures.index.sort_values().equals(labels.index.sort_values()):
        raise InputError(
            f"the word ids ({len(measures)}) and the labels ({len(labels)}) are of different test reviews; run again: dvc repro"
        )
    cut = {kind: pd.cut(measures[kind], [-1, *SLICES[kind].values()], labels=list(SLICES[kind])) for kind in KINDS}
    return pd.DataFrame(cut).assign(**{"class": labels})


def judge(
    challenger: Candidate,
    champion: Candidate | None,
    groups: pd.DataFrame,
    limits: Promotion,
    evaluate: Evaluate,
    *,
    test_set: str,
    decision: int,
    seed: int,
) -> Verdict:
    """Checks every rule.

    Args:
        challenger: with predictions for every test review, latency and size.
        champion: with predictions for the same reviews; None if there is none, so that rules that compare are not checked.
        groups: as the function `groups` returns them.
        evaluate: resamples, confidence and bins.
        test_set: hash of the test reviews.
        decision: number of this comparison on this test set, from 1; see `level_of`.
        seed: of the resampling.

    Raises:
        InputError: if the challenger was trained on all test reviews.
        ValueError: if latency or size of the challenger are missing.
    """
    table = challenger.predictions.set_index("row")
    classes = classes_of(table)
    unseen = table[~table.index.isin(challenger.seen)]
    if unseen.empty:
        raise InputError(f"{challenger} was trained on all {len(table)} test reviews; train it again: sentiflow repro")
    answers = answers_of(unseen, classes)
    both: tuple[Answers, ...] = ()
    not_compared, compared = "there is no champion", unseen
    if champion is not None:
        compared = unseen[~unseen.index.isin(champion.seen)]
        if len(compared) < limits.minimum_reviews:
            not_compared = (
                f"only {len(compared):,} of {len(table):,} test reviews are new to both versions, "
                f"promotion.minimum_reviews is {limits.minimum_reviews:,}"
            )
        else:
            both = answers_of(compared, classes), answers_of(champion.predictions.set_index("row").loc[compared.index], classes)
    if both:
        slices = by_slice(both[0].right, both[1].right, groups.loc[compared.index], limits, evaluate)
    else:
        slices = by_slice(answers.right, None, groups.loc[unseen.index], limits, evaluate)
    case = Case(challenger, answers, both, not_compared, slices, level_of(decision, limits), limits, evaluate, seed)
    outcomes = tuple(outcome for rule in RULES if (outcome := rule.outcome(case)) is not None)
    named = challenger.named, champion and champion.named
    return Verdict(*named, test_set, len(table), len(compared), decision, outcomes, slices)


def level_of(decision: int, limits: Promotion) -> float:
    """Significance level of the k-th comparison on a test set: p_value / (k (k + 1)), rounded down to three digits.

    The levels of any number of comparisons add up to less than `limits.p_value`, which bounds the probability that a reused test
    set ever promotes a model that is no better.

    Source: Bonferroni's inequality over an open-ended sequence (alpha spending).

    >>> [level_of(decision, Promotion.model_construct(p_value=0.05)) for decision in (1, 2, 3)]
    [0.025, 0.00833, 0.00416]
    """
    level = limits.p_value / (decision * (decision + 1))
    return float(Context(prec=3, rounding=ROUND_FLOOR).create_decimal(repr(level)))


def by_slice(
    right: np.ndarray, champion_right: np.ndarray | None, groups: pd.DataFrame, limits: Promotion, evaluate: Evaluate
) -> pd.DataFrame:
    """Accuracy of both in each group, and the difference with its interval; worst group first.

    Args:
        right: whether the challenger is correct; shape (n,).
        champion_right: the same for the champion; None if the two are not compared.
        groups: of the same reviews in the same order.

    Returns:
        Columns slice, group, reviews, challenger, champion, difference, difference_low, difference_high, outcome (passes, fails,
        too small or not compared). Without a champion its columns are NaN, and the lowest accuracy comes first.

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
            fits = "passes" if _reaches(difference, -limits.slice_margin) else "fails"
            lines.append(
                line
                | {"champion": champion_right[inside].mean(), "difference": difference}
                | {"difference_low": low, "difference_high": high}
                | {"outcome": fits if reviews >= limits.slice_reviews else "too small"}
            )
    worst_first = "challenger" if champion_right is None else "difference"
    return pd.DataFrame(lines).sort_values(worst_first, kind="stable", ignore_index=True)


# the rules


def _reviews(case: Case) -> Check:
    count, least = len(case.answers.labels), case.limits.minimum_reviews
    numbers = {"found": float(count), "required": float(least)}
    return Check(count >= least, f"{count:,} in the test set that it was not trained on", f"at least {least:,}", numbers)


def _majority(case: Case) -> Check:
    """Better than always predicting one class, in balanced accuracy."""
    metric, answers, confidence = "balanced_accuracy_score", case.answers, case.evaluate.confidence
    low = float(np.quantile(_resampled(answers, metric, case), (1 - confidence) / 2))
    baseline = 1 / answers.probabilities.shape[1]
    value = answers.score(metric)
    shown, allowed = _formatted(low, baseline, ".{}f", 4)
    found = f"{metric} {value:.4f}, lower end of its {confidence:.0%} interval {shown}"
    numbers = {"found": low, "required": baseline, metric: value}
    return Check(low > baseline + TOLERANCE, found, f"lower end above {allowed}, that of always answering one class", numbers)


def _floor(case: Case) -> Check | None:
    value, limit = case.answers.score(case.limits.metric), case.limits.floor
    if limit is None:
        return None
    shown, allowed = _formatted(value, limit, ".{}f", 4)
    numbers = {"found": value, "required": limit}
    return Check(_reaches(value, limit), f"{case.limits.metric} {shown}", f"at least {allowed}", numbers)


def _gain(case: Case) -> Check:
    value, champions = (each.score(case.limits.metric) for each in case.both)
    gain = value - champions
    shown, allowed = _formatted(gain, case.limits.gain, "+.{}f", 4)
    found = f"{case.limits.metric} {shown} ({value:.4f} against {champions:.4f})"
    numbers = {"found": gain, "required": case.limits.gain, "challenger": value, "champion": champions}
    return Check(_reaches(gain, case.limits.gain), found, f"at least {allowed}", numbers)


def _mcnemar(case: Case) -> Check:
    right, champion_right = (each.right for each in case.both)
    p = significance.mcnemar(right, champion_right)
    one, other = significance.only_one_right(right, champion_right)
    shown, _ = _formatted(p, case.level, ".{}g", 2)
    found = f"p {shown}; {in_reviews(one)} only the challenger answers correctly, {in_reviews(other)} only the champion"
    numbers = {"found": p, "required": case.level, "challenger_only": float(one), "champion_only": float(other)}
    # the test is two-sided: p is small too if the champion is better
    return Check(one > other and _reaches(case.level, p), found, _mcnemar_asks(case)[0], numbers)


def _mcnemar_asks(case: Case) -> tuple[str, float]:
    return f"p at most {case.level:.3g}, and correct more often", case.level


def _interval(case: Case) -> Check:
    one, other = case.both
    metric = case.limits.metric
    if metric == "accuracy_score":  # the interval that agrees with McNemar's test
        confidence = 1 - case.level
        low, high = significance.accuracy_difference(one.right, other.right, confidence)
    else:
        confidence = case.evaluate.confidence  # too few resamples for the level of a late comparison
        differences = _resampled(one, metric, case) - _resampled(other, metric, case)
        low, high = (float(end) for end in np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2]))
    shown, _ = _formatted(low, 0.0, "+.{}f", 4)
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
        found = beginning + ", ".join(_loss(line, case.limits) for line in shown.to_dict("records"))
    else:
        found = "no group is large enough to be judged"
    if len(small):
        too_small = [f"{each['slice']} {each['group']} ({each['reviews']})" for each in small.head(NAMED).to_dict("records")]
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        found += f"; too small: {', '.join(too_small)}{more}"
    return Check(failing.empty, found, required, {name: float(number) for name, number in numbers.items()})


def _slices_ask(case: Case) -> tuple[str, float]:
    limits = case.limits
    words = f"at least {-limits.slice_margin:+.4f} accuracy in every group of {in_reviews(limits.slice_reviews)} or more"
    return words, -limits.slice_margin


def _calibration(case: Case) -> Check:
    error = calibration_error(case.answers.labels, case.answers.probabilities, bins=case.evaluate.bins)
    return _at_most(error, case.limits.calibration_error, "calibration_error ", "", digits=4)


def _latency(case: Case) -> Check:
    return _at_most(_measured(case.challenger, "latency_ms"), case.limits.latency_ms, "95th percentile ", " ms", digits=1)


def _size(case: Case) -> Check:
    return _at_most(_measured(case.challenger, "size_mb"), case.limits.size_mb, "", " MB", digits=1)


RULES = (
    Rule("reviews", "minimum_reviews", _reviews),
    Rule("majority", None, _majority),
    Rule("floor", "floor", _floor),
    Rule("gain", "gain", _gain, asks=lambda case: (f"at least {case.limits.gain:+.4f}", case.limits.gain)),
    Rule("mcnemar", "p_value", _mcnemar, asks=_mcnemar_asks),
    Rule("interval", None, _interval, asks=_interval_asks),
    Rule("slices", "slice_margin", _slices, asks=_slices_ask),
    Rule("calibration", "calibration_error", _calibration),
    Rule("latency", "latency_ms", _latency),
    Rule("size", "size_mb", _size),
)


def _at_most(value: float, limit: float, before: str, unit: str, *, digits: int) -> Check:
    shown, allowed = _formatted(value, limit, ".{}f", digits)
    numbers = {"found": value, "required": limit}
    return Check(_reaches(limit, value), f"{before}{shown}{unit}", f"at most {allowed}{unit}", numbers)


def _resampled(answers: Answers, metric: str, case: Case) -> np.ndarray:
    resamples = case.evaluate.resamples
    return bootstrap_scores(answers.labels, answers.probabilities, resamples=resamples, seed=case.seed)[metric]


def _loss(line: dict[Any, Any], limits: Promotion) -> str:
    shown, _ = _formatted(line["difference"], -limits.slice_margin, "+.{}f", 4)
    return f"{line['slice']} {line['group']} {shown} ({in_reviews(line['reviews'])})"


def _reaches(value: float, limit: float) -> bool:
    return bool(value >= limit - TOLERANCE)


def _measured(challenger: Candidate, what: str) -> float:
    value = getattr(challenger, what)
    if value is None or not np.isfinite(value):
        raise ValueError(f"{what} of {challenger} is {value}; measure it before it is judged")
    return float(value)


def _formatted(value: float, limit: float, form: str, digits: int) -> tuple[str, str]:
    """Value and limit with as many digits, but at least `digits`, as it takes to show on which side of the limit the value is.

    >>> _formatted(0.79998, 0.8, ".{}f", 4), _formatted(0.7, 0.8, ".{}f", 4)
    (('0.79998', '0.80000'), ('0.7000', '0.8000'))
    """
    while True:
        shown, allowed = format(value, form.format(digits)), format(limit, form.format(digits))
        if abs(float(allowed) - limit) <= TOLERANCE and (shown != allowed or abs(value - limit) <= TOLERANCE):
            return shown, allowed
        digits += 1
