"""How measures of 3-adic structure read on a terminal."""

from __future__ import annotations

import math

from ternvae.metrics import Structure
from ternvae.training.wording import aligned, cell

__all__ = ["in_short", "structure_text"]


def in_short(structure: Structure) -> dict[str, float]:
    """One figure for each measure, by name; those of a sample that is too small are bounds."""
    tree, of = structure.distortion.tree, structure.triplets.accuracy
    cells = [share for row in of for share in row if not math.isnan(share)]
    return {
        "siblings": structure.siblings.share,
        "triplets, mean": structure.triplets.mean,
        "triplets, worst cell": min(cells, default=math.nan),
        "tree distortion, worst": tree.worst,
        "tree distortion, average": tree.average,
        "3-adic distortion, worst": structure.distortion.padic.worst,
        "3-adic distortion, average": structure.distortion.padic.average,
        "2 delta / diameter": structure.hyperbolicity.relative,
    }


def structure_text(structure: Structure) -> str:
    """All measures, each with its standard error and what it was measured on, and all cells."""
    siblings, triplets = structure.siblings, structure.triplets
    distortion, hyperbolicity = structure.distortion, structure.hyperbolicity
    count = sum(map(sum, triplets.count))
    compared = f"{count} triples ({_how(triplets.exact)})"
    pairs = f"{distortion.pairs} pairs ({_how(distortion.exact)})"
    worst = pairs if distortion.exact else f"{pairs}: a lower bound"
    fours = f"{hyperbolicity.quadruples} quadruples ({_how(hyperbolicity.exact)})"
    told = {
        "siblings": (
            siblings.standard_error,
            f"{siblings.anchors} sequences ({_how(siblings.exact)}) against all",
        ),
        "triplets, mean": (triplets.mean_standard_error, compared),
        "triplets, worst cell": (None, "as below"),
        "tree distortion, worst": (None, worst),
        "tree distortion, average": (distortion.tree.standard_error, pairs),
        "3-adic distortion, worst": (None, worst),
        "3-adic distortion, average": (distortion.padic.standard_error, pairs),
        "2 delta / diameter": (None, fours),
    }
    rows = [
        (name, cell(value), cell(told[name][0]), told[name][1])
        for name, value in in_short(structure).items()
    ]
    header = ("measure", "value", "standard error", "measured on")
    return (
        "Structure of branch B: what its points have of the 3-adic metric\n"
        + aligned([header, *rows], flush_left=(0, 3))
        + "\n\nTriplets: share right, by v(i-j) of the nearer one and v(i-k) of the farther one\n"
        + _cells(structure)
    )


def _how(exact: bool) -> str:
    return "all" if exact else "drawn"


def _cells(structure: Structure) -> str:
    accuracy = structure.triplets.accuracy
    levels = range(len(accuracy) - 1)
    rows = [
        (f"v(i-j) = {near}", *(f"{row[far]:.4f}" if far < near else "" for far in levels))
        for near, row in enumerate(accuracy)
        if near
    ]
    return aligned([("", *(f"v(i-k) = {far}" for far in levels)), *rows])
