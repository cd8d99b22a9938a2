"""The learning rate against a table computed by hand, torch's own scheduler, and its laws."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from ternvae.training.schedule import mathematical_cosine
from tests.padic.oracles import relaxed

HALF_ROOT = math.sqrt(2) / 2

#: T_0 = 25, T_mult = 1.5, warm-up 5, from 1 to 0.  Cycles last 25, 37.5, 56.25, 84.375 epochs and
#: start at 5, 30, 67.5, 123.75, 208.125.  A cycle is at (1 + cos(pi/4)) / 2 after a quarter, at
#: 1/2 after a half, and next to 0 just before the next one starts.
TABLE = [
    (0.0, 0.0),
    (0.5, 0.1),
    (2.5, 0.5),
    (4.999, 0.9998),
    (5.0, 1.0),
    (11.25, (1 + HALF_ROOT) / 2),
    (17.5, 0.5),
    (23.75, (1 - HALF_ROOT) / 2),
    (29.999, 0.0),
    (30.0, 1.0),
    (39.375, (1 + HALF_ROOT) / 2),
    (48.75, 0.5),
    (58.125, (1 - HALF_ROOT) / 2),
    (67.499, 0.0),
    (67.5, 1.0),
    (81.5625, (1 + HALF_ROOT) / 2),
    (95.625, 0.5),
    (123.749, 0.0),
    (123.75, 1.0),
    (165.9375, 0.5),
    (208.124, 0.0),
    (208.125, 1.0),
]


@pytest.mark.parametrize(("epoch", "share"), TABLE)
def test_the_guides_schedule_by_hand(epoch: float, share: float) -> None:
    rate = mathematical_cosine(epoch, lr=1.0, T_0=25, T_mult=1.5, eta_min=0.0, warmup_epochs=5)
    assert rate == pytest.approx(share, abs=1e-8)


def test_rates_lie_between_eta_min_and_lr() -> None:
    def rate(epoch: float) -> float:
        return mathematical_cosine(
            epoch, lr=2e-3, T_0=25, T_mult=1.5, eta_min=1e-6, warmup_epochs=5
        )

    assert rate(5) == 2e-3
    assert rate(17.5) == pytest.approx((2e-3 + 1e-6) / 2)
    assert rate(30 - 1e-6) == pytest.approx(1e-6, rel=1e-6)
    # The warm-up rises from 0, not from eta_min.
    assert rate(0) == 0


@pytest.mark.parametrize("T_mult", [1, 2, 3])
@pytest.mark.parametrize("T_0", [1, 7, 25])
def test_equal_to_torchs_scheduler_for_whole_multipliers(T_0: int, T_mult: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=T_0, T_mult=T_mult, eta_min=0.01)
    for step in range(1, 500):
        # A prime divisor: no epoch but the whole ones falls on a restart.
        epoch = step / 7
        scheduler.step(epoch)
        rate = mathematical_cosine(
            epoch, lr=0.3, T_0=T_0, T_mult=T_mult, eta_min=0.01, warmup_epochs=0
        )
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), epoch


# --- laws -----------------------------------------------------------------------------------

schedules = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-5, 1.0),
        "T_0": st.floats(0.1, 200),
        "T_mult": st.just(1.0) | st.floats(1.001, 4),
        "eta_min": st.floats(0, 1e-5),
        "warmup_epochs": st.just(0.0) | st.floats(0.1, 30),
    }
)


def cycle_of(epoch: float, s: dict[str, float]) -> tuple[Fraction, Fraction]:
    """Start and length of the cycle that the epoch lies in: cycle after cycle, exactly."""
    start, length = Fraction(s["warmup_epochs"]), Fraction(s["T_0"])
    while start + length <= Fraction(epoch):
        start, length = start + length, length * Fraction(s["T_mult"])
        # Exact powers would grow without bound; 200 bits are far more than the check needs.
        length = Fraction(round(length * 2**200), 2**200)
    return start, length


@relaxed
@given(schedules, st.floats(0, 300))
def test_every_rate_is_that_of_its_cycle(s: dict[str, float], since: float) -> None:
    epoch = s["warmup_epochs"] + since
    start, length = cycle_of(epoch, s)
    position = float((Fraction(epoch) - start) / length)
    # Next to a restart, rounding of the epoch itself decides on which side it lies.
    assume(1e-9 < position < 1 - 1e-9)
    rate = mathematical_cosine(epoch, **s)
    expected = s["eta_min"] + (s["lr"] - s["eta_min"]) * (1 + math.cos(math.pi * position)) / 2
    assert rate == pytest.approx(expected, abs=1e-7 * s["lr"])


@relaxed
@given(schedules, st.floats(0, 1e6))
def test_after_the_warm_up_rates_never_leave_their_bounds(
    s: dict[str, float], since: float
) -> None:
    rate = mathematical_cosine(s["warmup_epochs"] + since, **s)
    assert s["eta_min"] * (1 - 1e-12) <= rate <= s["lr"] * (1 + 1e-12)


@relaxed
@given(schedules, st.floats(0, 1))
def test_the_warm_up_is_a_straight_line(s: dict[str, float], share: float) -> None:
    assume(s["warmup_epochs"] > 0)
    rate = mathematical_cosine(share * s["warmup_epochs"], **s)
    assert rate == pytest.approx(share * s["lr"], rel=1e-9)


@relaxed
@given(schedules, st.integers(0, 6))
def test_restarts_jump_from_the_bottom_to_the_top(s: dict[str, float], cycles: int) -> None:
    start, length = Fraction(s["warmup_epochs"]), Fraction(s["T_0"])
    for _ in range(cycles):
        start, length = start + length, length * Fraction(s["T_mult"])
    step = float(length) * 1e-6
    top = mathematical_cosine(float(start) + step, **s)
    assert top == pytest.approx(s["lr"], rel=1e-9)
    if cycles:
        before = mathematical_cosine(float(start) - step, **s)
        assert before == pytest.approx(s["eta_min"], abs=1e-9 * s["lr"])


@pytest.mark.parametrize("T_mult", [1.0, 1.25, 1.5, 2.0, 3.0])
def test_a_restart_is_exact_to_the_last_bit_of_the_epoch(T_mult: float) -> None:
    """Where floats hold the boundaries exactly, not even the float before one is misplaced."""

    def rate(epoch: float) -> float:
        return mathematical_cosine(
            epoch, lr=1.0, T_0=25, T_mult=T_mult, eta_min=0.0, warmup_epochs=0
        )

    start, length = Fraction(0), Fraction(25)
    for _ in range(12):
        start, length = start + length, length * Fraction(T_mult)
        assert Fraction(float(start)) == start
        assert rate(float(start)) == 1
        assert rate(math.nextafter(float(start), 0)) < 1e-12


@relaxed
@given(schedules, st.floats(0, 300), st.floats(0, 1))
def test_within_a_cycle_the_rate_falls_without_a_jump(
    s: dict[str, float], since: float, share: float
) -> None:
    epoch = s["warmup_epochs"] + since
    start, length = cycle_of(epoch, s)
    later = epoch + share * 0.999 * float(start + length - Fraction(epoch))
    assume(Fraction(later) < start + length)
    assume(float((Fraction(epoch) - start) / length) > 1e-9)
    first, second = mathematical_cosine(epoch, **s), mathematical_cosine(later, **s)
    assert second <= first + 1e-9 * s["lr"]
    # The steepest slope of the cosine is pi/2 times height over length.
    drop = math.pi / 2 * (s["lr"] - s["eta_min"]) * (later - epoch) / float(length)
    assert first - second <= drop + 1e-9 * s["lr"]


@pytest.mark.parametrize("excess", [2**-52, 1e-14, 1e-12, 1e-10])
def test_multipliers_next_to_one_behave_like_one(excess: float) -> None:
    """The start of a cycle is a difference of nearly equal powers there."""
    for step in range(1000):
        epoch = step / 4 + 0.1
        near, at = (
            mathematical_cosine(epoch, lr=1, T_0=10, T_mult=T_mult, eta_min=0, warmup_epochs=0)
            for T_mult in (1 + excess, 1.0)
        )
        assert near == pytest.approx(at, abs=1e-6)
