"""What the metrics check before they compute: columns of numbers, models and their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ternvae.padic import TernarySpace
from ternvae.padic.arguments import whole_number

__all__ = [
    "check_branch",
    "check_callback",
    "check_model",
    "check_points",
    "check_share",
    "check_space",
    "columns",
    "positive",
    "refuse",
]

_BRANCHES = ("A", "B")


def columns(**given: ArrayLike | Tensor) -> list[NDArray[Any]]:
    """The given columns as one-dimensional arrays of real numbers, all of one length.

    Raises:
        TypeError: something else than real numbers.
        ValueError: shapes that are not one-dimensional, empty or not equal, or a tensor of a device
            that numpy cannot read.
    """
    found = [_array(values, name) for name, values in given.items()]
    shapes = [array.shape for array in found]
    if any(len(shape) != 1 or shape != shapes[0] or not shape[0] for shape in shapes):
        raise ValueError(
            f"{', '.join(given)}: expected columns (M,) of one length M >= 1, got shapes "
            f"{', '.join(map(str, shapes))}"
        )
    return found


def _array(values: ArrayLike | Tensor, name: str) -> NDArray[Any]:
    if isinstance(values, Tensor):
        if not values.is_cpu:
            raise ValueError(
                f"{name}: is on {values.device}, expected the host; move it with .cpu()"
            )
        values = values.detach()
        if values.dtype.itemsize == 2 and values.dtype.is_floating_point:
            values = values.float()  # numpy has no bfloat16
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: got {values!r}, no array of numbers: {error}") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: got {values!r}, expected real numbers, not dtype {array.dtype}")
    return array


def refuse(column: NDArray[Any], bad: NDArray[np.bool_], name: str, expected: str) -> None:
    """Raise ``ValueError`` for the first value that is marked as bad."""
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(
            f"{name}: got {column[place].item()!r} at position {place}, expected {expected}"
        )


def positive(value: object, name: str, remedy: str) -> int:
    """The value as a Python int that is at least 1.

    Raises:
        ValueError: it is not.
    """
    return whole_number(value, name=name, low=1, high=2**63 - 1, remedy=remedy)


def check_space(space: object) -> None:
    """Raise ``TypeError`` unless ``space`` is one."""
    if not isinstance(space, TernarySpace):
        raise TypeError(
            f"space: expected a TernarySpace, got {type(space).__name__}: {space!r}; make one with "
            "TernarySpace(n_digits)"
        )


def check_model(model: object) -> None:
    """Raise ``TypeError`` unless ``model`` has what the metrics ask for."""
    missing = [name for name in ("ball", "embed", "decode") if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"model: got {type(model).__name__}: {model!r}, which has no {', '.join(missing)}"
        )


def check_branch(branch: object) -> None:
    """Raise ``ValueError`` unless ``branch`` names one."""
    if branch not in _BRANCHES:
        raise ValueError(f"branch must be one of {', '.join(_BRANCHES)}, got {branch!r}")


def check_points(points: object, count: int) -> Tensor:
    """The points as a model answered, if they can be ``count`` points.

    Raises:
        ValueError: they cannot.
    """
    if not isinstance(points, Tensor):
        raise ValueError(
            f"model: embeds sequences as {type(points).__name__}: {points!r}, expected a tensor"
        )
    if points.ndim != 2 or points.shape[0] != count or not points.is_floating_point():
        raise ValueError(
            f"model: embeds {count} sequences as {points.dtype} of shape {tuple(points.shape)}, "
            f"expected floating-point points of shape ({count}, latent_dim)"
        )
    return points


def check_callback(name: str, value: object) -> None:
    """Raise ``TypeError`` unless ``value`` can be called or is None."""
    if value is not None and not callable(value):
        raise TypeError(
            f"{name}: expected something to call or None, got {type(value).__name__}: {value!r}"
        )


def check_share(share: object, add: object) -> None:
    """Check which of several processes this is, and that several can add up.

    Raises:
        TypeError: ``share`` is not a pair of integers, or ``add`` cannot be called.
        ValueError: the rank is none of its world, or several processes have nothing to add with.
    """
    expected = "expected (rank, world) with 0 <= rank < world; (0, 1) is a process alone"
    if not isinstance(share, tuple) or [type(part) for part in share] != [int, int]:
        raise TypeError(f"share: got {share!r}, {expected}")
    rank, world = share
    if not 0 <= rank < world:
        raise ValueError(f"share: got {share!r}, {expected}")
    check_callback("add", add)
    if world > 1 and add is None:
        raise ValueError(
            f"add: got None, expected a function that adds a tensor over {world} processes"
        )
