"""From the ball to the disk: radii exact, angles by one linear map of the directions.

A point x keeps its hyperbolic radius and gets the angle of ``W x/|x|`` for a matrix W of (2, d).
Two are offered; neither moves single points, so what they show together or apart is, up to the
d - 2 dimensions that W forgets, so in the ball:

``tree``
    W is fitted by least squares to a planar picture of the 3-adic integers, the points

        y(i) = sum over digits k of s(digit_k) (rho e^(i pi/3))^(k - v(i)),   s(0, 1, 2) = 0, 1, -1,

    as A. Cuoco (*The American Mathematical Monthly* 98, 1991) and D. V. Chistyakov (*Theoretical
    and Mathematical Physics* 109, 1996) draw them, here with 0 in the middle and a turn by 60
    degrees from digit to digit: level v lies on both sides, on the axis at 60 v degrees.  The six
    arms are therefore of the projection, which is told the digits; how well a linear map of the
    embedding follows them, R^2, is of the embedding.  With few points in many dimensions anything
    can be fitted, which is why R^2 of shuffled points stands beside it.
``pca``
    W holds the first two principal axes (about the origin) of the directions, and is told nothing.

In both, a level of m points weighs sqrt(m): less than by its points, more than as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ternvae.plots.subject import SEED, Subject

__all__ = ["PROJECTIONS", "Projection", "project", "tree_target"]

Floats = NDArray[np.float64]

PROJECTIONS = ("tree", "pca")

#: Ratio of one digit to the one before it, and the turn between them.
RATIO, TURN = 0.45, np.pi / 3

#: Shuffles whose mean R^2 is told.
_SHUFFLES = 10

#: If these are fitted as well as that, so is everything.
_TOO_EASY = 0.5


@dataclass(frozen=True)
class Projection:
    """Points of the unit disk, and how they came there; holds what it is given, check-free.

    Attributes:
        points: (N, 2), of Euclidean norm sqrt(c) times that in the ball.
        told: how angles were chosen, a sentence for the figure.
        fit: R^2 of the map; None where nothing was fitted.
        by_chance: mean R^2 of points that are shuffled among the sequences; None likewise.
    """

    points: Floats
    told: str
    fit: float | None = None
    by_chance: float | None = None


def project(subject: Subject, projection: str = "tree") -> Projection:
    """The points of a subject in the unit disk.

    Args:
        subject: of two dimensions, which are kept as they are, or more.
        projection: "tree" or "pca", see above; for more than two dimensions.

    Raises:
        ValueError: there is no such projection, or the points have fewer than two dimensions.
    """
    if projection not in PROJECTIONS:
        raise ValueError(f"projection: got {projection!r}, expected one of {PROJECTIONS}")
    scaled = np.sqrt(subject.c) * subject.points
    dim = scaled.shape[1]
    if dim < 2:
        raise ValueError(f"subject: has points of {dim} dimension, expected at least 2 for a disk")
    if dim == 2:
        return Projection(scaled, "The ball has two dimensions: nothing is projected.")
    norms = np.linalg.norm(scaled, axis=1)
    directions = scaled / np.where(norms > 0, norms, 1)[:, None]
    weight = _weights(subject)
    if projection == "pca":
        axes = _principal_axes(directions, weight)
        return Projection(
            _at(norms, directions @ axes),
            f"Projected from {dim} dimensions: hyperbolic radii are exact, angles are those of the "
            "directions on their first two principal axes, which see no digits.",
        )
    target = tree_target(subject.indices, subject.valuation, subject.n_digits)
    matrix, fit = _fit(directions, target, weight)
    rng = np.random.default_rng(SEED)
    shuffled = [_fit(rng.permutation(directions), target, weight)[1] for _ in range(_SHUFFLES)]
    chance = float(np.mean(shuffled))
    verdict = (
        "The six arms are a property of the projection, how cleanly the points follow them one of "
        "the embedding."
        if chance < _TOO_EASY
        else "So few points in so many dimensions would fit any tree: this one says nothing."
    )
    return Projection(
        _at(norms, directions @ matrix),
        f"Projected from {dim} dimensions: hyperbolic radii are exact, angles are those of a "
        "linear map of the directions fitted to a planar tree of the digits with six arms "
        f"(R\u00b2 = {fit:.2f}; of shuffled points {chance:.2f}). {verdict}",
        fit,
        chance,
    )


def tree_target(indices: NDArray[np.int64], valuation: NDArray[np.int64], n_digits: int) -> Floats:
    """Where the planar tree has the sequences, (N, 2); index 0 is in the middle.

    Args:
        indices: (N,) of the space.
        valuation: (N,) theirs.
        n_digits: digits n of a sequence.
    """
    base = RATIO * np.exp(1j * TURN)
    signs = np.array([0.0, 1.0, -1.0])
    plane = np.zeros(len(indices), dtype=np.complex128)
    for k in range(n_digits):
        plane += signs[indices // 3**k % 3] * base**k
    plane /= RATIO**valuation
    return np.stack([plane.real, plane.imag], axis=1)


def _weights(subject: Subject) -> Floats:
    """Levels by the square root of their size; index 0 has no direction to speak of."""
    n = subject.n_digits
    sizes = np.array([2.0 * 3 ** (n - 1 - v) for v in range(n)] + [np.inf])
    return np.asarray(subject.weight / np.sqrt(sizes[subject.valuation]))


def _at(norms: Floats, plane: Floats) -> Floats:
    angle = np.arctan2(plane[:, 1], plane[:, 0])
    return np.stack([norms * np.cos(angle), norms * np.sin(angle)], axis=1)


def _fit(directions: Floats, target: Floats, weight: Floats) -> tuple[Floats, float]:
    """The (d, 2) matrix of least squares, and R^2 about the origin."""
    root = np.sqrt(weight)[:, None]
    wanted = root * target
    matrix = np.linalg.lstsq(root * directions, wanted)[0]
    left = wanted - root * directions @ matrix
    return np.asarray(matrix, dtype=np.float64), float(1 - (left**2).sum() / (wanted**2).sum())


def _principal_axes(directions: Floats, weight: Floats) -> Floats:
    """(d, 2), each with its largest entry positive, for the sign is free."""
    moment = (weight[:, None] * directions).T @ directions
    axes = np.linalg.eigh(moment)[1][:, :-3:-1]
    largest = np.abs(axes).argmax(axis=0)
    return np.asarray(axes * np.sign(axes[largest, [0, 1]]))
