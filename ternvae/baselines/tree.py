"""Sarkar's construction: the tree of the digits, laid into the ball edge by edge.

The tree of a space has a node for every prefix of at most n digits and three children for each
prefix but the longest, the sequences; two of them, i and j, are 2 (n - v(i - j)) edges apart.  It
is drawn from leaf 0, which goes to the origin, so the edges from there fall with the valuation.

Sarkar ("Low distortion Delaunay embedding of trees in hyperbolic plane", *Graph Drawing* 2011)
puts the neighbours of a node at one distance tau and equal angles around it; Sala et al.
("Representation tradeoffs for hyperbolic embeddings", *ICML* 2018) take directions that are far
apart on the sphere in higher dimensions.  Four neighbours are farthest apart as the corners of a
regular tetrahedron (cosine -1/3), three as those of an equilateral triangle.  What is free then,
the turn of the children about the edge to the parent, goes through all axes, so that generations
spread in different ones.

As tau grows, distances tend to tau times the edges, less a constant for each turn (about
-2 log sin(angle / 2) curvature radii).  So tau must be well above 1 curvature radius, and leaves
lie up to 2 n tau from the origin: that is what the construction needs in radius, and what a
``max_radius`` takes from it.  It is symmetric: mirrored leaves have one radius up to
rounding, of which ``evaluate`` may warn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ternvae.baselines.arguments import FLOAT64_REACH, check_ball, check_dim, positive_number
from ternvae.manifolds import PoincareBall
from ternvae.metrics.arguments import check_space
from ternvae.padic import TernarySpace

__all__ = ["sarkar"]

#: Least edge in the same units: in shorter ones the ball is so nearly flat that paths close up and
#: leaves coincide in float64.
_LEAST_EDGE = 1e-3

#: Halvings of the interval of the edge length, to a relative 2^-12.
_ROUNDS = 12


def sarkar(
    space: TernarySpace, ball: PoincareBall, dim: int = 2, *, edge_length: float | None = None
) -> Tensor:
    """The leaves of the tree of the space, by Sarkar's construction (2011); leaf 0 is the origin.

    With n = 9, paths have up to 18 edges.  ``max_radius`` 0.95 is 3.66 curvature radii, so the tree
    has to be squeezed to edges of a fraction of one, where branches fold over each other; without a
    ``max_radius`` float64 holds 24 of them.  :mod:`ternvae.baselines.tree` says why.

    Args:
        space: the space of sequences.
        ball: where the points go.
        dim: dimension of the points, at least 2.
        edge_length: tau, in the units of the metric.  Default: the longest that keeps the tree
            within ``max_radius``, or within 24 curvature radii without one, found by about twelve
            constructions.

    Returns:
        (N, dim) float64 points in the order of their indices.

    Raises:
        TypeError: ``space`` or ``ball`` is none, or ``edge_length`` is no real number.
        ValueError: ``dim`` below 2, a space of more than 16 digits, an edge so long that a node
            lies beyond these limits, or edges below 1/1000 of the curvature radius, given or left.
    """
    check_space(space)
    check_ball(ball)
    dim = check_dim(dim)
    _check_size(space)
    root = math.sqrt(float(ball.c))
    limit = FLOAT64_REACH
    if ball.max_radius is not None:
        limit = min(limit, 2.0 * math.atanh(ball.max_radius))
    unit_ball = PoincareBall()
    if edge_length is None:
        edge = _longest_edge(space, unit_ball, dim, limit)
    else:
        edge = positive_number(edge_length, "edge_length") * root
        _refuse_short(edge, edge_length, limit)
    points, reach = _construct(space, unit_ball, dim, edge)
    if not reach <= limit:
        certain = limit / (2 * space.n_digits) / root
        raise ValueError(
            f"edge_length: got {edge_length!r}, with which nodes lie {reach / root:.4g} from the "
            f"origin, beyond {limit / root:.4g}, the limit of max_radius = {ball.max_radius} and "
            f"of float64; {certain:.6g} is short enough, or leave it out"
        )
    return points / root


def _check_size(space: TernarySpace) -> None:
    if space.n_digits > 16:
        raise ValueError(
            f"space: has {space.size} sequences, too many to hold a tree of them at once; use up "
            "to 16 digits, or linear_ultrametric, which makes the points of any indices"
        )


def _refuse_short(edge: float, given: object, limit: float) -> None:
    if edge < _LEAST_EDGE:
        raise ValueError(
            f"edge_length: got {given!r}, {edge:.3g} curvature radii of at least {_LEAST_EDGE}, "
            f"below which leaves coincide; the ball has room for {limit:.3g} in all"
        )


def _longest_edge(space: TernarySpace, ball: PoincareBall, dim: int, limit: float) -> float:
    """The longest edge with which every node lies within ``limit``, by bisection."""
    low = limit / (2 * space.n_digits)  # no path is longer
    _refuse_short(low, None, limit)
    high = min(limit, 4.0 * low)  # turns of 90 degrees or more shorten a path by less
    for _ in range(_ROUNDS):
        middle = (low + high) / 2.0
        reach = _construct(space, ball, dim, middle)[1]
        low, high = (middle, high) if reach <= limit else (low, middle)
    return low


@torch.no_grad()
def _construct(
    space: TernarySpace, ball: PoincareBall, dim: int, edge: float
) -> tuple[Tensor, float]:
    """The leaves in the ball of curvature -1, and the distance of the farthest node."""
    n = space.n_digits
    # From leaf 0 to the node without digits: spine[j] has j digits, all of them 0.
    spine = [torch.zeros(1, dim, dtype=torch.float64) for _ in range(n + 1)]
    spine[n - 1][0, 0] = math.tanh(edge / 2.0)
    for j in range(n - 1, 0, -1):
        spine[j - 1] = _neighbours(ball, spine[j], spine[j + 1], edge, j)[:, 0]
    above, nodes = spine[1], spine[0]
    reach = float(ball.dist0(torch.cat(spine)).max())
    for j in range(n):
        # Seen from leaf 0, the parent of a node is the one with a digit less, but on the spine the
        # one with a digit more, and there the first neighbour is the next node of the spine.
        parents = above.repeat(3, 1) if j else spine[1].clone()
        parents[0] = spine[j + 1][0]
        children = _neighbours(ball, nodes, parents, edge, j)
        above, nodes = nodes, children.transpose(0, 1).reshape(-1, dim)
        nodes[0] = spine[j + 1][0]
        farthest = float(ball.dist0(nodes).max())
        reach = math.nan if math.isnan(farthest) else max(reach, farthest)
    return nodes, reach


def _neighbours(
    ball: PoincareBall, nodes: Tensor, parents: Tensor, edge: float, depth: int
) -> Tensor:
    """The three other neighbours of each node, (nodes, 3, dim); the first of them goes on ahead."""
    back = ball.logmap(nodes, parents)
    back = back / torch.linalg.vector_norm(back, dim=-1, keepdim=True)
    ahead = _directions(back, depth)
    factor = ball.lambda_x(nodes, keepdim=True).unsqueeze(-2)
    starts = nodes.unsqueeze(-2).expand_as(ahead)
    return ball.expmap(starts, edge * ahead / factor, project=False)


def _directions(back: Tensor, depth: int) -> Tensor:
    """Three unit vectors, far from each other and from ``back``, (nodes, 3, dim).

    At depth 0, where the node has two children only, the last two make a triangle with ``back``.
    """
    width = back.shape[-1] - 1
    if width == 1:
        across = torch.stack([-back[..., 1], back[..., 0]], -1)
        turn = math.sqrt(0.75) if depth == 0 else 1.0
        along = 0.5 if depth == 0 else 0.0
        sides = [turn * across - along * back, -turn * across - along * back]
        return torch.stack([-back, *sides], -2)
    first, second = (_orthogonal(back, 1 + (2 * depth + k) % width) for k in range(2))
    if depth == 0:
        sides = [math.sqrt(0.75) * sign * first - back / 2.0 for sign in (1.0, -1.0)]
        return torch.stack([-back, *sides], -2)
    corners = [
        math.sqrt(8.0) / 3.0 * (math.cos(angle) * first + math.sin(angle) * second) - back / 3.0
        for angle in (0.0, 2.0 * math.pi / 3.0, 4.0 * math.pi / 3.0)
    ]
    return torch.stack(corners, -2)


def _orthogonal(back: Tensor, axis: int) -> Tensor:
    """Axis ``axis`` >= 1 by the reflection that takes axis 0 to ``back`` or -``back``.

    Different axes give orthonormal vectors that are orthogonal to ``back``.
    """
    mirror = back.clone()
    mirror[..., 0] += torch.where(back[..., 0] < 0.0, -1.0, 1.0)
    factor = 2.0 * mirror[..., axis : axis + 1] / mirror.square().sum(-1, keepdim=True)
    turned = -factor * mirror
    turned[..., axis] += 1.0
    return turned
