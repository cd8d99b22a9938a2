"""The midpoint of many weighted points: which points to average, and two ways to do it.

References:
    [U] A. A. Ungar, "Barycentric Calculus in Euclidean and Hyperbolic Geometry", 2010.
    [LD] M. Law, R. Liao, J. Snell, R. Zemel, "Lorentzian Distance Learning for Hyperbolic
        Representations", ICML 2019.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.arguments import (
    broadcast_shape,
    check_beside,
    check_limit,
    check_vectors,
)
from ternvae.manifolds.numerics import Curvature, Limit
from ternvae.manifolds.rows import apply
from ternvae.manifolds.rules import midpoint as rules
from ternvae.manifolds.rules import radial, tangent


def weighted_midpoint(
    xs: Tensor,
    weights: Tensor | None = None,
    *,
    c: Curvature,
    reducedim: Sequence[int] | None = None,
    dim: int = -1,
    keepdim: bool = False,
    lincomb: bool = False,
    posweight: bool = False,
    limit: Limit | None = None,
) -> Tensor:
    """Weighted gyromidpoint of many points, the centroid of the hyperboloid model ([U], [LD]).

    The point in the direction of ``S = sum w_i X_i``, where the ``X_i`` are the points on the
    hyperboloid: it minimises the weighted sum of ``cosh(sqrt(c) dist)``, commutes with isometries,
    and is the midpoint of two points of equal weight. Check-free in its values.

    Evaluated without cancellation: with ``a_i = w_i / (1 - c|x_i|^2)``, their sum A, that of the
    weights W, and ``m`` the mean of the coordinates with weights a, ``-<S, S> = W^2 +
    4c A sum a_i |x_i - m|^2`` and the midpoint is ``2A m / (2A - W + sqrt(-<S, S>))``.

    Args:
        xs: points, (..., d).
        weights: broadcast against ``xs`` without ``dim``; all 1 if None. Only their ratios matter.
            With weights of both signs S need not be timelike, and there is then no midpoint: the
            result is on the rim.
        c: curvature, c > 0.
        reducedim: the dimensions of ``xs`` to average over; all but ``dim`` if None.
        dim: the coordinate dimension.
        keepdim: keep the averaged dimensions as size 1.
        lincomb: multiply (Moebius) the midpoint by the sum of the weights.
        posweight: replace points of negative weight by their negatives, with positive weight.
        limit: confines the result, see :mod:`ternvae.manifolds.math`.

    Returns:
        (..., d) without the averaged dimensions.

    Raises:
        TypeError: ``xs`` or ``weights`` is not a tensor of float32 or float64.
        ValueError: shapes, devices or dimensions do not fit, or there is no point to average.
    """
    check_vectors((xs,), c, dim)
    check_limit(limit)
    dim = dim % xs.ndim
    averaged = _averaged(xs, reducedim, dim)
    w = None
    if weights is not None:
        _check_weights(weights, xs, dim)
        w = weights.reshape((1,) * (xs.ndim - 1 - weights.ndim) + weights.shape).unsqueeze(dim)
        xs, w = _broadcast(xs, w, dim)
        if posweight:
            xs, w = torch.where(w < 0.0, -xs, xs), w.abs()
    count = math.prod([xs.shape[k] for k in averaged])
    few = 2 <= count <= rules.MOST_POINTS
    mean = (_of_few if few else _of_many)(xs, w, c, averaged, dim)
    if lincomb:
        total = mean.new_full((1,) * mean.ndim, float(count))
        total = total if w is None else w.sum(averaged, keepdim=True)
        mean = apply(radial.ScalarMul, mean, total, c=c, dim=dim, limit=limit, per_point=1)
    elif limit is not None:
        mean = apply(radial.Project, mean, c=c, dim=dim, limit=limit)
    return mean if keepdim else mean.squeeze(averaged)


def _averaged(xs: Tensor, reducedim: Sequence[int] | None, dim: int) -> tuple[int, ...]:
    """The dimensions to average over, in order; torch takes an empty choice for all of them."""
    chosen = [k for k in range(xs.ndim) if k != dim] if reducedim is None else list(reducedim)
    known = [k for k in chosen if type(k) is int and -xs.ndim <= k < xs.ndim]
    averaged = tuple(sorted({k % xs.ndim for k in known}))
    if not averaged or dim in averaged or len(averaged) < len(chosen):
        raise ValueError(
            f"reducedim must name batch dimensions, each once and at least one, got {chosen!r} for "
            f"points of shape {tuple(xs.shape)} with coordinates along dim={dim}"
        )
    if math.prod([xs.shape[k] for k in averaged]) == 0:
        raise ValueError(f"there is no point to average, got shape {tuple(xs.shape)}")
    return averaged


def _check_weights(weights: Tensor, xs: Tensor, dim: int) -> None:
    check_beside(weights, "weights", xs)
    batch = (*xs.shape[:dim], *xs.shape[dim + 1 :])
    if weights.ndim > len(batch):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} have more dimensions than points of shape "
            f"{tuple(xs.shape)} have without their coordinates"
        )
    broadcast_shape(batch, weights.shape)


def _broadcast(xs: Tensor, w: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    shape = torch.broadcast_shapes(xs.shape, w.shape)  # type: ignore[no-untyped-call]
    one = list(shape)
    one[dim] = 1
    return xs.expand(shape), w.expand(one)


def _of_few(
    xs: Tensor, w: Tensor | None, c: Curvature, averaged: tuple[int, ...], dim: int
) -> Tensor:
    """The mean, averaged dimensions kept, by a rule."""

    def separate(t: Tensor) -> tuple[Tensor, ...]:
        front = t.movedim(averaged, tuple(range(len(averaged))))
        return front.flatten(0, len(averaged) - 1).unbind()

    at = sum(k not in averaged for k in range(dim))
    points = separate(xs)
    numbers = () if w is None else separate(w)
    out = apply(
        rules.weighted_midpoint(len(points)),
        *points,
        *numbers,
        c=c,
        dim=at,
        per_point=len(numbers),
    )
    return out.reshape([1 if k in averaged else size for k, size in enumerate(xs.shape)])


def _of_many(
    xs: Tensor, w: Tensor | None, c: Curvature, averaged: tuple[int, ...], dim: int
) -> Tensor:
    """The same in sums over the points."""
    wide, c = num.widen(xs), num.widen_curvature(c)
    w = torch.ones_like(wide.narrow(dim, 0, 1)) if w is None else w.double()
    a = 0.5 * w * apply(tangent.ConformalFactor, wide, c=c, dim=dim)
    total_w, total_a = (t.sum(averaged, keepdim=True) for t in (w, a))
    # Any base point gives the same value; near this one the differences are as small as can be.
    size = a.detach().abs()
    base = (size * wide.detach()).sum(averaged, keepdim=True)
    base = base / size.sum(averaged, keepdim=True).clamp_min(num.SMALLEST_SQUARED_LENGTH)
    offset = wide - base
    first = (a * offset).sum(averaged, keepdim=True)
    second = (a * offset.square()).sum((*averaged, dim), keepdim=True)
    spread = total_a * second - first.square().sum(dim, keepdim=True)
    squared = total_w.square() + 4.0 * c * spread
    up = 2.0 * total_a - total_w
    sign = torch.where(up < 0.0, -1.0, 1.0)
    height = up.abs() + squared.clamp_min(num.SMALLEST_SQUARED_LENGTH).sqrt()
    return (2.0 * sign * (total_a * base + first) / height).to(xs.dtype)


__all__ = ["weighted_midpoint"]
