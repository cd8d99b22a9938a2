"""A seeded bijection of {0, ..., 3^n - 1}, evaluated point by point in constant memory.

A stored permutation of 3^20 indices would take 28 GB; this one is a formula. It is a Feistel
network on a mixed-radix domain (Black & Rogaway, "Ciphers with arbitrary finite domains",
CT-RSA 2002, section 5; after Luby & Rackoff, SIAM J. Comput. 17(2), 1988). An index is the pair
(high, low) with ``index = high * 3^ceil(n/2) + low``, and each round moves one half by a keyed
function of the other:

    low  <- (s low  + c) mod 3^ceil(n/2),     (s, c) from the key and high,
    high <- (s high + c) mod 3^floor(n/2),    (s, c) from the next key and low,

with a sign s in {-1, 1} and an offset c. Each round is undone by solving for the old half, so
the whole is a bijection whatever (s, c) are. Rotations alone would only ever compose to even
permutations, because their cycles have odd length; the reflections s = -1 remove that defect.

A domain of any other size is a part of such a grid that is hardly larger, and what falls outside
is permuted again until it does not (the same paper, section 3).

For n = 1 the high half is a single point and the rounds act on Z/3 alone; their maps
``x -> s x + c`` are all six permutations of three points. For n >= 2 the reachable permutations
are a pseudo-random sample of at most 2^64 (one per seed) of the (3^n)! that exist.

This shuffles; it does not encrypt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["permute", "permute_below", "position_of", "round_keys"]

_MASK64 = 2**64 - 1
# The increment and the multipliers of splitmix64 (Steele, Lea & Flood, "Fast splittable
# pseudorandom number generators", OOPSLA 2014; the multipliers are Stafford's variant 13).
_GAMMA, _MULTIPLIER_1, _MULTIPLIER_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def round_keys(seed: int, *, n_digits: int) -> list[int]:
    """The 64-bit round keys of a seed, as signed integers for int64 arithmetic.

    The seed is mixed before the counter is added, so that neighbouring seeds share no keys.

    Two indices with the same high half keep their distance until a round moves their high halves
    apart, which fails with probability 3^-floor(n/2) each time. Small spaces therefore take more
    rounds: the number here leaves that a probability of at most 3^-8.

    Args:
        seed: 0 .. 2^64 - 1.
        n_digits: the number of digits n of the space.
    """
    rounds = max(6, 16 // max(1, n_digits // 2))
    start = _mix_int(seed)
    return [_signed(_mix_int((start + r * _GAMMA) & _MASK64)) for r in range(1, rounds + 1)]


def permute(positions: Tensor, keys: Sequence[int | Tensor], *, n_digits: int) -> Tensor:
    """The images of ``positions`` under the permutation with these keys; check-free.

    All arithmetic is on 64-bit integers, so every device gives the same result.

    Args:
        positions: int64 tensor of any shape, values in 0 .. 3^n_digits - 1.
        keys: what ``round_keys`` gives for the seed; keys may also be int64 tensors that broadcast
            against the positions, to apply one permutation per row.
        n_digits: the number of digits n of the space.

    Returns:
        int64 tensor of the same shape; distinct positions have distinct images.
    """
    return _permute(positions, keys, *_halves(n_digits))


def position_of(images: Tensor, keys: Sequence[int | Tensor], *, n_digits: int) -> Tensor:
    """The inverse of :func:`permute`; check-free.

    Args:
        images: int64 tensor of any shape, values in 0 .. 3^n_digits - 1.
        keys: as for :func:`permute`.
        n_digits: the number of digits n of the space.

    Returns:
        int64 tensor of the same shape: the positions with these images.
    """
    low_size, high_size = _halves(n_digits)
    high = images // low_size
    low = images - high * low_size
    for r, key in reversed(list(enumerate(keys))):
        if r % 2 == 0:
            low = _move_back(low, _mix(high, key), low_size)
        else:
            high = _move_back(high, _mix(low, key), high_size)
    return high * low_size + low


def permute_below(positions: Tensor, seed: int, *, size: int) -> Tensor:
    """The images of ``positions`` under a permutation of {0, ..., size - 1}; check-free.

    Reads from the device how many images are still outside, which takes one or two rounds: the grid
    has fewer than sqrt(size) points too many.

    Args:
        positions: int64 tensor of any shape, values in 0 .. size - 1.
        seed: 0 .. 2^64 - 1, as for :func:`round_keys`.
        size: points of the domain, 1 .. 3^20.

    Returns:
        int64 tensor of the same shape; distinct positions have distinct images.
    """
    low_size = math.isqrt(size - 1) + 1
    high_size = -(-size // low_size)
    digits = next(n for n in range(1, 21) if 3**n >= size)
    keys = round_keys(seed, n_digits=max(1, digits - 1))
    images = _permute(positions, keys, low_size, high_size)
    while (outside := images >= size).any():
        images[outside] = _permute(images[outside], keys, low_size, high_size)
    return images


def _halves(n_digits: int) -> tuple[int, int]:
    """Sizes of the low and the high half of an index."""
    return 3 ** ((n_digits + 1) // 2), 3 ** (n_digits // 2)


def _permute(
    positions: Tensor, keys: Sequence[int | Tensor], low_size: int, high_size: int
) -> Tensor:
    high = positions // low_size
    low = positions - high * low_size
    for r, key in enumerate(keys):
        if r % 2 == 0:
            low = _move(low, _mix(high, key), low_size)
        else:
            high = _move(high, _mix(low, key), high_size)
    return high * low_size + low


def _move(x: Tensor, bits: Tensor, modulus: int) -> Tensor:
    """Rotate or reflect x in Z/modulus, as 64 random bits say.

    The offset is the upper 40 bits scaled to 0 .. modulus - 1 by multiply and shift (Lemire,
    "Fast random integer generation in an interval", 2019): a bias below 2^-24, no division.
    """
    offset = (_logical_shift(bits, 24) * modulus) >> 40
    moved = torch.where(bits & 1 == 0, offset + x - modulus, offset - x)
    return moved + ((moved >> 63) & modulus)  # moved is in -modulus .. modulus - 1


def _move_back(x: Tensor, bits: Tensor, modulus: int) -> Tensor:
    """The inverse of :func:`_move`; a reflection is its own."""
    offset = (_logical_shift(bits, 24) * modulus) >> 40
    moved = torch.where(bits & 1 == 0, x - offset, offset - x)
    return moved + ((moved >> 63) & modulus)


def _mix(x: Tensor, key: int | Tensor) -> Tensor:
    """Splitmix64's output function of key + x * gamma, wrapping at 64 bits."""
    z = x * _signed(_GAMMA) + key
    z = (z ^ _logical_shift(z, 30)) * _signed(_MULTIPLIER_1)
    z = (z ^ _logical_shift(z, 27)) * _signed(_MULTIPLIER_2)
    return z ^ _logical_shift(z, 31)


def _logical_shift(z: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift of int64 repeats the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix_int(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MULTIPLIER_1) & _MASK64
    z = ((z ^ (z >> 27)) * _MULTIPLIER_2) & _MASK64
    return z ^ (z >> 31)


def _signed(z: int) -> int:
    return z - 2**64 if z >= 2**63 else z
