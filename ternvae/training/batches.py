"""Which sequences a step sees: every one once per epoch, and every level in every batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ternvae.padic import Holdout, TernarySpace, digits_of, indices_at_valuation, valuation
from ternvae.padic.permutation import permute, round_keys
from ternvae.training.partners import draws, partners_of

__all__ = ["Batch", "BatchPlan", "epoch_seed", "step_seed"]

_MASK = 2**64 - 1

#: Rows that are made at a time: enough that a call of torch costs nothing per batch, few enough
#: that the intermediate results stay in the cache of a processor.
_CHUNK = 2**15

#: Draws of a partner, of which the first seen one is taken where sequences are held out.
_TRIES = 4


def epoch_seed(seed: int, epoch: int) -> int:
    """One 63-bit seed per run and epoch, so that an epoch can be repeated without its history."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def step_seed(seed: int, step: int) -> int:
    """One 63-bit seed per step of an epoch with the given seed: splitmix64, counted by the step.

    (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.)  A run
    takes millions of steps, for which :func:`epoch_seed` is slow.
    """
    z = (seed + (step + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 1


class Batch(NamedTuple):
    """The rows of a batch that one process sees; check-free.

    Attributes:
        indices: (rows,) int64 indices.
        sequences: (rows, n) int64 entries in {-1, 0, 1}.
        levels: (rows,) int64 valuations.
        total: rows of the batch over all processes.
        between: (pairs,) int64: row i of the first ``pairs`` rows and row i of the last ``pairs``
            differ by an index of this valuation; n where they are the same, because no partner
            was found.
        total_pairs: pairs of the batch over all processes.
    """

    indices: Tensor
    sequences: Tensor
    levels: Tensor
    total: int
    between: Tensor = torch.empty(0, dtype=torch.int64)
    total_pairs: int = 0

    def mine(self, rows: Tensor, rank: int, world: int) -> Tensor:
        """Of something for all rows, (k, total, ...), what is for those of one process."""
        if world == 1:
            return rows
        base = self.total - self.total_pairs
        parts = (rows[:, :base], rows[:, base:])
        return torch.cat([part[:, rank::world] for part in parts], dim=1)


class _Sides(NamedTuple):
    """Batches in turn: their indices, how many each has, and the same of their pairs."""

    indices: Tensor
    rows: list[int]
    between: Tensor
    pairs: list[int]


@dataclass(frozen=True)
class BatchPlan:
    """How a batch is put together, fixed for a run.

    A batch has three parts.  One goes through a permutation of the whole space, so that an epoch
    sees every sequence.  The other shows every level: in a uniform batch two thirds of the rows are
    of level 0, and level n - 1 turns up once in thousands of rows.  Each level gives the same
    number of random rows, and a level with no more points than that gives all of them, so that
    statistics of the rarest levels are exact and not noise.  The third has partners of the first
    rows, at each valuation of the difference equally often: what the levels are to the sequence of
    zeros, partners are to any other; see :mod:`ternvae.training.partners`.

    With a holdout all of this is of the seen sequences: an unseen one is in no batch.

    In this order the rows are numbered: the passing ones, the random ones level by level, the small
    levels.  Of several processes each sees every ``world``-th row, so that each sees every level,
    and the partners of its rows.

    Args:
        space: the space of sequences.
        batch_size: rows per step; the last batch of an epoch may be shorter.
        balanced_share: largest share of a batch that is drawn by level, in [0, 1).
        paired_share: share of a batch that is partners, in [0, 1/2].
        holdout: which sequences are seen; None if all are.
    """

    space: TernarySpace
    batch_size: int
    balanced_share: float
    paired_share: float = 0.0
    holdout: Holdout | None = None

    @property
    def size(self) -> int:
        """Sequences of an epoch."""
        return self.space.size if self.holdout is None else self.holdout.sizes.seen

    @cached_property
    def pairs(self) -> int:
        """Partners in a batch; a short one may have fewer."""
        return min(int(self.batch_size * self.paired_share), self.batch_size // 2)

    @property
    def _room(self) -> int:
        """Most rows that are drawn by level."""
        return min(int(self.batch_size * self.balanced_share), self.batch_size - self.pairs - 1)

    @cached_property
    def _level_sizes(self) -> list[int]:
        """Seen sequences of each level, none counted that has no room in a batch."""
        most = self._room + 1
        if self.holdout is None:
            return [min(size, most) for size in self.space.level_sizes()]
        levels = range(self.space.n_digits + 1)
        return [len(self.holdout.seen_of_level(v, at_most=most)) for v in levels]

    @cached_property
    def rows_per_level(self) -> int:
        """Rows of each level with more points than that."""
        room = self._room
        sizes = sorted(self._level_sizes)
        for k, size in enumerate(sizes):
            # What the smaller levels have left is shared by the others.
            rows = room // (len(sizes) - k)
            if rows < size:
                return rows
            room -= size
        return sizes[-1]

    @cached_property
    def passing_rows(self) -> int:
        """Rows of each batch that pass through the permuted space."""
        rows = self.rows_per_level
        return self.batch_size - self.pairs - sum(min(size, rows) for size in self._level_sizes)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-self.size // self.passing_rows)

    def epoch(
        self,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        first: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """The batches of one epoch.

        Each is a function of the seed and its number alone: not of the device, of how many
        processes there are, or of which batch came first.  Tensors of several batches share their
        memory, so a batch that is kept keeps a chunk of them.

        Args:
            seed: fixes the permutation and the draws, on every device alike.
            device: where the tensors are wanted, and where they are made but for the draws.
            first: number of the first batch, from 0; those before it cost nothing.
            rank: which of the processes this is, from 0.
            world: how many there are; of a batch with fewer rows than that some get none.
        """
        place = torch.device(device)
        per_chunk = max(1, _CHUNK // self.batch_size)
        for start in range(first - first % per_chunk, self.steps_per_epoch, per_chunk):
            count = min(per_chunk, self.steps_per_epoch - start)
            indices, rows = self._indices(seed, start, count, rank, world, place)
            sides = self._partners(seed, start, torch.split_with_sizes(indices, rows), rank, world)
            chunk = (sides.indices, *_sequences_and_levels(sides.indices, self.space.n_digits))
            parts = zip(
                *(torch.split_with_sizes(each, sides.rows) for each in chunk),
                torch.split_with_sizes(sides.between, sides.pairs),
                strict=True,
            )
            for number, (of_batch, sequences, levels, between) in enumerate(parts, start):
                if number >= first:
                    base, pairs = self._totals(number)
                    yield Batch(of_batch, sequences, levels, base + pairs, between, pairs)

    def _totals(self, number: int) -> tuple[int, int]:
        """Rows of a batch that are no partners, and those that are, over all processes."""
        missing = max(0, (number + 1) * self.passing_rows - self.size)
        base = self.batch_size - self.pairs - missing
        return base, min(self.pairs, base)

    def _partners(
        self, seed: int, start: int, batches: Sequence[Tensor], rank: int, world: int
    ) -> _Sides:
        """A process's batches from the one numbered ``start``, with the partners of their rows."""
        totals = [self._totals(number)[1] for number in range(start, start + len(batches))]
        pairs = [len(range(rank, total, world)) for total in totals]
        n, device = self.space.n_digits, batches[0].device
        if not self.pairs:
            none = batches[0].new_empty(0)
            return _Sides(torch.cat(list(batches)), list(map(len, batches)), none, pairs)
        drawn = draws(
            step_seed(epoch_seed(seed, start), 0),
            batches=len(batches),
            pairs=self.pairs,
            n_digits=n,
            tries=1 if self.holdout is None else _TRIES,
        )[:, :, rank::world]
        there = torch.arange(drawn.shape[-1]) < torch.tensor(pairs).unsqueeze(1)
        drawn = drawn[:, there]
        if device.type == "cuda":
            drawn = drawn.pin_memory()
        drawn = drawn.to(device, non_blocking=True)
        firsts = torch.cat([rows[:pair] for rows, pair in zip(batches, pairs, strict=True)])
        is_seen = None if self.holdout is None else self.holdout.is_seen
        partners, told = partners_of(firsts, drawn.unbind(), n_digits=n, is_seen=is_seen)
        parts = zip(batches, torch.split_with_sizes(partners, pairs), strict=True)
        indices = torch.cat([each for part in parts for each in part])
        return _Sides(
            indices, [len(b) + p for b, p in zip(batches, pairs, strict=True)], told, pairs
        )

    def _indices(
        self, seed: int, start: int, count: int, rank: int, world: int, device: torch.device
    ) -> tuple[Tensor, list[int]]:
        """A process's indices in so many batches from the one numbered ``start``.

        Returns:
            Indices of all these batches in turn, and how many each has.
        """
        n, size = self.space.n_digits, self.size
        columns = torch.arange(rank, max(rank, self.passing_rows), world, device=device)
        steps = torch.arange(start, start + count, device=device)
        # Positions beyond the space, in the last batch, are cut off below.
        positions = (steps.unsqueeze(1) * self.passing_rows + columns).clamp_(max=size - 1)
        if self.holdout is None:
            passing = permute(positions, round_keys(seed, n_digits=n), n_digits=n)
        else:
            passing = self.holdout.shuffled(positions, seed)
        left = size - (start + count - 1) * self.passing_rows
        whole = count - (left < self.passing_rows)
        balanced = self._balanced(epoch_seed(seed, start), count)
        in_whole = balanced[:whole, (rank - self.passing_rows) % world :: world]
        in_short = balanced[whole:, (rank - left) % world :: world]
        mine = torch.cat([in_whole.flatten(), in_short.flatten()])
        if device.type == "cuda":
            # From pinned memory the host does not wait for the copy.
            mine = mine.pin_memory()
        mine = mine.to(device, non_blocking=True)
        of_whole, of_short = mine[: in_whole.numel()], mine[in_whole.numel() :]
        wholes = torch.cat([passing[:whole], of_whole.view(in_whole.shape)], dim=1)
        short = [*passing[whole:, : len(range(rank, left, world))], of_short]
        rows = [wholes.shape[1]] * whole + [sum(map(len, short))] * (count - whole)
        return torch.cat([wholes.flatten(), *short]), rows

    def _balanced(self, seed: int, count: int) -> Tensor:
        """(count, rows) random indices by level, then the indices of the small levels.

        On the CPU and for all processes, so that all devices and processes agree.
        """
        rows = self.rows_per_level
        drawn = [v for v, size in enumerate(self._level_sizes) if size > rows]
        levels = torch.tensor(drawn, dtype=torch.int64).repeat_interleave(rows).expand(count, -1)
        generator = torch.Generator().manual_seed(seed)
        random = self._drawn(levels, generator)
        small = self._small_levels.expand(count, -1)
        return torch.cat([random, small], dim=1)

    @cached_property
    def _small_levels(self) -> Tensor:
        """The seen indices of all levels with no more of them than a batch has of each."""
        rows = self.rows_per_level
        small = [v for v, size in enumerate(self._level_sizes) if size <= rows]
        if not small:
            return torch.empty(0, dtype=torch.int64)
        if self.holdout is not None:
            return torch.cat([self.holdout.seen_of_level(v) for v in small])
        # These levels are together the multiples of a power of 3.
        indices = torch.arange(0, self.space.size, 3 ** small[0])
        levels = valuation(indices, cap=self.space.n_digits)
        return indices[levels.argsort(stable=True)]

    def _drawn(self, levels: Tensor, generator: torch.Generator) -> Tensor:
        """A random seen index of each level: drawn again until it is a seen one."""
        n = self.space.n_digits
        indices = indices_at_valuation(levels, n_digits=n, generator=generator)
        if self.holdout is None:
            return indices
        while (unseen := ~self.holdout.is_seen(indices)).any():
            again = indices_at_valuation(levels[unseen], n_digits=n, generator=generator)
            indices[unseen] = again
        return indices


def _sequences_and_levels(indices: Tensor, n_digits: int) -> tuple[Tensor, Tensor]:
    """Sequences (rows, n) and valuations (rows,) of valid indices: their two halves looked up."""
    half = (n_digits + 1) // 2
    low, high = (_tables(count, indices.device) for count in (half, n_digits - half))
    upper = indices // len(low.levels)
    lower = indices - upper * len(low.levels)
    sequences = indices.new_empty(len(indices), n_digits)
    torch.index_select(low.sequences, 0, lower, out=sequences[:, :half])
    torch.index_select(high.sequences, 0, upper, out=sequences[:, half:])
    # Only below the multiples of 3^half does the upper half count.
    levels = low.levels.index_select(0, lower)
    levels += high.levels.index_select(0, upper) * (lower == 0)
    return sequences, levels


class _Tables(NamedTuple):
    """All sequences of half the length, (3^k, k), and their levels, (3^k,)."""

    sequences: Tensor
    levels: Tensor


@lru_cache(maxsize=8)
def _tables(n_digits: int, device: torch.device) -> _Tables:
    indices = torch.arange(3**n_digits, device=device)
    if not n_digits:  # the upper half of a single digit
        return _Tables(indices.new_zeros(1, 0), indices.new_zeros(1))
    return _Tables(digits_of(indices, n_digits=n_digits) - 1, valuation(indices, cap=n_digits))
