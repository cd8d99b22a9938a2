"""The gradient of the objective without a graph, on CPUs.

For so small a model, building the graph of a step and walking back through it takes longer than the
arithmetic.  The objective has one shape, so the walk is written down here: the branches forward,
the terms, the branches backward.  Values and gradients are those of
:func:`ternvae.training.objective.loss_terms` and autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ternvae.losses import SEPARATION_MARGIN
from ternvae.losses.levels import LevelRows
from ternvae.losses.ultrametric import add_gradient, can_add_gradient
from ternvae.manifolds.latent import radius_at
from ternvae.models import TernaryVAE
from ternvae.models.branch import BranchCall
from ternvae.training.batches import Batch

__all__ = ["accumulate"]


def accumulate(
    model: TernaryVAE,
    batch: Batch,
    *,
    branches: Sequence[str],
    richness_floor: float,
    noise: Tensor,
    weights: Sequence[float],
    share: float,
    total: Callable[[Tensor], Tensor] | None = None,
) -> list[float] | None:
    """Add the gradient of a batch to those of the parameters.

    Args:
        model: the model; what learns of it has a ``grad``.
        batch: the rows of this process.
        branches: see :func:`ternvae.training.objective.loss_terms`.
        richness_floor: likewise.
        noise: likewise.
        weights: of the terms, in the order of ``TERMS``.
        share: what the gradient is multiplied by.
        total: see :func:`ternvae.training.objective.loss_terms`.

    Returns:
        The terms in their order, or None if the graph is needed; then nothing has been changed.
    """
    calls = _prepared(model, batch, branches, noise)
    if calls is None:
        return None
    outputs = {branch: call.forward(keep=True) for branch, call in calls.items()}
    sums = torch.stack(
        [part.sum() for o in outputs.values() for part in (o.nll, o.posterior_log_prob)]
        + [o.prior_log_prob.sum() for o in outputs.values()]
    )
    g_points, pairs = _of_pairs(model, batch, outputs["B"].points, weights[-2] * share)
    sums = torch.cat([sums, torch.tensor([pairs], dtype=sums.dtype)])
    shared: list[Tensor] = [sums]

    def together(levels: Tensor) -> Tensor:
        """The sums over the levels and those over the rows, in one message."""
        assert total is not None  # noqa: S101 - called only then
        everything = total(torch.cat([levels.flatten(), sums.double()]))
        shared[0] = everything[levels.numel() :]
        return everything[: levels.numel()].view_as(levels)

    rows = LevelRows(
        outputs["B"].radius,
        batch.levels,
        n_digits=model.space.n_digits,
        radius_max=radius_at(model.ball, 1.0),
        richness_floor=richness_floor,
        margin=SEPARATION_MARGIN,
        total=None if total is None else together,
    )
    geometry = rows.terms()
    *of_rows, of_pairs = shared[0].tolist()
    coverage, divergence = _of_rows(of_rows, len(outputs), batch.total)
    _backward(model, batch, calls, rows, g_points, [weight * share for weight in weights])
    return [coverage, *geometry, of_pairs / max(batch.total_pairs, 1), divergence]


def _of_pairs(
    model: TernaryVAE, batch: Batch, points: Tensor, weight: float
) -> tuple[Tensor | None, float]:
    """The gradient of the ultrametric loss to the points, and its sum over the pairs."""
    if not len(batch.between):
        return None, 0.0
    to_points, to_thresholds = torch.zeros_like(points), model.thresholds.grad
    assert to_thresholds is not None  # noqa: S101 - _prepared has seen it
    pairs = add_gradient(
        points,
        batch.between,
        model.thresholds,
        c=float(model.ball._c),
        weight=weight / batch.total_pairs,
        to_points=to_points,
        to_thresholds=to_thresholds,
    )
    return to_points, pairs


def _prepared(
    model: TernaryVAE, batch: Batch, branches: Sequence[str], noise: Tensor
) -> dict[str, BranchCall] | None:
    if model.point_dtype is not torch.float32:
        return None
    prototypes, grad = model.prototypes, model.prototypes.grad
    watched = prototypes._backward_hooks or prototypes._post_accumulate_grad_hooks
    if grad is None or watched or not LevelRows.fit(prototypes):
        return None
    thresholds = model.thresholds
    listened = thresholds._backward_hooks or thresholds._post_accumulate_grad_hooks
    if thresholds.grad is None or listened or not can_add_gradient(prototypes):
        return None
    if not (prototypes.is_contiguous() and grad.is_contiguous() and batch.levels.is_contiguous()):
        return None
    calls: dict[str, BranchCall] = {}
    for branch, draw in zip(branches, noise.unbind(), strict=True):
        centre = LevelRows.take(prototypes, batch.levels) if branch == "B" else None
        call = model.branch_call(batch.sequences, branch, draw, centre)
        if call is None or not all(layer.can_accumulate() for layer in call.layers):
            return None
        calls[branch] = call
    return calls


def _of_rows(sums: list[float], branches: int, rows: int) -> tuple[float, float]:
    """Mean errors and divergences, from the sums in the order of :func:`accumulate`."""
    errors, posterior, prior = (
        sums[0 : 2 * branches : 2],
        sums[1 : 2 * branches : 2],
        sums[2 * branches :],
    )
    return sum(errors) / rows, (sum(posterior) - sum(prior)) / rows


def _backward(
    model: TernaryVAE,
    batch: Batch,
    calls: dict[str, BranchCall],
    rows: LevelRows,
    g_points: Tensor | None,
    weights: Sequence[float],
) -> None:
    """Add the gradients of the weighted sum of the terms; those of the points are given."""
    coverage, hierarchy, richness, separation, _, kl = weights
    n = len(batch.levels)
    g_nll = torch.full((n,), coverage / batch.total)
    g_posterior = torch.full((n,), kl / batch.total)
    g_prior = -g_posterior
    for branch, call in calls.items():
        g_radius = rows.gradient(hierarchy, richness, separation) if branch == "B" else None
        of_points = g_points if branch == "B" else None
        g_centre, _ = call.backward((of_points, g_radius, None, g_nll, g_posterior, g_prior))
        grad = model.prototypes.grad
        if g_centre is not None and grad is not None:
            LevelRows.give(g_centre, batch.levels, grad)
