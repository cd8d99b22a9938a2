"""The pure functions against 60-digit arithmetic.

Stated tolerances, relative (vectors: error norm over norm). float32: 1.2e-7, two half-ulps, at
every radius: the arithmetic is float64 and the result is rounded once. float64: coordinates are
rounded relative to 1, so at g = 1 - sqrt(c)|x| from the rim the unavoidable error is of the order
eps/g; 40 eps/g is asked for, and never more than 1e-10. Both ways of evaluation are measured, the
compiled programs and torch operations.
"""

from collections.abc import Callable

import mpmath as mp
import pytest
import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall, math, numerics
from tests.manifolds import oracle
from tests.manifolds.functions import by_programs_and_by_torch

NORMS = (1e-6, 1e-2, 0.5, 0.95, 0.99, 0.999, 1 - 1e-4, 1 - 1e-5)
COUNT = 4

# name -> (package function of tensors, oracle of exact vectors), both of (x, y, near, u, c)
CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., object]]] = {
    "dist": (
        lambda x, y, z, u, c: math.dist(x, y, c=c),
        lambda x, y, z, u, c: oracle.dist(x, y, c),
    ),
    "dist of near pairs": (
        lambda x, y, z, u, c: math.dist(x, z, c=c),
        lambda x, y, z, u, c: oracle.dist(x, z, c),
    ),
    "pairwise_dist": (
        lambda x, y, z, u, c: math.pairwise_dist(x, z, c=c).diagonal(),
        lambda x, y, z, u, c: oracle.dist(x, z, c),
    ),
    "dist0": (lambda x, y, z, u, c: math.dist0(x, c=c), lambda x, y, z, u, c: oracle.dist0(x, c)),
    "lambda_x": (
        lambda x, y, z, u, c: math.lambda_x(x, c=c),
        lambda x, y, z, u, c: oracle.conformal_factor(x, c),
    ),
    "expmap0": (
        lambda x, y, z, u, c: math.expmap0(u, c=c),
        lambda x, y, z, u, c: oracle.expmap0(u, c),
    ),
    "logmap0": (
        lambda x, y, z, u, c: math.logmap0(x, c=c),
        lambda x, y, z, u, c: oracle.logmap0(x, c),
    ),
    "mobius_add": (
        lambda x, y, z, u, c: math.mobius_add(x, y, c=c),
        lambda x, y, z, u, c: oracle.mobius_add(x, y, c),
    ),
    "mobius_sub of near pairs": (
        lambda x, y, z, u, c: math.mobius_sub(x, z, c=c),
        lambda x, y, z, u, c: oracle.mobius_add(x, oracle.scale(-1, z), c),
    ),
    "expmap": (
        lambda x, y, z, u, c: math.expmap(x, u, c=c),
        lambda x, y, z, u, c: oracle.expmap(x, u, c),
    ),
    "logmap": (
        lambda x, y, z, u, c: math.logmap(x, y, c=c),
        lambda x, y, z, u, c: oracle.logmap(x, y, c),
    ),
    "logmap of near pairs": (
        lambda x, y, z, u, c: math.logmap(x, z, c=c),
        lambda x, y, z, u, c: oracle.logmap(x, z, c),
    ),
    "gyration": (
        lambda x, y, z, u, c: math.gyration(x, y, u, c=c),
        lambda x, y, z, u, c: oracle.gyration(x, y, u, c),
    ),
    "gyration of near opposites": (
        lambda x, y, z, u, c: math.gyration(x, -z, u, c=c),
        lambda x, y, z, u, c: oracle.gyration(x, oracle.scale(-1, z), u, c),
    ),
}


def rounding(dtype: torch.dtype, gap: float) -> float:
    return 1.2e-7 if dtype == torch.float32 else min(40 * 2.2e-16 / gap, 1e-10)


def accuracy_check(name: str, dim: int, c: float, dtype: torch.dtype) -> None:
    ours, exactly = CASES[name]
    for norm in NORMS:
        gap = 1.0 - norm
        count = COUNT if dim < 100 else 1
        x = oracle.points(norm, count, dim, c, seed=1)
        y = oracle.points(norm, count, dim, c, seed=2)
        noise = oracle.points(1e-4 * min(gap, norm), count, dim, c, seed=3)
        u = oracle.points(0.3 * gap, count, dim, c, seed=4)
        args = [t.to(dtype) for t in (x, y, x + noise, u)]
        wanted = [exactly(*(oracle.exact(t[row]) for t in args), mp.mpf(c)) for row in range(count)]
        for got in by_programs_and_by_torch(lambda args=args: ours(*args, c)):
            assert got.dtype == dtype
            for row, want in enumerate(wanted):
                error = oracle.relative_error(got[row], want)
                assert error < rounding(dtype, gap), (norm, row, error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("dim", [2, 16, 128])
@pytest.mark.parametrize("name", CASES)
def test_relative_error(name: str, dim: int, c: float, dtype: torch.dtype) -> None:
    accuracy_check(name, dim, c, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("norm", [0.5, 0.95, 1 - 1e-4])
def test_expmap_from_the_rim_to_the_centre(norm: float, dtype: torch.dtype) -> None:
    """The tangent vector that leads from the rim almost to 0: the sum x (+) w has w near -x."""
    x = oracle.points(norm, COUNT, 16, 1.0, seed=5).to(dtype)
    u = (math.logmap(x, 0.01 * oracle.points(norm, COUNT, 16, 1.0, seed=6), c=1.0)).to(dtype)
    got = math.expmap(x, u, c=1.0)
    # A relative error of eps in x or u turns the direction by eps and moves the end, sinh(r) away.
    gap = 1.0 - norm
    tolerance = 1.2e-7 if dtype == torch.float32 else 40 * 2.2e-16 / gap**2
    for row in range(COUNT):
        want = oracle.expmap(oracle.exact(x[row]), oracle.exact(u[row]), mp.mpf(1))
        assert oracle.relative_error(got[row], want) < tolerance


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("dim", [2, 16, 128])
def test_methods_of_the_ball_at_the_rim(dim: int, c: float) -> None:
    """Results nearer to the rim than float32 reaches are moved inside, by less than 2.5e-7."""
    ball = PoincareBall(c)
    for norm in (0.95, 1 - 1e-4, 1 - 1e-5):
        x, y = (oracle.points(norm, 8, dim, c, seed=s).float() for s in (1, 2))
        u = oracle.points(0.9, 8, dim, c, seed=3).float()
        for method, second in (("mobius_add", y), ("expmap", u)):
            got = getattr(ball, method)(x, second)
            assert bool((ball.c.sqrt() * got.double().norm(dim=-1) < 1.0).all())
            for row in range(8):
                exactly = getattr(oracle, method)
                want = exactly(oracle.exact(x[row]), oracle.exact(second[row]), mp.mpf(c))
                assert oracle.relative_error(got[row], want) < 2.5e-7, (norm, method)


@pytest.mark.parametrize("r", [-2.0, -0.5, 0.0, 1e-9, 0.5, 1.0, 3.0])
def test_mobius_scalar_mul(r: float) -> None:
    for norm in NORMS[:4]:
        x = oracle.points(norm, 2, 16, 4.0, seed=7)
        got = math.mobius_scalar_mul(r, x, c=4.0)
        for row in range(2):
            xe = oracle.exact(x[row])
            s = 2 * oracle.length(xe)
            want = oracle.scale(mp.tanh(mp.mpf(r) * mp.atanh(s)) / s, xe)
            assert oracle.relative_error(got[row], want) < 40 * 2.2e-16 / (1 - norm)
    assert torch.equal(
        math.mobius_scalar_mul(torch.tensor([r], dtype=torch.float64), x, c=4.0),
        math.mobius_scalar_mul(r, x, c=4.0),
    )


@pytest.mark.parametrize("norm", [1e-6, 0.5, 0.95, 1 - 1e-4])
def test_transport_is_the_textbook_one(norm: float) -> None:
    """``lambda_x / lambda_y gyr[y, -x] v``, with gyr composed of four Moebius additions."""
    c = 0.5
    x, y = (oracle.points(norm, 2, 5, c, seed=s) for s in (8, 9))
    v = oracle.points(0.1 * (1 - norm), 2, 5, c, seed=10)
    got = math.parallel_transport(x, y, v, c=c)
    for row in range(2):
        xe, ye, ve = (oracle.exact(t[row]) for t in (x, y, v))
        ratio = oracle.conformal_factor(xe, mp.mpf(c)) / oracle.conformal_factor(ye, mp.mpf(c))
        turned = oracle.gyration(ye, oracle.scale(-1, xe), ve, mp.mpf(c))
        want = oracle.scale(ratio, turned)
        assert oracle.relative_error(got[row], want) < 40 * 2.2e-16 / (1 - norm)


@pytest.mark.parametrize("z", [0.0, 1e-160, 1e-12, 1e-3, 0.29999, 0.3, 0.4, 1.0, 30.0, 1e3, 1e5])
def test_log_sinh_ratio_and_its_derivative(z: float) -> None:
    t = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    out = numerics.log_sinh_ratio(t)
    (slope,) = torch.autograd.grad(out, t)
    if z == 0.0:
        assert out.item() == 0.0 and slope.item() == 0.0
        return
    with mp.workdps(400):
        want = mp.log(mp.sinh(mp.mpf(z)) / mp.mpf(z))
        want_slope = mp.coth(mp.mpf(z)) - 1 / mp.mpf(z)
    assert out.item() == pytest.approx(float(want), rel=1e-14, abs=1e-300)
    assert slope.item() == pytest.approx(float(want_slope), rel=1e-13)


@pytest.mark.parametrize("z", [0.0, 1e-12, 0.1, 5.0, 40.0, 1e3])
def test_sech_squared(z: float) -> None:
    got = numerics.sech_squared(torch.tensor(z, dtype=torch.float64)).item()
    assert got == pytest.approx(float(mp.sech(mp.mpf(z)) ** 2), rel=1e-14, abs=1e-300)
