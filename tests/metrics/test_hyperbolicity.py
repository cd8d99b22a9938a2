"""The four-point condition against brute force, trees and closed forms."""

from __future__ import annotations

import math
import statistics
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import gromov_hyperbolicity, hyperbolicity
from ternvae.padic import TernarySpace
from tests.embeddings import at_random, on_one_ray, shell_radii
from tests.metrics.test_stretch import Given, names


def gromov_products(distance: Tensor) -> list[float]:
    """Of each four points the largest min((x|z), (z|y)) - (x|y) over all base points: delta."""
    found = []
    for four in combinations(range(len(distance)), 4):
        worst = -math.inf
        for base in four:
            x, y, z = (k for k in four if k != base)

            def product(a: int, b: int, w: int = base) -> float:
                return float(distance[a, w] + distance[b, w] - distance[a, b]) / 2

            for a, b, c in ((x, y, z), (y, z, x), (z, x, y)):
                worst = max(worst, min(product(a, c), product(c, b)) - product(a, b))
        found.append(worst)
    return found


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 11), chunk=st.sampled_from([5, 2**15]))
def test_it_is_what_gromov_products_give(seed: int, count: int, chunk: int) -> None:
    """The definition by products with a base point, of which the sums are another form."""
    ball = PoincareBall(0.7)
    points = at_random(TernarySpace(3), seed, dim=3)[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hyperbolicity, "_CHUNK", chunk)
        found = gromov_hyperbolicity(points, ball)
    distance = ball.pairwise_dist(points, points)
    deltas = gromov_products(distance)
    assert found.exact and found.quadruples == math.comb(count, 4)
    assert math.isclose(found.largest, max(deltas), abs_tol=1e-12)
    assert math.isclose(found.mean, statistics.fmean(deltas), abs_tol=1e-12)
    assert math.isclose(found.diameter, float(distance.max()), rel_tol=1e-12)
    assert math.isclose(found.relative, 2 * max(deltas) / float(distance.max()), abs_tol=1e-12)
    assert found.standard_error == 0


@pytest.mark.parametrize("c", [1.0, 0.25])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0, 8.0])
def test_a_square_of_the_hyperbolic_plane(radius: float, c: float) -> None:
    """Diagonals 2R, sides arcosh(cosh(R)^2): delta = 2R - side, ln 2 in the limit; over sqrt(c)."""
    ball = PoincareBall(c)
    corner = ball.expmap0(torch.tensor([radius / 2 / c**0.5, 0.0], dtype=torch.float64))
    x = float(corner[0])
    square = torch.tensor([[x, 0], [0, x], [-x, 0], [0, -x]], dtype=torch.float64)
    found = gromov_hyperbolicity(square, ball)
    delta = 2 * radius - math.acosh(math.cosh(radius) ** 2)
    assert math.isclose(found.largest, delta / c**0.5, rel_tol=1e-6)
    assert found.largest * c**0.5 < math.log(2)
    if radius == 8:
        assert found.largest * c**0.5 > math.log(2) - 1e-6


def test_the_ball_keeps_below_its_supremum() -> None:
    for seed, c in ((0, 1.0), (1, 4.0)):
        points = at_random(TernarySpace(7), seed, dim=2) * 0.99 / c**0.5
        points = points / (points.norm(dim=-1, keepdim=True) * c**0.5) * 0.999999 / c**0.5
        found = gromov_hyperbolicity(points, PoincareBall(c), quadruples=2**15)
        assert 0.5 * math.log(2) < found.largest * c**0.5 <= math.log(2)
        assert 0 < found.relative <= 1


def test_trees_have_none() -> None:
    space = TernarySpace(3)
    ultrametric = gromov_hyperbolicity(names(space), Given(space.distance))
    assert (ultrametric.largest, ultrametric.mean, ultrametric.diameter) == (0, 0, 1)
    tree = Given(lambda i, j: 2.0 * (3 - space.valuation((i - j).abs())).double())
    assert gromov_hyperbolicity(names(space), tree).largest == 0
    ray = gromov_hyperbolicity(on_one_ray(shell_radii(space)), PoincareBall())
    assert ray.largest < 1e-14  # a line is a tree, too: it looks at distances alone
    circle = Given(lambda i, j: torch.minimum((i - j).abs(), 4 - (i - j).abs()).double())
    assert gromov_hyperbolicity(names(space)[:4], circle).relative == 1  # a cycle of four edges


def test_samples_are_near_and_say_how_near() -> None:
    points, ball = at_random(TernarySpace(4), 0)[:40], PoincareBall()
    exact = gromov_hyperbolicity(points, ball)
    assert exact.exact and exact.quadruples == math.comb(40, 4)
    samples = [gromov_hyperbolicity(points, ball, quadruples=900, seed=s) for s in range(60)]
    means = [sample.mean for sample in samples]
    stated = statistics.fmean(sample.standard_error for sample in samples)
    assert abs(statistics.fmean(means) - exact.mean) < 4 * stated / 60**0.5
    assert 0.7 < statistics.stdev(means) / stated < 1.35
    assert all(s.largest <= exact.largest and s.diameter <= exact.diameter for s in samples)
    assert {(s.exact, s.quadruples) for s in samples} == {(False, 900)}


def test_quadruples_are_of_different_points_and_each_is_as_likely() -> None:
    drawn = torch.cat(list(hyperbolicity._some(5, 50_000, torch.Generator().manual_seed(0))), dim=1)
    assert drawn.shape == (4, 50_000)
    found, counts = drawn.T.unique(dim=0, return_counts=True)
    assert len(found) == 5 * 4 * 3 * 2
    assert float((counts / 50_000 - 1 / 120).abs().max()) < 4.5 * (1 / 120 / 50_000) ** 0.5
    assert bool((found.sort(-1).values.diff() > 0).all())
    every = torch.cat(list(hyperbolicity._every(9)), dim=1).T
    assert sorted(map(tuple, every.tolist())) == list(combinations(range(9), 4))


def test_one_place_has_no_shape() -> None:
    found = gromov_hyperbolicity(torch.full((9, 2), 0.2), PoincareBall())
    assert (found.largest, found.mean, found.diameter) == (0, 0, 0) and math.isnan(found.relative)


def test_isometries_change_nothing() -> None:
    ball, points = PoincareBall(), at_random(TernarySpace(4), 3, dim=5)
    turn = torch.linalg.qr(points[:5]).Q
    shift = torch.linspace(-0.2, 0.3, 5, dtype=torch.float64)
    found = gromov_hyperbolicity(points, ball, quadruples=5000)
    for moved in (points @ turn, ball.mobius_add(shift, points)):
        again = gromov_hyperbolicity(moved, ball, quadruples=5000)
        for figure in ("largest", "mean", "diameter", "relative"):
            assert math.isclose(getattr(again, figure), getattr(found, figure), rel_tol=1e-9)
