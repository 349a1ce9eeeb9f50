"""Whether a version may become champion: the rules of params.yaml, each with what was found and what was required."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from sentiflow import tables
from sentiflow.analysis import SLICES
from sentiflow.comparison import mcnemar
from sentiflow.errors import InputError
from sentiflow.evaluation import bootstrap_scores, calibration_error
from sentiflow.params import Evaluate, Promotion
from sentiflow.scoring import scores

# What a value may fall short of its limit and still reach it, since 0.9 - 0.8 is a little less than 0.1 in binary digits.
TOLERANCE = 1e-9

# Slices that follow from the texts alone, so that every model has the same reviews in each group.
KINDS = ("length", "negation", "contrast")

LONGEST_TAG = 500  # characters
NAMED = 3  # groups that are too small to be judged; all stand in a table of their own
AGAIN = "judge again, so that both are scored on this test set"
STATES = {True: "holds", False: "fails", None: "no champion"}


@dataclass(frozen=True)
class Named:
    """A registered version by name.

    >>> str(Named("12", "nb_svm"))
    'version 12 (nb_svm)'
    """

    version: str
    architecture: str

    def __str__(self) -> str:
        return f"version {self.version} ({self.architecture})"


@dataclass(frozen=True)
class Candidate(Named):
    """A registered version with what it answered on the test reviews."""

    predictions: pd.DataFrame  # as `evaluation.predictions` gives them
    latency_ms: float | None  # 95th percentile of one review; None where it was not timed, as a champion need not be
    size_mb: float | None  # None where it was not measured


@dataclass(frozen=True)
class Outcome:
    """What became of one rule."""

    rule: str  # floor | gain | mcnemar | interval | slices | calibration | latency | size
    holds: bool | None  # None where there is no champion to hold it against
    found: str  # with its numbers
    required: str
    numbers: dict[str, float]  # the same for machines: `required`, `found` where there is one, and what they come from

    @property
    def state(self) -> str:
        return STATES[self.holds]


@dataclass(frozen=True)
class Verdict:
    """What became of every rule."""

    challenger: Named
    champion: Named | None
    test_set: str  # hash
    reviews: int
    outcomes: tuple[Outcome, ...]
    slices: pd.DataFrame  # as `by_slice` gives them

    @property
    def holds(self) -> bool:
        """Whether every rule holds that there was something to hold against."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the rules that fail."""
        return tuple(outcome.rule for outcome in self.outcomes if outcome.holds is False)


@dataclass(frozen=True)
class _Answers:
    labels: np.ndarray  # index of each review's class, shape (n,)
    probabilities: np.ndarray  # shape (n, K)

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)


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
            f"the word ids are of other test reviews ({len(measures)}) than the labels ({len(labels)}); make both anew: dvc repro"
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
    seed: int,
) -> Verdict:
    """Holds every rule against what the two answered on the same test reviews.

    A limit counts as reached where less than TOLERANCE is missing.

    Args:
        challenger: timed and measured.
        champion: None where there is none; then the rules that compare are left open.
        groups: as `groups` gives them, of the same reviews.
        how: the rules.
        evaluate: resamples, confidence and bins.
        test_set: hash of the test reviews, for the record.
        seed: of the resampling.

    Raises:
        InputError: if both are the same version, if one did not answer the test reviews once each with probabilities, or if
            the two, or the groups, are of other reviews, labels or classes.
        ValueError: if the challenger was not timed or not measured.
    """
    if champion is not None and champion.version == challenger.version:
        raise InputError(f"version {champion.version} is the champion already; name another version to judge")
    table = _checked(challenger)
    if not groups.index.sort_values().equals(table.index.sort_values()):
        raise InputError(
            f"the groups are of other test reviews ({len(groups)}) than {challenger} answered ({len(table)}); {AGAIN}"
        )
    groups = groups.loc[table.index]
    classes = _classes(table)
    answers = _answers(table, classes)
    value = scores(answers.labels, answers.probabilities)[how.metric]
    against: tuple[Outcome, ...]
    if champion is None:
        slices = by_slice(answers.right, None, groups, how, evaluate, seed=seed)
        against = _left_open(how)
    else:
        others = _answers(_aligned(challenger, table, champion, _checked(champion)), classes)
        slices = by_slice(answers.right, others.right, groups, how, evaluate, seed=seed)
        against = (
            _gain(value, scores(others.labels, others.probabilities)[how.metric], how),
            _mcnemar(answers.right, others.right, how),
            _interval(answers, others, how, evaluate, seed),
            _slices(slices, how),
        )
    error = calibration_error(answers.labels, answers.probabilities, bins=evaluate.bins)
    outcomes = (
        _at_least("floor", value, how.floor, f"{how.metric} "),
        *against,
        _at_most("calibration", error, how.calibration_error, "calibration_error ", "", digits=4),
        _at_most("latency", _measured(challenger, "latency_ms"), how.latency_ms, "95th percentile ", " ms", digits=1),
        _at_most("size", _measured(challenger, "size_mb"), how.size_mb, "", " MB", digits=1),
    )
    return Verdict(_named(challenger), champion and _named(champion), test_set, len(table), outcomes, slices)


def by_slice(
    right: np.ndarray, champion_right: np.ndarray | None, groups: pd.DataFrame, how: Promotion, evaluate: Evaluate, *, seed: int
) -> pd.DataFrame:
    """Accuracy of both in each group, and the difference with its paired bootstrap interval; worst group first.

    Args:
        right: whether the challenger answers each review rightly; shape (n,).
        champion_right: the same of the champion; None where there is none.
        groups: of the same reviews in the same order.
        how: the margin, and the number of reviews that a group needs to be judged.
        evaluate: resamples and confidence.
        seed: of the resampling.

    Returns:
        Columns slice, group, reviews, challenger, champion, difference, difference_low, difference_high, outcome: holds,
        fails, too small or no champion. Without a champion its columns are nan, and the lowest accuracy comes first.

    Source: Efron & Tibshirani (1993), chapter 13, the percentile interval.
    """
    tail = (1 - evaluate.confidence) / 2
    lines = []
    for kind in groups:
        codes, names = pd.factorize(groups[kind], sort=True)
        for code, name in enumerate(names):
            inside = codes == code
            reviews = int(inside.sum())
            line = {"slice": str(kind), "group": str(name), "reviews": reviews, "challenger": right[inside].mean()}
            if champion_right is None:
                unknown = dict.fromkeys(("champion", "difference", "difference_low", "difference_high"), np.nan)
                lines.append(line | unknown | {"outcome": "no champion"})
                continue
            one, other = _alone(right[inside], champion_right[inside])
            difference = (one - other) / reviews
            # To draw reviews anew is to draw how many of them only the one, only the other, and both or neither get right.
            shares = [one / reviews, other / reviews, (reviews - one - other) / reviews]
            drawn = np.random.default_rng(seed).multinomial(reviews, shares, evaluate.resamples)
            low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / reviews, [tail, 1 - tail])
            fits = "holds" if _reaches(difference, -how.slice_margin) else "fails"
            lines.append(
                line
                | {"champion": champion_right[inside].mean(), "difference": difference}
                | {"difference_low": low, "difference_high": high}
                | {"outcome": fits if reviews >= how.slice_reviews else "too small"}
            )
    worst_first = "challenger" if champion_right is None else "difference"
    return pd.DataFrame(lines).sort_values(worst_first, kind="stable", ignore_index=True)


def in_words(verdict: Verdict) -> str:
    """One sentence: whether it may, and which rules decided that.

    >>> floor = Outcome("floor", True, "accuracy_score 0.9068", "at least 0.8000", {"found": 0.9068, "required": 0.8})
    >>> in_words(Verdict(Named("12", "nb_svm"), Named("7", "lstm"), "", 2500, (floor,), pd.DataFrame()))
    'Version 12 (nb_svm) may replace version 7 (lstm): the 1 rule holds.'
    """
    step = f"replace {verdict.champion}" if verdict.champion else "become the first champion"
    name = f"{verdict.challenger}".replace("version", "Version", 1)
    if not verdict.holds:
        return f"{name} must not {step}: {', '.join(verdict.failed)} {'fails' if len(verdict.failed) == 1 else 'fail'}."
    judged = sum(outcome.holds is not None for outcome in verdict.outcomes)
    all_of = "all" if judged == len(verdict.outcomes) and judged > 1 else "the"
    needed = "" if verdict.champion else " that need no other version"
    return (
        f"{name} may {step}: {all_of} {judged} {'rule' if judged == 1 else 'rules'}{needed} {'holds' if judged == 1 else 'hold'}."
    )


def as_markdown(verdict: Verdict) -> str:
    """The verdict as a page: the sentence, the rules, and the groups of reviews, worst first."""
    lines = [
        "# Promotion",
        "",
        f"**{tables.cell(in_words(verdict))}**",
        "",
        f"Judged on {_count(verdict.reviews)}, test set `{verdict.test_set}`. "
        f"A limit counts as reached where less than {TOLERANCE:g} is missing.",
        "",
        *rules_as_markdown(verdict),
        "",
        "## By kind of review",
        "",
    ]
    if verdict.champion:
        lines += [
            "Accuracy on the same reviews, the worst difference first; `class` is the true one. "
            "The intervals tell how much of a difference may be chance; they do not decide.",
            "",
        ]
        header = ["slice", "group", "reviews", f"version {verdict.challenger.version}", f"version {verdict.champion.version}"]
        rows = [[*_accuracies(line), _difference(line), line["outcome"]] for line in verdict.slices.to_dict("records")]
        lines += _table([*header, "difference (interval)", "outcome"], rows)
    else:
        lines += ["Accuracy, the lowest first; `class` is the true one.", ""]
        lines += _table(
            ["slice", "group", "reviews", "accuracy"], [_accuracies(line)[:4] for line in verdict.slices.to_dict("records")]
        )
    return "\n".join(lines) + "\n"


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
        "rules": [asdict(outcome) for outcome in verdict.outcomes],
        "slices": known.to_dict("records"),
    }


def as_tags(verdict: Verdict) -> dict[str, str]:
    """Tags of a registered version, one a rule: its state, what was found and what was required; LONGEST_TAG at most."""
    return {f"rule.{each.rule}": _cut(f"{each.state}: {each.found}, {each.required}") for each in verdict.outcomes}


# the rules


def _left_open(how: Promotion) -> tuple[Outcome, ...]:
    required = {
        "gain": (f"at least {how.gain:+.4f}", how.gain),
        "mcnemar": (_mcnemar_asks(how), how.p_value),
        "interval": ("lower end above 0", 0.0),
        "slices": (_slices_ask(how), -how.slice_margin),
    }
    return tuple(
        Outcome(rule, None, "nothing to compare with", words, {"required": number}) for rule, (words, number) in required.items()
    )


def _at_least(rule: str, value: float, limit: float, before: str) -> Outcome:
    shown, allowed = _told_apart(value, limit, ".{}f", 4)
    return Outcome(rule, _reaches(value, limit), before + shown, f"at least {allowed}", {"found": value, "required": limit})


def _at_most(rule: str, value: float, limit: float, before: str, unit: str, *, digits: int) -> Outcome:
    shown, allowed = _told_apart(value, limit, ".{}f", digits)
    numbers = {"found": value, "required": limit}
    return Outcome(rule, _reaches(limit, value), f"{before}{shown}{unit}", f"at most {allowed}{unit}", numbers)


def _gain(value: float, champions: float, how: Promotion) -> Outcome:
    gain = value - champions
    shown, allowed = _told_apart(gain, how.gain, "+.{}f", 4)
    found = f"{how.metric} {shown} ({value:.4f} against {champions:.4f})"
    numbers = {"found": gain, "required": how.gain, "challenger": value, "champion": champions}
    return Outcome("gain", _reaches(gain, how.gain), found, f"at least {allowed}", numbers)


def _mcnemar(right: np.ndarray, champion_right: np.ndarray, how: Promotion) -> Outcome:
    p = mcnemar(right, champion_right)
    one, other = _alone(right, champion_right)
    shown, _ = _told_apart(p, how.p_value, ".{}g", 2)
    found = f"p {shown}; {_count(one)} only the challenger answers rightly, {_count(other)} only the champion"
    numbers = {"found": p, "required": how.p_value, "challenger_only": float(one), "champion_only": float(other)}
    # The test has two sides: a champion that is better gives a small p as well.
    return Outcome("mcnemar", one > other and _reaches(how.p_value, p), found, _mcnemar_asks(how), numbers)


def _mcnemar_asks(how: Promotion) -> str:
    return f"p at most {how.p_value:g}, and right more often"


def _interval(answers: _Answers, others: _Answers, how: Promotion, evaluate: Evaluate, seed: int) -> Outcome:
    one, other = (
        bootstrap_scores(each.labels, each.probabilities, resamples=evaluate.resamples, seed=seed)[how.metric]
        for each in (answers, others)
    )
    tail = (1 - evaluate.confidence) / 2
    low, high = (float(end) for end in np.quantile(one - other, [tail, 1 - tail]))
    shown, _ = _told_apart(low, 0.0, "+.{}f", 4)
    found = f"{how.metric} {shown} to {high:+.4f} ({evaluate.confidence:.0%} interval)"
    numbers = {"found": low, "required": 0.0, "high": high, "confidence": evaluate.confidence}
    return Outcome("interval", low > TOLERANCE, found, "lower end above 0", numbers)


def _slices(slices: pd.DataFrame, how: Promotion) -> Outcome:
    judged, small = slices[slices["outcome"] != "too small"], slices[slices["outcome"] == "too small"]
    failing = judged[judged["outcome"] == "fails"]
    numbers = {"required": -how.slice_margin, "judged": len(judged), "too_small": len(small), "failing": len(failing)}
    if len(judged):
        numbers["found"] = float(judged["difference"].iloc[0])
        beginning = f"{len(failing)} of {len(judged)} groups lose more: " if len(failing) else f"worst of {len(judged)} groups: "
        shown = failing if len(failing) else judged.head(1)
        found = beginning + ", ".join(_loss(line, how) for line in shown.to_dict("records"))
    else:
        found = "no group is large enough to be judged"
    if len(small):
        too_small = [f"{each['slice']} {each['group']} ({each['reviews']})" for each in small.head(NAMED).to_dict("records")]
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        found += f"; too small: {', '.join(too_small)}{more}"
    numbers = {name: float(number) for name, number in numbers.items()}
    return Outcome("slices", failing.empty, found, _slices_ask(how), numbers)


def _slices_ask(how: Promotion) -> str:
    return f"at least {-how.slice_margin:+.4f} accuracy in every group of {_count(how.slice_reviews)} or more"


def _loss(line: dict[Any, Any], how: Promotion) -> str:
    shown, _ = _told_apart(line["difference"], -how.slice_margin, "+.{}f", 4)
    return f"{line['slice']} {line['group']} {shown} ({_count(line['reviews'])})"


def _reaches(value: float, limit: float) -> bool:
    return bool(value >= limit - TOLERANCE)


def _alone(right: np.ndarray, champion_right: np.ndarray) -> tuple[int, int]:
    """How many reviews only the challenger answers rightly, and how many only the champion."""
    return int((right & ~champion_right).sum()), int((~right & champion_right).sum())


def _measured(challenger: Candidate, what: str) -> float:
    value = getattr(challenger, what)
    if value is None or not np.isfinite(value):
        raise ValueError(f"{what} of {challenger} is {value}; measure it before it is judged")
    return float(value)


# what was answered


def _checked(candidate: Candidate) -> pd.DataFrame:
    """The answers by `row`, one a review, each with a probability for every class."""
    table = candidate.predictions.set_index("row")
    if table.empty:
        raise InputError(f"{candidate} answered no test review; expected one answer to each; {AGAIN}")
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{candidate} answered row {twice} more than once; expected one answer to each test review; {AGAIN}")
    classes = _classes(table)
    foreign = table.index[~table["label"].isin(classes)]
    if len(foreign):
        raise InputError(
            f"{candidate} knows the classes {', '.join(classes)}, but {len(foreign)} of {len(table)} test reviews have another "
            f"label, such as row {foreign[0]} ({table['label'][foreign[0]]}); judge it on a test set of its own classes"
        )
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    # In 32 bits they need not quite add up to 1. A comparison with nan is false, so that nan is found too.
    sound = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not sound.all():
        raise InputError(
            f"{candidate} answered {int((~sound).sum())} of {len(table)} test reviews, such as row {table.index[~sound][0]}, "
            "with what are no probabilities; expected numbers in [0, 1] that add up to 1; train the model again"
        )
    return table


def _classes(table: pd.DataFrame) -> list[str]:
    return [str(column).removeprefix("p_") for column in table if str(column).startswith("p_")]


def _answers(table: pd.DataFrame, classes: Sequence[str]) -> _Answers:
    labels = pd.Index(list(classes)).get_indexer(pd.Index(table["label"]))
    return _Answers(np.asarray(labels, np.int64), table[[f"p_{name}" for name in classes]].to_numpy(np.float64))


def _aligned(challenger: Candidate, table: pd.DataFrame, champion: Candidate, champions: pd.DataFrame) -> pd.DataFrame:
    """The champion's answers in the order of the challenger's."""
    both = f"{challenger} and {champion} cannot be compared:"
    if set(_classes(table)) != set(_classes(champions)):
        raise InputError(
            f"{both} the one knows the classes {', '.join(_classes(table))}, the other {', '.join(_classes(champions))}; "
            f"{AGAIN}, or take the alias from the champion if the classes are meant to change"
        )
    common = table.index.intersection(champions.index)
    if not len(common) == len(table) == len(champions):
        raise InputError(
            f"{both} the one answered {_count(len(table))}, the other {_count(len(champions))}, of which {len(common):,} are "
            f"common; {AGAIN}"
        )
    champions = champions.loc[table.index]
    differ = table.index[table["label"].to_numpy(object) != champions["label"].to_numpy(object)]
    if len(differ):
        first = differ[0]
        raise InputError(
            f"{both} {len(differ)} of {_count(len(table))} have different labels, such as row {first} "
            f"({table['label'][first]} and {champions['label'][first]}); {AGAIN}"
        )
    return champions


def _named(candidate: Candidate) -> Named:
    return Named(candidate.version, candidate.architecture)


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


def _count(reviews: int) -> str:
    return f"{reviews:,} {'review' if reviews == 1 else 'reviews'}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TAG else text[: LONGEST_TAG - 1] + "\u2026"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return tables.markdown([tables.cell(name) for name in header], [[tables.cell(text) for text in row] for row in rows])


def _accuracies(line: dict[Any, Any]) -> list[str]:
    return [line["slice"], line["group"], f"{line['reviews']:,}", f"{line['challenger']:.4f}", f"{line['champion']:.4f}"]


def _difference(line: dict[Any, Any]) -> str:
    return f"{line['difference']:+.4f} ({line['difference_low']:+.4f} to {line['difference_high']:+.4f})"
