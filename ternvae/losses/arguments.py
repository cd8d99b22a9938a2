"""What the losses are given: refused if it cannot be right, without a look at the elements."""

from __future__ import annotations

import math
import reprlib
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_digits",
    "check_membership",
    "check_number",
    "check_rows",
    "check_scalar",
    "check_tensor",
]


def check_tensor(t: Any, name: str, shape: str = "", *, integer: bool = False) -> None:
    """Raise unless it is a tensor of such a dtype and as many dimensions as ``shape`` names."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(t).__name__}: {reprlib.repr(t)}")
    if integer and t.dtype != torch.int64:
        raise TypeError(f"{name}: expected int64, got {t.dtype}; convert with .long()")
    if not integer and not t.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating-point dtype, got {t.dtype}")
    if shape and t.ndim != shape.count(",") + (not shape.endswith(",)")):
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(t.shape)}")


def check_rows(first: Tensor, second: Tensor, names: str, *, some: bool = True) -> None:
    """Raise unless both are on one device and have as many rows (``some``: one at least)."""
    if first.device != second.device:
        raise ValueError(f"{names}: expected one device, got {first.device} and {second.device}")
    if first.shape[0] != second.shape[0] or (some and not first.shape[0]):
        raise ValueError(
            f"{names}: expected as many rows{' and at least one' if some else ''}, got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )


def check_membership(values: Any, name: str, membership: Any) -> None:
    """Raise unless a matrix says to which of two levels or more each of the values belongs."""
    check_tensor(values, name, "(batch,)")
    check_tensor(membership, "membership", "(batch, n + 1)")
    check_rows(values, membership, f"{name}, membership")
    if values.dtype != membership.dtype:
        raise TypeError(
            f"{name}, membership: expected one dtype, got {values.dtype} and {membership.dtype}"
        )
    if membership.shape[-1] < 2:
        raise ValueError(f"membership: expected two levels or more, got {tuple(membership.shape)}")


def check_number(
    value: Any, name: str, low: float, high: float = math.inf, *, closed: bool = False
) -> None:
    """Raise unless ``value`` is a real number inside (low, high), or [low, high) if closed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}: {value!r}")
    if not (low < value < high or (closed and value == low)):
        bracket = "[" if closed else "("
        raise ValueError(f"{name}: expected a number in {bracket}{low:g}, {high:g}), got {value!r}")


def check_digits(n_digits: Any) -> None:
    """Raise unless it is a positive integer."""
    if type(n_digits) is not int:
        raise TypeError(
            f"n_digits: expected an integer, got {type(n_digits).__name__}: {n_digits!r}"
        )
    if n_digits < 1:
        raise ValueError(f"n_digits: expected at least 1, got {n_digits}")


def check_scalar(value: Any, name: str, beside: Tensor, *, closed: bool = False) -> None:
    """Raise unless it is a positive number (``closed``: or 0) or a tensor that could be one."""
    if not isinstance(value, Tensor):
        check_number(value, name, 0.0, closed=closed)
        return
    if value.ndim or not value.dtype.is_floating_point:
        raise ValueError(
            f"{name}: expected a number or a 0-dim floating-point tensor, got one of dtype "
            f"{value.dtype} and shape {tuple(value.shape)}"
        )
    if value.device != beside.device and not value.is_cpu:
        raise ValueError(f"{name}: is on {value.device}, but the rows are on {beside.device}")
