"""The terms on radii on a CPU: a pass over the batch and a few numbers per level.

The extension ``_levels`` computes what the formulas of :mod:`ternvae.losses` say, and its
derivative, which as torch operations take a hundred calls.  It is optional (see ``setup.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ternvae.first_order import first_order

try:
    from ternvae.losses import _levels  # type: ignore[attr-defined]
except ImportError:  # installed without a C compiler
    _levels = None

__all__ = ["GeometryFunction", "LevelRows"]


class GeometryFunction(torch.autograd.Function):
    """The three terms of a batch as one node of the graph, on CPUs; see ``_levels.c``."""

    @staticmethod
    def forward(ctx: Any, rows: LevelRows, radius: Tensor) -> tuple[Tensor, ...]:
        """Hierarchy, richness, separation."""
        ctx.rows = rows
        ctx.save_for_backward(radius)
        return tuple(torch.tensor(term, dtype=radius.dtype) for term in rows.terms())

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """The gradient of the radii."""
        _ = ctx.saved_tensors
        return None, ctx.rows.gradient(*(g.item() for g in grads))


class LevelRows:
    """The radii of a batch on a CPU, for the extension; check-free.

    Args:
        radius: (batch,) float32.
        valuation: (batch,) int64.
        n_digits: number of ternary digits n.
        radius_max: hyperbolic radius of the region in use.
        richness_floor: see :func:`richness_loss`.
        margin: see :func:`separation_loss`.
        total: see :func:`geometry_losses`.
    """

    def __init__(
        self,
        radius: Tensor,
        valuation: Tensor,
        *,
        n_digits: int,
        radius_max: float,
        richness_floor: float,
        margin: float,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._radius, self._valuation = radius.detach().contiguous(), valuation.contiguous()
        self._n_digits, self._margin = n_digits, margin
        self._per_width = (n_digits + 1) / radius_max
        self._scale = richness_floor and 1 / (self._per_width**2 * richness_floor)
        self._total = total
        self._found = torch.empty(3 + 4 * (n_digits + 1), dtype=torch.float64)

    @staticmethod
    def fit(radius: Tensor, *others: object) -> bool:
        """Whether the extension is there and can read a batch and its constants."""
        plain = type(radius).__torch_dispatch__ is Tensor.__torch_dispatch__
        return (
            _levels is not None
            and radius.is_cpu
            and radius.dtype is torch.float32
            and plain
            and not any(isinstance(each, Tensor) for each in others)
            and not torch.compiler.is_compiling()
            and not torch._C._are_functorch_transforms_active()
        )

    def terms(self) -> list[float]:
        """Hierarchy, richness, separation."""
        sums = torch.empty((self._n_digits + 1, 4), dtype=torch.float64)
        _levels.sums(*self._common(), sums.data_ptr())
        if self._total is not None:
            sums = self._total(sums).contiguous()
        _levels.terms(
            sums.data_ptr(), self._n_digits, self._margin, self._scale, self._found.data_ptr()
        )
        return self._found[:3].tolist()

    def gradient(self, hierarchy: float, richness: float, separation: float) -> Tensor:
        """That of the radii, (batch,), given those of the terms."""
        out = torch.empty_like(self._radius)
        place = self._found.data_ptr()
        _levels.gradient(*self._common(), place, hierarchy, richness, separation, out.data_ptr())
        return out

    @staticmethod
    def take(table: Tensor, valuation: Tensor) -> Tensor:
        """The row of a table (n + 1, width) for the valuation of each row: (batch, width).

        Valuations are in 0..n: they are not looked at.
        """
        n, width = len(valuation), table.shape[1]
        out = torch.empty((n, width))
        _levels.take(n, width, valuation.data_ptr(), table.data_ptr(), out.data_ptr())
        return out

    @staticmethod
    def give(rows: Tensor, valuation: Tensor, table: Tensor) -> None:
        """Add each row (batch, width) to the row of a table (n + 1, width) for its valuation."""
        n, width = rows.shape
        _levels.give(n, width, valuation.data_ptr(), rows.data_ptr(), table.data_ptr())

    def _common(self) -> tuple[Any, ...]:
        return (
            len(self._radius),
            self._radius.data_ptr(),
            self._valuation.data_ptr(),
            self._per_width,
            self._n_digits,
            self._margin,
        )
