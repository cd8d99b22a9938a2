"""Distance from a point to a geodesic hyperplane."""

from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.rows import Gradients, Kept
from ternvae.manifolds.vectors import Blend, Metric


class SignedDistance:
    """``1/sqrt(c) arsinh(s)`` with ``s = 2 sqrt(c) (<d, a> - (q / gap_p) <p, a>) / (gap_x |a|)``.

    Here ``d = x - p``, ``q = c|d|^2``. It is the textbook ``2 sqrt(c) <w, a> / ((1 - c|w|^2)|a|)``
    of ``w = (-p) (+) x``, whose numerator and denominator share the denominator of the sum.
    """

    @staticmethod
    def forward(m: Metric, x: Tensor, p: Tensor, a: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        d = Blend(x, -1.0, p)
        gap_x, gap_p, q, aa, da, pa = m.measure(
            m.gap(x), m.gap(p), m.dot(d, d), m.dot(a, a), m.dot(d, a), m.dot(p, a)
        )
        aa = aa.clamp_min(num.SMALLEST_SQUARED_DISTANCE)
        slope = 2.0 * (gap_x * aa.sqrt()).reciprocal()
        s = slope * (da - q * pa / gap_p)
        value = num.arsinh(s.abs(), s.square()).copysign(s) * (1.0 / m.root_c)
        return value.to(m.dtype), (gap_x, gap_p, q, aa, pa, da, slope, s)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, p: Tensor, a: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        gap_x, gap_p, q, aa, pa, da, slope, s = kept
        wide = grad.double()
        # The common factor 2c of the g's, and 1/sqrt(c) of the value.
        g_s = wide * (2.0 * m.root_c) * (s.square() + 1.0).rsqrt()
        g_da = slope * g_s
        lean = -g_da / gap_p
        g_pa, g_q = q * lean, pa * lean
        g_gap_p = -q * g_q / gap_p
        g_log = -g_s * s
        g_gap_x, g_aa = g_log / gap_x, 0.5 * g_log / aa

        d = Blend(x, -1.0, p)
        h_da, h_pa = 0.5 * g_da, 0.5 * g_pa
        grad_x = m.combine((h_da, a), (g_q, d), (-g_gap_x, x))
        grad_p = m.combine((h_pa - h_da, a), (-g_q, d), (-g_gap_p, p))
        grad_a = m.combine((h_da, d), (h_pa, p), (g_aa, a))
        if not m.wants_c:
            return grad_x, grad_p, grad_a, None
        through = g_q * q + g_gap_x * (gap_x - 1.0) + g_gap_p * (gap_p - 1.0)
        through = through + g_aa * aa + g_da * da + g_pa * pa
        value = num.arsinh(s.abs(), s.square()).copysign(s) * (1.0 / m.root_c)
        grad_c = through * (0.5 / m.c**2) - wide * value * (0.5 / m.c)
        return grad_x, grad_p, grad_a, grad_c


__all__ = ["SignedDistance"]
