"""What is minimised, one function per term and one that computes the geometric terms together.

Functions take plain tensors: radii are hyperbolic distances from the origin (units of the metric),
valuations arrive as an argument.  Nothing here knows a profile, a space or a model.

Shells.  For n digits the radii up to ``radius_max`` are cut into n + 1 shells of equal width
s = radius_max / (n + 1); level v belongs to shell n - v, whose centre is (n - v + 1/2) s.  Equal
spacing is what the best ``dist_corr`` needs: with centres s apart and spreads below s / 2, every
radius gap between levels k + 1 apart exceeds every gap between levels k apart.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "GeometryLosses",
    "geometry_losses",
    "hierarchy_loss",
    "kl_loss",
    "level_membership",
    "reconstruction_loss",
    "richness_loss",
    "separation_loss",
    "shell_offset",
]

#: Part of a shell's width, at each face, that separation keeps empty between levels.
SEPARATION_MARGIN = 0.1

#: Part of the wanted variance that every single level must have; see :func:`richness_loss`.
LEAST_LEVEL_SHARE = 0.5


def reconstruction_loss(logits: Tensor, sequences: Tensor) -> Tensor:
    """Coverage term: mean negative log-likelihood of a sequence, in nats.

    Args:
        logits: (batch, n, 3) unnormalised log-probabilities of the digits -1, 0, 1.
        sequences: (batch, n) integers in {-1, 0, 1}.

    Returns:
        Scalar; the sum over digits, averaged over the batch.
    """
    batch = logits.shape[0]
    return F.cross_entropy(logits.flatten(0, 1), (sequences + 1).flatten(), reduction="sum") / batch


def kl_loss(posterior_log_prob: Tensor, prior_log_prob: Tensor) -> Tensor:
    """One-sample estimate of KL(posterior || prior) in nats, averaged over the batch.

    Args:
        posterior_log_prob: (batch,) log q(z | x) at a sample z of q.
        prior_log_prob: (batch,) log p(z) at the same sample.

    Returns:
        Scalar; unbiased for the divergence, so single values may be negative.
    """
    return (posterior_log_prob - prior_log_prob).mean()


def shell_offset(
    radius: Tensor, valuation: Tensor, *, n_digits: int, radius_max: Tensor | float
) -> Tensor:
    """Signed distance of each radius from the centre of its level's shell, in shell widths.

    Args:
        radius: (batch,) hyperbolic radii.
        valuation: (batch,) integers in 0..n_digits.
        n_digits: number of ternary digits n.
        radius_max: hyperbolic radius of the region in use, same units as ``radius``.

    Returns:
        (batch,) offsets; within +-1/2 a point is inside its own shell.
    """
    return radius * ((n_digits + 1) / radius_max) - (n_digits + 0.5 - valuation.to(radius.dtype))


def level_membership(valuation: Tensor, n_digits: int, dtype: torch.dtype) -> Tensor:
    """Indicator matrix (batch, n + 1): which level each row belongs to.

    Sums over levels are products with this matrix: no loop, and the order of summation is fixed on
    every device, which atomic scatter-adds do not give.
    """
    levels = torch.arange(n_digits + 1, device=valuation.device)
    return (valuation.unsqueeze(-1) == levels).to(dtype)


def _level_means(values: Tensor, membership: Tensor) -> Tensor:
    """Mean of the values within each level, (n + 1,); 0 for a level without a row."""
    return values @ membership / membership.sum(0).clamp_min(1)


def hierarchy_loss(offset: Tensor, membership: Tensor) -> Tensor:
    """Order of the levels: mean squared offset from the shell centre, every level alike.

    Pointwise on purpose.  A loss on the level means alone lets the levels overlap.

    Args:
        offset: (batch,) from :func:`shell_offset`.
        membership: (batch, n + 1) from :func:`level_membership`.

    Returns:
        Scalar, in squared shell widths.
    """
    present = (membership.sum(0) > 0).sum()
    return _level_means(offset.square(), membership).sum() / present


def separation_loss(
    offset: Tensor, membership: Tensor, *, margin: float = SEPARATION_MARGIN
) -> Tensor:
    """Distinction of the levels: how far points reach into the margin of their shell.

    A hinge, zero exactly where neighbouring levels are at least ``2 * margin`` shell widths apart.
    A sum over the levels, not a mean: each border is a constraint of its own, and one that is
    violated must not count for less because there are many.

    Args:
        offset: (batch,) from :func:`shell_offset`.
        membership: (batch, n + 1) from :func:`level_membership`.
        margin: empty part at each face of a shell, in shell widths, in (0, 1/2).

    Returns:
        Scalar, the sum over levels of the mean reach within the level, in units of the margin.
    """
    reach = F.relu(offset.abs() - (0.5 - margin)) / margin
    return _level_means(reach, membership).sum()


def richness_loss(radius: Tensor, membership: Tensor, *, floor: float) -> Tensor:
    """Diversity inside the levels: shortfall of the variance of the radius against a floor.

    Two hinges.  The mean over levels, which is what richness measures, must reach the floor; and
    no single level may fall below ``LEAST_LEVEL_SHARE`` of it, so that none collapses.  Between the
    two, spread goes where it costs the order of the levels least.

    Args:
        radius: (batch,) hyperbolic radii.
        membership: (batch, n + 1) from :func:`level_membership`.
        floor: wanted richness, the mean over all n + 1 levels of the variance within the level.
            The deepest level has one point and no variance, so the others aim at
            ``floor * (n + 1) / n``.  0 switches the term off.

    Returns:
        Scalar in [0, 2]: relative shortfall of the mean, plus the mean relative shortfall of the
        single levels, over the levels with two rows or more.
    """
    if floor == 0:
        return radius.new_zeros(())
    levels = membership.shape[-1]
    wanted = floor * levels / (levels - 1)
    count = membership.sum(0)
    mean = radius @ membership / count.clamp_min(1)
    variance = (radius - membership @ mean).square() @ membership / count.clamp_min(1)
    plural = (count > 1).to(radius.dtype)
    plural[-1] = 0
    plural = plural / plural.sum().clamp_min(1)
    overall = F.relu(1 - (variance @ plural) / wanted)
    single = F.relu(1 - variance / (LEAST_LEVEL_SHARE * wanted)) @ plural
    return overall + single


class GeometryLosses(NamedTuple):
    """The three terms on radii, unweighted."""

    hierarchy: Tensor
    richness: Tensor
    separation: Tensor


def geometry_losses(
    radius: Tensor,
    valuation: Tensor,
    *,
    n_digits: int,
    radius_max: Tensor | float,
    richness_floor: float,
    margin: float = SEPARATION_MARGIN,
) -> GeometryLosses:
    """All terms on the radii of one batch, with their shared parts computed once.

    Args:
        radius: (batch,) hyperbolic radii, units of the metric.
        valuation: (batch,) integers in 0..n_digits.
        n_digits: number of ternary digits n.
        radius_max: hyperbolic radius of the region in use.
        richness_floor: see :func:`richness_loss`.
        margin: see :func:`separation_loss`.

    Returns:
        The unweighted terms.
    """
    offset = shell_offset(radius, valuation, n_digits=n_digits, radius_max=radius_max)
    membership = level_membership(valuation, n_digits, radius.dtype)
    return GeometryLosses(
        hierarchy=hierarchy_loss(offset, membership),
        richness=richness_loss(radius, membership, floor=richness_floor),
        separation=separation_loss(offset, membership, margin=margin),
    )
