"""The space of ternary sequences of a fixed length, as the ring Z/3^n.

Index i in 0 .. 3^n - 1 stands for the sequence x in {-1, 0, 1}^n with
``x_k = (i // 3^k) % 3 - 1``, least significant digit first. With that order the 3-adic valuation
v(i) counts the leading entries of the sequence that are -1, and the distance of two indices is
3^-(length of the common prefix of their sequences).

Nothing of size 3^n is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ternvae.padic.arguments import (
    WholeNumbers,
    broadcast_shape,
    integer_tensor,
    whole_number,
    whole_numbers,
)
from ternvae.padic.permutation import permute, round_keys
from ternvae.padic.valuation import reciprocal_power, valuation

__all__ = ["TernarySpace", "digits_of", "indices_of"]

_MAX_DIGITS = 20  # 3^20 = 3.5e9; the products in sampling and permutation stay far inside int64
_MAX_DIGITS_AT_ONCE = 16
MOST_DIGITS = 39  # 3^39 < 2^63
_CHUNK = 2**16  # indices permuted at a time: many small batches share the cost of one formula


def digits_of(indices: Tensor, *, n_digits: int) -> Tensor:
    """The ternary digits of valid indices, least significant first; no host read.

    By definition digit k of index i is ``(i // 3^k) % 3`` (docs/padic.md, "Conventions").

    Args:
        indices: int64 tensor of any shape, values in 0 .. 3^n_digits - 1.
        n_digits: the number of digits n.

    Returns:
        int64 tensor of shape (..., n_digits) in {0, 1, 2}; the sequence is this minus 1.

    Check-free in its values: other indices give the digits of their class modulo 3^n_digits.

    Raises:
        TypeError: ``indices`` is not an int64 tensor.
        ValueError: ``n_digits`` is not an integer from 1 to 39, the most that int64 holds.
    """
    integer_tensor(indices, "indices")
    _digit_count(n_digits)
    return indices.unsqueeze(-1) // _place_values(n_digits, indices.device) % 3


def indices_of(digits: Tensor) -> Tensor:
    """The inverse of ``digits_of``, the sum of ``digit_k * 3^k`` (docs/padic.md); no host read.

    Args:
        digits: int64 tensor of shape (..., n) in {0, 1, 2}, least significant first.

    Returns:
        int64 tensor of shape (...).

    Check-free in its values: other digits give the sum of digit * 3^k all the same.

    Raises:
        TypeError: ``digits`` is not an int64 tensor.
        ValueError: it has no last dimension, or one of more than 39 digits.
    """
    integer_tensor(digits, "digits")
    if not digits.ndim or not 1 <= digits.shape[-1] <= MOST_DIGITS:
        raise ValueError(
            f"digits: got shape {tuple(digits.shape)}, expected (..., n) with n from 1 to "
            f"{MOST_DIGITS}"
        )
    return (digits * _place_values(digits.shape[-1], digits.device)).sum(-1)


def _digit_count(n_digits: object) -> int:
    return whole_number(
        n_digits,
        name="n_digits",
        low=1,
        high=MOST_DIGITS,
        remedy="9 is the default space of 19683 sequences",
    )


def _place_values(n_digits: int, device: torch.device) -> Tensor:
    return torch.pow(3, torch.arange(n_digits, device=device))


@dataclass(frozen=True)
class TernarySpace:
    """All sequences in {-1, 0, 1}^n, indexed by 0 .. 3^n - 1; two are equal if their n is.

    What digits, valuations, distances and levels are is defined in docs/padic.md, "Conventions".

    Indices and sequences may be numbers, nested lists, numpy arrays or tensors, and floats that
    are whole; results are tensors on the device of a tensor input, else on the CPU. Each check
    reads one value back from the device; ``digits_of``, ``indices_of`` and
    ``ternvae.padic.valuation`` do the same work on indices known to be valid without a read.

    Args:
        n_digits: the length n of the sequences, 1 to 20.

    Raises:
        ValueError: ``n_digits`` is not an integer from 1 to 20.
    """

    n_digits: int = 9

    def __post_init__(self) -> None:
        n = whole_number(
            self.n_digits,
            name="n_digits",
            low=1,
            high=_MAX_DIGITS,
            remedy="9 is the default space of 19683 sequences",
        )
        object.__setattr__(self, "n_digits", n)

    @property
    def size(self) -> int:
        """The number of sequences, N = 3^n."""
        size: int = 3**self.n_digits
        return size

    def sequences(self, indices: WholeNumbers | None = None) -> Tensor:
        """The sequences of the indices, or of all indices in order.

        Args:
            indices: shape (...), in 0 .. N - 1; None means all.

        Returns:
            int64 tensor of shape (..., n) in {-1, 0, 1}.

        Raises:
            ValueError: an index is not a whole number of the space, or all sequences of a space
                of more than 16 digits are asked for at once.
        """
        if indices is not None:
            return digits_of(self._indices(indices, "indices"), n_digits=self.n_digits) - 1
        if self.n_digits > _MAX_DIGITS_AT_ONCE:
            raise ValueError(
                f"indices: all {self.size} sequences of n_digits={self.n_digits} need "
                f"{self.size * self.n_digits * 8 / 2**30:.0f} GiB; go through "
                "batches(batch_size) and pass each batch of indices"
            )
        return digits_of(torch.arange(self.size), n_digits=self.n_digits) - 1

    def indices(self, sequences: WholeNumbers) -> Tensor:
        """The indices of the sequences; the inverse of ``sequences``.

        Args:
            sequences: shape (..., n), entries in {-1, 0, 1}, least significant first.

        Returns:
            int64 tensor of shape (...).

        Raises:
            ValueError: an entry is not -1, 0 or 1, or the last dimension is not n.
        """
        checked = whole_numbers(
            sequences,
            name="sequences",
            low=-1,
            high=1,
            remedy=lambda _: "digits 0, 1, 2 become entries by subtracting 1",
        )
        shape = tuple(checked.shape)
        if not shape or shape[-1] != self.n_digits:
            raise ValueError(
                f"sequences: got shape {shape}, expected (..., {self.n_digits}); use "
                "TernarySpace(n_digits=...) of the length of the sequences"
            )
        return indices_of(checked + 1)

    def valuation(self, indices: WholeNumbers) -> Tensor:
        """The 3-adic valuation of the indices, n for index 0.

        Args:
            indices: shape (...), in 0 .. N - 1.

        Returns:
            int64 tensor of shape (...), values in 0 .. n.

        Raises:
            ValueError: an index is not a whole number of the space.
        """
        return valuation(self._indices(indices, "indices"), cap=self.n_digits)

    def distance(self, i: WholeNumbers, j: WholeNumbers) -> Tensor:
        """The 3-adic distance 3^-v(i - j), and 0 where i = j.

        Args:
            i: indices in 0 .. N - 1, of any shape.
            j: indices in 0 .. N - 1; i and j broadcast.

        Returns:
            float64 tensor of the broadcast shape: 3-adic distances, in [0, 1].

        Raises:
            ValueError: an index is not a whole number of the space, shapes do not broadcast, or
                tensors are on two devices.
        """
        device = next((x.device for x in (i, j) if isinstance(x, Tensor)), None)
        a, b = self._indices(i, "i", device), self._indices(j, "j", device)
        broadcast_shape(a, b, "i, j")
        v = valuation(a - b, cap=self.n_digits)
        return torch.where(v < self.n_digits, reciprocal_power(v), 0.0)

    def level_sizes(self) -> list[int]:
        """How many indices have valuation 0, 1, ..., n: 2 * 3^(n-1-v), and 1 for v = n."""
        n = self.n_digits
        return [2 * 3 ** (n - 1 - v) for v in range(n)] + [1]

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Iterator[Tensor]:
        """Every index exactly once, in batches, in memory that does not grow with the space.

        Args:
            batch_size: indices per batch; the last batch may be short, and a size above N gives a
                single batch.
            shuffle: in the pseudo-random order of ``seed``, the same on every device; else 0, 1,
                2, ... The order is a keyed bijection (see ``ternvae.padic.permutation``).
            seed: 0 to 2^64 - 1; give each epoch its own, neighbouring seeds are unrelated.
            device: where the batches are made.

        Returns:
            An iterator of int64 tensors of shape (batch,).

        Raises:
            ValueError: at the call, not at the first batch: ``batch_size`` is not a positive
                integer, ``seed`` is out of range, ``shuffle`` is not a bool, or ``device`` is
                not available.
        """
        whole_number(
            batch_size,
            name="batch_size",
            low=1,
            high=2**63 - 1,
            remedy=f"batch_size={self.size} is one batch with everything",
        )
        whole_number(seed, name="seed", low=0, high=2**64 - 1, remedy="try seed=0")
        if not isinstance(shuffle, bool):
            raise ValueError(f"shuffle: got {shuffle!r}, expected True or False")
        try:
            place = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ValueError(
                f"device: cannot make tensors on {device!r} ({error}); try device='cpu'"
            ) from error
        keys = round_keys(seed, n_digits=self.n_digits) if shuffle else None
        return self._batches(min(batch_size, self.size), keys, place)

    def _batches(
        self, batch_size: int, keys: list[int] | None, device: torch.device
    ) -> Iterator[Tensor]:
        chunk = batch_size * max(1, _CHUNK // batch_size)
        for start in range(0, self.size, chunk):
            positions = torch.arange(start, min(start + chunk, self.size), device=device)
            if keys is not None:
                positions = permute(positions, keys, n_digits=self.n_digits)
            for first in range(0, len(positions), batch_size):
                yield positions[first : first + batch_size]

    def _indices(
        self, values: WholeNumbers, name: str, device: torch.device | None = None
    ) -> Tensor:
        return whole_numbers(
            values,
            name=name,
            low=0,
            high=self.size - 1,
            remedy=self._remedy,
            device=device,
        )

    def _remedy(self, index: float) -> str:
        for n in range(self.n_digits + 1, _MAX_DIGITS + 1):
            if 0 <= index < 3**n:
                return f"TernarySpace(n_digits={n}) is the smallest space with that index"
        return f"reduce with index % {self.size} if arithmetic modulo 3^{self.n_digits} is meant"
