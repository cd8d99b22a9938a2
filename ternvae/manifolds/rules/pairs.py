"""Formulas of two points, or of a point and a tangent vector.

Written in the difference ``d`` of the coordinates, none of them subtracts numbers that are nearly
equal: with ``P = gap_x gap_y``, ``q = c|d|^2`` and ``D = P + q``,

* ``x (+) y = (gap_x d + q x) / D`` for ``d = x + y``, of squared norm ``q / (c D)``;
* ``dist(x, y) = 2/sqrt(c) arsinh(sqrt(q / P))`` for ``d = y - x``;
* ``log_x(y) = gap_x K (gap_x d - q x)`` with ``K = arsinh(sqrt(q / P)) / sqrt(q D)``.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.rows import Gradients, Kept
from ternvae.manifolds.vectors import Blend, Metric, Product


def _grad_c(m: Metric, *terms: tuple[Tensor, Tensor]) -> Any:
    """Derivative with respect to c, from ``(g_s, c ds/dc)`` of every number that c enters."""
    if not m.wants_c:
        return None
    (g, s), *rest = terms
    total = g * s
    for g, s in rest:
        total = total + g * s
    return total * (0.5 / m.c**2)


class _Sum(NamedTuple):
    """The Moebius sum as a combination ``along_d d + along_x x``, confined to the limit."""

    along_d: Tensor
    along_x: Tensor

    @staticmethod
    def of(m: Metric, gap_x: Tensor, gap_y: Tensor, q: Tensor) -> "_Sum":
        total = torch.addcmul(q, gap_x, gap_y)
        along_d, along_x = gap_x / total, q / total
        if m.limit is not None:
            # along_x is also the squared norm of the sum, times c.
            shrink = _shrink(along_x, m.limit)
            along_d, along_x = along_d * shrink, along_x * shrink
        return _Sum(along_d, along_x)

    @staticmethod
    def pull_back(
        m: Metric, gap_x: Tensor, gap_y: Tensor, q: Tensor, g_d: Tensor, g_x: Tensor
    ) -> tuple["_Sum", Tensor, Tensor, Tensor]:
        """The sum, and the derivatives of ``gap_x``, ``gap_y`` and ``q`` from those of its parts.

        ``g_d = 2c <G, d>`` and ``g_x = 2c <G, x>``.
        """
        total = torch.addcmul(q, gap_x, gap_y)
        along_d, along_x = gap_x / total, q / total
        if m.limit is None:
            found = _Sum(along_d, along_x)
        else:
            shrink = _shrink(along_x, m.limit)
            found = _Sum(along_d * shrink, along_x * shrink)
            # shrink = target / sqrt(along_x) where it is below 1.
            g_shrink = along_d * g_d + along_x * g_x
            g_d = g_d * shrink
            steep = shrink * (shrink < 1.0) / along_x.clamp_min(num.SMALLEST_SQUARE)
            g_x = g_x * shrink - 0.5 * g_shrink * steep
        g_total = (along_d * g_d + along_x * g_x) / -total
        g_gap_x = torch.addcmul(g_d / total, gap_y, g_total)
        return found, g_gap_x, gap_x * g_total, g_x / total + g_total


def _shrink(squared_norm: Tensor, limit: num.Limit) -> Tensor:
    norm = squared_norm.clamp_min(num.SMALLEST_SQUARE).sqrt()
    return (limit.target / norm).clamp_max(1.0)


class MobiusAdd:
    """``x (+) y``."""

    sign = 1.0

    @classmethod
    def forward(cls, m: Metric, x: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        d = Blend(x, cls.sign, y)
        kept = gap_x, gap_y, q = m.measure(m.gap(x), m.gap(y), m.dot(d, d))
        total = _Sum.of(m, gap_x, gap_y, q)
        return m.combine((total.along_d, d), (total.along_x, x)), tuple(kept)

    @classmethod
    def backward(cls, m: Metric, kept: Kept, grad: Tensor, x: Tensor, y: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, gap_y, q = kept
        d = Blend(x, cls.sign, y)
        g_d, g_x = m.measure(m.dot(grad, d, 2.0), m.dot(grad, x, 2.0))
        total, g_gap_x, g_gap_y, g_q = _Sum.pull_back(m, gap_x, gap_y, q, g_d, g_x)
        sign = cls.sign
        grad_x = m.combine((total.along_d + total.along_x, grad), (g_q, d), (-g_gap_x, x))
        grad_y = m.combine((sign * total.along_d, grad), (sign * g_q, d), (-g_gap_y, y))
        grad_c = _grad_c(m, (g_q, q), (g_gap_x, gap_x - 1.0), (g_gap_y, gap_y - 1.0))
        return grad_x, grad_y, grad_c


class MobiusSub(MobiusAdd):
    """``x (+) (-y)``."""

    sign = -1.0


class ExpMap:
    """``x (+) t u`` with ``t = tanh(h)/(sqrt(c)|u|)``, ``h = sqrt(c)|u|/gap_x``.

    The gap of the second summand is ``sech(h)^2``, which does not cancel for large h.
    """

    @staticmethod
    def _step(n: Tensor, gap_x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``h``, ``tanh(h)``, ``t`` and ``sech(h)^2`` from ``n = c|u|^2``."""
        root = n.sqrt()
        h = root / gap_x
        tanh_h = h.tanh()
        return h, tanh_h, tanh_h / root, num.sech_squared(h)

    @staticmethod
    def forward(m: Metric, x: Tensor, u: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, n = m.measure(m.gap(x), m.dot(u, u))
        n = n.clamp_min(num.SMALLEST_SQUARE)
        h, tanh_h, t, gap_y = ExpMap._step(n, gap_x)
        d = Blend(x, t, u)
        (q,) = m.measure(m.dot(d, d))
        total = _Sum.of(m, gap_x, gap_y, q)
        kept = (gap_x, n, q, h, tanh_h, t, gap_y)
        return m.combine((total.along_d, d), (total.along_x, x)), kept

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, u: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, n, q, h, tanh_h, t, gap_y = kept
        d = Blend(x, t, u)
        g_x, g_u = m.measure(m.dot(grad, x, 2.0), m.dot(grad, u, 2.0))
        total, g_gap_x, g_gap_y, g_q = _Sum.pull_back(
            m, gap_x, gap_y, q, torch.addcmul(g_x, t, g_u), g_x
        )
        # From d = x + t u: 2c<d, u> = (q + t^2 n - c|x|^2) / t.
        d_u = (torch.addcmul(q, tanh_h, tanh_h) + (gap_x - 1.0)) / t
        g_t = torch.addcmul(total.along_d * g_u, g_q, d_u)
        # t, and gap_y = sech(h)^2, depend on gap_x and n.
        steep = gap_y / gap_x
        bend = 2.0 * g_gap_y * gap_y * tanh_h * h
        g_n = (g_t * (steep - t) - bend) / (n + n)
        g_gap_x = g_gap_x + (bend - g_t * steep) / gap_x
        grad_x = m.combine((total.along_d + total.along_x, grad), (g_q, d), (-g_gap_x, x))
        grad_u = m.combine((t * total.along_d, grad), (t * g_q, d), (g_n, u))
        grad_c = _grad_c(m, (g_q, q), (g_gap_x, gap_x - 1.0), (g_n, n))
        return grad_x, grad_u, grad_c


class Dist:
    """``2/sqrt(c) arsinh(sqrt(q / P))``."""

    @staticmethod
    def forward(m: Metric, x: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        d = Blend(y, -1.0, x)
        kept = gap_x, gap_y, q = m.measure(m.gap(x), m.gap(y), m.dot(d, d))
        z2 = q / (gap_x * gap_y)
        return (num.arsinh(num.root(z2), z2) * (2.0 / m.root_c)).to(m.dtype), tuple(kept)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, y: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, gap_y, q = kept
        d = Blend(y, -1.0, x)
        wide = grad.double()
        both = gap_x * gap_y
        steep = (q.clamp_min(num.SMALLEST_SQUARED_DISTANCE) * (q + both)).rsqrt()
        g_q = wide * steep * (2.0 * m.root_c)
        g_log_both = -g_q * q
        g_gap_x, g_gap_y = g_log_both / gap_x, g_log_both / gap_y
        grad_x = m.combine((-g_q, d), (-g_gap_x, x))
        grad_y = m.combine((g_q, d), (-g_gap_y, y))
        if not m.wants_c:
            return grad_x, grad_y, None
        grad_c = _grad_c(m, (g_q, q), (g_gap_x, gap_x - 1.0), (g_gap_y, gap_y - 1.0))
        z2 = q / both
        value = num.arsinh(z2.sqrt(), z2) * (2.0 / m.root_c)
        return grad_x, grad_y, grad_c - wide * value * (0.5 / m.c)


class LogMap:
    """``gap_x K (gap_x d - q x)``."""

    @staticmethod
    def forward(m: Metric, x: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        d = Blend(y, -1.0, x)
        gap_x, gap_y, q = m.measure(m.gap(x), m.gap(y), m.dot(d, d))
        q = q.clamp_min(num.SMALLEST_SQUARE)
        both = gap_x * gap_y
        z2 = q / both
        k = num.arsinh(z2.sqrt(), z2) * (q * (both + q)).rsqrt()
        gap_k = gap_x * k
        return m.combine((gap_x * gap_k, d), (-q * gap_k, x)), (gap_x, gap_y, q, k)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, y: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, gap_y, q, k = kept
        d = Blend(y, -1.0, x)
        both = gap_x * gap_y
        total = both + q
        gap_k, qx = gap_x * k, -q * k
        g_d, g_x = m.measure(m.dot(grad, d, 2.0), m.dot(grad, x, 2.0))

        gap_g = gap_x * g_d
        inside = torch.addcmul(gap_g, q, g_x, value=-1.0)
        # dK/dq and dK/dP, from arsinh' and the root; g_half = g_K / (2D).
        g_half = gap_x * inside / (total + total)
        g_q = g_half * torch.rsub(k * (total + q), 1.0) / q - gap_k * g_x
        g_log_both = -g_half * (both * k + 1.0)
        g_gap_x = torch.addcmul(g_log_both / gap_x, k, inside + gap_g)
        g_gap_y = g_log_both / gap_y

        along_d, along_x = gap_x * gap_k, gap_x * qx
        grad_x = m.combine((along_x - along_d, grad), (-g_q, d), (-g_gap_x, x))
        grad_y = m.combine((along_d, grad), (g_q, d), (-g_gap_y, y))
        grad_c = _grad_c(m, (g_q, q), (g_gap_x, gap_x - 1.0), (g_gap_y, gap_y - 1.0))
        return grad_x, grad_y, grad_c


class Geodesic:
    """``exp_x(t log_x(y))``; the time t per point is the third input."""

    @staticmethod
    def forward(m: Metric, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        wide = m.wide()
        u, kept = LogMap.forward(wide, x, y)
        out, more = ExpMap.forward(m, x, wide.combine((t.double(), u)))
        return out, (*kept, *more)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, y: Tensor, t: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        wide, t = m.wide(), t.double()
        gap_x, _, q, k = kept[:4]
        gap_k = gap_x * k
        u = wide.combine((gap_x * gap_k, Blend(y, -1.0, x)), (-q * gap_k, x))
        from_x, grad_tu, from_c = ExpMap.backward(wide, kept[4:], grad, x, wide.combine((t, u)))
        through_x, grad_y, through_c = LogMap.backward(
            wide, kept[:4], wide.combine((t, grad_tu)), x, y
        )
        (grad_t,) = m.measure(Product(grad_tu, u, 1.0, 0.0))
        grad_c = from_c + through_c if m.wants_c else None
        return m.combine((1.0, from_x), (1.0, through_x)), grad_y, grad_t, grad_c


__all__ = ["Dist", "ExpMap", "Geodesic", "LogMap", "MobiusAdd", "MobiusSub"]
