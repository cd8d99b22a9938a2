"""Backward passes that have no derivative of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["first_order"]


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the backward pass of an autograd function refuse to be differentiated.

    ``once_differentiable`` alone refuses only where the incoming gradient has a graph; with
    ``create_graph=True`` it gives a constant otherwise, and what is made of that is wrong.
    """
    once: Callable[..., Any] = once_differentiable(backward)

    @functools.wraps(backward)
    def refusing(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():  # which is what create_graph=True asks for
            raise RuntimeError(
                "this operation has a first derivative only: create_graph=True is not supported; "
                "take second derivatives with torch.func"
            )
        return once(ctx, *grads)

    return refusing
