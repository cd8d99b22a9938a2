"""Statistics of the hyperbolic radius level by level, of all rows or of a sample of each level.

Of a level of N_v rows, m_v are measured.  A mean over the space weighs level v by w_v = N_v / N.
Drawing without replacement leaves a share f_v = 1 - m_v / N_v of a variance (Cochran, *Sampling
Techniques*, 3rd ed. 1977, sections 2.6 and 5.4), so what is complete adds nothing.  The standard
errors, with s_v^2 the variance within a level and p_v a share:

    mean radius   sqrt(f_v s_v^2 / m_v)
    share         sqrt(sum_v w_v^2 f_v p_v (1 - p_v) / m_v), p_v = (hits + 1) / (m_v + 2)
    richness      sqrt(sum_v f_v (fourth central moment - s_v^4) / m_v) / (n + 1)
    hierarchy     sqrt(sum_v w_v^2 f_v var_v(h) / m_v), h the influence (ternvae.metrics.ranks)

The shares are moved away from 0 and 1, so that a sample without a miss does not claim certainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ternvae.ceilings import spearman_ceiling
from ternvae.metrics.arguments import columns, refuse
from ternvae.metrics.ranks import influence, sorted_correlation
from ternvae.metrics.rows import Rows
from ternvae.padic import TernarySpace

__all__ = ["Levels", "largest_errors", "level_moments", "richness"]

Floats = NDArray[np.float64]


def richness(radius: ArrayLike, valuation: ArrayLike, n_digits: int) -> float:
    """Mean over the n + 1 levels of the population variance of the radius within the level.

    The definition of docs/metrics.md.

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
    present = [radii[levels == v].astype(np.float64) for v in np.unique(levels)]
    return float(level_moments(present)[1].sum() / (n_digits + 1))


def level_moments(parts: list[Floats]) -> tuple[Floats, Floats]:
    """Mean and population variance of each part, none of them empty."""
    with np.errstate(invalid="ignore"):  # a point on the rim is at infinity
        mean = np.array([part.mean() for part in parts])
        return mean, np.array([part.var() for part in parts])


@dataclass(frozen=True)
class Levels:
    """The measured radii of each level in ascending order, and what they say of the space.

    Attributes:
        parts: an array for each level that is measured; it may end in NaN.
        rows: which rows they are of.
    """

    parts: list[Floats]
    rows: Rows

    @classmethod
    def of(cls, radius: Floats, rows: Rows) -> Levels:
        """Split a column of radii (total,) and sort each level."""
        parts = rows.by_level(radius)
        for part in parts:
            part.sort()
        return cls(parts, rows)

    @property
    def complete(self) -> bool:
        """Whether every row of what is spoken of is measured."""
        return not self.rows.missing.any()

    def moments(self) -> tuple[Floats, Floats]:
        """Mean and variance of the radius in each level, (L,) each; see the module."""
        mean, variance = level_moments(self.parts)
        measured, there = self.rows.counts, self.rows.sizes
        # Unbiased for the variance of the level; 1 where the level is complete.
        correction = measured * (there - 1) / np.maximum((measured - 1) * there, 1)
        return mean, np.where(self.rows.missing > 0, variance * correction, variance)

    def moment_errors(self) -> tuple[Floats, float]:
        """Standard errors of the level means, (L,), and of the richness."""
        mean, variance = self.moments()
        with np.errstate(invalid="ignore"):
            fourth = np.array(
                [((part - m) ** 4).mean() for part, m in zip(self.parts, mean, strict=True)]
            )
        left = self.rows.missing / self.rows.counts
        spread = float((left * np.maximum(fourth - variance**2, 0)).sum())
        return np.sqrt(left * variance), math.sqrt(spread) / (self.rows.space.n_digits + 1)

    def richness(self) -> float:
        """Mean variance over all n + 1 levels of the space; one that is left out counts as 0."""
        return float(self.moments()[1].sum()) / (self.rows.space.n_digits + 1)

    def hierarchy(self) -> tuple[float, float]:
        """Spearman's coefficient of valuation and radius, and its standard error.

        Both NaN if a point is not a number, which has no rank.
        """
        if any(np.isnan(part[-1]) for part in self.parts):
            return math.nan, math.nan
        if (self.rows.counts == self.rows.sizes).all():
            return sorted_correlation(self.parts, np.sort(np.concatenate(self.parts))), 0.0
        counts = self.rows.counts.astype(np.int64)
        weights = self.rows.weights / self.rows.counts
        classes = np.repeat(np.arange(len(counts), dtype=np.int8), counts)
        found = influence(np.concatenate(self.parts), classes, np.repeat(weights, counts))
        own = np.split(found.values, np.cumsum(counts)[:-1])
        variances = np.array([values.var() for values in own])
        left = self.rows.weights**2 * self.rows.missing / self.rows.counts
        error = math.sqrt(float(left @ variances))
        if not self.complete:
            return found.coefficient, error
        # Fewer rows than the space has: what equal ranks of so few would add to the coefficient.
        spread = float(1 - (weights**3 * self.rows.counts).sum())
        of_space = 1 - 1 / self.rows.space.size**2
        return found.coefficient * math.sqrt(spread / of_space), error

    def share(self, hits: Floats) -> float:
        """The share of the space for ``hits`` (L,) among the measured rows of each level."""
        return float((self.rows.sizes * hits / self.rows.counts).sum() / self.rows.sizes.sum())

    def share_error(self, hits: Floats) -> float:
        """The standard error of :meth:`share`."""
        likely = (hits + 1) / (self.rows.counts + 2)
        left = self.rows.weights**2 * self.rows.missing / self.rows.counts
        return math.sqrt(float(left @ (likely * (1 - likely))))

    def tied_share(self) -> float:
        """Share of the rows with the radius of another measured row of their level."""
        tied = []
        for part in self.parts:
            equal = part[1:] == part[:-1]
            before = np.append(equal, False)
            before[1:] |= equal
            tied.append(np.count_nonzero(before))
        return self.share(np.array(tied, dtype=np.float64))

    def share_from(self, bound: float) -> float:
        """Share of the radii of at least ``bound``."""
        return self.share(np.array([float((part >= bound).sum()) for part in self.parts]))

    def within(self, bound: float) -> bool:
        """Whether every measured radius is a number of at most ``bound``."""
        return all(bool(part[-1] <= bound) for part in self.parts)


def largest_errors(rows: Rows) -> dict[str, float]:
    """Bounds of the standard errors of coverage and hierarchy that hold for every model.

    A share has p (1 - p) <= 1/4.  With g_v the middle ranks of the levels in [0, 1], the influence
    of a radius on the hierarchy varies within level v by at most
    A_v = sum_u w_u |g_v - g_u| * 12 / ceiling, so its variance is at most A_v^2 / 4 (Popoviciu,
    *Mathematica (Cluj)* 9, 1935), as long as radii are not tied.
    """
    left = rows.weights**2 * rows.missing / rows.counts
    middle = np.cumsum(rows.weights) - rows.weights / 2
    ceiling = spearman_ceiling([int(size) for size in rows.sizes])
    reach = np.abs(middle[:, None] - middle) @ rows.weights * 12 / ceiling
    return {
        "coverage": math.sqrt(float(left.sum()) / 4),
        "hierarchy": math.sqrt(float(left @ reach**2) / 4),
    }
