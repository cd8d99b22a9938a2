"""How far distances in the ball are from being those of the ternary tree, up to their scale.

The sequences are the leaves of a tree with unit edges, in which a path between two leaves has
d_T(i, j) = 2 (n - v(i - j)) edges.  A tree embeds into the hyperbolic plane with distances as near
to a multiple of its own as one likes (Sarkar, *Low Distortion Delaunay Embedding of Trees in
Hyperbolic Plane*, Graph Drawing 2011), at the price of radii that grow with the depth.  With the
ratios q = d / d_T over all pairs, as in Sala et al. (*Representation Tradeoffs for Hyperbolic
Embeddings*, ICML 2018, section 2):

    worst     max q / min q, at least 1
    average   mean |q / s - 1| for the scale s at which it is smallest, 0 to 1

Sala et al. take s = 1; here the best scale is allowed for, as in their worst case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ternvae.metrics.arguments import positive
from ternvae.metrics.leaves import Leaves, checked_seed, generator_for
from ternvae.metrics.results import Ball
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["PAIRS", "Distortion", "Stretch", "distortion"]

#: Pairs that are measured at most: all of 7 digits, 2,390,391 of them.
PAIRS = 2_400_000

#: Pairs of which the points are held at a time.
_CHUNK = 2**16


@dataclass(frozen=True)
class Stretch:
    """Distortion of the distances in the ball against another metric; held check-free.

    Attributes:
        worst: largest ratio of the two over the smallest; infinite if two points are one.  From a
            sample of pairs it is a lower bound.
        average: mean of ``|d / (scale * other) - 1|`` at the best scale.
        standard_error: of ``average``; 0 if all pairs were measured.
        scale: the best scale, in units of the ball's metric per unit of the other; 0 if all points
            are one.
    """

    worst: float
    average: float
    standard_error: float
    scale: float


@dataclass(frozen=True)
class Distortion:
    """Against the metric of the tree and the 3-adic one; held check-free.

    Attributes:
        tree: against d_T(i, j) = 2 (n - v(i - j)).
        padic: against d3(i, j) = 3^-v(i - j).
        pairs: how many were measured.
        of: how many there are.
        seed: of the draw.
    """

    tree: Stretch
    padic: Stretch
    pairs: int
    of: int
    seed: int

    @property
    def exact(self) -> bool:
        """Whether all pairs were measured; if not, ``worst`` is a lower bound."""
        return self.pairs == self.of


@torch.no_grad()
def distortion(
    points: Tensor,
    ball: Ball,
    space: TernarySpace,
    *,
    indices: WholeNumbers | None = None,
    pairs: int = PAIRS,
    seed: int = 0,
) -> Distortion:
    """Worst and average distortion of the distances in the ball, against two metrics.

    Those of the module's text, after Sala et al. 2018, section 2.

    Of more than ``pairs`` pairs, each level v(i - j) gets an equal share, small levels complete,
    because deep levels decide the worst case and are rare among all pairs; averages weigh the
    levels by their pairs.  The standard error is sqrt(sum w_v^2 s_v^2 / m_v) over the levels that
    are not complete: s_v^2 the variance of ``|q / s - 1|`` in the level, m_v its pairs drawn, w_v
    their share of all pairs.  The scale is a minimum, so its own error is of second order.

    Args:
        points: (M, d) points of the ball, float32 or float64, on any device.
        ball: Poincare ball with ``c`` and ``dist``.
        space: the space of sequences.
        indices: (M,) the sequences of the points; None means all of the space, in order.
        pairs: most pairs to measure.
        seed: of the draw.

    Returns:
        Figures against the metric of the tree and against the 3-adic one.

    Raises:
        TypeError: ``points`` is no tensor of float32 or float64, ``ball`` lacks ``c`` or ``dist``,
            or ``space`` is not a :class:`TernarySpace`.
        ValueError: shapes do not fit, there is only one point, a point is not inside the ball, an
            index is not of the space or comes twice, ``pairs`` is less than the digits, or ``seed``
            is out of range.
    """
    leaves = Leaves.of(points, ball, space, indices)
    pairs, seed = positive(pairs, "pairs", f"{PAIRS} is the default"), checked_seed(seed)
    n = leaves.n_digits
    if len(leaves) < 2:
        raise ValueError(
            f"points: got shape {tuple(points.shape)}, expected two points at least: a pair"
        )
    if pairs < n:
        raise ValueError(f"pairs: got {pairs}, expected at least one for each of {n} levels")
    generator = generator_for(seed)
    of_levels = [_PairsOfLevel(leaves, level) for level in range(n)]
    wanted = _shares([each.count for each in of_levels], pairs)
    total = sum(each.count for each in of_levels)
    measured = [
        _Measured(
            each.level,
            each.distances(ball, count, generator),
            each.count / total,
            complete=count == each.count,
        )
        for each, count in zip(of_levels, wanted, strict=True)
        if each.count
    ]
    tree = _stretch(measured, [2.0 * (n - each.level) for each in measured])
    padic = _stretch(measured, [3.0**-each.level for each in measured])
    return Distortion(tree, padic, sum(wanted), total, seed)


class _PairsOfLevel:
    """The pairs with v(i - j) = level, numbered.

    Args:
        leaves: the points.
        level: which level.

    Attributes:
        count: how many; each pair has two numbers from 0 to 2 ``count`` - 1, one for each order.
    """

    def __init__(self, leaves: Leaves, level: int) -> None:
        self.leaves, self.level = leaves, level
        if leaves.whole:  # as many around every sequence, so that nothing is stored
            self._each = 2 * 3 ** (leaves.n_digits - 1 - level)
            self.count = len(leaves) * self._each // 2
            return
        rows = torch.arange(len(leaves), device=leaves.keys.device)
        self._ends = leaves.level(rows, level).size.cumsum(0)
        self.count = int(self._ends[-1]) // 2

    def distances(self, ball: Ball, count: int, generator: torch.Generator) -> Tensor:
        """(count,) distances in the ball: of all pairs, or of some drawn uniformly."""
        points, found = self.leaves.points, []
        everything = count == self.count
        for start in range(0, 2 * count if everything else count, _CHUNK):
            rows, others = self._sides(
                torch.arange(start, min(start + _CHUNK, 2 * count))
                if everything
                else torch.randint(
                    2 * self.count, (min(_CHUNK, count - start),), generator=generator
                )
            )
            if everything:
                once = rows < others
                rows, others = rows[once], others[once]
            found.append(ball.dist(points[rows], points[others]))
        return torch.cat(found)

    def _sides(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        leaves = self.leaves
        numbers = numbers.to(leaves.keys.device)
        if leaves.whole:
            rows, place = numbers // self._each, numbers % self._each
            return rows, leaves.level(rows, self.level).member(place)
        rows = torch.searchsorted(self._ends, numbers, right=True)
        around = leaves.level(rows, self.level)
        return rows, around.member(numbers - (self._ends[rows] - around.size))


class _Measured(NamedTuple):
    """The distances of a level, and what they stand for.

    Attributes:
        level: v(i - j) of the pairs.
        distances: (m,) distances in the ball.
        weight: share of the level in all pairs.
        complete: whether these are all of its pairs.
    """

    level: int
    distances: Tensor
    weight: float
    complete: bool


def _shares(there: list[int], pairs: int) -> list[int]:
    """How many pairs of each level are measured: as many of each, and all of the small ones."""
    wanted, left = [0] * len(there), pairs
    for rank, level in enumerate(sorted(range(len(there)), key=there.__getitem__)):
        wanted[level] = min(there[level], left // (len(there) - rank))
        left -= wanted[level]
    return wanted


def _stretch(measured: list[_Measured], lengths: list[float]) -> Stretch:
    """The distortion of distances of which those of a level should be of one length."""
    ratios = [each.distances / length for each, length in zip(measured, lengths, strict=True)]
    least = min(float(ratio.min()) for ratio in ratios)
    largest = max(float(ratio.max()) for ratio in ratios)
    weights = [
        torch.full_like(ratio, each.weight / len(ratio))
        for each, ratio in zip(measured, ratios, strict=True)
    ]
    scale = _best_scale(torch.cat(ratios), torch.cat(weights))
    off = [(ratio / scale - 1).abs() if scale else ratio + 1 for ratio in ratios]
    average = sum(each.weight * float(o.mean()) for each, o in zip(measured, off, strict=True))
    variance = sum(
        each.weight**2 * float(o.var(correction=0)) / len(o)
        for each, o in zip(measured, off, strict=True)
        if not each.complete
    )
    worst = largest / least if least > 0 else math.inf
    return Stretch(worst, average, math.sqrt(variance), scale)


def _best_scale(ratios: Tensor, weights: Tensor) -> float:
    """The s at which sum w |q / s - 1| = sum w q |1 / s - 1 / q| is smallest.

    A weighted median: where the w q of the ratios in their order reach half of their sum.
    """
    ratios, order = ratios.sort()
    mass = (weights[order] * ratios).cumsum(0)
    place = int(torch.searchsorted(mass, 0.5 * mass[-1:]))
    return float(ratios[min(place, len(ratios) - 1)])
