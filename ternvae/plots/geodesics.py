"""The 3-adic tree in the unit disk: nodes at midpoints of their leaves, edges along geodesics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ternvae.manifolds import math as ball

__all__ = ["Node", "arc", "tree_nodes"]

Floats = NDArray[np.float64]

#: Points of an arc: enough for a smooth line at any size a page has.
_POINTS = 33


@dataclass(frozen=True)
class Node:
    """A residue class; holds what it is given, check-free.

    Attributes:
        depth: k, for a class modulo 3^k.
        residue: which class, 0 to 3^k - 1.
        place: (2,) its point of the unit disk.
        parent: the place of the class modulo 3^(k-1) that it is part of; None at the root.
    """

    depth: int
    residue: int
    place: Floats
    parent: Floats | None


def tree_nodes(
    points: Floats, indices: NDArray[np.int64], weight: Floats, depth: int
) -> Iterator[Node]:
    """The residue classes modulo 3^k that have a point, for k = 0 to ``depth``, parents first.

    A node is at the weighted gyromidpoint of its points
    (:func:`ternvae.manifolds.math.weighted_midpoint`).

    Args:
        points: (N, 2) points of the unit disk.
        indices: (N,) the sequences that they belong to.
        weight: (N,) how many sequences each stands for.
        depth: of the tree, at least 0.
    """
    above: dict[int, Floats] = {}
    for k in range(depth + 1):
        here: dict[int, Floats] = {}
        residues = indices % 3**k
        for residue in np.unique(residues).tolist():
            members = residues == residue
            here[residue] = ball.weighted_midpoint(
                torch.from_numpy(points[members]), torch.from_numpy(weight[members]), c=1.0
            ).numpy()
            parent = above[residue % 3 ** (k - 1)] if k else None
            yield Node(k, residue, here[residue], parent)
        above = here


def arc(start: Floats, end: Floats, count: int = _POINTS) -> Floats:
    """The geodesic of the unit disk between two points of it.

    It lies on the circle through both that meets the rim at right angles, or on their diameter.

    Args:
        start: (2,) a point with norm below 1.
        end: (2,) another, or the same.
        count: points of the arc, at least 2.

    Returns:
        (count, 2) points in equal hyperbolic steps, both ends among them.
    """
    time = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    x, y = (torch.as_tensor(each, dtype=torch.float64)[None] for each in (start, end))
    return ball.geodesic(time, x, y, c=1.0).numpy()
