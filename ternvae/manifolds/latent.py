"""The way from an encoder to a decoder through the ball, as one operation.

Written out with :class:`ternvae.manifolds.WrappedNormal` it is a dozen operations, each of which
goes over the batch and is a node of the graph.  Here it is one of each: see
:class:`ternvae.manifolds.rules.latent.Latent` for the formula.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ternvae.manifolds import numerics as num
from ternvae.manifolds import programs
from ternvae.manifolds.arguments import check_beside, check_tensor, check_vectors
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.rows import apply
from ternvae.manifolds.rules.latent import Latent, PolarPoint, Region, Values
from ternvae.manifolds.vectors import Metric

__all__ = ["LatentSample", "latent_sample", "polar_point", "radius_at"]


class LatentSample(NamedTuple):
    """What :func:`latent_sample` gives, ``batch`` rows throughout; holds it check-free.

    Attributes:
        points: (batch, d) centres of the posteriors, points of the ball inside ``max_radius``.
        tangent: (batch, d) the samples, moved inside ``max_radius``, as tangent vectors at the
            origin: log_0 of them.
        posterior_log_prob: (batch,) log-density of the sample under WN(points, scale), nats.
        prior_log_prob: (batch,) the same under WN(centre, 1).
    """

    points: Tensor
    tangent: Tensor
    posterior_log_prob: Tensor
    prior_log_prob: Tensor


def radius_at(ball: PoincareBall, share: Tensor) -> Tensor:
    """Hyperbolic radii that are given shares of the largest in use; check-free in values.

    Args:
        ball: the ball, with a ``max_radius``.
        share: of any shape, in [0, 1]; float32 or float64.

    Returns:
        ``share * ball.hyperbolic_radius_max``, of the shape and dtype of ``share``.

    Raises:
        TypeError: ``share`` is not a tensor of float32 or float64.
        ValueError: the ball has no ``max_radius``.
    """
    check_tensor(share)
    if ball.max_radius is None:
        raise ValueError("ball must have a max_radius, of which there can be shares")
    c = ball._c
    if isinstance(c, Tensor):
        return share * ball.hyperbolic_radius_max.to(share)
    return share * (2.0 / math.sqrt(c) * math.atanh(ball.max_radius))


def polar_point(ball: PoincareBall, direction: Tensor, radius: Tensor) -> Tensor:
    """The points at given distances from the origin in given directions; check-free in values.

    Args:
        ball: the ball; no point is outside of its ``max_radius``.
        direction: (..., d) vectors, not 0; float32 or float64.
        radius: (...,) hyperbolic distances from the origin, not negative.

    Returns:
        (..., d) points of the dtype of ``direction``.

    Raises:
        TypeError: a tensor is not float32 or float64.
        ValueError: shapes or devices do not fit.
    """
    check_vectors((direction,), 1.0, -1)
    check_beside(radius, "radius", direction)
    if radius.shape != direction.shape[:-1]:
        raise ValueError(
            f"radius must be {tuple(direction.shape[:-1])}, one for each direction, got "
            f"{tuple(radius.shape)}"
        )
    limit = num.limit_of(direction.dtype, ball.max_radius)
    numbers = radius.unsqueeze(-1)
    return apply(PolarPoint, direction, numbers, c=ball._c, dim=-1, limit=limit, per_point=1)


def latent_sample(
    ball: PoincareBall,
    direction: Tensor,
    radius: Tensor,
    log_scale: Tensor,
    noise: Tensor,
    centre: Tensor | None = None,
) -> LatentSample:
    """Draw from wrapped normals whose centres are given in polar coordinates; check-free in values.

    The same law as ``WrappedNormal(expmap0(radius / 2 * direction / |direction|),
    exp(log_scale), ball)`` and the densities of its ``rsample_with_log_prob`` and of
    ``WrappedNormal(centre, 1, ball).log_prob`` (Nagano et al. 2019, algorithm 1 and eq. 8).

    Args:
        ball: the ball, with a ``max_radius``.
        direction: (batch, d) vectors, not 0; float32 or float64.
        radius: (batch,) hyperbolic distances of the centres from the origin.
        log_scale: (batch, d) logarithms of the scales, in units of hyperbolic length.
        noise: (batch, d) standard normal draws.
        centre: (batch, d) centres of the prior; None for the origin.

    Raises:
        TypeError: a tensor is not float32 or float64.
        ValueError: shapes or devices do not fit, or the ball has no ``max_radius``.
    """
    vectors = (
        (direction, log_scale, noise) if centre is None else (direction, log_scale, noise, centre)
    )
    check_vectors(vectors, 1.0, -1)
    check_beside(radius, "radius", direction)
    if direction.ndim != 2 or any(v.shape != direction.shape for v in vectors):
        shapes = ", ".join(str(tuple(v.shape)) for v in vectors)
        raise ValueError(f"expected matrices (batch, d) of one shape, got {shapes}")
    if radius.shape != direction.shape[:1]:
        raise ValueError(
            f"radius must be (batch,) = {tuple(direction.shape[:1])}, got {tuple(radius.shape)}"
        )
    if ball.max_radius is None:
        raise ValueError("ball must have a max_radius, which the samples are moved inside")
    displacement = noise * log_scale.exp()
    rows = [direction, displacement, *([] if centre is None else [centre]), radius.unsqueeze(-1)]
    inside = num.limit_of(direction.dtype, ball.max_radius)
    region = Region(inside.threshold, inside.target, float(direction.shape[-1] - 1))
    values = _apply(ball, num.limit_of(direction.dtype, None), region, rows)
    constant = -0.5 * direction.shape[-1] * math.log(2.0 * math.pi)
    gauss = -0.5 * noise.square() - log_scale
    return LatentSample(
        values.points,
        values.tangent,
        gauss.sum(-1) + (values.posterior.squeeze(-1) + constant),
        values.prior.squeeze(-1) + constant,
    )


def _apply(ball: PoincareBall, rim: num.Limit, region: Region, rows: list[Tensor]) -> Values:
    c = ball._c
    visible = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if visible or (isinstance(c, Tensor) and c.requires_grad):
        # Somebody wants to see the operations, or the derivative with respect to c.
        c = c.double() if isinstance(c, Tensor) else c
        m = Metric(c, rim, False, rows[0].dtype)
        found = Latent.forward(m, region, *rows)
        return Values(*(value.to(rows[0].dtype) for value in found))
    return Values(*_LatentFunction.apply(c, rim, region, *rows))  # type: ignore[no-untyped-call]


def _forward(m: Any, parameters: Any, *rows: Any) -> list[Any]:
    return list(Latent.forward(m, Region(*parameters), *rows))


def _backward_with_centre(m: Any, parameters: Any, *rows: Any) -> list[Any]:
    return _backward(m, parameters, 3, rows)


def _backward_at_origin(m: Any, parameters: Any, *rows: Any) -> list[Any]:
    return _backward(m, parameters, 2, rows)


def _backward(m: Any, parameters: Any, n_vectors: int, rows: Any) -> list[Any]:
    """Rows are the gradients of the vectors, the vectors, those of the numbers, the radii."""
    g_points, g_tangent, *rest = rows
    vectors, (g_posterior, g_prior, radius) = rest[:n_vectors], rest[n_vectors:]
    grads = Values(g_points, g_tangent, g_posterior, g_prior)
    return Latent.backward(m, Region(*parameters), grads, *vectors, radius)


class _LatentFunction(torch.autograd.Function):
    """:class:`Latent` as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, c: Any, rim: num.Limit, region: Region, *rows: Tensor) -> tuple[Any, ...]:
        kept = [_rows(t) for t in rows]
        ctx.c, ctx.rim, ctx.region = c, rim, region
        ctx.save_for_backward(*rows)
        direction, dtype = rows[0], rows[0].dtype
        if not programs.fits(kept):
            m = Metric(_double(c), rim, False, dtype)
            return tuple([value.to(dtype) for value in Latent.forward(m, region, *kept)])
        like, n = direction.shape, direction.shape[0]
        found = [torch.empty(s, dtype=dtype) for s in (like, like, (n, 1), (n, 1))]
        programs.evaluate(_forward, float(c), rim, region, kept[:-1], kept[-1:], found)
        return tuple(found)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> Any:
        rows = [_rows(t) for t in ctx.saved_tensors]
        given = [_rows(g) for g in grads]
        vectors, numbers = [*given[:2], *rows[:-1]], [*given[2:], rows[-1]]
        backward = _backward_with_centre if len(rows) == 4 else _backward_at_origin
        if programs.fits([*vectors, *numbers]):
            found = [torch.empty_like(t) for t in rows]
            programs.evaluate(backward, float(ctx.c), ctx.rim, ctx.region, vectors, numbers, found)
        else:
            m = Metric(_double(ctx.c), ctx.rim, False, rows[0].dtype)
            wide = [t.double() for t in numbers]
            made = backward(m, ctx.region, *vectors, *wide)
            found = [g.to(t.dtype) for g, t in zip(made, rows, strict=True)]
        return None, None, None, *found


def _double(c: Any) -> Any:
    return c.double() if isinstance(c, Tensor) else c


def _rows(t: Tensor) -> Tensor:
    return t if t.stride(1) == 1 or t.shape[1] == 1 else t.contiguous()
