"""The Poincare ball as a geoopt manifold: a thin class over :mod:`ternvae.manifolds.math`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ternvae.manifolds import math
from ternvae.manifolds import numerics as num
from ternvae.manifolds._geoopt import geoopt
from ternvae.manifolds.arguments import (
    broadcast_shape,
    check_beside,
    check_real,
    check_tensor,
    check_vectors,
    number_per_point,
)
from ternvae.manifolds.numerics import Curvature


class PoincareBall(geoopt.PoincareBall):  # type: ignore[misc]  # geoopt is untyped
    """The ball ``{x : c |x|^2 < 1}`` of sectional curvature ``-c``, usable wherever geoopt is.

    Methods have geoopt's names and signatures; the formulas, their shapes, their sources and what
    they raise are in :mod:`ternvae.manifolds.math`. The values of tensors are looked at by
    ``assert_check_point_on_manifold`` and ``assert_check_vector_on_tangent`` only. Two things
    differ by intention: :meth:`retr` is the exponential map (geoopt's is the first order
    ``x + u``), and every method that produces points keeps them within ``max_radius`` (with
    ``project=False``: wherever the formula puts them).

    The curvature is a 0-dim float64 tensor that belongs to ``state_dict()`` and follows
    ``.to(device)``, but not casts: ``.float()``, ``.double()`` and ``.half()`` leave it alone.
    Being 0-dim, it does not turn float32 points into float64. If it is learnable, then
    ``c = c_reference * exp(log_c_ratio)`` with the parameter ``log_c_ratio`` starting at 0: always
    positive, exactly the given value at the start, and the gradient is that of ``log c``.

    Hold the ball as a submodule of the model: geoopt's ``ManifoldParameter`` refers to its
    manifold without registering it, so otherwise ``c`` is neither saved nor moved.

    Args:
        c: curvature, positive; a number or a tensor of one number, which is copied.
        max_radius: fraction of the ball's radius in (0, 1) that bounds ``sqrt(c) |x|`` for every
            point produced, or None for the whole open ball, as close to the rim as the dtype of
            the points allows.
        learnable: whether ``c`` is a parameter.

    Raises:
        TypeError: ``c`` or ``max_radius`` is not a number, or ``learnable`` not a bool.
        ValueError: ``c`` is not positive and finite, or ``max_radius`` is outside (0, 1).
    """

    reversible = True  # the retraction is the exponential map

    c_reference: Tensor
    log_c_ratio: nn.Parameter | None

    def __init__(
        self, c: float | Tensor = 1.0, max_radius: float | None = None, learnable: bool = False
    ) -> None:
        # Not geoopt.PoincareBall.__init__: that one overwrites a tensor given as c and rounds it.
        geoopt.Manifold.__init__(self)
        if not isinstance(learnable, bool):
            raise TypeError(f"learnable must be True or False, got {learnable!r}")
        value = num.check_curvature(c)
        self.max_radius = num.check_max_radius(max_radius)
        device = c.device if isinstance(c, Tensor) else None
        self.register_buffer("c_reference", torch.tensor(value, dtype=torch.float64, device=device))
        ratio = nn.Parameter(torch.zeros_like(self.c_reference)) if learnable else None
        self.register_parameter("log_c_ratio", ratio)
        # The buffer, its version and its value as of the last reading.
        version = 0 if self.c_reference.is_inference() else self.c_reference._version
        self._c_read: tuple[Any, int, float] = (self.c_reference, version, value)

    @property
    def learnable(self) -> bool:
        """Whether the curvature is a parameter."""
        return self.log_c_ratio is not None

    @property
    def c(self) -> Tensor:
        """The curvature ``c > 0``, 0-dim float64."""
        if self.log_c_ratio is None:
            return self.c_reference
        return self.c_reference * self.log_c_ratio.exp()

    @property
    def _c(self) -> Curvature:
        """The curvature as the formulas take it.

        A fixed curvature on the host is passed as a number, which fits tensors of any device. It
        is read once, and again whenever the buffer was replaced or written to.
        """
        # Straight to where modules keep tensors: this is on the path of every operation.
        c: Any = self._buffers["c_reference"]
        if self._parameters["log_c_ratio"] is not None:
            return self.c
        if not c.is_cpu or torch.compiler.is_compiling() or c.is_inference():
            return c  # type: ignore[no-any-return]
        read, version, value = self._c_read
        if read is not c or version != c._version:
            value = c.item()
            self._c_read = c, c._version, value
        return value

    def _limit(self, x: Tensor, project: bool = True) -> num.Limit | None:
        check_tensor(x)
        return num.limit_of(x.dtype, self.max_radius) if project else None

    @property
    def k(self) -> Tensor:
        """The sectional curvature ``-c``, 0-dim float64."""
        return -self.c

    @property
    def hyperbolic_radius_max(self) -> Tensor:
        """Distance from the origin to ``max_radius``, ``2/sqrt(c) artanh(max_radius)``; or inf.

        0-dim float64, in units of the metric.
        """
        limit = 1.0 if self.max_radius is None else self.max_radius
        return 2.0 / self.c.sqrt() * torch.full_like(self.c_reference, limit).atanh()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PoincareBall":
        def keep_dtype(t: Tensor) -> Tensor:
            moved = fn(t)
            return moved if moved.dtype == t.dtype else t.to(moved.device)

        super()._apply(keep_dtype, recurse)
        return self

    def extra_repr(self) -> str:
        """The constructor's arguments, for ``repr``."""
        return f"c={self.c.item():.6g}, max_radius={self.max_radius}, learnable={self.learnable}"

    # Checks. geoopt's callers reach them through assert_check_point (shape and dtype, made for
    # every ManifoldTensor) and assert_check_point_on_manifold (values as well).

    def assert_check_point(self, x: Tensor) -> None:
        """Raise unless the tensor has a dtype and a shape that can hold points.

        Check-free in its values, which :meth:`assert_check_point_on_manifold` looks at.

        Args:
            x: points, (..., d).

        Raises:
            TypeError: ``x`` is not a tensor of float32 or float64.
            ValueError: ``x`` has no coordinates.
        """
        _check_has_coordinates(x)
        super().assert_check_point(x)

    def assert_check_vector(self, u: Tensor) -> None:
        """Raise unless the tensor has a dtype and a shape that can hold tangent vectors.

        Check-free in its values.

        Args:
            u: vectors, (..., d).

        Raises:
            TypeError: ``u`` is not a tensor of float32 or float64.
            ValueError: ``u`` has no coordinates.
        """
        _check_has_coordinates(u)
        super().assert_check_vector(u)

    def assert_check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> None:
        """Raise unless every point is finite, inside the ball and within ``max_radius``.

        Args:
            x: points, (..., d); one value is read back from their device.
            atol: how far beyond ``max_radius`` rounding may have put ``sqrt(c) |x|``.
            rtol: the same as a share of ``max_radius``.

        Raises:
            TypeError: ``x`` is not a tensor of float32 or float64.
            ValueError: ``x`` has no coordinates or no values, or naming the first row outside.
        """
        _check_has_coordinates(x)
        _check_has_values(x)
        super().assert_check_point_on_manifold(x, atol=atol, rtol=rtol)

    def assert_check_vector_on_tangent(
        self,
        x: Tensor,
        u: Tensor,
        *,
        ok_point: bool = False,
        atol: float = 1e-5,
        rtol: float = 1e-5,
    ) -> None:
        """Raise unless ``u`` is a finite tangent vector at the point ``x``.

        Args:
            x: points, (..., d).
            u: vectors of the same dtype that broadcast against them.
            ok_point: whether ``x`` is known to be a point and is not checked again.
            atol: as for :meth:`assert_check_point_on_manifold`.
            rtol: likewise.

        Raises:
            TypeError: ``x`` or ``u`` is not a tensor of float32 or float64.
            ValueError: they do not fit each other, or naming the first row that is no such vector.
        """
        _check_has_coordinates(x)
        check_beside(u, "u", x)
        _check_has_values(x)
        super().assert_check_vector_on_tangent(x, u, ok_point=ok_point, atol=atol, rtol=rtol)

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5, dim: int = -1
    ) -> tuple[bool, str | None]:
        """Inside the open ball, and within ``max_radius`` up to the tolerances."""
        num.check_dtype(x.dtype)
        wide = x.detach().double()
        s = (self.c.detach().sqrt() * torch.linalg.vector_norm(wide, dim=dim)).flatten()
        inside = s < 1.0
        if self.max_radius is not None:
            inside &= s <= self.max_radius * (1.0 + rtol) + atol
        if bool(inside.all()):
            return True, None
        first = int((~inside).nonzero()[0, 0])
        limit = "< 1" if self.max_radius is None else f"<= max_radius = {self.max_radius}"
        return False, (
            f"row {first} of {s.numel()} has sqrt(c)*norm = {s[first].item()!r}, expected {limit} "
            f"(c = {self.c.item()!r}); projx() moves points inside"
        )

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5, dim: int = -1
    ) -> tuple[bool, str | None]:
        """Every finite vector is a tangent vector, if its shape and dtype fit the point."""
        num.check_dtype(u.dtype)
        if u.dtype != x.dtype:
            return False, f"u is {u.dtype}, but x is {x.dtype}; convert one of them"
        if u.shape[dim] != x.shape[dim]:
            return False, (
                f"u has {u.shape[dim]} coordinates and x has {x.shape[dim]} "
                f"(shapes {tuple(u.shape)} and {tuple(x.shape)})"
            )
        try:
            torch.broadcast_shapes(x.shape, u.shape)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return False, (
                f"the shapes of u {tuple(u.shape)} and x {tuple(x.shape)} do not broadcast"
            )
        finite = u.detach().isfinite().all(dim=dim).flatten()
        if bool(finite.all()):
            return True, None
        return False, f"row {int((~finite).nonzero()[0, 0])} of {finite.numel()} is not finite"

    # Points

    def projx(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """Points moved radially into ``max_radius``, or into the open ball: (..., d).

        As in :func:`~ternvae.manifolds.math.project`. Check-free in its values.
        """
        return math.project(x, c=self._c, max_radius=self.max_radius, dim=dim)

    def expmap(self, x: Tensor, u: Tensor, *, project: bool = True, dim: int = -1) -> Tensor:
        """Exponential map at ``x``: (..., d).

        As in :func:`~ternvae.manifolds.math.expmap`. Check-free in its values.

        Args:
            x: points, (..., d).
            u: tangent vectors at ``x``, (..., d).
            project: keep the result within ``max_radius``; else it is where the formula puts it.
            dim: the coordinate dimension.
        """
        return math.expmap(x, u, c=self._c, dim=dim, limit=self._limit(x, project))

    def expmap0(self, u: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Exponential map at the origin: (..., d).

        As in :func:`~ternvae.manifolds.math.expmap0`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        return math.expmap0(u, c=self._c, dim=dim, limit=self._limit(u, project))

    def retr(self, x: Tensor, u: Tensor, *, dim: int = -1) -> Tensor:
        """Retraction: the exponential map, (..., d). As in :meth:`expmap`.

        Check-free in its values.
        """
        return self.expmap(x, u, dim=dim)

    def geodesic(self, t: float | Tensor, x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
        """Point at time ``t`` of the geodesic from ``x`` (t = 0) to ``y`` (t = 1): (..., d).

        As in :func:`~ternvae.manifolds.math.geodesic`.
        Check-free in its values.
        """
        return math.geodesic(t, x, y, c=self._c, dim=dim, limit=self._limit(x))

    def geodesic_unit(
        self, t: float | Tensor, x: Tensor, u: Tensor, *, dim: int = -1, project: bool = True
    ) -> Tensor:
        """Point at distance ``t`` from ``x`` in the direction ``u`` (``x`` itself where u = 0).

        ``exp_x(t u / |u|_x)``, by definition of the exponential map. Check-free in its values.

        Args:
            t: distance in units of the metric, a number or a tensor of one number per point.
            x: points, (..., d).
            u: tangent vectors at ``x``, (..., d); only their direction counts.
            dim: the coordinate dimension.
            project: as in :meth:`expmap`.

        Returns:
            Points, (..., d).

        Raises:
            TypeError: what is no tensor of float32 or float64, or a number of the wrong kind.
            ValueError: shapes, devices or dimensions that do not fit, or a number out of range.
        """
        t = number_per_point(t, "t", dim, x, u)
        length = math.norm(x, u, c=self._c, keepdim=True, dim=dim)
        unit = u / torch.where(length > 0.0, length, 1.0)
        return self.expmap(x, t * unit, project=project, dim=dim)

    def mobius_add(self, x: Tensor, y: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Moebius sum ``x (+) y``: (..., d).

        As in :func:`~ternvae.manifolds.math.mobius_add`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        return math.mobius_add(x, y, c=self._c, dim=dim, limit=self._limit(x, project))

    def mobius_sub(self, x: Tensor, y: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Moebius difference ``x (+) (-y)``: (..., d).

        As in :func:`~ternvae.manifolds.math.mobius_sub`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        return math.mobius_sub(x, y, c=self._c, dim=dim, limit=self._limit(x, project))

    def mobius_coadd(self, x: Tensor, y: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Moebius coaddition ``x (+) gyr[x, -y] y`` (Ungar 2009, chapter 2): (..., d).

        As in :func:`~ternvae.manifolds.math.mobius_add`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        check_tensor(y)
        turned = math.gyration(x, -y, y, c=self._c, dim=dim)
        return self.mobius_add(x, turned, dim=dim, project=project)

    def mobius_cosub(self, x: Tensor, y: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Moebius cosubtraction, the coaddition of ``-y`` (Ungar 2009, chapter 2): (..., d).

        As in :func:`~ternvae.manifolds.math.mobius_add`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        check_tensor(y)
        return self.mobius_coadd(x, -y, dim=dim, project=project)

    def mobius_scalar_mul(
        self, r: float | Tensor, x: Tensor, *, dim: int = -1, project: bool = True
    ) -> Tensor:
        """Moebius multiple ``r (x) x``: (..., d).

        As in :func:`~ternvae.manifolds.math.mobius_scalar_mul`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        limit = self._limit(x, project)
        return math.mobius_scalar_mul(r, x, c=self._c, dim=dim, limit=limit)

    def mobius_fn_apply(
        self,
        fn: Callable[..., Tensor],
        x: Tensor,
        *args: object,
        dim: int = -1,
        project: bool = True,
        **kwargs: object,
    ) -> Tensor:
        """``exp_0(fn(log_0(x)))``, a Moebius version (Ganea et al. 2018, section 3).

        Check-free in its values.

        Args:
            fn: a function of tangent vectors at the origin.
            x: points, (..., d).
            args: further arguments of ``fn``.
            dim: the coordinate dimension.
            project: as in :meth:`expmap`.
            kwargs: further arguments of ``fn``.

        Returns:
            Points, (..., e) if that is the shape of what ``fn`` gives.

        Raises:
            TypeError: ``fn`` cannot be called, or ``x`` is not a tensor of float32 or float64.
            ValueError: ``dim`` is no dimension of ``x``.
        """
        _check_callable(fn)
        u = fn(math.logmap0(x, c=self._c, dim=dim), *args, **kwargs)
        return self.expmap0(u, dim=dim, project=project)

    def mobius_fn_apply_chain(
        self, x: Tensor, *fns: Callable[[Tensor], Tensor], project: bool = True, dim: int = -1
    ) -> Tensor:
        """``exp_0 . fn_n . ... . fn_1 . log_0``, as :meth:`mobius_fn_apply` for several functions.

        The Moebius version of their composition (Ganea et al. 2018, section 3).
        Check-free in its values.

        Args:
            x: points, (..., d).
            fns: functions of tangent vectors at the origin, the first one to apply first.
            project: as in :meth:`expmap`.
            dim: the coordinate dimension.

        Returns:
            Points, (..., e) if that is the shape of what the last function gives.

        Raises:
            TypeError: a function cannot be called, or ``x`` is not a tensor of float32 or float64.
            ValueError: ``dim`` is no dimension of ``x``.
        """
        for fn in fns:
            _check_callable(fn)
        u = math.logmap0(x, c=self._c, dim=dim)
        for fn in fns:
            u = fn(u)
        return self.expmap0(u, dim=dim, project=project)

    def mobius_pointwise_mul(
        self, w: Tensor, x: Tensor, *, dim: int = -1, project: bool = True
    ) -> Tensor:
        """``exp_0(w * log_0(x))``, the Moebius product with a diagonal matrix: (..., d).

        As in :func:`~ternvae.manifolds.math.mobius_pointwise_mul`; ``project`` as in
        :meth:`expmap`. Check-free in its values.
        """
        limit = self._limit(x, project)
        return math.mobius_pointwise_mul(w, x, c=self._c, dim=dim, limit=limit)

    def mobius_matvec(self, m: Tensor, x: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """``exp_0(m log_0(x))``: (..., e).

        As in :func:`~ternvae.manifolds.math.mobius_matvec`. Check-free in its values.

        Args:
            m: matrices, (..., e, d), of the dtype of ``x``.
            x: points, (..., d), with their coordinates along ``dim``.
            dim: the coordinate dimension.
            project: as in :meth:`expmap`.
        """
        limit = self._limit(x, project)
        return math.mobius_matvec(m, x, c=self._c, dim=dim, limit=limit)

    def weighted_midpoint(
        self,
        xs: Tensor,
        weights: Tensor | None = None,
        *,
        reducedim: Sequence[int] | None = None,
        dim: int = -1,
        keepdim: bool = False,
        lincomb: bool = False,
        posweight: bool = False,
        project: bool = True,
    ) -> Tensor:
        """Gyromidpoint of many weighted points, (..., d) without the averaged dimensions.

        As in :func:`~ternvae.manifolds.math.weighted_midpoint`; ``project`` as in :meth:`expmap`.
        Check-free in its values.
        """
        return math.weighted_midpoint(
            xs,
            weights,
            c=self._c,
            reducedim=reducedim,
            dim=dim,
            keepdim=keepdim,
            lincomb=lincomb,
            posweight=posweight,
            limit=self._limit(xs, project),
        )

    def sproj(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """Points of the hyperboloid in the ball: (..., d + 1) -> (..., d).

        As in :func:`~ternvae.manifolds.math.sproj`. Check-free in its values.

        Args:
            x: points of the hyperboloid, (..., d + 1), the time last along ``dim``.
            dim: the coordinate dimension.
        """
        return self.projx(math.sproj(x, c=self._c, dim=dim), dim=dim)

    def inv_sproj(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """Points of the ball on the hyperboloid: (..., d) -> (..., d + 1).

        As in :func:`~ternvae.manifolds.math.inv_sproj`.
        Check-free in its values.
        """
        return math.inv_sproj(x, c=self._c, dim=dim)

    def antipode(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """``-x``, by definition of geoopt the antipode in a space of negative curvature.

        Check-free in its values.

        Args:
            x: points, (..., d).
            dim: the coordinate dimension.

        Returns:
            (..., d).

        Raises:
            TypeError: ``x`` is not a tensor of float32 or float64.
            ValueError: ``dim`` is no dimension of ``x``.
        """
        check_vectors((x,), 1.0, dim)
        return -x

    # Distances and tangent vectors

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """Geodesic distance: (...), in units of the metric.

        As in :func:`~ternvae.manifolds.math.dist`.
        Check-free in its values.
        """
        return math.dist(x, y, c=self._c, keepdim=keepdim, dim=dim)

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """Squared geodesic distance: (...), in squared units of the metric.

        As in :func:`~ternvae.manifolds.math.dist`.
        Check-free in its values.
        """
        return self.dist(x, y, keepdim=keepdim, dim=dim).square()

    def dist0(self, x: Tensor, *, dim: int = -1, keepdim: bool = False) -> Tensor:
        """Geodesic distance from the origin: (...), in units of the metric.

        As in :func:`~ternvae.manifolds.math.dist0`.
        Check-free in its values.
        """
        return math.dist0(x, c=self._c, keepdim=keepdim, dim=dim)

    def dist2plane(
        self,
        x: Tensor,
        p: Tensor,
        a: Tensor,
        *,
        dim: int = -1,
        keepdim: bool = False,
        signed: bool = False,
        scaled: bool = False,
    ) -> Tensor:
        """Distance to the geodesic hyperplane through ``p`` with normal ``a``.

        As in :func:`~ternvae.manifolds.math.dist2plane`. Check-free in its values.

        Args:
            x: points, (..., d).
            p: points on the hyperplanes, (..., d).
            a: normals, tangent vectors at ``p`` other than 0, (..., d).
            dim: the coordinate dimension.
            keepdim: keep ``dim`` as size 1.
            signed: positive on the side that ``a`` points to; else the absolute value.
            scaled: multiply by the Euclidean length of ``a``, as geoopt does.

        Returns:
            (...), in units of the metric.
        """
        out = math.dist2plane(x, p, a, c=self._c, signed=signed, keepdim=keepdim, dim=dim)
        return out * torch.linalg.vector_norm(a, dim=dim, keepdim=keepdim) if scaled else out

    def pairwise_dist(self, x: Tensor, y: Tensor) -> Tensor:
        """All distances: (..., n, d) and (..., m, d) -> (..., n, m), in units of the metric.

        As in :func:`~ternvae.manifolds.math.pairwise_dist`.
        Check-free in its values.
        """
        return math.pairwise_dist(x, y, c=self._c)

    def logmap(self, x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
        """Logarithm at ``x``, tangent vectors: (..., d).

        As in :func:`~ternvae.manifolds.math.logmap`.
        Check-free in its values.
        """
        return math.logmap(x, y, c=self._c, dim=dim)

    def logmap0(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """Logarithm at the origin, tangent vectors: (..., d).

        As in :func:`~ternvae.manifolds.math.logmap0`.
        Check-free in its values.
        """
        return math.logmap0(x, c=self._c, dim=dim)

    def lambda_x(self, x: Tensor, *, dim: int = -1, keepdim: bool = False) -> Tensor:
        """Conformal factor: (...).

        As in :func:`~ternvae.manifolds.math.lambda_x`.
        Check-free in its values.
        """
        return math.lambda_x(x, c=self._c, keepdim=keepdim, dim=dim)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False, dim: int = -1
    ) -> Tensor:
        """Metric inner product of ``u`` and ``v`` at ``x``: (...), in squared units of the metric.

        As in :func:`~ternvae.manifolds.math.inner`. Check-free in its values.

        Args:
            x: points, (..., d).
            u: tangent vectors at ``x``, (..., d).
            v: likewise, (..., d); None means ``u``.
            keepdim: keep ``dim`` as size 1.
            dim: the coordinate dimension.
        """
        return math.inner(x, u, u if v is None else v, c=self._c, keepdim=keepdim, dim=dim)

    def norm(self, x: Tensor, u: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """Metric norm of ``u`` at ``x``: (...), in units of the metric.

        As in :func:`~ternvae.manifolds.math.norm`.
        Check-free in its values.
        """
        return math.norm(x, u, c=self._c, keepdim=keepdim, dim=dim)

    def egrad2rgrad(self, x: Tensor, u: Tensor, *, dim: int = -1) -> Tensor:
        """Riemannian gradient from the Euclidean gradient: (..., d).

        As in :func:`~ternvae.manifolds.math.egrad2rgrad`. Check-free in its values.

        Args:
            x: points, (..., d).
            u: Euclidean gradients there, (..., d).
            dim: the coordinate dimension.
        """
        return math.egrad2rgrad(x, u, c=self._c, dim=dim)

    def gyration(self, x: Tensor, y: Tensor, z: Tensor, *, dim: int = -1) -> Tensor:
        """``gyr[x, y] z``: (..., d).

        As in :func:`~ternvae.manifolds.math.gyration`. Check-free in its values.

        Args:
            x: points, (..., d).
            y: points, (..., d).
            z: any vectors, (..., d).
            dim: the coordinate dimension.
        """
        return math.gyration(x, y, z, c=self._c, dim=dim)

    def transp(self, x: Tensor, y: Tensor, v: Tensor, *, dim: int = -1) -> Tensor:
        """Parallel transport of ``v`` along the geodesic from ``x`` to ``y``: (..., d).

        As in :func:`~ternvae.manifolds.math.parallel_transport`.
        Check-free in its values.
        """
        return math.parallel_transport(x, y, v, c=self._c, dim=dim)

    def transp0(self, y: Tensor, u: Tensor, *, dim: int = -1) -> Tensor:
        """Parallel transport from the origin to ``y``: (..., d).

        As in :func:`~ternvae.manifolds.math.parallel_transport0`. Check-free in its values.

        Args:
            y: points, (..., d).
            u: tangent vectors at the origin, (..., d).
            dim: the coordinate dimension.
        """
        return math.parallel_transport0(y, u, c=self._c, dim=dim)

    def transp0back(self, y: Tensor, u: Tensor, *, dim: int = -1) -> Tensor:
        """Parallel transport from ``y`` to the origin: (..., d).

        As in :func:`~ternvae.manifolds.math.parallel_transport0back`. Check-free in its values.

        Args:
            y: points, (..., d).
            u: tangent vectors at ``y``, (..., d).
            dim: the coordinate dimension.
        """
        return math.parallel_transport0back(y, u, c=self._c, dim=dim)

    def expmap_transp(
        self, x: Tensor, u: Tensor, v: Tensor, *, dim: int = -1, project: bool = True
    ) -> tuple[Tensor, Tensor]:
        """``y = exp_x(u)``, and ``v`` transported from ``x`` to ``y`` (as projected).

        As in :meth:`expmap` and :meth:`transp`. Check-free in its values.

        Args:
            x: points, (..., d).
            u: tangent vectors at ``x`` that say where to, (..., d).
            v: tangent vectors at ``x`` that are taken along, (..., d).
            dim: the coordinate dimension.
            project: as in :meth:`expmap`.

        Returns:
            The points ``y`` and tangent vectors there, both (..., d).
        """
        y = self.expmap(x, u, project=project, dim=dim)
        return y, self.transp(x, y, v, dim=dim)

    def retr_transp(
        self, x: Tensor, u: Tensor, v: Tensor, *, dim: int = -1
    ) -> tuple[Tensor, Tensor]:
        """Retraction and transport, (..., d) both. As in :meth:`expmap_transp`.

        Check-free in its values.
        """
        return self.expmap_transp(x, u, v, dim=dim)

    def transp_follow_expmap(
        self, x: Tensor, u: Tensor, v: Tensor, *, dim: int = -1, project: bool = True
    ) -> Tensor:
        """``v`` transported from ``x`` to ``exp_x(u)``: (..., d). As in :meth:`expmap_transp`.

        Check-free in its values.
        """
        return self.expmap_transp(x, u, v, dim=dim, project=project)[1]

    def transp_follow_retr(self, x: Tensor, u: Tensor, v: Tensor, *, dim: int = -1) -> Tensor:
        """``v`` transported from ``x`` to ``retr_x(u)``: (..., d). As in :meth:`expmap_transp`.

        Check-free in its values.
        """
        return self.expmap_transp(x, u, v, dim=dim)[1]

    # Making points

    def _empty(
        self, size: tuple[Any, ...], dtype: torch.dtype | None, device: torch.device | str | None
    ) -> Tensor:
        shape = geoopt.utils.size2shape(*size)
        self._assert_check_shape(shape, "x")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"size must be integers that are not negative, got {shape!r}")
        dtype = torch.get_default_dtype() if dtype is None else dtype
        num.check_dtype(dtype)
        try:
            place = self.c_reference.device if device is None else torch.device(device)
            return torch.empty(shape, dtype=dtype, device=place)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ValueError(
                f"cannot make points of shape {shape} on {device!r}: {error}"
            ) from error

    def random_normal(
        self,
        *size: int | Sequence[int],
        mean: float | Tensor = 0,
        std: float | Tensor = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """``exp_0`` of normal vectors with ``mean`` and standard deviation ``std / sqrt(d)``.

        The law of geoopt's method of this name, by definition. Check-free in its values.

        Args:
            size: the shape, coordinates last: integers, or one sequence of them.
            mean: of the vectors at the origin, a number or (..., d), in coordinates.
            std: likewise, not negative: a number or (..., d).
            dtype: float32 or float64; torch's default if None.
            device: that of the curvature if None.

        Returns:
            A ``geoopt.ManifoldTensor`` of points (..., d), of the shape ``size``.

        Raises:
            TypeError: another dtype than float32 and float64, or a ``mean`` or ``std`` of the
                wrong kind.
            ValueError: no shape of points, a device that is not there, or a ``mean`` or ``std``
                that is out of range or does not broadcast to the size.
        """
        noise = self._empty(size, dtype, device)
        _check_law("mean", mean, noise)
        _check_law("std", std, noise, least=0.0)
        noise.normal_()
        points = self.expmap0(noise * std / noise.shape[-1] ** 0.5 + mean)
        return geoopt.ManifoldTensor(points, manifold=self)  # type: ignore[no-any-return]

    random = random_normal

    def wrapped_normal(
        self,
        *size: int | Sequence[int],
        mean: Tensor,
        std: float | Tensor = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Points ``exp_mean(v / lambda_mean)``, ``v`` normal with deviation ``std`` in the metric.

        :class:`ternvae.manifolds.WrappedNormal` is the same law (Nagano et al. 2019, section 3)
        with a density and gradients. Check-free in its values.

        Args:
            size: the shape, coordinates last: integers, or one sequence of them.
            mean: points, the centres, that broadcast to ``size``.
            std: standard deviations in units of the metric, not negative: a number or (..., d).
            dtype: float32 or float64; that of ``mean`` if None.
            device: that of ``mean`` if None.

        Returns:
            A ``geoopt.ManifoldTensor`` of points (..., d), of the shape ``size``.

        Raises:
            TypeError: another dtype than float32 and float64, or a ``mean`` or ``std`` of the
                wrong kind.
            ValueError: no shape of points, a device that is not there, or a ``mean`` or ``std``
                that is out of range or does not broadcast to the size.
        """
        check_tensor(mean)
        dtype = mean.dtype if dtype is None else dtype
        noise = self._empty(size, dtype, mean.device if device is None else device)
        check_vectors((noise, mean), 1.0, -1)
        _check_law("mean", mean, noise)
        _check_law("std", std, noise, least=0.0)
        noise.normal_()
        points = self.expmap(mean, noise * std / self.lambda_x(mean, keepdim=True))
        return geoopt.ManifoldTensor(points, manifold=self)  # type: ignore[no-any-return]

    def origin(
        self,
        *size: int | Sequence[int],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        seed: int | None = 42,
    ) -> Tensor:
        """The origin of the ball, repeated: by definition, zeros.

        Args:
            size: the shape, coordinates last: integers, or one sequence of them.
            dtype: float32 or float64; torch's default if None.
            device: that of the curvature if None.
            seed: geoopt's; it decides nothing.

        Returns:
            A ``geoopt.ManifoldTensor`` of points (..., d), of the shape ``size``.

        Raises:
            TypeError: another dtype than float32 and float64.
            ValueError: no shape of points, or a device that is not there.
        """
        zeros = self._empty(size, dtype, device).zero_()
        return geoopt.ManifoldTensor(zeros, manifold=self)  # type: ignore[no-any-return]


def _check_has_coordinates(x: Tensor) -> None:
    check_tensor(x)
    if x.ndim == 0:
        raise ValueError(f"points need a dimension of coordinates, got shape {tuple(x.shape)}")


def _check_has_values(x: Tensor) -> None:
    if x.is_meta:
        raise ValueError(
            f"points of shape {tuple(x.shape)} on the device meta have no values to check"
        )


def _check_callable(fn: Any) -> None:
    if not callable(fn):
        raise TypeError(f"expected functions of tangent vectors, got {type(fn).__name__}: {fn!r}")


def _check_law(name: str, value: Any, noise: Tensor, least: float = -float("inf")) -> None:
    """Raise unless a mean or deviation, a number or a tensor, fits the shape of the noise."""
    if not isinstance(value, Tensor):
        check_real(value, name, least=least)
        return
    check_beside(value, name, noise)
    if broadcast_shape(value.shape, noise.shape) != noise.shape:
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} does not broadcast to the size "
            f"{tuple(noise.shape)} that was asked for"
        )
