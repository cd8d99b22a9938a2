"""The manifold class: its curvature, its bounds, its checks, and its place in geoopt."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ternvae.manifolds import ManifoldParameter, PoincareBall, math
from ternvae.manifolds._geoopt import geoopt
from tests.manifolds import oracle

# c -> its nearest doubles and floats differ, or it is large or tiny.
CURVATURES = (1.0, 0.1, 1 / 3, 123.456, 1e-9, 1e7)


def through_torch_save(ball: PoincareBall) -> PoincareBall:
    buffer = io.BytesIO()
    torch.save(ball.state_dict(), buffer)
    buffer.seek(0)
    other = PoincareBall(2.0, learnable=ball.learnable)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other


CONVERSIONS: dict[str, Callable[[PoincareBall], PoincareBall]] = {
    "none": lambda b: b,
    "double": lambda b: b.double(),
    "float": lambda b: b.float(),
    "float then double": lambda b: b.float().double(),
    "half": lambda b: b.half(),
    "bfloat16": lambda b: b.bfloat16(),
    "to dtype": lambda b: b.to(torch.float32),
    "to device and dtype": lambda b: b.to("cpu", torch.float16),
    "type": lambda b: b.type(torch.float32),
    "inside a model": lambda b: nn.Sequential(b).half()[0],
    "deepcopy": copy.deepcopy,
    "pickle": lambda b: pickle.loads(pickle.dumps(b)),  # noqa: S301
    "state_dict": through_torch_save,
}


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("name", CONVERSIONS)
def test_curvature_is_exact_after_every_conversion(name: str, learnable: bool) -> None:
    for value in CURVATURES:
        ball = CONVERSIONS[name](PoincareBall(value, learnable=learnable))
        assert ball.c.dtype == torch.float64
        assert ball.c.shape == ()
        assert ball.c.item() == value
        assert ball.k.item() == -value


@pytest.mark.parametrize("name", CONVERSIONS)
def test_learned_curvature_is_kept_too(name: str) -> None:
    ball = PoincareBall(0.7, learnable=True)
    with torch.no_grad():
        ball.log_c_ratio.fill_(0.123456789)
    c = ball.c.item()
    assert CONVERSIONS[name](ball).c.item() == c != 0.7


@pytest.mark.parametrize("learnable", [False, True])
def test_a_tensor_given_as_c_is_copied(learnable: bool) -> None:
    for given in (
        torch.tensor(1.0),
        torch.tensor([0.3]),
        torch.tensor(2),
        nn.Parameter(torch.ones(())),
    ):
        before = given.detach().clone()
        ball = PoincareBall(given, learnable=learnable)
        assert ball.c.item() == before.double().item()
        with torch.no_grad():
            for t in (*ball.buffers(), *ball.parameters()):
                t.fill_(5.0)
        assert torch.equal(given, before)


@pytest.mark.parametrize("learnable", [False, True])
def test_curvature_moves_with_the_device(learnable: bool) -> None:
    ball = PoincareBall(1.5, learnable=learnable).to("meta")
    assert ball.c.device.type == "meta"
    assert ball.c.dtype == torch.float64
    assert PoincareBall(1.5, learnable=learnable).to_empty(device="meta").c.device.type == "meta"


def test_float32_points_stay_float32() -> None:
    ball = PoincareBall(0.3, max_radius=0.9)
    x = ball.random(4, 3)
    assert x.dtype == ball.expmap(x, x).dtype == ball.dist0(x).dtype == torch.float32
    assert (ball.c * x).dtype == torch.float32


def test_state_dict_and_parameters() -> None:
    assert list(PoincareBall(1.0).state_dict()) == ["c_reference"]
    assert list(PoincareBall(1.0).parameters()) == []
    learned = PoincareBall(1.0, learnable=True)
    assert set(learned.state_dict()) == {"c_reference", "log_c_ratio"}
    assert [p.dtype for p in learned.parameters()] == [torch.float64]


def test_gradient_of_the_curvature_is_that_of_its_logarithm() -> None:
    ball = PoincareBall(0.8, learnable=True)
    x = oracle.points(0.7, 5, 3, 0.8, seed=1)
    (got,) = torch.autograd.grad(ball.dist0(x).sum(), ball.log_c_ratio)
    h = 1e-6
    up, down = (math.dist0(x, c=0.8 * (1 + s)).sum() for s in (h, -h))
    assert got.item() == pytest.approx(((up - down) / (2 * h)).item(), rel=1e-7)
    with torch.no_grad():
        ball.log_c_ratio.fill_(-40.0)
    assert ball.c.item() > 0.0


@pytest.mark.parametrize(
    ("kwargs", "error", "shown"),
    [
        ({"c": 0.0}, ValueError, "0.0"),
        ({"c": -1.5}, ValueError, "-1.5"),
        ({"c": float("nan")}, ValueError, "nan"),
        ({"c": float("inf")}, ValueError, "inf"),
        ({"c": torch.tensor(-2.0)}, ValueError, "-2.0"),
        ({"c": torch.ones(3)}, ValueError, r"\(3,\)"),
        ({"c": "1"}, TypeError, "'1'"),
        ({"c": True}, TypeError, "True"),
        ({"c": torch.tensor(True)}, TypeError, "bool"),
        ({"max_radius": 0.0}, ValueError, "0.0"),
        ({"max_radius": 1.0}, ValueError, "1.0"),
        ({"max_radius": -0.5}, ValueError, "-0.5"),
        ({"max_radius": float("nan")}, ValueError, "nan"),
        ({"max_radius": "0.9"}, TypeError, "'0.9'"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception], shown: str) -> None:
    name = next(iter(kwargs))
    with pytest.raises(error, match=rf"(?s)^{name} .*{shown}"):
        PoincareBall(**kwargs)


def test_hyperbolic_radius_max() -> None:
    assert PoincareBall(1.0).hyperbolic_radius_max.item() == float("inf")
    for c in (0.25, 1.0, 4.0):
        ball = PoincareBall(c, max_radius=0.95)
        edge = torch.tensor([0.0, 0.95 / c**0.5], dtype=torch.float64)
        assert ball.hyperbolic_radius_max.item() == pytest.approx(
            ball.dist0(edge).item(), rel=1e-14
        )
    assert PoincareBall(4.0, 0.95).hyperbolic_radius_max.item() == pytest.approx(3.6635616 / 2)


def test_repr_names_the_arguments() -> None:
    assert "c=0.5, max_radius=0.95, learnable=True" in repr(PoincareBall(0.5, 0.95, True))


# Bounds

POINTS: dict[str, Callable[[PoincareBall, Tensor, Tensor, Tensor], Tensor]] = {
    "projx": lambda b, x, y, u: b.projx(u),
    "expmap": lambda b, x, y, u: b.expmap(x, u),
    "expmap0": lambda b, x, y, u: b.expmap0(u),
    "retr": lambda b, x, y, u: b.retr(x, u),
    "expmap_transp": lambda b, x, y, u: b.expmap_transp(x, u, u)[0],
    "retr_transp": lambda b, x, y, u: b.retr_transp(x, u, u)[0],
    "geodesic": lambda b, x, y, u: b.geodesic(5.0, x, y),
    "geodesic_unit": lambda b, x, y, u: b.geodesic_unit(torch.tensor(50.0), x, u),
    "mobius_add": lambda b, x, y, u: b.mobius_add(x, y),
    "mobius_sub": lambda b, x, y, u: b.mobius_sub(x, y),
    "mobius_coadd": lambda b, x, y, u: b.mobius_coadd(x, y),
    "mobius_cosub": lambda b, x, y, u: b.mobius_cosub(x, y),
    "mobius_scalar_mul": lambda b, x, y, u: b.mobius_scalar_mul(torch.tensor(7.0), x),
    "mobius_pointwise_mul": lambda b, x, y, u: b.mobius_pointwise_mul(u, x),
    "mobius_matvec": lambda b, x, y, u: b.mobius_matvec(5 * torch.eye(4).to(x), x),
    "mobius_fn_apply": lambda b, x, y, u: b.mobius_fn_apply(torch.exp, x),
    "mobius_fn_apply_chain": lambda b, x, y, u: b.mobius_fn_apply_chain(x, torch.exp, torch.exp),
    "weighted_midpoint": lambda b, x, y, u: b.weighted_midpoint(
        torch.stack([x, y]), reducedim=[0], lincomb=True
    ),
    "sproj": lambda b, x, y, u: b.sproj(b.inv_sproj(x)),
    "sproj of anything": lambda b, x, y, u: b.sproj(torch.cat((20 * u, u[..., :1].abs()), dim=-1)),
    "random": lambda b, x, y, u: b.random(100, 4, std=20.0, dtype=x.dtype),
    "wrapped_normal": lambda b, x, y, u: b.wrapped_normal(*x.shape, mean=x, std=5.0),
    "origin": lambda b, x, y, u: b.origin(3, 4),
    "antipode": lambda b, x, y, u: b.antipode(x),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("max_radius", [0.3, 0.95, None])
@pytest.mark.parametrize("name", POINTS)
def test_points_obey_max_radius(name: str, max_radius: float | None, dtype: torch.dtype) -> None:
    ball = PoincareBall(2.0, max_radius=max_radius)
    x = ball.projx(oracle.points(0.94, 50, 4, 2.0, seed=1).to(dtype))
    y = ball.projx(oracle.points(0.94, 50, 4, 2.0, seed=2).to(dtype))
    for size in (0.1, 30.0):
        p = POINTS[name](ball, x, y, size * y)
        s = 2.0**0.5 * p.norm(dim=-1)
        assert s.max().item() <= (max_radius or 1.0)
        assert ball.check_point_on_manifold(p, atol=0.0, rtol=0.0)


def test_project_false_leaves_the_formula_alone() -> None:
    ball = PoincareBall(1.0, max_radius=0.5)
    x = oracle.points(0.4, 3, 4, 1.0, seed=1)
    assert torch.equal(ball.mobius_add(x, x, project=False), math.mobius_add(x, x, c=ball.c))
    assert ball.expmap0(10 * x, project=False).norm(dim=-1).min().item() > 0.9


# Checks


def test_check_names_the_first_offending_row() -> None:
    ball = PoincareBall(1.0, max_radius=0.9)
    x = torch.zeros(2, 3, 4)
    ball.assert_check_point_on_manifold(x)
    x[1, 1, 0], x[1, 2, 0] = 0.95, 0.97
    with pytest.raises(ValueError, match=r"row 4 of 6 has sqrt\(c\)\*norm = 0\.94999.*0\.9"):
        ball.assert_check_point_on_manifold(x)
    assert not ball.check_point_on_manifold(x)
    assert PoincareBall(1.0).check_point_on_manifold(x)
    assert not PoincareBall(2.0).check_point_on_manifold(x)
    x[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"row 0 of 6 has .* = nan"):
        ball.assert_check_point_on_manifold(x)
    assert not PoincareBall(1.0).check_point_on_manifold(torch.tensor([1.0, 0.0]))


def test_check_of_tangent_vectors() -> None:
    ball = PoincareBall(1.0)
    x, u = torch.zeros(2, 3), torch.tensor([[1e9, 0.0, 0.0], [0.0, float("inf"), 0.0]])
    assert ball.check_vector_on_tangent(x, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="row 1 of 2 is not finite"):
        ball.assert_check_vector_on_tangent(x, u)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_unsupported_dtypes_are_refused(dtype: torch.dtype) -> None:
    ball, x = PoincareBall(1.0), torch.zeros(2, 3, dtype=dtype)
    for call in (
        lambda: ball.expmap0(x),
        lambda: ball.projx(x),
        lambda: ball.dist(x, x),
        lambda: ball.assert_check_point_on_manifold(x),
        lambda: ball.random(3, dtype=dtype) if dtype.is_floating_point else ball.projx(x),
    ):
        with pytest.raises(TypeError, match=str(dtype)):
            call()
    with pytest.raises(TypeError, match=str(dtype)):
        geoopt.ManifoldTensor(x, manifold=ball)


# geoopt

# name -> positional arguments, from points x, y, vectors u, v and a number
CALLS: dict[str, tuple[str, ...]] = {
    "dist": ("x", "y"),
    "dist2": ("x", "y"),
    "dist0": ("x",),
    "expmap": ("x", "u"),
    "expmap0": ("u",),
    "logmap": ("x", "y"),
    "logmap0": ("x",),
    "mobius_add": ("x", "y"),
    "mobius_sub": ("x", "y"),
    "mobius_coadd": ("x", "y"),
    "mobius_cosub": ("x", "y"),
    "mobius_scalar_mul": ("t", "x"),
    "mobius_pointwise_mul": ("u", "x"),
    "mobius_matvec": ("m", "x"),
    "projx": ("x",),
    "proju": ("x", "u"),
    "egrad2rgrad": ("x", "u"),
    "component_inner": ("x", "u", "v"),
    "norm": ("x", "u"),
    "transp": ("x", "y", "u"),
    "transp0": ("y", "u"),
    "transp0back": ("y", "u"),
    "retr": ("x", "u"),
    "retr_transp": ("x", "u", "v"),
    "expmap_transp": ("x", "u", "v"),
    "transp_follow_retr": ("x", "u", "v"),
    "transp_follow_expmap": ("x", "u", "v"),
    "geodesic": ("t", "x", "y"),
    "geodesic_unit": ("t", "x", "u"),
    "lambda_x": ("x",),
    "gyration": ("x", "y", "u"),
    "antipode": ("x",),
    "dist2plane": ("x", "y", "u"),
    "sproj": ("x",),
}


@pytest.mark.parametrize("c", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("name", CALLS)
def test_agrees_with_geoopt(name: str, c: float) -> None:
    """In float64, away from the rim; geoopt's exact variant retracts by the exponential map."""
    values = {
        "x": oracle.points(0.5, 6, 4, c, seed=1),
        "y": oracle.points(0.7, 6, 4, c, seed=2),
        "u": oracle.points(0.2, 6, 4, c, seed=3),
        "v": oracle.points(0.4, 6, 4, c, seed=4),
        "m": oracle.points(0.5, 4, 4, 1.0, seed=5),
        "t": torch.tensor(0.37, dtype=torch.float64),
    }
    args = [values[a] for a in CALLS[name]]
    theirs = geoopt.PoincareBallExact(torch.tensor(c, dtype=torch.float64))
    got, want = getattr(PoincareBall(c), name)(*args), getattr(theirs, name)(*args)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


def test_inner_has_one_number_per_point() -> None:
    """Not compared above: geoopt's, without keepdim, is the outer product of its two factors."""
    ball, x = PoincareBall(1.0), oracle.points(0.5, 6, 4, 1.0, seed=1)
    kept = ball.component_inner(x, x, x)
    assert kept.shape == (6, 1)
    assert torch.equal(ball.inner(x, x, x), kept[:, 0])
    torch.testing.assert_close(ball.inner(x, x), ball.norm(x, x).square())


def test_is_a_geoopt_ball() -> None:
    ball = PoincareBall(1.0)
    assert isinstance(ball, geoopt.PoincareBall)
    assert geoopt.ismanifold(ball, geoopt.PoincareBall)
    assert ball.name == "PoincareBall"


def test_scaled_and_product_manifolds() -> None:
    ball = PoincareBall(1.0)
    x, y = (oracle.points(0.5, 3, 4, 1.0, seed=s) for s in (1, 2))
    scaled = geoopt.Scaled(ball, 2.0)
    torch.testing.assert_close(scaled.dist(x, y), 2.0 * ball.dist(x, y))
    product = geoopt.ProductManifold((ball, 2), (PoincareBall(2.0), 2))
    want = (ball.dist2(x[:, :2], y[:, :2]) + PoincareBall(2.0).dist2(x[:, 2:], y[:, 2:])).sqrt()
    torch.testing.assert_close(product.dist(x, y), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_manifold_parameter_and_geoopts_optimizers(dtype: torch.dtype) -> None:
    for optimizer in (geoopt.optim.RiemannianAdam, geoopt.optim.RiemannianSGD):
        ball = PoincareBall(1.0, max_radius=0.9)
        target = oracle.points(0.8, 3, 4, 1.0, seed=1).to(dtype)
        p = ManifoldParameter(ball.random(3, 4, dtype=dtype), manifold=ball)
        start = ball.dist(p, target).sum().item()
        opt = optimizer([p], lr=0.1)
        for _ in range(150):
            opt.zero_grad()
            ball.dist2(p, target).sum().backward()
            opt.step()
        assert ball.dist(p, target).sum().item() < 0.1 * start
        assert p.norm(dim=-1).max().item() <= 0.9
    assert isinstance(copy.deepcopy(p).manifold, PoincareBall)
    assert pickle.loads(pickle.dumps(p)).manifold.c.item() == 1.0  # noqa: S301


def test_random_follows_the_given_law_dtype_and_shape() -> None:
    torch.manual_seed(0)
    ball = PoincareBall(1.0)
    x = ball.random_normal(20000, 4, std=0.5, dtype=torch.float64)
    u = ball.logmap0(x)
    assert u.std().item() == pytest.approx(0.5 / 4**0.5, rel=6 / (2 * u.numel()) ** 0.5)
    assert isinstance(x, geoopt.ManifoldTensor)
    assert ball.random((2, 3)).shape == (2, 3)
    assert ball.random(2, 3).dtype == torch.get_default_dtype()
    assert torch.equal(ball.origin(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="1 dim"):
        ball.random()


def test_geodesic_unit_has_unit_speed() -> None:
    ball = PoincareBall(0.5)
    x, u = oracle.points(0.5, 3, 4, 0.5, seed=1), oracle.points(9.0, 3, 4, 0.5, seed=2)
    reached = ball.geodesic_unit(torch.tensor(1.3), x, u)
    torch.testing.assert_close(ball.dist(x, reached), torch.full((3,), 1.3, dtype=torch.float64))
    torch.testing.assert_close(ball.geodesic_unit(torch.tensor(1.3), x, 0 * u), x)


def test_nothing_is_read_back_to_the_host() -> None:
    ball = PoincareBall(1.0, max_radius=0.95, learnable=True).to("meta")
    x = torch.empty(2, 4, device="meta")
    for call in (ball.projx, ball.expmap0, ball.logmap0, ball.dist0):
        assert call(x).device.type == "meta"
    assert ball.retr_transp(x, x, x)[1].shape == (2, 4)
    assert ball.hyperbolic_radius_max.device.type == "meta"


@pytest.mark.parametrize("module", ["ternvae.manifolds", "ternvae.manifolds.optim"])
def test_import_raises_no_warning(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_only_geoopts_own_warnings_are_silenced() -> None:
    """The filter is gone after the import: the same warning raised by somebody else is seen."""
    code = (
        "import warnings, ternvae.manifolds\n"
        "warnings.warn('`torch.jit.script` is deprecated. Please', DeprecationWarning)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "DeprecationWarning" in done.stderr
    assert done.returncode == 1


def test_a_fixed_curvature_is_read_anew_only_when_it_has_changed() -> None:
    """Operations read nothing back, and never use a stale value."""
    x = torch.tensor([[0.1, 0.2]])
    ball = PoincareBall(2.0)

    def check(expected: float) -> None:
        assert torch.equal(ball.dist0(x), math.dist0(x, c=expected))

    with torch.profiler.profile() as seen:
        check(2.0)
    assert "aten::_local_scalar_dense" not in {event.key for event in seen.key_averages()}
    ball.load_state_dict(PoincareBall(3.0).state_dict())
    check(3.0)
    with torch.no_grad():
        ball.c_reference.fill_(4.0)
    check(4.0)
    ball.c_reference = torch.tensor(5.0, dtype=torch.float64)
    check(5.0)
    ball = copy.deepcopy(ball)
    ball.c_reference.mul_(0.5)
    check(2.5)
    ball = pickle.loads(pickle.dumps(ball))  # noqa: S301
    check(2.5)
    with torch.inference_mode():
        ball = PoincareBall(1.5)
        check(1.5)
    check(1.5)
