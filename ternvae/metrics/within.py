"""Triples of sequences that all belong to a part of the space.

Of a part that is listed, partners come from its tree: in the order of the reversed digits, those
with the same first digits stand together, so the partners of a sequence at a valuation are two runs
of that list, found by bisection.  Of a part that is only known by what belongs to it, they are
drawn from the space until one does.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ternvae.metrics.rows import Member, PartRows, Rows
from ternvae.padic import TernarySpace, partners_at_valuation

__all__ = ["triples_within"]

#: Anchors that are tried for a triple before it is left out; and, of a part that is not listed,
#: partners for each of its sides.
_ANCHORS, _PARTNERS = 200, 8
#: After so many anchors for each of the triples that are missing, of which none came, none will.
_FRUITLESS = 10


def triples_within(
    space: TernarySpace,
    rows: Rows | None,
    member: Member,
    valuations: tuple[Tensor, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Anchors with a nearer and a farther partner each, (3, M or less) int64 indices.

    Args:
        space: the space.
        rows: of the part, which lists it or does not.
        member: says which indices belong to the part.
        valuations: (M,) int64 of the differences to the farther and to the nearer partner.
        generator: of the draws.
    """
    part: _Part = (
        _Listed(space, rows.indices) if isinstance(rows, PartRows) else _Known(space, member)
    )
    low, high = valuations
    found, fruitless = torch.full((3, len(low)), -1), 0
    for _ in range(_ANCHORS):
        places = (found[0] < 0).nonzero().squeeze(1)
        if not len(places) or fruitless == _FRUITLESS:
            break
        anchor = part.anchors(len(places), generator)
        near, far = (part.partners(anchor, v[places], generator) for v in (high, low))
        whole = (anchor >= 0) & (near >= 0) & (far >= 0)
        found[:, places[whole]] = torch.stack([anchor, near, far])[:, whole]
        fruitless = 0 if whole.any() else fruitless + 1
    return part.indices(found[:, found[0] >= 0])


class _Part(Protocol):
    """A part, its sequences named in a way of its own; -1 names none."""

    def anchors(self, count: int, generator: torch.Generator) -> Tensor:
        """Random sequences of the part, uniform, (count,)."""

    def partners(self, anchor: Tensor, valuation: Tensor, generator: torch.Generator) -> Tensor:
        """For each a random one at that valuation from it."""

    def indices(self, named: Tensor) -> Tensor:
        """The indices of sequences."""


class _Listed:
    """Sequences are named by their places in the order of the tree."""

    def __init__(self, space: TernarySpace, indices: Tensor) -> None:
        self._n = space.n_digits
        keys, rest = torch.zeros_like(indices), indices
        for _ in range(self._n):
            keys = 3 * keys + rest % 3
            rest = rest // 3
        self._keys, order = keys.sort()
        self._indices = indices[order]

    def anchors(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self._keys), (count,), generator=generator)

    def partners(self, anchor: Tensor, valuation: Tensor, generator: torch.Generator) -> Tensor:
        first, stop = self._ball(anchor, valuation)
        inner, inner_stop = self._ball(anchor, valuation + 1)
        inside = inner_stop - inner
        count = stop - first - inside
        draw = torch.randint(2**62, anchor.shape, generator=generator) % count.clamp(min=1)
        place = first + draw
        place += torch.where(place >= inner, inside, 0)
        return torch.where(count > 0, place, -1)

    def indices(self, named: Tensor) -> Tensor:
        return self._indices[named]

    def _ball(self, anchor: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Where those with the same first ``depth`` digits begin and end."""
        width = torch.pow(3, self._n - depth)
        low = self._keys[anchor] // width * width
        return torch.searchsorted(self._keys, low), torch.searchsorted(self._keys, low + width)


class _Known:
    """Sequences are named by their indices."""

    def __init__(self, space: TernarySpace, member: Member) -> None:
        self._space, self._member = space, member

    def anchors(self, count: int, generator: torch.Generator) -> Tensor:
        drawn = torch.randint(self._space.size, (count,), generator=generator)
        return torch.where(self._member(drawn), drawn, -1)

    def partners(self, anchor: Tensor, valuation: Tensor, generator: torch.Generator) -> Tensor:
        found = torch.full_like(anchor, -1)
        for _ in range(_PARTNERS):
            left = ((found < 0) & (anchor >= 0)).nonzero().squeeze(1)
            drawn = partners_at_valuation(
                anchor[left], valuation[left], n_digits=self._space.n_digits, generator=generator
            )
            found[left] = torch.where(self._member(drawn), drawn, -1)
        return found

    def indices(self, named: Tensor) -> Tensor:
        return named
