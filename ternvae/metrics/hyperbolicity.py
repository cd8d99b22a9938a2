"""Gromov hyperbolicity: how far four points are from being leaves of some tree, at worst.

Of four points, let S1 >= S2 >= S3 be the three sums of the distances of opposite pairs.  In a tree
the two largest are equal; the four-point condition with delta is S1 <= S2 + 2 delta (Gromov,
*Hyperbolic Groups*, 1987, section 1; Bridson and Haefliger, *Metric Spaces of Non-Positive
Curvature*, 1999, III.H.1.20-22), so that of four points is

    delta = (S1 - S2) / 2.

Trees, and all ultrametrics, have delta 0; the hyperbolic plane of curvature -c, and every
hyperbolic space, has the supremum ln 2 / sqrt(c) (Nica and Spakula, *Strong Hyperbolicity*, Groups
Geom. Dyn. 10, 2016).  So in the ball delta is bounded, and only its ratio to the diameter says
something about the points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ternvae.metrics.arguments import positive
from ternvae.metrics.leaves import checked_points, checked_seed, generator_for
from ternvae.metrics.results import Ball

__all__ = ["QUADRUPLES", "Hyperbolicity", "gromov_hyperbolicity"]

#: Quadruples that are measured at most: all of 51 points.
QUADRUPLES = 2**18

#: Quadruples of which the points are held at a time.
_CHUNK = 2**15


@dataclass(frozen=True)
class Hyperbolicity:
    """The four-point condition, in units of the ball's metric; held check-free.

    Attributes:
        largest: largest delta found; a lower bound of the supremum unless all were measured.
        mean: over quadruples of different points.
        standard_error: of ``mean``; 0 if all were measured.
        diameter: largest distance found within a quadruple.
        relative: 2 ``largest`` / ``diameter``, 0 (a tree) to 1; NaN if all points are one.
        quadruples: how many were measured.
        exact: whether these are all.
        seed: of the draw.
    """

    largest: float
    mean: float
    standard_error: float
    diameter: float
    relative: float
    quadruples: int
    exact: bool
    seed: int


@torch.no_grad()
def gromov_hyperbolicity(
    points: Tensor, ball: Ball, *, quadruples: int = QUADRUPLES, seed: int = 0
) -> Hyperbolicity:
    """Delta of the four-point condition over all quadruples of points, or over some drawn.

    (S1 - S2) / 2 of the module's text (Gromov 1987, section 1).
    It looks at distances alone, not at which sequence a point is of: an embedding of another tree
    has small values, too.

    Args:
        points: (M, d) points of the ball, M >= 4, float32 or float64, on any device.
        ball: Poincare ball with ``c`` and ``dist``.
        quadruples: most quadruples to measure; of more, so many are drawn independently.
        seed: of the draw.

    Returns:
        Largest and mean delta, in units of the metric, and what they come from.

    Raises:
        TypeError: ``points`` is no tensor of float32 or float64, or ``ball`` lacks ``c`` or
            ``dist``.
        ValueError: there are less than four points, one is not inside the ball, ``quadruples`` is
            no positive integer, or ``seed`` is out of range.
    """
    found = checked_points(points, ball)
    quadruples = positive(quadruples, "quadruples", f"{QUADRUPLES} is the default")
    seed, size = checked_seed(seed), len(found)
    if size < 4:
        raise ValueError(
            f"points: got shape {tuple(points.shape)}, expected four points at least: a quadruple"
        )
    exact = math.comb(size, 4) <= quadruples
    parts = _every(size) if exact else _some(size, quadruples, generator_for(seed))
    count, total, squares, largest, diameter = 0, 0.0, 0.0, 0.0, 0.0
    for rows in parts:
        corners = [found[row] for row in rows.to(found.device)]
        first, second, third = (
            (ball.dist(corners[a], corners[b]), ball.dist(corners[c], corners[d]))
            for a, b, c, d in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))
        )
        sums = torch.stack([a + b for a, b in (first, second, third)]).sort(0).values
        delta = (sums[2] - sums[1]) / 2
        count += len(delta)
        total += float(delta.sum())
        squares += float(delta.square().sum())
        largest = max(largest, float(delta.max()))
        diameter = max(diameter, float(torch.stack([*first, *second, *third]).max()))
    mean = total / count
    variance = max(squares / count - mean**2, 0.0)
    return Hyperbolicity(
        largest,
        mean,
        0.0 if exact else math.sqrt(variance / count),
        diameter,
        2 * largest / diameter if diameter else math.nan,
        count,
        exact,
        seed,
    )


def _every(size: int) -> Iterator[Tensor]:
    """All quadruples of rows, (4, some) at a time."""
    for second in range(1, size - 2):
        above = torch.combinations(torch.arange(second + 1, size))
        for start in range(0, second * len(above), _CHUNK):
            number = torch.arange(start, min(start + _CHUNK, second * len(above)))
            first, pair = number // len(above), above[number % len(above)].T
            yield torch.stack([first, torch.full_like(first, second), *pair])


def _some(size: int, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Quadruples of different rows, drawn uniformly and independently."""
    for start in range(0, count, _CHUNK):
        some = min(_CHUNK, count - start)
        rows = torch.empty(0, some, dtype=torch.int64)
        for taken in range(4):
            # The k-th of the rows that are left: past each that is taken, in ascending order.
            row = torch.randint(size - taken, (some,), generator=generator)
            for other in rows.sort(0).values:
                row = row + (row >= other)
            rows = torch.cat([rows, row[None]])
        yield rows
