"""The textbook formulas of the ball in 60-digit decimals, on the exact values of float inputs.

These are the definitions of Ganea et al. 2018, not rearranged for accuracy, so that an error in the
rearrangements of :mod:`ternvae.manifolds` is not made twice. Call them within
``decimal.localcontext(prec=DIGITS)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias

from torch import Tensor

__all__ = [
    "DIGITS",
    "Vector",
    "dist",
    "dist0",
    "exact",
    "expmap0",
    "logmap0",
    "mobius_add",
    "relative_error",
]

#: 1 - |x|^2 and |x - y| cancel at most 25 digits of these in the cases that are looked at.
DIGITS = 60

#: Below this a length is 0 and the rest is rounding; no point that is looked at is so near to 0.
_ZERO = Decimal("1e-40")

Vector: TypeAlias = list[Decimal]


def exact(row: Tensor) -> Vector:
    """The coordinates (d,), or the single number, as decimals without rounding."""
    return [Decimal(value) for value in row.detach().cpu().double().reshape(-1).tolist()]


def mobius_add(x: Vector, y: Vector, c: Decimal) -> Vector:
    """``((1 + 2c<x, y> + c|y|^2) x + (1 - c|x|^2) y) / (1 + 2c<x, y> + c^2 |x|^2 |y|^2)``."""
    xy, x2, y2 = c * _dot(x, y), c * _dot(x, x), c * _dot(y, y)
    along_x, along_y, below = 1 + 2 * xy + y2, 1 - x2, 1 + 2 * xy + x2 * y2
    return [(along_x * p + along_y * q) / below for p, q in zip(x, y, strict=True)]


def dist(x: Vector, y: Vector, c: Decimal) -> Vector:
    """``2/sqrt(c) artanh(sqrt(c) |(-x) (+) y|)``."""
    return dist0(mobius_add([-p for p in x], y, c), c)


def dist0(x: Vector, c: Decimal) -> Vector:
    """``2/sqrt(c) artanh(sqrt(c) |x|)``."""
    return [2 / c.sqrt() * _artanh(c.sqrt() * _length(x))]


def expmap0(u: Vector, c: Decimal) -> Vector:
    """``tanh(sqrt(c)|u|) u / (sqrt(c)|u|)``."""
    s = c.sqrt() * _length(u)
    return u if s == 0 else [_tanh(s) / s * p for p in u]


def logmap0(x: Vector, c: Decimal) -> Vector:
    """``artanh(sqrt(c)|x|) x / (sqrt(c)|x|)``."""
    s = c.sqrt() * _length(x)
    return x if s == 0 else [_artanh(s) / s * p for p in x]


def relative_error(got: Sequence[Decimal], want: Sequence[Decimal]) -> float:
    """``|got - want| / |want|``, or ``|got|`` where that is 0; NaN if there is one in ``got``."""
    size = _length(want)
    if size < _ZERO:
        return float(_length(got))
    return float(_length([a - b for a, b in zip(got, want, strict=True)]) / size)


def _dot(x: Sequence[Decimal], y: Sequence[Decimal]) -> Decimal:
    return sum((p * q for p, q in zip(x, y, strict=True)), Decimal(0))


def _length(x: Sequence[Decimal]) -> Decimal:
    return _dot(x, x).sqrt()


def _artanh(z: Decimal) -> Decimal:
    return ((1 + z) / (1 - z)).ln() / 2


def _tanh(z: Decimal) -> Decimal:
    falling = (-2 * z).exp()
    return (1 - falling) / (1 + falling)
