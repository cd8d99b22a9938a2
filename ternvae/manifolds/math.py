"""The gyrovector geometry of the Poincare ball, as pure functions.

The ball is ``{x : c |x|^2 < 1}`` with metric ``lambda_x^2 <u, v>``, ``lambda_x = 2/(1 - c |x|^2)``:
sectional curvature ``-c``. As ``c -> 0`` it tends to Euclidean space with metric ``4 <u, v>``.

Conventions shared by every function:

* ``c > 0`` is a keyword, a float or a 0-dim tensor (gradients flow to it).
* ``dim`` is the coordinate dimension, ``d`` long; the others are batch dimensions and broadcast.
  Results that are one number per point drop ``dim`` unless ``keepdim=True``.
* float32 or float64 in, the same out (the wider one if they are mixed); see
  :mod:`ternvae.manifolds.numerics` for how it is computed.
* **Nothing is checked or clamped** except the dtype: a point on or outside the rim gives inf, NaN
  or a meaningless number; :class:`PoincareBall` projects and checks. There are no branches on data
  and nothing is read back to the host, so ``torch.compile(fullgraph=True)`` and graph capture have
  nothing to trip over.
* First derivatives are finite everywhere inside the ball, at the origin and at ``x = y`` included.

The differences that cancel near the rim are never formed: with ``s = sqrt(c) |x|``, the quantity
``1 - c |x|^2`` is ``(1 - s)(1 + s)``, and Moebius sums and distances are written in ``x + y`` and
``y - x`` (see :func:`mobius_add` and :func:`dist`).

References:
    [GBH] O. Ganea, G. Becigneul, T. Hofmann, "Hyperbolic Neural Networks", NeurIPS 2018.
    [U] A. A. Ungar, "A Gyrovector Space Approach to Hyperbolic Geometry", 2009.
"""

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.numerics import Curvature

__all__ = [
    "dist",
    "dist0",
    "egrad2rgrad",
    "expmap",
    "expmap0",
    "geodesic",
    "gyration",
    "inner",
    "lambda_x",
    "logmap",
    "logmap0",
    "mobius_add",
    "mobius_scalar_mul",
    "mobius_sub",
    "norm",
    "pairwise_dist",
    "parallel_transport",
    "parallel_transport0",
    "parallel_transport0back",
    "project",
]


def _gap(x: Tensor, c: Curvature, dim: int) -> Tensor:
    """``1 - c |x|^2 = 2 / lambda_x`` of a float64 point, kept as size 1 along ``dim``."""
    s = num.sqrt(c) * num.norm(x, dim)
    return (1.0 - s) * (1.0 + s)


def _add(x: Tensor, y: Tensor, gap_x: Tensor, gap_y: Tensor, c: Curvature, dim: int) -> Tensor:
    """Moebius sum of float64 points whose gaps are known."""
    d = x + y
    cd2 = c * num.dot(d, d, dim)
    return (gap_x * d + cd2 * x) / (gap_x * gap_y + cd2)


def lambda_x(x: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Conformal factor ``2 / (1 - c |x|^2)`` ([GBH], section 2.1 and 2.2).

    Args:
        x: points, (..., d).
        c: curvature, c > 0.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), hyperbolic length per coordinate length at ``x``.
    """
    out = 2.0 / _gap(num.widen(x), num.widen_curvature(c), dim)
    return num.squeeze(out, dim, keepdim).to(x.dtype)


def inner(
    x: Tensor, u: Tensor, v: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1
) -> Tensor:
    """Metric inner product ``lambda_x^2 <u, v>`` of tangent vectors ``u``, ``v`` at ``x``.

    Shapes: ``x``, ``u``, ``v`` (..., d) -> (...).
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, u.dtype), v.dtype)
    factor = 2.0 / _gap(num.widen(x), num.widen_curvature(c), dim)
    out = factor.square() * num.dot(num.widen(u), num.widen(v), dim)
    return num.squeeze(out, dim, keepdim).to(dtype)


def norm(x: Tensor, u: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Metric norm ``lambda_x |u|`` of the tangent vector ``u`` at ``x``.

    Shapes: ``x``, ``u`` (..., d) -> (...). The subgradient at ``u = 0`` is 0.
    """
    dtype = torch.promote_types(x.dtype, u.dtype)
    out = 2.0 / _gap(num.widen(x), num.widen_curvature(c), dim) * num.norm(num.widen(u), dim)
    return num.squeeze(out, dim, keepdim).to(dtype)


def egrad2rgrad(x: Tensor, grad: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Riemannian gradient ``grad / lambda_x^2`` of a function whose Euclidean gradient is ``grad``.

    The inverse of the metric tensor applied to the differential. Shapes: (..., d) -> (..., d).
    """
    dtype = torch.promote_types(x.dtype, grad.dtype)
    gap = _gap(num.widen(x), num.widen_curvature(c), dim)
    return ((0.5 * gap).square() * num.widen(grad)).to(dtype)


def mobius_add(x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Moebius addition ``x (+) y`` ([GBH], section 2.2; [U], chapter 3).

    The usual fraction, rewritten in ``d = x + y``::

        ((1 - c|x|^2) d + c|d|^2 x) / ((1 - c|x|^2)(1 - c|y|^2) + c|d|^2)

    The denominator is a sum of positive terms and the numerator's terms are each at most a small
    multiple of their sum, so nothing cancels, not even for ``y`` near ``-x`` at the rim.

    Shapes: ``x``, ``y`` (..., d) -> (..., d).
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y, c = num.widen(x), num.widen(y), num.widen_curvature(c)
    return _add(x, y, _gap(x, c, dim), _gap(y, c, dim), c, dim).to(dtype)


def mobius_sub(x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Moebius subtraction ``x (-) y = x (+) (-y)`` ([GBH], section 2.2).

    Shapes: ``x``, ``y`` (..., d) -> (..., d).
    """
    return mobius_add(x, -y, c=c, dim=dim)


def mobius_scalar_mul(r: float | Tensor, x: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Moebius multiple ``r (x) x = tanh(r artanh(s)) x / s``, ``s = sqrt(c)|x|`` ([GBH], 2.2).

    The point at ``r`` times the distance of ``x`` from the origin, on the same diameter.

    Args:
        r: the factor, a number or a tensor that broadcasts against ``x`` (..., d).
        x: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        (..., d).
    """
    dtype = torch.promote_types(x.dtype, r.dtype) if isinstance(r, Tensor) and r.ndim else x.dtype
    r = r.double() if isinstance(r, Tensor) else r
    x = num.widen(x)
    s = num.sqrt(num.widen_curvature(c)) * num.norm(x, dim)
    ratio = num.artanh_ratio(s)
    # The ratio tanh(z)/z is even, so that of |r| serves both signs of r.
    z = s * ratio * (r.abs() if isinstance(r, Tensor) else abs(r))
    return (r * num.tanh_ratio(z) * ratio * x).to(dtype)


def gyration(x: Tensor, y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Gyration ``gyr[x, y] v = -(x (+) y) (+) (x (+) (y (+) v))``, a rotation, linear in ``v``.

    The closed form of Moebius gyrations ([U], chapter 3), rewritten in ``d = x + y`` so that every
    correction to the identity carries a factor ``d``: it stays a rotation to rounding error
    for ``y`` near ``-x`` at the rim, and is exactly the identity at ``y = -x``.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        v: any vectors, not necessarily inside the ball, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        (..., d).
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), v.dtype)
    x, y, v, c = num.widen(x), num.widen(y), num.widen(v), num.widen_curvature(c)
    return _gyrate(-y, x, v, _gap(y, c, dim), _gap(x, c, dim), c, dim).to(dtype)


def _gyrate(
    x: Tensor, y: Tensor, v: Tensor, gap_x: Tensor, gap_y: Tensor, c: Curvature, dim: int
) -> Tensor:
    """``gyr[y, -x] v`` of float64 points whose gaps are known: the rotation in transport x -> y."""
    d = y - x
    cd2 = c * num.dot(d, d, dim)
    cx2 = c * num.dot(x, x, dim)
    cxd = c * num.dot(x, d, dim)
    cxv = c * num.dot(x, v, dim)
    cdv = c * num.dot(d, v, dim)
    along_d = (2.0 * cxd - gap_x) * cxv - cx2 * cdv
    along_x = gap_x * cdv - cd2 * cxv
    return v + 2.0 * (along_d * d + along_x * x) / (gap_x * gap_y + cd2)


def dist(x: Tensor, y: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Geodesic distance, ``2/sqrt(c) artanh(sqrt(c) |(-x) (+) y|)`` ([GBH], section 2.2).

    Evaluated as ``2/sqrt(c) arsinh(sqrt(c)|x-y| / sqrt((1-c|x|^2)(1-c|y|^2)))``, which is the same
    number (``sinh^2 = tanh^2 / (1 - tanh^2)``) and accurate for near and for far points. The
    subgradient at ``x = y`` is 0.

    Shapes: ``x``, ``y`` (..., d) -> (...).
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y, c = num.widen(x), num.widen(y), num.widen_curvature(c)
    root_c = num.sqrt(c)
    z = root_c * num.norm(y - x, dim) / (_gap(x, c, dim) * _gap(y, c, dim)).sqrt()
    return num.squeeze(2.0 / root_c * z.asinh(), dim, keepdim).to(dtype)


def dist0(x: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Distance from the origin, ``2/sqrt(c) artanh(sqrt(c)|x|)`` ([GBH], 2.2); subgradient 0 at 0.

    Shapes: ``x`` (..., d) -> (...).
    """
    root_c = num.sqrt(num.widen_curvature(c))
    s = root_c * num.norm(num.widen(x), dim)
    return num.squeeze(2.0 / root_c * s.atanh(), dim, keepdim).to(x.dtype)


def pairwise_dist(x: Tensor, y: Tensor, *, c: Curvature) -> Tensor:
    """All geodesic distances between two sets of points.

    The same formula as :func:`dist`; the differences are formed pair by pair, never through a
    matrix product, so near pairs are as accurate as far ones. Coordinates are the last dimension.

    Args:
        x: points, (..., n, d).
        y: points, (..., m, d).
        c: curvature, c > 0.

    Returns:
        (..., n, m). Memory is proportional to n m, not n m d; subgradient 0 where ``x_i = y_j``.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y, c = num.widen(x), num.widen(y), num.widen_curvature(c)
    root_c = num.sqrt(c)
    differences = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    gaps = _gap(x, c, -1) * _gap(y, c, -1).transpose(-1, -2)
    return (2.0 / root_c * (root_c * differences / gaps.sqrt()).asinh()).to(dtype)


def expmap0(u: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Exponential map at the origin, ``tanh(sqrt(c)|u|) u / (sqrt(c)|u|)`` ([GBH], section 2.3).

    ``dist0`` of the result is ``2 |u|``, the metric norm of ``u``. The Jacobian at 0 is the
    identity. Shapes: ``u`` (..., d) -> (..., d).
    """
    wide = num.widen(u)
    z = num.sqrt(num.widen_curvature(c)) * num.norm(wide, dim)
    return (num.tanh_ratio(z) * wide).to(u.dtype)


def logmap0(x: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Logarithm at the origin, ``artanh(sqrt(c)|x|) x / (sqrt(c)|x|)`` ([GBH], section 2.3).

    The inverse of :func:`expmap0`. The Jacobian at 0 is the identity.
    Shapes: ``x`` (..., d) -> (..., d).
    """
    wide = num.widen(x)
    s = num.sqrt(num.widen_curvature(c)) * num.norm(wide, dim)
    return (num.artanh_ratio(s) * wide).to(x.dtype)


def expmap(x: Tensor, u: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Exponential map ``x (+) (tanh(h) u / (sqrt(c)|u|))`` ([GBH], Lemma 2).

    ``h = sqrt(c) lambda_x |u| / 2`` is half the length of ``u`` in units of the curvature radius.
    The second summand's ``1 - c|.|^2`` is ``sech(h)^2``, which does not cancel for large ``h``.
    The Jacobian in ``u`` at ``u = 0`` is the identity.

    Shapes: points ``x``, tangent vectors ``u`` at ``x`` (..., d) -> points (..., d).
    """
    dtype = torch.promote_types(x.dtype, u.dtype)
    x, u, c = num.widen(x), num.widen(u), num.widen_curvature(c)
    gap = _gap(x, c, dim)
    h = num.sqrt(c) * num.norm(u, dim) / gap
    return _add(x, num.tanh_ratio(h) / gap * u, gap, num.sech_squared(h), c, dim).to(dtype)


def logmap(x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Logarithm ``2/(sqrt(c) lambda_x) artanh(sqrt(c)|m|) m/|m|`` ([GBH], Lemma 2).

    Here ``m = (-x) (+) y``. With ``d = y - x``, ``D = (1-c|x|^2)(1-c|y|^2) + c|d|^2`` and ``m``'s
    numerator ``n = (1-c|x|^2) d - c|d|^2 x``, one has ``|n| = |d| sqrt(D)``, and
    ``artanh(sqrt(c)|m|)`` is the arsinh of :func:`dist`; so neither the direction nor the length
    cancels.

    Shapes: points ``x``, ``y`` (..., d) -> tangent vectors at ``x`` (..., d); 0 at ``x = y``, where
    the Jacobian in ``y`` is the identity.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y, c = num.widen(x), num.widen(y), num.widen_curvature(c)
    gap_x, gap_y = _gap(x, c, dim), _gap(y, c, dim)
    d = y - x
    cd2 = c * num.dot(d, d, dim)
    gaps = gap_x * gap_y
    z = num.sqrt(c) * num.norm(d, dim) / gaps.sqrt()
    scale = (gap_x / gap_y).sqrt() * num.arsinh_ratio(z) / (gaps + cd2).sqrt()
    return (scale * (gap_x * d - cd2 * x)).to(dtype)


def geodesic(t: float | Tensor, x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Point at time ``t`` on the geodesic with value ``x`` at 0 and ``y`` at 1 ([GBH], 2.3).

    ``x (+) t (x) ((-x) (+) y) = exp_x(t log_x(y))``.

    Args:
        t: time, a number or a tensor that broadcasts against (..., d); any real value.
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        (..., d).
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = num.widen(x), num.widen(y)
    return expmap(x, t * logmap(x, y, c=c, dim=dim), c=c, dim=dim).to(dtype)


def parallel_transport(x: Tensor, y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Parallel transport ``(lambda_x / lambda_y) gyr[y, -x] v`` along the geodesic from x to y.

    An isometry of the tangent spaces; the gyrovector form is [U], chapter on parallel transport,
    and for ``x = 0`` [GBH], Theorem 4.

    Shapes: points ``x``, ``y``, tangent vectors ``v`` at ``x`` (..., d) -> tangent vectors at
    ``y`` (..., d).
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), v.dtype)
    x, y, v, c = num.widen(x), num.widen(y), num.widen(v), num.widen_curvature(c)
    gap_x, gap_y = _gap(x, c, dim), _gap(y, c, dim)
    return (gap_y / gap_x * _gyrate(x, y, v, gap_x, gap_y, c, dim)).to(dtype)


def parallel_transport0(y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Parallel transport from the origin to ``y``: ``(lambda_0 / lambda_y) v`` ([GBH], Theorem 4).

    Shapes: points ``y``, tangent vectors ``v`` at 0 (..., d) -> tangent vectors at ``y``.
    """
    dtype = torch.promote_types(y.dtype, v.dtype)
    return (_gap(num.widen(y), num.widen_curvature(c), dim) * num.widen(v)).to(dtype)


def parallel_transport0back(y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Parallel transport from ``y`` to the origin: ``(lambda_y / lambda_0) v`` ([GBH], Theorem 4).

    Shapes: points ``y``, tangent vectors ``v`` at ``y`` (..., d) -> tangent vectors at 0.
    """
    dtype = torch.promote_types(y.dtype, v.dtype)
    return (num.widen(v) / _gap(num.widen(y), num.widen_curvature(c), dim)).to(dtype)


def project(x: Tensor, *, c: Curvature, max_radius: float | None = None, dim: int = -1) -> Tensor:
    """Move points beyond the limit radially inside it; return the others unchanged, bit for bit.

    The limit of ``sqrt(c)|x|`` is ``max_radius``, or the rim when that is None; how far inside a
    projected point lands is :func:`ternvae.manifolds.numerics.projection_bounds`. Idempotent.

    Args:
        x: vectors of any finite norm, (..., d).
        c: curvature, c > 0.
        max_radius: fraction of the ball's radius, in (0, 1), or None.
        dim: the coordinate dimension.

    Returns:
        (..., d).
    """
    wide = num.widen(x)
    threshold, target = num.projection_bounds(x.dtype, max_radius)
    s = num.sqrt(num.widen_curvature(c)) * num.norm(wide, dim)
    scale = torch.where(s > threshold, target / s.clamp_min(threshold), 1.0)
    return (scale * wide).to(x.dtype)
