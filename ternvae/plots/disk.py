"""The Poincare disk of branch B, with the 3-adic tree along geodesics."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from ternvae.plots.frame import FONT, GREY, HALO, INK, framed, level_colours, of_what, on_top
from ternvae.plots.geodesics import Node, arc, tree_nodes
from ternvae.plots.projection import project
from ternvae.plots.subject import Subject

__all__ = ["disk", "polar"]

Floats = NDArray[np.float64]
Chart = Callable[[Floats], Floats]

#: Deepest classes of the tree: modulo 3^4, 121 nodes.
DEPTH = 4

#: Edges of the disk that are shorter have no room for a name.
_SHORTEST = 0.3

#: More points than this are one image inside an SVG.
MOST_VECTORS = 5000


def disk(subject: Subject, projection: str = "tree") -> Figure | str:
    """The points by level and the tree, in the disk and in hyperbolic polar coordinates.

    Args:
        subject: what is drawn.
        projection: how more than two dimensions become two, see :mod:`ternvae.plots.projection`.

    Returns:
        The figure, or why there is none: the points have one dimension.

    Raises:
        ValueError: there is no such projection.
    """
    if subject.points.shape[1] < 2:
        return "the ball has one dimension, a disk needs two"
    found = project(subject, projection)
    depth = min(DEPTH, subject.n_digits)
    nodes = list(tree_nodes(found.points, subject.indices, subject.weight, depth))
    figure = framed(subject, "Poincaré disk", _caption(subject, found.told, depth), 9.2, 4.9)
    left, right = figure.subplots(1, 2)
    _draw(left, subject, found.points, nodes, lambda x: x)
    _draw(right, subject, found.points, nodes, lambda x: polar(x, subject.c))
    left.add_patch(Circle((0, 0), 1, fill=False, color=INK, linewidth=1.0))
    _label_arms(left, nodes)
    _rings(right, subject)
    far = float(subject.radius.max()) or 1.0  # all points may be at the origin
    for axes, limit, title in (
        (left, 1.02, "the disk: radius = Euclidean norm"),
        (right, 1.06 * far, "the same points: radius = hyperbolic distance"),
    ):
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.set_title(title, fontsize=FONT + 1)
    return figure


def polar(points: Floats, c: float) -> Floats:
    """Hyperbolic polar coordinates: every point at its hyperbolic radius, its angle kept.

    The "native representation" of Krioukov et al. (*Physical Review E* 82, 2010), section III.

    Args:
        points: (N, 2) points of the unit disk.
        c: of the ball that they come from; radii are in units of its metric.

    Returns:
        (N, 2) points of the plane.
    """
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    # The derivative at 0, where the quotient has no value.
    stretch = np.where(norms > 0, np.arctanh(norms) / np.where(norms > 0, norms, 1), 1)
    return np.asarray(2 / np.sqrt(c) * stretch * points)


def _draw(axes: Axes, subject: Subject, points: Floats, nodes: list[Node], chart: Chart) -> None:
    colours = level_colours(subject.n_digits)
    order = np.argsort(subject.valuation, kind="stable")
    place, level = chart(points)[order], subject.valuation[order]
    axes.scatter(
        place[:, 0],
        place[:, 1],
        s=(2 + 1.8 * level) * np.clip(np.sqrt(3000 / len(level)), 1, 5),
        c=colours[level],
        linewidths=0,
        rasterized=len(place) > MOST_VECTORS,
        zorder=2,
    )
    edges = [node for node in nodes if node.parent is not None]
    lines = [chart(arc(node.parent, node.place)) for node in edges if node.parent is not None]
    widths = [1.9 * 0.62 ** (node.depth - 1) for node in edges]
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=widths, zorder=3))
    inner = [node for node in nodes if node.depth < subject.n_digits]  # the others are points
    places = chart(np.stack([node.place for node in inner]))
    sizes = [26 * 0.55**node.depth for node in inner]
    axes.scatter(
        places[:, 0], places[:, 1], s=sizes, c="white", edgecolors=INK, linewidths=0.8, zorder=4
    )
    on_top(axes)


def _label_arms(axes: Axes, nodes: list[Node]) -> None:
    """Names along the edges to the classes that leave the path to 0, as far as there is room."""
    for node in nodes:
        unit = 3 ** (node.depth - 1) if node.depth else 0
        if node.parent is None or node.depth > 3 or node.residue not in (unit, 2 * unit):
            continue
        edge = arc(node.parent, node.place)
        if np.linalg.norm(edge[-1] - edge[0]) < _SHORTEST:
            continue
        at = len(edge) * 3 // 5
        along = edge[at + 1] - edge[at - 1]
        upright = (math.degrees(math.atan2(along[1], along[0])) + 90) % 180 - 90
        turn = math.radians(upright + 90)
        axes.annotate(
            f"{node.residue} mod {3 * unit}",
            (edge[at, 0], edge[at, 1]),
            xytext=(7 * math.cos(turn), 7 * math.sin(turn)),
            textcoords="offset points",
            ha="center",
            va="center",
            rotation=upright,
            fontsize=FONT,
            path_effects=HALO,
            zorder=6,
        )


def _rings(axes: Axes, subject: Subject) -> None:
    """Dashed circles at the mean radius of each level, labelled upwards."""
    line = {"fill": False, "color": GREY, "linestyle": (0, (4, 3)), "linewidth": 0.6}
    for level in range(subject.n_digits + 1):
        mean = float(subject.radius[subject.valuation == level].mean())
        axes.add_patch(Circle((0, 0), mean, **line))
        axes.text(
            *(0, mean, f"{level}"),
            ha="center",
            va="center",
            fontsize=FONT,
            weight="bold",
            color=INK,
            path_effects=HALO,
            zorder=7,
        )


def _caption(subject: Subject, told: str, depth: int) -> str:
    return (
        f"{of_what(subject)}; the darker, the higher the 3-adic valuation (level). Bold numbers "
        "stand at the mean radius of each level. Lines are geodesics from each residue class "
        "modulo 3^k, drawn at the midpoint of its sequences, to its three parts, for k below "
        f"{depth}. {told}"
    )
