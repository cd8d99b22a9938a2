"""Sibling retrieval: is the nearest neighbour in the ball the nearest one 3-adically?

Radii say nothing about it, and rank correlations next to nothing: only one pair of 3^(n-1) is a
pair of siblings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ternvae.metrics.arguments import positive
from ternvae.metrics.leaves import Leaves, checked_seed, curvature, generator_for
from ternvae.metrics.results import Ball
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["COMPARISONS", "SiblingRetrieval", "sibling_retrieval"]

#: Pairs that are compared at most before anchors are drawn: all of 10 digits, seconds of one core.
COMPARISONS = 2**32

#: Distances closer than this share of themselves are tied: float64 coordinates near the rim do not
#: tell them apart, and a tie is a miss.
TIE = 1e-9

#: Rows and cells of a tile: on the host one fits the cache, a device wants to be filled.
_ROWS = {"cpu": 512}
_CELLS = {"cpu": 2**19}
_ROWS_ON_DEVICE, _CELLS_ON_DEVICE = 2**12, 2**25
#: Distances that are computed at a time, coordinate by coordinate.
_PAIRS = 2**15


@dataclass(frozen=True)
class SiblingRetrieval:
    """How many sequences have a sibling as their nearest neighbour; held check-free.

    Attributes:
        share: of the anchors whose nearest neighbour is in the smallest 3-adic ball around them;
            NaN if no anchor has a neighbour outside that ball.
        standard_error: of ``share``; 0 if every anchor was looked at.
        anchors: sequences whose neighbours were looked for.
        of: sequences that have neighbours both inside and outside.
        seed: of the draw of anchors.
    """

    share: float
    standard_error: float
    anchors: int
    of: int
    seed: int

    @property
    def exact(self) -> bool:
        """Whether every sequence was an anchor."""
        return self.anchors == self.of


@torch.no_grad()
def sibling_retrieval(
    points: Tensor,
    ball: Ball,
    space: TernarySpace,
    *,
    indices: WholeNumbers | None = None,
    comparisons: int = COMPARISONS,
    seed: int = 0,
) -> SiblingRetrieval:
    """Share of sequences whose nearest neighbour lies in the smallest 3-adic ball around them.

    Defined in docs/metrics.md, "Structure: measures beyond these".
    In a whole space that ball holds the two siblings with v(i - j) = n - 1; among some sequences,
    all with the largest v(i - j) there is.  A sibling must be nearer than every other point by a
    relative 1e-9: ties are misses.  Each anchor is compared with all points.

    Distances are compared through ``|x - y|^2 / (1 - c|y|^2)``, which rises with d(x, y) and is a
    matrix product; what that cannot decide within its rounding error is decided by ``ball.dist``.

    Args:
        points: (M, d) points of the ball, float32 or float64, on any device.
        ball: Poincare ball with ``c`` and ``dist``.
        space: the space of sequences.
        indices: (M,) the sequences of the points; None means all of the space, in order.
        comparisons: pairs to compare at most; beyond, anchors are drawn.
        seed: of the draw.

    Returns:
        The share in [0, 1], its standard error and what it comes from.

    Raises:
        TypeError: ``points`` is no tensor of float32 or float64, ``ball`` lacks ``c`` or ``dist``,
            or ``space`` is not a :class:`TernarySpace`.
        ValueError: shapes do not fit, a point is not inside the ball, an index is not of the space
            or comes twice, ``comparisons`` is less than the points, or ``seed`` is out of range.
    """
    leaves = Leaves.of(points, ball, space, indices)
    comparisons = positive(comparisons, "comparisons", f"{COMPARISONS} is the default")
    seed = checked_seed(seed)
    if comparisons < len(leaves):
        raise ValueError(
            f"comparisons: got {comparisons}, but one anchor among {len(leaves)} points takes as "
            "many; raise it, or pass fewer points with indices="
        )
    rows, first, stop = _anchors(leaves)
    total, wanted = len(rows), min(len(rows), comparisons // len(leaves))
    if not total:
        return SiblingRetrieval(math.nan, math.nan, 0, 0, seed)
    if wanted < total:
        drawn = torch.randperm(total, generator=generator_for(seed))[:wanted].sort().values
        rows, first, stop = (column[drawn.to(rows.device)] for column in (rows, first, stop))
    hits = _Search(leaves, ball).hits(rows, first, stop)
    likely = (hits + 1) / (wanted + 2)  # a sample without a miss does not claim certainty
    error = math.sqrt((1 - wanted / total) * likely * (1 - likely) / wanted)
    return SiblingRetrieval(hits / wanted, error, wanted, total, seed)


def _anchors(leaves: Leaves) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with neighbours inside and outside their smallest ball, and where that ball is."""
    rows = torch.arange(len(leaves), device=leaves.keys.device)
    if len(leaves) < 2:
        return rows[:0], rows[:0], rows[:0]
    first, stop = leaves.ball(rows, leaves.nearest_depth())
    apart = stop - first < len(leaves)
    return rows[apart], first[apart], stop[apart]


class _Search:
    """Goes through all points for some anchors, and drops an anchor at its first miss.

    Args:
        leaves: the points.
        ball: measures distances.
    """

    def __init__(self, leaves: Leaves, ball: Ball) -> None:
        self.points, self.ball, self.c = leaves.points, ball, curvature(ball)
        square = self.points.square().sum(-1, keepdim=True)
        self.gap = 1 - self.c * square
        # The products of these are lower bounds of |x - y|^2 / (1 - c|y|^2): less by twice what
        # d + 4 roundings can make of |x|^2 + |y|^2, over the same gap.
        less = 1 - 4 * (self.points.shape[1] + 4) * torch.finfo(torch.float64).eps
        one = torch.ones_like(square)
        self.left = torch.cat([self.points, less * square, one], dim=-1)
        self.right = torch.cat([-2 * self.points, one, less * square], dim=-1) / self.gap
        device = self.points.device.type
        self.rows = _ROWS.get(device, _ROWS_ON_DEVICE)
        self.columns = _CELLS.get(device, _CELLS_ON_DEVICE) // self.rows
        self.memory = self.points.new_empty(self.rows * self.columns)

    def hits(self, rows: Tensor, first: Tensor, stop: Tensor) -> int:
        """How many of the rows are nearer to one in [first, stop) than to any outside."""
        found = 0
        for at in range(0, len(rows), self.rows):
            part = slice(at, at + self.rows)
            found += self._hits(rows[part], first[part], stop[part])
        return found

    def _hits(self, rows: Tensor, first: Tensor, stop: Tensor) -> int:
        limit = self._nearest_inside(rows, first, stop) * (1 + TIE)
        half = 0.5 * math.sqrt(self.c) * limit
        bound = self.gap[rows, 0] * half.sinh().square() / self.c * (1 + TIE)
        left = self.left[rows]
        for start in range(0, len(self.points), self.columns):
            right = self.right[start : start + self.columns]
            end = start + len(right)
            low = torch.mm(left, right.mT, out=self._tile(len(left), len(right)))
            if bool(((first < end) & (stop > start)).any()):
                columns = torch.arange(start, end, device=rows.device)
                own = (columns >= first[:, None]) & (columns < stop[:, None])
                low.masked_fill_(own, math.inf)
            doubtful = (low.amin(-1) <= bound).nonzero().squeeze(-1)
            if not len(doubtful):
                continue
            missed = self._missed(
                rows[doubtful], limit[doubtful], bound[doubtful], low[doubtful], start
            )
            kept = torch.ones_like(rows, dtype=torch.bool)
            kept[doubtful[missed]] = False
            rows, first, stop, limit, bound, left = (
                of_rows[kept] for of_rows in (rows, first, stop, limit, bound, left)
            )
            if not len(rows):
                break
        return len(rows)

    def _tile(self, rows: int, columns: int) -> Tensor:
        """Where a product goes: new memory for each one would take longer than the product."""
        return self.memory[: rows * columns].view(rows, columns)

    def _missed(
        self, rows: Tensor, limit: Tensor, bound: Tensor, low: Tensor, start: int
    ) -> Tensor:
        """Which of the rows have a point outside that is near enough, by ``ball.dist``."""
        nearest = self.points[low.argmin(-1) + start]
        sure = self.ball.dist(self.points[rows], nearest) <= limit
        missed = [sure.nonzero().squeeze(-1)]
        # What is seen as nearest is not: all that rounding could have hidden is looked at.
        unsure = (~sure).nonzero().squeeze(-1)
        for part in torch.split(unsure, max(1, _PAIRS // low.shape[1])):
            row, other = (low[part] <= bound[part, None]).nonzero().unbind(-1)
            row = part[row]
            tied = self.ball.dist(self.points[rows[row]], self.points[other + start]) <= limit[row]
            missed.append(row[tied])
        return torch.cat(missed)

    def _nearest_inside(self, rows: Tensor, first: Tensor, stop: Tensor) -> Tensor:
        """(rows,) distance to the nearest other point in [first, stop)."""
        nearest = torch.full_like(self.gap[rows, 0], math.inf)
        for row, other in _pairs(first, stop):
            distance = self.ball.dist(self.points[rows[row]], self.points[other])
            distance = distance.masked_fill(rows[row] == other, math.inf)
            nearest.scatter_reduce_(0, row, distance, "amin")
        return nearest


def _pairs(first: Tensor, stop: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """All (k, j) with first[k] <= j < stop[k], some at a time."""
    ends = (stop - first).cumsum(0)
    total = int(ends[-1])
    for at in range(0, total, _PAIRS):
        places = torch.arange(at, min(at + _PAIRS, total), device=first.device)
        row = torch.searchsorted(ends, places, right=True)
        yield row, stop[row] - (ends[row] - places)
