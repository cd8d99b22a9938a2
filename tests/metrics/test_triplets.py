"""Triplets by pairs of levels: against all triples, within some sequences, and their samples."""

from __future__ import annotations

import math
import statistics
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import TripletTable, evaluate, triplet_table, triplets
from ternvae.padic import TernarySpace, valuation
from tests.embeddings import TableEmbedding, at_random, closed_form, on_one_ray, shell_radii


def brute_force(points: Tensor, ball: Any, indices: list[int], n: int) -> np.ndarray[Any, Any]:
    """For each cell, the mean over i of the share of (j, k), triple by triple."""
    hits: dict[tuple[int, int], dict[int, list[bool]]] = {}
    distance = ball.pairwise_dist(points, points)
    for a, b, c in permutations(range(len(indices)), 3):
        near, far = (int(valuation(indices[a] - indices[x], cap=n)) for x in (b, c))
        if near > far:
            hit = bool(distance[a, b] < distance[a, c])
            hits.setdefault((near, far), {}).setdefault(a, []).append(hit)
    table = np.full((n, n), np.nan)
    for cell, anchors in hits.items():
        table[cell] = statistics.fmean(statistics.fmean(each) for each in anchors.values())
    return table


def some(seed: int, count: int, space: TernarySpace) -> Tensor:
    return torch.randperm(space.size, generator=torch.Generator().manual_seed(seed))[:count]


@pytest.mark.parametrize(("n", "count"), [(3, 27), (4, 40), (4, 3), (4, 2), (4, 1)])
def test_it_is_what_all_triples_give(n: int, count: int) -> None:
    space, ball = TernarySpace(n), PoincareBall(0.7)
    indices = some(count, count, space)
    points = at_random(space, 1, dim=3)[indices]
    found = triplet_table(points, ball, space, indices=indices)
    expected = brute_force(points, ball, indices.tolist(), n)
    np.testing.assert_allclose(found.accuracy, expected, atol=1e-12)
    assert found.exact
    counts = np.array(found.count)
    assert ((counts > 0) == ~np.isnan(expected)).all()
    if count == 27:
        whole = triplet_table(at_random(space, 1, dim=3), ball, space)
        np.testing.assert_array_equal(whole.accuracy, found.accuracy)
        # 2 * 3^(n-1-v) partners at each level, of each of 27.
        assert whole.count == found.count and counts[2, 1] == 27 * 2 * 6
        assert math.isclose(found.mean, float(np.nanmean(expected)))
    errors = np.array(found.standard_error)
    assert (errors[counts > 0] == 0).all() and np.isnan(errors[counts == 0]).all()


def test_its_mean_is_what_evaluate_estimates() -> None:
    space = TernarySpace(7)
    points = on_one_ray(shell_radii(space))
    metrics = evaluate(TableEmbedding(space, points), space)
    found = triplet_table(points, PoincareBall(), space)
    error = math.hypot(found.mean_standard_error, metrics.standard_errors["triplet_accuracy"])
    assert abs(found.mean - metrics["triplet_accuracy"]) < 4 * error < 0.01
    assert found.mean_standard_error < 0.0008


@pytest.mark.parametrize("count", [729, 300])
def test_samples_are_near_and_say_how_near(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    space, ball = TernarySpace(6), PoincareBall()
    indices = some(5, count, space)
    points = on_one_ray(shell_radii(space))[indices]
    samples = [
        triplet_table(points, ball, space, indices=indices, triples=15 * 400, seed=seed)
        for seed in range(40)
    ]
    monkeypatch.setattr(triplets, "_EXACT_ROWS", 729)
    exact = triplet_table(points, ball, space, indices=indices)
    assert exact.exact and not samples[0].exact
    for near in range(6):
        for far in range(near):
            shares = [sample.accuracy[near][far] for sample in samples]
            stated = statistics.fmean(sample.standard_error[near][far] for sample in samples)
            assert abs(statistics.fmean(shares) - exact.accuracy[near][far]) < 4 * stated / 40**0.5
            assert 0.6 < statistics.stdev(shares) / stated < 1.5
            assert samples[0].count[near][far] == 400
    spread = statistics.stdev(sample.mean for sample in samples)
    assert 0.65 < spread / samples[0].mean_standard_error < 1.4
    assert [sample.seed for sample in samples] == list(range(40))


def test_a_tie_is_a_miss_and_no_miss_is_no_certainty() -> None:
    space, ball = TernarySpace(6), PoincareBall()
    assert triplet_table(torch.zeros(729, 2), ball, space).mean == 0
    right = triplet_table(closed_form(space), ball, space, triples=1500)
    assert right.mean == 1 and 0 < right.mean_standard_error < 0.01
    assert all(0 < right.standard_error[a][b] < 0.02 for a in range(6) for b in range(a))


def test_one_digit_has_no_pair_of_levels() -> None:
    found = triplet_table(at_random(TernarySpace(1), 0), PoincareBall(), TernarySpace(1))
    assert isinstance(found, TripletTable)
    assert math.isnan(found.mean) and math.isnan(found.mean_standard_error)
    assert found.count == ((0,),) and math.isnan(found.accuracy[0][0])


@pytest.mark.parametrize("n", [4, 6])
def test_isometries_change_nothing(n: int) -> None:
    space, ball = TernarySpace(n), PoincareBall()
    points = at_random(space, 3, dim=5)
    turn = torch.linalg.qr(at_random(space, 7, dim=5)[:5]).Q
    shift = torch.linspace(-0.2, 0.3, 5, dtype=torch.float64)
    found = triplet_table(points, ball, space)
    for moved in (points @ turn, ball.mobius_add(shift, points)):
        again = triplet_table(moved, ball, space)
        np.testing.assert_array_equal(again.accuracy, found.accuracy)
