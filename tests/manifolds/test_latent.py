"""Samples and densities in one operation, against their definitions and the wrapped normal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from ternvae.manifolds import PoincareBall, WrappedNormal, numerics, programs
from ternvae.manifolds.latent import LatentSample, latent_sample, polar_point, radius_at
from tests.manifolds import oracle

# PyTorch's own: dynamo makes an instance of each autograd function that it traces, and the forward
# mode of torch.func scripts functions of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]

needs_programs = pytest.mark.skipif(
    not programs.available(), reason="the extension _tiles was not compiled"
)
CURVATURES = [0.1, 1.0, 4.0]
WIDTHS = [2, 16, 33]
#: What the prior is centred at: the origin, other points, or the very samples.
CENTRES = ["origin", "given", "sample"]
MAX_RADIUS = 0.95

Rows = dict[str, Tensor]


@pytest.fixture(
    params=[
        pytest.param(True, id="programs", marks=needs_programs),
        pytest.param(False, id="torch"),
    ]
)
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extension and without it."""
    if not request.param:
        monkeypatch.setattr(programs, "_tiles", None)


either_way = pytest.mark.usefixtures("_either_way")


def ball_of(c: float, max_radius: float | None = MAX_RADIUS, learnable: bool = False) -> Any:
    return PoincareBall(c=c, max_radius=max_radius, learnable=learnable)


def rows_of(
    c: float,
    width: int,
    centre: str = "origin",
    *,
    count: int = 5,
    scale: float = 0.3,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Rows:
    """Arguments of :func:`latent_sample`; radii from near the origin to near ``max_radius``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    most = 2 / math.sqrt(c) * math.atanh(MAX_RADIUS)
    rows = {
        "direction": 3 * normal(count, width),
        "radius": most * torch.linspace(0.05, 0.8, count, dtype=torch.float64),
        "log_scale": math.log(scale) + 0.2 * normal(count, width),
        # Hyperbolic lengths for which the sample is inside, mostly.
        "noise": normal(count, width) / math.sqrt(c * width),
    }
    rows = {name: each.to(dtype) for name, each in rows.items()}
    if centre == "given":
        away = normal(count, width)
        rows["centre"] = (0.4 / math.sqrt(c) * away / away.norm(dim=-1, keepdim=True)).to(dtype)
    elif centre == "sample":
        sample = latent_sample(ball_of(c), **rows)
        rows["centre"] = ball_of(c).expmap0(sample.tangent)
    return rows


# --- the definitions ------------------------------------------------------------------------


def inside(x: oracle.Vector, c: mp.mpf, max_radius: float) -> oracle.Vector:
    """The point, or the one in its direction at ``max_radius``."""
    norm, most = oracle.length(x), mp.mpf(max_radius) / mp.sqrt(c)
    return x if norm <= most else oracle.scale(most / norm, x)


def log_stretch(s: mp.mpf, width: int, c: mp.mpf) -> mp.mpf:
    """log of the volume that the exponential map makes of a unit at distance s (Nagano, eq. 8)."""
    t = mp.sqrt(c) * s
    return mp.mpf(0) if t == 0 else (width - 1) * mp.log(mp.sinh(t) / t)


def defined(c: float, max_radius: float, row: dict[str, oracle.Vector]) -> dict[str, Any]:
    """One row by algorithm 1 and equation 8 of Nagano et al. 2019, in 60 digits."""
    k = mp.mpf(c)
    direction, (radius,) = row["direction"], row["radius"]
    width = len(direction)
    unit = oracle.scale(1 / oracle.length(direction), direction)
    mu = inside(oracle.expmap0(oracle.scale(radius / 2, unit), k), k, max_radius)
    scales = [mp.exp(s) for s in row["log_scale"]]
    v = [s * e for s, e in zip(scales, row["noise"], strict=True)]
    # Of a tangent vector at mu the hyperbolic length is that of its coordinates times lambda.
    z = oracle.expmap(mu, oracle.scale(1 / oracle.conformal_factor(mu, k), v), k)
    centre = row.get("centre", [mp.mpf(0)] * width)
    away = oracle.dist(centre, z, k)
    constant = mp.mpf(width) / 2 * mp.log(2 * mp.pi)
    gauss = [-(e**2) / 2 - s for e, s in zip(row["noise"], row["log_scale"], strict=True)]
    return {
        "points": mu,
        "tangent": oracle.logmap0(inside(z, k, max_radius), k),
        "posterior_log_prob": mp.fsum(gauss) - constant - log_stretch(oracle.length(v), width, k),
        "prior_log_prob": -(away**2) / 2 - constant - log_stretch(away, width, k),
    }


def assert_defined(c: float, rows: Rows, tolerance: float, max_radius: float = MAX_RADIUS) -> None:
    """Every row is what the definitions make of the exact values of the inputs."""
    found = latent_sample(ball_of(c, max_radius), **rows)
    for k in range(len(rows["radius"])):
        row = {name: oracle.exact(each[k].reshape(-1)) for name, each in rows.items()}
        for name, want in defined(c, max_radius, row).items():
            got = getattr(found, name)[k]
            assert got.dtype == rows["direction"].dtype
            if isinstance(want, list):
                assert oracle.relative_error(got, want) < tolerance, (name, k)
            else:
                # A density is a sum of terms that may cancel; each is at least of order one.
                error = abs(mp.mpf(float(got)) - want) / (len(rows["direction"][k]) + abs(want))
                assert error < tolerance, (name, k)


@either_way
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("c", CURVATURES)
def test_values_are_those_of_the_definitions(c: float, width: int, centre: str) -> None:
    rows = rows_of(c, width, centre)
    assert_defined(c, rows, 1e-13)
    assert_defined(c, {name: each.float() for name, each in rows.items()}, 2e-6)


@either_way
@pytest.mark.parametrize(("scale", "tolerance"), [(1e-5, 1e-13), (math.e, 1e-10), (8.0, 1e-6)])
@pytest.mark.parametrize("centre", CENTRES)
def test_values_are_those_of_the_definitions_at_extreme_scales(
    scale: float, tolerance: float, centre: str
) -> None:
    """The samples of the large ones are far outside ``max_radius``.

    There 1 - |z|^2 is what rounding has left of it.
    """
    assert_defined(1.0, rows_of(1.0, 4, centre, scale=scale), tolerance)


@either_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_radius", [0.3, 0.95, 0.9999])
@pytest.mark.parametrize("c", CURVATURES)
def test_what_is_beyond_max_radius_is_moved_inside(
    c: float, max_radius: float, dtype: torch.dtype
) -> None:
    ball = ball_of(c, max_radius)
    rows = rows_of(c, 6, dtype=dtype, scale=10.0, count=64)
    most = radius_at(ball, 1.0)
    rows["radius"] = most * torch.linspace(0.0, 3.0, 64, dtype=dtype)
    found = latent_sample(ball, **rows)
    for points in (found.points, ball.expmap0(found.tangent), polar_point(ball, *first(rows))):
        share = math.sqrt(c) * points.double().norm(dim=-1)
        assert float(share.max()) <= max_radius
        assert float(share.max()) == pytest.approx(max_radius, rel=1e-5)
    assert all(bool(each.isfinite().all()) for each in found)


def first(rows: Rows) -> tuple[Tensor, Tensor]:
    return rows["direction"], rows["radius"]


@either_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("c", CURVATURES)
def test_a_polar_point_is_that_far_in_that_direction(
    c: float, width: int, dtype: torch.dtype
) -> None:
    direction, radius = first(rows_of(c, width, dtype=dtype))
    ball = ball_of(c)
    for length in (1e-10, 1.0, 1e10):
        points = polar_point(ball, direction * length, radius)
        for k, point in enumerate(points):
            want = oracle.exact(radius[k].reshape(1))[0]
            distance = oracle.dist0(oracle.exact(point), mp.mpf(c))
            tolerance = 64 * torch.finfo(dtype).eps * math.cosh(float(radius[k]) * math.sqrt(c))
            assert abs(distance - want) < tolerance * want
        cosine = torch.cosine_similarity(points.double(), direction.double(), dim=-1)
        assert float(cosine.min()) > 1 - 1e-6
    # Without a limit as well, and with any number of dimensions.
    free = polar_point(ball_of(c, None), direction, radius)
    torch.testing.assert_close(free, polar_point(ball, direction, radius))
    stacked = polar_point(ball, direction.expand(2, 3, *direction.shape), radius.expand(2, 3, -1))
    torch.testing.assert_close(stacked[1, 2], polar_point(ball, direction, radius))


@pytest.mark.parametrize("learnable", [False, True])
def test_radii_are_shares_of_the_largest_in_use(learnable: bool) -> None:
    for c in CURVATURES:
        ball = ball_of(c, 0.9, learnable)
        most = 2 / math.sqrt(c) * math.atanh(0.9)
        assert float(ball.hyperbolic_radius_max.detach()) == pytest.approx(most, rel=1e-14)
        assert radius_at(ball, 0.25) == pytest.approx(0.25 * most, rel=1e-14)
        for dtype in (torch.float32, torch.float64):
            share = torch.rand(2, 3, dtype=dtype)
            found = radius_at(ball, share)
            assert found.dtype == dtype and found.requires_grad is learnable
            torch.testing.assert_close(found.detach(), share * most)


# --- the wrapped normal ---------------------------------------------------------------------


@either_way
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("centre", ["origin", "given"])
@pytest.mark.parametrize("c", CURVATURES)
def test_draws_and_densities_are_those_of_the_wrapped_normal(
    c: float, centre: str, width: int
) -> None:
    ball, rows = ball_of(c), rows_of(c, width, centre)
    law = WrappedNormal(polar_point(ball, *first(rows)), rows["log_scale"].exp(), ball)
    torch.manual_seed(3)
    sample, log_prob = law.rsample_with_log_prob()
    torch.manual_seed(3)
    rows["noise"] = torch.randn(sample.shape, dtype=sample.dtype)
    found = latent_sample(ball, **rows)
    at = rows.get("centre", torch.zeros_like(sample))
    prior = WrappedNormal(at, torch.ones_like(at), ball)
    wanted = LatentSample(
        law.loc, ball.logmap0(ball.projx(sample)), log_prob, prior.log_prob(sample)
    )
    # A density of a point near the rim depends on digits that the point does not have.
    for got, want, close in zip(found, wanted, (1e-12, 1e-12, 1e-10, 1e-7), strict=True):
        torch.testing.assert_close(got, want, rtol=close, atol=close)


@pytest.mark.parametrize("c", CURVATURES)
def test_the_posterior_is_a_density(c: float) -> None:
    """Over the ball of two dimensions it integrates to one, by quadrature along the noise.

    The mean of prior / posterior over samples of the posterior is the integral of the prior, and so
    one as well; at a scale above that of the prior its variance is finite.
    """
    count, width = 40_000, 2
    rows = {
        "direction": torch.tensor([[1.0, 2.0]], dtype=torch.float64).expand(count, -1),
        "radius": torch.full((count,), 0.3 / math.sqrt(c), dtype=torch.float64),
        "log_scale": torch.full((count, width), math.log(1.5), dtype=torch.float64),
        "noise": torch.randn(
            (count, width), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        ),
    }
    found = latent_sample(ball_of(c, 0.999), **rows)
    ratio = (found.prior_log_prob - found.posterior_log_prob).exp()
    error = float(ratio.std()) / math.sqrt(count)
    assert abs(float(ratio.mean()) - 1) < 5 * error
    assert error < 0.02


# --- gradients ------------------------------------------------------------------------------


def leaves(rows: Rows) -> list[Tensor]:
    return [each.detach().clone().requires_grad_() for each in rows.values()]


@either_way
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("c", CURVATURES)
def test_gradients_equal_finite_differences(c: float, width: int, centre: str) -> None:
    ball, rows = ball_of(c), rows_of(c, width, centre, count=3)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(latent_sample(ball, **dict(zip(rows, tensors, strict=True))))

    assert gradcheck(function, leaves(rows))
    assert gradcheck(lambda a, r: polar_point(ball, a, r), leaves(rows)[:2])


@either_way
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("c", CURVATURES)
def test_a_learned_curvature_gets_its_gradient(c: float, centre: str) -> None:
    ball, rows = ball_of(c, learnable=True), rows_of(c, 3, centre, count=3)
    start = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def function(ratio: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ball._parameters["log_c_ratio"] = ratio  # type: ignore[assignment]
        arguments = dict(zip(rows, tensors, strict=True))
        # The radii move with the curvature, as those of the model do.
        arguments["radius"] = radius_at(ball, arguments["radius"] / radius_at(ball_of(c), 1.0))
        return tuple(latent_sample(ball, **arguments))

    assert gradcheck(function, [start, *leaves(rows)])


@either_way
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("c", CURVATURES)
def test_float32_gradients_agree_with_float64(c: float, centre: str, width: int) -> None:
    rows = {name: each.float() for name, each in rows_of(c, width, centre, count=40).items()}
    generator = torch.Generator().manual_seed(5)
    ball = ball_of(c)

    def gradients(dtype: torch.dtype) -> tuple[Tensor, ...]:
        inputs = leaves({name: each.to(dtype) for name, each in rows.items()})
        generator.manual_seed(5)
        found = latent_sample(ball, **dict(zip(rows, inputs, strict=True)))
        weights = [torch.randn(t.shape, dtype=torch.float64, generator=generator) for t in found]
        total = sum((w.to(dtype) * t).sum() for w, t in zip(weights, found, strict=True))
        return torch.autograd.grad(total, inputs)

    for narrow, wide in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        assert narrow.dtype == torch.float32
        # By rows: a large gradient of one must not hide a wrong one of another.  Where the centre
        # is the sample, the slope of the distance between them vanishes.
        error = (narrow.double() - wide).reshape(40, -1).norm(dim=-1)
        size = wide.reshape(40, -1).norm(dim=-1) + (centre == "sample")
        assert float((error / size).max()) < 2e-5


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    ball, rows = ball_of(1.0), rows_of(1.0, 4, "given")
    whole = leaves(rows)
    everything = latent_sample(ball, **dict(zip(rows, whole, strict=True)))
    want = torch.autograd.grad(sum(t.sum() for t in everything), whole)
    for k, name in enumerate(rows):
        single = {**rows, name: rows[name].clone().requires_grad_()}
        found = latent_sample(ball, **single)
        assert all(t.requires_grad for t in found[1:])
        (got,) = torch.autograd.grad(sum(t.sum() for t in found if t.requires_grad), single[name])
        torch.testing.assert_close(got, want[k], rtol=1e-12, atol=1e-12)
    # Of each output alone, too: the others have no gradient to give.
    for k in range(len(everything)):
        found = latent_sample(ball, **dict(zip(rows, whole, strict=True)))
        alone = torch.autograd.grad(found[k].sum(), whole, allow_unused=True)
        assert all(g is None or bool(g.isfinite().all()) for g in alone)


def test_a_change_between_the_passes_is_noticed() -> None:
    rows = rows_of(1.0, 4)
    inputs = dict(zip(rows, leaves(rows), strict=True))
    # Leaves are changed by optimizers, which a graph must not survive unseen.
    found = latent_sample(ball_of(1.0), **inputs)
    with torch.no_grad():
        inputs["direction"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.tangent.sum().backward()


@either_way
def test_layouts_make_no_difference() -> None:
    """Columns, slices and expanded rows: an encoder gives parts of one matrix."""
    ball, rows = ball_of(0.7), rows_of(0.7, 4, "given")
    want = latent_sample(ball, **rows)
    strided = {name: each.mT.contiguous().mT for name, each in rows.items() if each.ndim == 2}
    whole = torch.cat([rows[name] for name in ("direction", "log_scale", "noise")], dim=1)
    parts = dict(zip(("direction", "log_scale", "noise"), whole.split(4, dim=1), strict=True))
    stretched = torch.stack([rows["radius"]] * 3, dim=1)[:, 1]
    for other in ({**rows, **strided}, {**rows, **parts}, {**rows, "radius": stretched}):
        inputs = {name: each.detach().requires_grad_() for name, each in other.items()}
        found = latent_sample(ball, **inputs)
        for got, wanted in zip(found, want, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-14, atol=1e-14)
        sum(t.sum() for t in found).backward()
        assert all(t.grad is not None and t.grad.shape == t.shape for t in inputs.values())


def test_no_rows() -> None:
    for dtype in (torch.float32, torch.float64):
        empty = {name: each[:0] for name, each in rows_of(1.0, 4, "given", dtype=dtype).items()}
        inputs = {name: each.clone().requires_grad_() for name, each in empty.items()}
        found = latent_sample(ball_of(1.0), **inputs)
        assert [tuple(t.shape) for t in found] == [(0, 4), (0, 4), (0,), (0,)]
        sum(t.sum() for t in found).backward()
        assert polar_point(ball_of(1.0), *first(inputs)).shape == (0, 4)


# --- extremes -------------------------------------------------------------------------------


EXTREMES: dict[str, Callable[[Rows], Rows]] = {
    "at the origin": lambda r: {**r, "radius": torch.zeros_like(r["radius"])},
    "at max_radius": lambda r: {
        **r,
        "radius": torch.full_like(r["radius"], 2 * math.atanh(MAX_RADIUS)),
    },
    "far beyond it": lambda r: {**r, "radius": torch.full_like(r["radius"], 200.0)},
    "no noise": lambda r: {**r, "noise": torch.zeros_like(r["noise"])},
    "huge noise": lambda r: {**r, "noise": 1e3 * r["noise"]},
    "tiny scale": lambda r: {**r, "log_scale": torch.full_like(r["log_scale"], math.log(1e-5))},
    "large scale": lambda r: {**r, "log_scale": torch.full_like(r["log_scale"], 3.0)},
    "short directions": lambda r: {**r, "direction": 1e-12 * r["direction"]},
    "long directions": lambda r: {**r, "direction": 1e12 * r["direction"]},
    "no direction": lambda r: {**r, "direction": torch.zeros_like(r["direction"])},
    "centre at the point": lambda r: {
        **r,
        "noise": torch.zeros_like(r["noise"]),
        "centre": polar_point(ball_of(1.0), r["direction"], r["radius"]),
    },
    "centre at max_radius": lambda r: {
        **r,
        "centre": polar_point(ball_of(1.0), r["noise"], torch.full_like(r["radius"], 9.0)),
    },
    "centre at the origin": lambda r: {**r, "centre": torch.zeros_like(r["noise"])},
}


@either_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_values_and_gradients_are_finite(name: str, dtype: torch.dtype) -> None:
    rows = EXTREMES[name](rows_of(1.0, 5, dtype=dtype))
    inputs = leaves(rows)
    found = latent_sample(ball_of(1.0), **dict(zip(rows, inputs, strict=True)))
    oracle.assert_gradients_finite(*inputs, outputs=list(found))


@either_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_origin_as_a_centre_is_the_origin(dtype: torch.dtype) -> None:
    rows = rows_of(0.5, 7, dtype=dtype)
    eps = 200 * torch.finfo(dtype).eps
    origin = torch.zeros_like(rows["noise"])
    for got, want in zip(
        latent_sample(ball_of(0.5), **rows, centre=origin),
        latent_sample(ball_of(0.5), **rows),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=eps, atol=eps)


def test_not_a_number_stays_none() -> None:
    for name in ("direction", "radius", "log_scale", "noise", "centre"):
        rows = rows_of(1.0, 4, "given", dtype=torch.float32)
        rows[name].view(-1)[-1] = math.nan
        found = latent_sample(ball_of(1.0), **rows)
        assert bool(found.prior_log_prob[-1].isnan()), name
        assert all(bool(t[:-1].isfinite().all()) for t in found), name


# --- other ways to run it -------------------------------------------------------------------


@pytest.mark.parametrize("centre", ["origin", "given"])
@pytest.mark.parametrize("learnable", [False, True])
def test_it_compiles_as_one_graph(centre: str, learnable: bool) -> None:
    torch._dynamo.reset()
    ball, rows = ball_of(0.6, learnable=learnable), rows_of(0.6, 4, centre)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(latent_sample(ball, **dict(zip(rows, tensors, strict=True))))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    one, other = leaves(rows), leaves(rows)
    found, want = compiled(*one), function(*other)
    for got, wanted in zip(found, want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    gradients = (
        torch.autograd.grad(sum(t.sum() for t in outputs), inputs)
        for outputs, inputs in ((found, one), (want, other))
    )
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    torch._dynamo.reset()


@pytest.mark.parametrize("centre", ["origin", "given"])
def test_function_transforms(centre: str) -> None:
    ball, rows = ball_of(0.6), rows_of(0.6, 4, centre, count=6)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(latent_sample(ball, **dict(zip(rows, tensors, strict=True))))

    want = function(*rows.values())
    batches = [t.reshape(2, 3, *t.shape[1:]) for t in rows.values()]
    for got, wanted in zip(torch.func.vmap(function)(*batches), want, strict=True):
        torch.testing.assert_close(got.flatten(0, 1), wanted, rtol=1e-12, atol=1e-12)

    def total(*tensors: Tensor) -> Tensor:
        return torch.stack([t.sum() for t in function(*tensors)]).sum()

    inputs = leaves(rows)
    expected = torch.autograd.grad(total(*inputs), inputs)
    every = tuple(range(len(inputs)))
    for got, wanted in zip(
        torch.func.grad(total, argnums=every)(*rows.values()), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    tangents = tuple(torch.ones_like(t) for t in rows.values())
    _, slope = torch.func.jvp(total, tuple(rows.values()), tangents)
    assert float(slope) == pytest.approx(sum(float(g.sum()) for g in expected), rel=1e-9)


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    rows = rows_of(1.0, 4)
    inputs = leaves(rows)
    found = latent_sample(ball_of(1.0), **dict(zip(rows, inputs, strict=True)))
    with pytest.raises(RuntimeError, match="a first derivative only"):
        torch.autograd.grad(found.tangent.sum(), inputs[0], create_graph=True)


# --- what does not fit ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "error", "told"),
    [
        ("direction", lambda t: t.half(), TypeError, "float16"),
        ("noise", lambda t: t.long(), TypeError, "int64"),
        ("log_scale", lambda t: t.tolist(), TypeError, "list"),
        ("radius", lambda t: 1.0, TypeError, "float"),
        ("radius", lambda t: t[:-1], ValueError, r"\(4,\)"),
        ("radius", lambda t: t.unsqueeze(1), ValueError, r"\(5, 1\)"),
        ("direction", lambda t: t[0], ValueError, r"\(4,\)"),
        ("direction", lambda t: t.unsqueeze(0), ValueError, r"\(1, 5, 4\)"),
        ("noise", lambda t: t[:1], ValueError, r"\(1, 4\)"),
        ("noise", lambda t: t[:, :3], ValueError, r"\(5, 3\)"),
        ("centre", lambda t: t[:-1], ValueError, r"\(4, 4\)"),
        ("centre", lambda t: t.to("meta"), ValueError, "meta"),
        ("radius", lambda t: t.to("meta"), ValueError, "meta"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, change: Callable[[Tensor], Any], error: type[Exception], told: str
) -> None:
    rows: dict[str, Any] = rows_of(1.0, 4, "given")
    rows[name] = change(rows[name])
    with pytest.raises(error, match=told):
        latent_sample(ball_of(1.0), **rows)


@pytest.mark.parametrize(
    ("direction", "radius", "error", "told"),
    [
        (torch.ones(5, 4).half(), torch.ones(5), TypeError, "float16"),
        (torch.ones(5, 4), torch.ones(5).long(), TypeError, "int64"),
        (torch.ones(5, 4), 1.0, TypeError, "float"),
        (torch.ones(5, 4), torch.ones(4), ValueError, r"\(4,\)"),
        (torch.ones(5, 4), torch.ones(5, 1), ValueError, r"\(5, 1\)"),
        (torch.ones(5, 4), torch.ones(5, device="meta"), ValueError, "meta"),
        (torch.ones(()), torch.ones(()), ValueError, r"\(\)"),
    ],
)
def test_what_is_no_polar_point_is_refused(
    direction: Tensor, radius: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        polar_point(ball_of(1.0), direction, radius)


def test_a_ball_without_max_radius_has_no_samples() -> None:
    with pytest.raises(ValueError, match="max_radius"):
        latent_sample(ball_of(1.0, None), **rows_of(1.0, 4))
    with pytest.raises(ValueError, match="max_radius"):
        radius_at(ball_of(1.0, None), torch.ones(2))


# --- laws -----------------------------------------------------------------------------------


def drawn(seed: int, c: float, width: int, count: int) -> tuple[Any, Rows]:
    return ball_of(c), rows_of(c, width, "given", count=count, seed=seed)


seeds = st.integers(0, 10_000)
curvatures = st.floats(0.05, 5.0)
widths = st.integers(2, 9)
few = settings(max_examples=40, deadline=None)


@few
@given(seeds, curvatures, widths, st.floats(1e-6, 1e6))
def test_the_length_of_a_direction_is_of_no_matter(
    seed: int, c: float, width: int, factor: float
) -> None:
    ball, rows = drawn(seed, c, width, 3)
    longer = {**rows, "direction": factor * rows["direction"]}
    for got, want in zip(latent_sample(ball, **longer), latent_sample(ball, **rows), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@few
@given(seeds, curvatures, widths)
def test_rotations_turn_the_points_and_leave_the_densities(seed: int, c: float, width: int) -> None:
    """With one scale for all coordinates the law has no directions of its own."""
    ball, rows = drawn(seed, c, width, 3)
    rows["log_scale"] = rows["log_scale"][:, :1].expand(-1, width).contiguous()
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(width, width, dtype=torch.float64, generator=generator)
    turn = torch.linalg.qr(square).Q
    turned = {
        name: each @ turn if name in ("direction", "noise", "centre") else each
        for name, each in rows.items()
    }
    found, want = latent_sample(ball, **turned), latent_sample(ball, **rows)
    torch.testing.assert_close(found.points, want.points @ turn, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.tangent, want.tangent @ turn, rtol=1e-9, atol=1e-9)
    for k in (2, 3):
        torch.testing.assert_close(found[k], want[k], rtol=1e-7, atol=1e-7)


@few
@given(seeds, widths, st.floats(0.2, 5.0))
def test_lengths_are_measured_in_units_of_the_curvature(
    seed: int, width: int, factor: float
) -> None:
    """Curvature c / k^2 is the same geometry with all lengths k times as long."""
    ball, rows = drawn(seed, 1.0, width, 3)
    del rows["centre"]
    longer = {
        **rows,
        "radius": factor * rows["radius"],
        "log_scale": rows["log_scale"] + math.log(factor),
    }
    found = latent_sample(ball_of(1.0 / factor**2), **longer)
    want = latent_sample(ball, **rows)
    for k in (0, 1):
        torch.testing.assert_close(found[k], factor * want[k], rtol=1e-9, atol=1e-9)
    posterior = want.posterior_log_prob - width * math.log(factor)
    torch.testing.assert_close(found.posterior_log_prob, posterior, rtol=1e-9, atol=1e-9)


@few
@given(seeds, curvatures, widths, st.integers(1, 40))
def test_a_row_does_not_depend_on_its_neighbours(
    seed: int, c: float, width: int, count: int
) -> None:
    ball, rows = drawn(seed, c, width, count)
    rows = {name: each.float() for name, each in rows.items()}
    together = latent_sample(ball, **rows)
    k = seed % count
    alone = latent_sample(ball, **{name: each[k : k + 1] for name, each in rows.items()})
    for got, want in zip(alone, together, strict=True):
        torch.testing.assert_close(got[0], want[k], rtol=1e-6, atol=1e-6)


# --- the slope of log(sinh(z) / z) ----------------------------------------------------------


def bend(z: float) -> mp.mpf:
    """(coth(z) - 1/z) / z in so many digits that what cancels leaves sixty."""
    with mp.workdps(120):
        x = mp.mpf(z)
        return (mp.coth(x) - 1 / x) / x


def grid() -> Iterator[float]:
    yield from (10 ** (k / 8) for k in range(-96, 14))
    yield from (0.0 + s * 0.01 for s in range(1, 400))
    yield 50.0


def test_the_bend_against_sixty_digits() -> None:
    z = torch.tensor(list(grid()), dtype=torch.float64)
    for got, at in zip(numerics.log_sinh_ratio_bend(z).tolist(), z.tolist(), strict=True):
        assert abs(mp.mpf(got) / bend(at) - 1) < 1e-14, at
    assert float(numerics.log_sinh_ratio_bend(torch.zeros((), dtype=torch.float64))) == (
        pytest.approx(1 / 3, rel=1e-15)
    )


def test_the_bend_is_the_slope_of_the_ratio() -> None:
    z = torch.tensor(list(grid()), dtype=torch.float64, requires_grad=True)
    ratio = numerics.log_sinh_ratio(z)
    for got, at in zip(ratio.tolist(), z.tolist(), strict=True):
        with mp.workdps(120):
            want = mp.log(mp.sinh(mp.mpf(at)) / mp.mpf(at))
        assert abs(mp.mpf(got) / want - 1) < 1e-13, at
    (slope,) = torch.autograd.grad(ratio.sum(), z)
    torch.testing.assert_close(
        numerics.log_sinh_ratio_bend(z.detach()), slope / z.detach(), rtol=1e-12, atol=0
    )


def test_the_bend_has_finite_gradients_everywhere() -> None:
    z = torch.tensor([0.0, *grid(), 700.0, 1e300], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(numerics.log_sinh_ratio_bend(z).sum(), z)
    assert bool(slope.isfinite().all())
    assert gradcheck(
        numerics.log_sinh_ratio_bend,
        torch.linspace(0.1, 9, 40, dtype=torch.float64, requires_grad=True),
    )
