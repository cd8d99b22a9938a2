"""Functions with a longer textbook formula against that formula in 60-digit arithmetic.

Stated tolerances, relative (vectors: error norm over norm), at ``g = 1 - sqrt(c)|x|`` from the rim:
float32 1.2e-7, as everywhere, and float64 40 eps/g, unless a test says otherwise.
"""

from collections.abc import Callable

import mpmath as mp
import pytest
import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall, math
from tests.manifolds import oracle
from tests.manifolds.functions import by_programs_and_by_torch
from tests.manifolds.oracle import Vector

NORMS = (1e-6, 1e-2, 0.5, 0.95, 0.999, 1 - 1e-4, 1 - 1e-5)
EPS = 2.2e-16


def scalar_mul(r: mp.mpf, x: Vector, c: mp.mpf) -> Vector:
    s = mp.sqrt(c) * oracle.length(x)
    return x if s == 0 else oracle.scale(mp.tanh(r * mp.atanh(s)) / s, x)


def geodesic(t: mp.mpf, x: Vector, y: Vector, c: mp.mpf) -> Vector:
    minus_x_plus_y = oracle.mobius_add(oracle.scale(-1, x), y, c)
    return oracle.mobius_add(x, scalar_mul(t, minus_x_plus_y, c), c)


def signed_dist2plane(x: Vector, p: Vector, a: Vector, c: mp.mpf) -> mp.mpf:
    w = oracle.mobius_add(oracle.scale(-1, p), x, c)
    bottom = (1 - c * oracle.dot(w, w)) * oracle.length(a)
    return mp.asinh(2 * mp.sqrt(c) * oracle.dot(w, a) / bottom) / mp.sqrt(c)


def transport(x: Vector, y: Vector, v: Vector, c: mp.mpf) -> Vector:
    ratio = oracle.conformal_factor(x, c) / oracle.conformal_factor(y, c)
    return oracle.scale(ratio, oracle.gyration(y, oracle.scale(-1, x), v, c))


def matvec(matrix: list[Vector], x: Vector, c: mp.mpf) -> Vector:
    u = oracle.logmap0(x, c)
    return oracle.expmap0([oracle.dot(row, u) for row in matrix], c)


def weighted_midpoint(points: list[Vector], weights: Vector, c: mp.mpf) -> Vector:
    factors = [oracle.conformal_factor(x, c) for x in points]
    bottom = mp.fsum(w * (f - 1) for w, f in zip(weights, factors, strict=True))
    mean = [
        mp.fsum(w * f * x[k] for w, f, x in zip(weights, factors, points, strict=True)) / bottom
        for k in range(len(points[0]))
    ]
    return scalar_mul(mp.mpf(1) / 2, mean, c)


Check = tuple[Callable[..., Tensor], Callable[..., object]]

# name -> (package function, oracle), both of (x, y, v, c)
CASES: dict[str, Check] = {
    "midpoint": (
        lambda x, y, v, c: math.midpoint(x, y, c=c),
        lambda x, y, v, c: geodesic(mp.mpf(1) / 2, x, y, c),
    ),
    "geodesic": (
        lambda x, y, v, c: math.geodesic(0.25, x, y, c=c),
        lambda x, y, v, c: geodesic(mp.mpf(1) / 4, x, y, c),
    ),
    "parallel_transport": (
        lambda x, y, v, c: math.parallel_transport(x, y, v, c=c),
        transport,
    ),
    "parallel_transport0": (
        lambda x, y, v, c: math.parallel_transport0(y, v, c=c),
        lambda x, y, v, c: oracle.scale(2 / oracle.conformal_factor(y, c), v),
    ),
    "parallel_transport0back": (
        lambda x, y, v, c: math.parallel_transport0back(y, v, c=c),
        lambda x, y, v, c: oracle.scale(oracle.conformal_factor(y, c) / 2, v),
    ),
    "norm": (
        lambda x, y, v, c: math.norm(x, v, c=c),
        lambda x, y, v, c: oracle.conformal_factor(x, c) * oracle.length(v),
    ),
    "inner": (
        lambda x, y, v, c: math.inner(x, v, v, c=c),
        lambda x, y, v, c: oracle.conformal_factor(x, c) ** 2 * oracle.dot(v, v),
    ),
    "egrad2rgrad": (
        lambda x, y, v, c: math.egrad2rgrad(x, v, c=c),
        lambda x, y, v, c: oracle.scale(1 / oracle.conformal_factor(x, c) ** 2, v),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("dim", [2, 16, 128])
@pytest.mark.parametrize("name", CASES)
def test_relative_error(name: str, dim: int, c: float, dtype: torch.dtype) -> None:
    ours, exactly = CASES[name]
    for norm in NORMS:
        gap = 1.0 - norm
        x, y = (oracle.points(norm, 2, dim, c, seed=s).to(dtype) for s in (1, 2))
        v = oracle.points(0.3 * gap, 2, dim, c, seed=4).to(dtype)
        tolerance = 1.2e-7 if dtype == torch.float32 else 40 * EPS / gap
        wanted = [
            exactly(*(oracle.exact(t[row]) for t in (x, y, v)), mp.mpf(c)) for row in range(2)
        ]
        for got in by_programs_and_by_torch(lambda args=(x, y, v): ours(*args, c=c)):
            assert got.dtype == dtype
            for row, want in enumerate(wanted):
                error = oracle.relative_error(got[row], want)
                assert error < tolerance, (norm, row, error)


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("dim", [2, 16, 128])
def test_dist2plane(dim: int, c: float) -> None:
    """The offset from the plane is a difference: it is rounded relative to the distance to p."""
    for norm in NORMS:
        x, p = (oracle.points(norm, 2, dim, c, seed=s) for s in (1, 2))
        a = oracle.points(1.0, 2, dim, 1.0, seed=3)
        for got in by_programs_and_by_torch(
            lambda x=x, p=p, a=a: math.dist2plane(x, p, a, c=c, signed=True)
        ):
            for row in range(2):
                exact = [oracle.exact(t[row]) for t in (x, p, a)]
                error = abs(float(mp.mpf(got[row].item()) - signed_dist2plane(*exact, mp.mpf(c))))
                distance = float(oracle.dist(*exact[:2], mp.mpf(c)))
                assert error < 40 * EPS / (1 - norm) * distance, (norm, row)


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("dim", [2, 16])
@pytest.mark.parametrize("n_points", [1, 2, 3, 20])
def test_weighted_midpoint(n_points: int, dim: int, c: float) -> None:
    """Relative to the largest of the points: the mean of points around the origin cancels."""
    for norm in NORMS:
        for weighted in (False, True):
            x = oracle.points(norm, n_points, dim, c, seed=5)
            x = x * torch.linspace(0.5, 1.0, n_points, dtype=torch.float64)[:, None]
            g = torch.Generator().manual_seed(6)
            w = 0.1 + torch.rand(n_points, dtype=torch.float64, generator=g)
            w = w if weighted else torch.ones_like(w)
            points = [oracle.exact(row) for row in x]
            want = weighted_midpoint(points, oracle.exact(w), mp.mpf(c))
            for got in by_programs_and_by_torch(
                lambda x=x, w=w, k=weighted: math.weighted_midpoint(x, w if k else None, c=c)
            ):
                error = [a - b for a, b in zip(oracle.exact(got), want, strict=True)]
                size = x.norm(dim=-1).max().item()
                relative = float(oracle.length(error)) / size
                assert relative < 40 * EPS / (1 - norm), (norm, weighted)


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(2, 2), (3, 16), (128, 128)], ids=str)
def test_mobius_matvec(shape: tuple[int, int], c: float) -> None:
    """A sum of ``d`` products in float64 in between costs a few more roundings."""
    g = torch.Generator().manual_seed(7)
    matrix = torch.randn(shape, dtype=torch.float64, generator=g) / shape[1] ** 0.5
    rows = [oracle.exact(row) for row in matrix]
    for norm in NORMS:
        x = oracle.points(norm, 2, shape[1], c, seed=1)
        for got in by_programs_and_by_torch(lambda x=x: math.mobius_matvec(matrix, x, c=c)):
            for row in range(2):
                want = matvec(rows, oracle.exact(x[row]), mp.mpf(c))
                assert oracle.relative_error(got[row], want) < 200 * EPS / (1 - norm), norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("learnable", [False, True])
def test_points_of_the_open_ball_are_not_clipped(learnable: bool, dtype: torch.dtype) -> None:
    """With ``max_radius=None`` the methods give the formula's points bit for bit."""
    for c in (0.1, 1.0, 4.0):
        ball = PoincareBall(c, learnable=learnable)
        for norm in (1e-6, 0.95, 0.999, 1 - 1e-5):
            x, y = (oracle.points(norm, 5, 16, c, seed=s).to(dtype) for s in (1, 2))
            u = ball.logmap(x, y).detach()
            near = y * 1e-3
            pairs = {
                "projx": (ball.projx(x), x),
                "expmap": (ball.expmap(x, u), math.expmap(x, u, c=c)),
                "retr": (ball.retr(x, u), math.expmap(x, u, c=c)),
                "expmap0": (ball.expmap0(ball.logmap0(x)), x),
                "geodesic": (ball.geodesic(0.5, x, y), math.geodesic(0.5, x, y, c=c)),
                "mobius_add": (
                    ball.mobius_add(x, near * (1 - norm)),
                    math.mobius_add(x, near * (1 - norm), c=c),
                ),
                "mobius_sub": (ball.mobius_sub(x, x), torch.zeros_like(x)),
                "mobius_scalar_mul": (ball.mobius_scalar_mul(1.0, x), x),
                "mobius_pointwise_mul": (ball.mobius_pointwise_mul(torch.ones_like(x), x), x),
                "mobius_matvec": (ball.mobius_matvec(torch.eye(16, dtype=dtype), x), x),
                "weighted_midpoint": (
                    ball.weighted_midpoint(torch.stack([x, y]), reducedim=[0]),
                    math.weighted_midpoint(torch.stack([x, y]), reducedim=[0], c=c),
                ),
                "sproj": (ball.sproj(ball.inv_sproj(x)), x),
            }
            for name, (got, want) in pairs.items():
                slack = 64 * torch.finfo(dtype).eps
                assert (got - want).norm() <= slack * want.norm(), (name, norm)
                if want is not x and not learnable:
                    assert torch.equal(got, want), (name, norm)
            assert torch.equal(ball.projx(x), x)
