"""How a formula of the ball is evaluated on tensors of any shape, with its derivative by formula.

A *rule* (see :mod:`ternvae.manifolds.rules`) is a pair of functions on rows: ``forward`` gives the
value and a few numbers per row worth keeping, ``backward`` the vector-Jacobian product.
:func:`apply` brings tensors of any shape into rows, runs a rule on them, and makes the result part
of the autograd graph. What is kept for the backward pass are the inputs and those numbers.

``create_graph=True`` works: ``backward`` is then differentiated by autograd. ``torch.compile``
traces both functions; under ``torch.func`` transforms, autograd differentiates ``forward``.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ternvae.manifolds import programs
from ternvae.manifolds.arguments import broadcast_shape, check_limit, check_vectors
from ternvae.manifolds.numerics import Curvature, Limit
from ternvae.manifolds.vectors import Metric

Kept = tuple[Tensor, ...]
"""Numbers per row, (n, 1), float64, that ``forward`` leaves for ``backward``."""

Gradients = tuple[Any, ...]
"""Gradients of each of the rows, then that of c per row (None unless ``m.wants_c``)."""


Rule: TypeAlias = Any
"""A class with two static (or class) methods on rows, (n, width) tensors of equal n:

* ``forward(m, *rows) -> (value, kept)`` and
* ``backward(m, kept, grad, *rows) -> gradients``, where ``grad`` is the gradient of the value.
"""


class _RowFunction(torch.autograd.Function):
    """One rule as a node of the graph, for (..., width) inputs of equal batch dimensions."""

    @staticmethod
    def forward(
        ctx: Any,
        rule: Rule,
        limit: Limit | None,
        n_numbers: int,
        c: Curvature,
        *inputs: Tensor,
    ) -> Tensor:
        rows = _rows(inputs)
        dtype = _common_dtype(rows, n_numbers)
        kept: Kept
        ctx.as_program = programs.fits(rows)
        if ctx.as_program:
            out, together = programs.forward(rule, c, limit, dtype, rows, n_numbers)
            kept = (together,)
        else:
            out, kept = rule.forward(Metric(c, limit, False, dtype), *rows)
        ctx.rule, ctx.limit, ctx.c = rule, limit, c
        ctx.n_inputs, ctx.n_numbers = len(inputs), n_numbers
        tensors = (c,) if isinstance(c, Tensor) else ()
        ctx.save_for_backward(*inputs, *tensors, *kept)
        return out if inputs[0].ndim == 2 else out.view(*inputs[0].shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        saved = ctx.saved_tensors  # once: checkpointing allows no second access
        inputs, kept = saved[: ctx.n_inputs], saved[ctx.n_inputs :]
        c = ctx.c
        if isinstance(c, Tensor):
            c, *kept = kept
        rows = _rows(inputs)
        (grad,) = _rows(grads)
        wanted = ctx.needs_input_grad[3:]
        if ctx.as_program and not _looked_into(grads[0]):
            *found, grad_c = programs.backward(
                ctx.rule, c, ctx.limit, kept[0], grad, rows, ctx.n_numbers, wanted
            )
        else:
            m = Metric(c, ctx.limit, wanted[0], _common_dtype(rows, ctx.n_numbers))
            tracing = torch.compiler.is_compiling()
            if ctx.as_program or (torch.is_grad_enabled() and not tracing):
                # As tensors per row, and for second derivatives as functions of the inputs.
                kept = ctx.rule.forward(m, *rows)[1]
            *found, grad_c = ctx.rule.backward(m, tuple(kept), grad, *rows)
        if grad_c is not None:
            grad_c = grad_c.sum().to(c.device, c.dtype).reshape(c.shape)
        shaped = [
            None if g is None else g.to(t.dtype).view(t.shape)
            for g, t in zip(found, inputs, strict=True)
        ]
        return None, None, None, grad_c, *shaped


def _common_dtype(rows: Sequence[Tensor], n_numbers: int) -> torch.dtype:
    """The widest dtype of the vectors; numbers per point do not widen them."""
    dtype = rows[0].dtype
    for r in rows[1 : len(rows) - n_numbers]:
        dtype = torch.promote_types(dtype, r.dtype)
    return dtype


def _rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    rows = []
    for t in tensors:
        r = t if t.ndim == 2 else t.reshape(t.shape[:-1].numel(), t.shape[-1])
        rows.append(r if r.stride(1) == 1 or r.shape[1] == 1 else r.contiguous())
    return rows


def _transformed() -> bool:
    """Whether a ``torch.func`` transform is active: it needs operations that it can look into."""
    return bool(torch._C._are_functorch_transforms_active())


def _looked_into(grad: Tensor) -> bool:
    """Whether someone has to see the operations of a backward pass, or hides the memory of grad."""
    if torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() or _transformed():  # second derivatives; vmap of autograd.grad
        return True
    return bool(torch._C._functorch.is_legacy_batchedtensor(grad))  # is_grads_batched


def apply(
    rule: Rule,
    *inputs: Tensor,
    c: Curvature,
    dim: int,
    limit: Limit | None = None,
    per_point: int = 0,
) -> Tensor:
    """Evaluate ``rule`` on tensors that broadcast against each other.

    Args:
        rule: the formula.
        inputs: vectors with coordinates along ``dim``, of one width; float32 or float64.
        c: curvature.
        dim: the coordinate dimension.
        limit: see :class:`Metric`.
        per_point: that many of the last inputs have size 1 along ``dim``: one number per point.

    Returns:
        The value with ``dim`` kept (size 1 where the value is one number per point), in the widest
        dtype of the vectors.

    Raises:
        TypeError: an input is not a tensor of float32 or float64, ``c`` is not a number, or
            ``dim`` not an integer.
        ValueError: widths, batch dimensions or devices do not fit, ``dim`` is no dimension, or
            ``c``, given as a Python number, is not positive and finite.
    """
    check_vectors(inputs, c, dim, per_point)
    if limit is not None:
        check_limit(limit)
    if isinstance(c, Tensor) and c.dtype != torch.float64:
        c = c.double()
    last = dim in (-1, inputs[0].ndim - 1)
    if not last:
        inputs = tuple(t.movedim(dim, -1) for t in inputs)
    if len(inputs) > 1:
        inputs = _broadcast(inputs, per_point)
        if torch.compiler.is_compiling():
            # Dynamo refuses the same tensor twice.
            inputs = tuple(
                t.view_as(t) if any(t is s for s in inputs[:k]) else t for k, t in enumerate(inputs)
            )
    if _transformed():
        rows = _rows(inputs)
        out = rule.forward(Metric(c, limit, False, _common_dtype(rows, per_point)), *rows)[0]
        out = out.view(*inputs[0].shape[:-1], out.shape[-1])
    else:
        out = _RowFunction.apply(rule, limit, per_point, c, *inputs)  # type: ignore[no-untyped-call]
    result: Tensor = out if last else out.movedim(-1, dim)
    return result


def _broadcast(inputs: tuple[Tensor, ...], per_point: int) -> tuple[Tensor, ...]:
    vectors = inputs[: len(inputs) - per_point]
    if per_point == 0 and all(t.shape == vectors[0].shape for t in vectors):
        return inputs
    shape = broadcast_shape(*(t.shape for t in inputs))
    numbers = inputs[len(vectors) :]
    return (
        *(t.expand(shape) for t in vectors),
        *(t.expand(*shape[:-1], 1) for t in numbers),
    )


__all__ = ["Gradients", "Kept", "Metric", "Rule", "apply"]
