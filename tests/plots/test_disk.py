"""The disk: geodesics against what defines them, exact radii, and angles that say what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ternvae.manifolds import math as ball
from ternvae.plots.disk import disk, polar
from ternvae.plots.frame import level_colours
from ternvae.plots.geodesics import arc, tree_nodes
from ternvae.plots.projection import project, tree_target
from tests.plots.subjects import Floats, made

ENDS = np.random.default_rng(0).uniform(-0.69, 0.69, (12, 2, 2))


def distance(x: Floats, y: Floats) -> Floats:
    """The textbook formula, arcosh(1 + 2 |x-y|^2 / ((1-|x|^2)(1-|y|^2)))."""
    apart = ((x - y) ** 2).sum(-1)
    return np.asarray(np.arccosh(1 + 2 * apart / ((1 - (x**2).sum(-1)) * (1 - (y**2).sum(-1)))))


def circle_through(a: Floats, b: Floats) -> tuple[Floats, float]:
    """Centre and squared radius of the circle through both that meets the rim at right angles.

    Right angles mean |centre|^2 = 1 + radius^2, which leaves two linear equations.
    """
    centre = np.linalg.solve(2 * np.stack([a, b]), [1 + a @ a, 1 + b @ b])
    return centre, float(centre @ centre - 1)


@pytest.mark.parametrize("ends", ENDS)
def test_no_point_of_an_arc_is_a_detour(ends: Floats) -> None:
    start, end = ends
    points = arc(start, end)
    detour = distance(start, points) + distance(points, end) - distance(start, end)
    assert np.abs(detour).max() < 1e-7
    steps = distance(points[:-1], points[1:])
    assert np.ptp(steps) < 1e-7
    assert points[0] == pytest.approx(start, abs=1e-12)
    assert points[-1] == pytest.approx(end, abs=1e-12)


@pytest.mark.parametrize("ends", ENDS)
def test_arcs_are_of_circles_orthogonal_to_the_rim(ends: Floats) -> None:
    centre, squared = circle_through(*ends)
    points = arc(*ends)
    assert ((points - centre) ** 2).sum(1) == pytest.approx(np.full(len(points), squared), rel=1e-9)


def test_through_the_origin_arcs_are_straight() -> None:
    a = np.array([0.3, 0.6])
    for end in (-0.5 * a, np.zeros(2), 1.2 * a):
        points = arc(a, end)
        assert np.abs(points @ np.array([0.6, -0.3])).max() < 1e-14


def test_an_arc_from_a_point_to_itself_stays_there() -> None:
    for a in (np.array([0.3, 0.6]), np.zeros(2)):
        assert arc(a, a) == pytest.approx(np.tile(a, (33, 1)), abs=1e-15)


def test_nodes_are_the_midpoints_of_their_classes() -> None:
    subject = made(3, 2)
    nodes = list(tree_nodes(subject.points, subject.indices, subject.weight, 2))
    assert [(node.depth, node.residue) for node in nodes] == [
        (k, residue) for k in range(3) for residue in range(3**k)
    ]
    places = {(node.depth, node.residue): node.place for node in nodes}
    for node in nodes:
        members = subject.points[subject.indices % 3**node.depth == node.residue]
        total = distance(node.place, members)
        # It minimises the sum of cosh(distance): no step in any direction is better.
        for step in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
            assert np.cosh(distance(node.place + step, members)).sum() > np.cosh(total).sum()
        if node.depth:
            assert node.parent is places[node.depth - 1, node.residue % 3 ** (node.depth - 1)]


def test_a_node_counts_a_point_as_often_as_it_weighs() -> None:
    points = np.array([[0.5, 0.0], [-0.2, 0.4]])
    several = np.concatenate([points[:1]] * 3 + [points[1:]])
    (once,) = tree_nodes(points, np.arange(2), np.array([3.0, 1.0]), 0)
    (often,) = tree_nodes(several, np.arange(4), np.ones(4), 0)
    assert once.place == pytest.approx(often.place, abs=1e-15)


@pytest.mark.parametrize("projection", ["tree", "pca"])
@pytest.mark.parametrize(("dim", "c"), [(3, 1.0), (16, 0.4), (3, 4.0)])
def test_projections_keep_every_radius(projection: str, dim: int, c: float) -> None:
    subject = made(3, dim, c=c)
    found = project(subject, projection).points
    radius = 2 / np.sqrt(c) * np.arctanh(np.linalg.norm(found, axis=1))
    expected = ball.dist0(torch.from_numpy(subject.points), c=c).numpy()
    assert radius == pytest.approx(expected, rel=1e-12)
    assert np.linalg.norm(polar(found, c), axis=1) == pytest.approx(expected, rel=1e-12)


def test_two_dimensions_are_shown_as_they_are() -> None:
    subject = made(3, 2, c=2.0)
    for projection in ("tree", "pca"):
        found = project(subject, projection)
        assert (found.points == np.sqrt(2.0) * subject.points).all()
        assert found.fit is None and "nothing is projected" in found.told


@pytest.mark.parametrize("projection", ["tree", "pca"])
def test_angles_are_those_of_one_linear_map_of_the_directions(projection: str) -> None:
    """If q is at the angle of W d, then q turned by 90 degrees is at right angles to W d.

    That is one linear equation for W for each point: 80 for 6 numbers, which only one map solves.
    """
    subject = made(4, 3)
    d = subject.points / np.linalg.norm(subject.points, axis=1, keepdims=True)
    q = project(subject, projection).points @ [[0, 1], [-1, 0]]
    equations = (q[:, :, None] * d[:, None, :]).reshape(len(q), -1)
    left = np.linalg.svd(equations, compute_uv=False)
    assert left[-1] < 1e-12 < 1e-3 < left[-2]


def test_the_axes_of_the_ball_do_not_matter() -> None:
    subject = made(4, 3)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turned = replace(subject, points=subject.points @ turn)
    assert project(turned).points == pytest.approx(project(subject).points, abs=1e-9)
    plain, other = project(subject, "pca").points, project(turned, "pca").points
    sign = np.sign((plain * other).sum(0))  # of an axis is free
    assert other == pytest.approx(plain * sign, abs=1e-9)


def test_the_target_is_a_sum_of_turned_digits() -> None:
    """By hand: 5 = 2 + 1 * 3 is -1 + b, 9 is the axis of the third digit, 0 is in the middle."""
    b = 0.45 * np.exp(1j * np.pi / 3)
    indices, levels = np.array([0, 5, 9, 18]), np.array([3, 0, 2, 2])
    found = tree_target(indices, levels, 3) @ [1, 1j]
    assert found == pytest.approx([0, -1 + b, np.exp(2j * np.pi / 3), -np.exp(2j * np.pi / 3)])


def planted(n_digits: int, dim: int) -> Floats:
    """Points of a space that hold the planar tree in two of their coordinates."""
    subject = made(n_digits, dim)
    plane = tree_target(subject.indices, subject.valuation, n_digits)
    directions = np.zeros((len(plane), dim))
    directions[:, [1, dim - 1]] = plane
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    return directions / np.where(norms > 0, norms, 1) * np.tanh(subject.radius / 2)[:, None]


def test_a_planted_tree_is_found_and_chance_is_told() -> None:
    subject = made(5, 6, points=planted(5, 6))
    found = project(subject)
    assert found.fit is not None and found.by_chance is not None
    target = tree_target(subject.indices, subject.valuation, 5)[1:]
    angle = np.angle(found.points[1:] @ [1, 1j] / (target @ [1, 1j]))
    assert np.abs(angle).max() < 0.1
    assert found.fit > 0.9 > 0.1 > found.by_chance
    assert f"R\u00b2 = {found.fit:.2f}" in found.told
    noise = project(made(5, 6))
    assert noise.fit is not None and noise.fit < 0.2


def test_too_few_points_say_so() -> None:
    found = project(made(2, 16))
    assert found.fit == pytest.approx(1) and found.by_chance == pytest.approx(1)
    assert "says nothing" in found.told


def test_unknown_projections_and_lines_are_refused() -> None:
    with pytest.raises(ValueError, match=r"projection: got 'umap', expected one of"):
        project(made(2, 3), "umap")
    line = made(2, points=np.linspace(0, 0.9, 9)[:, None])
    with pytest.raises(ValueError, match="1 dimension, expected at least 2"):
        project(line)
    assert disk(line) == "the ball has one dimension, a disk needs two"


def test_points_at_the_origin_stay_there() -> None:
    figure = disk(made(2, points=np.zeros((9, 3))))
    assert isinstance(figure, Figure)
    assert project(made(2, points=np.zeros((9, 3)))).points == pytest.approx(np.zeros((9, 2)))


@pytest.mark.parametrize("n_digits", range(1, 21))
def test_levels_differ_in_lightness_and_are_seen_on_white(n_digits: int) -> None:
    rgb = level_colours(n_digits)[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(luminance) - 16  # CIE 1976; every colour here is above 0.008856
    assert luminance.min() > 0.008856
    assert (np.diff(lightness) < -1).all()
    assert 100 - lightness[0] > 15 and lightness[-1] < 25


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_arms_and_levels_are_named() -> None:
    figure = disk(made(4, points=planted(4, 3)))
    assert isinstance(figure, Figure)
    assert {"1 mod 3", "2 mod 3"} <= set(texts(figure))
    assert {"0", "1", "2", "3", "4"} <= set(texts(figure))
    assert "all 81 sequences of 4 digits" in figure.get_label()
    some = disk(made(4, 3, sampled=True))
    assert isinstance(some, Figure) and "a sample of 81 of the 81 sequences" in some.get_label()
