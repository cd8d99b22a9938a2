"""Hyperbolic distances of pairs, by how close the two are 3-adically."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ternvae.plots.frame import FONT, INK, framed, level_colours, plain
from ternvae.plots.subject import Subject

__all__ = ["distances"]

Floats = NDArray[np.float64]

#: Fewer different values than this have no density worth a violin.
_FEWEST = 8


def distances(subject: Subject) -> Figure:
    """A violin of hyperbolic distances for each valuation of the difference of two sequences.

    Args:
        subject: what is drawn.
    """
    pairs, n = subject.pairs, subject.n_digits
    figure = framed(subject, "Distances of pairs", _caption(subject), 6.8, 4.2)
    axes = figure.subplots()
    plain(axes)
    for v, colour in enumerate(level_colours(n)[:n]):
        found = pairs.distance[pairs.valuation == v]
        low, middle, high = np.percentile(found, [5, 50, 95])
        if len(np.unique(found)) >= _FEWEST:
            _violin(axes, v, found, colour)
        else:
            axes.plot(np.full(len(found), v), found, "o", color=colour, markeredgecolor=INK)
        axes.plot([v, v], [low, high], color=INK, linewidth=1.1)
        axes.plot(v, middle, "o", color="white", markeredgecolor=INK, markersize=5)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(n), [f"{v}\n$3^{{-{v}}}$" if v else "0\n1" for v in range(n)])
    axes.set_xlabel("valuation v(i - j), and below it the 3-adic distance of the pair")
    axes.set_ylabel("hyperbolic distance")
    axes.tick_params(axis="x", labelsize=FONT)
    return figure


def _violin(axes: Axes, v: int, found: Floats, colour: Floats) -> None:
    """The density by Gaussian kernels, as wide at its mode in each violin."""
    drawn = axes.violinplot(found, [v], widths=0.86, showextrema=False, points=120)
    bodies: Any = drawn["bodies"]  # a list, whatever its stub says
    for body in bodies:
        body.set(facecolor=colour, edgecolor=INK, linewidth=0.5, alpha=1)


def _caption(subject: Subject) -> str:
    pairs = subject.pairs
    counts = np.bincount(pairs.valuation)
    most = int(counts.max())
    how = "all pairs" if len(pairs.first) == _all_pairs(subject) else f"at most {most:,} pairs"
    told = f"{how} of each valuation, with their median and, as a line, their middle 90 %."
    order = (
        " Where every distance is in the order of the 3-adic ones, each violin lies below the one "
        "to its left."
    )
    accuracy = subject.metrics.get("triplet_accuracy", float("nan"))
    if np.isnan(accuracy):
        return f"Branch B, {told}"
    return f"Branch B, {told}{order} Triplet accuracy is {accuracy:.5f}."


def _all_pairs(subject: Subject) -> int:
    size: int = 3**subject.n_digits
    return size * (size - 1) // 2
