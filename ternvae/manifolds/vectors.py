"""The few operations on rows of coordinates that every formula of the ball is made of.

A formula sees its points as rows, (n, width), and computes with them only by a :class:`Metric`:
inner products by :meth:`Metric.measure`, one number per row, and linear combinations by
:meth:`Metric.combine`. In between it computes with numbers per row, (n, 1), in float64. Here these
are torch operations, which autograd, tracers and accelerators understand;
:mod:`ternvae.manifolds.programs` records the same calls and runs them as one loop on CPUs.
"""

import copy
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.numerics import Curvature, Limit


class Blend(NamedTuple):
    """The vector ``first + t second``; ``t`` is a number or an (n, 1) float64 tensor."""

    first: Tensor
    t: float | Tensor
    second: Tensor


Vector: TypeAlias = Tensor | Blend
"""Rows of coordinates, (n, width), float32 or float64."""


class Product(NamedTuple):
    """``offset + scale <p, q>``."""

    p: Vector
    q: Vector
    scale: float | Tensor
    offset: float


Term: TypeAlias = tuple[float | Tensor, Vector]
"""A number, or an (n, 1) float64 tensor, and the vector that it multiplies."""


class Metric:
    """The ball as a formula sees it.

    Attributes:
        c: curvature.
        limit: where the points that a formula produces must stay, or None.
        wants_c: whether the derivative with respect to ``c`` is wanted.
        dtype: the dtype of results.
    """

    def __init__(
        self, c: Curvature, limit: Limit | None, wants_c: bool, dtype: torch.dtype
    ) -> None:
        self.c = c
        self.limit = limit
        self.wants_c = wants_c
        self.dtype = dtype

    def wide(self) -> "Metric":
        """The same with float64 results, for what is not stored yet."""
        other = copy.copy(self)
        other.dtype = torch.float64
        return other

    def with_limit(self, limit: Limit | None) -> "Metric":
        """The same with another limit."""
        other = copy.copy(self)
        other.limit = limit
        return other

    @property
    def root_c(self) -> Curvature:
        """``sqrt(c)``."""
        return num.sqrt(self.c)

    def dot(self, x: Vector, y: Vector, times: float = 1.0) -> Product:
        """``times c <x, y>``, for :meth:`measure`."""
        return Product(x, y, times * self.c, 0.0)

    def gap(self, x: Vector) -> Product:
        """``1 - c |x|^2 = 2 / lambda_x``, for :meth:`measure`."""
        return Product(x, x, -self.c, 1.0)

    def measure(self, *products: Product) -> list[Tensor]:
        """The products of every row, each (n, 1) float64."""
        return [
            (_wide(p.p) * _wide(p.q)).sum(dim=-1, keepdim=True) * p.scale + p.offset
            for p in products
        ]

    def combine(self, *terms: Term) -> Tensor:
        """The sum of ``number * vector`` over ``terms``, (n, width) of :attr:`dtype`."""
        (number, v), *rest = terms
        total = number * _wide(v)
        for number, v in rest:
            total = total + number * _wide(v)
        return total.to(self.dtype)


def _wide(v: Vector) -> Tensor:
    return v.first.double() + v.t * v.second.double() if isinstance(v, Blend) else v.double()


__all__ = ["Blend", "Metric", "Product", "Term", "Vector"]
