"""Seeded draws of indices by valuation, for training and metrics.

Values are not checked and nothing is read back to the host; memory does not grow with 3^n_digits.
The integers i != 0 of the space with v(i) = v are i = 3^v m with 0 < m < 3^(n-v) and 3 not
dividing m. Those m, in order 1, 2, 4, 5, 7, ..., are ``3 * (k // 2) + 1 + k % 2`` for
k = 0, ..., 2 * 3^(n-1-v) - 1, so a uniform k gives a uniform index of the level.

A uniform k is a 63-bit draw modulo the size of the level; with n <= 20 the probabilities are
equal to a relative 3e-10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ternvae.padic.arguments import broadcast_shape, integer_tensor, whole_number

__all__ = ["indices_at_valuation", "partners_at_valuation"]

_MAX_DIGITS = 20  # beyond it, a 63-bit draw modulo the size of a level is no longer uniform


def indices_at_valuation(
    valuation: Tensor, *, n_digits: int, generator: torch.Generator | None = None
) -> Tensor:
    """For each valuation an index drawn uniformly from those that have exactly it.

    Such indices are 3^v m with 3 not dividing m, by definition of the valuation (docs/padic.md);
    m is drawn uniformly from those below 3^(n-v).

    Args:
        valuation: int64 tensor of any shape, values in 0 .. n_digits; n_digits gives index 0.
        n_digits: the number of digits n of the space.
        generator: on the device of ``valuation``; None takes torch's default.

    Returns:
        int64 tensor of the shape of ``valuation`` and on its device.

    Check-free in its values: a negative valuation gives 0, one above n_digits gives index 0.

    Raises:
        TypeError: ``valuation`` is not an int64 tensor, or ``generator`` no generator.
        ValueError: ``n_digits`` is not an integer from 1 to 20, or the devices differ.
    """
    integer_tensor(valuation, "valuation")
    _check(n_digits, generator, valuation)
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
    changes the difference by a multiple of 3^n only.  By definition of the distance (docs/padic.md)
    they are the points at distance 3^-valuation from i.

    Args:
        i: int64 tensor of indices, of any shape.
        valuation: int64 tensor, values in 0 .. n_digits, that broadcasts against ``i``; n_digits
            gives j = i. Each element of the broadcast shape is an independent draw.
        n_digits: the number of digits n of the space.
        generator: on the device of ``valuation``; None takes torch's default.

    Returns:
        int64 tensor of the broadcast shape.

    Check-free in its values, as :func:`indices_at_valuation` is; other indices are taken modulo
    3^n_digits.

    Raises:
        TypeError: ``i`` or ``valuation`` is not an int64 tensor, or ``generator`` no generator.
        ValueError: ``n_digits`` is not an integer from 1 to 20, shapes do not broadcast, or the
            devices differ.
    """
    integer_tensor(i, "i")
    integer_tensor(valuation, "valuation")
    broadcast_shape(i, valuation, "i, valuation")
    _check(n_digits, generator, valuation)
    valuation = valuation.expand_as(i + valuation)  # one draw per element, also where v repeats
    step = indices_at_valuation(valuation, n_digits=n_digits, generator=generator)
    size: int = 3**n_digits
    return (i + step) % size


def _check(n_digits: object, generator: object, valuation: Tensor) -> None:
    whole_number(
        n_digits,
        name="n_digits",
        low=1,
        high=_MAX_DIGITS,
        remedy="pass the n_digits of the space",
    )
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator or None, got {type(generator).__name__}: "
            f"{generator!r}"
        )
    if generator.device.type != valuation.device.type:
        raise ValueError(
            f"generator: is on {generator.device}, but the valuations are on {valuation.device}; "
            "make one with torch.Generator(device=...)"
        )
