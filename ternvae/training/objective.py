"""From a batch of indices to the terms of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ternvae.losses import geometry_losses, kl_loss, reconstruction_loss
from ternvae.models import TernaryVAE, full_precision
from ternvae.padic import digits_of, valuation

__all__ = ["TERMS", "loss_terms", "weighted_sum"]

#: The terms of the loss, in the order of the profile's weights.
TERMS = ("coverage", "hierarchy", "richness", "separation", "kl")


def loss_terms(
    model: TernaryVAE, indices: Tensor, *, branches: Sequence[str], richness_floor: float
) -> dict[str, Tensor]:
    """The unweighted terms of one batch.

    Args:
        model: the model.
        indices: (batch,) indices of sequences, on the model's device.
        branches: whose reconstruction and divergence count: "A", "B" or both.  B is among them.
        richness_floor: see :func:`ternvae.losses.richness_loss`.

    Returns:
        A scalar for each of :data:`TERMS`.
    """
    n_digits = model.space.n_digits
    sequences = digits_of(indices, n_digits=n_digits) - 1
    levels = valuation(indices, cap=n_digits)
    outputs = {branch: model(sequences, levels, branch) for branch in branches}
    # Means within the levels are matrix products, which autocast would take in bfloat16.
    with full_precision(outputs["B"].radius):
        geometry = geometry_losses(
            outputs["B"].radius,
            levels,
            n_digits=n_digits,
            radius_max=model.ball.hyperbolic_radius_max,
            richness_floor=richness_floor,
        )
        losses = [reconstruction_loss(o.logits, sequences) for o in outputs.values()]
        divergences = [kl_loss(o.posterior_log_prob, o.prior_log_prob) for o in outputs.values()]
    return {
        "coverage": torch.stack(losses).sum(),
        **geometry._asdict(),
        "kl": torch.stack(divergences).sum(),
    }


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The loss: each term times its weight, summed in the order of :data:`TERMS`."""
    return torch.stack([weights[name] * terms[name] for name in TERMS]).sum()
