"""Distortion against metrics that are known, against all pairs, and its samples."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import distortion, stretch
from ternvae.padic import TernarySpace, valuation
from tests.embeddings import at_random, closed_form, on_one_ray, shell_radii


class Given:
    """A ball in which distances are as given; a point says which sequence it is of."""

    c = 1.0

    def __init__(self, metric: Any) -> None:
        self.metric = metric

    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        i, j = ((1e4 * each[..., 0]).round().long() for each in (x, y))
        found: Tensor = self.metric(i, j)
        return found


def names(space: TernarySpace) -> Tensor:
    return 1e-4 * torch.arange(space.size, dtype=torch.float64)[:, None]


def pairs_of(
    points: Tensor, ball: Any, indices: Tensor, n: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All distances, and the valuations beside them."""
    i, j = torch.combinations(torch.arange(len(points))).T
    level = valuation(indices[i] - indices[j], cap=n)
    return ball.dist(points[i], points[j]).numpy(), level.numpy()


@pytest.mark.parametrize("n", [2, 5])
def test_the_metrics_themselves_have_no_distortion(n: int) -> None:
    space = TernarySpace(n)

    def tree(i: Tensor, j: Tensor) -> Tensor:
        return 0.3 * 2 * (n - space.valuation((i - j).abs())).double()

    found = distortion(names(space), Given(tree), space)
    assert found.exact and found.pairs == space.size * (space.size - 1) // 2
    assert math.isclose(found.tree.worst, 1, rel_tol=1e-12)
    assert math.isclose(found.tree.scale, 0.3, rel_tol=1e-12)
    assert found.tree.average < 1e-12 and found.tree.standard_error == 0
    # Against the 3-adic metric: 0.6 (n - v) 3^v rises from 0.6 n to 0.6 * 3^(n-1).
    assert math.isclose(found.padic.worst, 3 ** (n - 1) / n)

    found = distortion(names(space), Given(lambda i, j: 5 * space.distance(i, j)), space)
    assert math.isclose(found.padic.worst, 1, rel_tol=1e-12)
    assert math.isclose(found.padic.scale, 5, rel_tol=1e-12)
    assert math.isclose(found.tree.worst, 3 ** (n - 1) / n)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 60), chunk=st.sampled_from([7, 2**16]))
def test_it_is_what_all_pairs_give(seed: int, count: int, chunk: int) -> None:
    space, ball = TernarySpace(4), PoincareBall(0.7)
    indices = torch.randperm(81, generator=torch.Generator().manual_seed(seed))[:count]
    points = at_random(space, seed, dim=3)[indices]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretch, "_CHUNK", chunk)
        found = distortion(points, ball, space, indices=indices)
    distance, level = pairs_of(points, ball, indices, 4)
    assert found.exact and found.of == len(distance)
    for of, other in ((found.tree, 2.0 * (4 - level)), (found.padic, 3.0**-level)):
        ratio = distance / other
        assert math.isclose(of.worst, ratio.max() / ratio.min(), rel_tol=1e-9)
        assert math.isclose(of.average, np.abs(ratio / of.scale - 1).mean(), rel_tol=1e-9)
        # No scale is better: the mean is convex in 1 / s.
        best = minimize_scalar(
            lambda t, ratio=ratio: np.abs(ratio * t - 1).mean(),
            bounds=(0, 1 / ratio.min()),
            method="bounded",
        )
        assert of.average <= best.fun + 1e-9


@pytest.mark.parametrize("count", [729, 500])
@pytest.mark.parametrize("name", ["closed form", "one ray", "random"])
def test_samples_are_near_and_say_how_near(name: str, count: int) -> None:
    space, ball = TernarySpace(6), PoincareBall()
    points = {
        "closed form": lambda: closed_form(space),
        "one ray": lambda: on_one_ray(shell_radii(space)),
        "random": lambda: at_random(space, 0),
    }[name]()
    indices = torch.randperm(729, generator=torch.Generator().manual_seed(1))[:count]
    points = points[indices]
    exact = distortion(points, ball, space, indices=indices)
    samples = [
        distortion(points, ball, space, indices=indices, pairs=3000, seed=seed)
        for seed in range(40)
    ]
    assert exact.exact and {(s.exact, s.pairs) for s in samples} == {(False, 3000)}
    for of in ("tree", "padic"):
        averages = [getattr(s, of).average for s in samples]
        stated = statistics.fmean(getattr(s, of).standard_error for s in samples)
        truth = getattr(exact, of)
        # The best scale of a sample fits it a little better than that of all pairs.
        assert abs(statistics.fmean(averages) - truth.average) < stated
        assert 0.65 < statistics.stdev(averages) / stated < 1.4
        assert truth.standard_error == 0
        for sample in samples:
            assert getattr(sample, of).worst <= truth.worst * (1 + 1e-12)
            assert getattr(sample, of).worst > 1


def test_small_levels_are_complete() -> None:
    """What they leave over goes to the others."""
    assert stretch._shares([9, 100, 1000], 60) == [9, 25, 26]
    assert stretch._shares([9, 100, 1000], 10**4) == [9, 100, 1000]
    assert stretch._shares([5, 0, 3], 3) == [2, 0, 1]


def test_points_that_coincide() -> None:
    space, ball = TernarySpace(3), PoincareBall()
    points = at_random(space, 0)
    points[5] = points[9]
    assert distortion(points, ball, space).tree.worst == math.inf
    collapsed = distortion(torch.full((27, 2), 0.3), ball, space)
    for of in (collapsed.tree, collapsed.padic):
        assert (of.worst, of.average, of.scale) == (math.inf, 1.0, 0.0)


def test_isometries_and_the_unit_of_length_change_nothing() -> None:
    space, ball = TernarySpace(4), PoincareBall()
    points = at_random(space, 3, dim=5)
    turn = torch.linalg.qr(at_random(space, 7, dim=5)[:5]).Q
    shift = torch.linspace(-0.2, 0.3, 5, dtype=torch.float64)
    found = distortion(points, ball, space)
    for moved in (
        distortion(points @ turn, ball, space),
        distortion(ball.mobius_add(shift, points), ball, space),
        distortion(points / 2, PoincareBall(4.0), space),
    ):
        for of in ("tree", "padic"):
            for figure in ("worst", "average"):
                figures = (getattr(getattr(each, of), figure) for each in (moved, found))
                assert math.isclose(*figures, rel_tol=1e-9)
