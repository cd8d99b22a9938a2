"""The factors of the curriculum against tables by hand, and their laws."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternvae.training.curriculum import curriculum_factors, curriculum_phase
from tests.padic.oracles import relaxed

PHASES = ("coverage_first", "hierarchy_ramp", "all_terms", "richness_preserve")

#: 30 / 50 / 20 of 120 epochs: epoch, factor of the ordering terms, factor of richness, phase.
#: The ramp gains 1/50 per epoch and ends at 80; the last phase begins at 100.
GUIDE = [
    (0.0, 0.0, 0.0, "coverage_first"),
    (15.0, 0.0, 0.0, "coverage_first"),
    (29.999, 0.0, 0.0, "coverage_first"),
    (30.0, 0.0, 0.0, "hierarchy_ramp"),
    (30.5, 0.01, 0.01, "hierarchy_ramp"),
    (42.5, 0.25, 0.25, "hierarchy_ramp"),
    (55.0, 0.5, 0.5, "hierarchy_ramp"),
    (67.5, 0.75, 0.75, "hierarchy_ramp"),
    (79.5, 0.99, 0.99, "hierarchy_ramp"),
    (80.0, 1.0, 1.0, "all_terms"),
    (90.25, 1.0, 1.0, "all_terms"),
    (99.999, 1.0, 1.0, "all_terms"),
    (100.0, 1.0, 2.0, "richness_preserve"),
    (119.999, 1.0, 2.0, "richness_preserve"),
]

#: Lengths of the phases and of the run, then rows as above.
EDGES = [
    # No phase at all.
    ((0, 0, 0, 10), (0.0, 1.0, 1.0, "all_terms")),
    ((0, 0, 0, 10), (9.999, 1.0, 1.0, "all_terms")),
    # No first phase: the ramp begins with the run.
    ((0, 4, 0, 10), (0.0, 0.0, 0.0, "hierarchy_ramp")),
    ((0, 4, 0, 10), (1.0, 0.25, 0.25, "hierarchy_ramp")),
    ((0, 4, 0, 10), (4.0, 1.0, 1.0, "all_terms")),
    # No ramp: the terms switch on at once.
    ((3, 0, 2, 10), (2.999, 0.0, 0.0, "coverage_first")),
    ((3, 0, 2, 10), (3.0, 1.0, 1.0, "all_terms")),
    ((3, 0, 2, 10), (8.0, 1.0, 2.0, "richness_preserve")),
    # No last phase.
    ((3, 4, 0, 10), (9.999, 1.0, 1.0, "all_terms")),
    # The phases fill the run, and nothing lies between ramp and end.
    ((3, 4, 3, 10), (6.0, 0.75, 0.75, "hierarchy_ramp")),
    ((3, 4, 3, 10), (7.0, 1.0, 2.0, "richness_preserve")),
    # A single phase is the whole run.
    ((10, 0, 0, 10), (9.999, 0.0, 0.0, "coverage_first")),
    ((0, 10, 0, 10), (5.0, 0.5, 0.5, "hierarchy_ramp")),
    ((0, 0, 10, 10), (0.0, 1.0, 2.0, "richness_preserve")),
]


def run(first: int, ramp: int, last: int, epochs: int) -> dict[str, int]:
    return {
        "epochs": epochs,
        "coverage_first_epochs": first,
        "hierarchy_ramp_epochs": ramp,
        "richness_preserve_epochs": last,
    }


@pytest.mark.parametrize(("lengths", "row"), [*[((30, 50, 20, 120), row) for row in GUIDE], *EDGES])
def test_by_hand(lengths: tuple[int, int, int, int], row: tuple[float, float, float, str]) -> None:
    epoch, order, richness, phase = row
    factors = curriculum_factors(epoch, **run(*lengths))
    ordering = dict.fromkeys(("hierarchy", "separation", "ultrametric"), order)
    expected = {**ordering, "richness": richness}
    assert factors == pytest.approx(expected, abs=1e-12)
    assert curriculum_phase(epoch, **run(*lengths)) == phase


# --- laws -----------------------------------------------------------------------------------


@st.composite
def moments(draw: st.DrawFn, count: int = 1) -> tuple[dict[str, int], list[float]]:
    """Phases that fit into their run, and moments of it in their order."""
    first, ramp, last, rest = (draw(st.integers(0, 200)) for _ in range(4))
    epochs = first + ramp + last + rest or 1
    times = st.floats(0, epochs, exclude_max=True)
    return run(first, ramp, last, epochs), sorted(draw(times) for _ in range(count))


@relaxed
@given(moments())
def test_phases_and_factors_say_the_same(case: tuple[dict[str, int], list[float]]) -> None:
    settings, [epoch] = case
    factors, phase = curriculum_factors(epoch, **settings), curriculum_phase(epoch, **settings)
    first, ramp = settings["coverage_first_epochs"], settings["hierarchy_ramp_epochs"]
    expected: dict[str, tuple[Any, Any]] = {
        "coverage_first": (0, 0),
        "all_terms": (1, 1),
        "richness_preserve": (1, 2),
    }
    if phase == "hierarchy_ramp":
        rise = float((Fraction(epoch) - first) / ramp)
        expected[phase] = (pytest.approx(rise), pytest.approx(rise))
        assert 0 <= factors["hierarchy"] <= 1
    assert (factors["hierarchy"], factors["richness"]) == expected[phase]
    assert factors["separation"] == factors["ultrametric"] == factors["hierarchy"]
    assert set(factors) == {"hierarchy", "separation", "ultrametric", "richness"}


@relaxed
@given(moments(count=2))
def test_weights_and_phases_never_go_back(case: tuple[dict[str, int], list[float]]) -> None:
    settings, times = case
    earlier, later = (curriculum_factors(epoch, **settings) for epoch in times)
    assert all(earlier[name] <= later[name] for name in earlier)
    one, other = (PHASES.index(curriculum_phase(epoch, **settings)) for epoch in times)
    assert one <= other


@relaxed
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_every_phase_lasts_as_long_as_it_should(
    first: int, ramp: int, last: int, rest: int
) -> None:
    epochs = first + ramp + rest + last or 1
    settings = run(first, ramp, last, epochs)
    phases = [curriculum_phase(epoch, **settings) for epoch in range(epochs)]
    lengths = {phase: phases.count(phase) for phase in PHASES}
    middle = epochs - first - ramp - last
    assert lengths == dict(zip(PHASES, (first, ramp, middle, last), strict=True))
