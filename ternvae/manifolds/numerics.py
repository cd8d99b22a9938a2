"""Number policy of the ball: dtypes, epsilons, and the sign of the curvature.

Everything that is a convention or a small constant rather than geometry is here:

* **Curvature.** ``c > 0`` everywhere; the ball ``c |x|^2 < 1`` has sectional curvature ``-c`` and
  conformal factor ``2 / (1 - c |x|^2)``, so the factor at the origin is 2.
* **Dtypes.** float32 and float64 are accepted. float32 is a storage format: inputs are widened to
  float64, the formula is evaluated there, and the result is rounded once. Other dtypes raise
  ``TypeError``: near the rim a float16 or bfloat16 coordinate cannot even say on which side of the
  boundary it lies.
* **Epsilons.** :data:`SMALLEST_DIVISOR` and the two rim margins below are the only ones.
* **Range.** Norms are plain sums of squares in float64, so vectors whose norm is above 1e150 or
  below 1e-150 are outside the range in which the formulas are accurate.

The ratios (``tanh(z)/z`` and so on) take ``z >= 0`` and are exact, with derivative 0, at ``z = 0``.
"""

import math
from typing import Final, TypeAlias

import torch
from torch import Tensor

Curvature: TypeAlias = float | Tensor
"""``c > 0``: a float, or a 0-dim tensor when it is learned."""

SUPPORTED_DTYPES: Final = (torch.float32, torch.float64)

SMALLEST_DIVISOR: Final = 1e-150
"""Smallest float64 that a ratio divides by: its reciprocal and its square are representable."""

PROJECTION_THRESHOLD_ULPS: Final = 4
"""Points within this many machine epsilons of the limit count as beyond it."""

PROJECTION_TARGET_ULPS: Final = 8
"""A projected point lands this many machine epsilons inside the limit. The distance between the
two margins absorbs the rounding of the projected coordinates, which makes projection idempotent;
the distance from the threshold to the limit absorbs the rounding of whoever checks the norm."""


def check_curvature(c: Curvature) -> float:
    """Return ``c`` as a float after checking that it is one positive, finite number.

    Raises:
        TypeError: ``c`` is not a real number or a tensor of one.
        ValueError: ``c`` has more than one element, is not finite, or is not positive.
    """
    if isinstance(c, Tensor):
        if c.numel() != 1:
            raise ValueError(f"c must be a single number, got a tensor of shape {tuple(c.shape)}")
        c = c.detach()
        if c.dtype == torch.bool or c.is_complex():
            raise TypeError(f"c must be a real number, got a tensor of dtype {c.dtype}")
    elif isinstance(c, bool) or not isinstance(c, int | float):
        raise TypeError(f"c must be a real number or a 0-dim tensor, got {type(c).__name__}: {c!r}")
    value = float(c)
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


def norm(x: Tensor, dim: int) -> Tensor:
    """Return the Euclidean norm over ``dim``, kept as size 1; its subgradient at 0 is 0."""
    out: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return out


def dot(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Return the Euclidean inner product over ``dim``, kept as size 1."""
    return (x * y).sum(dim=dim, keepdim=True)


def squeeze(x: Tensor, dim: int, keepdim: bool) -> Tensor:
    """Drop the reduced dimension ``dim`` unless the caller keeps it."""
    return x if keepdim else x.squeeze(dim)


def projection_bounds(dtype: torch.dtype, max_radius: float | None) -> tuple[float, float]:
    """Return ``(threshold, target)`` for ``s = sqrt(c) |x|``.

    A point with ``s > threshold`` is moved radially to ``s = target``. Both lie a few machine
    epsilons inside the limit, which is ``max_radius``, or the rim (1) when that is None.
    """
    limit = 1.0 if max_radius is None else max_radius
    eps = torch.finfo(dtype).eps
    return (
        limit * (1.0 - PROJECTION_THRESHOLD_ULPS * eps),
        limit * (1.0 - PROJECTION_TARGET_ULPS * eps),
    )


def tanh_ratio(z: Tensor) -> Tensor:
    """Return ``tanh(z) / z``."""
    z = z.clamp_min(SMALLEST_DIVISOR)
    return z.tanh() / z


def artanh_ratio(z: Tensor) -> Tensor:
    """Return ``artanh(z) / z`` for ``z < 1``."""
    z = z.clamp_min(SMALLEST_DIVISOR)
    return z.atanh() / z


def arsinh_ratio(z: Tensor) -> Tensor:
    """Return ``arsinh(z) / z``."""
    z = z.clamp_min(SMALLEST_DIVISOR)
    return z.asinh() / z


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
    series = torch.zeros_like(z)
    for coefficient in reversed(_LOG_SINH_RATIO_SERIES):
        series = (series + coefficient) * z2
    # Each branch sees an argument it likes, so that no NaN reaches the gradient of the other one.
    large = torch.where(small, 1.0, z)
    closed = large + torch.log(-torch.expm1(-2.0 * large) / (2.0 * large))
    return torch.where(small, series, closed)
