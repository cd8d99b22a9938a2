"""Rank correlation: of any two columns, and of many values against a few ordered classes.

One side of every rank metric has at most n + 1 distinct values (valuations, their gaps, 3-adic
distances), so Spearman's coefficient needs only the sum of the midranks in each class: with g_c the
midrank of class c, R_c the sum of the midranks of its m_c values and M values in all,

    sum_c (g_c - (M + 1) / 2) (R_c - m_c (M + 1) / 2) / sqrt(S_x S_g),
    S_x = (M^3 - M - sum over groups of t tied values of (t^3 - t)) / 12,

and S_g likewise from the m_c (Kendall and Gibbons, *Rank Correlation Methods*, 5th ed. 1990,
chapter 3).  Sums of ranks are exact in float64 up to M = 10^8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ternvae.metrics.arguments import columns, refuse

__all__ = ["ClassColumn", "Influence", "influence", "sorted_correlation", "spearman"]

Floats = NDArray[np.float64]

#: Low bits of a float64 that hold its class while it is sorted; 2^5 classes are enough for n = 20.
_CLASS_BITS = 31
#: The others but for the sign, so that -0.0 is 0.0.
_VALUE_BITS = 2**63 - 1 - _CLASS_BITS
#: Sorted keys looked at together; they stay in the cache.
_SLICE = 2**16
#: Ties that change S_x by less than this share need not be told from values 2^-47 apart.
_NEGLIGIBLE_TIES = 1e-13


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation with midranks for ties; NaN when either side is constant.

    Pearson's coefficient of the midranks (Kendall & Gibbons 1990, chapter 3).

    Args:
        x: (M,) numbers, M >= 1; an infinite one ranks first or last.
        y: (M,) numbers.

    Returns:
        The coefficient, in [-1, 1].

    Raises:
        TypeError: what is given is not an array of real numbers.
        ValueError: shapes that are not one-dimensional, empty or not equal; NaN, which has no rank;
            or a tensor of a device that numpy cannot read.
    """
    first, second = columns(x=x, y=y)
    for name, column in (("x", first), ("y", second)):
        refuse(column, np.isnan(column), name, "numbers with a rank; drop the pair")
    return _pearson(rankdata(first), rankdata(second))


def _pearson(x: Floats, y: Floats) -> float:
    x = x - x.mean()
    y = y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


# --- values against classes -----------------------------------------------------------------


def sorted_correlation(parts: Sequence[Floats], whole: Floats) -> float:
    """Spearman's coefficient of values and classes, exactly, ties included.

    Args:
        parts: the values of each class in ascending order, classes in ascending order; a class may
            be empty.
        whole: all values, in ascending order; no NaN.

    Returns:
        The coefficient; NaN when all values or all classes are equal.
    """
    count = len(whole)
    counts = np.array([len(part) for part in parts], dtype=np.float64)
    # The sum of all ranks is known, so the largest class, most of the work, is left out.
    largest = int(counts.argmax())
    sums = counts * (count + 1) / 2
    for index, part in enumerate(parts):
        if index != largest and len(part):
            below = int(np.searchsorted(whole, part, "left").sum())
            reached = int(np.searchsorted(whole, part, "right").sum())
            sums[index] = (below + reached + len(part)) / 2
    sums -= counts * ((count + 1) / 2)
    sums[largest] = -np.delete(sums, largest).sum()
    centres, spread = _class_ranks(counts)
    ties = _ties(np.flatnonzero(whole[1:] == whole[:-1]))
    return _coefficient(float(centres @ sums), count, ties, spread)


def _class_ranks(counts: Floats) -> tuple[Floats, float]:
    """Midranks of the classes about their mean, and the sum of their squares over all values."""
    centres = np.cumsum(counts) - counts / 2 - counts.sum() / 2
    return centres, float(counts @ (centres * centres))


def _coefficient(covariance: float, count: int, ties: float, class_spread: float) -> float:
    spread = (float(count) ** 3 - count - ties) / 12
    # A difference of large numbers: what is left of equal values is rounding.
    if spread <= 1e-15 * float(count) ** 3 or class_spread <= 0:
        return math.nan
    return covariance / math.sqrt(spread * class_spread)


def _ties(places: NDArray[np.int64]) -> float:
    """Sum of t^3 - t over groups of t equal values, from where one equals the next."""
    if not len(places):
        return 0.0
    ends = np.flatnonzero(np.append(np.diff(places) > 1, True))
    sizes = np.diff(ends, prepend=-1).astype(np.float64) + 1
    return float((sizes**3 - sizes).sum())


class ClassColumn:
    """A fixed column of classes that many columns of values are correlated with.

    Args:
        classes: (M,) int64 in 0 .. 31, in the order that counts as ascending.
    """

    def __init__(self, classes: NDArray[np.int64]) -> None:
        self.classes = classes
        self.counts = np.bincount(classes).astype(np.float64)
        self._centres, self._spread = _class_ranks(self.counts)

    def correlation(self, values: Floats) -> float:
        """Spearman's coefficient of the classes and (M,) values from 0 to infinity.

        Positive float64 sort like their bits read as integers, so a class in the lowest bits makes
        one sort of integers do.  Values that agree in all other bits are in the wrong order only
        if their classes differ; then, and where ties are many, the exact way is taken.

        Returns:
            The coefficient; NaN when a value is NaN or all values or all classes are equal.
        """
        if np.isnan(values.max()):  # which NaN goes through
            return math.nan
        keys = values.view(np.int64) & _VALUE_BITS
        keys |= self.classes
        keys.sort()
        found = self._of_sorted(keys)
        return self._exactly(values) if found is None else found

    def _of_sorted(self, keys: NDArray[np.int64]) -> float | None:
        """The coefficient from the sorted keys; None if ties keep them from telling it."""
        count, covariance, tied = len(keys), 0.0, []
        ranks = np.arange(_SLICE) - (count - 1) / 2
        for start in range(0, count, _SLICE):
            part = keys[start : start + _SLICE + 1]
            steps = part[1:] ^ part[:-1]
            alike = np.flatnonzero(steps <= _CLASS_BITS)
            if steps[alike].any():
                return None
            tied.append(alike + start)
            # All indices are in range; to say so saves a pass.
            centres = self._centres.take(part[:_SLICE] & _CLASS_BITS, mode="clip")
            covariance += float(ranks[: len(centres)] @ centres) + start * float(centres.sum())
        ties = _ties(np.concatenate(tied))
        if ties > _NEGLIGIBLE_TIES * float(count) ** 3:
            return None
        return _coefficient(covariance, count, ties, self._spread)

    def _exactly(self, values: Floats) -> float:
        order = np.argsort(self.classes, kind="stable")
        cuts = np.cumsum(self.counts)[:-1].astype(np.int64)
        parts = [np.sort(part) for part in np.split(values[order], cuts)]
        return sorted_correlation(parts, np.sort(values))


# --- how much a sample says -----------------------------------------------------------------


@dataclass(frozen=True)
class Influence:
    """A rank correlation of weighted values, and what each value adds to it.

    Attributes:
        coefficient: Spearman's coefficient; NaN where it is undefined.
        values: (M,) the influence function of the coefficient at each value: the error of a sample
            is, to first order, the weighted mean of it (Hampel, *J. Amer. Statist. Assoc.* 69,
            1974), so its variance gives the standard error.
    """

    coefficient: float
    values: Floats


def influence(values: Floats, classes: NDArray[Any], weights: Floats) -> Influence:
    """Spearman's coefficient of a weighted sample, with the influence of each of its values.

    With F and G the middle distribution functions of values and classes, less 1/2, and P and p the
    probabilities of a group of ties and of a class, the coefficient is C / sqrt(V_x V_g) where
    C = E[F G], V_x = (1 - sum P^3) / 12 and V_g = (1 - sum p^3) / 12.  The influence of (x, c) on C
    is F(x) G(c) + E[G(c'); x' > x] + E[F(x'); c' > c], halves at equality, on V_x it is -P(x)^2 / 4
    and on V_g -p(c)^2 / 4, each up to a constant.

    Args:
        values: (M,) values, no NaN.
        classes: (M,) classes, integers from 0.
        weights: (M,) positive weights, sum 1.
    """
    order = np.argsort(values)
    ordered, weight, group_of = values[order], weights[order], classes[order]
    group = np.cumsum(np.insert(ordered[1:] != ordered[:-1], 0, False))
    tied = np.bincount(group, weight)
    middle = (np.cumsum(tied) - tied / 2 - 0.5)[group]
    share = np.bincount(group_of, weight)
    rank = np.cumsum(share) - share / 2 - 0.5
    of_class = rank[group_of]
    signed = np.bincount(group, weight * of_class)
    above = (signed / 2 - np.cumsum(signed))[group]
    by_class = np.bincount(group_of, weight * middle)
    later = by_class / 2 - np.cumsum(by_class)
    spread_x, spread_g = (float(1 - (p**3).sum()) / 12 for p in (tied, share))
    if min(spread_x, spread_g) <= 1e-15:
        return Influence(math.nan, np.full(len(values), math.nan))
    scale = math.sqrt(spread_x * spread_g)
    coefficient = float(weight @ (middle * of_class)) / scale
    own = (middle * of_class + above + later[group_of]) / scale
    own += coefficient / 8 * (tied[group] ** 2 / spread_x + share[group_of] ** 2 / spread_g)
    found = np.empty_like(own)
    found[order] = own
    return Influence(coefficient, found)
