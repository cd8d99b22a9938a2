"""Going through the rows of a space with a model: radii, right answers, points, chunk by chunk.

What a model is asked at a time is bounded in rows and in coordinates, so that memory beyond one
number per row does not grow with the space, whatever the dimension of the ball is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae.metrics.arguments import check_points
from ternvae.metrics.results import EmbeddingModel
from ternvae.metrics.rows import Rows

__all__ = ["KEPT_BYTES", "ROWS_PER_CHUNK", "Found", "Surveyor", "rows_at_a_time"]

#: Most rows, and most coordinates, of one chunk.  Fewer rows spend the time on calls, more leave
#: the cache; see benchmarks.
ROWS_PER_CHUNK = 2**14
_COORDINATES_PER_CHUNK = 2**18
_FEWEST_ROWS = 256

#: Points of the whole space are kept if they take at most this much; else only what is compared is
#: embedded, once more.
KEPT_BYTES = 2**28


def rows_at_a_time(latent_dim: int) -> int:
    """Rows of a chunk of points of this dimension."""
    return min(ROWS_PER_CHUNK, max(_FEWEST_ROWS, _COORDINATES_PER_CHUNK // max(latent_dim, 1)))


@dataclass(frozen=True)
class Found:
    """What the rows came to.

    Attributes:
        radius: (rows,) float64, hyperbolic distances from the origin.
        right: (rows,) whether every digit was decoded right; None if nothing was decoded.
        points: (rows, latent_dim) in the model's dtype and on its device; None if not kept.
    """

    radius: NDArray[np.float64]
    right: NDArray[np.bool_] | None
    points: Tensor | None


class Surveyor:
    """Asks models for the rows of a space, alone or as one of several processes.

    Args:
        rows: which rows.
        kept_bytes: largest size of points that are kept.
        share: (rank, world): with more than one process, each takes every world-th chunk of what is
            too large to keep; what can be kept, every process computes by itself.
        add: adds a tensor over all processes; called by each with the same shapes in the same
            order.  None for a process alone.
        progress: told, after each chunk, how many sequences have been embedded in it.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        kept_bytes: int = KEPT_BYTES,
        share: tuple[int, int] = (0, 1),
        add: Callable[[Tensor], Tensor] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.rows = rows
        self._kept_bytes = kept_bytes
        self._rank, self._world = share
        self._add = add
        self._progress = progress

    def points(self, model: EmbeddingModel, rows: Tensor, branch: str) -> Tensor:
        """The points of some rows as the model gives them, (rows, latent_dim).

        Raises:
            ValueError: they are no points.
        """
        return check_points(model.embed(rows, branch), len(rows))

    def survey(
        self, model: EmbeddingModel, branch: str, *, decode: bool = True, keep: bool = False
    ) -> Found:
        """Embed every row once; ``keep`` its points where they fit.

        Raises:
            ValueError: the model is of another space, or its answers have other shapes or dtypes.
        """
        total = self.rows.total
        probe = self.points(model, self.rows.chunk(0, 1), branch)
        latent_dim, device = probe.shape[1], probe.device
        fits = not self.rows.sampled and probe[0].nbytes * total <= self._kept_bytes
        points = probe.new_empty(total, latent_dim) if keep and fits else None
        radius = torch.zeros(total, dtype=torch.float64, device=device)
        right = torch.zeros(total if decode else 0, dtype=torch.uint8, device=device)
        size = rows_at_a_time(latent_dim)
        for start in self.dealt(range(0, total, size), everything=fits):
            part = slice(start, min(start + size, total))
            rows = self.rows.chunk(part.start, part.stop)
            found = self.points(model, rows, branch)
            radius[part] = model.ball.dist0(found.double())
            if decode:
                right[part] = self._right(model, found, rows, branch)
            if points is not None:
                points[part] = found
            self._told(len(rows))
        radius, right = (self.sum(column, everything=fits) for column in (radius, right))
        decoded = right.cpu().numpy().astype(np.bool_) if decode else None
        return Found(radius.cpu().numpy(), decoded, points)

    def _right(self, model: EmbeddingModel, points: Tensor, rows: Tensor, branch: str) -> Tensor:
        decoded = model.decode(points, branch)
        wanted = self.rows.space.sequences(rows).to(decoded.device)
        if decoded.shape != wanted.shape:
            raise ValueError(
                f"space: has n_digits={self.rows.space.n_digits}, but the model decodes "
                f"{decoded.shape[-1]} digits; pass the space that the model was made for"
            )
        return (decoded == wanted).all(-1)

    # --- the points of a sample -------------------------------------------------------------

    def lookup(
        self, model: EmbeddingModel, branch: str, points: Tensor | None
    ) -> Callable[[Tensor], Tensor]:
        """Rows to their points in float64: from those that were kept, or embedded again."""
        if points is not None:
            of_rows = self.rows.places
            return lambda rows: points.index_select(0, of_rows(rows).to(points.device)).double()

        def embedded(rows: Tensor) -> Tensor:
            found = self.points(model, rows, branch).double()
            self._told(len(rows))
            return found

        return embedded

    def dealt(self, starts: range, *, everything: bool) -> range:
        """The chunks that this process takes: each world-th, or ``everything``."""
        return starts if everything else starts[self._rank :: self._world]

    def sum(self, column: Tensor, *, everything: bool) -> Tensor:
        """The column of all processes, zero where another one has been, added up."""
        return column if everything or self._add is None else self._add(column)

    def _told(self, count: int) -> None:
        if self._progress is not None:
            self._progress(count)
