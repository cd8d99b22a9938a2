"""Sibling retrieval against brute force, its ties, its seams, its samples and its symmetries."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import SiblingRetrieval, neighbours, sibling_retrieval
from ternvae.padic import TernarySpace, valuation
from tests.embeddings import at_random, closed_form, on_one_ray, shell_radii


def brute_force(points: Tensor, ball: Any, indices: Tensor) -> float:
    """Every distance, anchor by anchor; NaN without an anchor that could miss."""
    hits = []
    for k, (point, index) in enumerate(zip(points, indices, strict=True)):
        others = torch.arange(len(points)) != k
        distance = ball.dist(point, points[others])
        level = valuation(index - indices[others], cap=20)
        if len(level.unique()) > 1:
            inside = level == level.max()
            hits.append(bool(distance[inside].min() < distance[~inside].min()))
    return statistics.fmean(hits) if hits else math.nan


def noisy(space: TernarySpace, share: float, c: float = 1.0) -> Tensor:
    """The closed form with so much noise that some siblings are lost."""
    generator = torch.Generator().manual_seed(5)
    clean = closed_form(space, scale=0.3)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    return (clean + share * 0.3 * 0.62**space.n_digits * noise) / c**0.5


@pytest.fixture(params=["whole", "tiny tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tiny tiles":
        monkeypatch.setattr(neighbours, "_ROWS", {"cpu": 7})
        monkeypatch.setattr(neighbours, "_CELLS", {"cpu": 35})
        monkeypatch.setattr(neighbours, "_PAIRS", 4)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("c", [1.0, 0.3])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_it_is_what_brute_force_finds(share: float, c: float) -> None:
    space, ball = TernarySpace(5), PoincareBall(c)
    points = noisy(space, share, c)
    found = sibling_retrieval(points, ball, space)
    assert found.share == brute_force(points, ball, torch.arange(space.size))
    assert (found.share == 1) == (share == 0)
    assert found.share > 0.05
    assert (found.standard_error, found.anchors, found.of, found.exact) == (0, 243, 243, True)


@pytest.mark.usefixtures("tiles")
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), share=st.sampled_from([0.0, 0.5]))
def test_some_sequences_are_measured_among_themselves(seed: int, count: int, share: float) -> None:
    """The smallest ball is that which holds another one of them."""
    space, ball = TernarySpace(4), PoincareBall()
    order = torch.randperm(space.size, generator=torch.Generator().manual_seed(seed))
    indices = order[:count]
    points = noisy(space, share)[indices]
    found = sibling_retrieval(points, ball, space, indices=indices)
    expected = brute_force(points, ball, indices)
    assert found.share == expected or (math.isnan(found.share) and math.isnan(expected))
    if not math.isnan(expected) and not share:
        assert found.share == 1  # the closed form orders all distances
    again = sibling_retrieval(
        points.flip(0).float(), ball, space, indices=indices.flip(0).numpy().tolist()
    )
    assert math.isnan(expected) or abs(again.share - expected) < 0.2


def test_all_indices_in_any_order_are_the_space() -> None:
    space = TernarySpace(4)
    order = torch.randperm(space.size, generator=torch.Generator().manual_seed(3))
    points = noisy(space, 0.5)
    whole = sibling_retrieval(points, PoincareBall(), space)
    assert sibling_retrieval(points[order], PoincareBall(), space, indices=order) == whole


@pytest.mark.parametrize("place", [0.0, 0.2])
def test_a_tie_is_a_miss(place: float) -> None:
    space = TernarySpace(5)
    found = sibling_retrieval(torch.full((243, 3), place), PoincareBall(), space)
    assert found.share == 0
    # On a line at equal steps, in the order of the tree: both neighbours of an outer sibling tie.
    order = space.indices(space.sequences().flip(-1))
    line = torch.zeros(243, 2, dtype=torch.float64)
    line[order, 0] = (0.01 * torch.arange(1, 244, dtype=torch.float64) / 2).tanh()
    found = sibling_retrieval(line, PoincareBall(), space)
    # The middle one of three has two siblings as neighbours; the first and the last of all, one.
    assert found.share == (81 + 2) / 243


def test_what_a_matrix_product_cannot_see_is_seen() -> None:
    """A tiny cluster far from the origin: squared distances drown in the rounding of a product."""
    space, ball = TernarySpace(5), PoincareBall()
    at = torch.full((8,), 0.3, dtype=torch.float64)
    points = ball.mobius_add(at, closed_form(space, scale=1e-9))
    square = points.square().sum(-1)
    product = square[:, None] + square - 2 * points @ points.T
    assert product[~torch.eye(243, dtype=torch.bool)].min() <= 0
    assert sibling_retrieval(points, ball, space).share == 1


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_known_embeddings(n: int) -> None:
    space, ball = TernarySpace(n), PoincareBall()
    if n == 1:  # all are siblings of one another
        alone = sibling_retrieval(at_random(space, 0), ball, space)
        assert math.isnan(alone.share) and (alone.anchors, alone.of) == (0, 0)
        return
    assert sibling_retrieval(closed_form(space), ball, space).share == 1
    if n == 7:
        for points in (on_one_ray(shell_radii(space)), at_random(space, 0)):
            # Two siblings among 2186 others.
            assert sibling_retrieval(points, ball, space).share < 0.01


def test_a_sample_of_anchors_is_near_and_says_how_near() -> None:
    space, ball = TernarySpace(6), PoincareBall()
    points = noisy(space, 1.0)
    exact = sibling_retrieval(points, ball, space)
    assert 0.2 < exact.share < 0.8
    samples = [
        sibling_retrieval(points, ball, space, comparisons=200 * 729 + 9, seed=seed)
        for seed in range(60)
    ]
    assert {(s.anchors, s.of, s.exact) for s in samples} == {(200, 729, False)}
    assert [s.seed for s in samples] == list(range(60))
    shares = [s.share for s in samples]
    assert abs(statistics.fmean(shares) - exact.share) < 0.015
    stated = statistics.fmean(s.standard_error for s in samples)
    assert 0.7 < statistics.stdev(shares) / stated < 1.35  # that of 60 is off by 9 %
    sure = sibling_retrieval(closed_form(space), ball, space, comparisons=200 * 729)
    assert sure.share == 1 and 0 < sure.standard_error < 0.01


def test_the_result_is_the_same_wherever_the_origin_is() -> None:
    space, ball = TernarySpace(5), PoincareBall()
    points = noisy(space, 0.5)
    found = sibling_retrieval(points, ball, space)
    turn = torch.linalg.qr(at_random(space, 7, dim=8)[:8]).Q
    shift = torch.linspace(-0.2, 0.3, 8, dtype=torch.float64)
    assert sibling_retrieval(points @ turn, ball, space) == found
    assert sibling_retrieval(ball.mobius_add(shift, points), ball, space) == found
    assert isinstance(found, SiblingRetrieval)


def test_points_keep_their_gradient_and_their_device() -> None:
    points = closed_form(TernarySpace(3)).float().requires_grad_()
    sibling_retrieval(points, PoincareBall(), TernarySpace(3))
    assert points.requires_grad and points.grad is None
