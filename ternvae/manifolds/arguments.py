"""The one door through which tensors and numbers reach the formulas: checked for form, not value.

What can be known without looking into a tensor is checked before anything is computed: that it is
one, its dtype, shape and device, and the numbers of Python. What its elements are is not: that
would be a read back to the host in every step of training, and a break in every compiled graph.

Raises ``TypeError`` for what is of the wrong kind and ``ValueError`` for what does not fit.
"""

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ternvae.manifolds.numerics import SUPPORTED_DTYPES, Limit, check_curvature, check_dtype


def check_tensor(t: Any) -> None:
    """Raise ``TypeError`` unless ``t`` is a tensor of a dtype that the ball can store."""
    if not isinstance(t, Tensor):
        raise TypeError(
            f"expected a tensor of points or vectors, got {type(t).__name__}: {reprlib.repr(t)}; "
            f"convert with torch.as_tensor(..., dtype=torch.float64)"
        )
    check_dtype(t.dtype)


def check_beside(t: Any, name: str, points: Tensor) -> None:
    """Raise unless ``t`` is a tensor of such a dtype on the device of the points."""
    check_tensor(t)
    if t.device != points.device:
        raise ValueError(
            f"{name} is on {t.device} and the points on {points.device}; move one with .to()"
        )


def check_matrix(matrix: Any, x: Tensor, dim: int) -> None:
    """Raise unless ``matrix`` (..., e, d) can multiply the coordinates of ``x`` along ``dim``."""
    check_beside(matrix, "matrix", x)
    if matrix.dtype != x.dtype:
        raise TypeError(
            f"matrix and x must have one dtype, got {matrix.dtype} and {x.dtype}; convert one"
        )
    if matrix.ndim < 2 or matrix.shape[-1] != x.shape[dim]:
        raise ValueError(
            f"matrix must be (..., e, d) for d coordinates along dim={dim}: "
            f"{_listed((matrix.shape, x.shape))}"
        )
    dim = dim % x.ndim
    broadcast_shape(matrix.shape[:-2], (*x.shape[:dim], *x.shape[dim + 1 :]))


def check_factors(w: Any, x: Tensor, dim: int) -> None:
    """Raise unless ``w`` has one factor for each coordinate of ``x``, or one for all of them."""
    check_beside(w, "w", x)
    if broadcast_shape(w.shape, x.shape)[dim] != x.shape[dim]:
        raise ValueError(
            f"w must have one factor or one for each coordinate along dim={dim}: "
            f"{_listed((w.shape, x.shape))}"
        )


def check_dim(dim: Any, t: Tensor) -> None:
    """Raise unless ``dim`` is a dimension of ``t``."""
    if type(dim) is not int:
        raise TypeError(f"dim must be an integer, got {type(dim).__name__}: {dim!r}")
    if not -t.ndim <= dim < t.ndim:
        raise ValueError(
            f"dim={dim} is no dimension of a tensor of shape {tuple(t.shape)}: points need one of "
            f"coordinates"
        )


def check_vectors(inputs: Sequence[Any], c: Any, dim: Any, per_point: int = 0) -> None:
    """Raise unless the tensors and the curvature can go into one formula.

    Args:
        inputs: vectors with coordinates along ``dim``, all of one width and on one device.
        c: curvature.
        dim: the coordinate dimension.
        per_point: that many of the last inputs are one number per point, of width 1.
    """
    # On the path of every operation: calls and attributes are kept for what may be wrong.
    for t in inputs:
        if not isinstance(t, Tensor) or t.dtype not in SUPPORTED_DTYPES:
            check_tensor(t)
    first = inputs[0]
    ndim = first.ndim
    if type(dim) is not int or not -ndim <= dim < ndim:
        check_dim(dim, first)
    if len(inputs) > 1:
        _check_fit(inputs, dim, len(inputs) - per_point)
    if type(c) is not float or not 0.0 < c < math.inf:
        check_curvature_for(c, first.device)


def _check_fit(inputs: Sequence[Tensor], dim: int, vectors: int) -> None:
    """Devices and widths of tensors, of which the first so many are vectors."""
    first = inputs[0]
    shape, on_host = first.shape, first.is_cpu
    for k in range(1, len(inputs)):
        t = inputs[k]
        if not (on_host and t.is_cpu) and t.device != first.device:
            devices = ", ".join(str(s.device) for s in inputs)
            raise ValueError(f"tensors must be on one device, got {devices}; move them with .to()")
        if k >= vectors:
            if not -t.ndim <= dim < t.ndim:
                check_dim(dim, t)
            if t.shape[dim] != 1:
                raise ValueError(
                    f"a tensor of one number per point has size 1 along dim={dim}, got shape "
                    f"{tuple(t.shape)} for points of shape {tuple(shape)}"
                )
        elif t.shape != shape:
            check_dim(dim, t)
            if t.shape[dim] != shape[dim]:
                raise ValueError(
                    f"numbers of coordinates along dim={dim} differ: "
                    f"{_listed([s.shape for s in inputs])}"
                )


def check_curvature_for(c: Any, device: torch.device) -> None:
    """Raise unless ``c`` is a positive number, or a 0-dim real tensor that ``device`` can use."""
    if isinstance(c, Tensor):
        if c.ndim != 0:
            raise ValueError(f"c must be a single number, got a tensor of shape {tuple(c.shape)}")
        if c.dtype == torch.bool or c.dtype.is_complex:
            raise TypeError(f"c must be a real number, got a tensor of dtype {c.dtype}")
        if c.device != device and not c.is_cpu:
            raise ValueError(f"c is on {c.device} and the points on {device}; move one with .to()")
        return
    check_curvature(c)


def check_limit(limit: Any) -> None:
    """Raise unless ``limit`` is None or a :class:`Limit` inside the ball."""
    if limit is None:
        return
    if not isinstance(limit, Limit):
        raise TypeError(
            f"limit must be None or what numerics.limit_of gives, got {type(limit).__name__}: "
            f"{limit!r}"
        )
    threshold, target = limit
    if not (0.0 < threshold < 1.0 and 0.0 < target < 1.0):
        raise ValueError(f"limit must lie inside the ball, between 0 and 1, got {limit!r}")


def check_real(value: Any, name: str, *, least: float = -math.inf) -> None:
    """Raise unless ``value`` is a finite real number of Python, at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be a real number or a tensor, got {type(value).__name__}: {value!r}"
        )
    if not (-math.inf < value < math.inf and value >= least):
        bound = "" if least == -math.inf else f" and at least {least:g}"
        raise ValueError(f"{name} must be finite{bound}, got {value!r}")


def number_per_point(t: Any, name: str, dim: Any, *points: Any) -> Tensor:
    """``t`` as a tensor that has as many dimensions as the broadcast points, and width 1.

    Of the points only what this needs is checked: they go into a formula next.
    """
    for p in points:
        if not isinstance(p, Tensor):
            check_tensor(p)
    like = points[0]
    ndim = like.ndim if len(points) == 1 else max(p.ndim for p in points)
    if not isinstance(t, Tensor):
        if type(t) is not float or not -math.inf < t < math.inf:
            check_real(t, name)
        return torch.full((1,) * ndim, t, dtype=like.dtype, device=like.device)
    check_dtype(t.dtype)
    padded = t.reshape((1,) * (ndim - t.ndim) + t.shape)
    check_vectors((like, padded), 1.0, dim, per_point=1)
    return padded


def broadcast_shape(*shapes: Sequence[int]) -> torch.Size:
    """The shape that tensors of these shapes broadcast to.

    Raises:
        ValueError: there is none.
    """
    try:
        shape: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError:
        raise ValueError(f"batch dimensions do not broadcast: {_listed(shapes)}") from None
    return shape


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return "got shapes " + ", ".join(str(tuple(shape)) for shape in shapes)


__all__ = [
    "broadcast_shape",
    "check_beside",
    "check_curvature_for",
    "check_dim",
    "check_factors",
    "check_limit",
    "check_matrix",
    "check_real",
    "check_tensor",
    "check_vectors",
    "number_per_point",
]
