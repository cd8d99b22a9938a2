"""Any points as a model: a table that the metrics can ask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ternvae.baselines.arguments import as_sequences, check_ball, check_points
from ternvae.manifolds import PoincareBall
from ternvae.metrics.arguments import check_branch, check_space
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["PointTable"]

#: Distances that are held at a time while the nearest point is looked for: 64 MiB.
_DISTANCES_AT_ONCE = 2**23


class PointTable:
    """One given point for each sequence; satisfies :class:`ternvae.metrics.EmbeddingModel`.

    A point is decoded as the sequence of the nearest point of the table, of equally near ones that
    of the smallest index: exhaustive, N distances for each point.  So coverage is 1 unless points
    coincide.

    Args:
        ball: the ball of the points.
        points: (N, dim) float32 or float64, row i that of index i; held, not copied.
        space: the space of N sequences.
        decode: called with the points (batch, dim) instead, for sequences (batch, n).

    Raises:
        TypeError: ``ball`` or ``space`` is none, ``points`` are no tensor of float32 or float64, or
            ``decode`` cannot be called.
        ValueError: ``points`` are not N, or a row is not finite or outside the ball.
    """

    def __init__(
        self,
        ball: PoincareBall,
        points: Tensor,
        space: TernarySpace,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.ball = check_ball(ball)
        check_space(space)
        self.space = space
        dim = points.shape[1] if isinstance(points, Tensor) and points.ndim == 2 else 0
        if isinstance(points, Tensor) and (dim == 0 or len(points) != space.size):
            raise ValueError(
                f"points: got shape {tuple(points.shape)}, expected ({space.size}, dim), a row for "
                f"each sequence of n_digits={space.n_digits}"
            )
        check_points(ball, points, dim)
        self.points = points.detach()
        if decode is not None and not callable(decode):
            raise TypeError(
                f"decode: expected something to call or None, got {type(decode).__name__}: "
                f"{decode!r}"
            )
        self._decode = decode

    def embed(self, sequences_or_indices: WholeNumbers, branch: str = "B") -> Tensor:
        """The points of sequences, by definition the rows of the table.

        Args:
            sequences_or_indices: (batch,) indices or (batch, n) sequences in {-1, 0, 1}.
            branch: "A" or "B", which are the same.

        Returns:
            (batch, dim), of the dtype of the table and on its device.

        Raises:
            ValueError: a value outside the space, another shape or an unknown branch.
        """
        check_branch(branch)
        rows = self.space.indices(as_sequences(self.space, sequences_or_indices))
        return self.points[rows.to(self.points.device)]

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        """The sequences of the nearest points, by definition, or what ``decode`` says instead.

        Args:
            points: (batch, dim) points of the ball.
            branch: "A" or "B", which are the same.

        Returns:
            (batch, n) int64 in {-1, 0, 1}.

        Raises:
            TypeError: no tensor of float32 or float64.
            ValueError: another shape, a row that is no point of the ball, or an unknown branch.
        """
        check_branch(branch)
        wanted = check_points(self.ball, points, self.points.shape[1])
        if self._decode is not None:
            return self._decode(points)
        return self.space.sequences(self._nearest(wanted))

    @torch.no_grad()
    def _nearest(self, wanted: Tensor) -> Tensor:
        """Rows of the nearest points, (batch,) int64.

        For one x, the distance grows with c|x - y|^2 / (1 - c|y|^2), as its sinh shows
        (:func:`ternvae.manifolds.math.dist`).
        """
        table = self.points.double()
        roots = (1.0 - self.ball.c * table.square().sum(-1)).rsqrt()
        size = max(1, _DISTANCES_AT_ONCE // len(table))
        found = []
        for part in torch.split(wanted, size):
            # Differences pair by pair: a matrix product would cancel between near points.
            gaps = torch.cdist(part, table, compute_mode="donot_use_mm_for_euclid_dist")
            found.append(gaps.mul_(roots).argmin(-1))
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)
