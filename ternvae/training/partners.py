"""Partners of sequences at given 3-adic distances, by arithmetic on indices.

Every valuation k of the difference comes equally often, in two kinds.  One is any index at that
valuation: of it all digits above k are random, like those of most pairs.  The other differs in
digit k alone.  Such pairs are rare, and the nearest to one another of their valuation: where their
distances are in order, too, every pair's are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ternvae.padic import indices_at_valuation

__all__ = ["draws", "partners_of"]


def draws(seed: int, *, batches: int, pairs: int, n_digits: int, tries: int) -> Tensor:
    """What decides on the partners of so many rows in so many batches.

    Args:
        seed: of the draw, which is made on the CPU so that all devices agree.
        batches: how many.
        pairs: rows of each that get a partner.
        n_digits: number of ternary digits n.
        tries: partners to choose from.

    Returns:
        (2 + tries, batches, pairs) int64: the valuations of the differences, 1 for a partner that
        shall differ in one digit alone and 0 for any other, and steps of these valuations.
    """
    number = torch.arange(pairs)
    between = (number % n_digits).expand(batches, -1)
    lone = (number // n_digits % 2).expand(batches, -1)
    generator = torch.Generator().manual_seed(seed)
    steps = indices_at_valuation(
        between.expand(tries, -1, -1), n_digits=n_digits, generator=generator
    )
    return torch.stack([between, lone, *steps])


def partners_of(
    indices: Tensor,
    drawn: Sequence[Tensor],
    *,
    n_digits: int,
    is_seen: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """The partners of indices.

    Args:
        indices: (rows,) int64.
        drawn: the rows of :func:`draws`, each (rows,), on the device of the indices.
        n_digits: number of ternary digits n.
        is_seen: tells the indices that may be partners; None if all may.

    Returns:
        (rows,) partners, the first of the tries that may be one, and (rows,) valuations of the
        differences; where none may, the index itself and n.
    """
    between, lone, *steps = drawn
    found, *others = (_partner(indices, between, lone > 0, step, n_digits) for step in steps)
    if is_seen is None:
        return found, between
    seen = is_seen(found)
    for other in others:
        found = torch.where(seen, found, other)
        seen = seen | is_seen(other)
    return torch.where(seen, found, indices), torch.where(seen, between, n_digits)


def _partner(indices: Tensor, between: Tensor, lone: Tensor, step: Tensor, n_digits: int) -> Tensor:
    """A step away, with the carry into higher digits or, for a lone digit, without."""
    unit = torch.pow(3, between)
    digit = indices // unit % 3
    turned = (digit + step // unit) % 3  # only the lowest digit of the step that is not 0 counts
    size: int = 3**n_digits
    return torch.where(lone, indices + (turned - digit) * unit, (indices + step) % size)
