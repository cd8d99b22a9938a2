"""Tangent vectors: lengths, angles, and transport from point to point.

With ``gap = 1 - c|x|^2`` the conformal factor is ``2/gap``, so the metric and the transport from
and to the origin are powers of the gap.
"""

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.rows import Gradients, Kept, Rule
from ternvae.manifolds.vectors import Blend, Metric, Product


def _grad_c_of_gap(m: Metric, gap: Tensor, g_gap: Tensor) -> Tensor | None:
    return g_gap * (gap - 1.0) * (0.5 / m.c**2) if m.wants_c else None


class ConformalFactor:
    """``lambda_x = 2 / gap``."""

    @staticmethod
    def forward(m: Metric, x: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        (gap,) = m.measure(m.gap(x))
        return (2.0 * gap.reciprocal()).to(m.dtype), (gap,)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        (gap,) = kept
        pull = grad.double() * (4.0 * m.c) / gap.square()
        return m.combine((pull, x)), _grad_c_of_gap(m, gap, -pull)


def _scaled_by_gap(name: str, power: int, factor: float, doc: str) -> Rule:
    """The rule ``factor gap^power v`` for a point x and a vector v."""

    class ScaledByGap:
        @staticmethod
        def forward(m: Metric, x: Tensor, v: Tensor) -> tuple[Tensor, Kept]:
            (gap,) = m.measure(m.gap(x))
            scale = gap if power == 1 else factor * gap**power
            return m.combine((scale, v)), (gap, scale)

        @staticmethod
        def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, v: Tensor) -> Gradients:
            gap, scale = kept
            (gv,) = m.measure(m.dot(grad, v, -2.0 * factor * power))
            pull = gv if power == 1 else gv * gap ** (power - 1)
            return m.combine((pull, x)), m.combine((scale, grad)), _grad_c_of_gap(m, gap, -pull)

    ScaledByGap.__name__ = ScaledByGap.__qualname__ = name  # rules are looked up by name
    ScaledByGap.__doc__ = doc
    return ScaledByGap


TransportFromOrigin = _scaled_by_gap(
    "TransportFromOrigin", 1, 1.0, "``gap v``: from the origin to x."
)
TransportToOrigin = _scaled_by_gap(
    "TransportToOrigin", -1, 1.0, "``v / gap``: from x to the origin."
)
RiemannianGradient = _scaled_by_gap(
    "RiemannianGradient", 2, 0.25, "``gap^2 v / 4``: the inverse of the metric at x."
)


class Inner:
    """``lambda_x^2 <u, v>``."""

    @staticmethod
    def forward(m: Metric, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap, product = m.measure(m.gap(x), Product(u, v, 4.0, 0.0))
        return (product / gap.square()).to(m.dtype), (gap, product)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, u: Tensor, v: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap, product = kept
        metric = grad.double() / gap.square()
        pull = metric * product * (4.0 * m.c) / gap
        metric = 4.0 * metric
        return (
            m.combine((pull, x)),
            m.combine((metric, v)),
            m.combine((metric, u)),
            _grad_c_of_gap(m, gap, -pull),
        )


_SHORTEST = num.SMALLEST_SQUARED_LENGTH**0.5


class Norm:
    """``lambda_x |u|``."""

    @staticmethod
    def forward(m: Metric, x: Tensor, u: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap, squared = m.measure(m.gap(x), Product(u, u, 4.0, 0.0))
        length = num.root(squared)
        return (length / gap).to(m.dtype), (gap, length)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, u: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap, length = kept
        pull = grad.double() / gap
        along_u = 4.0 * pull / length.clamp_min(_SHORTEST)
        pull = pull * length * (2.0 * m.c) / gap
        return (
            m.combine((pull, x)),
            m.combine((along_u, u)),
            _grad_c_of_gap(m, gap, -pull),
        )


class Transport:
    """``(lambda_x / lambda_y) gyr[y, -x] v``: along the geodesic from x to y.

    With ``d = y - x`` and ``D = gap_x gap_y + c|d|^2`` the rotation is ``v + 2/D (a d + b x)``,
    ``a = -(gap_y + q) c<x, v> - (1 - gap_x) c<d, v>`` and ``b = gap_x c<d, v> - q c<x, v>``. Every
    correction to the identity carries a factor d, so that it stays a rotation to rounding error
    for near points at the rim and is exactly the identity for equal ones.
    """

    scales = True

    @classmethod
    def _weights(
        cls, gap_x: Tensor, gap_y: Tensor, q: Tensor, xv: Tensor, dv: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``lambda_x/lambda_y`` or 1, ``2/D``, a, b."""
        a = (gap_x - 1.0) * dv - (gap_y + q) * xv
        b = gap_x * dv - q * xv
        ratio = gap_y / gap_x if cls.scales else torch.ones_like(gap_x)
        return ratio, 2.0 * torch.addcmul(q, gap_x, gap_y).reciprocal(), a, b

    @classmethod
    def forward(cls, m: Metric, x: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        d = Blend(y, -1.0, x)
        kept = m.measure(m.gap(x), m.gap(y), m.dot(d, d), m.dot(x, v), m.dot(d, v))
        ratio, f, a, b = cls._weights(*kept)
        rf = ratio * f
        return m.combine((ratio, v), (rf * a, d), (rf * b, x)), tuple(kept)

    @classmethod
    def backward(
        cls, m: Metric, kept: Kept, grad: Tensor, x: Tensor, y: Tensor, v: Tensor
    ) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, gap_y, q, xv, dv = kept
        ratio, f, a, b = cls._weights(*kept)
        d = Blend(y, -1.0, x)
        g_d, g_x, g_v = m.measure(m.dot(grad, d, 2.0), m.dot(grad, x, 2.0), m.dot(grad, v, 2.0))
        rf = ratio * f
        g_a, g_b = rf * g_d, rf * g_x
        g_total = -0.5 * f * (a * g_a + b * g_b)
        g_ab = g_a + g_b
        g_gap_x = gap_y * g_total + dv * g_ab
        g_gap_y = gap_x * g_total - xv * g_a
        g_q = g_total - xv * g_ab
        if cls.scales:
            g_log_ratio = ratio * (g_v + f * (a * g_d + b * g_x))
            g_gap_y = g_gap_y + g_log_ratio / gap_y
            g_gap_x = g_gap_x - g_log_ratio / gap_x
        # xv = c<x, v> contributes g_xv v / 2 to the gradient of x, and so on.
        g_xv = -0.5 * ((gap_y + q) * g_a + q * g_b)
        g_dv = 0.5 * (gap_x * g_ab - g_a)
        grad_x = m.combine((rf * (b - a), grad), (g_xv - g_dv, v), (-g_q, d), (-g_gap_x, x))
        grad_y = m.combine((rf * a, grad), (g_dv, v), (g_q, d), (-g_gap_y, y))
        grad_v = m.combine((ratio, grad), (g_xv, x), (g_dv, d))
        grad_c = None
        if m.wants_c:
            grad_c = g_q * q + g_gap_x * (gap_x - 1.0) + g_gap_y * (gap_y - 1.0)
            grad_c = (grad_c + 2.0 * (g_xv * xv + g_dv * dv)) * (0.5 / m.c**2)
        return grad_x, grad_y, grad_v, grad_c


class Rotation(Transport):
    """``gyr[y, -x] v``: the transport without its change of length."""

    scales = False


__all__ = [
    "ConformalFactor",
    "Inner",
    "Norm",
    "RiemannianGradient",
    "Rotation",
    "Transport",
    "TransportFromOrigin",
    "TransportToOrigin",
]
