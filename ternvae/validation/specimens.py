"""Models, batches and steps of training for the checks to look at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ternvae import losses, manifolds, models, padic

__all__ = [
    "BRANCHES",
    "Batch",
    "batch_of",
    "fresh_model",
    "objective",
    "order_of_distances",
    "random_points",
    "train",
]

BRANCHES = ("A", "B")

_ROWS_PER_LEVEL = 16

#: Wanted variance of the radius within a level, of the order that the shipped profiles ask for.
_RICHNESS_FLOOR = 0.006


class Batch(NamedTuple):
    """Rows of every level.

    Attributes:
        sequences: (batch, n_digits) in {-1, 0, 1}.
        valuation: (batch,) in 0..n_digits.
        between: (batch / 2,) valuation of the difference of each row of the first half and its
            counterpart in the second.
    """

    sequences: Tensor
    valuation: Tensor
    between: Tensor


def fresh_model(device: torch.device, n_digits: int = 9) -> models.TernaryVAE:
    """An untrained model, drawn from torch's global random state."""
    return models.TernaryVAE(n_digits=n_digits).to(device)


def batch_of(space: padic.TernarySpace, device: torch.device) -> Batch:
    """The same number of rows from each level in each half, drawn with a seed."""
    levels = torch.arange(space.n_digits + 1).repeat(_ROWS_PER_LEVEL)
    generator = torch.Generator().manual_seed(1)
    indices = padic.indices_at_valuation(levels, n_digits=space.n_digits, generator=generator)
    first, second = indices.chunk(2)
    between = space.valuation((first - second).abs())
    return Batch(space.sequences(indices).to(device), levels.to(device), between.to(device))


def objective(model: models.TernaryVAE, batch: Batch, branches: tuple[str, ...]) -> Tensor:
    """Sum of all terms of the loss, with unit weights; scalar."""
    total = torch.zeros((), device=batch.sequences.device)
    for branch in branches:
        out = model(batch.sequences, batch.valuation, branch)
        total = total + losses.reconstruction_loss(out.logits, batch.sequences)
        total = total + losses.kl_loss(out.posterior_log_prob, out.prior_log_prob)
        if branch == "B":
            terms = losses.geometry_losses(
                out.radius,
                batch.valuation,
                n_digits=model.space.n_digits,
                radius_max=model.ball.hyperbolic_radius_max,
                richness_floor=_RICHNESS_FLOOR,
            )
            total = total + sum(terms) + order_of_distances(model, batch, out.points)
    return total


def order_of_distances(model: models.TernaryVAE, batch: Batch, points: Tensor) -> Tensor:
    """The ultrametric term of the pairs of a batch; scalar."""
    distance = model.ball.dist(*points.chunk(2))
    return losses.ultrametric_loss(distance, batch.between, model.thresholds, c=model.ball.c)


def train(
    model: models.TernaryVAE,
    batch: Batch,
    *,
    steps: int,
    branches: tuple[str, ...] = BRANCHES,
    lr: float = 1e-3,
) -> manifolds.RiemannianAdam:
    """Move what may move by a few steps; returns the optimizer as it stands afterwards."""
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = manifolds.RiemannianAdam(moving, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model, batch, branches).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return optimizer


def random_points(norms: Tensor, dim: int, seed: int) -> Tensor:
    """(len(norms), dim) float64 vectors of the given norms in directions drawn with the seed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(norms), dim, dtype=torch.float64, generator=generator)
    unit: Tensor = x / x.norm(dim=-1, keepdim=True)
    return unit * norms.double().unsqueeze(-1)
