"""The gyrovector geometry of the Poincare ball, as pure functions.

The ball is ``{x : c |x|^2 < 1}`` with metric ``lambda_x^2 <u, v>``, ``lambda_x = 2/(1 - c |x|^2)``:
sectional curvature ``-c``. As ``c -> 0`` it tends to Euclidean space with metric ``4 <u, v>``.

Conventions shared by every function:

* ``c > 0`` is a keyword, a float or a 0-dim tensor (gradients flow to it).
* ``dim`` is the coordinate dimension, ``d`` long; the others are batch dimensions and broadcast.
  Results that are one number per point drop ``dim`` unless ``keepdim=True``.
* float32 or float64 in, the same out (the wider one if they are mixed). Values are computed in
  float64 and rounded once.
* **Form is checked, values are not.** What is no tensor, a dtype other than these two, or a number
  of the wrong kind raises ``TypeError``; shapes, devices and dimensions that do not fit, and a
  Python number out of range (``c`` above all), raise ``ValueError``: always before anything is
  computed. The elements of tensors, ``c`` among them, are neither checked nor clamped: NaN gives
  NaN, and a point on or outside the rim gives inf, NaN or a meaningless number. Points from outside
  are checked by ``PoincareBall.assert_check_point_on_manifold``, or moved inside by
  :func:`project`. So there are no branches on data, nothing is read back to the host, and
  ``torch.compile(fullgraph=True)`` and graph capture have nothing to trip over.
* Derivatives are by formula (:mod:`ternvae.manifolds.rules`), finite everywhere inside the ball, at
  the origin and at ``x = y`` included; ``create_graph=True`` gives second derivatives.
* ``limit``, where a function has it, confines the result as :func:`project` would, for free: a
  :class:`ternvae.manifolds.numerics.Limit`, or None for wherever the formula puts it.

References:
    [GBH] O. Ganea, G. Becigneul, T. Hofmann, "Hyperbolic Neural Networks", NeurIPS 2018.
    [NK] M. Nickel, D. Kiela, "Poincare Embeddings for Learning Hierarchical Representations",
        NeurIPS 2017.
    [R] J. G. Ratcliffe, "Foundations of Hyperbolic Manifolds", 2nd ed. 2006.
    [U] A. A. Ungar, "A Gyrovector Space Approach to Hyperbolic Geometry", 2009.
"""

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.arguments import (
    broadcast_shape,
    check_factors,
    check_limit,
    check_matrix,
    check_tensor,
    check_vectors,
    number_per_point,
)
from ternvae.manifolds.midpoint import weighted_midpoint
from ternvae.manifolds.numerics import Curvature, Limit
from ternvae.manifolds.rows import apply
from ternvae.manifolds.rules import hyperplane, pairs, radial, tangent

__all__ = [
    "dist",
    "dist0",
    "dist2plane",
    "egrad2rgrad",
    "expmap",
    "expmap0",
    "geodesic",
    "gyration",
    "inner",
    "inv_sproj",
    "lambda_x",
    "logmap",
    "logmap0",
    "midpoint",
    "mobius_add",
    "mobius_matvec",
    "mobius_pointwise_mul",
    "mobius_scalar_mul",
    "mobius_sub",
    "norm",
    "pairwise_dist",
    "parallel_transport",
    "parallel_transport0",
    "parallel_transport0back",
    "project",
    "sproj",
    "weighted_midpoint",
]


def _per_point(value: Tensor, dim: int, keepdim: bool) -> Tensor:
    return value if keepdim else value.squeeze(dim)


def lambda_x(x: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Conformal factor ``2 / (1 - c |x|^2)`` ([GBH], section 2.1 and 2.2).

    Check-free in its values.

    Args:
        x: points, (..., d).
        c: curvature, c > 0.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), hyperbolic length per coordinate length at ``x``.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return _per_point(apply(tangent.ConformalFactor, x, c=c, dim=dim), dim, keepdim)


def inner(
    x: Tensor, u: Tensor, v: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1
) -> Tensor:
    """Metric inner product ``lambda_x^2 <u, v>`` of tangent vectors ``u``, ``v`` at ``x``.

    The definition of the metric ([GBH], section 2.1). Check-free in its values.

    Args:
        x: points, (..., d).
        u: tangent vectors at ``x``, (..., d).
        v: tangent vectors at ``x``, (..., d).
        c: curvature, c > 0.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), in squared units of the metric.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return _per_point(apply(tangent.Inner, x, u, v, c=c, dim=dim), dim, keepdim)


def norm(x: Tensor, u: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Metric norm ``lambda_x |u|`` of the tangent vector ``u`` at ``x``.

    The definition of the metric ([GBH], section 2.1). The subgradient at ``u = 0`` is 0.
    Check-free in its values.

    Args:
        x: points, (..., d).
        u: tangent vectors at ``x``, (..., d).
        c: curvature, c > 0.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), hyperbolic lengths, in units of the metric.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return _per_point(apply(tangent.Norm, x, u, c=c, dim=dim), dim, keepdim)


def egrad2rgrad(x: Tensor, grad: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Riemannian gradient ``grad / lambda_x^2`` of a function whose Euclidean gradient is ``grad``.

    The inverse of the metric tensor applied to the differential ([NK], section 3.1).
    Check-free in its values.

    Args:
        x: points, (..., d).
        grad: Euclidean gradients there, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        (..., d), tangent vectors at ``x``.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(tangent.RiemannianGradient, x, grad, c=c, dim=dim)


def mobius_add(
    x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """Moebius addition ``x (+) y`` ([GBH], section 2.2; [U], chapter 3).

    The usual fraction, rewritten in ``d = x + y``::

        ((1 - c|x|^2) d + c|d|^2 x) / ((1 - c|x|^2)(1 - c|y|^2) + c|d|^2)

    The denominator is a sum of positive terms and the numerator's terms are each at most a small
    multiple of their sum, so nothing cancels, not even for ``y`` near ``-x`` at the rim.

    Check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(pairs.MobiusAdd, x, y, c=c, dim=dim, limit=limit)


def mobius_sub(
    x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """Moebius subtraction ``x (-) y = x (+) (-y)`` ([GBH], section 2.2); check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(pairs.MobiusSub, x, y, c=c, dim=dim, limit=limit)


def mobius_scalar_mul(
    r: float | Tensor, x: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """Moebius multiple ``r (x) x = tanh(r artanh(s)) x / s``, ``s = sqrt(c)|x|`` ([GBH], 2.2).

    The point at ``r`` times the distance of ``x`` from the origin, on the same diameter.

    Check-free in its values.

    Args:
        r: the factor, a number or a tensor of one number per point: it broadcasts against ``x``
            and has size 1 along ``dim``.
        x: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: see the module.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    r = number_per_point(r, "r", dim, x)
    return apply(radial.ScalarMul, x, r, c=c, dim=dim, limit=limit, per_point=1)


def mobius_matvec(
    matrix: Tensor, x: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """Moebius matrix-vector product ``exp_0(M log_0(x))`` ([GBH], Lemma 6 and equation 27).

    The product ``M log_0(x)`` is a matrix product in the dtype of the arguments.
    Check-free in its values.

    Args:
        matrix: (..., e, d), of the dtype of ``x``.
        x: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        (..., e).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_vectors((x,), c, dim)
    check_limit(limit)
    check_matrix(matrix, x, dim)
    u = logmap0(x, c=c, dim=dim).movedim(dim, -1)
    image = u @ matrix.mT if matrix.ndim == 2 else (matrix @ u.unsqueeze(-1)).squeeze(-1)
    return expmap0(image.movedim(-1, dim), c=c, dim=dim, limit=limit)


def mobius_pointwise_mul(
    w: Tensor, x: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """Moebius product with a diagonal matrix, ``exp_0(w * log_0(x))``.

    :func:`mobius_matvec` with ``M = diag(w)`` ([GBH], section 3.2). Check-free in its values.

    Args:
        w: factors, (..., d) or (..., 1); ``w`` and ``x`` broadcast.
        x: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_vectors((x,), c, dim)
    check_limit(limit)
    dim = dim - x.ndim if dim >= 0 else dim  # w may have more dimensions than x
    check_factors(w, x, dim)
    return expmap0(w * logmap0(x, c=c, dim=dim), c=c, dim=dim, limit=limit)


def gyration(x: Tensor, y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Gyration ``gyr[x, y] v = -(x (+) y) (+) (x (+) (y (+) v))``, a rotation, linear in ``v``.

    The closed form of Moebius gyrations ([U], chapter 3), rewritten in ``d = x + y`` so that every
    correction to the identity carries a factor ``d``: it stays a rotation to rounding error
    for ``y`` near ``-x`` at the rim, and is exactly the identity at ``y = -x``.

    Check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        v: any vectors, not necessarily inside the ball, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_tensor(y)
    return apply(tangent.Rotation, -y, x, v, c=c, dim=dim)


def dist(x: Tensor, y: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Geodesic distance, ``2/sqrt(c) artanh(sqrt(c) |(-x) (+) y|)`` ([GBH], section 2.2).

    Evaluated as ``2/sqrt(c) arsinh(sqrt(c)|x-y| / sqrt((1-c|x|^2)(1-c|y|^2)))``, which is the same
    number (``sinh^2 = tanh^2 / (1 - tanh^2)``) and accurate for near and for far points. The
    subgradient at ``x = y`` is 0. Check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), in units of the metric.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return _per_point(apply(pairs.Dist, x, y, c=c, dim=dim), dim, keepdim)


def dist0(x: Tensor, *, c: Curvature, keepdim: bool = False, dim: int = -1) -> Tensor:
    """Distance from the origin, ``2/sqrt(c) artanh(sqrt(c)|x|)`` ([GBH], 2.2); subgradient 0 at 0.

    Check-free in its values.

    Args:
        x: points, (..., d).
        c: curvature, c > 0.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), hyperbolic radii, in units of the metric.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return _per_point(apply(radial.Dist0, x, c=c, dim=dim), dim, keepdim)


def dist2plane(
    x: Tensor,
    p: Tensor,
    a: Tensor,
    *,
    c: Curvature,
    signed: bool = False,
    keepdim: bool = False,
    dim: int = -1,
) -> Tensor:
    """Distance to the geodesic hyperplane through ``p`` with normal ``a`` ([GBH], Theorem 5).

    ``1/sqrt(c) arsinh(2 sqrt(c) |<w, a>| / ((1 - c|w|^2) |a|))`` with ``w = (-p) (+) x``: the
    distance to the nearest point of ``{exp_p(u) : <u, a> = 0}``.

    Check-free in its values.

    Args:
        x: points, (..., d).
        p: points on the hyperplanes, (..., d).
        a: normals, tangent vectors at ``p`` other than 0, (..., d).
        c: curvature, c > 0.
        signed: positive on the side that ``a`` points to, negative on the other; else the
            absolute value.
        keepdim: keep ``dim`` as size 1.
        dim: the coordinate dimension.

    Returns:
        (...), in units of the metric.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    value = apply(hyperplane.SignedDistance, x, p, a, c=c, dim=dim)
    return _per_point(value if signed else value.abs(), dim, keepdim)


def pairwise_dist(x: Tensor, y: Tensor, *, c: Curvature) -> Tensor:
    """All geodesic distances between two sets of points.

    The same formula as :func:`dist` ([GBH], section 2.2); the differences are formed pair by pair,
    never through a matrix product, so near pairs are as accurate as far ones. Coordinates are the
    last dimension.

    Check-free in its values.

    Args:
        x: points, (..., n, d).
        y: points, (..., m, d).
        c: curvature, c > 0.

    Returns:
        (..., n, m), in units of the metric. Memory is proportional to n m, not n m d; subgradient 0
        where ``x_i = y_j``.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_vectors((x, y), c, -1)
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(
            f"expected x of shape (..., n, d) and y of shape (..., m, d), got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    broadcast_shape(x.shape[:-2], y.shape[:-2])
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y, c = num.widen(x), num.widen(y), num.widen_curvature(c)
    differences = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    # lambda is 2 / gap, so this is sqrt(c) |x_i - y_j| / sqrt(gap_i gap_j).
    roots = [lambda_x(t, c=c, keepdim=True).sqrt() for t in (x, y)]
    z = differences * (0.5 * num.sqrt(c) * roots[0]) * roots[1].mT
    return (2.0 / num.sqrt(c) * num.arsinh(z, z.square())).to(dtype)


def expmap0(u: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None) -> Tensor:
    """Exponential map at the origin, ``tanh(sqrt(c)|u|) u / (sqrt(c)|u|)`` ([GBH], section 2.3).

    ``dist0`` of the result is ``2 |u|``, the metric norm of ``u``. The Jacobian at 0 is the
    identity. Check-free in its values.

    Args:
        u: tangent vectors at the origin, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        Points, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(radial.ExpMap0, u, c=c, dim=dim, limit=limit)


def logmap0(x: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Logarithm at the origin, ``artanh(sqrt(c)|x|) x / (sqrt(c)|x|)`` ([GBH], section 2.3).

    The inverse of :func:`expmap0`. The Jacobian at 0 is the identity. Check-free in its values.

    Args:
        x: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        Tangent vectors at the origin, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(radial.LogMap0, x, c=c, dim=dim)


def expmap(
    x: Tensor, u: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """Exponential map ``x (+) (tanh(h) u / (sqrt(c)|u|))`` ([GBH], Lemma 2).

    ``h = sqrt(c) lambda_x |u| / 2`` is half the length of ``u`` in units of the curvature radius.
    The second summand's ``1 - c|.|^2`` is ``sech(h)^2``, which does not cancel for large ``h``.
    The Jacobian in ``u`` at ``u = 0`` is the identity. Check-free in its values.

    Args:
        x: points, (..., d).
        u: tangent vectors at ``x``, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        Points, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(pairs.ExpMap, x, u, c=c, dim=dim, limit=limit)


def logmap(x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Logarithm ``2/(sqrt(c) lambda_x) artanh(sqrt(c)|m|) m/|m|`` ([GBH], Lemma 2).

    Here ``m = (-x) (+) y``. With ``d = y - x``, ``D = (1-c|x|^2)(1-c|y|^2) + c|d|^2`` and ``m``'s
    numerator ``n = (1-c|x|^2) d - c|d|^2 x``, one has ``|n| = |d| sqrt(D)``, and
    ``artanh(sqrt(c)|m|)`` is the arsinh of :func:`dist`; so neither the direction nor the length
    cancels. Check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        Tangent vectors at ``x``, (..., d); 0 at ``x = y``, where the Jacobian in ``y`` is the
        identity.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(pairs.LogMap, x, y, c=c, dim=dim)


def geodesic(
    t: float | Tensor,
    x: Tensor,
    y: Tensor,
    *,
    c: Curvature,
    dim: int = -1,
    limit: Limit | None = None,
) -> Tensor:
    """Point at time ``t`` on the geodesic with value ``x`` at 0 and ``y`` at 1 ([GBH], 2.3).

    ``x (+) t (x) ((-x) (+) y) = exp_x(t log_x(y))``.

    Check-free in its values.

    Args:
        t: time, any real number, or a tensor of one per point: it broadcasts against ``x`` and
            ``y`` and has size 1 along ``dim``.
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: see the module.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    t = number_per_point(t, "t", dim, x, y)
    return apply(pairs.Geodesic, x, y, t, c=c, dim=dim, limit=limit, per_point=1)


def midpoint(
    x: Tensor, y: Tensor, *, c: Curvature, dim: int = -1, limit: Limit | None = None
) -> Tensor:
    """The point halfway between ``x`` and ``y``: :func:`geodesic` at 1/2 ([GBH], section 2.3).

    Check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.
        limit: confines the result, see the module; None for wherever the formula puts it.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return geodesic(0.5, x, y, c=c, dim=dim, limit=limit)


def parallel_transport(x: Tensor, y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Parallel transport ``(lambda_x / lambda_y) gyr[y, -x] v`` along the geodesic from x to y.

    An isometry of the tangent spaces; the gyrovector form is [U], chapter on parallel transport,
    and for ``x = 0`` [GBH], Theorem 4. Check-free in its values.

    Args:
        x: points, (..., d).
        y: points, (..., d).
        v: tangent vectors at ``x``, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        Tangent vectors at ``y``, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(tangent.Transport, x, y, v, c=c, dim=dim)


def parallel_transport0(y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Parallel transport from the origin to ``y``: ``(lambda_0 / lambda_y) v`` ([GBH], Theorem 4).

    Check-free in its values.

    Args:
        y: points, (..., d).
        v: tangent vectors at the origin, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        Tangent vectors at ``y``, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(tangent.TransportFromOrigin, y, v, c=c, dim=dim)


def parallel_transport0back(y: Tensor, v: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Parallel transport from ``y`` to the origin: ``(lambda_y / lambda_0) v`` ([GBH], Theorem 4).

    Check-free in its values.

    Args:
        y: points, (..., d).
        v: tangent vectors at ``y``, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        Tangent vectors at the origin, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    return apply(tangent.TransportToOrigin, y, v, c=c, dim=dim)


def project(x: Tensor, *, c: Curvature, max_radius: float | None = None, dim: int = -1) -> Tensor:
    """Move points beyond the limit radially inside it; return the others unchanged, bit for bit.

    The limit of ``sqrt(c)|x|`` is ``max_radius``, or the rim when that is None; how far inside a
    projected point lands is :func:`ternvae.manifolds.numerics.limit_of`. Idempotent. What [NK],
    section 3.1, do after every step of the optimizer, with a limit that can be chosen.

    Check-free in its values.

    Args:
        x: vectors of any finite norm, (..., d).
        c: curvature, c > 0.
        max_radius: fraction of the ball's radius, in (0, 1), or None.
        dim: the coordinate dimension.

    Returns:
        (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_tensor(x)
    limit = num.limit_of(x.dtype, num.check_max_radius(max_radius))
    return apply(radial.Project, x, c=c, dim=dim, limit=limit)


def inv_sproj(x: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Points of the ball on the hyperboloid ``t^2 - |h|^2 = 1/c``.

    ``h = lambda_x x`` and ``t = (lambda_x - 1)/sqrt(c)``, the inverse stereographic projection
    ([R], section 4.5). Check-free in its values.

    Args:
        x: points, (..., d).
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        (..., d + 1), the coordinate t last along ``dim``.

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_vectors((x,), c, dim)
    factor = lambda_x(num.widen(x), c=c, keepdim=True, dim=dim)
    up = (factor - 1.0) / num.sqrt(num.widen_curvature(c))
    return torch.cat((factor * x, up), dim=dim).to(x.dtype)


def sproj(h: Tensor, *, c: Curvature, dim: int = -1) -> Tensor:
    """Points of the hyperboloid in the ball, the inverse of :func:`inv_sproj`.

    The stereographic projection ``h / (1 + sqrt(c) t)`` ([R], section 4.5).
    Check-free in its values.

    Args:
        h: points of the hyperboloid, (..., d + 1), the coordinate t last along ``dim``.
        c: curvature, c > 0.
        dim: the coordinate dimension.

    Returns:
        Points of the ball, (..., d).

    Raises:
        TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
        ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
    """
    check_vectors((h,), c, dim)
    wide = num.widen(h)
    d = h.shape[dim] - 1
    if d < 1:
        raise ValueError(
            f"points of the hyperboloid have two coordinates or more along dim={dim}, got shape "
            f"{tuple(h.shape)}"
        )
    up = 1.0 + num.sqrt(num.widen_curvature(c)) * wide.narrow(dim, d, 1)
    return (wide.narrow(dim, 0, d) / up).to(h.dtype)
