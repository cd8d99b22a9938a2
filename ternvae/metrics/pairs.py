"""Which pairs and triples of sequences are compared; memory is that of the sample."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae.metrics.ranks import ClassColumn, influence
from ternvae.metrics.rows import Member, PartRows, Rows
from ternvae.metrics.within import triples_within
from ternvae.padic import TernarySpace, partners_at_valuation
from ternvae.padic.permutation import permute, round_keys

__all__ = ["Pairs", "Triples"]

#: Up to this many sequences, valuations are looked up; beyond, they are computed for the sample.
_TABLE = 2**20

#: Pairs that the standard errors are estimated from: enough for two digits of them, at no cost.
_PAIRS_FOR_ERRORS = 2**13


class Pairs:
    """Unordered pairs of different sequences, all of them or drawn, none twice.

    The sequences stand on a circle in a random order, and each is paired with the next one, then
    with the next but one, and so on: every pair is as likely as any other, every sequence is in as
    many pairs (give or take one round), and points need not be gathered pair by pair.  Of M
    sequences (M - 1) / 2 rounds are all pairs, the last one half a round if M is even.  In a space
    of more than two sequences for each pair wanted, all are different: a random order is read two
    by two.

    Of a part of the space both sequences are in the part.  Where its sequences are listed, a pair
    has the weight of its two levels, each weighing as in the whole space (ternvae.metrics.rows);
    beyond, the part is drawn from evenly and pairs weigh the same.

    The variance of a mean over the pairs is at most that over independent pairs, but for terms of
    order 1/N: what depends on single sequences cancels, and what is left of two pairs is
    uncorrelated even if they share one sequence (Hoeffding's decomposition, *Ann. Math. Statist.*
    19, 1948).

    Args:
        space: the space.
        size: pairs to draw; with at most this many in all, every pair comes.
        generator: of the draw.
        seed: of the draw in a space of more than 2 ``size`` sequences.
        rows: of the part of the space that is measured; None if the whole space is.
        member: says which indices belong to this part.

    Attributes:
        count: how many.
        total: pairs of the space, of its part if that is listed.
        gaps: classes |v(i) - v(j)|.
        distances: classes in the order of d3(i, j) = 3^-v(i-j).
    """

    def __init__(
        self,
        space: TernarySpace,
        size: int,
        generator: torch.Generator,
        *,
        seed: int,
        rows: Rows | None = None,
        member: Member | None = None,
    ) -> None:
        listed = rows.indices if isinstance(rows, PartRows) else None
        there = space.size if listed is None else len(listed)
        self.total = there * (there - 1) // 2
        self.count = min(size, self.total)
        self._apart = listed is None and there > 2 * self.count
        self._circle = there
        self._rounds = 1 if self._apart else -(-self.count // max(there, 1))
        if self._apart:
            self._rows = _drawn(space, 2 * self.count, seed, member)
        else:
            order = torch.randperm(there, generator=generator)
            order = order if listed is None else listed[order]
            self._rows = torch.cat([order, order[: self._rounds]])
        first, second = torch.empty(2, self.count, dtype=torch.int64)
        for start, column in self.chunks(len(self._rows)):
            for part, x, y in self.sides(start, column):
                first[part], second[part] = x, y
        v_first, v_second, v_between = _valuations(space, first, second, (first - second).abs())
        self.gaps = ClassColumn((v_first - v_second).abs().numpy())
        deepest = v_between.max() if self.count else 0
        self.distances = ClassColumn((deepest - v_between).numpy())
        self._weights: NDArray[np.float64] | None = None
        if rows is not None and listed is not None:
            by_level = np.zeros(space.n_digits + 1)
            by_level[rows.valuations] = rows.weights / rows.counts
            weights = by_level[v_first.numpy()] * by_level[v_second.numpy()]
            self._weights = weights / weights.sum()

    @property
    def exact(self) -> bool:
        """Whether these are all pairs."""
        return self.count == self.total

    def correlation(self, classes: ClassColumn, values: NDArray[np.float64]) -> float:
        """Spearman's coefficient of ``gaps`` or ``distances`` and (count,) values, or NaN."""
        if not self.count or np.isnan(values.max()):
            return math.nan
        if self._weights is None:
            return classes.correlation(values)
        return influence(values, classes.classes, self._weights).coefficient

    def error(self, classes: ClassColumn, values: NDArray[np.float64]) -> float:
        """sqrt((1 - M / all pairs) var(h) / M), h the influence of a pair, over some of M pairs.

        That is the standard error of independent draws, which these pairs do not exceed.
        """
        some = slice(min(_PAIRS_FOR_ERRORS, self.count))
        first, of_class = values[some], classes.classes[some]
        if np.isnan(first).any():
            return math.nan
        weights = np.full(len(first), 1.0) if self._weights is None else self._weights[some]
        weights = weights / weights.sum()
        found = influence(first, of_class, weights)
        weighted = found.values * weights * len(first)
        left = 1 - self.count / self.total
        return float(weighted.std()) * math.sqrt(left / self.count)

    def starts(self, size: int) -> range:
        """Where the chunks of about ``size`` rows start."""
        return range(0, len(self._rows) if self._apart else self._circle, size + size % 2)

    def rows(self, start: int, size: int) -> Tensor:
        """The indices that the chunk from ``start`` needs, int64."""
        stop = start + size + size % 2
        return self._rows[start : stop + (0 if self._apart else self._rounds)]

    def chunks(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """All chunks: where they start, and the indices they need."""
        for start in self.starts(size):
            yield start, self.rows(start, size)

    def sides(self, start: int, column: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The pairs of a chunk: where they stand among all pairs, and their two sides.

        Args:
            start: of the chunk.
            column: anything of its rows, in their order.
        """
        if self._apart:
            yield slice(start // 2, (start + len(column)) // 2), column[::2], column[1::2]
            return
        length = len(column) - self._rounds
        for ahead in range(1, self._rounds + 1):
            before = (ahead - 1) * self._circle + start
            stop = min(before + length, self.count)  # the last round may end early
            if stop > before:
                taken = stop - before
                yield slice(before, stop), column[:taken], column[ahead : ahead + taken]


def _valuations(space: TernarySpace, *columns: Tensor) -> list[Tensor]:
    if space.size > _TABLE:
        return [space.valuation(column) for column in columns]
    table = space.valuation(torch.arange(space.size))
    return [table[column] for column in columns]


def _drawn(space: TernarySpace, count: int, seed: int, member: Member | None) -> Tensor:
    """``count`` different indices in a random order, of a part if there is one."""
    keys = round_keys(seed, n_digits=space.n_digits)
    read = count
    while True:
        rows = permute(torch.arange(read), keys, n_digits=space.n_digits)
        if member is not None:
            rows = rows[member(rows)]
        if len(rows) >= count:
            return rows[:count]
        if read == space.size:
            raise ValueError(
                f"among: is true of {len(rows)} indices, too few for {count // 2} pairs"
            )
        read = min(2 * read, space.size)


class Triples:
    """Anchor, 3-adically nearer and farther index, drawn; none where none qualifies, as for n = 1.

    The two valuations are uniform over the pairs of distinct levels 0..n-1, the anchor is uniform
    over the space and each partner uniform over the indices at its valuation from the anchor.  Of
    a part of the space, anchors are drawn until one is in it and partners that are in it are found;
    a triple of levels for which none can be found is left out.

    Args:
        space: the space.
        size: triples to draw.
        generator: of the draw.
        rows: of the part of the space that is measured; None if the whole space is.
        member: says which indices belong to this part.

    Attributes:
        anchor: (M,) int64 indices i.
        near: (M,) indices j with the larger v(i-j).
        far: (M,) indices k with the smaller v(i-k).
    """

    def __init__(
        self,
        space: TernarySpace,
        size: int,
        generator: torch.Generator,
        rows: Rows | None = None,
        member: Member | None = None,
    ) -> None:
        n = space.n_digits
        size = size if n > 1 else 0
        low = torch.randint(n, (size,), generator=generator)
        high = (low + torch.randint(1, max(n, 2), (size,), generator=generator)) % n
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        if member is not None:
            drawn = triples_within(space, rows, member, (low, high), generator)
            self.anchor, self.near, self.far = drawn
            return
        self.anchor = torch.randint(space.size, (size,), generator=generator)
        self.near = partners_at_valuation(self.anchor, high, n_digits=n, generator=generator)
        self.far = partners_at_valuation(self.anchor, low, n_digits=n, generator=generator)

    def __len__(self) -> int:
        return len(self.anchor)
