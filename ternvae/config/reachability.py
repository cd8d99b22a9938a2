"""What no training run can exceed: closed-form bounds that a profile's targets are held against.

Everything here is exact integer and rational arithmetic on the sizes of the valuation levels.
"""

import math
from collections.abc import Sequence
from fractions import Fraction


def level_sizes(n_digits: int) -> list[int]:
    """Number of indices 0 <= i < 3^n with 3-adic valuation v, for v = 0, ..., n.

    Args:
        n_digits: Number of ternary digits n >= 1.

    Returns:
        n + 1 sizes: 2 * 3^(n-1-v) for v < n, then 1 for the index 0, whose valuation is n.
    """
    return [2 * 3 ** (n_digits - 1 - v) for v in range(n_digits)] + [1]


def valuation_gap_sizes(n_digits: int) -> list[int]:
    """Number of pairs i < j with |v(i) - v(j)| = k, for k = 0, ..., n.

    Args:
        n_digits: Number of ternary digits n >= 1.

    Returns:
        n + 1 sizes that add up to the M (M - 1) / 2 pairs of M = 3^n indices.
    """
    sizes = level_sizes(n_digits)
    same = sum(size * (size - 1) // 2 for size in sizes)
    return [same] + [
        sum(sizes[v] * sizes[v + k] for v in range(n_digits + 1 - k))
        for k in range(1, n_digits + 1)
    ]


def spearman_ceiling(group_sizes: Sequence[int]) -> float:
    """Largest |Spearman| between a variable with ties and one without.

    The midrank of a tied group is the mean of the ranks it spans, so the covariance of the two
    rankings is at most the variance of the midranks, with equality when the tie-free variable
    orders the groups. Dividing by both standard deviations leaves their ratio,
    sqrt(1 - sum(t^3 - t) / (M^3 - M)): the tie correction of Kendall and Gibbons,
    *Rank Correlation Methods* (5th ed., 1990), chapter 3.

    Args:
        group_sizes: Sizes t of the groups of equal values; M is their sum and at least 2.

    Returns:
        The ceiling, in [0, 1].
    """
    total = sum(group_sizes)
    tied = sum(size**3 - size for size in group_sizes)
    return math.sqrt(1 - Fraction(tied, total**3 - total))


def hierarchy_ceiling(n_digits: int) -> float:
    """Largest |Spearman(v_i, r_i)| that radii without ties can have; 0.8320503 for 9 digits."""
    return spearman_ceiling(level_sizes(n_digits))


def q_ceiling(n_digits: int) -> float:
    """Largest Q = dist_corr + 1.5 |hierarchy| without ties in r; 2.1627074 for 9 digits."""
    dist_corr = spearman_ceiling(valuation_gap_sizes(n_digits))
    return dist_corr + 1.5 * hierarchy_ceiling(n_digits)


def richness_ceiling(n_digits: int, curvature: float, max_radius: float) -> float:
    """Upper bound of the mean within-level variance of the hyperbolic radius.

    Radii lie in [0, R] with R = 2 artanh(max_radius) / sqrt(c), so no level has a variance above
    R^2 / 4 (Popoviciu, *Mathematica (Cluj)* 9, 1935), and the level of the index 0 has none.

    Args:
        n_digits: Number of ternary digits n >= 1.
        curvature: c > 0 of the ball with sectional curvature -c.
        max_radius: Largest sqrt(c) * norm of a point, in (0, 1).

    Returns:
        n / (n + 1) * R^2 / 4.
    """
    # R^2 / 4 written without sqrt(c), so that a subnormal c overflows to inf and does not raise.
    half_radius = math.atanh(max_radius)
    return n_digits / (n_digits + 1) * (half_radius / curvature * half_radius)
