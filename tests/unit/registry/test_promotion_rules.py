import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.config import params
from sentiflow.evaluation import error_analysis, evaluation, metrics, significance, tuning
from sentiflow.registry import candidates, promotion_rules, verdict_report
from sentiflow.system.errors import InputError

TWO = ("negative", "positive")
THREE = ("negative", "neutral", "positive")
COUNT = 400
RULES = ["reviews", "majority", "floor", "gain", "mcnemar", "interval", "slices", "calibration", "latency", "size"]
COMPARING = ["gain", "mcnemar", "interval", "slices"]
EVALUATE = params.Evaluate(resamples=200, confidence=0.95, bins=10)
HOW = params.Promotion(
    metric="accuracy_score",
    floor=0.8,
    minimum_reviews=30,
    gain=0.0,
    p_value=0.05,
    slice_margin=0.03,
    slice_reviews=100,
    calibration_error=0.05,
    latency_ms=100.0,
    latency_reviews=20,
    size_mb=100.0,
)

every_number_of_classes = pytest.mark.parametrize("classes", [TWO, THREE], ids=["two", "three"])
reproducibly = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def asked(**values):
    return params.Promotion(**HOW.model_dump() | values)


def wrong_at(*places, count=COUNT):
    """Whether each review is predicted correctly: all but those at these places."""
    right = np.ones(count, bool)
    right[np.concatenate([np.arange(0), *(np.atleast_1d(np.arange(count)[place]) for place in places)])] = False
    return right


def candidate(version, right, *, architecture="lstm", classes=TWO, confidence=None, latency_ms=50.0, size_mb=10.0):
    """A version with the given correct predictions; its confidence is by default its accuracy."""
    right = np.asarray(right)
    count, rows = len(right), np.arange(100, 100 + len(right))
    labels = np.arange(count) % len(classes)
    sure = max(right.mean(), 0.6) if confidence is None else confidence
    probabilities = np.full((count, len(classes)), (1 - sure) / (len(classes) - 1))
    probabilities[np.arange(count), np.where(right, labels, (labels + 1) % len(classes))] = sure
    return candidates.Candidate(
        version, architecture, evaluation.predictions(rows, labels, probabilities, classes), latency_ms, size_mb
    )


def halves(of, **columns):
    """The groups of the reviews of a candidate: two halves by contrast, and the classes."""
    rows, count = pd.Index(of.predictions["row"], name="row"), len(of.predictions)
    table = {"contrast": np.where(np.arange(count) < count // 2, "none", "some")} | columns
    return pd.DataFrame(table, rows).assign(**{"class": of.predictions["label"].to_numpy()})


def judged(challenger, champion, how=HOW, groups=None, decision=1):
    groups = halves(challenger) if groups is None else groups
    return promotion_rules.judge(challenger, champion, groups, how, EVALUATE, test_set="0" * 12, decision=decision, seed=7)


def outcome(verdict, rule):
    [found] = [each for each in verdict.outcomes if each.rule == rule]
    return found


CHAMPION = candidate("7", wrong_at(slice(None, None, 5)))  # accuracy 0.8
BETTER = candidate("12", wrong_at(slice(None, None, 10)), architecture="nb_svm")  # accuracy 0.9, correct wherever the champion is


# every rule


def test_version_that_is_better_everywhere_passes_every_rule():
    verdict = judged(BETTER, CHAMPION)
    assert [each.rule for each in verdict.outcomes] == RULES
    assert [each.state for each in verdict.outcomes] == ["passes"] * 10
    assert verdict.holds
    assert verdict.failed == ()
    assert verdict_report.in_words(verdict) == "Version 12 (nb_svm) passes all 10 promotion rules against version 7 (lstm)."
    assert (verdict.reviews, verdict.compared, verdict.test_set) == (COUNT, COUNT, "0" * 12)


ALONE = {
    # trained on all but 29 of the 400 reviews; the champion on none
    "reviews": (dataclasses.replace(BETTER, seen=frozenset(range(129, 500))), None, HOW),
    # always predicts the first class
    "majority": (
        candidate("2", wrong_at(slice(1, None, 2))),
        candidate("1", wrong_at(slice(1, None, 2), slice(0, 200, 2))),
        asked(floor=0.4, calibration_error=0.2),
    ),
    "floor": (candidate("2", wrong_at(slice(None, None, 4))), candidate("1", wrong_at(slice(None, None, 2))), HOW),
    "gain": (candidate("2", wrong_at(slice(24))), candidate("1", wrong_at(slice(40))), asked(gain=0.05)),
    # five more of one class are too few for the exact test, but a bootstrap seldom draws none of them
    "mcnemar": (
        candidate("2", wrong_at(slice(20))),
        candidate("1", wrong_at(slice(20), slice(21, 31, 2))),
        asked(metric="recall_score"),
    ),
    # more often correct on the first class, which the recall of the second does not measure
    "interval": (
        candidate("2", wrong_at(slice(1, 31, 2))),
        candidate("1", wrong_at(slice(1, 33, 2), slice(0, 60, 2))),
        asked(metric="recall_score"),
    ),
    "slices": (candidate("2", wrong_at(slice(12))), candidate("1", wrong_at(slice(200, 260))), HOW),
    "calibration": (candidate("2", wrong_at(slice(None, None, 10)), confidence=0.99), CHAMPION, HOW),
    "latency": (dataclasses.replace(BETTER, latency_ms=100.1), CHAMPION, HOW),
    "size": (dataclasses.replace(BETTER, size_mb=250.0), CHAMPION, HOW),
}


def test_there_is_a_case_in_which_each_rule_fails_alone():
    assert list(ALONE) == RULES == [rule.name for rule in promotion_rules.RULES]


@pytest.mark.parametrize("rule", promotion_rules.RULES, ids=RULES)
def test_rule_is_in_the_readme_and_its_limit_in_params(rule):
    assert f"**{rule.name}**" in Path("README.md").read_text(encoding="utf-8")
    assert rule.key is None or rule.key in params.Promotion.model_fields


def test_rules_that_compare_with_the_champion_have_asks():
    assert [rule.name for rule in promotion_rules.RULES if rule.asks] == COMPARING


def test_new_rule_is_one_entry_in_the_table(monkeypatch):
    def light(case):
        size = case.challenger.size_mb
        return promotion_rules.Check(size <= 2, f"{size} MB", "at most 2 MB", {"found": size, "required": 2.0})

    rules = (*promotion_rules.RULES, promotion_rules.Rule("light", None, light))
    monkeypatch.setattr(promotion_rules, "RULES", rules)
    verdict = judged(BETTER, CHAMPION)
    assert verdict.failed == ("light",)
    assert re.search(r"\| light +\| 10.0 MB +\| at most 2 MB +\| fails", verdict_report.as_markdown(verdict))
    assert verdict_report.as_data(verdict)["rules"][-1]["rule"] == "light"
    assert "fails 1 of 11 promotion rules" in verdict_report.in_words(verdict)


@pytest.mark.parametrize("rule", RULES)
def test_version_that_fails_one_rule_does_not_pass(rule):
    challenger, champion, how = ALONE[rule]
    verdict = judged(challenger, champion, how)
    assert verdict.failed == (rule,)
    assert not verdict.holds
    assert f" fails 1 of {10 if champion else 6} promotion rules " in verdict_report.in_words(verdict)
    others = [each for each in verdict.outcomes if each.rule != rule]
    assert {each.state for each in others if champion or each.rule not in COMPARING} == {"passes"}


def test_all_failing_rules_are_named():
    verdict = judged(dataclasses.replace(BETTER, latency_ms=200.0, size_mb=250.0), CHAMPION)
    words = "Version 12 (nb_svm) fails 2 of 10 promotion rules against version 7 (lstm): latency, size."
    assert verdict_report.in_words(verdict) == words


def test_significantly_worse_version_fails_mcnemar():
    found = outcome(judged(CHAMPION, BETTER), "mcnemar")
    assert found.numbers["found"] < 1e-6
    assert found.state == "fails"


def test_version_with_the_champions_predictions_is_not_better():
    verdict = judged(candidate("8", wrong_at(slice(None, None, 5))), CHAMPION, asked(p_value=1.0))
    assert verdict.failed == ("mcnemar", "interval")
    assert outcome(verdict, "interval").numbers["found"] == outcome(verdict, "interval").numbers["high"] == 0


def test_version_with_as_many_but_different_mistakes_is_not_better():
    verdict = judged(candidate("8", wrong_at(slice(1, None, 5))), CHAMPION)
    assert outcome(verdict, "gain").numbers["found"] == 0
    assert outcome(verdict, "mcnemar").numbers["found"] == 1
    assert verdict.failed == ("mcnemar", "interval")


# limits


def test_limit_that_is_met_exactly_passes_despite_rounding_errors():
    assert 0.9 - 0.8 < 0.1
    assert judged(BETTER, CHAMPION, asked(gain=0.1, floor=0.9)).failed == ()
    one_more = candidate("12", wrong_at(slice(None, None, 10), 1))
    assert judged(one_more, CHAMPION, asked(gain=0.1)).failed == ("gain",)
    assert judged(one_more, CHAMPION, asked(floor=0.9)).failed == ("floor",)


@pytest.mark.parametrize(("lost", "failed"), [(6, ()), (7, ("slices",))])
def test_group_may_lose_exactly_the_margin(lost, failed):
    verdict = judged(candidate("2", wrong_at(slice(0, 2 * lost, 2))), candidate("1", wrong_at(slice(201, 320, 2))))
    assert verdict.slices["difference"].iloc[0] == pytest.approx(-lost / 200)
    assert verdict.failed == failed


def test_latency_size_and_calibration_may_equal_their_limits():
    how = asked(latency_ms=50.0, size_mb=10.0, calibration_error=0.1)
    challenger = candidate("12", wrong_at(slice(None, None, 10)), confidence=0.8)
    assert judged(challenger, CHAMPION, how).failed == ()


def test_value_just_beyond_its_limit_is_not_printed_as_the_limit():
    verdict = judged(dataclasses.replace(BETTER, latency_ms=100.0004), CHAMPION, asked(floor=0.90001))
    assert verdict.failed == ("floor", "latency")
    found = outcome(verdict, "floor")
    assert (found.found, found.required) == ("accuracy_score 0.90000", "at least 0.90001")
    found = outcome(verdict, "latency")
    assert (found.found, found.required) == ("95th percentile 100.0004 ms", "at most 100.0000 ms")


# where the numbers come from


@every_number_of_classes
@pytest.mark.parametrize("metric", ["accuracy_score", "precision_score", "recall_score", "f1_score"])
def test_numbers_equal_those_of_comparison_and_evaluation(metric, classes):
    draw = np.random.default_rng(3)
    one, other = (candidate(v, draw.random(300) < share, classes=classes) for v, share in (("2", 0.85), ("1", 0.8)))
    sure = draw.uniform(0.1, 1, (300, 1))
    columns = [f"p_{name}" for name in classes]
    unsure = sure * one.predictions[columns] + (1 - sure) / len(classes)
    one = changed(one, **{name: unsure[name] for name in columns})
    verdict = judged(one, other, asked(metric=metric))
    [effect] = [e for e in tuning.effects(other.predictions, one.predictions, EVALUATE, seed=7) if e["score"] == metric]
    right = [(each.predictions["label"] == each.predictions["predicted"]).to_numpy() for each in (one, other)]
    probabilities = one.predictions[columns].to_numpy()
    labels = np.arange(300) % len(classes)

    assert outcome(verdict, "floor").numbers["found"] == effect["tuned"]
    gain = outcome(verdict, "gain").numbers
    assert (gain["found"], gain["challenger"], gain["champion"]) == (effect["difference"], effect["tuned"], effect["baseline"])
    assert outcome(verdict, "mcnemar").numbers["found"] == significance.mcnemar(*right)
    interval = outcome(verdict, "interval").numbers
    if metric == "accuracy_score":
        assert (interval["found"], interval["high"]) == significance.accuracy_difference(*right, 0.975)
        assert interval["confidence"] == 0.975
    else:
        assert (interval["found"], interval["high"]) == (effect["low"], effect["high"])
    error = metrics.calibration_error(labels, probabilities, bins=EVALUATE.bins)
    assert outcome(verdict, "calibration").numbers["found"] == error


@every_number_of_classes
def test_order_of_the_champions_reviews_and_classes_does_not_matter(classes):
    right = np.arange(120) % 4 > 0
    one, other = candidate("2", right, classes=classes), candidate("1", np.roll(right, 1), classes=classes)
    table = other.predictions
    mixed = table.sample(frac=1, random_state=1)[["row", "label", "predicted", *(f"p_{name}" for name in classes[::-1])]]
    changed = judged(one, dataclasses.replace(other, predictions=mixed), groups=halves(one).iloc[::-1])
    assert verdict_report.as_data(changed) == verdict_report.as_data(judged(one, other))


@reproducibly
@given(
    answers=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=40),
    metric=st.sampled_from(["accuracy_score", "f1_score"]),
)
def test_two_versions_are_never_both_better_than_the_other(answers, metric):
    one, other = (candidate(version, right) for version, right in zip("12", np.array(answers).T, strict=True))
    found = [judged(*pair, asked(metric=metric, minimum_reviews=10)) for pair in ((one, other), (other, one))]
    for rules in (("gain", "interval"), ("mcnemar",)):
        assert not all(outcome(verdict, rule).holds for verdict in found for rule in rules)
    there, back = (outcome(verdict, "interval").numbers for verdict in found)
    assert there["found"] == pytest.approx(-back["high"])


# no champion


def test_without_a_champion_rules_that_compare_are_not_checked():
    verdict = judged(BETTER, None)
    assert [each.rule for each in verdict.outcomes] == RULES
    assert [each.rule for each in verdict.outcomes if each.state == "not checked"] == COMPARING
    assert verdict.holds
    assert verdict.champion is None
    assert verdict_report.in_words(verdict) == "Version 12 (nb_svm) passes all 6 promotion rules that need no champion."


@pytest.mark.parametrize("rule", sorted(set(RULES) - set(COMPARING)))
def test_without_a_champion_the_other_rules_are_checked(rule):
    challenger, _, how = ALONE[rule]
    verdict = judged(challenger, None, how)
    assert verdict.failed == (rule,)
    assert f" fails 1 of 6 promotion rules that need no champion: {rule}." in verdict_report.in_words(verdict)


def test_requirements_are_the_same_with_and_without_a_champion():
    required = [[each.required for each in judged(BETTER, champion).outcomes] for champion in (CHAMPION, None)]
    assert required[0] == required[1]


def test_version_that_always_predicts_the_most_frequent_class_fails():
    count = 400
    labels = np.where(np.arange(count) % 100 == 0, "spam", "ham")
    answers = pd.DataFrame({"row": range(count), "label": labels, "predicted": "ham", "p_ham": 0.99, "p_spam": 0.01})
    always = candidates.Candidate("1", "nb_svm", answers, 50.0, 10.0)
    verdict = judged(always, None, asked(floor=None))
    assert verdict.failed == ("majority",)
    assert outcome(verdict, "majority").numbers["balanced_accuracy_score"] == 0.5
    assert outcome(verdict, "majority").required == "lower end above 0.5000, that of always answering one class"


def test_three_classes_pass_with_an_accuracy_of_two_thirds_where_the_largest_has_less_than_half():
    shipped = params.load().promotion
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), [450, 300, 250])
    right = draw.permutation(1000) < 660
    predicted = np.where(right, labels, (labels + draw.integers(1, 3, 1000)) % 3)
    probabilities = np.full((1000, 3), 0.17)
    probabilities[np.arange(1000), predicted] = 0.66
    answers = evaluation.predictions(np.arange(1000), labels, probabilities, THREE)
    verdict = judged(candidates.Candidate("1", "nb_svm", answers, 50.0, 10.0), None, shipped)
    assert verdict.holds, verdict_report.rules_as_markdown(verdict)
    assert "floor" not in {each.rule for each in verdict.outcomes}


@every_number_of_classes
def test_majority_rule_uses_the_mean_recall_of_the_classes(classes):
    draw = np.random.default_rng(5)
    of = candidate("1", draw.random(300) < 0.8, classes=classes)
    right = of.predictions["label"] == of.predictions["predicted"]
    expected = right.groupby(of.predictions["label"]).mean().mean()
    assert outcome(judged(of, None), "majority").numbers["balanced_accuracy_score"] == pytest.approx(expected)


# one test set, many comparisons


@reproducibly
@given(p_value=st.floats(0.001, 1), decisions=st.integers(1, 500))
def test_levels_of_all_comparisons_on_a_test_set_add_up_to_at_most_the_p_value(p_value, decisions):
    levels = [promotion_rules.level_of(number, asked(p_value=p_value)) for number in range(1, decisions + 1)]
    assert math.fsum(levels) <= p_value
    assert levels == sorted(levels, reverse=True)
    assert all(level == float(f"{level:.3g}") for level in levels), "the printed level is exact"


@pytest.mark.parametrize(("decision", "failed"), [(1, ()), (2, ("mcnemar", "interval"))])
def test_later_comparison_on_the_same_test_set_needs_a_smaller_p(decision, failed):
    better = candidate("2", wrong_at(slice(20))), candidate("1", wrong_at(slice(27)))  # p = 2 / 2**7 = 0.0156
    verdict = judged(*better, decision=decision)
    assert verdict.failed == failed
    assert outcome(verdict, "mcnemar").required == f"p at most {(0.025, 0.00833)[decision - 1]}, and correct more often"
    assert f"including this one: {decision}." in verdict_report.as_markdown(verdict)


# reviews that a version has seen


def test_versions_are_compared_only_on_reviews_that_neither_has_seen():
    rows = BETTER.predictions["row"]
    seen = frozenset(rows[:100]), frozenset(rows[50:200])
    verdict = judged(*(dataclasses.replace(of, seen=each) for of, each in zip((BETTER, CHAMPION), seen, strict=True)))
    alone = [dataclasses.replace(of, predictions=of.predictions.iloc[200:]) for of in (BETTER, CHAMPION)]
    expected = judged(*alone, groups=halves(BETTER).iloc[200:])
    assert (verdict.reviews, verdict.compared) == (400, 200)
    for rule in COMPARING:
        assert outcome(verdict, rule) == outcome(expected, rule)
    assert "Left out: 200 whose texts either version was trained or chosen on." in verdict_report.as_markdown(verdict)


def test_versions_with_too_few_reviews_that_neither_has_seen_are_not_compared():
    champion = dataclasses.replace(CHAMPION, seen=frozenset(CHAMPION.predictions["row"][29:]))
    verdict = judged(BETTER, champion)
    assert not verdict.holds
    assert (verdict.failed, list(verdict.unchecked)) == ((), COMPARING)
    assert verdict_report.in_words(verdict) == (
        "Version 12 (nb_svm) does not pass. Not compared with version 7 (lstm): only 29 of 400 test reviews are new to both "
        "versions, promotion.minimum_reviews is 30."
    )
    assert "on this test set so far: 0. This is none." in verdict_report.as_markdown(verdict)
    one_more = dataclasses.replace(CHAMPION, seen=frozenset(CHAMPION.predictions["row"][30:]))
    assert judged(BETTER, one_more).is_compared


def test_version_that_has_seen_every_test_review_cannot_be_judged():
    seen = dataclasses.replace(BETTER, seen=frozenset(BETTER.predictions["row"]))
    with pytest.raises(InputError, match="was trained on all 400 test reviews; train it again: sentiflow repro"):
        judged(seen, CHAMPION)


def test_too_few_test_reviews_are_named_with_the_setting():
    verdict = judged(candidate("1", np.ones(2, bool)), None)
    assert {"reviews"} <= set(verdict.failed)
    assert verdict_report.in_words(verdict).endswith(
        "Too few reviews: 2 in the test set that it was not trained on, promotion.minimum_reviews is 30."
    )


# groups of reviews


def test_groups_are_by_length_negation_contrast_and_true_class_whatever_the_model():
    rows = pd.Index([5, 3, 9], name="row")
    measures = pd.DataFrame({"length": [100, 101, 900], "negation": [0, 2, 3], "contrast": [0, 1, 0], "truncation": 7}, rows)
    found = promotion_rules.groups(measures, pd.Series(["b", "a", "b"], pd.Index([3, 5, 9], name="row")))
    assert found.loc[rows].astype(str).to_dict("list") == {
        "length": ["up to 100 words", "101 to 200 words", "more than 400 words"],
        "negation": ["none", "one or two", "three or more"],
        "contrast": ["none", "some", "none"],
        "class": ["a", "b", "b"],
    }
    assert set(promotion_rules.KINDS) < set(error_analysis.SLICES)


def test_groups_and_labels_of_different_reviews_are_an_error():
    measures = pd.DataFrame({kind: [0, 0] for kind in promotion_rules.KINDS}, [1, 2])
    with pytest.raises(InputError, match=r"^the word ids \(2\) and the labels \(1\) are of different test reviews; .*dvc repro$"):
        promotion_rules.groups(measures, pd.Series(["a"], [1]))


def test_groups_are_sorted_worst_first_with_both_accuracies():
    challenger, champion, _ = ALONE["slices"]
    table = judged(challenger, champion).slices
    assert table["difference"].is_monotonic_increasing
    assert table.iloc[0][["slice", "group", "reviews", "outcome"]].to_list() == ["contrast", "none", 200, "fails"]
    assert table.iloc[0][["challenger", "champion", "difference"]].to_list() == pytest.approx([188 / 200, 1.0, -12 / 200])
    assert table.groupby("slice")["reviews"].sum().to_dict() == {"contrast": COUNT, "class": COUNT}
    inside = table[["difference_low", "difference", "difference_high"]]
    assert (inside.diff(axis=1).iloc[:, 1:] >= -1e-12).all(axis=None)


def test_groups_with_equal_differences_keep_the_order_of_their_slice():
    lengths = pd.Categorical(["long", "short", "middling", "short"] * 100, ["short", "middling", "long"])
    table = judged(CHAMPION, candidate("8", wrong_at(slice(None, None, 5))), groups=halves(CHAMPION, length=lengths)).slices
    assert table["group"].to_list() == ["none", "some", "short", "middling", "long", "negative", "positive"]


def test_interval_of_a_group_is_the_inversion_of_mcnemars_test():
    draw = np.random.default_rng(2)
    one, other = draw.random(300) < 0.8, draw.random(300) < 0.7
    how = params.Evaluate(resamples=4000, confidence=0.9, bins=5)
    groups = pd.DataFrame({"all": ["of them"] * 300})
    found = promotion_rules.by_slice(one, other, groups, HOW, how).iloc[0]
    assert found[["difference_low", "difference_high"]].to_list() == [*significance.accuracy_difference(one, other, 0.9)]


def test_group_that_is_too_small_is_listed_but_not_judged():
    challenger, champion = candidate("2", wrong_at(slice(99))), candidate("1", wrong_at(slice(99, 300)))
    kinds = np.where(np.arange(COUNT) < 99, "short", "long")
    groups = halves(challenger, contrast="none", length=kinds)
    verdict = judged(challenger, champion, asked(floor=0.5), groups)
    assert verdict.slices.iloc[0][["group", "reviews", "difference", "outcome"]].to_list() == ["short", 99, -1.0, "too small"]
    found = outcome(verdict, "slices")
    assert found.state == "passes"
    assert found.found.endswith("; too small: length short (99)")
    assert (found.numbers["judged"], found.numbers["too_small"], found.numbers["failing"]) == (4, 1, 0)
    assert "slices" in judged(challenger, champion, asked(floor=0.5, slice_reviews=99), groups).failed


def test_slices_rule_passes_if_every_group_is_too_small():
    found = outcome(judged(BETTER, CHAMPION, asked(slice_reviews=1000)), "slices")
    assert found.holds
    assert found.found.startswith("no group is large enough to be judged; too small: ")
    assert found.found.endswith(" and 1 more"), "the next table has all groups"
    assert found.numbers == {"required": -0.03, "judged": 0, "too_small": 4, "failing": 0}


def test_every_group_that_loses_too_much_is_named():
    challenger, champion = candidate("2", wrong_at(slice(0, 40, 2))), candidate("1", wrong_at(slice(201, 320, 2)))
    found = outcome(judged(challenger, champion), "slices")
    assert found.found == ("2 of 4 groups lose more: contrast none -0.1000 (200 reviews), class negative -0.1000 (200 reviews)")


# what cannot be judged


def changed(of, **columns):
    return dataclasses.replace(of, predictions=of.predictions.assign(**columns))


@pytest.mark.parametrize("what", ["latency_ms", "size_mb"])
@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize("champion", [CHAMPION, None], ids=["champion", "no champion"])
def test_challenger_without_measurements_is_a_programming_error(what, value, champion):
    with pytest.raises(ValueError, match=f"^{what} of version 12 .* is {value}; measure it") as raised:
        judged(dataclasses.replace(BETTER, **{what: value}), champion)
    assert not isinstance(raised.value, InputError)


def test_the_champion_need_not_be_measured():
    champion = dataclasses.replace(CHAMPION, latency_ms=None, size_mb=None)
    assert verdict_report.as_data(judged(BETTER, champion)) == verdict_report.as_data(judged(BETTER, CHAMPION))


# page and data


def tables_of(page):
    """Every table of a page as lines of cells, the header first."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    return [[[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()] for block in blocks]


@every_number_of_classes
@pytest.mark.parametrize("with_champion", [True, False], ids=["champion", "no champion"])
def test_page_has_the_verdict_every_rule_and_every_group(classes, with_champion):
    challenger = candidate("12", wrong_at(slice(20)), classes=classes)
    champion = candidate("7", wrong_at(slice(80)), classes=classes) if with_champion else None
    verdict = judged(challenger, champion)
    page = verdict_report.as_markdown(verdict)
    assert page.startswith(
        f"# Promotion\n\n**{verdict_report.in_words(verdict)}**\n\nEvaluated on 400 reviews, test set `{'0' * 12}`."
    )
    assert "nan" not in page
    rules, groups = tables_of(page)
    assert rules[0] == ["rule", "found", "required", "outcome"]
    assert [[line[0], line[3]] for line in rules[2:]] == [[each.rule, each.state] for each in verdict.outcomes]
    assert [line[:2] for line in groups[2:]] == verdict.slices[["slice", "group"]].to_numpy().tolist()
    for table in (rules, groups):
        assert {len(line) for line in table} == {len(table[0])}
    assert page.endswith("\n")
    assert "\n\n\n" not in page


def test_the_page_shows_the_numbers_of_a_group():
    challenger, champion, _ = ALONE["slices"]
    _, [header, _, worst, *_] = tables_of(verdict_report.as_markdown(judged(challenger, champion)))
    assert header == ["slice", "group", "reviews", "version 2", "version 1", "difference (interval)", "outcome"]
    assert worst[:5] == ["contrast", "none", "200", "0.9400", "1.0000"]
    assert re.fullmatch(r"-0\.0600 \(-0\.\d{4} to -0\.\d{4}\)", worst[5])
    assert worst[6] == "fails"


def test_names_are_escaped_in_the_page():
    wicked = ("<script>alert(1)</script>", "a | b\n# title ![](x)")
    challenger = candidate("12", wrong_at(slice(0, 40, 2)), classes=wicked, architecture="| <b>")
    champion = candidate("7", wrong_at(slice(201, 320, 2)), classes=wicked)
    page = verdict_report.as_markdown(judged(challenger, champion))
    assert "<" not in page
    assert not re.search("^# title|^!|[^\\\\]\\[", page, re.MULTILINE)
    for table in tables_of(page):
        assert {len(line) for line in table} == {len(table[0])}


@every_number_of_classes
@pytest.mark.parametrize("with_champion", [True, False], ids=["champion", "no champion"])
def test_data_is_valid_json_and_agrees_with_the_verdict(classes, with_champion):
    challenger = candidate("12", wrong_at(slice(20)), classes=classes)
    champion = candidate("7", wrong_at(slice(80)), classes=classes) if with_champion else None
    verdict = judged(challenger, champion)
    found = json.loads(json.dumps(verdict_report.as_data(verdict), allow_nan=False))
    assert found == verdict_report.as_data(verdict)
    assert found["summary"] == verdict_report.in_words(verdict)
    assert (found["holds"], found["failed"]) == (verdict.holds, list(verdict.failed))
    assert found["challenger"] == {"version": "12", "architecture": "lstm"}
    assert found["champion"] == ({"version": "7", "architecture": "lstm"} if with_champion else None)
    assert [rule["holds"] for rule in found["rules"]] == [each.holds for each in verdict.outcomes]
    assert len(found["slices"]) == len(verdict.slices)
    assert (found["slices"][0]["champion"] is None) is not with_champion


def test_verdict_is_deterministic():
    assert verdict_report.as_data(judged(BETTER, CHAMPION)) == verdict_report.as_data(judged(BETTER, CHAMPION))
