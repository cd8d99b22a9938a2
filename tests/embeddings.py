"""Hand-made embeddings with known scores, so that the metrics can be tested without training.

Each offers what a model offers to the metrics: ``ball``, ``embed(indices, branch)`` and
``decode(points, branch)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.padic import TernarySpace


class TableEmbedding:
    """One given point per index and branch; decoding finds the index by its point.

    Args:
        space: the space of sequences.
        points_b: (N, d) points of branch B, float64.
        points_a: (N, d) points of branch A, by default those of B.
        ball: the ball, by default of curvature -1.
        wrong_a: indices that branch A decodes with a wrong first digit.
        wrong_b: the same for branch B.
    """

    def __init__(
        self,
        space: TernarySpace,
        points_b: Tensor,
        points_a: Tensor | None = None,
        *,
        ball: PoincareBall | None = None,
        wrong_a: Sequence[int] = (),
        wrong_b: Sequence[int] = (),
    ) -> None:
        self.space = space
        self.ball = PoincareBall() if ball is None else ball
        self.points = {"A": points_b if points_a is None else points_a, "B": points_b}
        self.wrong = {"A": torch.tensor(wrong_a), "B": torch.tensor(wrong_b)}

    def embed(self, indices: Tensor, branch: str = "B") -> Tensor:
        return self.points[branch][indices]

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        found = self._lookup(points, branch)
        sequences = self.space.sequences(found)
        mistaken = torch.isin(found, self.wrong[branch])
        sequences[mistaken, 0] = (sequences[mistaken, 0] + 2) % 3 - 1
        return sequences

    def _lookup(self, points: Tensor, branch: str) -> Tensor:
        """The index whose point has the nearest key, a generic linear functional of the point."""
        table = self.points[branch]
        weight = torch.arange(1, table.shape[1] + 1, dtype=table.dtype).sqrt()
        keys, order = (table * weight).sum(-1).sort()
        wanted = (points * weight).sum(-1)
        above = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        below = (above - 1).clamp(min=0)
        nearest = torch.where((keys[above] - wanted) < (wanted - keys[below]), above, below)
        return order[nearest]


def valuations(space: TernarySpace) -> Tensor:
    """(N,) valuations, read off the digits: the number of leading entries that are -1."""
    leading = (space.sequences() == -1).cumprod(-1)
    return leading.sum(-1)


def closed_form(space: TernarySpace, *, rho: float = 0.62, scale: float = 1e-3) -> Tensor:
    """Points whose hyperbolic geometry is the 3-adic one, in 2 (n - 1) dimensions; n >= 2.

    u_i = sum over k of w_k e_k(digit_k), minus u_0, mapped by expmap0: e_k are the corners of an
    equilateral triangle in its own plane and w_k = rho**k.  The last two digits share a plane, and
    the last weight is w_(n-1) = 0.4 w_(n-2), so that it cannot undo the digit before it.  For rho
    below 1/sqrt(2) the radii then fall strictly with the valuation and every two points are nearer
    the larger the valuation of their difference.  Symmetric points have equal radii; a disturbance
    far below all gaps makes them differ.
    """
    n = space.n_digits
    weights = [rho**k for k in range(n - 1)] + [0.4 * rho ** (n - 2)]
    angle = 2 * math.pi / 3 * (space.sequences() + 1).double()
    corners = torch.stack([angle.cos(), angle.sin()], dim=-1)  # (N, n, 2)
    u = torch.zeros(space.size, n - 1, 2, dtype=torch.float64)
    for k, weight in enumerate(weights):
        u[:, min(k, n - 2)] += weight * corners[:, k]
    u = (u - u[0]).flatten(1)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(u.shape, dtype=u.dtype, generator=generator)
    return PoincareBall().expmap0(scale * (u + 1e-5 * weights[-1] * noise))


def shell_radii(space: TernarySpace, *, radius_max: float = 3.6, spread: float = 0.2) -> Tensor:
    """(N,) distinct radii in n + 1 equal shells, within ``spread`` widths of the centre.

    Below a spread of 1/4 every two radii with levels k + 1 apart differ by more than any two with
    levels k apart, so hierarchy and dist_corr are at their ceilings.
    """
    width = radius_max / (space.n_digits + 1)
    generator = torch.Generator().manual_seed(2)
    jitter = torch.rand(space.size, dtype=torch.float64, generator=generator) * 2 - 1
    return width * (space.n_digits - valuations(space) + 0.5 + spread * jitter)


def on_one_ray(radii: Tensor, dim: int = 2) -> Tensor:
    """(N, dim) points at the given hyperbolic radii, all in the same direction."""
    direction = torch.zeros(dim, dtype=radii.dtype)
    direction[0] = 1
    return PoincareBall().expmap0(direction * radii.unsqueeze(-1) / 2)


def at_random(space: TernarySpace, seed: int, *, dim: int = 16, c: float = 1.0) -> Tensor:
    """(N, dim) independent points that have nothing to do with their indices."""
    generator = torch.Generator().manual_seed(seed)
    tangent = torch.randn(space.size, dim, dtype=torch.float64, generator=generator)
    return PoincareBall(c).expmap0(0.5 * tangent / dim**0.5)
