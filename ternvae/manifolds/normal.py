"""The wrapped normal distribution on the Poincare ball.

References:
    [N] Y. Nagano, S. Yamaguchi, Y. Fujita, M. Koyama, "A Wrapped Normal Distribution on Hyperbolic
        Space for Gradient-Based Learning", ICML 2019 (the construction, and the log-determinant of
        the exponential map).
    [M] E. Mathieu, C. Le Lan, C. J. Maddison, R. Tomioka, Y. W. Teh, "Continuous Hierarchical
        Representations with Poincare Variational Auto-Encoders", NeurIPS 2019 (the same law on the
        ball of curvature -c).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from ternvae.manifolds import numerics as num
from ternvae.manifolds.arguments import (
    broadcast_shape,
    check_beside,
    check_real,
    check_tensor,
    check_vectors,
)
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.math import expmap


class _InsideBall(constraints.Constraint):
    """Points of the open ball ``c |x|^2 < 1``; coordinates last."""

    event_dim = 1

    def __init__(self, ball: PoincareBall) -> None:
        self._ball = ball

    def check(self, value: Tensor) -> Tensor:
        # Outside the ball the conformal factor is negative, on the rim infinite, for NaN NaN.
        factor = self._ball.lambda_x(value)
        return (factor > 0.0) & factor.isfinite()

    def __repr__(self) -> str:
        return f"InsideBall({self._ball.extra_repr()})"


class _PositiveFinite(constraints.Constraint):
    """Vectors of positive, finite numbers; torch's ``positive`` takes infinity, too."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return ((value > 0.0) & value.isfinite()).all(dim=-1)

    def __repr__(self) -> str:
        return "PositiveFinite()"


class WrappedNormal(Distribution):
    """The law of ``exp_loc(PT_{0 -> loc}(v / lambda_0))`` for ``v ~ N(0, diag(scale^2))``.

    **Units.** ``v`` has its coordinates in an orthonormal frame of the tangent space at ``loc``
    (the coordinate frame at the origin, transported along the geodesic), so ``scale`` is in units
    of hyperbolic length: ``|v|`` is the distance of the sample from ``loc``, wherever ``loc`` is.
    The tangent vector at the origin of metric length ``|v|`` has coordinates
    ``v / lambda_0 = v / 2``; transport turns that into ``v / lambda_loc`` at ``loc``.

    **Density.** With respect to the Riemannian volume, at distance ``r = |v|`` from ``loc``,
    ``log p(z) = log N(v; 0, diag(scale^2)) - (d - 1) log(sinh(sqrt(c) r) / (sqrt(c) r))``:
    the exponential map stretches each of the ``d - 1`` directions across the ray by that ratio
    ([N], section 3; [M], section 3). It is invariant under isometries if ``scale`` is isotropic.

    **max_radius.** The law is that of the whole open ball: samples are kept inside the rim but not
    inside ``ball.max_radius``, so that :meth:`log_prob` is their density.  Project them with
    ``ball.projx`` where they must obey it, after the densities are taken: a penalty on the
    projected point would not see how far out the sample was.

    Shapes: ``batch_shape`` is that of ``loc`` and ``scale`` broadcast, without the last dimension;
    ``event_shape`` is ``(d,)``.

    Args:
        loc: centre, points of the ball, (..., d), float32 or float64.
        scale: standard deviations in units of the metric, positive, broadcastable with ``loc``:
            (..., d), (..., 1) for an isotropic law, or a number.
        ball: the manifold.
        validate_args: check the values of arguments and samples, too (reads them back to the
            host); torch's default if None. With False the law is check-free in its values: NaN and
            what is outside of the ball give NaN or meaningless numbers.

    Raises:
        TypeError: ``loc`` or ``scale`` is not a number or a tensor of float32 or float64, or
            ``ball`` not a :class:`PoincareBall`.
        ValueError: shapes or devices do not fit, a number given as scale is not positive and
            finite; or, when validating, ``loc`` is not inside the ball, or a scale not positive
            and finite.
    """

    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        loc: Tensor,
        scale: float | Tensor,
        ball: PoincareBall,
        validate_args: bool | None = None,
    ) -> None:
        check_tensor(loc)
        if loc.ndim == 0:
            raise ValueError("loc must have a coordinate dimension, got a tensor of shape ()")
        if not isinstance(ball, PoincareBall):
            raise TypeError(f"ball must be a PoincareBall, got {type(ball).__name__}: {ball!r}")
        if validate_args is not None and not isinstance(validate_args, bool):
            raise TypeError(f"validate_args must be True, False or None, got {validate_args!r}")
        shape = _check_scale(scale, loc)
        if not isinstance(scale, Tensor):
            scale = loc.new_full((), scale)
        self.ball = ball
        self.loc, self.scale = loc.expand(shape), scale.expand(shape)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What :meth:`__init__` checks when validating."""
        return {
            "loc": _InsideBall(self.ball),
            "scale": _PositiveFinite(),
        }

    @property
    def support(self) -> constraints.Constraint:
        """The open ball."""
        return _InsideBall(self.ball)

    @property
    def mean(self) -> Tensor:
        """``loc``: the Frechet mean, since the law is symmetric under the reflection through it.

        Points, (..., d).
        """
        return self.loc

    @property
    def mode(self) -> Tensor:
        """``loc``: both factors of the density are largest there; points, (..., d)."""
        return self.loc

    def expand(
        self, batch_shape: Sequence[int], _instance: "WrappedNormal | None" = None
    ) -> "WrappedNormal":
        """Return the same law with a larger ``batch_shape`` (a view).

        Args:
            batch_shape: what :attr:`batch_shape` broadcasts to.

        Returns:
            A law whose ``loc`` is of shape ``batch_shape + (d,)``.

        Raises:
            TypeError: ``batch_shape`` is not made of integers.
            ValueError: the batch shape of the law does not expand to it.
        """
        shape = _size(batch_shape, "batch_shape") + self.event_shape
        try:
            loc, scale = self.loc.expand(shape), self.scale.expand(shape)
        except RuntimeError:
            raise ValueError(
                f"batch_shape: {tuple(self.batch_shape)} does not expand to {tuple(batch_shape)}"
            ) from None
        new = WrappedNormal(loc, scale, self.ball, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _draw(self, sample_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """``(z, v)``: the sample and its frame coordinates."""
        shape = self._extended_shape(_size(sample_shape, "sample_shape"))
        v = self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        u = v / self.ball.lambda_x(self.loc, keepdim=True)
        limit = num.limit_of(self.loc.dtype, None)
        return expmap(self.loc, u, c=self.ball._c, limit=limit), v

    def _log_density(self, v: Tensor) -> Tensor:
        """Log-density at frame coordinates ``v`` (..., d): (...)."""
        d = self.event_shape[0]
        gauss = -0.5 * (v / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        r = torch.linalg.vector_norm(num.widen(v), dim=-1)
        stretch = num.log_sinh_ratio(self.ball.c.sqrt() * r)
        return (num.widen(gauss).sum(dim=-1) - (d - 1) * stretch).to(v.dtype)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Reparametrised samples ([N], section 3).

        Args:
            sample_shape: the shape of the draws, integers that are not negative.

        Returns:
            Points of shape ``sample_shape + batch_shape + (d,)``, that is (..., d).

        Raises:
            TypeError: ``sample_shape`` is not made of integers.
            ValueError: one of them is negative.
        """
        return self._draw(sample_shape)[0]

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Samples and their log-density, computed from the same ``v`` without a logarithm map.

        Args:
            sample_shape: the shape of the draws, integers that are not negative.

        Returns:
            ``(z, log_prob)`` of shapes ``sample_shape + batch_shape + (d,)`` and without ``(d,)``:
            (..., d) and (...), the second in nats.

        Raises:
            TypeError: ``sample_shape`` is not made of integers.
            ValueError: one of them is negative.
        """
        z, v = self._draw(sample_shape)
        return z, self._log_density(v)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density with respect to the Riemannian volume ([N], section 3; [M], section 3).

        Args:
            value: points, (..., d), that broadcast against ``loc``.

        Returns:
            (...), in nats.

        Raises:
            TypeError: ``value`` is not a tensor of float32 or float64.
            ValueError: its shape or device does not fit; or, when validating, it has a row outside
                of the ball. Without validation this is check-free in its values.
        """
        check_vectors((value, self.loc), 1.0, -1)
        broadcast_shape(value.shape, self.loc.shape)
        if self._validate_args:
            self._validate_sample(value)
        u = self.ball.logmap(self.loc, value)
        return self._log_density(self.ball.lambda_x(self.loc, keepdim=True) * u)


def kl_monte_carlo(posterior: WrappedNormal, prior: WrappedNormal, n_samples: int = 1) -> Tensor:
    """Unbiased, reparametrised estimate of ``KL(posterior || prior)``; no closed form is known.

    By definition of the divergence, the mean over ``n_samples`` draws ``z`` of
    ``log posterior(z) - log prior(z)``; single estimates can be negative.

    Args:
        posterior: the law that is drawn from.
        prior: the law that it is held against, on the same ball.
        n_samples: how many draws, at least 1.

    Returns:
        (...), the broadcast batch shape, in nats.

    Raises:
        TypeError: an argument is not a :class:`WrappedNormal`, or ``n_samples`` not an integer.
        ValueError: ``n_samples < 1``, or the two laws differ in curvature, dimension or device.
    """
    for law in (posterior, prior):
        if not isinstance(law, WrappedNormal):
            raise TypeError(f"expected a WrappedNormal, got {type(law).__name__}: {law!r}")
    if type(n_samples) is not int:
        raise TypeError(
            f"n_samples must be an integer, got {type(n_samples).__name__}: {n_samples!r}"
        )
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    check_vectors((posterior.loc, prior.loc), 1.0, -1)
    broadcast_shape(posterior.loc.shape, prior.loc.shape)
    if posterior.ball is not prior.ball and bool(posterior.ball.c != prior.ball.c):
        raise ValueError(
            f"the two laws must live on one ball, got curvatures {posterior.ball.c.item()!r} and "
            f"{prior.ball.c.item()!r}"
        )
    z, log_q = posterior.rsample_with_log_prob((n_samples,))
    return (log_q - prior.log_prob(z)).mean(dim=0)


def _check_scale(scale: Any, loc: Tensor) -> torch.Size:
    """Raise unless the scales fit the centres; returns the shape that both have together."""
    if not isinstance(scale, Tensor):
        check_real(scale, "scale")
        if scale <= 0.0:
            raise ValueError(f"scale must be positive, got {scale!r}")
        return loc.shape
    check_beside(scale, "scale", loc)
    if scale.ndim and scale.shape[-1] not in (1, loc.shape[-1]):
        raise ValueError(
            f"scale must have one number or {loc.shape[-1]} for each centre, got shape "
            f"{tuple(scale.shape)} for loc of shape {tuple(loc.shape)}"
        )
    return broadcast_shape(loc.shape, scale.shape)


def _size(shape: Any, name: str) -> torch.Size:
    try:
        size = torch.Size(shape)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {shape!r}") from None
    if any(n < 0 for n in size):
        raise ValueError(f"{name} must not be negative, got {tuple(size)}")
    return size


@register_kl(WrappedNormal, WrappedNormal)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_wrapped_normals(posterior: WrappedNormal, prior: WrappedNormal) -> Tensor:
    """``torch.distributions.kl_divergence``: the estimate from one draw.

    No closed form is known. The estimate is random, so single values can be negative; it and its
    gradient are unbiased, and it is 0 to rounding for equal laws. :func:`kl_monte_carlo` averages
    over more draws.
    """
    return kl_monte_carlo(posterior, prior)


__all__ = ["WrappedNormal", "kl_monte_carlo"]
