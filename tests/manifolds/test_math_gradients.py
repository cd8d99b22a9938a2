"""Derivatives: gradcheck, identity Jacobians at the origin, finiteness at singular points."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ternvae.manifolds import math
from tests.manifolds import oracle
from tests.manifolds.oracle import assert_gradients_finite

# Every function of the module as a function of (x, y, v, c).
FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "lambda_x": lambda x, y, v, c: math.lambda_x(x, c=c),
    "inner": lambda x, y, v, c: math.inner(x, v, y, c=c),
    "norm": lambda x, y, v, c: math.norm(x, v, c=c),
    "egrad2rgrad": lambda x, y, v, c: math.egrad2rgrad(x, v, c=c),
    "mobius_add": lambda x, y, v, c: math.mobius_add(x, y, c=c),
    "mobius_sub": lambda x, y, v, c: math.mobius_sub(x, y, c=c),
    "mobius_matvec": lambda x, y, v, c: math.mobius_matvec(
        torch.atleast_2d(v).mT @ torch.atleast_2d(v), x, c=c
    ),
    "mobius_pointwise_mul": lambda x, y, v, c: math.mobius_pointwise_mul(v, x, c=c),
    "mobius_scalar_mul": lambda x, y, v, c: math.mobius_scalar_mul(v[..., :1] + 0.5, x, c=c),
    "gyration": lambda x, y, v, c: math.gyration(x, y, v, c=c),
    "dist": lambda x, y, v, c: math.dist(x, y, c=c),
    "dist0": lambda x, y, v, c: math.dist0(x, c=c),
    "pairwise_dist": lambda x, y, v, c: math.pairwise_dist(x, y, c=c),
    "dist2plane": lambda x, y, v, c: math.dist2plane(x, y, v, c=c, signed=True),
    "midpoint": lambda x, y, v, c: math.midpoint(x, y, c=c),
    "weighted_midpoint": lambda x, y, v, c: math.weighted_midpoint(
        torch.stack(torch.broadcast_tensors(x, y)), 1.0 + v[..., 0].square(), c=c, reducedim=[0]
    ),
    "sproj": lambda x, y, v, c: math.sproj(math.inv_sproj(x, c=c), c=c),
    "inv_sproj": lambda x, y, v, c: math.inv_sproj(x, c=c),
    "expmap0": lambda x, y, v, c: math.expmap0(v, c=c),
    "logmap0": lambda x, y, v, c: math.logmap0(x, c=c),
    "expmap": lambda x, y, v, c: math.expmap(x, v, c=c),
    "logmap": lambda x, y, v, c: math.logmap(x, y, c=c),
    "geodesic": lambda x, y, v, c: math.geodesic(0.3, x, y, c=c),
    "parallel_transport": lambda x, y, v, c: math.parallel_transport(x, y, v, c=c),
    "parallel_transport0": lambda x, y, v, c: math.parallel_transport0(y, v, c=c),
    "parallel_transport0back": lambda x, y, v, c: math.parallel_transport0back(y, v, c=c),
    "project": lambda x, y, v, c: math.project(3.0 * x, c=c, max_radius=0.9),
}
# Not differentiable at zero distance, or for the normal 0.
DISTANCES = ("dist", "dist0", "dist2plane", "pairwise_dist", "norm")


def test_every_public_function_is_covered() -> None:
    assert set(FUNCTIONS) == set(math.__all__)


def curvature(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck(name: str) -> None:
    x = oracle.points(0.6, 2, 3, 0.8, seed=1).requires_grad_()
    y = oracle.points(0.8, 2, 3, 0.8, seed=2).requires_grad_()
    v = oracle.points(0.3, 2, 3, 0.8, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], (x, y, v, curvature(0.8)))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in DISTANCES])
def test_gradcheck_at_the_origin_and_at_equal_points(name: str) -> None:
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    v = oracle.points(0.3, 2, 3, 0.8, seed=3).requires_grad_()
    same = oracle.points(0.5, 2, 3, 0.8, seed=4)
    p, q = same.clone().requires_grad_(), same.clone().requires_grad_()
    for x, y, u in ((zero, zero, zero), (zero, p, v), (p, zero, zero), (p, q, v)):
        inputs = (x.clone().detach().requires_grad_(), y, u, curvature(0.8))
        assert torch.autograd.gradcheck(FUNCTIONS[name], inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-6])
@pytest.mark.parametrize("function", [math.expmap0, math.logmap0], ids=lambda f: f.__name__)
def test_identity_jacobian_at_the_origin(
    function: Callable[..., Tensor], size: float, dtype: torch.dtype
) -> None:
    x = (oracle.points(1.0, 1, 4, 1.0, seed=5)[0] * size).to(dtype)
    jacobian = torch.autograd.functional.jacobian(lambda t: function(t, c=1.0), x)
    torch.testing.assert_close(
        jacobian,
        torch.eye(4, dtype=dtype),
        rtol=0,
        atol=4 * torch.finfo(dtype).eps + size**2,  # the next term of the series
    )
    # ... of exp_x at u = 0 and log_x at y = x, too.
    p = oracle.points(0.9, 1, 4, 1.0, seed=6)[0].to(dtype)
    for moved in (
        torch.autograd.functional.jacobian(lambda u: math.expmap(p, u, c=1.0), x * 0.0),
        torch.autograd.functional.jacobian(lambda y: math.logmap(p, y, c=1.0), p),
    ):
        torch.testing.assert_close(
            moved, torch.eye(4, dtype=dtype), rtol=0, atol=64 * torch.finfo(dtype).eps
        )


@pytest.mark.parametrize("name", ["dist", "pairwise_dist"])
def test_distance_subgradient_is_zero_at_equal_points(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        for norm in (0.0, 0.5, 0.95):
            x = oracle.points(norm, 1, 3, 1.0, seed=7).to(dtype).requires_grad_()
            y = x.detach().clone().requires_grad_()
            out = FUNCTIONS[name](x, y, x, curvature(1.0))
            grads = torch.autograd.grad(out.sum(), (x, y))
            assert all(bool((g == 0).all()) for g in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("c", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_finite_up_to_the_rim(name: str, c: float, dtype: torch.dtype) -> None:
    """Origin, max_radius and the last point inside the rim, in all combinations, equal ones too."""
    rim = math.project(oracle.points(2.0, 1, 3, c, seed=8).to(dtype), c=c)
    edge = math.project(rim, c=c, max_radius=0.95)
    zero = torch.zeros_like(rim)
    for a in (zero, edge, rim):
        for b in (zero, edge, rim, -rim, rim.flip(-1)):
            for v in (zero, 1e-20 * edge, edge, 1e6 * edge):
                x, y, u = (t.clone().requires_grad_() for t in (a, b, v))
                k = curvature(c)
                out = FUNCTIONS[name](x, y, u, k)
                used = [
                    t
                    for t, g in zip(
                        (x, y, u, k),
                        torch.autograd.grad(
                            out.sum(), (x, y, u, k), allow_unused=True, retain_graph=True
                        ),
                        strict=True,
                    )
                    if g is not None
                ]
                assert_gradients_finite(*used, outputs=out)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_read_back_to_the_host(name: str) -> None:
    """Meta tensors have no values: a branch on data or an ``.item()`` raises."""
    x, y, v = (torch.empty(2, 3, device="meta") for _ in range(3))
    out = FUNCTIONS[name](x, y, v, torch.empty((), dtype=torch.float64, device="meta"))
    assert out.dtype == torch.float32


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dtypes_dimension_and_broadcasting(name: str) -> None:
    function = FUNCTIONS[name]
    x, y, v = (oracle.points(0.5, 6, 4, 1.0, seed=s) for s in (1, 2, 3))
    c = torch.tensor(1.0, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        assert function(x.to(dtype), y.to(dtype), v.to(dtype), c).dtype == dtype
    with pytest.raises(TypeError, match="float16"):
        function(x.half(), y.half(), v.half(), c)
    if name != "pairwise_dist":
        batched = function(x, y[:1], v[:1], c)
        assert batched.shape[0] in (1, 6)
        rows = function(x[2], y[0], v[0], c)
        torch.testing.assert_close(batched[2 if batched.shape[0] == 6 else 0], rows)


@pytest.mark.parametrize("c", [0.1, 3.0])
def test_dim_and_keepdim(c: float) -> None:
    x, y, v = (oracle.points(0.5, 6, 4, c, seed=s) for s in (1, 2, 3))
    xt, yt, vt = x.mT, y.mT, v.mT
    assert torch.equal(math.dist(xt, yt, c=c, dim=0), math.dist(x, y, c=c))
    assert math.dist(xt, yt, c=c, dim=0, keepdim=True).shape == (1, 6)
    assert math.dist0(x, c=c, keepdim=True).shape == (6, 1)
    assert math.lambda_x(x, c=c, keepdim=True).shape == (6, 1)
    assert math.inner(x, v, y, c=c, keepdim=True).shape == (6, 1)
    assert math.norm(x, v, c=c, keepdim=True).shape == (6, 1)
    for name in ("mobius_add", "logmap", "expmap"):
        function = getattr(math, name)
        torch.testing.assert_close(function(xt, yt, c=c, dim=0).mT, function(x, y, c=c))
    torch.testing.assert_close(
        math.parallel_transport(xt, yt, vt, c=c, dim=0).mT, math.parallel_transport(x, y, v, c=c)
    )
