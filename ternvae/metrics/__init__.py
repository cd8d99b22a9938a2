"""What is measured: coverage, hierarchy, richness, distance structure, and how high each can go.

Everything is computed on posterior means (no sampling, dropout off) in float64, so a model has
one score.  Statistics over the whole space are exact up to 15 digits; beyond, a seeded sample of
each level is measured.  Statistics over pairs and triples are exact while all pairs fit in the pair
budget and otherwise use a fixed seeded sample.  The result names all of it in its ``sampling``
attribute, and in ``standard_errors`` how far each sampled figure may be off.

:func:`measure_structure` goes beyond these: siblings as nearest neighbours, triplets by levels,
distortion against the tree and Gromov hyperbolicity, of a model or each of any points.

With n digits there are N = 3**n sequences, v is the 3-adic valuation (v(0) = n), r the hyperbolic
distance of a point from the origin of the ball, d the hyperbolic distance and d3 the 3-adic one.
"""

from __future__ import annotations

from ternvae.ceilings import ceilings
from ternvae.metrics.arguments import check_model, check_space, positive
from ternvae.metrics.evaluator import EXACT_DIGITS, SAMPLE_SEED, SAMPLE_SIZE, Evaluator
from ternvae.metrics.frequencies import LevelFrequencies, level_frequencies
from ternvae.metrics.hyperbolicity import Hyperbolicity, gromov_hyperbolicity
from ternvae.metrics.levels import richness
from ternvae.metrics.neighbours import SiblingRetrieval, sibling_retrieval
from ternvae.metrics.parts import part_of
from ternvae.metrics.paths import MonotoneChange, monotone_change
from ternvae.metrics.ranks import spearman
from ternvae.metrics.results import (
    COLLAPSE_TOLERANCE,
    Ball,
    CollapsedLevelsWarning,
    EmbeddingModel,
    Metrics,
    RadialBall,
    collapse_excess,
    metric_names,
)
from ternvae.metrics.stretch import Distortion, Stretch, distortion
from ternvae.metrics.structure import Structure, measure_structure
from ternvae.metrics.survey import KEPT_BYTES, rows_at_a_time
from ternvae.metrics.triplets import TripletTable, triplet_table
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = [
    "COLLAPSE_TOLERANCE",
    "EXACT_DIGITS",
    "SAMPLE_SEED",
    "SAMPLE_SIZE",
    "Ball",
    "CollapsedLevelsWarning",
    "Distortion",
    "EmbeddingModel",
    "Evaluator",
    "Hyperbolicity",
    "LevelFrequencies",
    "Metrics",
    "MonotoneChange",
    "RadialBall",
    "SiblingRetrieval",
    "Stretch",
    "Structure",
    "TripletTable",
    "ceilings",
    "collapse_excess",
    "distortion",
    "evaluate",
    "evaluation_bytes",
    "gromov_hyperbolicity",
    "level_frequencies",
    "measure_structure",
    "metric_names",
    "monotone_change",
    "richness",
    "sibling_retrieval",
    "spearman",
    "triplet_table",
]


def evaluate(
    model: EmbeddingModel, space: TernarySpace, indices: WholeNumbers | None = None
) -> Metrics:
    """Score a model over the whole space, or over a part of it, as defined in docs/metrics.md.

    Within a part, pairs and triples have all their sequences in it, and each level weighs as in the
    whole space, so that the ceilings stay what they are.

    Args:
        model: anything with ``embed``, ``decode`` and ``ball``, for instance
            :class:`ternvae.models.TernaryVAE`.
        space: the space of sequences that the model was made for.
        indices: shape (M,), in 0 .. N - 1: which sequences make up the part, each counting once;
            None means all.

    Returns:
        A dict with exactly the names of :func:`metric_names`, but for ``r_v`` of levels that a part
        has nothing of; its ``sampling`` attribute names the samples behind what is not exact, and
        ``standard_errors`` how far that may be off.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`, or ``model`` lacks ``ball``, ``embed``
            or ``decode``.
        ValueError: the model is of another space, its answers have other shapes or dtypes, or
            ``indices`` are none of the space, or of one with more than 15 digits.

    Warns:
        CollapsedLevelsWarning: radii are tied inside a level.
    """
    check_model(model)
    return Evaluator(space, among=None if indices is None else part_of(space, indices))(model)


#: Columns of float64 held at the peak for each measured row: the radii, their levels, all of them
#: sorted, and what the sorting compares.
_COLUMNS_PER_ROW = 4
#: Arrays of the size of a chunk that the geometry holds at a time, in float64.
_ARRAYS_PER_CHUNK = 8


def evaluation_bytes(space: TernarySpace, latent_dim: int) -> int:
    """About how much memory :func:`evaluate` takes at its peak, beyond the model and its samples.

    A few numbers for each measured row, the points of the space where they are few enough to be
    kept, and what is computed in one chunk: an estimate by definition of these, not a measurement.

    Args:
        space: the space of sequences.
        latent_dim: dimension of the ball.

    Returns:
        Bytes.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`.
        ValueError: ``latent_dim`` is not a positive integer.
    """
    check_space(space)
    latent_dim = positive(latent_dim, "latent_dim", "16 is the default of the model")
    exact = space.n_digits <= EXACT_DIGITS
    rows = space.size if exact else 4 * SAMPLE_SIZE
    kept = min(8 * latent_dim * rows, KEPT_BYTES) if exact else 0
    chunk = 8 * latent_dim * min(rows_at_a_time(latent_dim), rows) * _ARRAYS_PER_CHUNK
    return rows * 8 * _COLUMNS_PER_ROW + kept + chunk
