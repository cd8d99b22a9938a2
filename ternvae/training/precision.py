"""How far a model's rounding carries: the model against itself in float64."""

from __future__ import annotations

import copy

import torch

from ternvae.metrics import Evaluator
from ternvae.models import TernaryVAE

__all__ = ["precision_figures"]


@torch.no_grad()
def precision_figures(model: TernaryVAE, evaluator: Evaluator) -> dict[str, float]:
    """The largest differences between a model and the same weights in float64.

    Over all rows that the evaluator measures, chunk by chunk.

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
    largest = torch.zeros(3, dtype=torch.float64, device=model.prototypes.device)
    for rows in evaluator.chunks():
        points, reference = model.embed(rows, "B").double(), exact.embed(rows, "B")
        of_chunk = (
            (ball.dist0(points) - ball.dist0(reference)).abs(),
            ball.dist(points, reference),
            torch.linalg.vector_norm(points, dim=-1),
        )
        # The maximum of two tensors lets a NaN through, as that of one does.
        largest = torch.maximum(largest, torch.stack([figure.max() for figure in of_chunk]))
    radius_error, point_error, norm = largest.tolist()
    return {
        "radius_error": radius_error,
        "point_error": point_error,
        "rim_gap": float(1 - ball.c.sqrt() * norm),
    }
