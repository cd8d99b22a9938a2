"""Which sequences are measured: all of them, those of a part, or a sample of each level.

What is measured of a part counts level by level as in the whole space: a level weighs by all its
sequences, however many of them are in the part.  So the ceilings of the part are those of the
space, and a part that happens to have a few more rows of one level is no other scale.  A level that
has no sequence in the part is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae.padic import TernarySpace, valuation
from ternvae.padic.permutation import permute, round_keys

__all__ = ["AllRows", "LevelSample", "Member", "PartRows", "Rows"]

#: Says of int64 indices (rows,) which belong to a part of the space, as bool (rows,).
Member = Callable[[Tensor], Tensor]

#: Indices that are asked of a part at a time.
_CHUNK = 2**18

#: The first level of a sample has this many times the rows of the levels with the fewest; each
#: level has half of the one before until then, because errors weigh by the size of the level.
_LARGEST_SHARE = 8


class Rows:
    """Indices in chunks, and the columns measured of them level by level.

    Attributes:
        valuations: the levels of which something is measured, ascending; L of them.
        sizes: (L,) sequences of each of these levels in the space.
        counts: (L,) those that are measured.
        total: their sum.
        sampled: whether these are a sample, which knows no ``places``.
    """

    sampled = False

    def __init__(self, space: TernarySpace, counts: list[int]) -> None:
        self.space = space
        self.valuations = [v for v, count in enumerate(counts) if count]
        self.sizes = np.array(space.level_sizes(), dtype=np.float64)[self.valuations]
        self.counts = np.array(counts, dtype=np.float64)[self.valuations]
        self.total = sum(counts)

    @property
    def ceiling(self) -> float:
        """The largest size of the hierarchy, as of the space but for levels that are left out."""
        size = self.space.size
        return math.sqrt(float(1 - (self.weights**3).sum()) / (1 - 1 / size**2))

    @property
    def weights(self) -> NDArray[np.float64]:
        """Share of each level in the space, (L,)."""
        shares: NDArray[np.float64] = self.sizes / self.sizes.sum()
        return shares

    @property
    def missing(self) -> NDArray[np.float64]:
        """1 - counts / sizes: what is left of a variance after drawing without replacement."""
        left: NDArray[np.float64] = 1 - self.counts / self.sizes
        return left

    def chunk(self, start: int, stop: int) -> Tensor:
        """The indices of the rows from ``start`` to before ``stop``, int64."""
        raise NotImplementedError

    def by_level(self, column: NDArray[Any]) -> list[NDArray[Any]]:
        """A column (total,) as L new arrays, one for each level."""
        raise NotImplementedError

    def places(self, indices: Tensor) -> Tensor:
        """Which rows these indices are, if none of them is left out by a sample."""
        raise NotImplementedError


class AllRows(Rows):
    """Every index in its order; none of them is stored."""

    def __init__(self, space: TernarySpace) -> None:
        super().__init__(space, space.level_sizes())

    def chunk(self, start: int, stop: int) -> Tensor:
        """The indices ``start`` to ``stop - 1``."""
        return torch.arange(start, stop)

    def by_level(self, column: NDArray[Any]) -> list[NDArray[Any]]:
        """Level v is every 3^v-th row but for every 3^(v+1)-th, so no valuation is needed."""
        levels = [
            column[:: 3**v].reshape(-1, 3)[:, 1:].flatten() for v in range(self.space.n_digits)
        ]
        return [*levels, column[:1].copy()]

    def places(self, indices: Tensor) -> Tensor:
        """The indices themselves."""
        return indices


class PartRows(Rows):
    """The indices of a part of the space in their order; these are stored.

    Args:
        space: the space, small enough to be gone through.
        member: says which indices belong to the part.

    Raises:
        ValueError: no index does.
    """

    def __init__(self, space: TernarySpace, member: Member) -> None:
        chunks = (
            torch.arange(start, min(start + _CHUNK, space.size))
            for start in range(0, space.size, _CHUNK)
        )
        self.indices = torch.cat([chunk[member(chunk)] for chunk in chunks])
        levels = valuation(self.indices, cap=space.n_digits)
        counts = torch.bincount(levels, minlength=space.n_digits + 1).tolist()
        super().__init__(space, counts)
        _check_any(self.total, space)
        self._order = levels.argsort(stable=True).numpy()
        self._cuts = np.cumsum(self.counts)[:-1].astype(np.int64)

    @property
    def missing(self) -> NDArray[np.float64]:
        """Nothing: all of the part is measured, and no more is spoken of."""
        return np.zeros_like(self.counts)

    def chunk(self, start: int, stop: int) -> Tensor:
        """The indices of the part, ascending."""
        return self.indices[start:stop]

    def by_level(self, column: NDArray[Any]) -> list[NDArray[Any]]:
        """The column in the order of the levels, cut where one ends."""
        return np.split(column[self._order], self._cuts)

    def places(self, indices: Tensor) -> Tensor:
        """By bisection; the indices must belong to the part."""
        return torch.searchsorted(self.indices, indices)


class LevelSample(Rows):
    """Rows of each level drawn without replacement, small levels complete.

    A level is the multiples 3^v u below 3^n of which u is none of 3; a seeded permutation of all u
    is read until enough have come, so that no row comes twice and memory is that of the sample.

    Args:
        space: the space.
        size: rows of the first level; each level has half of those of the one before, but at least
            an eighth of ``size``, and at most all it has.
        seed: of the draw, 0 to 2^63 - 1.
        member: says which indices belong to the part of the space that is drawn from; None if all
            do.

    Raises:
        ValueError: none does.
    """

    sampled = True

    def __init__(
        self, space: TernarySpace, size: int, seed: int, member: Member | None = None
    ) -> None:
        wanted = [
            min(there, max(size >> level, size // _LARGEST_SHARE, 1))
            for level, there in enumerate(space.level_sizes())
        ]
        drawn = [
            _of_level(space.n_digits, v, count, seed, member) for v, count in enumerate(wanted)
        ]
        super().__init__(space, [len(each) for each in drawn])
        _check_any(self.total, space)
        self._indices = torch.cat(drawn)
        self._cuts = np.cumsum(self.counts)[:-1].astype(np.int64)

    def chunk(self, start: int, stop: int) -> Tensor:
        """The drawn indices, level after level."""
        return self._indices[start:stop]

    def by_level(self, column: NDArray[Any]) -> list[NDArray[Any]]:
        """The column cut where a level ends."""
        return [part.copy() for part in np.split(column, self._cuts)]


def _check_any(total: int, space: TernarySpace) -> None:
    if not total:
        raise ValueError(f"among: is true of none of the {space.size} indices")


def _of_level(n_digits: int, level: int, count: int, seed: int, member: Member | None) -> Tensor:
    """``count`` distinct indices of a level, fewer only if the part has no more of them."""
    if level == n_digits:
        zero = torch.zeros(1, dtype=torch.int64)
        return zero if member is None else zero[member(zero)]
    digits = n_digits - level
    below, power = int(3**digits), int(3**level)
    keys = round_keys((seed + level) % 2**64, n_digits=digits)
    # Two thirds of all u are right, give or take chance.
    read = min(below, 3 * count // 2 + 8 * math.isqrt(count) + 64)
    while True:
        units = permute(torch.arange(read), keys, n_digits=digits)
        indices = units[units % 3 != 0] * power
        if member is not None:
            indices = indices[member(indices)]
        if len(indices) >= count or read == below:
            return indices[:count]
        read = min(below, 2 * read)
