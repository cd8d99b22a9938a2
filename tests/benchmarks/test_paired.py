"""Paired comparisons, against brute force, scipy and figures from the literature."""

from __future__ import annotations

import itertools
import math
from importlib import import_module as module

import numpy as np
import pytest
from scipy import stats


def differences(n: int, seed: int = 3) -> list[float]:
    return np.random.default_rng(seed).normal(0.4, 1.0, n).tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e6])
def test_sign_flip_p_is_that_of_all_patterns(n: int, scale: float) -> None:
    found = [scale * each for each in differences(n)]
    sums = [
        abs(math.fsum(sign * each for sign, each in zip(signs, found, strict=True)))
        for signs in itertools.product((1, -1), repeat=n)
    ]
    least = abs(math.fsum(found)) * (1 - 1e-12)
    assert module("paired").sign_flip_p(found) == sum(s >= least for s in sums) / 2**n


def test_sign_flip_p_is_that_of_scipy() -> None:
    found = differences(10)
    wanted = stats.permutation_test(
        (found, [0.0] * 10),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    assert 0.02 < wanted < 0.9
    assert module("paired").sign_flip_p(found) == pytest.approx(wanted, abs=1e-12)


def test_sign_flip_p_of_darwins_maize() -> None:
    """Fisher, 1935, section 21: 1,726 of 2^15 patterns are at least as far out."""
    eighths = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    wanted = 1726 / 2**15
    assert module("paired").sign_flip_p(eighths) == wanted
    # In inches most sums are no binary fractions of equal rounding; the ties must still count.
    assert module("paired").sign_flip_p([each / 10 for each in eighths]) == wanted


def test_sign_flip_p_at_its_ends() -> None:
    paired = module("paired")
    assert paired.sign_flip_p([0.0] * 5) == 1.0
    for n in (1, 2, 10):
        assert paired.sign_flip_p([0.1] * n) == paired.least_p(n) == 2 / 2**n
        assert paired.sign_flip_p([-0.1] * n) == paired.least_p(n)
    assert paired.least_p(0) == 1.0
    for n in (0, paired.MOST_PAIRS + 1):
        with pytest.raises(ValueError, match=f"got {n}"):
            paired.sign_flip_p([1.0] * n)


def test_paired_is_over_the_pairs_that_are_known() -> None:
    first = [3.0, None, 5.0, 7.0, 1.0]
    second = [1.0, 2.0, 6.0, None, 0.5]
    found = module("paired").paired(first, second)
    assert found.pairs == 3
    assert found.first == pytest.approx(3.0)
    assert found.second == pytest.approx(2.5)
    assert found.difference == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(stats.sem([2.0, -1.0, 0.5]))
    assert found.p == 0.75  # all but the two patterns that sum to 0.5 and -0.5
    assert not found.always_equal


def test_paired_without_pairs_and_with_one() -> None:
    paired = module("paired")
    assert paired.paired([None, 1.0], [2.0, None]) == paired.Paired(0)
    one = paired.paired([1.0], [1.0])
    assert (one.difference, one.standard_error, one.p, one.always_equal) == (0.0, None, 1.0, True)


def test_holm_is_the_closure_of_bonferroni() -> None:
    """The corrected value is the largest Bonferroni p of all sets that a comparison is in."""
    p_values = [0.01, 0.04, 0.03, 0.005, 0.3]
    places = range(len(p_values))
    wanted = [
        max(
            min(1.0, size * min(p_values[i] for i in chosen))
            for size in range(1, len(p_values) + 1)
            for chosen in itertools.combinations(places, size)
            if place in chosen
        )
        for place in places
    ]
    assert module("paired").holm(p_values) == pytest.approx(wanted)


def test_holm_leaves_out_what_was_not_compared() -> None:
    holm = module("paired").holm
    assert holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02]
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
