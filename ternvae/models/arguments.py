"""What the model checks before it computes: its sizes, branches, batches, points and devices."""

from __future__ import annotations

import operator
import reprlib

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ternvae.padic.arguments import integer_tensor

__all__ = [
    "BRANCHES",
    "as_points",
    "available",
    "check_batch",
    "check_branch",
    "check_draws",
    "check_dropout",
    "check_flag",
    "check_levels",
    "check_sequences",
    "count",
]

#: Names of the branches, in the order in which they are computed.
BRANCHES = ("A", "B")

#: Of what torch has against a device.
_LONGEST_REASON = 200

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)


def count(name: str, value: object, least: int) -> int:
    """The value as a Python int, at least ``least``.

    Raises:
        ValueError: it is not.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}; pass an integer")
    return number


def check_dropout(dropout: object) -> None:
    """Raise unless ``dropout`` is a number in [0, 1)."""
    if isinstance(dropout, bool) or not isinstance(dropout, int | float):
        raise TypeError(f"dropout must be a number in [0, 1), got {dropout!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def check_flag(name: str, flag: object) -> None:
    """Raise ``TypeError`` unless ``flag`` is True or False."""
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must be True or False, got {flag!r}")


def check_branch(branch: object) -> None:
    """Raise ``ValueError`` unless ``branch`` names one."""
    if branch not in BRANCHES:
        raise ValueError(f"branch must be one of {', '.join(BRANCHES)}, got {branch!r}")


def check_batch(sequences: object, valuation: object, n_digits: int, device: torch.device) -> None:
    """Raise unless kinds, shapes and devices fit: nothing that would read the values.

    Raises:
        TypeError: sequences that are no integers, or valuations that are not int64.
        ValueError: shapes or devices that do not fit.
    """
    given = _integers(sequences)
    levels = check_levels(valuation, device)
    if given.shape != (*levels.shape, n_digits):
        raise ValueError(
            f"expected sequences of shape (batch, {n_digits}) and valuations of shape (batch,), "
            f"got {tuple(given.shape)} and {tuple(levels.shape)}"
        )
    _check_device("sequences", given, device)


def _integers(sequences: object) -> Tensor:
    if not isinstance(sequences, Tensor):
        raise TypeError(
            f"sequences must be a tensor, got {type(sequences).__name__}: "
            f"{reprlib.repr(sequences)}; space.sequences(...) makes one"
        )
    if sequences.dtype not in _INTEGERS:
        raise TypeError(
            f"sequences must be signed integers, got {sequences.dtype}; convert with .long()"
        )
    return sequences


def check_sequences(sequences: object, n_digits: int, device: torch.device) -> None:
    """The same as :func:`check_batch`, of sequences alone."""
    given = _integers(sequences)
    if given.ndim != 2 or given.shape[1] != n_digits:
        raise ValueError(
            f"expected sequences of shape (batch, {n_digits}), got {tuple(given.shape)}"
        )
    _check_device("sequences", given, device)


def check_draws(
    name: str, draws: object, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> None:
    """Raise unless ``draws``, a vector for each row of a batch, can go with the rest of it.

    Raises:
        TypeError: no tensor, or one of another dtype.
        ValueError: another shape or device.
    """
    if not isinstance(draws, Tensor) or draws.dtype != dtype:
        kind = str(draws.dtype) if isinstance(draws, Tensor) else type(draws).__name__
        raise TypeError(f"{name} must be a tensor of {dtype}, got {kind}: {reprlib.repr(draws)}")
    if draws.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, got {tuple(draws.shape)}")
    _check_device(name, draws, device)


def check_levels(valuation: object, device: torch.device) -> Tensor:
    """The valuations, if they are (batch,) int64 on the model's device.

    Raises:
        TypeError: they are not int64.
        ValueError: they have another shape or are on another device.
    """
    levels = integer_tensor(valuation, "valuation")
    if levels.ndim != 1:
        raise ValueError(f"expected valuations of shape (batch,), got {tuple(levels.shape)}")
    _check_device("valuation", levels, device)
    return levels


def _check_device(name: str, given: Tensor, device: torch.device) -> None:
    if given.device != device:
        raise ValueError(
            f"{name} must be on the model's device {device}, got {given.device}; move one of them "
            "with .to()"
        )


def as_points(points: ArrayLike | Tensor) -> Tensor:
    """What can be read as a tensor, as one; never one that shares read-only memory.

    Raises:
        TypeError: what is no array of numbers.
    """
    if isinstance(points, np.ndarray) and not points.flags.writeable:
        points = points.copy()
    try:
        return torch.as_tensor(points)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"points must be an array of numbers, got {type(points).__name__}: "
            f"{reprlib.repr(points)} ({error})"
        ) from error


def available(device: str | torch.device) -> torch.device:
    """The device, if tensors can be made on it.

    Raises:
        ValueError: they cannot.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error)[:_LONGEST_REASON]
        raise ValueError(
            f"device: cannot put a model on {reprlib.repr(device)} ({reason}); try device='cpu'"
        ) from error
