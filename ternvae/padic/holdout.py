"""Which sequences of a space are held out: an exact share, by arithmetic, without a table.

A keyed permutation of the space (see ``ternvae.padic.permutation``) puts every index at a position.
Of N indices the last ``round(share * N)`` positions are unseen and all before are seen, so that
what is seen can be enumerated (position to index) and told (index to position) in constant memory.

The choice is purely random: no level and no index, not even 0, is exempt, so that what is measured
on unseen indices holds for any index.  A level of few indices may therefore be unseen altogether.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ternvae.padic.arguments import WholeNumbers, integer_tensor, whole_number, whole_numbers
from ternvae.padic.permutation import permute, permute_below, position_of, round_keys
from ternvae.padic.space import TernarySpace
from ternvae.padic.valuation import valuation

__all__ = ["Holdout", "HoldoutSizes"]

#: Keeps what is held out apart from what else is drawn by the same seed.
_PURPOSE = 0x5BF0_3635_DEFD_A0C1
_MAX_DIGITS_AT_ONCE = 16
_CHUNK = 2**18  # positions looked at at a time


class HoldoutSizes(NamedTuple):
    """How many indices are seen and unseen, together N; held check-free.

    Attributes:
        seen: how many indices training sees.
        unseen: how many are held out.
    """

    seen: int
    unseen: int


@dataclass(frozen=True)
class Holdout:
    """A space in two parts: indices that training sees, and exactly ``round(share * N)`` others.

    The parts are a function of (space, share, seed) alone.  With the seed kept, a larger share
    leaves out what a smaller one does, and more.  By definition the last ``round(share * N)``
    places of a keyed permutation are unseen (docs/generalisation.md).

    Args:
        space: the space.
        share: share of the indices that is unseen, in [0, 1); at least one index must be seen.
        seed: 0 to 2^64 - 1.

    Raises:
        TypeError: ``space`` is no :class:`TernarySpace`, or ``share`` no number.
        ValueError: ``share`` or ``seed`` is out of range.
    """

    space: TernarySpace
    share: float
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.space, TernarySpace):
            raise TypeError(f"space: expected a TernarySpace, got {self.space!r}")
        if isinstance(self.share, bool) or not isinstance(self.share, int | float):
            raise TypeError(f"share: expected a number in [0, 1), got {self.share!r}")
        if not 0 <= self.share < 1 or round(self.share * self.space.size) == self.space.size:
            raise ValueError(
                f"share: got {self.share!r}, expected a number in [0, 1) that leaves at least one "
                f"of the {self.space.size} indices; 0.5 holds out every second one"
            )
        whole_number(self.seed, name="seed", low=0, high=2**64 - 1, remedy="try seed=0")

    @cached_property
    def sizes(self) -> HoldoutSizes:
        """How many indices are seen and unseen."""
        unseen = round(self.share * self.space.size)
        return HoldoutSizes(self.space.size - unseen, unseen)

    @cached_property
    def _keys(self) -> list[int]:
        return round_keys(self.seed ^ _PURPOSE, n_digits=self.space.n_digits)

    def seen(self, indices: WholeNumbers) -> Tensor:
        """Whether training sees the indices.

        Args:
            indices: shape (...), in 0 .. N - 1.

        Returns:
            bool tensor of shape (...).

        Raises:
            ValueError: an index is not a whole number of the space.
        """
        checked = whole_numbers(
            indices,
            name="indices",
            low=0,
            high=self.space.size - 1,
            remedy=lambda _: "pass indices of the space that is held out from",
        )
        return self.is_seen(checked)

    def is_seen(self, indices: Tensor) -> Tensor:
        """As :meth:`seen`, of a tensor of indices known to be valid; no host read.

        Args:
            indices: int64 tensor of any shape, in 0 .. N - 1; check-free in its values.

        Returns:
            bool tensor of the same shape.

        Raises:
            TypeError: ``indices`` is not an int64 tensor.
        """
        integer_tensor(indices, "indices")
        return position_of(indices, self._keys, n_digits=self.space.n_digits) < self.sizes.seen

    def seen_indices(self) -> Tensor:
        """All seen indices, ascending.

        Returns:
            int64 tensor of shape (seen,).

        Raises:
            ValueError: the space has more than 16 digits.
        """
        return self._part(0, self.sizes.seen)

    def unseen_indices(self) -> Tensor:
        """All unseen indices, ascending.

        Returns:
            int64 tensor of shape (unseen,).

        Raises:
            ValueError: the space has more than 16 digits.
        """
        return self._part(self.sizes.seen, self.space.size)

    def shuffled(self, ranks: Tensor, seed: int) -> Tensor:
        """The seen indices in the pseudo-random order of a seed.

        Args:
            ranks: int64 tensor of any shape, places in that order, 0 .. ``sizes.seen`` - 1;
                check-free in its values.
            seed: 0 to 2^64 - 1; another one for each epoch.

        Returns:
            int64 tensor of the same shape: the indices at these places; over all places each seen
            index comes once.

        Raises:
            TypeError: ``ranks`` is not an int64 tensor.
            ValueError: ``seed`` is out of range.
        """
        integer_tensor(ranks, "ranks")
        whole_number(seed, name="seed", low=0, high=2**64 - 1, remedy="try seed=0")
        positions = permute_below(ranks, seed, size=self.sizes.seen)
        return permute(positions, self._keys, n_digits=self.space.n_digits)

    def seen_of_level(self, level: int, at_most: int | None = None) -> Tensor:
        """The seen indices of a level; stops looking as soon as there are enough.

        Args:
            level: their valuation, 0 .. n.
            at_most: how many; None means all.

        Returns:
            int64 tensor of shape (K,), K <= ``at_most``, ascending if there are no more than these.

        Raises:
            ValueError: ``level`` is none of the space, or ``at_most`` no whole number.
        """
        n = self.space.n_digits
        whole_number(level, name="level", low=0, high=n, remedy="the space has levels 0 to n")
        if at_most is not None:
            whole_number(at_most, name="at_most", low=0, high=2**63 - 1, remedy="None means all")
        found: list[Tensor] = []
        for part in self._seen_of_level(level):
            found.append(part)
            if at_most is not None and sum(map(len, found)) >= at_most:
                break
        return torch.cat(found)[:at_most].sort().values

    def _seen_of_level(self, level: int) -> Iterator[Tensor]:
        """Chunks of them, from the shorter list: the level, or all that is seen."""
        n, (seen, _) = self.space.n_digits, self.sizes
        there = self.space.level_sizes()[level]
        for start in range(0, min(there, seen), _CHUNK):
            ranks = torch.arange(start, min(start + _CHUNK, there, seen))
            if there <= seen:
                units = 3 * (ranks // 2) + 1 + ranks % 2 if level < n else ranks
                indices = units * 3**level
                yield indices[self.is_seen(indices)]
            else:
                indices = permute(ranks, self._keys, n_digits=n)
                yield indices[valuation(indices, cap=n) == level]

    def _part(self, start: int, stop: int) -> Tensor:
        if self.space.n_digits > _MAX_DIGITS_AT_ONCE:
            raise ValueError(
                f"space: n_digits={self.space.n_digits} has too many sequences to list; ask "
                "seen(indices) for each batch of indices"
            )
        indices = permute(torch.arange(start, stop), self._keys, n_digits=self.space.n_digits)
        return indices.sort().values
