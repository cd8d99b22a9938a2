"""Triplet accuracy, one figure for each pair of levels: where the order of distances is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ternvae.metrics.arguments import positive
from ternvae.metrics.leaves import Leaves, checked_seed, generator_for
from ternvae.metrics.results import Ball
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["TRIPLES", "TripletTable", "triplet_table"]

#: Triples in all tables: 14,563 for each of the 36 pairs of levels of 9 digits, a standard error
#: of at most 0.0042 in a cell and 0.0007 of the mean.
TRIPLES = 2**19

#: Among so many sequences all triples are compared, 243^3 of them.
_EXACT_ROWS = 243
_ANCHORS_AT_ONCE = 16
#: Triples of which the points are held at a time.
_CHUNK = 2**16

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class TripletTable:
    """Share of triples (i, j, k) with d(i, j) < d(i, k), by levels; held check-free.

    The tables are n x n: row v(i - j), column v(i - k) < v(i - j); elsewhere they hold NaN and 0.

    Attributes:
        accuracy: of each pair of levels.
        standard_error: of each; 0 if all triples were compared.
        count: triples that were compared.
        mean: of the cells, each weighing the same; in a whole space what ``triplet_accuracy`` of
            :func:`ternvae.metrics.evaluate` estimates.  NaN without a cell.
        mean_standard_error: of ``mean``.
        exact: whether all triples were compared.
        seed: of the draw.
    """

    accuracy: Table
    standard_error: Table
    count: tuple[tuple[int, ...], ...]
    mean: float
    mean_standard_error: float
    exact: bool
    seed: int


@torch.no_grad()
def triplet_table(
    points: Tensor,
    ball: Ball,
    space: TernarySpace,
    *,
    indices: WholeNumbers | None = None,
    triples: int = TRIPLES,
    seed: int = 0,
) -> TripletTable:
    """Share of triples in which the 3-adically closer of two is the closer one, by levels.

    Defined in docs/metrics.md, "Structure: measures beyond these".
    In a cell, i is uniform over the sequences that have others at both levels (in a whole space
    all have), and j and k are uniform over those.  A tie is a miss.  Up to 243 sequences, all
    triples are compared; else ``triples`` are drawn, the same number for each cell, and the
    standard error of a share p of M triples is sqrt(p (1 - p) / M), one hit and one miss added.

    Args:
        points: (M, d) points of the ball, float32 or float64, on any device.
        ball: Poincare ball with ``c`` and ``dist``.
        space: the space of sequences.
        indices: (M,) the sequences of the points; None means all of the space, in order.
        triples: how many to draw in all.
        seed: of the draw.

    Returns:
        Shares in [0, 1], one for each pair of levels, and their mean.

    Raises:
        TypeError: ``points`` is no tensor of float32 or float64, ``ball`` lacks ``c`` or ``dist``,
            or ``space`` is not a :class:`TernarySpace`.
        ValueError: shapes do not fit, a point is not inside the ball, an index is not of the space
            or comes twice, ``triples`` is no positive integer, or ``seed`` is out of range.
    """
    leaves = Leaves.of(points, ball, space, indices)
    triples = positive(triples, "triples", f"{TRIPLES} is the default")
    seed = checked_seed(seed)
    n = space.n_digits
    exact = len(leaves) <= _EXACT_ROWS
    share, count = (
        _all(leaves, ball) if exact else _drawn(leaves, ball, triples, generator_for(seed))
    )
    likely = (share * count + 1) / (count + 2)
    error = (likely * (1 - likely) / count).sqrt() * (not exact)
    known = count > 0
    error = error.masked_fill(~known, math.nan)
    cells = int(known.sum())
    mean = float(share[known].mean()) if cells else math.nan
    mean_error = float(error[known].square().sum().sqrt()) / cells if cells else math.nan
    of = range(n)
    return TripletTable(
        tuple(tuple(float(share[a, b]) for b in of) for a in of),
        tuple(tuple(float(error[a, b]) for b in of) for a in of),
        tuple(tuple(int(count[a, b]) for b in of) for a in of),
        mean,
        mean_error,
        exact,
        seed,
    )


def _tables(n: int) -> tuple[Tensor, Tensor]:
    """Shares, all NaN, and counts, all 0, (n, n)."""
    return torch.full((n, n), math.nan, dtype=torch.float64), torch.zeros(n, n, dtype=torch.int64)


def _all(leaves: Leaves, ball: Ball) -> tuple[Tensor, Tensor]:
    """The mean over i of the share of pairs (j, k), from all triples."""
    n, size, device = leaves.n_digits, len(leaves), leaves.keys.device
    rows = torch.arange(size, device=device)
    total = torch.zeros(n, n, dtype=torch.float64, device=device)
    anchors, count = total.clone(), total.clone()
    for start in range(0, size, _ANCHORS_AT_ONCE):
        part = rows[start : start + _ANCHORS_AT_ONCE]
        row, other = (c.flatten() for c in torch.meshgrid(part, rows, indexing="ij"))
        distance = ball.dist(leaves.points[row], leaves.points[other]).view(-1, size)
        # Of a row with itself the valuation would be n: no level of another.
        level = leaves.valuation(row, other).masked_fill(row == other, n).view(-1, size, 1)
        member = (level == torch.arange(n, device=device)).double()
        nearer = (distance[:, :, None] < distance[:, None, :]).double()
        hits = member.mT @ nearer @ member
        there = member.sum(1)
        both = there[:, :, None] * there[:, None, :]
        total += (hits / both.clamp(min=1)).sum(0)
        anchors += (both > 0).sum(0)
        count += both.sum(0)
    below = torch.ones(n, n, dtype=torch.bool).tril(-1)
    share = (total / anchors).cpu().masked_fill(~below, math.nan)
    return share, count.long().cpu().masked_fill(~below, 0)


def _drawn(
    leaves: Leaves, ball: Ball, triples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same from a sample with as many triples in each cell."""
    n, device = leaves.n_digits, leaves.keys.device
    share, count = _tables(n)
    cells = [(near, far) for far, near in combinations(range(n), 2)]
    each = -(-triples // max(len(cells), 1))
    there = [_has_others(leaves, level) for level in range(n)]
    for near, far in cells:
        anchors = (there[near] & there[far]).nonzero().squeeze(-1)
        if not len(anchors):
            continue
        hits = 0
        for start in range(0, each, _CHUNK):
            some = min(_CHUNK, each - start)
            draws = torch.randint(2**63 - 1, (3, some), generator=generator).to(device)
            i = anchors[draws[0] % len(anchors)]
            j, k = (
                _partners(leaves, i, level, draw)
                for level, draw in ((near, draws[1]), (far, draws[2]))
            )
            at, closer, farther = (leaves.points[rows] for rows in (i, j, k))
            hits += int((ball.dist(at, closer) < ball.dist(at, farther)).sum())
        share[near, far] = hits / each
        count[near, far] = each
    return share, count


def _has_others(leaves: Leaves, level: int) -> Tensor:
    """Which rows have others at this level."""
    rows = torch.arange(len(leaves), device=leaves.keys.device)
    if leaves.whole:
        return torch.ones_like(rows, dtype=torch.bool)
    return leaves.level(rows, level).size > 0


def _partners(leaves: Leaves, rows: Tensor, level: int, draws: Tensor) -> Tensor:
    """For each row another at this level, drawn uniformly."""
    around = leaves.level(rows, level)
    return around.member(draws % around.size)
