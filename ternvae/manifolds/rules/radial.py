"""Maps that move points along their diameter, and the distance from the origin.

All have the form ``f(z) v`` with ``z = sqrt(c)|v|``. Their gradient is ``f G + (z f') <G, v> v /
|v|^2``; the factor ``z f' / z^2`` is finite at 0, and its rounding error there is multiplied by
``<G, v> v``, which vanishes faster.
"""

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.rows import Gradients, Kept
from ternvae.manifolds.vectors import Metric


def _squared(m: Metric, v: Tensor) -> Tensor:
    (z2,) = m.measure(m.dot(v, v))
    return z2.clamp_min(num.SMALLEST_SQUARE)


def _pull_back(
    m: Metric, grad: Tensor, v: Tensor, gv: Tensor, z2: Tensor, f: Tensor, zdf: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Gradients of ``v`` and c through ``f(z) v``, given ``gv = c<G, v>`` and ``zdf = z f'(z)``."""
    pull = zdf * gv
    return m.combine((f, grad), (pull / z2, v)), 0.5 / m.c**2 * pull if m.wants_c else None


class ExpMap0:
    """``tanh(z)/z u``."""

    @staticmethod
    def forward(m: Metric, u: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2 = _squared(m, u)
        z = z2.sqrt()
        return m.combine((num.at_most(z.tanh(), m.limit) / z, u)), (z2,)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, u: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        (z2,) = kept
        z = z2.sqrt()
        t, slope = num.tanh_at_most(z, m.limit)
        f = t / z
        (gu,) = m.measure(m.dot(grad, u))
        return _pull_back(m, grad, u, gu, z2, f, slope - f)


class LogMap0:
    """``artanh(z)/z x``."""

    @staticmethod
    def forward(m: Metric, x: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2 = _squared(m, x)
        z = z2.sqrt()
        f = num.artanh(z) / z
        return m.combine((f, x)), (z2, f)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2, f = kept
        (gx,) = m.measure(m.dot(grad, x))
        return _pull_back(m, grad, x, gx, z2, f, torch.rsub(z2, 1.0).reciprocal() - f)


class ScalarMul:
    """``tanh(r artanh(z))/z x``; the number r per point is the second input."""

    @staticmethod
    def forward(m: Metric, x: Tensor, r: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2 = _squared(m, x)
        z = z2.sqrt()
        artanh_z = num.artanh(z)
        t = (r.double() * artanh_z).tanh()
        if m.limit is not None:
            t = t.clamp(-m.limit.target, m.limit.target)
        return m.combine((t / z, x)), (z2, artanh_z)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, r: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2, artanh_z = kept
        z = z2.sqrt()
        r = r.double()
        t, slope = num.tanh_at_most((r * artanh_z).abs(), m.limit)
        f = t.copysign(r) / z
        (gx,) = m.measure(m.dot(grad, x))
        zdf = slope * r / torch.rsub(z2, 1.0) - f
        grad_x, grad_c = _pull_back(m, grad, x, gx, z2, f, zdf)
        return grad_x, gx * slope * artanh_z / (z * m.c), grad_c


class Project:
    """``x`` where z is at most a threshold, else ``target/z x``."""

    @staticmethod
    def _scale(limit: num.Limit | None, z2: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows are beyond the threshold, and the factor of each."""
        if limit is None:
            raise ValueError("projection needs a limit")
        beyond = z2 > limit.threshold**2
        return beyond, torch.where(beyond, limit.target * z2.rsqrt(), 1.0)

    @staticmethod
    def forward(m: Metric, x: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2 = _squared(m, x)
        return m.combine((Project._scale(m.limit, z2)[1], x)), (z2,)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        (z2,) = kept
        beyond, f = Project._scale(m.limit, z2)
        (gx,) = m.measure(m.dot(grad, x))
        return _pull_back(m, grad, x, gx, z2, f, -f * beyond)


class Dist0:
    """``2/sqrt(c) artanh(z)``."""

    @staticmethod
    def forward(m: Metric, x: Tensor) -> tuple[Tensor, Kept]:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        (z2,) = m.measure(m.dot(x, x))
        return (num.artanh(num.root(z2)) * (2.0 / m.root_c)).to(m.dtype), (z2,)

    @staticmethod
    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor) -> Gradients:
        """See :class:`ternvae.manifolds.rows.Rule`."""
        z2 = kept[0].clamp_min(num.SMALLEST_SQUARED_DISTANCE)
        z = z2.sqrt()
        wide = grad.double()
        gap = torch.rsub(z2, 1.0)
        grad_x = m.combine((wide * (2.0 * m.root_c) / (z * gap), x))
        if not m.wants_c:
            return grad_x, None
        return grad_x, wide * (z / gap - num.artanh(z)) * (1.0 / (m.c * m.root_c))


__all__ = ["Dist0", "ExpMap0", "LogMap0", "Project", "ScalarMul"]
