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
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from ternvae.manifolds import numerics as num
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
        scale: standard deviations, positive, broadcastable with ``loc``: (..., d), (..., 1) for an
            isotropic law, or a number.
        ball: the manifold.
        validate_args: check arguments and samples (reads values back to the host); torch's default
            if None.

    Raises:
        TypeError: ``loc`` is not float32 or float64.
        ValueError: ``loc`` has no coordinate dimension; or, when validating, it is not inside the
            ball, or ``scale`` is not positive.
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
        num.check_dtype(loc.dtype)
        if loc.ndim == 0:
            raise ValueError("loc must have a coordinate dimension, got a 0-dim tensor")
        if not isinstance(scale, Tensor):
            scale = loc.new_full((), scale)
        self.ball = ball
        shape = torch.broadcast_shapes(loc.shape, scale.shape)  # type: ignore[no-untyped-call]
        self.loc, self.scale = loc.expand(shape), scale.expand(shape)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What :meth:`__init__` checks when validating."""
        return {
            "loc": _InsideBall(self.ball),
            "scale": constraints.independent(constraints.positive, 1),  # type: ignore[no-untyped-call]
        }

    @property
    def support(self) -> constraints.Constraint:
        """The open ball."""
        return _InsideBall(self.ball)

    @property
    def mean(self) -> Tensor:
        """``loc``: the Frechet mean, since the law is symmetric under the reflection through it."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """``loc``: both factors of the density are largest there."""
        return self.loc

    def expand(self, batch_shape: Any, _instance: "WrappedNormal | None" = None) -> "WrappedNormal":
        """Return the same law with a larger ``batch_shape`` (a view)."""
        shape = torch.Size(batch_shape) + self.event_shape
        loc, scale = self.loc.expand(shape), self.scale.expand(shape)
        new = WrappedNormal(loc, scale, self.ball, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _draw(self, sample_shape: Any) -> tuple[Tensor, Tensor]:
        """``(z, v)``: the sample and its frame coordinates."""
        shape = self._extended_shape(torch.Size(sample_shape))
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

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparametrised samples, ``sample_shape + batch_shape + (d,)``."""
        return self._draw(sample_shape)[0]

    def rsample_with_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Samples and their log-density, computed from the same ``v`` without a logarithm map.

        Returns:
            ``(z, log_prob)`` of shapes ``sample_shape + batch_shape + (d,)`` and without ``(d,)``.
        """
        z, v = self._draw(sample_shape)
        return z, self._log_density(v)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of ``value`` (..., d) with respect to the Riemannian volume: (...)."""
        if self._validate_args:
            self._validate_sample(value)
        u = self.ball.logmap(self.loc, value)
        return self._log_density(self.ball.lambda_x(self.loc, keepdim=True) * u)


def kl_monte_carlo(posterior: WrappedNormal, prior: WrappedNormal, n_samples: int = 1) -> Tensor:
    """Unbiased, reparametrised estimate of ``KL(posterior || prior)``; no closed form is known.

    The mean over ``n_samples`` draws ``z`` of ``log posterior(z) - log prior(z)``; single estimates
    can be negative.

    Returns:
        (...), the broadcast batch shape.

    Raises:
        ValueError: ``n_samples < 1``, or the two balls differ in curvature.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    if posterior.ball is not prior.ball and bool(posterior.ball.c != prior.ball.c):
        raise ValueError(
            f"the two laws must live on one ball, got curvatures {posterior.ball.c.item()!r} and "
            f"{prior.ball.c.item()!r}"
        )
    z, log_q = posterior.rsample_with_log_prob((n_samples,))
    return (log_q - prior.log_prob(z)).mean(dim=0)


@register_kl(WrappedNormal, WrappedNormal)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_wrapped_normals(posterior: WrappedNormal, prior: WrappedNormal) -> Tensor:
    """``torch.distributions.kl_divergence``: the estimate from one draw.

    No closed form is known. The estimate is random, so single values can be negative; it and its
    gradient are unbiased, and it is 0 to rounding for equal laws. :func:`kl_monte_carlo` averages
    over more draws.
    """
    return kl_monte_carlo(posterior, prior)


__all__ = ["WrappedNormal", "kl_monte_carlo"]
