"""The ultrametric term and the scale it compares distances on: against formulas in many digits.

The loss is written here once more, as the likelihood of every verdict, in mpmath; the compiled
version is compared with autograd in float64 on the same float32 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ternvae.losses import ultrametric, ultrametric_loss
from ternvae.losses.ultrametric import TEMPERATURE, add_gradient, can_add_gradient
from ternvae.manifolds import PoincareBall, log_chord

CURVATURES = (0.1, 1.0, 4.0)

needs_extension = pytest.mark.skipif(
    ultrametric._pairs is None, reason="the extension was not compiled: no C compiler"
)


def column(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def pairs_of(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# --- the scale ------------------------------------------------------------------------------


def exact_chord(distance: float, c: float) -> Any:
    with mp.workdps(60):
        half = mp.sqrt(mp.mpf(c)) * mp.mpf(distance) / 2
        return mp.log((mp.cosh(2 * half) - 1) / 2 + mp.mpf(1e-6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", CURVATURES)
def test_the_scale_is_the_logarithm_of_the_squared_chord(c: float, dtype: torch.dtype) -> None:
    # sqrt(c) d from 0 to 74, the most between two float64 points inside the ball.
    reach = [
        0.0,
        5e-324,
        1e-300,
        1e-12,
        1e-6,
        1e-3,
        0.0632,
        0.4,
        1.0,
        1.7627,
        4.5,
        17.0,
        36.0,
        74.0,
    ]
    distances = column(reach, dtype) / c**0.5
    found = log_chord(distances, c=c)
    assert found.dtype == dtype
    for value, distance in zip(found.tolist(), distances.tolist(), strict=True):
        exact = exact_chord(distance, c)
        assert abs(value - exact) <= 8 * torch.finfo(dtype).eps * max(1, abs(exact)), distance


def test_far_points_are_compared_by_distance_and_near_ones_by_its_logarithm() -> None:
    far = log_chord(column([20.0, 21.0, 22.0]))
    assert far.diff().tolist() == pytest.approx([1.0, 1.0], abs=1e-8)
    near = log_chord(column([0.02, 0.04, 0.08]), c=1.0)
    assert near.diff().tolist() == pytest.approx([2 * math.log(2)] * 2, abs=0.01)
    assert float(log_chord(column([0.0]))) == pytest.approx(math.log(1e-6))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 30), min_size=2, max_size=9),
    st.sampled_from([0.01, *CURVATURES]),
)
def test_the_scale_keeps_the_order_and_knows_no_unit(distances: list[float], c: float) -> None:
    given_order = column(sorted(distances))
    found = log_chord(given_order, c=c)
    assert bool((found.diff() >= 0).all())
    torch.testing.assert_close(found, log_chord(given_order * c**0.5, c=1.0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("c", CURVATURES)
def test_slopes_of_the_scale(c: float) -> None:
    distances = column([0.0, 1e-3, 0.1, 1.0, 5.0, 20.0]).requires_grad_()
    curvature = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda d, k: log_chord(d, c=k), (distances, curvature))
    (slope,) = torch.autograd.grad(log_chord(distances, c=c).sum(), distances)
    assert slope[0] == 0
    half = [0.5 * c**0.5 * d for d in distances.tolist()]
    wanted = [c**0.5 * math.sinh(h) * math.cosh(h) / (math.sinh(h) ** 2 + 1e-6) for h in half]
    assert slope.tolist() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 88.0), (torch.float64, 709.0)])
def test_beyond_all_balls_the_scale_ends(dtype: torch.dtype, most: float) -> None:
    found = log_chord(column([most, most + 3, math.inf], dtype), c=1.0)
    assert float(found[0]) == pytest.approx(most - 2 * math.log(2), rel=1e-6)
    assert found[1:].tolist() == [math.inf, math.inf]
    ball = PoincareBall()
    rim = torch.nextafter(torch.ones(1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
    assert float(ball.dist(rim, -rim)) < most


def test_what_is_no_distance_has_no_scale() -> None:
    assert log_chord(column([math.nan])).isnan()
    scalar = log_chord(torch.tensor(2.0))
    assert scalar.shape == ()
    assert log_chord(torch.ones(2, 0, 3)).shape == (2, 0, 3)


# --- the value ------------------------------------------------------------------------------


def exact_loss(
    distances: Sequence[float],
    between: Sequence[int],
    thresholds: Sequence[float],
    c: float,
    temperature: float,
) -> float:
    """Minus the logarithm of the product of what each verdict is given, averaged over the pairs."""
    with mp.workdps(60):
        total = mp.mpf(0)
        for distance, valuation in zip(distances, between, strict=True):
            if valuation == len(thresholds) + 1:
                continue
            y = exact_chord(distance, c)
            for t, threshold in enumerate(thresholds, 1):
                past = (y - mp.mpf(threshold)) / mp.mpf(temperature)
                total -= mp.log(1 / (1 + mp.exp(past if valuation >= t else -past)))
        return float(total / len(distances))


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[float], list[int], list[float], float]:
    n = draw(st.integers(1, 9))
    levels = st.integers(0, n)
    rows = draw(st.lists(st.tuples(st.floats(0, 15), levels), min_size=1, max_size=6))
    thresholds = draw(st.lists(st.floats(-6, 6), min_size=n - 1, max_size=n - 1))
    return (
        [distance for distance, _ in rows],
        [level for _, level in rows],
        thresholds,
        draw(st.sampled_from(CURVATURES)),
    )


@settings(max_examples=40, deadline=None)
@given(batches(), st.sampled_from([TEMPERATURE, 0.5, 3.0]))
def test_the_loss_is_the_likelihood_of_every_verdict(
    batch: tuple[list[float], list[int], list[float], float], temperature: float
) -> None:
    distances, between, thresholds, c = batch
    found = ultrametric_loss(
        column(distances), pairs_of(*between), column(thresholds), c=c, temperature=temperature
    )
    assert found.shape == ()
    exact = exact_loss(distances, between, thresholds, c, temperature)
    assert float(found) == pytest.approx(exact, rel=1e-9, abs=1e-11)


def test_by_hand() -> None:
    """On every threshold at once each verdict is a coin."""
    distance = column([2.0, 2.0, 2.0])
    on = log_chord(distance[:1]).item()
    found = ultrametric_loss(distance, pairs_of(0, 1, 2), column([on, on]))
    assert float(found) == pytest.approx(2 * math.log(2))
    # One temperature beyond the only threshold: too far for a pair of valuation 1.
    at = column([on - TEMPERATURE])
    too_far, right = (float(ultrametric_loss(distance[:1], pairs_of(v), at)) for v in (1, 0))
    assert too_far == pytest.approx(math.log(1 + math.e))
    assert right == pytest.approx(math.log(1 + 1 / math.e))


@settings(max_examples=40, deadline=None)
@given(batches())
def test_it_is_small_only_where_all_distances_are_read_right(
    batch: tuple[list[float], list[int], list[float], float],
) -> None:
    distances, between, thresholds, c = batch
    count = len(thresholds)
    for distance, valuation in zip(distances, between, strict=True):
        loss = float(
            ultrametric_loss(column([distance]), pairs_of(valuation), column(thresholds), c=c)
        )
        y = float(log_chord(column([distance]), c=c))
        # Thresholds need not be in order here: each is asked by itself.
        wrong = sum(
            (y < threshold) != (valuation >= t) for t, threshold in enumerate(thresholds, 1)
        )
        if valuation > count:
            assert loss == 0
        elif wrong:
            assert loss >= math.log(2) - 1e-12
        else:
            assert loss <= count * math.log(2) + 1e-12


def test_far_from_every_threshold_the_loss_is_a_line() -> None:
    """Where a likelihood would long be 0."""
    distances, thresholds = column([15.0, 14.0]), column([-60.0])
    losses = [ultrametric_loss(d.reshape(1), pairs_of(1), thresholds) for d in distances]
    assert all(loss > 700 for loss in losses)
    assert float(losses[0] - losses[1]) == pytest.approx(1 / TEMPERATURE, rel=1e-4)
    assert float(ultrametric_loss(distances, pairs_of(0, 0), thresholds)) == 0


def test_with_one_digit_there_is_nothing_to_tell() -> None:
    distance, thresholds = column([0.5, 1.0]).requires_grad_(), column([]).requires_grad_()
    loss = ultrametric_loss(distance, pairs_of(0, 1), thresholds)
    assert loss == 0
    slopes = torch.autograd.grad(loss, (distance, thresholds))
    assert slopes[0].tolist() == [0, 0]
    assert slopes[1].shape == (0,)


def test_with_two_digits_there_is_one_threshold() -> None:
    found = ultrametric_loss(column([1.0, 3.0]), pairs_of(1, 0), column([0.1]))
    assert float(found) == pytest.approx(exact_loss([1.0, 3.0], [1, 0], [0.1], 1.0, TEMPERATURE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_pairs_the_loss_is_0_and_so_are_its_slopes(dtype: torch.dtype) -> None:
    distance, thresholds = (torch.zeros(k, dtype=dtype, requires_grad=True) for k in (0, 4))
    loss = ultrametric_loss(distance, pairs_of(), thresholds)
    assert loss == 0
    assert loss.dtype == dtype
    assert torch.autograd.grad(loss, thresholds)[0].tolist() == [0] * 4


def test_a_sequence_and_itself_count_as_0_whatever_they_are() -> None:
    thresholds = column([0.5, -0.5]).requires_grad_()
    for odd in (0.0, 7.0, math.nan, math.inf):
        distance = column([1.0, odd]).requires_grad_()
        loss = ultrametric_loss(distance, pairs_of(1, 3), thresholds)
        alone = ultrametric_loss(distance[:1], pairs_of(1), thresholds)
        assert torch.equal(loss, alone / 2)
        slopes = torch.autograd.grad(loss, (distance, thresholds))
        assert slopes[0][1] == 0
        assert all(slope.isfinite().all() for slope in slopes)


def test_nan_is_not_lost() -> None:
    good, between, thresholds = column([1.0, 2.0]), pairs_of(0, 1), column([0.0])
    assert ultrametric_loss(column([1.0, math.nan]), between, thresholds).isnan()
    assert ultrametric_loss(good, between, column([math.nan])).isnan()


@pytest.mark.parametrize("c", CURVATURES)
def test_isometries_change_nothing(c: float) -> None:
    """Moebius translations and turns move points and no distance."""
    ball = PoincareBall(c=c)
    generator = torch.Generator().manual_seed(3)
    x, y, centre = (
        ball.expmap0(torch.randn(40, 5, dtype=torch.float64, generator=generator) / c**0.5 / 2)
        for _ in range(3)
    )
    turn, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator))
    between = torch.arange(40) % 5
    thresholds = column([2.0, 1.0, 0.0, -1.0])
    found = [
        ultrametric_loss(ball.dist(one, other), between, thresholds, c=c)
        for one, other in [
            (x, y),
            (y, x),
            (x @ turn, y @ turn),
            *((ball.mobius_add(a, x), ball.mobius_add(a, y)) for a in (centre[:1], centre[1:2])),
        ]
    ]
    torch.testing.assert_close(torch.stack(found), found[0].expand(len(found)), rtol=1e-9, atol=0)


# --- gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_digits", [2, 5])
def test_gradients_equal_finite_differences(n_digits: int) -> None:
    generator = torch.Generator().manual_seed(n_digits)
    distance = (0.1 + 4 * torch.rand(12, dtype=torch.float64, generator=generator)).requires_grad_()
    between = torch.arange(12) % (n_digits + 1)
    thresholds = (2 - torch.arange(n_digits - 1, dtype=torch.float64)).requires_grad_()
    curvature = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def loss(d: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return ultrametric_loss(d, between, b, c=c, temperature=0.7)

    assert gradcheck(loss, (distance, thresholds, curvature))
    assert gradgradcheck(loss, (distance, thresholds, curvature))


def test_every_threshold_learns_what_lies_on_its_wrong_side() -> None:
    """Pairs too far push a threshold out, pairs too near pull it in, and others hardly touch it."""
    thresholds = column([1.0, -1.0]).requires_grad_()
    at = {y: 2 * math.asinh(math.sqrt(math.exp(y) - 1e-6)) for y in (2.0, 0.0, -2.0)}
    for y, valuation, signs in [
        *((2.0, 2, (-1, -1)), (2.0, 1, (-1, 0)), (2.0, 0, (0, 0))),
        *((0.0, 2, (0, -1)), (0.0, 1, (0, 0)), (0.0, 0, (1, 0))),
        *((-2.0, 2, (0, 0)), (-2.0, 1, (0, 1)), (-2.0, 0, (1, 1))),
    ]:
        loss = ultrametric_loss(column([at[y]]), pairs_of(valuation), thresholds)
        (slope,) = torch.autograd.grad(loss, thresholds)
        wanted = [sign / TEMPERATURE for sign in signs]
        assert slope.tolist() == pytest.approx(wanted, abs=1e-3), (y, valuation)


def test_a_step_against_the_gradient_brings_siblings_together() -> None:
    """And strangers apart, each by the distance that is between them."""
    distance = column([2.0, 2.0, 2.0]).requires_grad_()
    y = log_chord(distance.detach()[:1]).item()
    loss = ultrametric_loss(distance, pairs_of(2, 1, 0), column([y + 0.3, y - 0.3]))
    (slope,) = torch.autograd.grad(loss, distance)
    assert slope[0] > 0 > slope[2]
    assert abs(slope[1]) < 1e-6 * slope[0]
    after = ultrametric_loss(distance - 1e-3 * slope, pairs_of(2, 1, 0), column([y + 0.3, y - 0.3]))
    assert after < loss


@pytest.mark.parametrize("temperature", [0.02, TEMPERATURE, 1.0])
def test_the_temperature_is_the_unit_of_a_verdict(temperature: float) -> None:
    distance = column([2.0])
    on = log_chord(distance).item()
    found = ultrametric_loss(
        distance, pairs_of(0), column([on + temperature]), temperature=temperature
    )
    assert float(found) == pytest.approx(math.log(1 + math.e))


# --- without a graph ------------------------------------------------------------------------


def pair_points(c: float, share: float, kind: str, pairs: int = 24, dim: int = 7) -> Tensor:
    """(pairs + 5 + pairs, dim) float32 points of ball c, as rows of a batch with its partners."""
    generator = torch.Generator().manual_seed(11)
    rows = torch.randn(2 * pairs + 5, dim, dtype=torch.float64, generator=generator)
    rows /= rows.norm(dim=-1, keepdim=True)
    radii = share * torch.rand(len(rows), 1, dtype=torch.float64, generator=generator)
    if kind == "rim":
        radii[:] = share
    if kind == "origin":
        radii *= 1e-4
        radii[::4] = 0
    points = rows * radii / c**0.5
    if kind == "near":
        step = torch.randn(pairs, dim, dtype=torch.float64, generator=generator)
        points[-pairs:] = points[:pairs] + 1e-4 * step / c**0.5 * (1 - share)
    if kind == "coinciding":
        points[-pairs:] = points[:pairs]
    return points.float().contiguous()


def by_autograd(
    points: Tensor, between: Tensor, thresholds: Tensor, c: float, weight: float
) -> tuple[float, Tensor, Tensor]:
    """The sum of the loss over the pairs and the gradients of its multiple, all in float64."""
    x, at = (t.detach().double().requires_grad_() for t in (points, thresholds))
    pairs = len(between)
    distance = PoincareBall(c=c).dist(x[:pairs], x[len(x) - pairs :])
    loss = ultrametric_loss(distance, between, at, c=c) * pairs
    (weight * loss).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert at.grad is not None
    return loss.item(), x.grad, at.grad


@needs_extension
@pytest.mark.parametrize("kind", ["usual", "origin", "near", "coinciding", "rim"])
@pytest.mark.parametrize("share", [0.95, 0.999])
@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_graph_the_gradients_are_those_of_autograd(
    c: float, share: float, kind: str, dtype: torch.dtype
) -> None:
    points = pair_points(c, share, kind)
    thresholds = (3 - torch.arange(8) * 0.75).to(dtype)
    between = torch.arange(24) % 10  # 9 = n is a sequence and itself
    weight = 0.37
    to_points, to_thresholds = torch.zeros_like(points), torch.zeros_like(thresholds)
    found = add_gradient(
        *(points, between, thresholds),
        c=c,
        weight=weight,
        to_points=to_points,
        to_thresholds=to_thresholds,
    )
    loss, of_points, of_thresholds = by_autograd(points, between, thresholds, c, weight)
    assert found == pytest.approx(loss, rel=1e-9)
    # Of each row: the largest component is right to float32, and so are the others beside it.
    scale = of_points.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    assert float(((to_points - of_points) / scale).abs().max()) < 2e-7
    torch.testing.assert_close(to_thresholds.double(), of_thresholds, rtol=1e-6, atol=1e-6)
    itself = (between == 9).nonzero().flatten()
    assert not to_points[itself].any()
    assert not to_points[len(points) - 24 + itself].any()
    assert not to_points[24:29].any()  # rows without a partner


@needs_extension
def test_without_a_graph_gradients_are_added_to_what_is_there() -> None:
    points, between = pair_points(1.0, 0.9, "usual"), torch.arange(24) % 9
    thresholds = torch.linspace(2, -2, 8)
    kept = [torch.full_like(points, 100.0), torch.full_like(thresholds, -50.0)]
    alone = [torch.zeros_like(points), torch.zeros_like(thresholds)]
    for to_points, to_thresholds in (kept, alone):
        add_gradient(
            *(points, between, thresholds),
            c=1.0,
            weight=0.01,
            to_points=to_points,
            to_thresholds=to_thresholds,
        )
    torch.testing.assert_close(kept[0] - 100, alone[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(kept[1] + 50, alone[1], rtol=0, atol=1e-4)


@needs_extension
def test_without_a_graph_a_row_may_be_in_two_pairs() -> None:
    """With more pairs than half of the rows the first and the second points overlap."""
    points, between = pair_points(1.0, 0.9, "usual", pairs=4), torch.arange(9) % 9
    thresholds = torch.linspace(2, -2, 8)
    to_points, to_thresholds = torch.zeros_like(points), torch.zeros_like(thresholds)
    add_gradient(
        *(points, between, thresholds),
        c=1.0,
        weight=1.0,
        to_points=to_points,
        to_thresholds=to_thresholds,
    )
    _, of_points, _ = by_autograd(points, between, thresholds, 1.0, 1.0)
    torch.testing.assert_close(to_points.double(), of_points, rtol=1e-5, atol=1e-4)


@needs_extension
@pytest.mark.parametrize("n_digits", [1, 2, 20])
@pytest.mark.parametrize("pairs", [0, 1, 3])
def test_without_a_graph_for_any_number_of_digits_and_pairs(n_digits: int, pairs: int) -> None:
    points = pair_points(1.0, 0.9, "usual", pairs=3)
    between = torch.arange(pairs) % n_digits
    thresholds = torch.linspace(2, -2, n_digits - 1)
    to_points, to_thresholds = torch.zeros_like(points), torch.zeros_like(thresholds)
    found = add_gradient(
        *(points, between, thresholds),
        c=1.0,
        weight=1.0,
        to_points=to_points,
        to_thresholds=to_thresholds,
    )
    if pairs:
        loss, of_points, of_thresholds = by_autograd(points, between, thresholds, 1.0, 1.0)
        assert found == pytest.approx(loss, rel=1e-9)
        torch.testing.assert_close(to_points.double(), of_points, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(to_thresholds.double(), of_thresholds, rtol=1e-5, atol=1e-5)
    else:
        assert found == 0
        assert not to_points.any()


@needs_extension
@pytest.mark.parametrize("where", ["first", "second", "threshold"])
def test_without_a_graph_nan_is_not_lost(where: str) -> None:
    points, between = pair_points(1.0, 0.9, "usual", pairs=3), pairs_of(0, 1, 2)
    thresholds = torch.tensor([0.5, -0.5])
    spoilt = {"first": points[1], "second": points[-2], "threshold": thresholds}[where]
    spoilt[0] = math.nan
    to_points, to_thresholds = torch.zeros_like(points), torch.zeros_like(thresholds)
    keywords: dict[str, Any] = {"to_points": to_points, "to_thresholds": to_thresholds}
    loss = add_gradient(points, between, thresholds, c=1.0, weight=1.0, **keywords)
    assert math.isnan(loss)
    assert to_points[1].isnan().all()
    assert to_thresholds.isnan().any()
    # But a sequence and itself say nothing, whatever they are.
    if where != "threshold":
        to_points.zero_()
        to_thresholds.zero_()
        between[1] = 3
        loss = add_gradient(points, between, thresholds, c=1.0, weight=1.0, **keywords)
        assert math.isfinite(loss)
        assert to_points.isfinite().all()


def test_what_can_be_read_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.zeros(4, 3)
    assert can_add_gradient(points) is (ultrametric._pairs is not None)
    for other in (points.double(), points.T, points.to("meta"), points[:, :2]):
        assert not can_add_gradient(other)
    monkeypatch.setattr(ultrametric, "_pairs", None)
    assert not can_add_gradient(points)
