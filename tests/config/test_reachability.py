import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from ternvae.config.reachability import (
    hierarchy_ceiling,
    level_sizes,
    q_ceiling,
    richness_ceiling,
    spearman_ceiling,
    valuation_gap_sizes,
)


def valuations(n_digits: int) -> list[int]:
    found = []
    for index in range(3**n_digits):
        v = 0
        while v < n_digits and index % 3 ** (v + 1) == 0:
            v += 1
        found.append(v)
    return found


@pytest.mark.parametrize("n_digits", [1, 2, 3, 6])
def test_level_sizes_count_the_valuations(n_digits: int) -> None:
    seen = valuations(n_digits)
    assert level_sizes(n_digits) == [seen.count(v) for v in range(n_digits + 1)]


@pytest.mark.parametrize("n_digits", [1, 2, 3, 4])
def test_gap_sizes_count_the_pairs(n_digits: int) -> None:
    gaps = [abs(v - w) for v, w in itertools.combinations(valuations(n_digits), 2)]
    assert valuation_gap_sizes(n_digits) == [gaps.count(k) for k in range(n_digits + 1)]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_ceiling_is_the_spearman_of_a_tie_free_refinement(values: list[int]) -> None:
    groups = [values.count(value) for value in set(values)]
    refined = rankdata(values, method="ordinal")
    assert spearman_ceiling(groups) == pytest.approx(spearmanr(values, refined)[0], abs=1e-12)


@given(st.permutations(range(9)))
def test_no_tie_free_order_passes_the_ceiling(radii: list[int]) -> None:
    assert abs(spearmanr(valuations(2), radii)[0]) <= hierarchy_ceiling(2) + 1e-12


def test_ceilings_at_nine_digits() -> None:
    assert hierarchy_ceiling(9) == pytest.approx(0.8320503, abs=5e-8)
    assert spearman_ceiling(valuation_gap_sizes(9)) == pytest.approx(0.9146320, abs=5e-8)
    assert q_ceiling(9) == pytest.approx(2.1627074, abs=5e-8)


def test_hierarchy_ceiling_tends_to_its_limit() -> None:
    assert hierarchy_ceiling(20) == pytest.approx(3 / math.sqrt(13), abs=1e-15)
    # sum(t^3) / M^3 of the first digits is the geometric series 8/27 + 8/729 + ... = 4/13.
    assert sum(Fraction(8, 27 ** (k + 1)) for k in range(30)) == pytest.approx(4 / 13)


def test_richness_ceiling_is_reached_by_radii_at_both_ends() -> None:
    rim = 2 * math.atanh(0.9) / math.sqrt(4.0)
    variances = []
    for size in level_sizes(3):
        radii = [rim * (k % 2) for k in range(size)]
        mean = sum(radii) / size
        variances.append(sum((r - mean) ** 2 for r in radii) / size)
    assert richness_ceiling(3, 4.0, 0.9) == pytest.approx(sum(variances) / 4, rel=1e-12)
    assert richness_ceiling(3, 5e-324, 0.9) == math.inf
