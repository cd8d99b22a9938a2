"""Laws of the gyrovector space and of the metric, on points drawn where it hurts.

Tolerances are eps * 64 / gap^2 in coordinates and distances, where gap is the smallest
``1 - c |x|^2`` among the points involved: a coordinate is rounded by eps, which is a distance of
eps/gap, and translating by a point of gap g magnifies distances between coordinates by 1/g at most.
"""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from ternvae.manifolds import math
from tests.manifolds.oracle import assert_gradients_finite

DIM = 3
DTYPES = st.sampled_from([torch.float32, torch.float64])
CURVATURES = st.sampled_from([1e-6, 0.1, 1.0, 4.0, 1e6])
# Not below 1e-20: squares of float64 norms and float32 coordinates must stay representable.
RADII = st.one_of(st.sampled_from([0.0, 1e-20, 1e-6, 0.95, 0.99]), st.floats(1e-20, 0.99))
DIRECTIONS = st.lists(st.integers(-1000, 1000).map(lambda k: k / 1000), min_size=DIM, max_size=DIM)


@st.composite
def spaces(draw: Any, count: int) -> tuple[float, list[Tensor]]:
    """``(c, points)``: points of one ball that require gradients, sometimes equal or opposite."""
    c, dtype = draw(CURVATURES), draw(DTYPES)
    out: list[Tensor] = []
    for _ in range(count):
        kind = draw(st.sampled_from(["new", "new", "new", "same", "opposite"]))
        if kind != "new" and out:
            point = out[-1].detach().clone() * (1.0 if kind == "same" else -1.0)
        else:
            direction = torch.tensor(draw(DIRECTIONS), dtype=torch.float64)
            n = direction.norm()
            direction = direction / n if n > 1e-3 else torch.zeros(DIM, dtype=torch.float64)
            point = (direction * (draw(RADII) / c**0.5)).to(dtype)
        out.append(point.requires_grad_())
    return c, out


def gap_of(c: float, *points: Tensor) -> float:
    return min(2.0 / math.lambda_x(p.detach().double(), c=c).item() for p in points)


def tolerance(c: float, *points: Tensor) -> float:
    return 64 * torch.finfo(points[0].dtype).eps / gap_of(c, *points) ** 2


def assert_close(a: Tensor, b: Tensor, c: float, *points: Tensor) -> None:
    """Equal in units of the ball's radius."""
    difference = (a - b).detach().double().abs().max().item() * c**0.5
    assert difference <= tolerance(c, *points), (a, b)


laws = settings(max_examples=150, deadline=None)


@laws
@given(spaces(2))
def test_left_cancellation(space: tuple[float, list[Tensor]]) -> None:
    c, (x, y) = space
    back = math.mobius_add(-x, math.mobius_add(x, y, c=c), c=c)
    assert_close(back, y, c, x, y)
    assert_gradients_finite(x, y, outputs=back)


@laws
@given(spaces(3))
def test_gyroassociativity(space: tuple[float, list[Tensor]]) -> None:
    c, (x, y, z) = space
    left = math.mobius_add(x, math.mobius_add(y, z, c=c), c=c)
    turned = math.gyration(x, y, z, c=c)
    right = math.mobius_add(math.mobius_add(x, y, c=c), turned, c=c)
    assert_close(left, right, c, x, y, z)
    assert_gradients_finite(x, y, z, outputs=[left, right])


@laws
@given(spaces(3))
def test_left_loop_property(space: tuple[float, list[Tensor]]) -> None:
    """gyr[x, y] = gyr[x (+) y, y]."""
    c, (x, y, z) = space
    left = math.gyration(x, y, z, c=c)
    right = math.gyration(math.mobius_add(x, y, c=c), y, z, c=c)
    assert_close(left, right, c, x, y)
    assert_gradients_finite(x, y, z, outputs=[left, right])


@laws
@given(spaces(3))
def test_gyration_is_a_rotation_with_inverse_gyr_yx(space: tuple[float, list[Tensor]]) -> None:
    c, (x, y, z) = space
    turned = math.gyration(x, y, z, c=c)
    assert_close(turned.norm(), z.norm(), c, z)
    assert_close(math.gyration(y, x, turned, c=c), z, c, x, y)
    swapped = math.gyration(x, y, math.mobius_add(y, x, c=c), c=c)
    assert_close(math.mobius_add(x, y, c=c), swapped, c, x, y)


@laws
@given(spaces(2))
def test_exp_and_log_are_inverse(space: tuple[float, list[Tensor]]) -> None:
    c, (x, y) = space
    u = math.logmap(x, y, c=c)
    back = math.expmap(x, u, c=c)
    assert_close(back, y, c, x, y)
    back0 = math.expmap0(math.logmap0(y, c=c), c=c)
    assert_close(back0, y, c, y)
    assert_close(math.logmap(torch.zeros_like(y), y, c=c), math.logmap0(y, c=c), c, y)
    length = math.norm(x, u, c=c)
    assert_close(length, math.dist(x, y, c=c), c, x, y)
    assert_gradients_finite(x, y, outputs=[u, back, back0, length])


@laws
@given(spaces(3))
def test_metric_axioms(space: tuple[float, list[Tensor]]) -> None:
    c, (x, y, z) = space
    xy, yx, yz, xz = (math.dist(a, b, c=c) for a, b in ((x, y), (y, x), (y, z), (x, z)))
    assert math.dist(x, x, c=c).item() == 0.0
    assert xy.item() == yx.item() >= 0.0
    assert (xy.item() > 0.0) == bool((x != y).any())
    slack = 4 * torch.finfo(x.dtype).eps * (xy + yz).item()
    assert xz.item() <= (xy + yz).item() + slack
    assert_gradients_finite(x, y, z, outputs=[xy, yz, xz])


@laws
@given(spaces(3))
def test_left_translation_is_an_isometry(space: tuple[float, list[Tensor]]) -> None:
    c, (a, x, y) = space
    ax, ay = math.mobius_add(a, x, c=c), math.mobius_add(a, y, c=c)
    moved = math.dist(ax, ay, c=c)
    assert_close(moved, math.dist(x, y, c=c), c, ax, ay)
    assert_gradients_finite(a, x, y, outputs=moved)


@laws
@given(spaces(3))
def test_transport_is_an_isometry_with_inverse(space: tuple[float, list[Tensor]]) -> None:
    c, (x, y, v) = space
    there = math.parallel_transport(x, y, v, c=c)
    back = math.parallel_transport(y, x, there, c=c)
    eps = torch.finfo(x.dtype).eps
    tiny = 1e-25  # |v| below which its square is not representable next to the others in float32
    assert back.detach() == pytest.approx(v.detach(), rel=0, abs=64 * eps * v.norm().item() + tiny)
    there_length, length = math.norm(y, there, c=c).item(), math.norm(x, v, c=c).item()
    # In float64 the conformal factor itself is known to eps/gap only; in float32 it is computed in
    # float64.
    factor = 1.0 if x.dtype == torch.float32 else 1.0 / gap_of(c, x, y)
    assert there_length == pytest.approx(length, rel=16 * eps * factor)
    inner = math.inner(y, there, there, c=c)
    assert inner.item() == pytest.approx(length**2, rel=32 * eps * factor, abs=1e-37)
    assert_gradients_finite(x, y, v, outputs=[there, back, inner])


@laws
@given(spaces(2))
def test_transport_from_and_to_the_origin(space: tuple[float, list[Tensor]]) -> None:
    c, (y, v) = space
    origin = torch.zeros_like(y)
    there = math.parallel_transport0(y, v, c=c)
    rtol = 16 * torch.finfo(y.dtype).eps
    torch.testing.assert_close(
        there, math.parallel_transport(origin, y, v, c=c), rtol=rtol, atol=0.0
    )
    torch.testing.assert_close(math.parallel_transport0back(y, there, c=c), v, rtol=rtol, atol=0.0)
    assert_gradients_finite(y, v, outputs=there)


@laws
@given(spaces(2), st.floats(0.0, 1.0))
def test_geodesic_has_constant_speed(space: tuple[float, list[Tensor]], t: float) -> None:
    c, (x, y) = space
    p = math.geodesic(t, x, y, c=c)
    whole = math.dist(x, y, c=c)
    assert_close(math.dist(x, p, c=c), t * whole, c, x, y, p)
    assert_close(math.dist(p, y, c=c), (1 - t) * whole, c, x, y, p)
    assert_gradients_finite(x, y, outputs=p)


@laws
@given(spaces(1), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_scalar_multiplication_laws(space: tuple[float, list[Tensor]], r: float, s: float) -> None:
    """(r + s) (x) x = r (x) x (+) s (x) x, and r (x) x is at |r| times the distance."""
    c, (x,) = space
    rx, sx = (math.mobius_scalar_mul(t, x, c=c) for t in (r, s))
    both = math.mobius_scalar_mul(r + s, x, c=c)
    assert_close(both, math.mobius_add(rx, sx, c=c), c, x, rx, sx, both)
    assert_close(math.dist0(rx, c=c), abs(r) * math.dist0(x, c=c), c, x, rx)
    assert_gradients_finite(x, outputs=[rx, sx, both])


@laws
@given(st.floats(0.0, 1e30, allow_subnormal=False), DIRECTIONS, CURVATURES, DTYPES)
@pytest.mark.parametrize("max_radius", [None, 0.5, 0.95, 1 - 1e-9])
def test_projection_is_idempotent_and_within_max_radius(
    max_radius: float | None, size: float, direction: list[float], c: float, dtype: torch.dtype
) -> None:
    x = (torch.tensor(direction, dtype=torch.float64) * size).to(dtype).requires_grad_()
    p = math.project(x, c=c, max_radius=max_radius)
    assert torch.equal(math.project(p, c=c, max_radius=max_radius), p)
    # As a user would check it: in the dtype of the points.
    s = torch.tensor(c, dtype=torch.float64).sqrt().to(dtype) * p.norm()
    assert s.item() <= (1.0 if max_radius is None else max_radius)
    assert math.lambda_x(p, c=c).item() > 0.0
    before = c**0.5 * x.detach().double().norm().item()
    limit = 1.0 if max_radius is None else max_radius
    if before < limit * (1 - 17 * torch.finfo(dtype).eps):
        assert torch.equal(p, x)
    else:
        after = c**0.5 * p.detach().double().norm().item()
        assert after >= limit * (1 - 40 * torch.finfo(dtype).eps)
    assert_gradients_finite(x, outputs=[p, math.dist0(p, c=c)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 512])
@pytest.mark.parametrize("max_radius", [None, 0.95])
def test_projection_in_any_dimension(
    dim: int, dtype: torch.dtype, max_radius: float | None
) -> None:
    g = torch.Generator().manual_seed(dim)
    x = torch.randn(2000, dim, generator=g, dtype=dtype) * 10 + 1e-3
    p = math.project(x, c=2.0, max_radius=max_radius)
    assert torch.equal(math.project(p, c=2.0, max_radius=max_radius), p)
    limit = 1.0 if max_radius is None else max_radius
    assert (p.norm(dim=-1) * 2.0**0.5).max().item() <= limit
    assert bool(math.dist0(p, c=2.0).isfinite().all())


def test_without_max_radius_points_reach_far() -> None:
    """Saturation distance: about 16 in float32 and 33 in float64, for c = 1."""
    for dtype, at_least in ((torch.float32, 15.5), (torch.float64, 33.0)):
        x = math.project(torch.ones(4, dtype=dtype), c=1.0)
        assert at_least < math.dist0(x, c=1.0).item() < at_least + 2.0


@laws
@given(DIRECTIONS, DIRECTIONS, DTYPES)
def test_flat_limit(a: list[float], b: list[float], dtype: torch.dtype) -> None:
    """As c -> 0: distance 2 |x - y|, Moebius addition +, exp + and log -, transport identity."""
    x = torch.tensor(a, dtype=dtype, requires_grad=True)
    y = torch.tensor(b, dtype=dtype, requires_grad=True)
    c = 1e-12
    flat = {"rtol": 1e-6, "atol": 1e-6}
    outputs = [
        math.dist(x, y, c=c),
        math.mobius_add(x, y, c=c),
        math.expmap(x, y, c=c),
        math.logmap(x, y, c=c),
        math.parallel_transport(x, y, y, c=c),
        math.geodesic(0.25, x, y, c=c),
    ]
    expected = [2 * (x - y).norm(), x + y, x + y, y - x, y, 0.75 * x + 0.25 * y]
    for got, want in zip(outputs, expected, strict=True):
        torch.testing.assert_close(got, want, **flat)
    assert_gradients_finite(x, y, outputs=outputs)


def test_pairwise_dist_is_dist_of_all_pairs() -> None:
    g = torch.Generator().manual_seed(0)
    x = math.expmap0(torch.randn(2, 5, 4, generator=g), c=0.7)
    y = torch.cat([x[:, :2], math.expmap0(torch.randn(2, 4, 4, generator=g), c=0.7)], dim=1)
    x.requires_grad_()
    got = math.pairwise_dist(x, y, c=0.7)
    torch.testing.assert_close(got, math.dist(x[:, :, None], y[:, None], c=0.7))
    assert bool((got[:, 0, 0] == 0.0).all())
    (ours,) = torch.autograd.grad(got.sum(), x)
    assert bool(ours.isfinite().all())
    (theirs,) = torch.autograd.grad(math.dist(x[:, :, None], y[:, None], c=0.7).sum(), x)
    torch.testing.assert_close(ours, theirs)
