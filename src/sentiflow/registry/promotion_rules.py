"""Whether a version may become champion: the rules of params.yaml, each with what was found and what was required."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, Context
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import recall_score

from sentiflow.config.params import Evaluate, Promotion
from sentiflow.evaluation import significance
from sentiflow.evaluation.error_analysis import SLICES
from sentiflow.evaluation.evaluation import bootstrap_scores, calibration_error
from sentiflow.evaluation.metrics import scores
from sentiflow.system import markdown, terminal
from sentiflow.system.errors import InputError

# What a value may fall short of its limit and still reach it, since 0.9 - 0.8 is a little less than 0.1 in binary digits.
TOLERANCE = 1e-9

# Slices that follow from the texts alone, so that every model has the same reviews in each group.
KINDS = ("length", "negation", "contrast")

LONGEST_TAG = 500  # characters
NAMED = 3  # groups that are too small to be judged; all stand in a table of their own
AGAIN = "judge again, so that both are scored on this test set"
STATES = {True: "passes", False: "fails", None: "not checked"}


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
    seen: frozenset[int] = frozenset()  # rows of the test set whose texts it was trained or chosen on


@dataclass(frozen=True)
class Outcome:
    """What became of one rule."""

    rule: str  # reviews | majority | floor | gain | mcnemar | interval | slices | calibration | latency | size
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
    table = _checked(challenger)
    if not groups.index.sort_values().equals(table.index.sort_values()):
        raise InputError(
            f"the groups are of other test reviews ({len(groups)}) than {challenger} answered ({len(table)}); {AGAIN}"
        )
    classes = _classes(table)
    unseen = table[~table.index.isin(challenger.seen)]
    if unseen.empty:
        all_of_them = f"every one of the {len(table)} test reviews"
        raise InputError(f"{challenger} was trained on {all_of_them}; train it again: sentiflow repro")
    answers = _answers(unseen, classes)
    value = scores(answers.labels, answers.probabilities)[how.metric]
    level = level_of(decision, how)
    against: tuple[Outcome, ...]
    compared = len(unseen)
    if champion is None:
        slices = by_slice(answers.right, None, groups.loc[unseen.index], how, evaluate)
        against = _unchecked("there is no champion", how, level)
    else:
        champions = _aligned(challenger, table, champion, _checked(champion))
        shared = unseen[~unseen.index.isin(champion.seen)]
        compared = len(shared)
        if compared < how.minimum_reviews:
            slices = by_slice(answers.right, None, groups.loc[unseen.index], how, evaluate)
            of_all = f"only {compared:,} of {len(table):,} test reviews are new to both versions"
            against = _unchecked(f"{of_all}, promotion.minimum_reviews is {how.minimum_reviews:,}", how, level)
        else:
            one, other = _answers(shared, classes), _answers(champions.loc[shared.index], classes)
            slices = by_slice(one.right, other.right, groups.loc[shared.index], how, evaluate)
            values = [scores(each.labels, each.probabilities)[how.metric] for each in (one, other)]
            against = (
                _gain(values[0], values[1], how),
                _mcnemar(one.right, other.right, level),
                _interval(one, other, how, evaluate, level, seed),
                _slices(slices, how),
            )
    error = calibration_error(answers.labels, answers.probabilities, bins=evaluate.bins)
    outcomes = (
        _reviews(len(unseen), how),
        _majority(answers, evaluate, seed),
        *([] if how.floor is None else [_at_least("floor", value, how.floor, f"{how.metric} ")]),
        *against,
        _at_most("calibration", error, how.calibration_error, "calibration_error ", "", digits=4),
        _at_most("latency", _measured(challenger, "latency_ms"), how.latency_ms, "95th percentile ", " ms", digits=1),
        _at_most("size", _measured(challenger, "size_mb"), how.size_mb, "", " MB", digits=1),
    )
    named = _named(challenger), champion and _named(champion)
    return Verdict(*named, test_set, len(table), compared, decision, outcomes, slices)


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


def in_words(verdict: Verdict) -> str:
    """One sentence: how many rules pass, and which do not.

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
        f"Evaluated on {_count(verdict.reviews)}, test set `{verdict.test_set}`.{_left_out(verdict)}",
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


# the rules


def _reviews(count: int, how: Promotion) -> Outcome:
    numbers = {"found": float(count), "required": float(how.minimum_reviews)}
    found = f"{count:,} in the test set that it was not trained on"
    return Outcome("reviews", count >= how.minimum_reviews, found, f"at least {how.minimum_reviews:,}", numbers)


def _majority(answers: _Answers, evaluate: Evaluate, seed: int) -> Outcome:
    """Better than always answering the most frequent class, by a measure in which every class counts alike."""
    resampled = bootstrap_scores(answers.labels, answers.probabilities, resamples=evaluate.resamples, seed=seed)
    low = float(np.quantile(resampled["balanced_accuracy_score"], (1 - evaluate.confidence) / 2))
    classes = answers.probabilities.shape[1]
    baseline = 1 / classes
    predicted = answers.probabilities.argmax(axis=1)
    value = recall_score(answers.labels, predicted, labels=range(classes), average="macro", zero_division=0.0)
    shown, allowed = _told_apart(low, baseline, ".{}f", 4)
    found = f"balanced_accuracy_score {value:.4f}, lower end of its {evaluate.confidence:.0%} interval {shown}"
    numbers = {"found": low, "required": baseline, "balanced_accuracy_score": float(value)}
    required = f"lower end above {allowed}, that of always answering one class"
    return Outcome("majority", low > baseline + TOLERANCE, found, required, numbers)


def _unchecked(reason: str, how: Promotion, level: float) -> tuple[Outcome, ...]:
    required = {
        "gain": (f"at least {how.gain:+.4f}", how.gain),
        "mcnemar": (_mcnemar_asks(level), level),
        "interval": ("lower end above 0", 0.0),
        "slices": (_slices_ask(how), -how.slice_margin),
    }
    return tuple(Outcome(rule, None, reason, words, {"required": number}) for rule, (words, number) in required.items())


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


def _mcnemar(right: np.ndarray, champion_right: np.ndarray, level: float) -> Outcome:
    p = significance.mcnemar(right, champion_right)
    one, other = significance.only_one_right(right, champion_right)
    shown, _ = _told_apart(p, level, ".{}g", 2)
    found = f"p {shown}; {_count(one)} only the challenger answers correctly, {_count(other)} only the champion"
    numbers = {"found": p, "required": level, "challenger_only": float(one), "champion_only": float(other)}
    # The test is two-sided: a champion that is better gives a small p as well.
    return Outcome("mcnemar", one > other and _reaches(level, p), found, _mcnemar_asks(level), numbers)


def _mcnemar_asks(level: float) -> str:
    return f"p at most {level:.3g}, and correct more often"


def _interval(answers: _Answers, others: _Answers, how: Promotion, evaluate: Evaluate, level: float, seed: int) -> Outcome:
    if how.metric == "accuracy_score":  # the interval that agrees with McNemar's test
        confidence = 1 - level
        low, high = significance.accuracy_difference(answers.right, others.right, confidence)
    else:
        confidence = evaluate.confidence  # a bootstrap has too few resamples for a much lower level
        one, other = (
            bootstrap_scores(each.labels, each.probabilities, resamples=evaluate.resamples, seed=seed)[how.metric]
            for each in (answers, others)
        )
        low, high = (float(end) for end in np.quantile(one - other, [(1 - confidence) / 2, (1 + confidence) / 2]))
    shown, _ = _told_apart(low, 0.0, "+.{}f", 4)
    found = f"{how.metric} {shown} to {high:+.4f} ({100 * confidence:.4g}% interval)"
    numbers = {"found": low, "required": 0.0, "high": high, "confidence": confidence}
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
            f"{candidate} knows the classes {terminal.some(classes)}, but {len(foreign)} of {len(table)} test reviews have "
            f"another label, such as row {foreign[0]} ({table['label'][foreign[0]]}); judge it on a test set of its own classes"
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
            f"{both} the one knows the classes {terminal.some(_classes(table))}, the other {terminal.some(_classes(champions))}; "
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
    return markdown.markdown([markdown.cell(name) for name in header], [[markdown.cell(text) for text in row] for row in rows])


def _accuracies(line: dict[Any, Any]) -> list[str]:
    return [line["slice"], line["group"], f"{line['reviews']:,}", f"{line['challenger']:.4f}", f"{line['champion']:.4f}"]


def _difference(line: dict[Any, Any]) -> str:
    return f"{line['difference']:+.4f} ({line['difference_low']:+.4f} to {line['difference_high']:+.4f})"
