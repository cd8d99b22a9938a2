"""Whether what is decoded along a path changes in one direction of the tree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ternvae.padic.arguments import WholeNumbers, whole_numbers

__all__ = ["MonotoneChange", "monotone_change"]


@dataclass(frozen=True)
class MonotoneChange:
    """How many paths change monotonically; holds what it is given, check-free.

    Attributes:
        share: of the paths along which the 3-adic distance to the first end never falls and that to
            the second never rises.
        standard_error: of the share, if the paths are drawn; with one added to the paths of either
            kind, so that a few paths without exception do not claim certainty.
        leaving: share of those along which the distance to the first end never falls.
        arriving: share of those along which the distance to the second never rises.
        paths: how many there are.
    """

    share: float
    standard_error: float
    leaving: float
    arriving: float
    paths: int


def monotone_change(sequences: WholeNumbers) -> MonotoneChange:
    """The share of paths of sequences that leave one end and arrive at the other without a detour.

    A sequence is at distance 3^-(entries before the first one that differs) from an end, so leaving
    without a detour is by definition to lose them for good, and arriving to keep what has been
    gained.

    Args:
        sequences: (paths, steps, n_digits) entries in {-1, 0, 1}; the ends are the first and the
            last sequence of each path.

    Returns:
        The share in [0, 1], its standard error and those of its two halves.

    Raises:
        ValueError: another shape or other entries, no path, or fewer than two steps.
    """
    rows = whole_numbers(
        sequences,
        name="sequences",
        low=-1,
        high=1,
        remedy=lambda _: "digits 0, 1, 2 become entries by subtracting 1",
    )
    if rows.ndim != 3 or rows.shape[1] < 2 or not rows.numel():
        raise ValueError(
            f"sequences: got shape {tuple(rows.shape)}, expected (paths, steps, n_digits) with at "
            "least one path of two steps"
        )
    leaving = (_agreement(rows, rows[:, :1]).diff(dim=1) <= 0).all(1)
    arriving = (_agreement(rows, rows[:, -1:]).diff(dim=1) >= 0).all(1)
    paths, both = len(rows), int((leaving & arriving).sum())
    likely = (both + 1) / (paths + 2)
    return MonotoneChange(
        both / paths,
        math.sqrt(likely * (1 - likely) / paths),
        float(leaving.double().mean()),
        float(arriving.double().mean()),
        paths,
    )


def _agreement(rows: Tensor, end: Tensor) -> Tensor:
    """Entries that agree before the first one that does not, (paths, steps)."""
    return (rows == end).to(torch.int64).cumprod(-1).sum(-1)
