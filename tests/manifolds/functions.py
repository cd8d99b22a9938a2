"""Every public function of the ball as one function of points x, y, a vector v, c and a limit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ternvae.manifolds import math, programs
from ternvae.manifolds.numerics import Limit

Function = Callable[..., Tensor]


def matrix_of(v: Tensor) -> Tensor:
    """A square matrix of small norm, whatever the number of vectors."""
    few = torch.atleast_2d(v)[:3]
    return few.mT @ few


# Functions that make points: (x, y, v, c, limit).
LIMITED: dict[str, Callable[[Tensor, Tensor, Tensor, Any, Limit | None], Tensor]] = {
    "mobius_add": lambda x, y, v, c, k: math.mobius_add(x, y, c=c, limit=k),
    "mobius_sub": lambda x, y, v, c, k: math.mobius_sub(x, y, c=c, limit=k),
    "mobius_matvec": lambda x, y, v, c, k: math.mobius_matvec(matrix_of(v), x, c=c, limit=k),
    "mobius_pointwise_mul": lambda x, y, v, c, k: math.mobius_pointwise_mul(v, x, c=c, limit=k),
    "mobius_scalar_mul": lambda x, y, v, c, k: math.mobius_scalar_mul(
        v[..., :1] + 0.5, x, c=c, limit=k
    ),
    "midpoint": lambda x, y, v, c, k: math.midpoint(x, y, c=c, limit=k),
    "weighted_midpoint": lambda x, y, v, c, k: math.weighted_midpoint(
        torch.stack(torch.broadcast_tensors(x, y)),
        torch.stack([1.0 + v[..., 0].square(), 1.5 - v[..., 0]]),
        c=c,
        reducedim=[0],
        limit=k,
    ),
    "expmap0": lambda x, y, v, c, k: math.expmap0(v, c=c, limit=k),
    "expmap": lambda x, y, v, c, k: math.expmap(x, v, c=c, limit=k),
    "geodesic": lambda x, y, v, c, k: math.geodesic(0.3 + v[..., :1], x, y, c=c, limit=k),
}


def _without_limit(name: str) -> Function:
    function = LIMITED[name]
    return lambda x, y, v, c: function(x, y, v, c, None)


# All of them, wherever the formula puts the result: (x, y, v, c).
FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Any], Tensor]] = {
    **{name: _without_limit(name) for name in LIMITED},
    "lambda_x": lambda x, y, v, c: math.lambda_x(x, c=c),
    "inner": lambda x, y, v, c: math.inner(x, v, y, c=c),
    "norm": lambda x, y, v, c: math.norm(x, v, c=c),
    "egrad2rgrad": lambda x, y, v, c: math.egrad2rgrad(x, v, c=c),
    "gyration": lambda x, y, v, c: math.gyration(x, y, v, c=c),
    "dist": lambda x, y, v, c: math.dist(x, y, c=c),
    "dist0": lambda x, y, v, c: math.dist0(x, c=c),
    "pairwise_dist": lambda x, y, v, c: math.pairwise_dist(x, y, c=c),
    "dist2plane": lambda x, y, v, c: math.dist2plane(x, y, v, c=c, signed=True),
    "sproj": lambda x, y, v, c: math.sproj(math.inv_sproj(x, c=c), c=c),
    "inv_sproj": lambda x, y, v, c: math.inv_sproj(x, c=c),
    "logmap0": lambda x, y, v, c: math.logmap0(x, c=c),
    "logmap": lambda x, y, v, c: math.logmap(x, y, c=c),
    "parallel_transport": lambda x, y, v, c: math.parallel_transport(x, y, v, c=c),
    "parallel_transport0": lambda x, y, v, c: math.parallel_transport0(y, v, c=c),
    "parallel_transport0back": lambda x, y, v, c: math.parallel_transport0back(y, v, c=c),
    "project": lambda x, y, v, c: math.project(3.0 * x, c=c, max_radius=0.9),
}

# Not differentiable at zero distance, or for the normal 0.
DISTANCES = ("dist", "dist0", "dist2plane", "pairwise_dist", "norm")
# Those whose results have one row for each row of the points, by arithmetic on that row alone: a
# matrix product may sum in an order that depends on the size of the batch.
ROW_BY_ROW = tuple(name for name in FUNCTIONS if name not in ("mobius_matvec", "pairwise_dist"))


def outcome(
    function: Function,
    inputs: tuple[Tensor, ...],
    c: float = 0.8,
    grad: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """The result, and the gradients of the inputs and of c for a random cotangent (or ``grad``)."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    curvature = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    out = function(*leaves, curvature)
    if grad is None:
        g = torch.Generator().manual_seed(11)
        cotangent = torch.randn(out.shape, dtype=torch.float64, generator=g).to(out.dtype)
    else:
        cotangent = grad(out)
    found = torch.autograd.grad(out, (*leaves, curvature), cotangent, allow_unused=True)
    return out.detach(), list(found)


def spread(count: int, width: int, c: float, seed: int, most: float = 0.9) -> Tensor:
    """Random float64 points with ``sqrt(c) |x|`` between 0.05 and ``most``."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, dtype=torch.float64, generator=g)
    s = 0.05 + (most - 0.05) * torch.rand(count, 1, dtype=torch.float64, generator=g)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True) * (s / c**0.5)


def by_programs_and_by_torch(function: Callable[[], Tensor]) -> list[Tensor]:
    """The value as the compiled programs compute it, and as torch operations do."""
    found = [function()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_tiles", None)
        return [*found, function()]
