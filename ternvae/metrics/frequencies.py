"""Whether sequences come from the levels as often as they should."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from ternvae.metrics.arguments import check_space
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["LevelFrequencies", "level_frequencies"]

#: Cells with a smaller expected count are joined (Cochran, *Biometrics* 10, 1954, section 2).
LEAST_EXPECTED = 5.0


@dataclass(frozen=True)
class LevelFrequencies:
    """Pearson's test of the levels; holds what it is given, check-free.

    Attributes:
        observed: (n + 1,) sequences of each level.
        expected: (n + 1,) what uniform sequences would give.
        statistic: chi-square over the cells.
        degrees: cells less one; levels with few expected sequences share a cell.
        p_value: chance of a statistic at least as large, if the sequences were uniform.
        distinct: how many of the sequences are different.
    """

    observed: tuple[int, ...]
    expected: tuple[float, ...]
    statistic: float
    degrees: int
    p_value: float
    distinct: int


def level_frequencies(sequences: WholeNumbers, space: TernarySpace) -> LevelFrequencies:
    """Compare how many of the sequences are of each level with the sizes of the levels.

    Pearson's chi-square test, cells joined after Cochran 1954, section 2.

    Args:
        sequences: (count, n_digits) entries in {-1, 0, 1}.
        space: their space.

    Returns:
        Counts, the statistic and its p-value.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`.
        ValueError: other shapes or entries, or so few sequences that there is only one cell.
    """
    check_space(space)
    indices = space.indices(sequences)
    if indices.ndim != 1:
        raise ValueError(
            f"sequences: got shape {(*indices.shape, space.n_digits)}, expected (count, "
            f"{space.n_digits})"
        )
    count, n = len(indices), space.n_digits
    observed = torch.bincount(space.valuation(indices).cpu(), minlength=n + 1).numpy()
    expected = np.array(space.level_sizes()) / space.size * count
    # From the rarest level on, until a cell has enough; the rest of them is the next cell.
    edges, waiting = [0], 0.0
    for level in range(n, -1, -1):
        waiting += expected[level]
        left = expected[:level].sum()
        if waiting >= LEAST_EXPECTED and (left >= LEAST_EXPECTED):
            edges.append(level)
            waiting = 0.0
    cells = sorted(set(edges))
    if len(cells) < 2:
        raise ValueError(
            f"sequences: got {count}, too few to expect {LEAST_EXPECTED:g} in two cells; draw more"
        )
    seen, wanted = (np.add.reduceat(column, cells) for column in (observed, expected))
    found = stats.chisquare(seen, wanted)
    return LevelFrequencies(
        tuple(observed.tolist()),
        tuple(expected.tolist()),
        float(found.statistic),
        len(cells) - 1,
        float(found.pvalue),
        len(np.unique(indices.cpu().numpy())),
    )
