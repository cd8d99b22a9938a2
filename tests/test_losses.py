"""Loss terms against loops over rows and levels, and what their gradients do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ternvae import losses
from ternvae.losses import (
    LEAST_LEVEL_SHARE,
    geometry_losses,
    hierarchy_loss,
    kl_loss,
    level_membership,
    reconstruction_loss,
    richness_loss,
    separation_loss,
    shell_offset,
)
from ternvae.manifolds import PoincareBall, WrappedNormal
from ternvae.metrics import richness
from ternvae.padic import TernarySpace
from tests.padic.oracles import relaxed

N = 4
RADIUS_MAX = 3.5
WIDTH = RADIUS_MAX / (N + 1)

#: Rows with their levels: everything from a single row to a batch in which a level is absent.
batches = st.lists(
    st.tuples(st.floats(0, RADIUS_MAX, width=32), st.integers(0, N)), min_size=1, max_size=40
)


def columns(rows: list[tuple[float, int]]) -> tuple[Tensor, Tensor]:
    radius, valuation = zip(*rows, strict=True)
    return torch.tensor(radius, dtype=torch.float64), torch.tensor(valuation)


def offsets_and_membership(rows: list[tuple[float, int]]) -> tuple[Tensor, Tensor]:
    radius, valuation = columns(rows)
    offset = shell_offset(radius, valuation, n_digits=N, radius_max=RADIUS_MAX)
    return offset, level_membership(valuation, N, torch.float64)


def by_level(rows: list[tuple[float, int]]) -> dict[int, list[float]]:
    """The radii of each level that is present."""
    found: dict[int, list[float]] = {}
    for radius, level in rows:
        found.setdefault(level, []).append(radius)
    return found


def centre(level: int) -> float:
    """Level n is innermost; all shells are equally wide."""
    return RADIUS_MAX * (2 * (N - level) + 1) / (2 * (N + 1))


# --- reconstruction -------------------------------------------------------------------------


def test_reconstruction_equals_a_computation_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, N, 3, dtype=torch.float64, generator=generator)
    sequences = TernarySpace(N).sequences([0, 80, 40, 5, 5])
    expected = 0.0
    for row in range(5):
        for k in range(N):
            weights = [math.exp(x) for x in logits[row, k].tolist()]
            expected -= math.log(weights[int(sequences[row, k]) + 1] / sum(weights)) / 5
    assert float(reconstruction_loss(logits, sequences)) == pytest.approx(expected, rel=1e-12)


def test_reconstruction_of_ignorance_and_of_certainty() -> None:
    sequences = TernarySpace(N).sequences()
    ignorant = torch.zeros(81, N, 3)
    assert float(reconstruction_loss(ignorant, sequences)) == pytest.approx(N * math.log(3))
    certain = 100 * torch.nn.functional.one_hot(sequences + 1, 3).float()
    assert float(reconstruction_loss(certain, sequences)) == 0
    # One digit of one sequence wrong, by a margin of 100 nats.
    certain[7, 2] = certain[7, 2].roll(1)
    assert float(reconstruction_loss(certain, sequences)) == pytest.approx(100 / 81)


# --- shells ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(N + 1))
@pytest.mark.parametrize("radius_max", [RADIUS_MAX, torch.tensor(RADIUS_MAX, dtype=torch.float64)])
def test_shells_have_their_centre_at_zero_and_their_faces_at_one_half(
    level: int, radius_max: float | Tensor
) -> None:
    radii = centre(level) + WIDTH * torch.tensor([0, 0.5, -0.5, 0.25], dtype=torch.float64)
    offset = shell_offset(radii, torch.full((4,), level), n_digits=N, radius_max=radius_max)
    assert offset.tolist() == pytest.approx([0, 0.5, -0.5, 0.25], abs=1e-12)


def test_shells_fill_the_radii_without_gap_or_overlap() -> None:
    inner = shell_offset(torch.zeros(1), torch.tensor([N]), n_digits=N, radius_max=RADIUS_MAX)
    outer = shell_offset(
        torch.tensor([RADIUS_MAX]), torch.tensor([0]), n_digits=N, radius_max=RADIUS_MAX
    )
    assert (float(inner), float(outer)) == pytest.approx((-0.5, 0.5), abs=1e-6)
    for level in range(N):
        face = torch.tensor([centre(level) - WIDTH / 2] * 2, dtype=torch.float64)
        offset = shell_offset(
            face, torch.tensor([level, level + 1]), n_digits=N, radius_max=RADIUS_MAX
        )
        assert offset.tolist() == pytest.approx([-0.5, 0.5], abs=1e-12)


@relaxed
@given(batches, st.sampled_from([0.01, 0.25, 4.0, 100.0]))
def test_order_and_separation_do_not_depend_on_the_curvature(
    rows: list[tuple[float, int]], c: float
) -> None:
    """The same picture in a ball of another curvature has all lengths divided by sqrt(c)."""
    radius, valuation = columns(rows)
    plain = geometry_losses(
        radius, valuation, n_digits=N, radius_max=RADIUS_MAX, richness_floor=0.01
    )
    scaled = geometry_losses(
        radius / math.sqrt(c),
        valuation,
        n_digits=N,
        radius_max=RADIUS_MAX / math.sqrt(c),
        richness_floor=0.01 / c,
    )
    for one, other in zip(plain, scaled, strict=True):
        assert float(other) == pytest.approx(float(one), rel=1e-9, abs=1e-9)


def test_the_models_largest_radius_bounds_the_outer_shell() -> None:
    for c in (0.1, 1.0, 4.0):
        ball = PoincareBall(c, max_radius=0.95)
        rim = torch.tensor([[0.95 / math.sqrt(c), 0.0]], dtype=torch.float64)
        offset = shell_offset(
            ball.dist0(rim),
            torch.tensor([0]),
            n_digits=9,
            radius_max=ball.hyperbolic_radius_max,
        )
        assert float(offset) == pytest.approx(0.5, abs=1e-9)


# --- membership and the three terms, against loops ------------------------------------------


@relaxed
@given(st.lists(st.integers(0, N), max_size=30))
def test_membership_marks_each_rows_level(valuation: list[int]) -> None:
    found = level_membership(torch.tensor(valuation, dtype=torch.int64), N, torch.float32)
    assert found.shape == (len(valuation), N + 1)
    assert found.dtype == torch.float32
    assert found.tolist() == [[float(v == level) for level in range(N + 1)] for v in valuation]


def hierarchy_by_loop(rows: list[tuple[float, int]]) -> float:
    per_level = {
        level: np.mean([((r - centre(level)) / WIDTH) ** 2 for r in radii])
        for level, radii in by_level(rows).items()
    }
    weights = {}
    for level in per_level:
        multiples = [i for i in range(3**N) if i % 3**level == 0]
        there = [i for i in multiples if level == N or i % 3 ** (level + 1)]
        weights[level] = 0.5 / (N + 1) + 0.5 * len(there) / 3**N
    return float(sum(weights[v] * per_level[v] for v in per_level) / sum(weights.values()))


@relaxed
@given(batches)
def test_hierarchy_loss_equals_a_loop_over_levels(rows: list[tuple[float, int]]) -> None:
    found = hierarchy_loss(*offsets_and_membership(rows))
    assert float(found) == pytest.approx(hierarchy_by_loop(rows), rel=1e-9, abs=1e-9)


def separation_by_loop(rows: list[tuple[float, int]], margin: float) -> float:
    per_level = [
        np.mean([max(0.0, abs(r - centre(level)) / WIDTH - 0.5 + margin) for r in radii]) / margin
        for level, radii in by_level(rows).items()
    ]
    return float(sum(per_level))


@relaxed
@given(batches, st.floats(0.01, 0.49))
def test_separation_loss_equals_a_loop_over_levels(
    rows: list[tuple[float, int]], margin: float
) -> None:
    found = separation_loss(*offsets_and_membership(rows), margin=margin)
    expected = separation_by_loop(rows, margin)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-7)


def richness_by_loop(rows: list[tuple[float, int]], floor: float) -> float:
    # The level of the index 0 is a single point; it cannot contribute its share of the mean.
    wanted = floor * (N + 1) / N
    variances = [
        np.var(radii) for level, radii in by_level(rows).items() if len(radii) > 1 and level < N
    ]
    mean = float(np.mean(variances)) if variances else 0.0
    shortfalls = [max(0.0, 1 - float(v) / (LEAST_LEVEL_SHARE * wanted)) for v in variances]
    return max(0.0, 1 - mean / wanted) + (float(np.mean(shortfalls)) if shortfalls else 0.0)


@relaxed
@given(batches, st.floats(1e-4, 2.0))
def test_richness_loss_equals_a_loop_over_levels(
    rows: list[tuple[float, int]], floor: float
) -> None:
    radius, valuation = columns(rows)
    found = float(richness_loss(radius, level_membership(valuation, N, radius.dtype), floor=floor))
    assert found == pytest.approx(richness_by_loop(rows, floor), rel=1e-9, abs=1e-9)
    assert 0 <= found <= 2


@relaxed
@given(batches)
def test_terms_together_equal_terms_alone(rows: list[tuple[float, int]]) -> None:
    radius, valuation = columns(rows)
    offset, membership = offsets_and_membership(rows)
    together = geometry_losses(
        radius, valuation, n_digits=N, radius_max=RADIUS_MAX, richness_floor=0.02, margin=0.2
    )
    assert together.hierarchy == hierarchy_loss(offset, membership)
    assert together.separation == separation_loss(offset, membership, margin=0.2)
    # Variances of the offsets times the width squared, or of the radii: rounded apart.
    alone = richness_loss(radius, membership, floor=0.02)
    assert float(together.richness) == pytest.approx(float(alone), rel=1e-10, abs=1e-10)


@relaxed
@given(batches, st.floats(1e-4, 2.0), st.floats(0.01, 0.49))
def test_terms_together_equal_the_loops(
    rows: list[tuple[float, int]], floor: float, margin: float
) -> None:
    radius, valuation = columns(rows)
    found = geometry_losses(
        *(radius, valuation),
        n_digits=N,
        radius_max=RADIUS_MAX,
        richness_floor=floor,
        margin=margin,
    )
    assert float(found.hierarchy) == pytest.approx(hierarchy_by_loop(rows), rel=1e-9, abs=1e-9)
    expected = separation_by_loop(rows, margin)
    assert float(found.separation) == pytest.approx(expected, rel=1e-9, abs=1e-7)
    expected = richness_by_loop(rows, floor)
    assert float(found.richness) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@relaxed
@given(batches, st.floats(1e-4, 2.0))
def test_a_floor_and_a_radius_on_the_device_are_worth_the_same(
    rows: list[tuple[float, int]], floor: float
) -> None:
    """A captured step reads both from tensors."""
    radius, valuation = columns(rows)
    numbers, tensors = (
        geometry_losses(radius, valuation, n_digits=N, radius_max=largest, richness_floor=least)
        for largest, least in (
            (RADIUS_MAX, floor),
            torch.tensor((RADIUS_MAX, floor), dtype=torch.float64).unbind(),
        )
    )
    for one, other in zip(numbers, tensors, strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-9, abs=1e-9)


# --- in one call ----------------------------------------------------------------------------

needs_extension = pytest.mark.skipif(
    losses.levels._levels is None, reason="the extension was not compiled: no C compiler"
)


def with_gradients(
    radius: Tensor, valuation: Tensor, floor: float, margin: float, **keywords: Any
) -> tuple[Tensor, Tensor]:
    """The terms, and the gradients of each: (3,) and (3, batch)."""
    given = radius.clone().requires_grad_()
    found = geometry_losses(
        *(given, valuation),
        **{"n_digits": N, "radius_max": RADIUS_MAX, **keywords},
        richness_floor=floor,
        margin=margin,
    )
    gradients = [  # a term that is switched off need not have one
        torch.autograd.grad(term, given, retain_graph=True)[0]
        if term.requires_grad
        else torch.zeros_like(radius)
        for term in found
    ]
    return torch.stack(found).detach(), torch.stack(gradients)


@needs_extension
@relaxed
@given(batches, st.sampled_from([0.0, 1e-3, 0.05, 2.0]), st.floats(0.01, 0.49))
def test_in_one_call_the_terms_and_gradients_are_those_of_torch(
    rows: list[tuple[float, int]], floor: float, margin: float
) -> None:
    """In float32 they are one call of the extension; without it they are torch's operations."""
    radius, valuation = columns(rows)
    radius = radius.float()
    found, gradients = with_gradients(radius, valuation, floor, margin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.levels, "_levels", None)
        want, slopes = with_gradients(radius, valuation, floor, margin)
    assert found.dtype == gradients.dtype == torch.float32
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients, slopes, rtol=1e-5, atol=1e-5)


@needs_extension
@pytest.mark.parametrize("n_digits", [1, 20, 63, 64, 500])
def test_in_one_call_for_any_number_of_levels(n_digits: int) -> None:
    generator = torch.Generator().manual_seed(n_digits)
    valuation = torch.randint(-2, n_digits + 3, (300,), generator=generator)
    radius = RADIUS_MAX * torch.rand(300, generator=generator)
    found, gradients = with_gradients(radius, valuation, 0.01, 0.1, n_digits=n_digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.levels, "_levels", None)
        want, slopes = with_gradients(radius, valuation, 0.01, 0.1, n_digits=n_digits)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients, slopes, rtol=1e-4, atol=1e-4)


@needs_extension
def test_in_one_call_what_is_not_a_number_stays_none() -> None:
    radius, valuation = generic_batch(0)
    for row in range(len(radius)):
        narrow = radius.detach().float()
        narrow[row] = math.nan
        assert all(bool(term.isnan()) for term in terms(narrow, valuation, floor=0.05)), row


@needs_extension
def test_in_one_call_there_is_a_first_derivative_only() -> None:
    radius, valuation = generic_batch(0)
    narrow = radius.detach().float().requires_grad_()
    found = terms(narrow, valuation, floor=0.05)
    with pytest.raises(RuntimeError, match="a first derivative only"):
        torch.autograd.grad(found.hierarchy, narrow, create_graph=True)


# --- one batch of several processes ---------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("floor", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_processes_that_share_a_batch_have_its_terms_and_each_its_part_of_the_gradient(
    world: int, floor: float, dtype: torch.dtype
) -> None:
    """Twenty for twelve rows: some have none."""
    radius, valuation = generic_batch(4)
    radius = radius.detach().to(dtype).requires_grad_()
    close = 1e-9 if dtype == torch.float64 else 1e-5
    whole = torch.stack(terms(radius, valuation, floor))
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=dtype)
    (expected,) = torch.autograd.grad(whole @ weights, radius)
    parts = [radius.detach()[rank::world].clone().requires_grad_() for rank in range(world)]

    def found_by(rank: int, others: Tensor | None) -> tuple[Tensor, Tensor]:
        """The terms in one process, given the sums of the others; and its own sums."""
        own: list[Tensor] = []

        def total(sums: Tensor) -> Tensor:
            own.append(sums.detach())
            return sums if others is None else sums + others

        found = geometry_losses(
            *(parts[rank], valuation[rank::world]),
            n_digits=N,
            radius_max=RADIUS_MAX,
            richness_floor=floor,
            total=total,
        )
        return torch.stack(found), own[0]

    sums = torch.stack([found_by(rank, None)[1] for rank in range(world)])
    assert sums.shape == (world, N + 1, 4) and sums.dtype == torch.float64
    for rank in range(world):
        found, _ = found_by(rank, sums.sum(0) - sums[rank])
        assert torch.allclose(found, whole, rtol=close, atol=close)
        (gradient,) = torch.autograd.grad(found @ weights, parts[rank])
        assert torch.allclose(gradient, expected[rank::world], rtol=close, atol=close)


# --- where the terms vanish -----------------------------------------------------------------


def full_batch(spread: dict[int, float]) -> tuple[Tensor, Tensor]:
    """All levels; level v has radii ``spread[v]`` shell widths to both sides of its centre."""
    rows = [(centre(N), N)]
    for level in range(N):
        rows += [(centre(level) + side * spread[level] * WIDTH, level) for side in (-1, 1)]
    return columns(rows)


def terms(radius: Tensor, valuation: Tensor, floor: float) -> losses.GeometryLosses:
    return geometry_losses(
        radius, valuation, n_digits=N, radius_max=RADIUS_MAX, richness_floor=floor
    )


def test_hierarchy_vanishes_at_the_centres_alone() -> None:
    assert float(terms(*full_batch(dict.fromkeys(range(N), 0.0)), floor=0).hierarchy) < 1e-28
    assert float(terms(*full_batch(dict.fromkeys(range(N), 1e-3)), floor=0).hierarchy) > 5e-7


@pytest.mark.parametrize("level", range(N))
def test_separation_vanishes_exactly_outside_the_margins(level: int) -> None:
    spread = dict.fromkeys(range(N), 0.3)
    spread[level] = 0.5 - losses.SEPARATION_MARGIN - 1e-9
    assert float(terms(*full_batch(spread), floor=0).separation) == 0
    spread[level] += 1e-6
    assert float(terms(*full_batch(spread), floor=0).separation) > 0
    # At the face of its shell every point of one level is a whole margin too far.
    spread[level] = 0.5
    assert float(terms(*full_batch(spread), floor=0).separation) == pytest.approx(1)


def richness_of(variances: list[float], floor: float) -> float:
    """Loss of a batch whose levels 0..N-1 have these variances, in units of the wanted one."""
    wanted = floor * (N + 1) / N
    spread = {v: math.sqrt(share * wanted) / WIDTH for v, share in enumerate(variances)}
    return float(terms(*full_batch(spread), floor=floor).richness)


def test_richness_has_two_floors() -> None:
    slack = 1 + 1e-12
    assert richness_of([slack] * N, 0.01) == 0
    # The mean counts, so a level may stay behind if another makes up for it, ...
    assert richness_of([0.5 * slack, 1.5, 1, 1], 0.01) == 0
    # ... but not below half; then its own hinge alone is left.
    assert richness_of([0.25, 1.75, 1, 1], 0.01) == pytest.approx(0.5 / N)
    # All at half: no level alone is short, the mean is.
    assert richness_of([0.5 * slack] * N, 0.01) == pytest.approx(0.5)
    assert richness_of([0.0] * N, 0.01) == pytest.approx(2)


@pytest.mark.parametrize("floor", [1e-4, 0.006, 0.05])
def test_the_floor_is_the_richness_that_is_measured(floor: float) -> None:
    """All levels just at the wanted variance: the metric is the floor, the loss is zero."""
    spread = dict.fromkeys(range(N), math.sqrt(floor * (N + 1) / N * (1 + 1e-12)) / WIDTH)
    radius, valuation = full_batch(spread)
    assert richness(radius.numpy(), valuation.numpy(), N) == pytest.approx(floor, rel=1e-9)
    assert float(terms(radius, valuation, floor).richness) == 0
    assert float(terms(radius, valuation, floor * 1.01).richness) > 0


def test_a_floor_of_zero_switches_richness_off() -> None:
    radius, valuation = full_batch(dict.fromkeys(range(N), 0.0))
    assert float(terms(radius, valuation, floor=0).richness) == 0


@relaxed
@given(batches, st.floats(1e-4, 1.0), st.floats(-1, 1))
def test_richness_does_not_see_where_the_levels_are(
    rows: list[tuple[float, int]], floor: float, shift: float
) -> None:
    radius, valuation = columns(rows)
    membership = level_membership(valuation, N, radius.dtype)
    moved = radius + shift * (valuation + 1)
    assert float(richness_loss(moved, membership, floor=floor)) == pytest.approx(
        float(richness_loss(radius, membership, floor=floor)), abs=1e-7
    )


def test_levels_weigh_what_they_weigh_however_many_rows_they_have() -> None:
    """A thousand rows of level 0 and one of level 3, of which 54 and 2 of 81 sequences are."""
    rows = [(centre(0) + 0.41 * WIDTH, 0)] * 1000 + [(centre(3) + 0.45 * WIDTH, 3)]
    offset, membership = offsets_and_membership(rows)
    common, rare = 0.1 + 27 / 81, 0.1 + 1 / 81
    expected = (common * 0.41**2 + rare * 0.45**2) / (common + rare)
    assert float(hierarchy_loss(offset, membership)) == pytest.approx(expected)
    assert float(separation_loss(offset, membership)) == pytest.approx(0.1 + 0.5)
    # Richness: level 0 collapsed in a thousand rows, level 3 far above the floor in two.
    rows = [(1.0, 0)] * 1000 + [(0.5, 3), (1.5, 3)]
    radius, valuation = columns(rows)
    found = richness_loss(radius, level_membership(valuation, N, radius.dtype), floor=0.01)
    assert float(found) == pytest.approx(0.5)


# --- gradients ------------------------------------------------------------------------------


def generic_batch(seed: int) -> tuple[Tensor, Tensor]:
    """Random radii; at most one of the hinges within reach of a finite difference by bad luck."""
    generator = torch.Generator().manual_seed(seed)
    valuation = torch.randint(N + 1, (12,), generator=generator)
    radius = RADIUS_MAX * torch.rand(12, dtype=torch.float64, generator=generator)
    return radius.requires_grad_(), valuation


TERMS: dict[str, Callable[[losses.GeometryLosses], Tensor]] = {
    "hierarchy": lambda found: found.hierarchy,
    "richness": lambda found: found.richness,
    "separation": lambda found: found.separation,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("floor", [0.05, 0.5, 3.0])
def test_gradients_equal_finite_differences(seed: int, term: str, floor: float) -> None:
    radius, valuation = generic_batch(seed)
    assert gradcheck(lambda r: TERMS[term](terms(r, valuation, floor)), (radius,))
    assert gradgradcheck(lambda r: TERMS[term](terms(r, valuation, floor)), (radius,))


def test_hierarchy_pulls_every_point_to_the_centre_of_its_shell() -> None:
    radius, valuation = generic_batch(0)
    found = terms(radius, valuation, floor=0)
    (gradient,) = torch.autograd.grad(found.hierarchy, radius)
    offset = shell_offset(radius, valuation, n_digits=N, radius_max=RADIUS_MAX)
    assert torch.equal(gradient.sign(), offset.sign())


def test_separation_moves_only_the_points_in_the_margins() -> None:
    radius, valuation = generic_batch(1)
    (gradient,) = torch.autograd.grad(terms(radius, valuation, floor=0).separation, radius)
    offset = shell_offset(radius, valuation, n_digits=N, radius_max=RADIUS_MAX)
    reaching = offset.abs() > 0.5 - losses.SEPARATION_MARGIN
    assert reaching.any()
    assert torch.equal(gradient.sign(), torch.where(reaching, offset.sign(), 0.0))


def test_richness_pushes_the_points_of_a_poor_level_apart() -> None:
    radius, valuation = full_batch({0: 0.01, 1: 0.4, 2: 0.4, 3: 0.02})
    radius.requires_grad_()
    wanted = float((0.4 * WIDTH) ** 2)
    found = terms(radius, valuation, floor=0.4 * wanted).richness
    (gradient,) = torch.autograd.grad(found, radius)
    outward = -gradient.reshape(-1)
    for level in (0, 3):
        low, high = torch.nonzero(valuation == level).flatten().tolist()
        assert outward[low] < 0 < outward[high]
    # The level of one point has no variance to give.
    assert outward[valuation == N] == 0


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("seed", range(3))
def test_a_step_against_the_gradient_reduces_the_term(term: str, seed: int) -> None:
    radius, valuation = generic_batch(seed)
    before = TERMS[term](terms(radius, valuation, floor=3.0))
    (gradient,) = torch.autograd.grad(before, radius)
    after = TERMS[term](terms(radius - 1e-4 * gradient, valuation, floor=3.0))
    assert after.item() < before.item()


AWKWARD: dict[str, list[tuple[float, int]]] = {
    "one row": [(1.0, 0)],
    "one row of the deepest level": [(0.0, N)],
    "one level": [(1.0, 2), (2.0, 2)],
    "rows of the deepest level only": [(0.1, N)] * 3,
    "one row per level": [(1.0, v) for v in range(N + 1)],
    "all radii equal": [(1.5, v % (N + 1)) for v in range(20)],
    "all at the origin": [(0.0, v % (N + 1)) for v in range(20)],
    "all at the rim": [(RADIUS_MAX, v % (N + 1)) for v in range(20)],
    "at every centre": [(centre(v % (N + 1)), v % (N + 1)) for v in range(20)],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("floor", [0.0, 1e-12, 0.006, 100.0])
@pytest.mark.parametrize("name", AWKWARD)
def test_values_and_gradients_are_finite(name: str, floor: float, dtype: torch.dtype) -> None:
    radius, valuation = columns(AWKWARD[name])
    radius = radius.to(dtype).requires_grad_()
    found = terms(radius, valuation, floor)
    for term in found:
        assert term.shape == () and term.dtype == dtype
        assert bool(term.isfinite())
    (gradient,) = torch.autograd.grad(torch.stack(found).sum(), radius)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("floor", [0.006, 0.5])
def test_float32_agrees_with_float64(floor: float) -> None:
    radius, valuation = generic_batch(2)
    radius = radius.detach()
    wide = terms(radius, valuation, floor)
    narrow = terms(radius.float(), valuation, floor)
    for a, b in zip(narrow, wide, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-5, abs=1e-6)


# --- divergence -----------------------------------------------------------------------------


def test_kl_loss_is_the_mean_difference() -> None:
    assert float(kl_loss(torch.tensor([1.0, -2.0, 4.0]), torch.tensor([0.0, 1.0, 1.0]))) == (
        pytest.approx((1 - 3 + 3) / 3)
    )


def estimates(posterior: WrappedNormal, prior: WrappedNormal, count: int) -> Tensor:
    torch.manual_seed(0)
    sample, log_prob = posterior.rsample_with_log_prob((count,))
    return torch.stack(
        [
            kl_loss(q.unsqueeze(0), p.unsqueeze(0))
            for q, p in zip(log_prob, prior.log_prob(sample), strict=True)
        ]
    )


@pytest.mark.parametrize("c", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("sigma", "tau"), [(0.1, 0.3), (0.3, 0.2), (0.5, 1.0)])
def test_kl_at_one_centre_is_that_of_the_normals(c: float, sigma: float, tau: float) -> None:
    """Both are images of normals under one map, and divergences do not change under a bijection."""
    ball, d = PoincareBall(c), 3
    loc = ball.expmap0(torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64) / math.sqrt(c))
    found = estimates(WrappedNormal(loc, sigma, ball), WrappedNormal(loc, tau, ball), 4000)
    expected = d * (math.log(tau / sigma) + (sigma / tau) ** 2 / 2 - 0.5)
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - expected) < 5 * error
    assert expected > 10 * error  # the check can fail


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_kl_between_centres_on_the_hyperbolic_line(distance: float) -> None:
    """The ball of dimension 1 is isometric to the real line, so the closed form is known there."""
    ball = PoincareBall(2.0)
    centres = ball.expmap0(torch.tensor([[0.1], [0.1 + distance / 2]], dtype=torch.float64))
    assert float(ball.dist(centres[0], centres[1])) == pytest.approx(distance)
    sigma, tau = 0.4, 0.7
    found = estimates(
        WrappedNormal(centres[1], sigma, ball), WrappedNormal(centres[0], tau, ball), 4000
    )
    expected = math.log(tau / sigma) + (sigma**2 + distance**2) / (2 * tau**2) - 0.5
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - expected) < 5 * error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_of_a_law_to_itself_is_zero_sample_by_sample(dtype: torch.dtype) -> None:
    ball = PoincareBall()
    generator = torch.Generator().manual_seed(0)
    loc = ball.expmap0(0.5 * torch.randn(16, dtype=dtype, generator=generator))
    law = WrappedNormal(loc, 0.3, ball)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-2
    assert float(estimates(law, law, 200).abs().max()) < tolerance
