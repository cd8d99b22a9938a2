"""The ultrametric term: distances between points in the order of the 3-adic distance.

With n digits the valuation of a difference of two sequences, v(i - j), takes the values 0..n-1,
and n - 1 thresholds on the distance in the ball tell them apart: v(i - j) >= t where the distance
is below threshold t.  Which values the thresholds have is left to training.  So the order of the
distances is asked for and nothing else: no isometry, which a ball of few dimensions has no room
for.  The thresholds are also how valuations are read from points afterwards.

Distances are compared by y of :func:`ternvae.manifolds.log_chord`: linear in d where it is large,
logarithmic where it is small, so one scale serves the shallow and the deep end of the tree.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ternvae.losses.arguments import check_rows, check_scalar, check_tensor
from ternvae.manifolds import log_chord

try:
    from ternvae.losses import _pairs  # type: ignore[attr-defined]
except ImportError:  # installed without a C compiler
    _pairs = None

__all__ = ["TEMPERATURE", "add_gradient", "can_add_gradient", "ultrametric_loss"]

#: How sharply a distance is told from a threshold, in units of y.
TEMPERATURE = 0.08


def ultrametric_loss(
    distance: Tensor,
    between: Tensor,
    thresholds: Tensor,
    *,
    c: Tensor | float = 1.0,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Order of the distances: negative log-likelihood of every threshold's verdict.

    The all-threshold logistic loss of ordinal regression (Rennie & Srebro 2005, "Loss Functions for
    Preference Levels", eq. 13): v(i - j) >= t has probability sigmoid((threshold_t - y) / T).

    Args:
        distance: (pairs,) hyperbolic distances d(z_i, z_j), units of the metric.
        between: (pairs,) int64 valuations v(i - j) in 0..n.  A pair of n is a sequence and itself:
            it says nothing, and counts as 0.
        thresholds: (n - 1,) for t = 1..n-1, in units of :func:`log_chord`.
        c: the ball has curvature -c; c > 0, a number or a 0-dim tensor.
        temperature: T > 0, in units of :func:`log_chord`.

    Returns:
        Scalar in nats, the sum over thresholds averaged over the pairs; 0 without pairs.

    Check-free in its values: NaN gives NaN, but for a pair that counts as 0.

    Raises:
        TypeError: dtypes that are not floating-point, or int64 for ``between``, or numbers of the
            wrong kind.
        ValueError: shapes or devices that do not fit, or a number out of range.
    """
    check_tensor(distance, "distance", "(pairs,)")
    check_tensor(between, "between", "(pairs,)", integer=True)
    check_tensor(thresholds, "thresholds", "(n - 1,)")
    check_rows(distance, between, "distance, between", some=False)
    if thresholds.device != distance.device:
        raise ValueError(
            f"thresholds: are on {thresholds.device}, but the distances are on {distance.device}"
        )
    check_scalar(temperature, "temperature", distance)
    count = len(thresholds)
    passed = between.unsqueeze(1) > torch.arange(count, device=between.device)
    # Masked before anything is computed: of equal points the slopes are not to be trusted.
    told = torch.where(between > count, 1.0, distance)
    past = (log_chord(told, c=c).unsqueeze(1) - thresholds.to(distance.dtype)) / temperature
    losses = F.softplus(torch.where(passed, past, -past)).sum(1)
    return torch.where(between > count, 0.0, losses).sum() / max(len(between), 1)


def can_add_gradient(points: Tensor) -> bool:
    """Whether :func:`add_gradient` can read such points."""
    return (
        _pairs is not None
        and points.is_cpu
        and points.dtype is torch.float32
        and points.is_contiguous()
    )


def add_gradient(
    points: Tensor,
    between: Tensor,
    thresholds: Tensor,
    *,
    c: float,
    weight: float,
    to_points: Tensor,
    to_thresholds: Tensor,
    temperature: float = TEMPERATURE,
) -> float:
    """What autograd makes of :func:`ultrametric_loss`, without a graph, on CPUs; check-free.

    Args:
        points: (rows, dim) float32 of the ball: the first points of the pairs are the first rows,
            the second ones the last rows.
        between: (pairs,) as for :func:`ultrametric_loss`.
        thresholds: likewise.
        c: likewise.
        weight: of the sum over the pairs.
        to_points: (rows, dim) float32, to which the gradient of the weighted sum is added.
        to_thresholds: (n - 1,), likewise.
        temperature: as for :func:`ultrametric_loss`.

    Returns:
        The sum over the pairs, not weighted.
    """
    pairs, (rows, width) = len(between), points.shape
    at = thresholds.detach().double().contiguous()
    slopes = torch.zeros_like(at)
    second = 4 * width * (rows - pairs)
    found: Any = _pairs.add(
        *(pairs, width, points.data_ptr(), points.data_ptr() + second, between.data_ptr()),
        *(len(at), at.data_ptr(), c, temperature, weight),
        *(to_points.data_ptr(), to_points.data_ptr() + second, slopes.data_ptr()),
    )
    to_thresholds += slopes.to(to_thresholds.dtype)
    return float(found)
