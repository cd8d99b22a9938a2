"""Correlation, and the statistics of the levels: arrays in, numbers out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ternvae.metrics.arguments import columns, refuse
from ternvae.padic import TernarySpace

__all__ = ["level_moments", "pearson", "richness", "tied_share"]


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's correlation of two columns; NaN when either is constant."""
    x = x - x.mean()
    y = y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def richness(radius: ArrayLike, valuation: ArrayLike, n_digits: int) -> float:
    """Mean over the n + 1 levels of the population variance of the radius within the level.

    Args:
        radius: (M,) hyperbolic radii, units of the metric, finite and not negative; M >= 1.
        valuation: (M,) valuations in 0..n_digits.
        n_digits: number of ternary digits n; levels without a row count as variance 0.

    Returns:
        Richness, in squared units of the metric.

    Raises:
        TypeError: what is given is not an array of real numbers, of integers for the valuations.
        ValueError: shapes that are not one-dimensional, empty or not equal; a radius or valuation
            outside; ``n_digits`` not an integer from 1 to 20; or a tensor of a device that numpy
            cannot read.
    """
    n_digits = TernarySpace(n_digits).n_digits
    radii, levels = columns(radius=radius, valuation=valuation)
    refuse(radii, ~((radii >= 0) & np.isfinite(radii)), "radius", "finite numbers from 0")
    if levels.dtype.kind not in "iu":
        raise TypeError(f"valuation: got dtype {levels.dtype}, expected integers")
    refuse(levels, (levels < 0) | (levels > n_digits), "valuation", f"0 to {n_digits}")
    _, variance = level_moments(radii, levels.astype(np.int64), n_digits)
    present = np.bincount(levels.astype(np.int64), minlength=n_digits + 1) > 0
    return float(variance[present].sum() / (n_digits + 1))


def level_moments(
    radius: NDArray[np.float64], valuation: NDArray[np.int64], n_digits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population variance of the radius per level, NaN for an empty level."""
    count = np.bincount(valuation, minlength=n_digits + 1).astype(np.float64)
    count[count == 0] = np.nan
    mean = np.bincount(valuation, radius, n_digits + 1) / count
    with np.errstate(invalid="ignore"):  # a point on the rim is at infinity
        centred = radius - mean[valuation]
    return mean, np.bincount(valuation, centred * centred, n_digits + 1) / count


def tied_share(radius: NDArray[np.float64], valuation: NDArray[np.int64]) -> float:
    """Share of the rows with the radius of another row of their level."""
    order = np.lexsort((radius, valuation))
    equal = (np.diff(valuation[order]) == 0) & (radius[order][1:] == radius[order][:-1])
    return float((np.append(equal, False) | np.insert(equal, 0, False)).mean())
