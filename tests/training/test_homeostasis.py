"""What is frozen and thawed when: scripted histories, and laws for all histories."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternvae.training.homeostasis import Homeostasis
from tests.padic.oracles import relaxed

NAN = math.nan

#: Figures of one evaluation: coverage, coverage_B, hierarchy_B, Q_enhanced.
Figures = tuple[float, float, float, float]

FREEZE_A, THAW_A = "freeze_encoder_a", "thaw_encoder_a"
FREEZE_B, THAW_B = "freeze_encoder_b", "thaw_encoder_b"
ANNEAL = "anneal_thresholds"


def make(**changes: Any) -> Homeostasis:
    settings: dict[str, Any] = {
        "mathematical_precision": True,
        "coverage_precision_threshold": 0.99,
        "coverage_hysteresis": 0.05,
        "hierarchy_precision_threshold": 0.0005,
        "hierarchy_hysteresis": 0.005,
        "Q_target": 2.0,
        "patience": 2,
        "enable_annealing": False,
        "annealing_step": 0.003,
        "annealing_patience": 2,
        "coverage_limit": 1.0,
        "hierarchy_target": -0.8321,
        "q_limit": 2.16,
    }
    return Homeostasis(**(settings | changes))


def step(homeostasis: Homeostasis, epoch: int, figures: Figures) -> list[str]:
    """What the trainer asks after an epoch; the kinds of the events."""
    coverage, coverage_b, hierarchy, q = figures
    events = []
    if not homeostasis.state.a_frozen:
        events += homeostasis.after_epoch(epoch, coverage)
    metrics = {
        "coverage": coverage,
        "coverage_B": coverage_b,
        "hierarchy_B": hierarchy,
        "Q_enhanced": q,
        "richness": NAN,  # others do not matter
    }
    events += homeostasis.after_evaluation(epoch, metrics)
    assert all(event.epoch == epoch for event in events)
    return [event.kind for event in events]


def play(homeostasis: Homeostasis, history: Iterable[Figures]) -> list[tuple[int, str]]:
    return [
        (epoch, kind)
        for epoch, figures in enumerate(history, start=1)
        for kind in step(homeostasis, epoch, figures)
    ]


def a(*coverages: float | tuple[float, float]) -> list[Figures]:
    """Coverage, or coverage and coverage_B; encoder B is far from resting."""
    pairs = [each if isinstance(each, tuple) else (each, 1.0) for each in coverages]
    return [(coverage, coverage_b, -0.5, 1.0) for coverage, coverage_b in pairs]


def with_q(history: list[Figures], *qs: float) -> list[Figures]:
    return [(*figures[:3], q) for figures, q in zip(history, qs, strict=True)]


def b(*figures: float | tuple[float, float]) -> list[Figures]:
    """Hierarchy, or hierarchy and Q; coverage is far from anything."""
    pairs = [each if isinstance(each, tuple) else (each, 2.1) for each in figures]
    return [(0.0, 1.0, hierarchy, q) for hierarchy, q in pairs]


JUST_BELOW = math.nextafter(0.99, 0)

#: Changes to the settings, the history, and what happens after which evaluation.
ENCODER_A: dict[str, tuple[dict[str, Any], list[Figures], list[tuple[int, str]]]] = {
    "at the threshold": ({}, a(0.5, 0.99), [(2, FREEZE_A)]),
    "not below it": ({}, a(0.5, JUST_BELOW, JUST_BELOW), []),
    "only once": ({}, a(1.0, 1.0, 0.995, 1.0), [(1, FREEZE_A)]),
    "full coverage where that is the threshold": (
        {"coverage_precision_threshold": 1.0},
        a(0.99999, 1.0),
        [(2, FREEZE_A)],
    ),
    "rounding decides, up": (
        {"coverage_precision_threshold": 1.0, "mathematical_precision": False},
        a(0.99994, 0.99996, 0.99996),
        [(2, FREEZE_A)],
    ),
    "rounding decides, down": (
        {"coverage_precision_threshold": 0.99996, "mathematical_precision": False},
        a(0.99994, 0.99996),
        [(2, FREEZE_A)],  # 1.0000 is above it
    ),
    "without rounding the same is not enough": (
        {"coverage_precision_threshold": 1.0},
        a(0.99994, 0.99996),
        [],
    ),
    "B inside the hysteresis": ({}, a(1.0, *[(1.0, 0.9401)] * 9), [(1, FREEZE_A)]),
    "B outside of it": (
        {},
        a(1.0, (0.995, 0.9399), (0.995, 0.9399), 0.98),
        [(1, FREEZE_A), (3, THAW_A)],
    ),
    "frozen again once B is back": (
        {},
        a(1.0, *[(1.0, 0.9)] * 3, (1.0, 0.95), 1.0),
        [(1, FREEZE_A), (3, THAW_A), (6, FREEZE_A)],
    ),
    "B lost, and back in time, again and again": (
        {},
        a(1.0, *[(1.0, 0.5), (1.0, 0.95)] * 4),
        [(1, FREEZE_A)],
    ),
    "more patience": (
        {"patience": 4},
        a(1.0, *[(0.995, 0.5)] * 4),
        [(1, FREEZE_A), (5, THAW_A)],
    ),
    "rounding decides whether B is lost": (
        {"mathematical_precision": False, "patience": 1, "coverage_hysteresis": 0.04},
        a(1.0, (1.0, 0.94996), (1.0, 0.94994)),
        [(1, FREEZE_A), (3, THAW_A)],
    ),
    "A itself": (
        {},
        a(1.0, JUST_BELOW, JUST_BELOW, 1.0),
        [(1, FREEZE_A), (2, THAW_A), (4, FREEZE_A)],
    ),
    "annealing has raised the threshold past A": (
        # A cycle is two evaluations; Q improves in the first and not in the second.
        {"enable_annealing": True},
        with_q(a(0.9921, 0.9921, 0.9921, 0.9931), 1.0, 1.1, 1.1, 1.1),
        [(1, FREEZE_A), (2, ANNEAL), (2, THAW_A), (4, FREEZE_A)],
    ),
    "annealing has raised the threshold, but not past A": (
        {"enable_annealing": True},
        with_q(a(0.9931, 0.9931, 0.9931), 1.0, 1.1, 1.1),
        [(1, FREEZE_A), (2, ANNEAL)],
    ),
    "NaN reaches nothing": ({"coverage_precision_threshold": 0.0}, a(NAN, NAN), []),
    "NaN is lost": ({}, a(1.0, (NAN, 1.0)), [(1, FREEZE_A), (2, THAW_A)]),
    "NaN of B is lost": (
        {},
        a(1.0, (1.0, NAN), (0.995, NAN)),
        [(1, FREEZE_A), (3, THAW_A)],
    ),
    "NaN and loss together count": (
        {},
        a(1.0, (1.0, NAN), (0.995, 0.5)),
        [(1, FREEZE_A), (3, THAW_A)],
    ),
}

LIMIT = -0.8320503

ENCODER_B: dict[str, tuple[dict[str, Any], list[Figures], list[tuple[int, str]]]] = {
    # The third evaluation gains, the two after it do not.
    "a plateau at the target": ({}, b(-0.5, -0.7, LIMIT, LIMIT, LIMIT), [(5, FREEZE_B)]),
    "only once": ({}, b(*[LIMIT] * 9), [(3, FREEZE_B)]),
    "more patience": ({"patience": 4}, b(*[LIMIT] * 5), [(5, FREEZE_B)]),
    "the target is met to four decimals": ({}, b(*[-0.83204] * 9), []),
    "a plateau short of the target": ({}, b(*[-0.8] * 20), []),
    "still gaining": (
        {"hierarchy_target": -0.7},
        b(*[-0.70 - 0.001 * k for k in range(30)]),
        [],
    ),
    "gaining less than the threshold": (
        {"hierarchy_target": -0.7},
        b(-0.8, -0.8004, -0.8004),
        [(3, FREEZE_B)],
    ),
    "a gain starts the count again": (
        {"hierarchy_target": -0.7},
        b(-0.8, -0.8, -0.801, -0.801, -0.801),
        [(5, FREEZE_B)],
    ),
    "Q too low": ({}, b(*[(LIMIT, 1.999)] * 9), []),
    "Q comes later": ({}, b(*[(LIMIT, 1.999)] * 5, (LIMIT, 2.0)), [(6, FREEZE_B)]),
    "inside the hysteresis": (
        {"hierarchy_target": -0.7},
        b(*[-0.8] * 3, *[-0.7951] * 9),
        [(3, FREEZE_B)],
    ),
    "outside of it": (
        {"hierarchy_target": -0.7},
        b(*[-0.8] * 3, -0.7949, -0.7949),
        [(3, FREEZE_B), (5, THAW_B)],
    ),
    "frozen again only where it would not thaw": (
        {"hierarchy_target": -0.7},
        b(*[-0.8] * 3, *[-0.79] * 20, -0.796),
        [(3, FREEZE_B), (5, THAW_B), (24, FREEZE_B)],
    ),
    "Q is lost": (
        {},
        b(*[LIMIT] * 3, (LIMIT, 1.9), (LIMIT, 1.9), LIMIT, LIMIT),
        [(3, FREEZE_B), (5, THAW_B), (7, FREEZE_B)],
    ),
    "lost, and back in time, again and again": (
        {},
        b(*[LIMIT] * 3, *[(LIMIT, 1.9), LIMIT, -0.82, LIMIT] * 5),
        [(3, FREEZE_B)],
    ),
    "the one lost and then the other": (
        {},
        b(*[LIMIT] * 3, (LIMIT, 1.9), -0.82),
        [(3, FREEZE_B), (5, THAW_B)],
    ),
    "annealing has raised the threshold of Q": (
        {"enable_annealing": True, "annealing_patience": 4},
        b(*[(LIMIT, 2.001)] * 3, *[(LIMIT, 2.002)] * 3),
        [(3, FREEZE_B), (4, ANNEAL), (5, THAW_B)],
    ),
    "NaN rests nowhere": ({"hierarchy_target": 0.0}, b(*[NAN] * 9), []),
    "Q of NaN is not enough": ({}, b(*[(LIMIT, NAN)] * 9), []),
    "NaN is lost": ({}, b(*[LIMIT] * 3, NAN, NAN), [(3, FREEZE_B), (5, THAW_B)]),
    "Q of NaN is lost": (
        {},
        b(*[LIMIT] * 3, (LIMIT, NAN), (LIMIT, NAN)),
        [(3, FREEZE_B), (5, THAW_B)],
    ),
    "NaN is no best": ({}, b(NAN, *[LIMIT] * 3), [(4, FREEZE_B)]),
}


@pytest.mark.parametrize("name", ENCODER_A)
def test_encoder_a_by_hand(name: str) -> None:
    changes, history, expected = ENCODER_A[name]
    assert play(make(**changes), history) == expected


@pytest.mark.parametrize("name", ENCODER_B)
def test_encoder_b_by_hand(name: str) -> None:
    changes, history, expected = ENCODER_B[name]
    assert play(make(**changes), history) == expected


def test_an_event_says_what_was_seen() -> None:
    homeostasis = make()
    [event] = homeostasis.after_epoch(7, 0.995)
    assert (event.epoch, event.kind, event.figures) == (7, FREEZE_A, {"coverage": 0.995})
    assert "0.995000" in event.text
    assert "0.99:" in event.text
    assert homeostasis.state.a_frozen


def test_encoder_a_waits_for_b_where_b_has_a_target() -> None:
    homeostasis = make(coverage_b_target=1.0)
    good = {"coverage": 1.0, "hierarchy_B": -0.5, "Q_enhanced": 1.0}
    assert homeostasis.after_epoch(1, 1.0) == []  # nothing is known of B
    for epoch, coverage_b in ((2, 0.999), (3, NAN)):
        homeostasis.after_evaluation(epoch, {**good, "coverage_B": coverage_b})
        assert homeostasis.after_epoch(epoch + 1, 1.0) == []
    homeostasis.after_evaluation(4, {**good, "coverage_B": 1.0})
    again = make(coverage_b_target=1.0)
    again.restore(homeostasis.to_dict())
    for each in (homeostasis, again):
        assert each.after_epoch(5, 0.9) == []
        assert [event.kind for event in each.after_epoch(6, 1.0)] == [FREEZE_A]


def test_a_frozen_encoder_a_is_not_frozen_again() -> None:
    homeostasis = make()
    assert homeostasis.after_epoch(1, 1.0)
    assert homeostasis.after_epoch(2, 1.0) == []


def test_what_the_profile_keeps_frozen_is_not_said_to_thaw() -> None:
    homeostasis = make(patience=1)
    lost = {"coverage": 0.5, "coverage_B": 0.5, "hierarchy_B": -0.5, "Q_enhanced": 1.0}
    homeostasis.after_epoch(1, 1.0)
    assert homeostasis.after_evaluation(2, lost, a_may_thaw=False) == []
    assert homeostasis.state.a_frozen
    [event] = homeostasis.after_evaluation(3, lost)
    assert event.kind == THAW_A


# --- annealing ------------------------------------------------------------------------------


def thresholds(homeostasis: Homeostasis) -> tuple[float, float]:
    return homeostasis.state.coverage_threshold, homeostasis.state.q_threshold


def q_history(*qs: float) -> list[Figures]:
    return [(0.0, 0.0, -0.5, q) for q in qs]


def test_thresholds_rise_only_when_the_best_q_of_a_cycle_is_a_new_one() -> None:
    homeostasis = make(enable_annealing=True, annealing_patience=2)
    rounds = [
        (1.0, 0.9, False),  # nothing is better than the first one
        (1.0, 1.0, False),  # as good is no better
        (0.9, 1.1, True),
        (NAN, 1.2, True),
        (NAN, NAN, False),
        (1.15, 1.19, False),  # better than the cycle before, not than all of them
        (1.21, -1.0, True),
    ]
    coverage, q = thresholds(homeostasis)
    for number, (first, second, rises) in enumerate(rounds):
        assert play(homeostasis, q_history(first)) == []
        assert play(homeostasis, q_history(second)) == ([(1, ANNEAL)] if rises else []), number
        if rises:
            coverage, q = min(coverage + 0.003, 1.0), q + 0.003
        assert thresholds(homeostasis) == pytest.approx((coverage, q), abs=1e-12)


def test_thresholds_stop_at_their_limits() -> None:
    homeostasis = make(enable_annealing=True, annealing_patience=1, coverage_limit=0.995)
    events = play(homeostasis, q_history(*(1 + k / 1000 for k in range(60))))
    assert thresholds(homeostasis) == (0.995, 2.16)
    # The last event is the one that reaches the last limit: 54 steps of 0.003 from 2.0 to 2.16.
    assert [epoch for epoch, _ in events] == list(range(2, 56))


def test_a_threshold_past_its_limit_stays() -> None:
    homeostasis = make(
        enable_annealing=True, annealing_patience=1, coverage_limit=0.95, q_limit=1.9
    )
    assert play(homeostasis, q_history(1.0, 1.1, 1.2)) == []
    assert thresholds(homeostasis) == (0.99, 2.0)


def test_no_annealing_where_it_is_off() -> None:
    homeostasis = make(enable_annealing=False, annealing_patience=1)
    assert play(homeostasis, q_history(1.0, 1.1, 1.2)) == []
    assert thresholds(homeostasis) == (0.99, 2.0)


# --- laws -----------------------------------------------------------------------------------

coverages = st.sampled_from([0.0, 0.9, 0.9399, 0.94, 0.99, 0.9931, 1.0, NAN]) | st.floats(0, 1)
hierarchies = st.sampled_from([-0.83, LIMIT, -0.8271, -0.82, 0.5, NAN]) | st.floats(-1, 1)
qs = st.sampled_from([1.99, 2.0, 2.004, 2.1, NAN]) | st.floats(-1, 2.5)
histories = st.lists(st.tuples(coverages, coverages, hierarchies, qs), max_size=40)
homeostases = st.builds(
    make,
    mathematical_precision=st.booleans(),
    coverage_precision_threshold=st.sampled_from([0.5, 0.99, 1.0]),
    patience=st.integers(1, 3),
    enable_annealing=st.booleans(),
    annealing_patience=st.integers(1, 4),
    annealing_step=st.sampled_from([0.0, 0.003, 0.5]),
    coverage_limit=st.sampled_from([0.9, 0.9995, 1.0]),
    hierarchy_target=st.sampled_from([-0.8321, -0.5, 0.0]),
    q_limit=st.sampled_from([1.9, 2.16]),
)

BAND = st.tuples(
    st.floats(0.99, 1), st.floats(0.9401, 1), st.floats(-0.8000, -0.7951), st.floats(2.0, 2.16)
)


@relaxed
@given(st.lists(BAND, max_size=60), st.integers(1, 4))
def test_inside_the_band_nothing_flaps(history: list[Figures], patience: int) -> None:
    homeostasis = make(patience=patience, hierarchy_target=-0.7)
    kinds = [kind for _, kind in play(homeostasis, history)]
    assert sorted(kinds) in ([], [FREEZE_A], [FREEZE_A, FREEZE_B])


def runs_of(flags: Sequence[bool]) -> Iterator[int]:
    """For each place, how many in a row are true up to there."""
    length = 0
    for flag in flags:
        length = length + 1 if flag else 0
        yield length


@relaxed
@given(histories, st.integers(1, 4))
def test_encoder_a_thaws_for_b_after_its_patience_and_not_before(
    history: list[Figures], patience: int
) -> None:
    """A freeze lasts until coverage_B was lost so many times in a row, a thaw until it is back."""
    history = [(1.0, coverage_b, h, q) for _, coverage_b, h, q in history]
    homeostasis = make(patience=patience)
    waiting, row = False, 0
    for epoch, figures in enumerate(history, start=1):
        was_frozen = homeostasis.state.a_frozen
        kinds = [kind for kind in step(homeostasis, epoch, figures) if kind.endswith("_a")]
        freezes = not was_frozen and not waiting
        lost = not figures[1] >= 0.99 - 0.05
        row = (0 if freezes else row) + 1 if lost else 0
        waiting = waiting and lost
        thaws = (was_frozen or freezes) and row >= patience
        assert kinds == [FREEZE_A] * freezes + [THAW_A] * thaws
        if thaws:
            waiting, row = True, 0


@relaxed
@given(homeostases, histories)
def test_encoder_b_is_frozen_only_where_it_has_arrived(
    homeostasis: Homeostasis, history: list[Figures]
) -> None:
    """Every freeze against the whole history; no NaN, at the target, Q enough, no gain lately."""
    exact = homeostasis.mathematical_precision
    seen: list[float] = []
    for epoch, figures in enumerate(history, start=1):
        kinds = step(homeostasis, epoch, figures)
        hierarchy, q = (value if exact else round(value, 4) for value in figures[2:])
        seen.append(hierarchy)
        if FREEZE_B not in kinds:
            continue
        assert round(hierarchy, 4) <= homeostasis.hierarchy_target
        assert q >= homeostasis.state.q_threshold
        lately = homeostasis.patience
        assert len(seen) >= lately
        earlier = [value for value in seen[:-lately] if not math.isnan(value)]
        late = [value for value in seen[-lately:] if not math.isnan(value)]
        # Gains below the threshold may add up; none of them alone reaches it.
        floor = min(earlier, default=math.inf) - lately * 0.0005 - 1e-9
        assert all(value >= floor for value in late) or not earlier
        assert hierarchy <= min(earlier + late) + 0.005 + 1e-9


@relaxed
@given(homeostases, histories)
def test_freezing_and_thawing_alternate(homeostasis: Homeostasis, history: list[Figures]) -> None:
    kinds = [kind for _, kind in play(homeostasis, history)]
    for freeze, thaw in ((FREEZE_A, THAW_A), (FREEZE_B, THAW_B)):
        own = [kind for kind in kinds if kind in (freeze, thaw)]
        assert own == [(freeze, thaw)[k % 2] for k in range(len(own))]
        frozen = homeostasis.state.a_frozen if freeze == FREEZE_A else homeostasis.state.b_frozen
        assert frozen is (len(own) % 2 == 1)


@relaxed
@given(homeostases, histories, st.tuples(hierarchies, qs))
def test_encoder_b_comes_to_rest_when_its_figures_stand_still(
    homeostasis: Homeostasis, history: list[Figures], last: tuple[float, float]
) -> None:
    play(homeostasis, history)
    figures = (0.0, 0.0, *last)
    # Enough for a last cycle of annealing, to lose what is held, and to rest again.
    play(homeostasis, [figures] * (4 + 2 * 3))
    assert [k for _, k in play(homeostasis, [figures] * 20) if k.endswith("_b")] == []


@relaxed
@given(homeostases, histories)
def test_annealing_follows_q_and_keeps_its_limits(
    homeostasis: Homeostasis, history: list[Figures]
) -> None:
    """Against the cycles of the whole history."""
    h, exact = homeostasis, homeostasis.mathematical_precision
    limits = max(h.coverage_precision_threshold, h.coverage_limit), max(h.Q_target, h.q_limit)
    length = h.annealing_patience
    q_seen: list[float] = []
    for epoch, figures in enumerate(history, start=1):
        before = thresholds(h)
        kinds = step(h, epoch, figures)
        q_seen.append(figures[3] if exact else round(figures[3], 4))
        after = thresholds(h)
        best = [q for q in q_seen[-length:] if not math.isnan(q)]
        earlier = [q for q in q_seen[:-length] if not math.isnan(q)]
        # At first there is nothing to improve on but the first Q itself.
        improved = bool(best) and max(best) > max(earlier or best[:1])
        due = h.enable_annealing and epoch % length == 0 and improved
        for old, new, limit in zip(before, after, limits, strict=True):
            assert new == (min(old + h.annealing_step, limit) if due and old < limit else old)
        assert (ANNEAL in kinds) is (before != after)


@relaxed
@given(homeostases, histories)
def test_a_run_that_is_interrupted_anywhere_decides_the_same(
    homeostasis: Homeostasis, history: list[Figures]
) -> None:
    fresh = copy.deepcopy(homeostasis)
    for epoch, figures in enumerate(history, start=1):
        resumed = copy.deepcopy(fresh)
        resumed.restore(homeostasis.to_dict())
        assert resumed.state == homeostasis.state
        assert step(resumed, epoch, figures) == step(homeostasis, epoch, figures)
        assert resumed.to_dict() == homeostasis.to_dict()


def test_the_state_is_plain_and_a_copy() -> None:
    homeostasis = make()
    values = homeostasis.to_dict()
    assert all(isinstance(value, bool | int | float) for value in values.values())
    play(homeostasis, [(1.0, 0.5, LIMIT, 2.1)] * 3)
    assert values == make().to_dict()
    assert values != homeostasis.to_dict()
