"""Number policy of the ball: dtypes, epsilons, and the sign of the curvature.

Everything that is a convention or a small constant rather than geometry is here:

* **Curvature.** ``c > 0`` everywhere; the ball ``c |x|^2 < 1`` has sectional curvature ``-c`` and
  conformal factor ``2 / (1 - c |x|^2)``, so the factor at the origin is 2.
* **Dtypes.** float32 and float64 are accepted. float32 is a storage format: inputs are widened to
  float64, the formula is evaluated there, and the result is rounded once; gradients alike. Other
  dtypes raise ``TypeError``: near the rim a float16 or bfloat16 coordinate cannot even say on which
  side of the boundary it lies.
* **Epsilons.** The constants below are the only ones.
* **Range.** Norms are plain sums of squares in float64, so lengths above 1e150 or below 1e-145 are
  outside the range in which the formulas are accurate.
"""

import math
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

Curvature: TypeAlias = float | Tensor
"""``c > 0``: a float, or a 0-dim tensor when it is learned."""

SUPPORTED_DTYPES: Final = (torch.float32, torch.float64)

SMALLEST_SQUARE: Final = 1e-30
"""Least ``c |v|^2`` that a removable singularity (such as tanh(z)/z at 0) is divided by. Below it
the limit at 0 is exact in float64."""

SMALLEST_SQUARED_DISTANCE: Final = 1e-44
"""Least ``c |v|^2`` in the gradients of distances, which have a unit direction at any distance but
0. Between points closer than ``1e-22 / sqrt(c)`` the gradient tends to the subgradient 0."""

SMALLEST_SQUARED_LENGTH: Final = 1e-290
"""Least square whose root is taken: the derivative of the root is finite above."""

PROJECTION_ULPS: Final = {torch.float32: (4.0, 8.0), torch.float64: (16.0, 32.0)}
"""Points within the first number of machine epsilons of ``max_radius`` count as beyond it, and a
projected point lands the second number inside. What is between the two absorbs the rounding of the
projected coordinates, which makes projection idempotent; what is before the limit absorbs the
rounding of whoever checks the norm. float32 coordinates are rounded once, float64 ones several
times."""

RIM_ULPS: Final = {torch.float32: (0.9, 1.5), torch.float64: (16.0, 32.0)}
"""The same at the rim, where nobody asked for a margin: in float32 a point that is moved by it is
still correct to 2.5e-7, and inside when its norm is computed in float32."""

_EPSILONS: Final = {dtype: torch.finfo(dtype).eps for dtype in SUPPORTED_DTYPES}


def check_curvature(c: Curvature) -> float:
    """Return ``c`` as a float after checking that it is one positive, finite number.

    Raises:
        TypeError: ``c`` is not a real number or a tensor of one.
        ValueError: ``c`` has more than one element or none, is not finite, or is not positive.
    """
    if isinstance(c, Tensor):
        if c.numel() != 1:
            raise ValueError(f"c must be a single number, got a tensor of shape {tuple(c.shape)}")
        c = c.detach()
        if c.dtype == torch.bool or c.is_complex():
            raise TypeError(f"c must be a real number, got a tensor of dtype {c.dtype}")
        if c.is_meta:
            raise ValueError(
                "c must have a value, got a tensor on the device meta, which holds none"
            )
    elif isinstance(c, bool) or not isinstance(c, int | float):
        raise TypeError(f"c must be a real number or a 0-dim tensor, got {type(c).__name__}: {c!r}")
    try:
        value = float(c)
    except OverflowError:
        value = math.inf
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(
            f"c must be positive and finite (the ball has sectional curvature -c), got {value!r}"
        )
    return value


def check_max_radius(max_radius: float | None) -> float | None:
    """Return ``max_radius`` after checking that it is None or lies strictly between 0 and 1.

    Raises:
        TypeError: it is neither None nor a real number.
        ValueError: it is a number outside (0, 1).
    """
    if max_radius is None:
        return None
    if isinstance(max_radius, bool) or not isinstance(max_radius, int | float):
        raise TypeError(
            f"max_radius must be None or a number in (0, 1), got {type(max_radius).__name__}: "
            f"{max_radius!r}"
        )
    if not 0.0 < max_radius < 1.0:
        raise ValueError(
            f"max_radius is a fraction of the ball's radius and must lie in (0, 1), got "
            f"{max_radius!r}; use None for the whole open ball"
        )
    return float(max_radius)


def check_dtype(dtype: torch.dtype) -> None:
    """Raise ``TypeError`` unless the ball can store points in ``dtype``."""
    if dtype not in SUPPORTED_DTYPES:
        raise TypeError(
            f"the Poincare ball works on float32 and float64 tensors, got {dtype}; convert with "
            f".float() first (under autocast, too)"
        )


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float64, the dtype in which every formula is evaluated.

    Raises:
        TypeError: ``x`` is neither float32 nor float64.
    """
    check_dtype(x.dtype)
    return x.double()


def widen_curvature(c: Curvature) -> Curvature:
    """Return ``c`` in float64 (a Python float already is)."""
    return c.double() if isinstance(c, Tensor) else c


def sqrt(c: Curvature) -> Curvature:
    """Return ``sqrt(c)`` as whatever ``c`` is, a float or a tensor."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


class Limit(NamedTuple):
    """Where ``s = sqrt(c) |x|`` of a point must stay, a few machine epsilons inside the true limit.

    Attributes:
        threshold: a given point is moved only if its ``s`` is above.
        target: where it is moved to, radially; also the largest ``s`` of a computed point.
    """

    threshold: float
    target: float


def limit_of(dtype: torch.dtype, max_radius: float | None) -> Limit:
    """Return the limit for points stored in ``dtype``: that of ``max_radius``, or of the rim."""
    check_dtype(dtype)
    eps = _EPSILONS[dtype]
    limit, margins = (1.0, RIM_ULPS) if max_radius is None else (max_radius, PROJECTION_ULPS)
    threshold, target = margins[dtype]
    return Limit(threshold=limit * (1.0 - threshold * eps), target=limit * (1.0 - target * eps))


def root(square: Tensor) -> Tensor:
    """Return ``sqrt(square)``, with the derivative 0 at 0."""
    return square.clamp_min(SMALLEST_SQUARED_LENGTH).sqrt() * (square > 0.0)


def artanh(z: Tensor) -> Tensor:
    """Return ``artanh(z)`` for ``0 <= z < 1``, to full relative accuracy in float64.

    ``log1p(2z / (1 - z)) / 2``: unlike ``torch.atanh`` it is vectorised on CPUs.
    """
    t = z / torch.rsub(z, 1.0)
    return 0.5 * torch.log1p(t + t)


def arsinh(z: Tensor, z2: Tensor) -> Tensor:
    """Return ``arsinh(z)`` for ``z >= 0``, given ``z2 = z^2`` too; vectorised like :func:`artanh`.

    ``log1p(z + z^2 / (1 + sqrt(1 + z^2)))``, whose argument cancels nowhere.
    """
    return torch.log1p(z + z2 / ((z2 + 1.0).sqrt() + 1.0))


def at_most(t: Tensor, limit: Limit | None) -> Tensor:
    """Return ``t`` cut off at the target of ``limit``."""
    return t if limit is None else t.clamp_max(limit.target)


def tanh_at_most(z: Tensor, limit: Limit | None) -> tuple[Tensor, Tensor]:
    """Return ``tanh(z)`` cut off at the target of ``limit``, and its derivative."""
    t = z.tanh()
    slope = torch.rsub(t.square(), 1.0)
    if limit is None:
        return t, slope
    return t.clamp_max(limit.target), slope * (t < limit.target)


def sech_squared(z: Tensor) -> Tensor:
    """Return ``1 / cosh(z)^2`` to full relative accuracy, without overflow."""
    q = torch.exp(-2.0 * z)
    return 4.0 * q / (1.0 + q).square()


# Taylor coefficients of log(sinh(z)/z) in powers of z^2, from z^2 on: the Bernoulli number form is
# 2^(2n-1) B_2n / (n (2n)!). The radius of convergence is pi.
_LOG_SINH_RATIO_SERIES: Final = (
    1 / 6,
    -1 / 180,
    1 / 2835,
    -1 / 37800,
    1 / 467775,
    -691 / 3831077250,
    2 / 127702575,
    -3617 / 2605132530000,
)
_LOG_SINH_RATIO_SWITCH: Final = 0.3


def log_sinh_ratio(z: Tensor) -> Tensor:
    """Return ``log(sinh(z) / z)`` for ``z >= 0``, accurate at 0 and without overflow.

    Below 0.3 the Taylor series in ``z^2`` is used: the closed form ``z + log((1 - exp(-2z)) / 2z)``
    loses its value, and more so its derivative, to cancellation there.
    """
    small = z < _LOG_SINH_RATIO_SWITCH
    z2 = torch.where(small, z, 0.0).square()
    series = _LOG_SINH_RATIO_SERIES[-1] * z2
    for coefficient in reversed(_LOG_SINH_RATIO_SERIES[:-1]):
        series = (series + coefficient) * z2
    # Each branch sees an argument it likes, so that no NaN reaches the gradient of the other one.
    large = torch.where(small, 1.0, z)
    ratio = torch.rsub(torch.exp(-2.0 * large), 1.0) / (2.0 * large)
    closed = large + torch.log1p(ratio - 1.0)  # no logarithm else on tiles; ratio is below 0.76
    return torch.where(small, series, closed)


def log_sinh_ratio_bend(z: Tensor) -> Tensor:
    """Return ``(coth(z) - 1/z) / z``, the derivative of :func:`log_sinh_ratio` divided by ``z``."""
    small = z < _LOG_SINH_RATIO_SWITCH
    z2 = torch.where(small, z, 0.0).square()
    terms = [2.0 * (k + 1) * c for k, c in enumerate(_LOG_SINH_RATIO_SERIES)]
    series = terms[-1] * z2
    for coefficient in reversed(terms[1:-1]):
        series = (series + coefficient) * z2
    large = torch.where(small, 1.0, z)
    q = torch.exp(-2.0 * large)
    closed = ((1.0 + q) / torch.rsub(q, 1.0) - large.reciprocal()) / large
    return torch.where(small, series + terms[0], closed)
