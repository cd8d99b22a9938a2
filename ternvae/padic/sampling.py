"""Seeded draws of indices by valuation, for training and metrics.

Nothing here checks its input or reads back to the host; memory does not grow with 3^n_digits.
The integers i != 0 of the space with v(i) = v are i = 3^v m with 0 < m < 3^(n-v) and 3 not
dividing m. Those m, in order 1, 2, 4, 5, 7, ..., are ``3 * (k // 2) + 1 + k % 2`` for
k = 0, ..., 2 * 3^(n-1-v) - 1, so a uniform k gives a uniform index of the level.

A uniform k is a 63-bit draw modulo the size of the level; with n <= 20 the probabilities are
equal to a relative 3e-10.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["indices_at_valuation", "partners_at_valuation"]


def indices_at_valuation(
    valuation: Tensor, *, n_digits: int, generator: torch.Generator | None = None
) -> Tensor:
    """For each valuation an index drawn uniformly from those that have exactly it.

    Args:
        valuation: int64 tensor of any shape, values in 0 .. n_digits; n_digits gives index 0.
        n_digits: the number of digits n of the space.
        generator: on the device of ``valuation``; None takes torch's default.

    Returns:
        int64 tensor of the shape and on the device of ``valuation``.
    """
    rank = (n_digits - 1 - valuation).clamp(min=0)
    size = 2 * torch.pow(3, rank)
    draw = torch.randint(
        0, 2**63 - 1, valuation.shape, generator=generator, device=valuation.device
    )
    k = draw % size
    unit = 3 * (k // 2) + 1 + k % 2
    return torch.where(valuation < n_digits, torch.pow(3, valuation) * unit, 0)


def partners_at_valuation(
    i: Tensor, valuation: Tensor, *, n_digits: int, generator: torch.Generator | None = None
) -> Tensor:
    """For each index i an index j drawn uniformly from those with v(i - j) as given.

    Adding an index of that valuation modulo 3^n is a bijection onto them, because the reduction
    changes the difference by a multiple of 3^n only.

    Args:
        i: int64 tensor of indices.
        valuation: int64 tensor, values in 0 .. n_digits, that broadcasts against ``i``; n_digits
            gives j = i. Each element of the broadcast shape is an independent draw.
        n_digits: the number of digits n of the space.
        generator: on the device of ``valuation``; None takes torch's default.

    Returns:
        int64 tensor of the broadcast shape.
    """
    valuation = valuation.expand_as(i + valuation)  # one draw per element, also where v repeats
    step = indices_at_valuation(valuation, n_digits=n_digits, generator=generator)
    size: int = 3**n_digits
    return (i + step) % size
