"""Paired comparison of two treatments: mean difference, its standard error, exact p-value.

Pure functions.  The p-value is that of Fisher's sign-flip test (*The Design of Experiments*, 1935,
section 21): if the treatment changes nothing, each difference could as well have had the other
sign, so the mean that was found is compared with those of all 2^n patterns of signs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MOST_PAIRS", "Paired", "holm", "least_p", "paired", "sign_flip_p"]

#: 2^20 sums are eight megabytes.
MOST_PAIRS = 20

#: Sums this close to the one found, relative to the largest possible sum, count as equal to it.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Paired:
    """What the pairs say in which both values are known.

    Attributes:
        pairs: their number; the other figures are None if there is none.
        first: mean of the first values.
        second: mean of the second values.
        difference: mean of first minus second.
        standard_error: of that mean; None for fewer than two pairs.
        p: two-sided, of the sign-flip test.
        always_equal: whether all differences are exactly 0.
    """

    pairs: int
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    p: float | None = None
    always_equal: bool = False


def paired(first: Sequence[float | None], second: Sequence[float | None]) -> Paired:
    """Compare two treatments pair by pair; a pair in which a value is missing does not count."""
    known = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not known:
        return Paired(0)
    differences = [a - b for a, b in known]
    several = len(known) > 1
    return Paired(
        pairs=len(known),
        first=statistics.fmean(a for a, _ in known),
        second=statistics.fmean(b for _, b in known),
        difference=statistics.fmean(differences),
        standard_error=statistics.stdev(differences) / math.sqrt(len(known)) if several else None,
        p=sign_flip_p(differences),
        always_equal=not any(differences),
    )


def sign_flip_p(differences: Sequence[float]) -> float:
    """Share of the 2^n patterns of signs whose sum is at least as far from 0 as the sum found.

    Raises:
        ValueError: no difference, or more than :data:`MOST_PAIRS`.
    """
    if not 1 <= len(differences) <= MOST_PAIRS:
        raise ValueError(f"expected 1 to {MOST_PAIRS} differences, got {len(differences)}")
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    # The first sum is that of the signs as found; those that tie with it may differ by rounding.
    slack = _ROUNDING * sum(map(abs, differences))
    return float(np.mean(np.abs(sums) >= abs(sums[0]) - slack))


def least_p(pairs: int) -> float:
    """The smallest p-value that so many pairs can give: that of differences of one sign."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction, which bounds the chance of any false finding among them.

    Args:
        p_values: one per comparison; None where there was none, which does not count.

    Returns:
        The corrected values in the same order, at most 1.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (p, place) in enumerate(known):
        reached = max(reached, min(1.0, (len(known) - rank) * p))
        corrected[place] = reached
    return corrected
