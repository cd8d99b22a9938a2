"""The idealised frontier: the quick curve against the long search, and what no curve exceeds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ternvae.ceilings import ceilings
from ternvae.frontier import FAMILIES, Space, best, richness_bound, trace

KEPT = json.loads(
    (Path(__file__).parents[1] / "benchmarks" / "results" / "frontier.json").read_text()
)
SPACE = Space(9, 2 * math.atanh(0.95))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_quick_curve_follows_the_long_search(family: str) -> None:
    """Against the kept results of the benchmark, which took minutes."""
    long = KEPT["curves"][family][:14]
    quick = list(trace(SPACE, family, [point["richness"] for point in long]))
    ceiling = ceilings(9)["Q_enhanced"]
    assert len(quick) == len(long)
    for found, known in zip(quick, long, strict=True):
        assert found.richness == pytest.approx(known["richness"])
        if (lost := ceiling - known["q"]) > 1e-6:
            assert ceiling - found.q == pytest.approx(lost, rel=0.1)


@pytest.mark.parametrize("n_digits", [1, 2, 5])
def test_curves_do_not_depend_on_the_scale(n_digits: int) -> None:
    """Ranks do not see the unit of length, so richness in units of R^2 decides Q."""
    small, large = Space(n_digits, 0.5), Space(n_digits, 3.0)
    for family in FAMILIES:
        of_small, of_large = (
            list(trace(space, family, [k * richness_bound(space) for k in (0.3, 0.9)]))
            for space in (small, large)
        )
        assert [each.q for each in of_small] == pytest.approx([each.q for each in of_large])


def test_the_bound_is_that_of_the_page() -> None:
    assert richness_bound(SPACE) == pytest.approx(0.0093206, abs=5e-8)


def test_a_curve_ends_where_its_family_does() -> None:
    wanted = [k * richness_bound(SPACE) for k in (1.0, 1.3, 1.4, 2.0)]
    assert len(list(trace(SPACE, "levels disjoint", wanted))) == 2
    assert best(SPACE, "levels disjoint", wanted[2]) is None


def test_unknown_families_and_amounts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"family: got 'shells', expected one of equal shells"):
        best(SPACE, "shells", 0.1)
    for richness in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="richness: got"):
            list(trace(SPACE, "equal shells", [richness]))
