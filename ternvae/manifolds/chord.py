"""A monotone function of the distance on which near and far pairs can be compared alike."""

from __future__ import annotations

import torch
from torch import Tensor

from ternvae.manifolds.arguments import check_curvature_for, check_tensor

__all__ = ["SMALLEST_CHORD", "log_chord"]

#: Added to sinh^2, so that points that coincide have a finite value and slope; as in
#: ``ternvae/losses/_pairs.c``.
SMALLEST_CHORD = 1e-6


def log_chord(distance: Tensor, *, c: Tensor | float = 1.0) -> Tensor:
    """Logarithm of the squared chord: log(sinh^2(sqrt(c) d / 2) + 1e-6).

    On the hyperboloid in Minkowski space two points at distance d are joined by a chord of squared
    length 4/c sinh^2(sqrt(c) d / 2), the squared Lorentzian distance (Law, Liao, Snell & Zemel
    2019, "Lorentzian Distance Learning for Hyperbolic Representations", eq. 5).  Its logarithm is
    linear in d where d is large and logarithmic where it is small.

    Args:
        distance: hyperbolic distances d >= 0 of any shape, units of the metric.
        c: the ball has curvature -c; c > 0, a number or a 0-dim tensor.

    Returns:
        A tensor of the same shape, without unit.

    Check-free in its values: NaN gives NaN, and from sqrt(c) d of about 88 on in float32 and 709 in
    float64, more than a ball of either dtype has room for, the result is infinite.

    Raises:
        TypeError: distances that are no tensor of float32 or float64, or a ``c`` that is no number.
        ValueError: a ``c`` that is not positive, not 0-dim, or on another device.
    """
    check_tensor(distance)
    check_curvature_for(c, distance.device)
    root = c.sqrt() if isinstance(c, Tensor) else c**0.5
    return torch.log(torch.sinh(distance * root / 2).square() + SMALLEST_CHORD)
