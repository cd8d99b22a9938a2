"""Parts of a space by their indices, for what is measured of them alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ternvae.metrics.arguments import check_space
from ternvae.metrics.rows import Member
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers, whole_numbers

__all__ = ["part_of"]

#: A part is a table of truth values over the space; 3^15 of them are 14 MB.
_MOST_DIGITS = 15


def part_of(space: TernarySpace, indices: WholeNumbers) -> Member:
    """What says of indices whether they are among these.

    Args:
        space: the space.
        indices: shape (M,), in 0 .. N - 1; M >= 1.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`.
        ValueError: an index is no whole number of the space, there is none, or the space has more
            than 15 digits.
    """
    check_space(space)
    if space.n_digits > _MOST_DIGITS:
        raise ValueError(
            f"indices: the space has n_digits={space.n_digits}, a part of which is measured by a "
            "sample; give Evaluator(space, among=...) a function"
        )
    given = whole_numbers(
        indices,
        name="indices",
        low=0,
        high=space.size - 1,
        remedy=lambda _: "pass indices of the space that the model was made for",
    )
    if given.ndim != 1 or not len(given):
        raise ValueError(f"indices: got shape {tuple(given.shape)}, expected (M,) with M >= 1")
    table = torch.zeros(space.size, dtype=torch.bool)
    table[given.cpu()] = True

    def member(asked: Tensor) -> Tensor:
        return table[asked.cpu()].to(asked.device)

    return member
