"""Which pairs and triples of sequences are compared; memory is that of the sample."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ternvae.metrics.ranks import ClassColumn
from ternvae.padic import TernarySpace, partners_at_valuation
from ternvae.padic.permutation import permute, round_keys

__all__ = ["Pairs", "Triples"]

#: Up to this many sequences, valuations are looked up; beyond, they are computed for the sample.
_TABLE = 2**20


class Pairs:
    """Unordered pairs of different sequences, all of them or drawn, none twice.

    The sequences stand on a circle in a random order, and each is paired with the next one, then
    with the next but one, and so on: every pair is as likely as any other, every sequence is in as
    many pairs (give or take one round), and points need not be gathered pair by pair.  N is odd,
    so (N - 1) / 2 rounds are all pairs.  In a space of more than two sequences for each pair
    wanted, all are different: a random order is read two by two.

    The variance of a mean over the pairs is at most that over independent pairs, but for terms of
    order 1/N: what depends on single sequences cancels, and what is left of two pairs is
    uncorrelated even if they share one sequence (Hoeffding's decomposition, *Ann. Math. Statist.*
    19, 1948).

    Args:
        space: the space.
        size: pairs to draw; with at most this many in all, every pair comes.
        generator: of the draw.
        seed: of the draw in a space of more than 2 ``size`` sequences.

    Attributes:
        count: how many.
        total: pairs of the space.
        gaps: classes |v(i) - v(j)|.
        distances: classes in the order of d3(i, j) = 3^-v(i-j).
    """

    def __init__(
        self, space: TernarySpace, size: int, generator: torch.Generator, *, seed: int
    ) -> None:
        self.total = space.size * (space.size - 1) // 2
        self.count = min(size, self.total)
        self._apart = space.size > 2 * self.count
        self._circle = space.size
        self._rounds = 1 if self._apart else -(-self.count // space.size)
        if self._apart:
            keys = round_keys(seed, n_digits=space.n_digits)
            self._rows = permute(torch.arange(2 * self.count), keys, n_digits=space.n_digits)
        else:
            order = torch.randperm(space.size, generator=generator)
            self._rows = torch.cat([order, order[: self._rounds]])
        first, second = torch.empty(2, self.count, dtype=torch.int64)
        for start, rows in self.chunks(len(self._rows)):
            for part, x, y in self.sides(start, rows):
                first[part], second[part] = x, y
        v_first, v_second, v_between = _valuations(space, first, second, (first - second).abs())
        self.gaps = ClassColumn((v_first - v_second).abs().numpy())
        self.distances = ClassColumn((v_between.max() - v_between).numpy())

    @property
    def exact(self) -> bool:
        """Whether these are all pairs."""
        return self.count == self.total

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


class Triples:
    """Anchor, 3-adically nearer and farther index, drawn; none for n = 1, where none qualifies.

    The two valuations are uniform over the pairs of distinct levels 0..n-1, the anchor is uniform
    over the space and each partner uniform over the indices at its valuation from the anchor.

    Args:
        space: the space.
        size: triples to draw.
        generator: of the draw.

    Attributes:
        anchor: (M,) int64 indices i.
        near: (M,) indices j with the larger v(i-j).
        far: (M,) indices k with the smaller v(i-k).
    """

    def __init__(self, space: TernarySpace, size: int, generator: torch.Generator) -> None:
        n = space.n_digits
        size = size if n > 1 else 0
        low = torch.randint(n, (size,), generator=generator)
        high = (low + torch.randint(1, max(n, 2), (size,), generator=generator)) % n
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        self.anchor = torch.randint(space.size, (size,), generator=generator)
        self.near = partners_at_valuation(self.anchor, high, n_digits=n, generator=generator)
        self.far = partners_at_valuation(self.anchor, low, n_digits=n, generator=generator)

    def __len__(self) -> int:
        return len(self.anchor)
