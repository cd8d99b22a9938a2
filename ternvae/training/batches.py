"""Which indices a step sees: every sequence once per epoch, and every level in every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ternvae.padic import TernarySpace, indices_at_valuation

__all__ = ["BatchPlan", "epoch_seed"]


def epoch_seed(seed: int, epoch: int) -> int:
    """One 63-bit seed per run and epoch, so that an epoch can be repeated without its history."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


@dataclass(frozen=True)
class BatchPlan:
    """How a batch is put together, fixed for a run.

    A batch has two parts.  One goes through a permutation of the whole space, so that an epoch
    sees every sequence.  The other shows every level: in a uniform batch two thirds of the rows are
    of level 0, and level n - 1 turns up once in thousands of rows.  Each level gives the same
    number of random rows, and a level with no more points than that gives all of them, so that
    statistics of the rarest levels are exact and not noise.

    Args:
        space: the space of sequences.
        batch_size: rows per step; the last batch of an epoch may be shorter.
        balanced_share: largest share of a batch that is drawn by level, in [0, 1).
    """

    space: TernarySpace
    batch_size: int
    balanced_share: float

    @property
    def rows_per_level(self) -> int:
        """Rows of each level with more points than that."""
        room = min(int(self.batch_size * self.balanced_share), self.batch_size - 1)
        sizes = self.space.level_sizes()
        rows = room // len(sizes)
        while sum(min(size, rows + 1) for size in sizes) <= room and rows < max(sizes):
            rows += 1
        return rows

    @property
    def passing_rows(self) -> int:
        """Rows of each batch that pass through the permuted space."""
        return self.batch_size - sum(
            min(size, self.rows_per_level) for size in self.space.level_sizes()
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.space.size / self.passing_rows)

    def epoch(self, seed: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
        """Batches of indices for one epoch.

        Args:
            seed: fixes the permutation and the draws, on every device alike.
            device: where the indices are wanted.

        Yields:
            (batch,) int64 indices.
        """
        rows, sizes, n = self.rows_per_level, self.space.level_sizes(), self.space.n_digits
        drawn = sum(size > rows for size in sizes)
        levels = torch.arange(drawn).repeat_interleave(rows)
        # The levels from `drawn` on are together the multiples of 3**drawn.
        complete = torch.arange(0, self.space.size, 3**drawn) if drawn <= n and rows else levels[:0]
        generator = torch.Generator().manual_seed(seed)
        for passing in self.space.batches(self.passing_rows, shuffle=True, seed=seed):
            random = indices_at_valuation(levels, n_digits=n, generator=generator)
            yield torch.cat([passing, random, complete]).to(device)
