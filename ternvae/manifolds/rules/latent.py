"""From what an encoder says to what a decoder sees, and the densities in between, as one formula.

A point mu at hyperbolic radius r from the origin, in the direction a, is the centre of a wrapped
normal; v is the displacement from it in the frame of mu, so that the sample is

    z = exp_mu(v / lambda_mu) = mu (+) exp_0(v / 2)

(Nagano et al. 2019; the second form because ``exp_mu(u) = mu (+) exp_0(lambda_mu u / 2)``, Ganea
et al. 2018, lemma 2).  It is moved inside ``max_radius`` and mapped to the tangent space at the
origin.

Made of the other rules, one after the other; its backward pass makes their values again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.numerics import Limit
from ternvae.manifolds.rules.pairs import Dist, MobiusAdd
from ternvae.manifolds.rules.radial import Dist0, ExpMap0, LogMap0, Project
from ternvae.manifolds.vectors import Metric


class Region(NamedTuple):
    """What the formula is given beside the rows.

    Attributes:
        threshold: of ``max_radius``; see :class:`ternvae.manifolds.numerics.Limit`.
        target: of ``max_radius``.
        across: dimension of the ball minus 1.
    """

    threshold: float
    target: float
    across: float

    @property
    def limit(self) -> Limit:
        """The limit of ``max_radius``; that of the metric is the rim."""
        return Limit(self.threshold, self.target)


class Values(NamedTuple):
    """Vectors, (n, width), and numbers per row, (n, 1); holds them check-free."""

    points: Any
    tangent: Any
    posterior: Any
    prior: Any


class PolarPoint:
    """The point at distance r from the origin in the direction a: ``exp_0(r a / 2|a|)``.

    The conformal factor at the origin is 2 (Ganea et al. 2018, eq. 12), so that the tangent vector
    of length r has coordinates of length r / 2.
    """

    @staticmethod
    def forward(m: Metric, direction: Any, radius: Any) -> tuple[Any, Any]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        (ca,) = m.measure(m.dot(direction, direction))
        root_ca = ca.clamp_min(num.SMALLEST_SQUARE).sqrt()
        pace = radius.double() * 0.5 * m.root_c / root_ca  # r / 2|a|
        point, (z2,) = ExpMap0.forward(m, m.wide().combine((pace, direction)))
        return point, (root_ca, pace, z2)

    @staticmethod
    def backward(m: Metric, kept: Any, grad: Any, direction: Any, radius: Any) -> Any:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        root_ca, pace, z2 = kept
        wide = m.wide()
        tangent = wide.combine((pace, direction))
        g_tangent, g_c = ExpMap0.backward(wide, (z2,), grad, tangent)
        (along,) = m.measure(m.dot(g_tangent, direction))  # c <G, a>
        turned = along * pace / root_ca.square()
        g_direction = m.combine((pace, g_tangent), (turned * -1.0, direction))
        return g_direction, along * 0.5 / (root_ca * m.root_c), g_c


class _Chain(NamedTuple):
    """All that is computed on the way: values, and what each rule keeps."""

    values: Values
    point: tuple[Any, Any]
    half: Any
    step: tuple[Any, Any]
    step_size: Any
    total: tuple[Any, Any]
    projected: tuple[Any, Any]
    charted: Any
    distance: tuple[Any, Any]


class Latent:
    """Centres, tangent vectors at the origin of the samples, and the logarithms of two densities.

    Rows are the directions a, the displacements v, the centres of the prior where that has one (it
    is the origin otherwise), and the radii r, one number per row.  ``posterior`` and ``prior`` are
    the parts of the log-densities that depend on distances: ``-(d - 1) log(sinh(s) / s)`` at
    ``s = sqrt(c)|v|``, and the same at the distance to the prior's centre, less half its square.
    """

    @staticmethod
    def forward(m: Metric, region: Region, *rows: Any) -> Values:
        """The values; ``m.limit`` is that of the rim."""
        return _chain(m, Region(*region), *rows).values

    @staticmethod
    def backward(m: Metric, region: Region, grads: Values, *rows: Any) -> list[Any]:
        """The gradients of the rows, in their order; none for c."""
        region = Region(*region)
        direction, displacement, *centre, radius = rows
        chain = _chain(m, region, *rows)
        wide, inside = m.wide(), m.with_limit(region.limit)
        sample, kept_distance = chain.total[0], chain.distance[1]

        g_distance = grads.prior * _prior_slope(m, region, chain.distance[0])
        if centre:
            g_centre, g_sample, _ = Dist.backward(
                wide, kept_distance, g_distance, centre[0], sample
            )
        else:
            g_sample, _ = Dist0.backward(wide, kept_distance, g_distance, sample)
        g_projected, _ = LogMap0.backward(wide, chain.charted, grads.tangent, chain.projected[0])
        g_tangent, _ = Project.backward(inside.wide(), chain.projected[1], g_projected, sample)
        g_sample = wide.combine((1.0, g_sample), (1.0, g_tangent))

        g_point, g_step, _ = MobiusAdd.backward(
            wide, chain.total[1], g_sample, chain.point[0], chain.step[0]
        )
        g_half, _ = ExpMap0.backward(wide, chain.step[1], g_step, chain.half)
        stretch = grads.posterior * (m.c * -region.across)
        stretch = stretch * num.log_sinh_ratio_bend(chain.step_size)
        g_displacement = m.combine((0.5, g_half), (stretch, displacement))

        if grads.points is not None:
            g_point = wide.combine((1.0, grads.points), (1.0, g_point))
        g_direction, g_radius, _ = PolarPoint.backward(
            inside, chain.point[1], g_point, direction, radius
        )
        return [g_direction, g_displacement, *([g_centre] if centre else []), g_radius]


def _chain(m: Metric, region: Region, *rows: Any) -> _Chain:
    direction, displacement, *centre, radius = rows
    wide, inside = m.wide(), m.with_limit(region.limit).wide()
    (cv,) = m.measure(m.dot(displacement, displacement))
    size = cv.clamp_min(num.SMALLEST_SQUARE).sqrt()
    point = PolarPoint.forward(inside, direction, radius)
    half = wide.combine((0.5, displacement))
    step = ExpMap0.forward(wide, half)
    total = MobiusAdd.forward(wide, point[0], step[0])
    projected = Project.forward(inside, total[0])
    tangent, charted = LogMap0.forward(wide, projected[0])
    distance = Dist.forward(wide, centre[0], total[0]) if centre else Dist0.forward(wide, total[0])
    away = distance[0]
    values = Values(
        points=m.combine((1.0, point[0])),
        tangent=m.combine((1.0, tangent)),
        posterior=num.log_sinh_ratio(size) * -region.across,
        prior=away.square() * -0.5 - num.log_sinh_ratio(away * m.root_c) * region.across,
    )
    return _Chain(values, point, half, step, size, total, projected, charted, distance)


def _prior_slope(m: Metric, region: Region, away: Tensor) -> Any:
    """Derivative of the prior's part with respect to the distance."""
    return away * -1.0 - away * num.log_sinh_ratio_bend(away * m.root_c) * (m.c * region.across)


__all__ = ["Latent", "PolarPoint", "Region", "Values"]
