"""What the constructions check before they compute: balls, numbers, indices and points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import whole_number

__all__ = [
    "FLOAT64_REACH",
    "as_sequences",
    "check_ball",
    "check_dim",
    "check_horosphere",
    "check_points",
    "positive_number",
]

#: Without ``max_radius``, the farthest point, in units of the curvature radius.  At distance R from
#: the origin rounding a coordinate moves a point by about eps e^R / 2, which is 3e-6 here.
FLOAT64_REACH = 24.0

_MOST_DIMENSIONS = 2**16


def check_ball(ball: object) -> PoincareBall:
    """The ball, if it is one of ours.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(ball, PoincareBall):
        raise TypeError(
            f"ball: expected a PoincareBall, got {type(ball).__name__}: {ball!r}; make one with "
            "ternvae.manifolds.PoincareBall(c, max_radius)"
        )
    return ball


def check_dim(dim: object) -> int:
    """The dimension as an int of at least 2.

    Raises:
        ValueError: it is none.
    """
    return whole_number(
        dim,
        name="dim",
        low=2,
        high=_MOST_DIMENSIONS,
        remedy="a plane is the least that three branches need",
    )


def check_horosphere(horosphere: object, dim: int) -> bool:
    """The flag, if it is one and a horosphere of this ball holds a plane.

    Raises:
        TypeError: it is no bool.
        ValueError: ``dim`` is below 3.
    """
    if not isinstance(horosphere, bool):
        raise TypeError(f"horosphere: got {horosphere!r}, expected True or False")
    if horosphere and dim < 3:
        raise ValueError(f"dim: got {dim!r}, but a horosphere that holds a plane needs at least 3")
    return horosphere


def positive_number(value: object, name: str) -> float:
    """The value as a float above 0.

    Raises:
        TypeError: it is no real number.
        ValueError: it is not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise TypeError(
            f"{name}: got {value!r}, expected a real number, not {type(value).__name__}"
        )
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}: got {value!r}, expected a positive, finite number")
    return float(value)


def as_sequences(space: TernarySpace, given: Any) -> Tensor:
    """The sequences of indices (batch,), or sequences (batch, n) as they are; int64.

    Raises:
        ValueError: a value outside the space, or another shape.
    """
    if np.ndim(given) == 1:
        return space.sequences(given)
    if np.ndim(given) == 2:
        return space.sequences(space.indices(given))
    raise ValueError(
        f"expected indices of shape (batch,) or sequences of shape (batch, {space.n_digits}), got "
        f"shape {tuple(np.shape(given))}"
    )


def check_points(ball: PoincareBall, points: Any, dim: int) -> Tensor:
    """The points (batch, dim) in float64, if they are points of the ball.

    Raises:
        TypeError: no tensor of float32 or float64.
        ValueError: another shape, or a row that is not finite or outside the ball.
    """
    if not isinstance(points, Tensor):
        raise TypeError(
            f"points: expected a tensor, got {type(points).__name__}: {points!r:.60}; convert with "
            "torch.as_tensor(..., dtype=torch.float64)"
        )
    if points.ndim != 2 or points.shape[1] != dim:
        raise ValueError(f"points: got shape {tuple(points.shape)}, expected (batch, {dim})")
    if points.is_meta:
        raise ValueError("points: are on the device meta, which holds no values")
    if len(points) or points.dtype not in (torch.float32, torch.float64):
        ball.assert_check_point_on_manifold(points)
    return points.detach().double()
