"""In the place of geoopt's ball: the same values and gradients, in geoopt's own machinery.

geoopt's formulas lose digits near the rim and near the origin, so they are compared in float64 at
``sqrt(c) |x| < 0.7``, where both agree to 1e-6 (relative to the largest entry).
"""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from ternvae.manifolds import ManifoldParameter, PoincareBall
from ternvae.manifolds._geoopt import geoopt
from tests.manifolds.functions import spread

theirs = geoopt.manifolds.stereographic.math

Case = tuple[Callable[..., Tensor], Callable[..., Tensor]]


def weights_of(v: Tensor) -> Tensor:
    return 0.5 + v[:, 0].square()


# name -> (ours, geoopt's), of the ball or of k = -c, and of points x, y and vectors u, v
CASES: dict[str, Case] = {
    "dist": (lambda b, x, y, u, v: b.dist(x, y), lambda k, x, y, u, v: theirs.dist(x, y, k=k)),
    "dist, keepdim": (
        lambda b, x, y, u, v: b.dist(x, y, keepdim=True),
        lambda k, x, y, u, v: theirs.dist(x, y, k=k, keepdim=True),
    ),
    "dist2": (
        lambda b, x, y, u, v: b.dist2(x, y),
        lambda k, x, y, u, v: theirs.dist(x, y, k=k).square(),
    ),
    "dist0": (lambda b, x, y, u, v: b.dist0(x), lambda k, x, y, u, v: theirs.dist0(x, k=k)),
    "dist2plane": (
        lambda b, x, y, u, v: b.dist2plane(x, y, v),
        lambda k, x, y, u, v: theirs.dist2plane(x, y, v, k=k),
    ),
    "dist2plane, signed and scaled": (
        lambda b, x, y, u, v: b.dist2plane(x, y, v, signed=True, scaled=True),
        lambda k, x, y, u, v: theirs.dist2plane(x, y, v, k=k, signed=True, scaled=True),
    ),
    "lambda_x": (
        lambda b, x, y, u, v: b.lambda_x(x),
        lambda k, x, y, u, v: theirs.lambda_x(x, k=k),
    ),
    "inner": (
        lambda b, x, y, u, v: b.inner(x, u, v, keepdim=True),
        lambda k, x, y, u, v: theirs.inner(x, u, v, k=k, keepdim=True),
    ),
    "norm": (
        lambda b, x, y, u, v: b.norm(x, u),
        lambda k, x, y, u, v: theirs.norm(x, u, k=k),
    ),
    "egrad2rgrad": (
        lambda b, x, y, u, v: b.egrad2rgrad(x, u),
        lambda k, x, y, u, v: theirs.egrad2rgrad(x, u, k=k),
    ),
    "expmap": (
        lambda b, x, y, u, v: b.expmap(x, u),
        lambda k, x, y, u, v: theirs.expmap(x, u, k=k),
    ),
    "expmap0": (lambda b, x, y, u, v: b.expmap0(u), lambda k, x, y, u, v: theirs.expmap0(u, k=k)),
    "logmap": (
        lambda b, x, y, u, v: b.logmap(x, y),
        lambda k, x, y, u, v: theirs.logmap(x, y, k=k),
    ),
    "logmap0": (lambda b, x, y, u, v: b.logmap0(x), lambda k, x, y, u, v: theirs.logmap0(x, k=k)),
    "retr": (
        lambda b, x, y, u, v: b.retr(x, u),
        lambda k, x, y, u, v: theirs.expmap(x, u, k=k),
    ),
    "transp": (
        lambda b, x, y, u, v: b.transp(x, y, v),
        lambda k, x, y, u, v: theirs.parallel_transport(x, y, v, k=k),
    ),
    "transp0": (
        lambda b, x, y, u, v: b.transp0(x, v),
        lambda k, x, y, u, v: theirs.parallel_transport0(x, v, k=k),
    ),
    "transp0back": (
        lambda b, x, y, u, v: b.transp0back(x, v),
        lambda k, x, y, u, v: theirs.parallel_transport0back(x, v, k=k),
    ),
    "transp_follow_expmap": (
        lambda b, x, y, u, v: b.transp_follow_expmap(x, u, v),
        lambda k, x, y, u, v: theirs.parallel_transport(x, theirs.expmap(x, u, k=k), v, k=k),
    ),
    "gyration": (
        lambda b, x, y, u, v: b.gyration(x, y, v),
        lambda k, x, y, u, v: theirs.gyration(x, y, v, k=k),
    ),
    "geodesic": (
        lambda b, x, y, u, v: b.geodesic(v[:, :1] + 0.5, x, y),
        lambda k, x, y, u, v: theirs.geodesic(v[:, :1] + 0.5, x, y, k=k),
    ),
    "geodesic_unit": (
        lambda b, x, y, u, v: b.geodesic_unit(v[:, :1], x, u),
        lambda k, x, y, u, v: theirs.geodesic_unit(v[:, :1], x, u, k=k),
    ),
    "mobius_matvec": (
        lambda b, x, y, u, v: b.mobius_matvec(u[:4], x),
        lambda k, x, y, u, v: theirs.mobius_matvec(u[:4], x, k=k),
    ),
    "mobius_scalar_mul": (
        lambda b, x, y, u, v: b.mobius_scalar_mul(v[:, :1] + 0.5, x),
        lambda k, x, y, u, v: theirs.mobius_scalar_mul(v[:, :1] + 0.5, x, k=k),
    ),
    "mobius_pointwise_mul": (
        lambda b, x, y, u, v: b.mobius_pointwise_mul(v, x),
        lambda k, x, y, u, v: theirs.mobius_pointwise_mul(v, x, k=k),
    ),
    "mobius_fn_apply": (
        lambda b, x, y, u, v: b.mobius_fn_apply(torch.tanh, x),
        lambda k, x, y, u, v: theirs.mobius_fn_apply(torch.tanh, x, k=k),
    ),
    "weighted_midpoint": (
        lambda b, x, y, u, v: b.weighted_midpoint(x, weights_of(v)),
        lambda k, x, y, u, v: theirs.weighted_midpoint(x, weights_of(v), k=k),
    ),
    "weighted_midpoint, few": (
        lambda b, x, y, u, v: b.weighted_midpoint(
            torch.stack([x, y, u]), v[:3, :1].square() + 0.1, reducedim=[0]
        ),
        lambda k, x, y, u, v: theirs.weighted_midpoint(
            torch.stack([x, y, u]), v[:3, :1].square() + 0.1, reducedim=[0], k=k
        ),
    ),
    "weighted_midpoint, lincomb": (
        lambda b, x, y, u, v: b.weighted_midpoint(0.3 * x, 0.1 * weights_of(v), lincomb=True),
        lambda k, x, y, u, v: theirs.weighted_midpoint(
            0.3 * x, 0.1 * weights_of(v), lincomb=True, k=k
        ),
    ),
    "sproj": (
        lambda b, x, y, u, v: b.sproj(torch.cat([u, 1.0 + v[:, :1].square()], dim=-1)),
        lambda k, x, y, u, v: theirs.sproj(torch.cat([u, 1.0 + v[:, :1].square()], dim=-1), k=k),
    ),
    "inv_sproj": (
        lambda b, x, y, u, v: b.inv_sproj(x),
        lambda k, x, y, u, v: theirs.inv_sproj(x, k=k),
    ),
    "antipode": (
        lambda b, x, y, u, v: b.antipode(x),
        lambda k, x, y, u, v: theirs.antipode(x, k=k),
    ),
}


def _two_points(name: str) -> Case:
    return (
        lambda b, x, y, u, v: getattr(b, name)(x, y),
        lambda k, x, y, u, v: getattr(theirs, name)(x, y, k=k),
    )


CASES |= {n: _two_points(n) for n in ("mobius_add", "mobius_sub", "mobius_coadd", "mobius_cosub")}


def gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    g = torch.Generator().manual_seed(9)
    cotangent = torch.randn(out.shape, dtype=torch.float64, generator=g)
    found = torch.autograd.grad(out, leaves, cotangent, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)]


def comparison(name: str, c: float, seed: int) -> None:
    ours, geoopts = CASES[name]
    sizes = (0.7, 0.6, 0.4, 0.3)
    leaves = [spread(6, 4, c, seed=seed + k, most=s).requires_grad_() for k, s in enumerate(sizes)]
    ball = PoincareBall(c, learnable=True)
    number = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    got, want = ours(ball, *leaves), geoopts(-number, *leaves)
    assert got.shape == want.shape
    got_grads = gradients(got, [*leaves, ball.log_c_ratio])
    want_grads = gradients(want, [*leaves, number])
    # c = c_reference exp(log_c_ratio): the derivative by the logarithm is c times that by c.
    want_grads[-1] = want_grads[-1] * c
    for a, b in zip((got, *got_grads), (want, *want_grads), strict=True):
        size = b.detach().abs().max().item()
        assert (a - b).detach().abs().max().item() <= 1e-6 * size + 1e-9


@pytest.mark.parametrize("c", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_geoopts(name: str, c: float) -> None:
    comparison(name, c, seed=20)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.floats(0.2, 4.0), st.integers(0, 10**6))
def test_values_and_gradients_are_geoopts_anywhere(name: str, c: float, seed: int) -> None:
    comparison(name, c, seed)


OPTIMIZERS = {
    "adam": lambda p: geoopt.optim.RiemannianAdam(p, lr=0.05),
    "adam, amsgrad, stabilized": lambda p: geoopt.optim.RiemannianAdam(
        p, lr=0.05, amsgrad=True, stabilize=5, weight_decay=1e-4
    ),
    "sgd": lambda p: geoopt.optim.RiemannianSGD(p, lr=0.05),
    "sgd, momentum, stabilized": lambda p: geoopt.optim.RiemannianSGD(
        p, lr=0.02, momentum=0.8, dampening=0.0, stabilize=5
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_geoopts_optimizers(name: str, learnable: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ball = PoincareBall(1.3, max_radius=0.8, learnable=learnable)
    point = ManifoldParameter(ball.random(5, 3, dtype=dtype), manifold=ball)
    target = ball.random(5, 3, dtype=dtype)
    optimizer = OPTIMIZERS[name]([point, *ball.parameters()])
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = ball.dist2(point, target).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert ball.check_point_on_manifold(point)
    assert losses[-1] < 0.3 * losses[0]
    assert point.dtype == dtype


@pytest.mark.parametrize("project", [geoopt.ManifoldTensor, geoopt.ManifoldParameter])
def test_geoopts_tensors(project: Any) -> None:
    ball = PoincareBall(1.0, max_radius=0.9)
    t = project(torch.full((2, 3), 4.0), manifold=ball)
    with torch.no_grad():
        t.proj_()
    assert ball.check_point_on_manifold(t.detach())
    assert t.manifold is ball


def test_products_and_scaled_spaces() -> None:
    """A geoopt optimizer moves points of a product that our ball is a factor of."""
    torch.manual_seed(0)
    balls = PoincareBall(1.0, max_radius=0.9), PoincareBall(0.4)
    product = geoopt.ProductManifold((balls[0], 3), (geoopt.Euclidean(1), 2), (balls[1], 4))
    x = product.random(5, product.n_elements)
    assert product.check_point_on_manifold(x)
    for k, ball in ((0, balls[0]), (2, balls[1])):
        assert ball.check_point_on_manifold(product.take_submanifold_value(x, k).detach())
    u = 0.1 * torch.randn_like(x)
    y = product.expmap(x, u)
    torch.testing.assert_close(product.logmap(x, y), u, rtol=1e-3, atol=1e-4)
    point = geoopt.ManifoldParameter(x.detach().clone(), manifold=product)
    optimizer = geoopt.optim.RiemannianAdam([point], lr=0.05)
    start = product.dist(point, y).sum().item()
    for _ in range(20):
        optimizer.zero_grad()
        product.dist2(point, y).sum().backward()
        optimizer.step()
    assert product.dist(point, y).sum().item() < 0.5 * start

    scaled = geoopt.Scaled(PoincareBall(1.0), scale=3.0)
    p, q = (spread(4, 3, 1.0, seed=s) for s in (1, 2))
    torch.testing.assert_close(scaled.dist(p, q), 3.0 * PoincareBall(1.0).dist(p, q))
    torch.testing.assert_close(scaled.expmap(p, scaled.logmap(p, q)), q)


def test_a_model_with_the_ball_moves_and_loads_as_one() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ball = PoincareBall(0.7, max_radius=0.9, learnable=True)
            self.points = ManifoldParameter(torch.zeros(3, 2), manifold=self.ball)

    model, other = Model(), Model()
    with torch.no_grad():
        model.ball.log_c_ratio.fill_(0.3)
        model.points.fill_(0.2)
    other.load_state_dict(model.state_dict())
    assert other.ball.c.item() == model.ball.c.item()
    assert torch.equal(other.points, model.points)
    assert other.points.manifold is other.ball
