"""How high the rank statistics can go: against best embeddings built by hand, and in the limit."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from ternvae import metrics
from ternvae.ceilings import ceilings, richness_ceiling, spearman_ceiling
from ternvae.padic import TernarySpace
from tests.embeddings import closed_form
from tests.padic.oracles import distance_by_definition, relaxed, valuation_by_definition

SMALL = [1, 2, 3, 4]


def levels(n: int) -> list[int]:
    return [int(min(valuation_by_definition(i, 3), n)) for i in range(3**n)]


def pairs(n: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(3**n), 2))


def best_radii(n: int, seed: int = 0) -> list[float]:
    """Level v around n - v, all radii and all gaps between radii distinct."""
    jitter = np.random.default_rng(seed).uniform(-0.2, 0.2, 3**n)
    radii = [n - v + float(e) for v, e in zip(levels(n), jitter, strict=True)]
    gaps = [abs(radii[i] - radii[j]) for i, j in pairs(n)]
    assert len(set(radii)) == len(radii) and len(set(gaps)) == len(gaps)
    return radii


@pytest.mark.parametrize("n", SMALL)
def test_hierarchy_of_the_best_radii(n: int) -> None:
    reached = spearmanr(levels(n), best_radii(n))[0]
    assert ceilings(n)["hierarchy"] == pytest.approx(reached, abs=1e-12)


@pytest.mark.parametrize("n", SMALL)
def test_dist_corr_and_q_of_the_best_radii(n: int) -> None:
    v, r = levels(n), best_radii(n)
    level_gaps = [abs(v[i] - v[j]) for i, j in pairs(n)]
    radius_gaps = [abs(r[i] - r[j]) for i, j in pairs(n)]
    reached = spearmanr(level_gaps, radius_gaps)[0]
    assert ceilings(n)["dist_corr"] == pytest.approx(reached, abs=1e-12)
    q = reached + 1.5 * abs(spearmanr(v, r)[0])
    assert ceilings(n)["Q_enhanced"] == pytest.approx(q, abs=1e-12)


@pytest.mark.parametrize("n", SMALL[1:])
def test_ultrametric_corr_of_the_best_points(n: int) -> None:
    points = closed_form(TernarySpace(n), scale=0.1).numpy()
    padic, hyperbolic = [], []
    for i, j in pairs(n):
        x, y = points[i], points[j]
        ratio = (x - y) @ (x - y) / ((1 - x @ x) * (1 - y @ y))
        hyperbolic.append(2 * math.asinh(math.sqrt(ratio)))
        padic.append(float(distance_by_definition(i, j, 3)))
    assert len(set(hyperbolic)) == len(hyperbolic)
    reached = spearmanr(padic, hyperbolic)[0]
    assert ceilings(n)["ultrametric_corr"] == pytest.approx(reached, abs=1e-12)


def test_one_digit_has_no_ultrametric_corr() -> None:
    assert {distance_by_definition(i, j, 3) for i, j in pairs(1)} == {1}
    assert math.isnan(ceilings(1)["ultrametric_corr"])
    assert all(math.isfinite(v) for k, v in ceilings(1).items() if k != "ultrametric_corr")


@pytest.mark.parametrize("n", [1, 2])
def test_no_order_at_all_passes_the_hierarchy_ceiling(n: int) -> None:
    """Every way to deal the ranks 1..N to the levels; the order within a level changes nothing."""
    v, size = levels(n), 3**n
    found = set()
    for front in itertools.combinations(range(size), v.count(0)):
        rest = [rank for rank in range(size) if rank not in front]
        for last in rest:
            middle = [rank for rank in rest if rank != last]
            queues = {n: iter([last]), 0: iter(front), 1: iter(middle if n == 2 else [last])}
            found.add(round(float(spearmanr(v, [next(queues[level]) for level in v])[0]), 12))
    assert min(found) == pytest.approx(ceilings(n)["hierarchy"], abs=1e-11)
    assert max(found) == pytest.approx(-ceilings(n)["hierarchy"], abs=1e-11)


@relaxed
@given(st.integers(0, 2**32), st.sampled_from([2, 3]))
def test_no_radii_without_ties_pass_the_ceilings(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    # From pure noise to nearly perfect order: the violations to be feared are close to the top.
    r = np.array(best_radii(n)) + rng.uniform(0, 2) * rng.normal(size=3**n)
    v = np.array(levels(n))
    i, j = np.triu_indices(3**n, 1)
    gaps = abs(r[i] - r[j])
    assert len(set(gaps)) == len(gaps)
    limit = ceilings(n)
    hierarchy, dist_corr = spearmanr(v, r)[0], spearmanr(abs(v[i] - v[j]), gaps)[0]
    assert abs(hierarchy) <= -limit["hierarchy"] + 1e-12
    assert dist_corr <= limit["dist_corr"] + 1e-12
    assert dist_corr + 1.5 * abs(hierarchy) <= limit["Q_enhanced"] + 1e-12


@relaxed
@given(st.permutations(range(36)))
def test_no_distances_without_ties_pass_the_ultrametric_ceiling(distances: list[int]) -> None:
    padic = [float(distance_by_definition(i, j, 3)) for i, j in pairs(2)]
    limit = ceilings(2)["ultrametric_corr"]
    assert abs(spearmanr(padic, distances)[0]) <= limit + 1e-12


@pytest.mark.parametrize("n", SMALL)
def test_ties_inside_a_level_do_pass_the_hierarchy_ceiling(n: int) -> None:
    v = levels(n)
    assert spearmanr(v, [-level for level in v])[0] == pytest.approx(-1)
    assert ceilings(n)["hierarchy"] > -0.9


def test_figures_at_nine_digits() -> None:
    rounded = {name: round(value, 7) for name, value in ceilings(9).items()}
    assert rounded == {
        "hierarchy": -0.8320503,
        "dist_corr": 0.9146320,
        "Q_enhanced": 2.1627074,
        "ultrametric_corr": 0.8320221,
    }


def test_limits_for_growing_n() -> None:
    """Levels take shares 2/3, 2/9, ... and gaps 1/2, 1/3, 1/9, ...; sums of cubes are geometric."""
    hierarchy = math.sqrt(1 - (8 / 27) / (1 - 1 / 27))
    assert hierarchy == pytest.approx(3 / math.sqrt(13), abs=1e-15)
    dist_corr = math.sqrt(1 - 1 / 8 - (1 / 27) / (1 - 1 / 27))
    limits = {
        "hierarchy": -hierarchy,
        "dist_corr": dist_corr,
        "Q_enhanced": dist_corr + 1.5 * hierarchy,
        "ultrametric_corr": hierarchy,
    }
    assert ceilings(20) == pytest.approx(limits, abs=1e-9)
    for name, limit in limits.items():
        errors = [abs(ceilings(n)[name] - limit) for n in (3, 6, 9, 12, 15, 18)]
        assert errors == sorted(errors, reverse=True), name
        assert errors[-1] < errors[0] / 1000, name


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_a_ceiling_is_the_spearman_of_a_tie_free_refinement(values: list[int]) -> None:
    groups = [values.count(value) for value in set(values)]
    refined = rankdata(values, method="ordinal")
    assert spearman_ceiling(groups) == pytest.approx(spearmanr(values, refined)[0], abs=1e-12)


def test_all_values_tied_have_no_ceiling_and_none_tied_reach_one() -> None:
    assert math.isnan(spearman_ceiling([5]))
    assert spearman_ceiling([1] * 5) == 1


def test_richness_ceiling_is_reached_by_radii_at_both_ends() -> None:
    rim = 2 * math.atanh(0.9) / math.sqrt(4.0)
    variances = []
    for size in TernarySpace(3).level_sizes():
        radii = [rim * (k % 2) for k in range(size)]
        mean = sum(radii) / size
        variances.append(sum((r - mean) ** 2 for r in radii) / size)
    assert richness_ceiling(3, 4.0, 0.9) == pytest.approx(sum(variances) / 4, rel=1e-12)
    assert richness_ceiling(3, 5e-324, 0.9) == math.inf


@pytest.mark.parametrize("n", SMALL)
def test_ultrametric_ceiling_from_counted_distances(n: int) -> None:
    sizes = Counter(distance_by_definition(i, j, 3) for i, j in pairs(n)).values()
    expected = spearman_ceiling(list(sizes))
    assert ceilings(n)["ultrametric_corr"] == pytest.approx(expected, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize("n", [2, 9, 20])
def test_hierarchy_ceiling_is_the_spread_of_midranks_over_the_spread_of_ranks(n: int) -> None:
    """The textbook derivation, in exact fractions of the cumulative level sizes."""
    sizes, size = TernarySpace(n).level_sizes(), 3**n
    centre, below, spread = Fraction(size + 1, 2), 0, Fraction(0)
    for count in sizes:
        midrank = below + Fraction(count + 1, 2)
        spread += count * (midrank - centre) ** 2
        below += count
    whole = Fraction(size * (size**2 - 1), 12)
    assert ceilings(n)["hierarchy"] == pytest.approx(-math.sqrt(spread / whole), abs=1e-15)
    if n == 2:
        ranks = rankdata(levels(2))
        assert float(((ranks - ranks.mean()) ** 2).sum()) == float(spread)


@pytest.mark.parametrize("bad", [0, -1, 21, 2.0, True, "9"])
def test_impossible_digit_counts_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="n_digits"):
        ceilings(bad)  # type: ignore[arg-type]


def test_numpy_integers_count_and_do_not_overflow() -> None:
    assert ceilings(np.int8(20)) == ceilings(20)  # type: ignore[arg-type]


def test_the_metrics_offer_the_same_function() -> None:
    assert metrics.ceilings is ceilings
