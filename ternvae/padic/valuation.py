"""The p-adic valuation and distance, on Python integers and on integer tensors.

For a prime p and an integer n != 0, ``v(n)`` is the largest k with p^k dividing n, and ``v(0)``
is infinite. The p-adic distance ``d(i, j) = p^-v(i - j)`` is an ultrametric: every triangle is
isosceles, with the two longer sides equal ([G], chapter 2).

In the ring Z/p^cap the zero class is divisible by p^cap and by nothing more, so there the
valuation is ``min(v(n), cap)``. Tensors hold finite numbers and therefore always need a cap.

References:
    [G] F. Q. Gouvea, "p-adic Numbers: An Introduction", 2nd ed., Springer 1997.
"""

from __future__ import annotations

import math
import operator
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from ternvae.padic.arguments import broadcast_shape

__all__ = ["Integer", "padic_distance", "reciprocal_power", "valuation"]

Integer: TypeAlias = "int | np.integer[Any]"

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# As Miller-Rabin bases these decide primality for every number below 3.1e23
# (Sorenson & Webster, "Strong pseudoprimes to twelve prime bases", 2017, theorem 1.1).
_SMALL_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_INTEGER_DTYPES = frozenset(
    {
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    }
)


@overload
def valuation(n: Tensor, p: int = 3, cap: int | None = None) -> Tensor: ...
@overload
def valuation(n: Integer, p: int = 3, cap: None = None) -> int | float: ...
@overload
def valuation(n: Integer, p: int = 3, *, cap: int) -> int: ...
@overload
def valuation(n: Integer, p: int, cap: int) -> int: ...
def valuation(n: Integer | Tensor, p: int = 3, cap: int | None = None) -> int | float | Tensor:
    """The p-adic valuation, at most ``cap``: the largest k <= cap with p^k dividing n.

    The definition of [G], section 2.1, cut off at ``cap``.

    Args:
        n: an integer of any size, or an integer tensor of any shape, dtype and device;
            ``v(-n) = v(n)``.
        p: the prime.
        cap: the valuation of zero and the largest value returned, i.e. the valuation of Z/p^cap.
            None means no cap; a tensor needs one.

    Returns:
        An int (``math.inf`` for zero without a cap), or an int64 tensor of the shape of ``n`` and
        on its device. The tensor form reads nothing back to the host.

    Raises:
        TypeError: ``n`` is not an integer or an integer tensor (booleans are not), or ``p`` or
            ``cap`` is not an integer.
        ValueError: ``p`` is not a prime, ``cap`` is negative, or a tensor comes without a cap.
    """
    p = _prime(p)
    if isinstance(n, Tensor):
        _require_integer_tensor(n, "n")
        if cap is None:
            raise ValueError(
                "cap: a tensor cannot hold the infinite valuation of zero; pass cap=k for the "
                "valuation in Z/p^k (n_digits in a space of ternary sequences)"
            )
        cap = _natural(cap, "cap")
        if cap > _INT64_MAX:
            raise ValueError(f"cap: {cap} does not fit the int64 result; 64 is above every tensor")
        if n.dtype == torch.uint64:
            return _valuation_of_unsigned(n.view(torch.int64), p, cap)
        return _valuation_of_signed(n.to(torch.int64), p, cap)
    number = _integer(n, "n")
    limit = None if cap is None else _natural(cap, "cap")
    if number == 0:
        return math.inf if limit is None else limit
    v = _valuation_of_int(number, p)
    return v if limit is None else min(v, limit)


@overload
def padic_distance(i: Integer, j: Integer, p: int = 3) -> float: ...
@overload
def padic_distance(i: Tensor, j: Integer | Tensor, p: int = 3) -> Tensor: ...
@overload
def padic_distance(i: Integer, j: Tensor, p: int = 3) -> Tensor: ...
def padic_distance(i: Integer | Tensor, j: Integer | Tensor, p: int = 3) -> float | Tensor:
    """The p-adic distance ``p^-v(i - j)``, and 0 where ``i = j`` ([G], section 2.1).

    Exact for all int64 tensors, also where ``i - j`` itself leaves the range of int64. Distances
    are rounded to float64; between two Python integers a distance below 5e-324 rounds to 0.

    Args:
        i: an integer of any size, or an integer tensor of any shape.
        j: an integer of any size, or an integer tensor; tensors broadcast.
        p: the prime.

    Returns:
        A p-adic distance, a pure number in [0, 1]: a float for two integers, else a float64 tensor
        of the broadcast shape. The tensor form reads nothing back to the host.

    Raises:
        TypeError: an argument is not an integer or an integer tensor (booleans are not).
        ValueError: ``p`` is not a prime; an integer that meets a tensor does not fit int64; a
            tensor is uint64, whose differences no torch dtype holds; shapes do not broadcast; or
            tensors are on two devices.
    """
    p = _prime(p)
    if isinstance(i, Tensor) or isinstance(j, Tensor):
        a, b = _int64_operand(i, "i"), _int64_operand(j, "j")
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            broadcast_shape(a, b, "i, j")
        # One of the two wrapped differences is |a - b| < 2^64 as an unsigned number.
        magnitude = torch.where(a >= b, a - b, b - a)
        v = _valuation_of_unsigned(magnitude, p, cap=64)
        return torch.where(magnitude == 0, 0.0, reciprocal_power(v, p))
    difference = _integer(i, "i") - _integer(j, "j")
    # Division of integers is correctly rounded at any size; float(p) ** -v is not.
    return 1 / p ** _valuation_of_int(difference, p) if difference else 0.0


def reciprocal_power(exponents: Tensor, p: int = 3) -> Tensor:
    """``p^-exponents`` as float64, check-free and without a host read.

    Exact powers are formed in integers, in two factors so that p^v may reach 2^64 without
    overflow; for p^v <= 2^53 the result is the correctly rounded 1 / p^v on every device.

    Args:
        exponents: int64 tensor of any shape, ``0 <= exponents`` and ``p^exponents <= 2^64``.
        p: the base.
    """
    half = exponents // 2
    first, second = torch.pow(p, half), torch.pow(p, exponents - half)
    return 1.0 / (first.to(torch.float64) * second.to(torch.float64))


def _valuation_of_int(n: int, p: int) -> int:
    """v(n) of a non-zero integer in O(log v) divisions: square up, then descend."""
    ladder = []
    power, exponent = p, 1
    while n % power == 0:
        ladder.append((power, exponent))
        power, exponent = power * power, 2 * exponent
    v = 0
    for power, exponent in reversed(ladder):
        if n % power == 0:
            n //= power
            v += exponent
    return v


def _valuation_of_signed(n: Tensor, p: int, cap: int) -> Tensor:
    """min(v(n), cap) by binary descent over p^(2^t); the dtype of n is int64.

    Only divisions, no absolute value, so the least int64 needs no special case.
    """
    exponents = [1]
    while 2 * exponents[-1] <= cap and p ** (2 * exponents[-1]) <= _INT64_MAX:
        exponents.append(2 * exponents[-1])
    zero = n == 0
    v = torch.zeros_like(n)
    for exponent in reversed(exponents):
        power = p**exponent
        divides = n % power == 0
        n = torch.where(divides, n // power, n)
        v = v + exponent * divides
    return torch.where(zero, cap, v.clamp(max=cap))


def _valuation_of_unsigned(bits: Tensor, p: int, cap: int) -> Tensor:
    """min(v(n), cap) for 64-bit unsigned n, given as the int64 tensor with the same bits.

    One unsigned division by p, built from a signed one (Warren, "Hacker's Delight", 2nd ed.
    2012, section 9-3), brings the quotient into the range of int64.
    """
    quotient = 2 * (((bits >> 1) & _INT64_MAX) // p)
    remainder = bits - quotient * p  # 0 .. 2p - 1 (mod 2^64), so p divides n at 0 and at p
    once_more = remainder == p
    deeper = _valuation_of_signed(quotient + once_more.to(torch.int64), p, max(cap - 1, 0))
    return torch.where(once_more | (remainder == 0), 1 + deeper, 0).clamp(max=cap)


def _integer(value: object, name: str) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an integer, got the boolean {value}; pass int({value})")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name}: expected an integer or an integer tensor, got {value!r} of type "
            f"{type(value).__name__}; convert it with int(...) or torch.as_tensor(...)"
        ) from None


def _natural(value: object, name: str) -> int:
    number = _integer(value, name)
    if number < 0:
        raise ValueError(f"{name}: expected a non-negative integer, got {number}")
    return number


def _prime(value: object) -> int:
    p = _integer(value, "p")
    if p > _INT64_MAX:
        raise ValueError(f"p: expected a prime below 2**63, got {p}")
    if not _is_prime(p):
        raise ValueError(f"p: expected a prime, got {p}; ternary sequences use p=3")
    return p


def _is_prime(n: int) -> bool:
    """Deterministic Miller-Rabin test."""
    if n < 2 or any(n % q == 0 for q in _SMALL_PRIMES):
        return n in _SMALL_PRIMES
    twos = _valuation_of_int(n - 1, 2)
    odd = (n - 1) >> twos
    return all(
        pow(base, odd, n) == 1 or any(pow(base, odd << t, n) == n - 1 for t in range(twos))
        for base in _SMALL_PRIMES
    )


def _require_integer_tensor(values: Tensor, name: str) -> None:
    if values.dtype not in _INTEGER_DTYPES:
        raise TypeError(
            f"{name}: expected an integer tensor, got dtype {values.dtype}; convert whole numbers "
            "with .to(torch.int64)"
        )


def _int64_operand(value: Integer | Tensor, name: str) -> Any:
    """An int64 tensor, or a Python int within int64 (which needs no copy to the device)."""
    if isinstance(value, Tensor):
        _require_integer_tensor(value, name)
        if value.dtype == torch.uint64:
            raise ValueError(
                f"{name}: got a uint64 tensor, whose differences no torch dtype holds; convert "
                "it with .to(torch.int64) if every value is below 2**63"
            )
        return value.to(torch.int64)
    number = _integer(value, name)
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise ValueError(
            f"{name}: {number} does not fit int64 and cannot meet a tensor; compare Python "
            "integers one by one instead"
        )
    return number
