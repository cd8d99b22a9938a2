"""The one door through which numbers from outside reach the space: checked, never clamped.

What users hold (an int, nested lists, a numpy array, a tensor of any dtype) becomes an int64
tensor, or a ``ValueError`` that names the first value that is not a whole number in range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["WholeNumbers", "broadcast_shape", "integer_tensor", "whole_number", "whole_numbers"]

WholeNumbers: TypeAlias = "npt.ArrayLike | Tensor"


class _Domain:
    """An integer interval, the name of the argument that must lie in it, and the way out."""

    def __init__(self, name: str, low: int, high: int, remedy: Callable[[float], str]) -> None:
        self.name, self.low, self.high, self.remedy = name, low, high, remedy

    def refusal(self, value: object, place: tuple[int, ...]) -> ValueError:
        """The error for one offending value; an empty place means a lone number."""
        if isinstance(value, np.floating):
            value = float(value)  # also from extended precision, which has no Python type
        elif isinstance(value, np.generic) or (isinstance(value, Tensor) and value.dim() == 0):
            value = value.item()
        where = "" if not place else f" at position {place[0] if len(place) == 1 else place}"
        if isinstance(value, bool):
            way_out = "a truth value is not a number, convert it with int(...) or .long()"
        elif not isinstance(value, int | float):
            way_out = f"{type(value).__name__} is not a type of whole numbers"
        elif value != value or value in (float("inf"), -float("inf")):
            way_out = "drop the entries that are not finite"
        elif value != int(value):
            way_out = "round to whole numbers first"
        else:
            way_out = self.remedy(value)
        return ValueError(
            f"{self.name}: got {value!r}{where}, expected whole numbers from {self.low} to "
            f"{self.high}; {way_out}"
        )


def whole_numbers(
    values: WholeNumbers,
    *,
    name: str,
    low: int,
    high: int,
    remedy: Callable[[float], str],
    device: torch.device | None = None,
) -> Tensor:
    """The values as an int64 tensor of the same shape, all of them within low .. high.

    One value is read back from the device. An int64 tensor is returned as it is, not copied.

    Args:
        values: a number, nested sequences, a numpy array or a tensor; whole floats count.
        name: the name of the argument, for the error.
        low: the least allowed value.
        high: the greatest allowed value.
        remedy: the way out for a whole number out of range.
        device: where values that are not a tensor go.

    Raises:
        ValueError: naming the first offender in row-major order, its position and the range.
    """
    domain = _Domain(name, low, high, remedy)
    if isinstance(values, Tensor):
        return _checked_tensor(values, domain)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.dtype.itemsize <= 8:
        # A copy in native byte order: torch shares memory with arrays and warns if read-only.
        native = np.array(values, dtype=values.dtype.newbyteorder("="), order="C")
        return _checked_tensor(torch.from_numpy(native), domain).to(device)
    return _checked_objects(values, domain).to(device)


def whole_number(value: object, *, name: str, low: int, high: int, remedy: str) -> int:
    """The value as a Python int within low .. high; floats and booleans are refused.

    Raises:
        ValueError: naming the value, the range and the way out.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if low <= number <= high:
            return number
    raise ValueError(f"{name}: got {value!r}, expected an integer from {low} to {high}; {remedy}")


def integer_tensor(values: object, name: str) -> Tensor:
    """The values as they are, if they are an int64 tensor; nothing is read from the device.

    Raises:
        TypeError: they are not.
    """
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name}: expected an int64 tensor, got {type(values).__name__}: {values!r}; convert "
            "with torch.as_tensor(...)"
        )
    if values.dtype != torch.int64:
        raise TypeError(
            f"{name}: expected an int64 tensor, got dtype {values.dtype}; convert with .long()"
        )
    return values


def broadcast_shape(a: Tensor, b: Tensor, names: str) -> torch.Size:
    """The common shape of two tensors on one device.

    Raises:
        ValueError: they are on two, or their shapes do not broadcast.
    """
    if a.device != b.device:
        raise ValueError(f"{names}: are on {a.device} and {b.device}; move one with .to()")
    try:
        shape: torch.Size = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    except RuntimeError:
        raise ValueError(
            f"{names}: shapes {tuple(a.shape)} and {tuple(b.shape)} do not broadcast"
        ) from None
    return shape


def _checked_tensor(values: Tensor, domain: _Domain) -> Tensor:
    if values.is_meta:
        raise ValueError(
            f"{domain.name}: got a tensor of shape {tuple(values.shape)} on the device meta, which "
            "has no values to check; the functions of ternvae.padic that are check-free take it"
        )
    values = values.detach()
    if values.dtype == torch.bool or values.dtype.is_complex:
        if values.numel():
            raise domain.refusal(values.flatten()[0].item(), (0,) * values.dim())
        raise domain.refusal(values.dtype, ())
    if values.dtype.is_floating_point:
        wide = values.to(torch.float64)
        # NaN fails every comparison, so it counts as outside.
        good = (wide >= domain.low) & (wide <= domain.high) & (wide == wide.floor())
        numbers = torch.where(good, wide, 0.0).to(torch.int64)
    else:
        numbers = values.to(torch.int64)
        good = (numbers >= domain.low) & (numbers <= domain.high)
        if values.dtype == torch.uint64:
            good &= numbers >= 0  # from 2^63 on, uint64 wraps to a negative int64
    if not bool(good.all()):
        first = int(torch.nonzero(~good.flatten())[0])
        place = tuple(int(k) for k in np.unravel_index(first, tuple(values.shape)))
        raise domain.refusal(values.flatten()[first].item(), place)
    return numbers


def _checked_objects(values: Any, domain: _Domain) -> Tensor:
    """Numbers and nested sequences, value by value: here integers may exceed every dtype."""
    if isinstance(values, range):
        values = list(values)
    try:
        leaves = np.array(values, dtype=object)
    except ValueError:
        raise ValueError(
            f"{domain.name}: got nested sequences of different lengths; give rows of one length"
        ) from None
    numbers = np.empty(leaves.shape, dtype=np.int64)
    for place, leaf in np.ndenumerate(leaves):
        number = _as_int(leaf)
        if number is None or not domain.low <= number <= domain.high:
            raise domain.refusal(leaf, place)
        numbers[place] = number
    return torch.from_numpy(numbers)


def _as_int(leaf: object) -> int | None:
    if isinstance(leaf, Tensor) and leaf.dim() == 0:
        leaf = leaf.item()
    if isinstance(leaf, bool | np.bool_):
        return None
    if isinstance(leaf, int | np.integer):
        return int(leaf)
    if isinstance(leaf, float | np.floating) and leaf.is_integer():
        return int(leaf)
    return None
