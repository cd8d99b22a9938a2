"""Points as the leaves of the ternary tree: checked, and in an order in which balls are intervals.

Two sequences are in one 3-adic ball of radius 3^-k if they agree in their first k digits.  Sorted
by their digits, the least significant first, the members of every ball stand side by side, so a
ball is two numbers and nothing of the size of a matrix is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ternvae.metrics.arguments import check_space
from ternvae.padic import TernarySpace, digits_of, indices_of
from ternvae.padic.arguments import WholeNumbers, whole_number, whole_numbers

__all__ = ["Leaves", "Level", "check_ball", "checked_points", "checked_seed", "generator_for"]

#: Digits of this many indices are taken apart at a time.
_CHUNK = 2**18


class Level(NamedTuple):
    """Balls without the smaller ball around their centre: all at one distance from it.

    Attributes:
        first: rows at which the balls begin.
        stop: rows before which they end.
        inner_first: the same of the smaller balls.
        inner_stop: likewise.
    """

    first: Tensor
    stop: Tensor
    inner_first: Tensor
    inner_stop: Tensor

    @property
    def size(self) -> Tensor:
        """How many rows there are around each centre."""
        return self.stop - self.first - self._inner

    @property
    def _inner(self) -> Tensor:
        return self.inner_stop - self.inner_first

    def member(self, number: Tensor) -> Tensor:
        """The row of this number, from 0 to ``size`` - 1, around each centre."""
        row = self.first + number
        return torch.where(row < self.inner_first, row, row + self._inner)


@dataclass(frozen=True)
class Leaves:
    """Sequences in the order of their digits, the least significant first, with their points.

    Holds what :meth:`of` has checked, check-free.

    Attributes:
        n_digits: digits n of a sequence.
        keys: (M,) int64, ascending: the digits read backwards as a number, so that those of a ball
            of radius 3^-k are an interval of 3^(n-k) numbers.
        points: (M, d) float64, in the same order.
        whole: whether these are all 3^n sequences.
    """

    n_digits: int
    keys: Tensor
    points: Tensor
    whole: bool

    @classmethod
    def of(
        cls, points: object, ball: object, space: TernarySpace, indices: WholeNumbers | None
    ) -> Leaves:
        """Check points and the sequences that they belong to, and put them in order.

        Args:
            points: (M, d) points of the ball, float32 or float64.
            ball: anything with ``c`` and ``dist``.
            space: the space of sequences.
            indices: (M,) different indices of the space; None means all of it, in order.

        Raises:
            TypeError: ``points`` is no tensor of real numbers, ``ball`` lacks ``c`` or ``dist``, or
                ``space`` is not a :class:`TernarySpace`.
            ValueError: shapes or devices do not fit, a point is not finite or outside the ball, or
                an index is not of the space or comes twice.
        """
        check_space(space)
        found = checked_points(points, ball)
        given = _checked_indices(indices, space, found).to(found.device)
        keys = torch.cat(
            [
                _backwards(given[at : at + _CHUNK], space.n_digits)
                for at in range(0, len(given), _CHUNK)
            ]
        )
        keys, order = keys.sort()
        if len(keys) > 1 and bool((twice := keys[1:] == keys[:-1]).any()):
            index = int(given[order[int(twice.int().argmax())]])
            raise ValueError(f"indices: got {index} twice, expected different sequences")
        return cls(space.n_digits, keys, found[order], len(keys) == space.size)

    def __len__(self) -> int:
        return len(self.keys)

    def ball(self, rows: Tensor, depth: Tensor | int) -> tuple[Tensor, Tensor]:
        """Where the balls of radius 3^-depth around some rows begin and end, int64 as ``rows``."""
        width = _powers(self.n_digits, self.keys.device)[self.n_digits - depth]
        first = self.keys[rows] // width * width
        if self.whole:
            return first, first + width
        return torch.searchsorted(self.keys, first), torch.searchsorted(self.keys, first + width)

    def level(self, rows: Tensor, level: int) -> Level:
        """The other sequences j with v(i - j) = level, for some rows i."""
        return Level(*self.ball(rows, level), *self.ball(rows, level + 1))

    def nearest_depth(self) -> Tensor:
        """(M,) the largest v(i - j) over the other sequences j, that is n - 1 in a whole space.

        Needs two sequences.
        """
        n = self.n_digits
        if self.whole:
            return torch.full_like(self.keys, n - 1)
        shared = torch.zeros_like(self.keys[1:])  # first digits that neighbours have in common
        for depth in range(1, n):
            width = 3 ** (n - depth)
            shared += self.keys[1:] // width == self.keys[:-1] // width
        none = shared.new_full((1,), -1)
        return torch.maximum(torch.cat([none, shared]), torch.cat([shared, none]))

    def valuation(self, rows: Tensor, others: Tensor) -> Tensor:
        """v(i - j) of two columns of different rows, int64: the first digits they share."""
        n = self.n_digits
        first, second = self.keys[rows], self.keys[others]
        shared = torch.zeros_like(first)
        for depth in range(1, n):
            width = 3 ** (n - depth)
            shared += first // width == second // width
        return shared


def checked_points(points: object, ball: object) -> Tensor:
    """Points of the ball in float64, without their gradient.

    Raises:
        TypeError: ``points`` is no tensor of float32 or float64, or ``ball`` lacks ``c`` or
            ``dist``.
        ValueError: they have another shape than (M, d), or naming the first row that is not finite
            or not inside the ball.
    """
    check_ball(ball)
    expected = "expected points of the ball, float32 or float64 of shape (M, d)"
    if not isinstance(points, Tensor):
        raise TypeError(f"points: got {type(points).__name__}, {expected}; use torch.as_tensor")
    if points.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"points: got dtype {points.dtype}, {expected}")
    if points.ndim != 2 or not points.shape[1] or not len(points):
        raise ValueError(f"points: got shape {tuple(points.shape)}, {expected}")
    if points.is_meta:
        raise ValueError(f"points: are on the device meta, which has no values; {expected}")
    found = points.detach().double()
    # NaN fails every comparison, so it counts as outside.
    outside = ~(curvature(ball) * found.square().sum(-1) < 1)
    if bool(outside.any()):
        row = int(outside.int().argmax())
        norm = math.sqrt(curvature(ball)) * float(found[row].norm())
        largest = float(found[row][found[row].abs().argmax()])
        raise ValueError(
            f"points: row {row} has sqrt(c) * norm {norm:g} (largest coordinate {largest:g}), "
            "expected points inside the ball, below 1; project them first"
        )
    return found


def check_ball(ball: object) -> None:
    """Raise ``TypeError`` unless ``ball`` has what the measures ask for."""
    missing = [name for name in ("c", "dist") if not hasattr(ball, name)]
    if missing:
        raise TypeError(
            f"ball: got {type(ball).__name__}: {ball!r}, which has no {', '.join(missing)}; pass a "
            "PoincareBall"
        )


def curvature(ball: Any) -> float:
    """The c of the ball."""
    return float(ball.c)


def checked_seed(seed: object) -> int:
    """The seed of a draw.

    Raises:
        ValueError: it is not an integer from 0 to 2^63 - 1.
    """
    return whole_number(seed, name="seed", low=0, high=2**63 - 1, remedy="try seed=0")


def generator_for(seed: int) -> torch.Generator:
    """A generator on the host, so that every device measures the same sample."""
    return torch.Generator().manual_seed(seed)


def _checked_indices(indices: WholeNumbers | None, space: TernarySpace, points: Tensor) -> Tensor:
    count, shape = len(points), tuple(points.shape)
    if indices is None:
        if count != space.size:
            raise ValueError(
                f"points: got shape {shape}, but the space has {space.size} sequences; pass "
                "indices= to measure some of them"
            )
        return torch.arange(count)
    found = whole_numbers(
        indices,
        name="indices",
        low=0,
        high=space.size - 1,
        remedy=lambda _: "pass the space that the sequences are of",
    )
    if found.shape != (count,):
        raise ValueError(
            f"indices: got shape {tuple(found.shape)} for points of shape {shape}, expected one "
            "index for each point"
        )
    return found


def _backwards(indices: Tensor, n_digits: int) -> Tensor:
    return indices_of(digits_of(indices, n_digits=n_digits).flip(-1))


def _powers(n_digits: int, device: torch.device) -> Tensor:
    return torch.pow(3, torch.arange(n_digits + 1, device=device))
