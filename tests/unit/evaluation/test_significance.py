import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from sentiflow.evaluation import significance

reproducibly = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def answers(only_one, only_other, both):
    """Whether each of two models is correct, given the number of reviews on which only one, only the other, or both are."""
    one = np.array([True] * only_one + [False] * only_other + [True] * both)
    return one, np.array([False] * only_one + [True] * only_other + [True] * both)


@pytest.mark.parametrize(
    ("only_one", "only_other"), [(0, 1), (1, 0), (1, 1), (0, 8), (3, 9), (10, 10), (30, 55), (200, 150), (0, 60)]
)
def test_mcnemar_is_the_exact_two_sided_binomial_test(only_one, only_other):
    right = np.array([True] * only_one + [False] * only_other + [True, False] * 20)
    other = np.array([False] * only_one + [True] * only_other + [True, False] * 20)
    differ = only_one + only_other
    as_uneven = [k for k in range(differ + 1) if abs(k - differ / 2) >= abs(only_one - differ / 2)]
    expected = binom.pmf(as_uneven, differ, 0.5).sum()
    assert significance.mcnemar(right, other) == pytest.approx(expected)


def test_equal_models_have_a_p_value_of_1():
    right = np.array([True, False, True])
    assert significance.mcnemar(right, right) == 1.0


# interval of a difference


@reproducibly
@given(
    only_one=st.integers(0, 80),
    only_other=st.integers(0, 80),
    both=st.integers(1, 500),
    level=st.sampled_from([0.5, 0.1, 0.05, 0.025, 0.00833, 0.001]) | st.floats(1e-4, 0.9),
)
def test_interval_excludes_0_if_and_only_if_mcnemar_is_significant(only_one, only_other, both, level):
    one, other = answers(only_one, only_other, both)
    p = significance.mcnemar(one, other)
    assume(abs(p - level) > 1e-9)  # equal up to rounding
    low, high = significance.accuracy_difference(one, other, 1 - level)
    assert low - 1e-12 <= one.mean() - other.mean() <= high + 1e-12
    assert (low > 0 or high < 0) == (p < level)


def test_interval_is_antisymmetric():
    one, other = answers(12, 3, 100)
    low, high = significance.accuracy_difference(one, other, 0.95)
    assert significance.accuracy_difference(other, one, 0.95) == pytest.approx((-high, -low))


def test_interval_of_a_difference_has_its_coverage():
    draw = np.random.default_rng(1)
    shares, count, trials = (0.1, 0.05, 0.85), 200, 400  # only one is correct, only the other, both
    covered = 0
    for only_one, only_other, both in draw.multinomial(count, shares, trials):
        low, high = significance.accuracy_difference(*answers(only_one, only_other, both), 0.9)
        covered += low <= (only_one + only_other) / count * (0.1 - 0.05) / 0.15 <= high
    assert covered / trials >= 0.9 - 2 * math.sqrt(0.9 * 0.1 / trials)


# Wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (0, 2), (1, 1), (28, 28), (7, 50)])
def test_wilson_equals_the_closed_formula(hits, count):
    z, share = 1.959963984540054, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = significance.wilson(hits, count, 0.95)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert 0 <= low < high <= 1


# Holm


def test_holm_as_calculated_by_hand():
    """0.001 * 4, 0.01 * 3, then 0.03 * 2 = 0.06, which 0.04 * 1 must not be below."""
    found = significance.holm(np.array([0.04, 0.001, 0.03, 0.01]))
    assert found == pytest.approx([0.06, 0.004, 0.06, 0.03])


def test_holm_of_none_of_one_and_above_1():
    assert significance.holm(np.array([])).tolist() == []
    assert significance.holm(np.array([0.2])).tolist() == [0.2]
    assert significance.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
