"""How far a model's rounding carries: the model against itself in float64."""

from __future__ import annotations

import copy

import torch

from ternvae.metrics import Evaluator
from ternvae.models import TernaryVAE

__all__ = ["precision_figures"]


@torch.no_grad()
def precision_figures(model: TernaryVAE, evaluator: Evaluator) -> dict[str, float]:
    """The largest differences between a model and the same weights in float64, over the space.

    Args:
        model: the model, in any dtype.
        evaluator: of the model's space.

    Returns:
        ``radius_error`` and ``point_error``, the largest differences in hyperbolic radius and in
        position (hyperbolic distance) of branch B, in units of the metric; and ``rim_gap``, how far
        the outermost point stays inside the open ball: 1 - sqrt(c) * its norm.
    """
    exact = copy.deepcopy(model).double()
    ball = exact.ball
    points, reference = evaluator.embed(model, "B"), evaluator.embed(exact, "B")
    norms = torch.linalg.vector_norm(points, dim=-1)
    return {
        "radius_error": float((ball.dist0(points) - ball.dist0(reference)).abs().max()),
        "point_error": float(ball.dist(points, reference).max()),
        "rim_gap": float(1 - ball.c.sqrt() * norms.max()),
    }
