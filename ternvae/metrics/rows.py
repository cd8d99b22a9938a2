"""Which sequences are measured: all of them, or a sample of each level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae.padic import TernarySpace
from ternvae.padic.permutation import permute, round_keys

__all__ = ["AllRows", "LevelSample", "Rows"]

#: The first level of a sample has this many times the rows of the levels with the fewest; each
#: level has half of the one before until then, because errors weigh by the size of the level.
_LARGEST_SHARE = 8


class Rows:
    """Indices in chunks, and the columns measured of them level by level.

    Attributes:
        sizes: (n + 1,) sequences of each level.
        counts: (n + 1,) those that are measured.
        total: their sum.
    """

    def __init__(self, space: TernarySpace, counts: list[int]) -> None:
        self.space = space
        self.sizes = np.array(space.level_sizes(), dtype=np.float64)
        self.counts = np.array(counts, dtype=np.float64)
        self.total = sum(counts)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Share of each level in the space, (n + 1,)."""
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
        """A column (total,) as n + 1 new arrays, one for each level."""
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


class LevelSample(Rows):
    """Rows of each level drawn without replacement, small levels complete.

    A level is the multiples 3^v u below 3^n of which u is none of 3; a seeded permutation of all u
    is read until enough have come, so that no row comes twice and memory is that of the sample.

    Args:
        space: the space.
        size: rows of the first level; each level has half of those of the one before, but at least
            an eighth of ``size``, and at most all it has.
        seed: of the draw, 0 to 2^63 - 1.
    """

    def __init__(self, space: TernarySpace, size: int, seed: int) -> None:
        wanted = [
            min(there, max(size >> level, size // _LARGEST_SHARE, 1))
            for level, there in enumerate(space.level_sizes())
        ]
        super().__init__(space, wanted)
        drawn = [_of_level(space.n_digits, v, count, seed) for v, count in enumerate(wanted)]
        self._indices = torch.cat(drawn)
        self._cuts = np.cumsum(wanted)[:-1]

    def chunk(self, start: int, stop: int) -> Tensor:
        """The drawn indices, level after level."""
        return self._indices[start:stop]

    def by_level(self, column: NDArray[Any]) -> list[NDArray[Any]]:
        """The column cut where a level ends."""
        return [part.copy() for part in np.split(column, self._cuts)]


def _of_level(n_digits: int, level: int, count: int, seed: int) -> Tensor:
    """``count`` distinct indices of a level."""
    if level == n_digits:
        return torch.zeros(1, dtype=torch.int64)
    digits = n_digits - level
    below, power = int(3**digits), int(3**level)
    keys = round_keys((seed + level) % 2**64, n_digits=digits)
    # Two thirds of all u are right, give or take chance.
    read = min(below, 3 * count // 2 + 8 * math.isqrt(count) + 64)
    while True:
        units = permute(torch.arange(read), keys, n_digits=digits)
        units = units[units % 3 != 0][:count]
        if len(units) == count:
            return units * power
        read = min(below, 2 * read)
