"""How high the metrics of a space can go: closed forms, in exact integers, without torch.

One side of each rank correlation takes few distinct values.  Against tie-free values, groups of t_g
tied values out of M bound Spearman's coefficient by sqrt(1 - sum_g (t_g^3 - t_g) / (M^3 - M)),
reached when the order agrees: the tie correction of Kendall and Gibbons, *Rank Correlation
Methods*, 5th ed. 1990, chapter 3.  What is measured and what a profile may ask for are both held
against these numbers.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

__all__ = ["ceilings", "richness_ceiling", "spearman_ceiling"]

_MAX_DIGITS = 20


def ceilings(n_digits: int) -> dict[str, float]:
    """Largest values that the rank statistics can reach over the space of 3^n_digits sequences.

    The bounds of docs/theory.md, theorems 1, 2 and 7, with the sizes of the levels, of the classes
    of ``|v_i - v_j|`` and of the 3-adic spheres.

    Args:
        n_digits: number of ternary digits, 1 to 20.

    Returns:
        ``hierarchy`` (negative: large valuation, small radius), ``dist_corr``, ``Q_enhanced`` and
        ``ultrametric_corr``.  For n = 1 every pair is at the same 3-adic distance, so
        ``ultrametric_corr`` is NaN.

    Raises:
        ValueError: ``n_digits`` is not an integer from 1 to 20.
    """
    n_digits = _digit_count(n_digits)
    size = 3**n_digits
    hierarchy = spearman_ceiling(_level_sizes(n_digits))
    dist_corr = spearman_ceiling(_gap_counts(n_digits))
    return {
        "hierarchy": -hierarchy,
        "dist_corr": dist_corr,
        "Q_enhanced": dist_corr + 1.5 * hierarchy,
        "ultrametric_corr": spearman_ceiling(
            [size * 3 ** (n_digits - 1 - v) for v in range(n_digits)]
        ),
    }


def spearman_ceiling(group_sizes: Sequence[int]) -> float:
    """Largest Spearman coefficient between a variable with ties and one without.

    ``sqrt(1 - sum_g (t_g^3 - t_g) / (M^3 - M))``: docs/theory.md, theorem 1, after Kendall &
    Gibbons 1990, chapter 3.

    Args:
        group_sizes: sizes t_g of the groups of equal values; M is their sum and at least 2.

    Returns:
        The ceiling, in (0, 1]; NaN for a single group, where the coefficient is undefined.

    Raises:
        TypeError: ``group_sizes`` is not a sequence of integers.
        ValueError: a size is below 1, or their sum below 2.
    """
    group_sizes = _group_sizes(group_sizes)
    total = sum(group_sizes)
    whole = total**3 - total
    free = whole - sum(t**3 - t for t in group_sizes)
    # Subtracted in exact integers: pairs at n = 20 bring both terms to nearly 60 digits.
    return math.sqrt(free / whole) if free else math.nan


def richness_ceiling(n_digits: int, curvature: float, max_radius: float) -> float:
    """Upper bound of the mean within-level variance of the hyperbolic radius.

    Radii lie in [0, R] with R = 2 artanh(max_radius) / sqrt(c), so no level has a variance above
    R^2 / 4 (Popoviciu, *Mathematica (Cluj)* 9, 1935), and the level of the index 0 has none.

    Args:
        n_digits: number of ternary digits n, 1 to 20.
        curvature: c > 0 of the ball with sectional curvature -c.
        max_radius: largest sqrt(c) * norm of a point, in (0, 1).

    Returns:
        n / (n + 1) * R^2 / 4, in squared units of the metric.

    Raises:
        TypeError: ``curvature`` or ``max_radius`` is not a number.
        ValueError: an argument is out of its range, or ``n_digits`` is not an integer.
    """
    n_digits = _digit_count(n_digits)
    _check_between("curvature", curvature, 0.0, math.inf)
    _check_between("max_radius", max_radius, 0.0, 1.0)
    # R^2 / 4 written without sqrt(c), so that a subnormal c overflows to inf and does not raise.
    half_radius = math.atanh(max_radius)
    return n_digits / (n_digits + 1) * (half_radius / curvature * half_radius)


def _digit_count(value: object) -> int:
    """The value as a Python int, so that products cannot overflow; any integer type will do."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= _MAX_DIGITS:
        raise ValueError(f"n_digits: got {value!r}, expected an integer from 1 to {_MAX_DIGITS}")
    return number


def _group_sizes(values: object) -> list[int]:
    """The sizes as Python ints, whose products are exact."""
    try:
        sizes = [operator.index(value) for value in values]  # type: ignore[attr-defined]
    except TypeError:
        raise TypeError(f"group_sizes: got {values!r}, expected a sequence of integers") from None
    if any(size < 1 for size in sizes) or sum(sizes) < 2:
        raise ValueError(
            f"group_sizes: got {values!r}, expected sizes of at least 1 whose sum is at least 2"
        )
    return sizes


def _check_between(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: got {value!r}, expected a number in ({low:g}, {high:g})")
    if not low < value < high:
        raise ValueError(f"{name}: got {value!r}, expected a number in ({low:g}, {high:g})")


def _level_sizes(n_digits: int) -> list[int]:
    """Indices of each valuation, as ``TernarySpace.level_sizes`` has them (which needs torch)."""
    return [2 * 3 ** (n_digits - 1 - v) for v in range(n_digits)] + [1]


def _gap_counts(n_digits: int) -> list[int]:
    """Number of pairs i < j with |v(i) - v(j)| = k, for k = 0, ..., n."""
    sizes = _level_sizes(n_digits)
    alike = sum(size * (size - 1) // 2 for size in sizes)
    return [alike] + [
        sum(sizes[v] * sizes[v + k] for v in range(n_digits + 1 - k))
        for k in range(1, n_digits + 1)
    ]
