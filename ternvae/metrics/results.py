"""What a measurement is asked of and what it gives: models, names, figures, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ternvae.ceilings import ceilings
from ternvae.padic import TernarySpace

__all__ = [
    "ERROR_PREFIX",
    "Ball",
    "CollapsedLevelsWarning",
    "EmbeddingModel",
    "Metrics",
    "RadialBall",
    "collapse_excess",
    "metric_names",
]

#: A hierarchy this far above its tie-free ceiling can only come from radii tied inside a level.
COLLAPSE_TOLERANCE = 1e-4

#: Before the name of a metric: its standard error, among the figures of a branch.
ERROR_PREFIX = "standard_error_of_"


class CollapsedLevelsWarning(UserWarning):
    """Radii are tied inside a level, so the hierarchy score exceeds what distinct radii allow."""


class Ball(Protocol):
    """What the measures of points need of a ball, and a ``PoincareBall`` has."""

    @property
    def c(self) -> Tensor | float:
        """The curvature parameter, c > 0; a number or a 0-dim tensor."""

    def dist(self, x: Tensor, y: Tensor, /) -> Tensor:
        """Hyperbolic distances, by definition of the ball's metric (docs/theory.md, section 2).

        Args:
            x: points, (..., d).
            y: points, (..., d).

        Returns:
            (...), in units of the metric.
        """


class RadialBall(Ball, Protocol):
    """What the metrics of a model need beyond that."""

    @property
    def hyperbolic_radius_max(self) -> Tensor | float:
        """Largest radius of a point, in units of the metric; a number or a 0-dim tensor."""

    def dist0(self, x: Tensor, /) -> Tensor:
        """Hyperbolic radii: distances from the origin (docs/theory.md, section 2).

        Args:
            x: points, (..., d).

        Returns:
            (...), in units of the metric.
        """


class EmbeddingModel(Protocol):
    """What :func:`evaluate` needs; any embedding with these three can be scored.

    What their answers are held against is defined in docs/metrics.md.

    Their answers are looked at where they are used: shapes and dtypes that do not fit raise
    ``ValueError``, points that are not finite or outside the ball score NaN and are told of by
    ``points_valid``.
    """

    @property
    def ball(self) -> RadialBall:
        """The Poincare ball that the points are in."""

    def embed(self, sequences_or_indices: Tensor, branch: str = "B") -> Tensor:
        """Return the points of sequences.

        Args:
            sequences_or_indices: (batch,) indices, int64, or (batch, n_digits) sequences.
            branch: "A" or "B".

        Returns:
            (batch, latent_dim) points of the ball, floating-point.
        """

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        """Return the sequences of points.

        Args:
            points: (batch, latent_dim) points of the ball.
            branch: "A" or "B".

        Returns:
            (batch, n_digits) sequences in {-1, 0, 1}.
        """


class Metrics(dict[str, float]):
    """Metric names to values, plus what was drawn for them.

    Holds what it is given, check-free.

    Args:
        values: the metrics by name.
        sampling: becomes the attribute.
        standard_errors: likewise; None means that all are exact.

    Attributes:
        sampling: which rows, pairs and triples were measured; see :class:`Evaluator`.
        standard_errors: of each metric that comes from a sample, for this model; those that are
            not named are exact.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        sampling: dict[str, Any],
        standard_errors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(values)
        self.sampling = sampling
        self.standard_errors = dict(standard_errors or {})


def metric_names(n_digits: int) -> tuple[str, ...]:
    """Names of all metrics for a space of ``n_digits`` digits, in the order of reports.

    Args:
        n_digits: number of ternary digits n, 1 to 20.

    Returns:
        The keys of what :func:`evaluate` returns.

    Raises:
        ValueError: ``n_digits`` is not an integer from 1 to 20.
    """
    n_digits = TernarySpace(n_digits).n_digits
    return (
        "coverage",
        "coverage_B",
        "hierarchy_A",
        "hierarchy_B",
        "richness",
        "dist_corr",
        "Q_enhanced",
        "ultrametric_corr",
        "triplet_accuracy",
        *(f"r_v{v}" for v in range(n_digits + 1)),
    )


def collapse_excess(hierarchy: float, n_digits: int) -> float:
    """How far ``hierarchy`` lies beyond its tie-free ceiling, or 0.0.

    The ceiling is that of docs/theory.md, theorem 1.  More than ``COLLAPSE_TOLERANCE`` means that
    radii are tied inside a level: the level has collapsed, which the rank correlation rewards and
    :func:`evaluate` warns about.

    Args:
        hierarchy: a rank correlation, in [-1, 1]; an undefined one, NaN, has no excess.
        n_digits: number of ternary digits n, 1 to 20.

    Returns:
        The excess, a difference of correlations; 0.0 up to the tolerance.

    Raises:
        TypeError: ``hierarchy`` is not a real number.
        ValueError: ``hierarchy`` is no correlation, or ``n_digits`` not an integer from 1 to 20.
    """
    if isinstance(hierarchy, bool) or not isinstance(hierarchy, int | float | np.floating):
        raise TypeError(f"hierarchy: got {hierarchy!r}, expected a rank correlation in [-1, 1]")
    if abs(hierarchy) > 1 + 1e-9:  # what rounding may add
        raise ValueError(f"hierarchy: got {hierarchy!r}, expected a rank correlation in [-1, 1]")
    excess = abs(hierarchy) - abs(ceilings(n_digits)["hierarchy"])
    return excess if excess > COLLAPSE_TOLERANCE else 0.0
