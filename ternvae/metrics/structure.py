"""All measures of 3-adic structure of a model at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ternvae.metrics.arguments import check_branch, check_model, check_points, check_space
from ternvae.metrics.evaluator import EXACT_DIGITS
from ternvae.metrics.hyperbolicity import Hyperbolicity, gromov_hyperbolicity
from ternvae.metrics.leaves import checked_seed
from ternvae.metrics.neighbours import SiblingRetrieval, sibling_retrieval
from ternvae.metrics.results import EmbeddingModel
from ternvae.metrics.stretch import Distortion, distortion
from ternvae.metrics.survey import ROWS_PER_CHUNK
from ternvae.metrics.triplets import TripletTable, triplet_table
from ternvae.padic import TernarySpace

__all__ = ["Structure", "measure_structure"]


@dataclass(frozen=True)
class Structure:
    """What the points of a branch have of the 3-adic metric; held check-free.

    Attributes:
        siblings: whether nearest neighbours are siblings.
        triplets: whether the nearer of two is the 3-adically nearer, by levels.
        distortion: whether distances are those of the tree, up to their scale.
        hyperbolicity: whether four points lie as in some tree.
    """

    siblings: SiblingRetrieval
    triplets: TripletTable
    distortion: Distortion
    hyperbolicity: Hyperbolicity


@torch.no_grad()
def measure_structure(
    model: EmbeddingModel, space: TernarySpace, *, branch: str = "B", seed: int = 0
) -> Structure:
    """Measure the points that a model gives to the whole space.

    The four measures of docs/metrics.md, "Structure: measures beyond these".
    All points are held at once, in about four times the memory that they take in float64.

    Args:
        model: anything with ``embed``, ``decode`` and ``ball``, for instance
            :class:`ternvae.models.TernaryVAE`.
        space: the space of sequences that the model was made for.
        branch: of which branch the points are.
        seed: of all samples.

    Returns:
        The four results.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`, or ``model`` lacks ``ball``, ``embed``
            or ``decode``.
        ValueError: an unknown branch, ``seed`` out of range, points of another shape or dtype or
            outside the ball, or a space of more than 15 digits, whose points are too many to hold.
    """
    check_model(model)
    check_space(space)
    check_branch(branch)
    seed = checked_seed(seed)
    if space.n_digits > EXACT_DIGITS or space.n_digits < 2:
        raise ValueError(
            f"space: has {space.n_digits} digits, expected 2 to {EXACT_DIGITS}: one digit has no "
            "levels to tell apart, and of more the points do not fit; embed some sequences, and "
            "pass them with indices= to sibling_retrieval, triplet_table and distortion"
        )
    points = torch.cat(
        [
            check_points(model.embed(rows, branch), len(rows))
            for rows in space.batches(ROWS_PER_CHUNK)
        ]
    )
    return Structure(
        sibling_retrieval(points, model.ball, space, seed=seed),
        triplet_table(points, model.ball, space, seed=seed),
        distortion(points, model.ball, space, seed=seed),
        gromov_hyperbolicity(points, model.ball, seed=seed),
    )
