"""From a batch to the terms of the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ternvae.losses import geometry_losses, ultrametric_loss
from ternvae.models import TernaryVAE, full_precision
from ternvae.training.batches import Batch

__all__ = ["TERMS", "loss_terms"]

#: The terms of the loss, in the order of the profile's weights.
TERMS = ("coverage", "hierarchy", "richness", "separation", "ultrametric", "kl")


def loss_terms(
    model: TernaryVAE,
    batch: Batch,
    *,
    branches: Sequence[str],
    richness_floor: float | Tensor,
    noise: Tensor | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The unweighted terms of one batch.

    Args:
        model: the model.
        batch: the rows of this process, on the model's device.
        branches: whose reconstruction and divergence count: "A", "B" or both.  B is among them.
        richness_floor: see :func:`ternvae.losses.geometry_losses`.
        noise: (branches, rows, latent_dim) standard normal draws; None takes them from torch's
            global random state.
        total: adds up a tensor over the processes that share the batch, and passes gradients as
            they are; None if this one has all of it.

    Returns:
        A scalar for each of :data:`TERMS`, of the whole batch.  If several processes share it, each
        has the gradient for its own rows.
    """
    n_digits = model.space.n_digits
    draws = [None] * len(branches) if noise is None else noise.unbind()
    outputs = {
        branch: model(batch.sequences, batch.levels, branch, draw)
        for branch, draw in zip(branches, draws, strict=True)
    }
    # Sums within the levels are matrix products, which autocast would take in bfloat16.
    with full_precision(outputs["B"].radius):
        errors = _sum([each.nll for each in outputs.values()])
        divergence = _sum([o.posterior_log_prob - o.prior_log_prob for o in outputs.values()])
        of_rows = [errors, divergence, _of_pairs(model, batch, outputs["B"].points)]
        shared: list[Tensor] = []

        def together(sums: Tensor) -> Tensor:
            """The sums over the levels and those over the rows, in one message."""
            assert total is not None  # noqa: S101 - called only then
            rows = torch.stack([each.detach() for each in of_rows]).to(sums.dtype)
            everything = total(torch.cat([sums.flatten(), rows]))
            shared.extend(everything[-3:].to(errors.dtype))
            return everything[:-3].view_as(sums)

        geometry = geometry_losses(
            outputs["B"].radius,
            batch.levels,
            n_digits=n_digits,
            radius_max=model.ball.hyperbolic_radius_max,
            richness_floor=richness_floor,
            total=None if total is None else together,
        )
        if shared:
            # The value is that of all rows, the gradient that of one's own.
            of_rows = [
                own + (whole - own.detach()) for own, whole in zip(of_rows, shared, strict=True)
            ]
    errors, divergence, pairs = of_rows
    return {
        "coverage": errors / batch.total,
        **geometry._asdict(),
        "ultrametric": pairs / max(batch.total_pairs, 1),
        "kl": divergence / batch.total,
    }


def _of_pairs(model: TernaryVAE, batch: Batch, points: Tensor) -> Tensor:
    """The sum of the ultrametric loss over the pairs of this process."""
    count = len(batch.between)
    distance = model.ball.dist(points[:count], points[len(points) - count :])
    mean = ultrametric_loss(distance, batch.between, model.thresholds, c=model.ball.c)
    return mean * count


def _sum(rows: Sequence[Tensor]) -> Tensor:
    return rows[0].sum() if len(rows) == 1 else torch.cat(list(rows)).sum()
