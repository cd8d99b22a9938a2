"""Sarkar's tree: edges, angles and limits, against the geometry of triangles in the plane."""

from __future__ import annotations

import cmath
import math
import warnings

import pytest
import torch
from torch import Tensor

from ternvae.baselines import PointTable, sarkar
from ternvae.ceilings import ceilings
from ternvae.manifolds import PoincareBall
from ternvae.metrics import CollapsedLevelsWarning, evaluate
from ternvae.padic import TernarySpace

WIDE = PoincareBall()


def pairs(space: TernarySpace, points: Tensor, ball: PoincareBall) -> tuple[Tensor, Tensor]:
    """All distances, and all numbers of edges between the leaves."""
    everything = torch.arange(space.size)
    v = space.valuation((everything[:, None] - everything).abs())
    return ball.dist(points[:, None], points), 2.0 * (space.n_digits - v).double()


def third_side(edge: float, cosine: float) -> float:
    """Of two sides of one length with an angle between them, in curvature -1."""
    return math.acosh(math.cosh(edge) ** 2 - math.sinh(edge) ** 2 * cosine)


@pytest.mark.parametrize("dim", [2, 3, 4, 16])
@pytest.mark.parametrize("edge", [0.01, 0.5, 2.0])
def test_siblings_are_as_far_apart_as_their_angle_says(dim: int, edge: float) -> None:
    star = sarkar(TernarySpace(1), WIDE, dim, edge_length=edge)
    apart = WIDE.dist(star[[0, 0, 1]], star[[1, 2, 2]])
    assert apart.tolist() == pytest.approx([third_side(edge, -0.5)] * 3, rel=1e-9)
    space = TernarySpace(4)
    points = sarkar(space, WIDE, dim, edge_length=edge)
    siblings = points.unflatten(0, (3, 27))  # by the last digit
    found = torch.stack(
        [WIDE.dist(siblings[a], siblings[b]) for a, b in ((0, 1), (0, 2), (1, 2))], -1
    )
    angles = [0.0, 0.0, -1.0] if dim == 2 else [-1 / 3] * 3
    expected = torch.tensor(sorted(third_side(edge, cosine) for cosine in angles)).double()
    assert torch.allclose(found.sort(-1).values, expected.expand_as(found), rtol=1e-6)


def by_moebius_maps(n_digits: int, edge: float) -> dict[int, complex]:
    """The tree in the plane by complex numbers, node by node."""
    step = math.tanh(edge / 2)
    found: dict[int, complex] = {0: 0j}

    def towards(z: complex, parent: complex, turn: float) -> complex:
        back = (parent - z) / (1 - z.conjugate() * parent)
        w = step * back / abs(back) * cmath.exp(1j * turn)
        return (w + z) / (1 + z.conjugate() * w)

    def down(z: complex, parent: complex, digits: int, index: int) -> None:
        if digits == n_digits:
            found[index] = z
            return
        for digit, quarter in enumerate((2, 1, 3)):
            child = towards(z, parent, quarter * math.pi / 2)
            down(child, z, digits + 1, index + digit * 3**digits)

    parent, z = 0j, complex(step)
    for digits in range(n_digits - 1, -1, -1):
        part = math.pi / 2 if digits else 2 * math.pi / 3
        for digit, turn in ((1, part), (2, -part)):
            down(towards(z, parent, turn), z, digits + 1, digit * 3**digits)
        parent, z = z, towards(z, parent, math.pi)
    return found


@pytest.mark.parametrize("n_digits", [1, 2, 4])
@pytest.mark.parametrize("edge", [0.1, 1.5])
def test_the_tree_in_the_plane_is_that_of_moebius_maps(n_digits: int, edge: float) -> None:
    points = sarkar(TernarySpace(n_digits), WIDE, 2, edge_length=edge)
    oracle = by_moebius_maps(n_digits, edge)
    rows = [[oracle[i].real, oracle[i].imag] for i in range(len(points))]
    expected = torch.tensor(rows, dtype=torch.float64)
    assert torch.allclose(points, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dim", [2, 3, 5, 8])
def test_no_distance_is_longer_than_its_path(dim: int) -> None:
    space = TernarySpace(4)
    points = sarkar(space, WIDE, dim, edge_length=1.0)
    found, edges = pairs(space, points, WIDE)
    assert (found <= edges + 1e-9).all()
    assert (points[0] == 0).all()


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_distances_tend_to_the_edges_but_for_a_constant_per_turn(dim: int) -> None:
    space, edge = TernarySpace(2), 5.0
    found, edges = pairs(space, sarkar(space, WIDE, dim, edge_length=edge), WIDE)
    lost = (edge * edges - found).flatten().tolist()
    # A corner of an angle t loses -2 log sin(t / 2): 120 degrees at the node without digits, and
    # at the others 180 or 90 in the plane, 109.5 beyond.
    top, others = -math.log(0.75), [0.0, math.log(2)] if dim == 2 else [math.log(1.5)]
    allowed = [0.0, *others, *(top + a + b for a in others for b in others)]
    assert all(min(abs(x - a) for a in allowed) < 0.02 for x in lost)


@pytest.mark.parametrize("dim", [4, 16])
def test_a_wide_ball_holds_the_structure_in_four_dimensions_or_more(dim: int) -> None:
    space = TernarySpace(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedLevelsWarning)  # mirrored leaves have one radius
        metrics = evaluate(PointTable(WIDE, sarkar(space, WIDE, dim), space), space)
    assert metrics["coverage_B"] == metrics["triplet_accuracy"] == 1
    ceiling = ceilings(5)["ultrametric_corr"]
    assert metrics["ultrametric_corr"] == pytest.approx(ceiling, abs=1e-6)


@pytest.mark.parametrize("c", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("max_radius", [None, 0.5, 0.95])
@pytest.mark.parametrize("dim", [2, 5])
def test_the_default_edge_fills_the_ball(c: float, max_radius: float | None, dim: int) -> None:
    space, ball = TernarySpace(4), PoincareBall(c, max_radius)
    points = sarkar(space, ball, dim)
    limit = 24 / math.sqrt(c)
    if max_radius is not None:
        limit = 2 * math.atanh(max_radius) / math.sqrt(c)
        ball.assert_check_point_on_manifold(points, atol=0.0, rtol=0.0)
    reached = float(ball.dist0(points).max())
    assert 0.99 * limit < reached <= limit * (1 + 1e-6)
    edge = float(ball.dist(points[0], points[27]))
    with pytest.raises(ValueError, match="edge_length: got"):
        sarkar(space, ball, dim, edge_length=edge)  # two edges are 1.4 to 2 times one


@pytest.mark.parametrize("dim", [2, 3, 4, 16])
@pytest.mark.parametrize("edge", [1e-3, None])
def test_no_two_leaves_coincide(dim: int, edge: float | None) -> None:
    space = TernarySpace(9)
    points = sarkar(space, PoincareBall(max_radius=0.95), dim, edge_length=edge)
    assert len(points.unique(dim=0)) == space.size


def test_balls_without_room_and_edges_without_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.001"):
        sarkar(TernarySpace(9), PoincareBall(max_radius=0.005))
    with pytest.raises(ValueError, match="1e-05"):
        sarkar(TernarySpace(3), WIDE, edge_length=1e-5)
    with pytest.raises(ValueError, match="16 digits"):
        sarkar(TernarySpace(17), WIDE)
    for edge in (100.0, 1e6, 1e300):  # to and beyond the rim of float64
        with pytest.raises(ValueError, match="is short enough"):
            sarkar(TernarySpace(3), WIDE, edge_length=edge)
