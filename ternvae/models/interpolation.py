"""Geodesics between the points of sequences, and what is decoded along them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ternvae.models.arguments import check_branch, count
from ternvae.models.given import check_model
from ternvae.models.vae import TernaryVAE
from ternvae.padic.arguments import WholeNumbers

__all__ = ["Interpolation", "interpolate"]


class Interpolation(NamedTuple):
    """Paths through the ball, in equal steps of hyperbolic length; held check-free.

    Attributes:
        points: (pairs, steps, latent_dim) points of the ball, from the first end to the second.
        sequences: (pairs, steps, n_digits) what is decoded there, in {-1, 0, 1}.
    """

    points: Tensor
    sequences: Tensor


@torch.no_grad()
def interpolate(
    model: TernaryVAE,
    first: WholeNumbers,
    second: WholeNumbers,
    steps: int = 33,
    branch: str = "B",
) -> Interpolation:
    """Walk the geodesics between the points of sequences, and decode each point.

    Args:
        model: the model.
        first: (pairs,) indices or (pairs, n_digits) sequences, where the paths begin.
        second: as many, (pairs,) or (pairs, n_digits), where they end.
        steps: points of a path, both ends included; at least 2.
        branch: "A" or "B".

    Returns:
        Points and sequences along the paths.

    Raises:
        TypeError: ``model`` is not a :class:`TernaryVAE`.
        ValueError: values outside the space, unequal numbers of ends, fewer than 2 steps or an
            unknown branch.
    """
    check_model(model)
    check_branch(branch)
    steps = count("steps", steps, 2)
    start, end = (model.embed(each, branch) for each in (first, second))
    if len(start) != len(end):
        raise ValueError(
            f"first, second: got {len(start)} and {len(end)} sequences, expected as many ends as "
            "beginnings"
        )
    times = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)
    points = model.ball.geodesic(times.view(-1, 1), start.unsqueeze(1), end.unsqueeze(1))
    points[:, 0], points[:, -1] = start, end
    decoded = model.decode(points.flatten(0, 1), branch)
    return Interpolation(points, decoded.view(len(start), steps, -1))
