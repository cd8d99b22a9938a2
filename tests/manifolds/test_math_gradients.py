"""Derivatives: gradcheck, identity Jacobians at the origin, finiteness at singular points."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ternvae.manifolds import math
from ternvae.manifolds import numerics as num
from tests.manifolds import oracle
from tests.manifolds.functions import DISTANCES, FUNCTIONS, LIMITED, outcome
from tests.manifolds.oracle import assert_gradients_finite


def test_every_public_function_is_covered() -> None:
    assert set(FUNCTIONS) == set(math.__all__)


# PyTorch's own relative tolerance, 1e-3, would let a derivative pass that is off by one in a
# thousand; central differences in float64 are good to about 1e-9.
TIGHT = {"atol": 1e-7, "rtol": 1e-6}


def curvature(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck(name: str) -> None:
    x = oracle.points(0.6, 2, 3, 0.8, seed=1).requires_grad_()
    y = oracle.points(0.8, 2, 3, 0.8, seed=2).requires_grad_()
    v = oracle.points(0.3, 2, 3, 0.8, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], (x, y, v, curvature(0.8)), **TIGHT)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in DISTANCES])
def test_gradcheck_at_the_origin_and_at_equal_points(name: str) -> None:
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    v = oracle.points(0.3, 2, 3, 0.8, seed=3).requires_grad_()
    same = oracle.points(0.5, 2, 3, 0.8, seed=4)
    p, q = same.clone().requires_grad_(), same.clone().requires_grad_()
    for x, y, u in ((zero, zero, zero), (zero, p, v), (p, zero, zero), (p, q, v)):
        inputs = (x.clone().detach().requires_grad_(), y, u, curvature(0.8))
        assert torch.autograd.gradcheck(FUNCTIONS[name], inputs, **TIGHT)


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


def float32_points(name: str, norm: float) -> list[tuple[Tensor, ...]]:
    """Float32 points of that norm: far from, near, next to, equal to and opposite to each other."""
    x, other, noise, v = (oracle.points(1.0, 4, 8, 0.7, seed=s) for s in (1, 2, 3, 4))
    x, other = norm * x, norm * other
    near = x + 1e-3 * norm * (1 - norm) * noise
    v = 0.3 * v
    pairs = [(x, other), (x, near), (x, 0.5 * other), (x, -near), (torch.zeros_like(x), other)]
    if name not in DISTANCES:
        pairs += [(x, x), (x, -x), (other, torch.zeros_like(x))]
    return [tuple(t.float() for t in (p, q, v)) for p, q in pairs]


@pytest.mark.parametrize("norm", [0.0, 1e-6, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_gradients_are_those_of_float64(name: str, norm: float) -> None:
    """Over the same points: rounded once, 1e-5 relative (norm of the error over norm) at most."""
    if norm == 0.0 and name in DISTANCES:
        norm = 1e-12  # at 0 there is only a subgradient
    for inputs in float32_points(name, norm):
        out, got = outcome(FUNCTIONS[name], inputs, 0.7)
        wide = tuple(t.double() for t in inputs)
        if name == "pairwise_dist":
            # float32 points may coincide across the two sets without being a pair.
            assert not bool((inputs[0][:, None] == inputs[1]).all(-1).any()) or norm == 1e-12
        g = torch.Generator().manual_seed(11)
        cotangent = torch.randn(out.shape, dtype=torch.float64, generator=g).float().double()
        _, want = outcome(FUNCTIONS[name], wide, 0.7, lambda o, k=cotangent: k)
        for a, b in zip(got[:3], want[:3], strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert a.dtype == torch.float32
                # The weights of a midpoint of equal points have the gradient 0, up to rounding.
                assert (a - b).norm().item() <= 1e-5 * b.norm().item() + 1e-14


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name: str, limited: bool) -> None:
    x = oracle.points(0.6, 2, 3, 0.8, seed=1).requires_grad_()
    y = oracle.points(0.8, 2, 3, 0.8, seed=2).requires_grad_()
    v = oracle.points(0.3, 2, 3, 0.8, seed=3).requires_grad_()
    function = FUNCTIONS[name]
    if limited:
        if name not in LIMITED:
            return
        limit = num.Limit(threshold=0.31, target=0.3)
        function = functools.partial(lambda f, k, *args: f(*args, k), LIMITED[name], limit)
    inputs = (x, y, v, curvature(0.8))
    if name == "pairwise_dist":
        (grad,) = torch.autograd.grad(function(*inputs).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=r"_cdist_backward.* is not implemented"):
            grad.sum().backward()
        return
    assert torch.autograd.gradcheck(function, inputs, **TIGHT)
    assert torch.autograd.gradgradcheck(function, inputs, **TIGHT)


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
