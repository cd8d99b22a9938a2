"""The textbook formulas of the unit ball (c = 1) in 60-digit arithmetic, on lists of numbers.

Nothing here is rearranged for accuracy or speed: these are the definitions of Ganea, Becigneul and
Hofmann 2018, so that no library's rearrangement, and no error in one, is shared.  Inputs are the
exact values of floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mpmath

__all__ = [
    "add",
    "conformal_factor",
    "dist",
    "dist2plane",
    "dot",
    "exact",
    "expmap",
    "expmap0",
    "geodesic",
    "gyration",
    "logmap",
    "logmap0",
    "matvec",
    "norm",
    "relative_error",
    "scalar_mul",
    "scale",
    "transport",
]

#: A context of its own, so that nobody else's precision changes.
mp = mpmath.MPContext()
mp.dps = 60

Number = Any  # mpmath's numbers are untyped
Vector = list[Number]


def exact(values: Any) -> Any:
    """The exact values of a float or of nested lists of floats."""
    return [exact(v) for v in values] if isinstance(values, list) else mp.mpf(values)


def dot(x: Vector, y: Vector) -> Number:
    """Euclidean inner product."""
    return mp.fsum(a * b for a, b in zip(x, y, strict=True))


def norm(x: Vector) -> Number:
    """Euclidean norm."""
    return mp.sqrt(dot(x, x))


def scale(k: Number, x: Vector) -> Vector:
    """``k x``."""
    return [k * a for a in x]


def conformal_factor(x: Vector) -> Number:
    """``2 / (1 - |x|^2)``."""
    return 2 / (1 - dot(x, x))


def add(x: Vector, y: Vector) -> Vector:
    """Moebius sum."""
    xy, x2, y2 = dot(x, y), dot(x, x), dot(y, y)
    denominator = 1 + 2 * xy + x2 * y2
    return [((1 + 2 * xy + y2) * p + (1 - x2) * q) / denominator for p, q in zip(x, y, strict=True)]


def _along(function: Any, x: Vector) -> Vector:
    """The vector of length ``function(|x|)`` in the direction of x; 0 at 0."""
    length = norm(x)
    return x if length == 0 else scale(function(length) / length, x)


def expmap0(u: Vector) -> Vector:
    """Exponential map at the origin."""
    return _along(mp.tanh, u)


def logmap0(x: Vector) -> Vector:
    """Logarithm at the origin."""
    return _along(mp.atanh, x)


def scalar_mul(r: Number, x: Vector) -> Vector:
    """Moebius multiple."""
    return _along(lambda length: mp.tanh(r * mp.atanh(length)), x)


def matvec(matrix: list[Vector], x: Vector) -> Vector:
    """Moebius product of a matrix and a point."""
    u = logmap0(x)
    return expmap0([dot(row, u) for row in matrix])


def expmap(x: Vector, u: Vector) -> Vector:
    """Exponential map at x."""
    return add(x, _along(lambda length: mp.tanh(conformal_factor(x) * length / 2), u))


def logmap(x: Vector, y: Vector) -> Vector:
    """Logarithm at x."""
    difference = add(scale(-1, x), y)
    return _along(lambda length: 2 / conformal_factor(x) * mp.atanh(length), difference)


def dist(x: Vector, y: Vector) -> Number:
    """Geodesic distance."""
    return 2 * mp.atanh(norm(add(scale(-1, x), y)))


def geodesic(t: Number, x: Vector, y: Vector) -> Vector:
    """Point at time t between x and y."""
    return add(x, scalar_mul(t, add(scale(-1, x), y)))


def gyration(x: Vector, y: Vector, v: Vector) -> Vector:
    """``gyr[x, y] v`` by its definition; it is linear, so v is first made short enough to add."""
    short = mp.mpf(2) ** -10
    left = add(x, add(y, scale(short, v)))
    return scale(1 / short, add(scale(-1, add(x, y)), left))


def transport(x: Vector, y: Vector, v: Vector) -> Vector:
    """Parallel transport of v from x to y."""
    factor = conformal_factor(x) / conformal_factor(y)
    return scale(factor, gyration(y, scale(-1, x), v))


def dist2plane(x: Vector, p: Vector, a: Vector) -> Number:
    """Distance from x to the geodesic hyperplane through p with normal a."""
    w = add(scale(-1, p), x)
    return mp.asinh(2 * abs(dot(w, a)) / ((1 - dot(w, w)) * norm(a)))


def relative_error(got: Sequence[float], want: Any) -> float:
    """``|got - want| / |want|``, or ``|got|`` if want is 0; inf where got is not finite."""
    if not all(math.isfinite(value) for value in got):
        return math.inf
    wanted = want if isinstance(want, list) else [want]
    error = norm([mp.mpf(a) - b for a, b in zip(got, wanted, strict=True)])
    size = norm(wanted)
    return float(error if size == 0 else error / size)
