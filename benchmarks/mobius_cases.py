"""The operations that ``bench_mobius.py`` compares, and the inputs it compares them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mobius_oracle as oracle
import torch
from torch import Tensor

__all__ = ["OPERATIONS", "Operation", "rows_of", "sample_inputs", "timing_inputs", "truth"]

#: Coordinates of a point.
WIDTH = 16

#: Norms and number of the points at each of them that errors are measured on.
SAMPLE_NORMS = (0.1, 0.95, 0.99)
SAMPLES_PER_NORM = 8

_PER_POINT = ("x", "y", "u", "v", "h")
_CONSTANT = ("r", "t")  # no gradient is asked for


class Operation(NamedTuple):
    """One operation in every implementation.

    Attributes:
        inputs: which of the inputs it takes, in the order in which the functions do.  ``x``, ``y``
            are points, ``u``, ``v`` tangent vectors at x, ``h`` one at the origin, ``matrix``,
            ``w``, ``r`` and ``t`` a matrix, weights, a factor and a time for all points.
        ball: of a ball and the inputs; geoopt's ball has our methods.
        exact: of the exact values of the inputs for one point.
        hypll: of HypLL's module, its curvature and the inputs; None where it has no such function.
    """

    inputs: tuple[str, ...]
    ball: Callable[..., Tensor]
    exact: Callable[..., Any]
    hypll: Callable[..., Tensor] | None = None

    def wanted(self, given: dict[str, Tensor]) -> list[Tensor]:
        """The inputs whose gradients are computed."""
        return [given[name] for name in self.inputs if name not in _CONSTANT]

    def arguments(self, given: dict[str, Tensor]) -> list[Tensor]:
        """The inputs in order."""
        return [given[name] for name in self.inputs]


OPERATIONS: dict[str, Operation] = {
    "mobius_add": Operation(
        ("x", "y"),
        lambda ball, x, y: ball.mobius_add(x, y),
        oracle.add,
        lambda hypll, c, x, y: hypll.mobius_add(x, y, c),
    ),
    "mobius_sub": Operation(
        ("x", "y"),
        lambda ball, x, y: ball.mobius_sub(x, y),
        lambda x, y: oracle.add(x, oracle.scale(-1, y)),
    ),
    "mobius_scalar_mul": Operation(
        ("r", "x"), lambda ball, r, x: ball.mobius_scalar_mul(r, x), oracle.scalar_mul
    ),
    "mobius_matvec": Operation(
        ("matrix", "x"), lambda ball, matrix, x: ball.mobius_matvec(matrix, x), oracle.matvec
    ),
    "mobius_pointwise_mul": Operation(
        ("w", "x"),
        lambda ball, w, x: ball.mobius_pointwise_mul(w, x),
        lambda w, x: oracle.expmap0([a * b for a, b in zip(w, oracle.logmap0(x), strict=True)]),
    ),
    "gyration": Operation(
        ("x", "y", "v"),
        lambda ball, x, y, v: ball.gyration(x, y, v),
        oracle.gyration,
        lambda hypll, c, x, y, v: hypll.gyration(x, y, v, c),
    ),
    "expmap": Operation(
        ("x", "u"),
        lambda ball, x, u: ball.expmap(x, u),
        oracle.expmap,
        lambda hypll, c, x, u: hypll.expmap(x, u, c),
    ),
    "logmap": Operation(
        ("x", "y"),
        lambda ball, x, y: ball.logmap(x, y),
        oracle.logmap,
        lambda hypll, c, x, y: hypll.logmap(x, y, c),
    ),
    "expmap0": Operation(
        ("h",),
        lambda ball, h: ball.expmap0(h),
        oracle.expmap0,
        lambda hypll, c, h: hypll.expmap0(h, c),
    ),
    "logmap0": Operation(
        ("x",),
        lambda ball, x: ball.logmap0(x),
        oracle.logmap0,
        lambda hypll, c, x: hypll.logmap0(x, c),
    ),
    "dist": Operation(
        ("x", "y"),
        lambda ball, x, y: ball.dist(x, y),
        oracle.dist,
        lambda hypll, c, x, y: hypll.dist(x, y, c),
    ),
    "dist0": Operation(
        ("x",), lambda ball, x: ball.dist0(x), lambda x: oracle.dist([0] * len(x), x)
    ),
    "dist2plane": Operation(
        ("x", "y", "v"), lambda ball, x, p, a: ball.dist2plane(x, p, a), oracle.dist2plane
    ),
    "geodesic": Operation(
        ("t", "x", "y"), lambda ball, t, x, y: ball.geodesic(t, x, y), oracle.geodesic
    ),
    "transp": Operation(
        ("x", "y", "v"),
        lambda ball, x, y, v: ball.transp(x, y, v),
        oracle.transport,
        lambda hypll, c, x, y, v: hypll.transp(x, y, v, c),
    ),
    "transp0": Operation(
        ("x", "v"),
        lambda ball, x, v: ball.transp0(x, v),
        lambda x, v: oracle.scale(2 / oracle.conformal_factor(x), v),
    ),
    "transp0back": Operation(
        ("x", "v"),
        lambda ball, x, v: ball.transp0back(x, v),
        lambda x, v: oracle.scale(oracle.conformal_factor(x) / 2, v),
    ),
    "lambda_x": Operation(("x",), lambda ball, x: ball.lambda_x(x), oracle.conformal_factor),
    "inner": Operation(
        ("x", "u", "v"),
        # With keepdim=False, geoopt multiplies (n, 1) by (n,), which gives an n x n matrix.
        lambda ball, x, u, v: ball.inner(x, u, v, keepdim=True),
        lambda x, u, v: oracle.conformal_factor(x) ** 2 * oracle.dot(u, v),
        lambda hypll, c, x, u, v: hypll.inner(x, u, v, c, keepdim=True),
    ),
    "norm": Operation(
        ("x", "u"),
        lambda ball, x, u: ball.norm(x, u),
        lambda x, u: oracle.conformal_factor(x) * oracle.norm(u),
    ),
    "egrad2rgrad": Operation(
        ("x", "v"),
        lambda ball, x, v: ball.egrad2rgrad(x, v),
        lambda x, v: oracle.scale(1 / oracle.conformal_factor(x) ** 2, v),
        lambda hypll, c, x, v: hypll.euc_to_tangent(x, v, c),
    ),
    "projx": Operation(
        ("x",),
        lambda ball, x: ball.projx(x),
        lambda x: x,  # all points are inside
        lambda hypll, c, x: hypll.project(x, c),
    ),
    "weighted_midpoint": Operation(
        ("x", "y"),
        lambda ball, x, y: ball.weighted_midpoint(torch.stack([x, y]), reducedim=[0]),
        lambda x, y: oracle.geodesic(oracle.mp.mpf("0.5"), x, y),
    ),
}


def timing_inputs(batch: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """The inputs of every operation for timing, always the same: points of norm 0.95 at most."""
    generator = torch.Generator().manual_seed(0)

    def noise(size: float) -> Tensor:
        return size * torch.randn(batch, WIDTH, dtype=torch.float64, generator=generator)

    def points() -> Tensor:
        x = noise(0.15)
        return x * (0.95 / x.norm(dim=-1, keepdim=True)).clamp(max=1.0)

    given = {"x": points(), "y": points(), "u": noise(0.05), "v": noise(0.15), "h": noise(0.2)}
    return _ready({**given, **_shared(generator)}, dtype, device)


def sample_inputs(dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """The inputs of every operation for measuring errors.

    Points x at each norm of :data:`SAMPLE_NORMS`, first with y far away at the same norm and u a
    step of length 1/2 in the metric, then with the same x and y and u near 0 relative to the
    distance from the rim; h is what the exponential map takes to x.
    """
    generator = torch.Generator().manual_seed(1)
    norms = torch.tensor(SAMPLE_NORMS, dtype=torch.float64).repeat_interleave(SAMPLES_PER_NORM)
    norms = norms.unsqueeze(1)

    def noise() -> Tensor:
        return torch.randn(len(norms), WIDTH, dtype=torch.float64, generator=generator)

    def directions() -> Tensor:
        d = noise()
        return d / d.norm(dim=-1, keepdim=True)

    x = norms * directions()
    small = 1e-4 * (1.0 - norms) * noise()
    far = {"x": x, "y": norms * directions(), "u": 0.25 * (1.0 - norms**2) * directions()}
    near = {"x": x, "y": x + small, "u": small}
    given = {name: torch.cat([far[name], near[name]]) for name in far}
    given["v"] = 0.15 * torch.cat([noise(), noise()])
    given["h"] = torch.atanh(norms).div(norms).repeat(2, 1) * given["x"]
    return _ready({**given, **_shared(generator)}, dtype, device)


def _shared(generator: torch.Generator) -> dict[str, Tensor]:
    """Inputs without a batch; none makes a point's distance from the origin larger."""
    matrix = torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator)
    return {
        "matrix": 0.9 * torch.linalg.qr(matrix).Q,
        "w": 0.5 + 0.4 * torch.rand(WIDTH, dtype=torch.float64, generator=generator),
        "r": torch.tensor(0.7),
        "t": torch.tensor(0.3),
    }


def _ready(given: dict[str, Tensor], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    return {
        name: t.to(device, dtype).requires_grad_(name not in _CONSTANT) for name, t in given.items()
    }


def rows_of(given: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The inputs of some points, as leaves; those without a batch unchanged."""
    return {
        name: t.detach()[rows].requires_grad_() if name in _PER_POINT else t
        for name, t in given.items()
    }


def truth(operation: Operation, given: dict[str, Tensor]) -> list[Any]:
    """The exact value for each point of ``given``."""
    values = {name: oracle.exact(given[name].tolist()) for name in operation.inputs}
    return [
        operation.exact(
            *(values[name][k] if name in _PER_POINT else values[name] for name in operation.inputs)
        )
        for k in range(len(given["x"]))
    ]
