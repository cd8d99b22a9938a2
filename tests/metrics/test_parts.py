"""Metrics within a part of the space, against their definitions written out over the part."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2, spearmanr

from ternvae.metrics import Evaluator, ceilings, evaluate
from ternvae.metrics.pairs import Triples
from ternvae.metrics.rows import PartRows
from ternvae.metrics.within import triples_within
from ternvae.padic import Holdout, TernarySpace, valuation
from tests.embeddings import TableEmbedding, at_random, closed_form, on_one_ray, shell_radii
from tests.padic.oracles import IMPLAUSIBLE


def repeated(values: list[float], weights: list[int]) -> np.ndarray:
    return np.repeat(np.array(values), weights)


@pytest.mark.parametrize("seed", [0, 1])
def test_levels_weigh_as_in_the_space(seed: int) -> None:
    """A weight is a number of copies: 18, 6, 2 and 1 sequences stand for 4, 3, 2 and 1."""
    space = TernarySpace(3)
    model = TableEmbedding(space, at_random(space, seed, dim=3))
    part = [1, 5, 14, 25, 3, 12, 24, 9, 18, 0]
    levels = valuation(torch.tensor(part), cap=3).tolist()
    sizes, counts = [18, 6, 2, 1], [4, 3, 2, 1]
    copies = [2 * sizes[v] // counts[v] for v in levels]
    assert [levels.count(v) for v in range(4)] == counts
    found = evaluate(model, space, part)
    points = model.points["B"][part]
    radii = model.ball.dist0(points).tolist()
    coefficient = spearmanr(repeated(levels, copies), repeated(radii, copies)).statistic
    # Ties among the copies are a part of the spread of the ranks; see Rows.ceiling.
    spread = 1 - sum((c / sum(copies)) ** 3 for c in copies)
    expected = coefficient * np.sqrt(spread / (1 - 1 / 27**2))
    assert found["hierarchy_B"] == pytest.approx(expected, abs=1e-12)
    parts = [[r for r, level in zip(radii, levels, strict=True) if level == v] for v in range(4)]
    assert found["richness"] == pytest.approx(sum(np.var(each) for each in parts) / 4)
    assert [found[f"r_v{v}"] for v in range(4)] == pytest.approx([np.mean(p) for p in parts])
    pairs = list(itertools.combinations(range(10), 2))
    weights = [copies[a] * copies[b] for a, b in pairs]
    gaps = [abs(radii[a] - radii[b]) for a, b in pairs]
    far = [float(model.ball.dist(points[a], points[b])) for a, b in pairs]
    of_levels = [abs(levels[a] - levels[b]) for a, b in pairs]
    padic = [float(space.distance(part[a], part[b])) for a, b in pairs]
    for name, x, y in (("dist_corr", gaps, of_levels), ("ultrametric_corr", far, padic)):
        brute = spearmanr(repeated(x, weights), repeated(y, weights)).statistic
        assert found[name] == pytest.approx(brute, abs=1e-12), name
    assert found.sampling["pairs"] == 45
    assert found.sampling["pairs_exact"]
    assert found.sampling["rows"] == 10


@pytest.mark.parametrize("seed", [0, 5, 8])
def test_of_a_perfect_embedding_every_part_is_at_the_ceilings_of_the_space(seed: int) -> None:
    """Halves with sequence 0, so that there is something of every level."""
    space = TernarySpace(7)
    part = next(
        holdout.seen_indices()
        for holdout in (Holdout(space, 0.5, 100 * seed + k) for k in range(100))
        if torch.bincount(valuation(holdout.seen_indices(), cap=7), minlength=8).all()
    )
    sizes = torch.bincount(valuation(part, cap=7)).double()
    own = -(float(1 - ((sizes / sizes.sum()) ** 3).sum()) ** 0.5)
    highest = ceilings(7)
    assert abs(own - highest["hierarchy"]) > 1e-4  # by itself the part has another one
    found = evaluate(TableEmbedding(space, closed_form(space)), space, part)
    assert found["coverage"] == found["coverage_B"] == found["triplet_accuracy"] == 1
    assert found["hierarchy_B"] == pytest.approx(highest["hierarchy"], abs=1e-9)
    assert found["ultrametric_corr"] == pytest.approx(highest["ultrametric_corr"], abs=2e-3)
    on_ray = evaluate(TableEmbedding(space, on_one_ray(shell_radii(space))), space, part)
    assert on_ray["dist_corr"] == pytest.approx(highest["dist_corr"], abs=1e-3)


def test_what_happens_outside_a_part_does_not_matter() -> None:
    space = TernarySpace(6)
    holdout = Holdout(space, 0.4, 5)
    points, unseen = at_random(space, 0), holdout.unseen_indices()
    other = points.clone()
    other[unseen] = at_random(space, 1)[unseen]
    seen = holdout.seen_indices()
    first = evaluate(TableEmbedding(space, points), space, seen)
    second = evaluate(TableEmbedding(space, other, wrong_b=unseen.tolist()), space, seen)
    assert first == second
    third = evaluate(TableEmbedding(space, other), space, unseen)
    assert third["hierarchy_B"] != evaluate(TableEmbedding(space, points), space)["hierarchy_B"]


def test_coverage_counts_the_part_alone() -> None:
    space = TernarySpace(4)
    part = torch.arange(0, 81, 2)
    units = (part % 3 != 0).sum().item()
    model = TableEmbedding(space, closed_form(space), wrong_b=[2, 1], wrong_a=[1])
    found = evaluate(model, space, part)
    assert found["coverage"] == 1
    assert found["coverage_B"] == pytest.approx(1 - 54 / 81 / units)


def test_a_level_that_is_missing_has_no_radius_and_lowers_the_ceiling() -> None:
    space = TernarySpace(5)
    evaluator = Evaluator(space, among=lambda indices: indices > 0)
    found = evaluator(TableEmbedding(space, closed_form(space)))
    assert [name for name in found if name.startswith("r_v")] == [f"r_v{v}" for v in range(5)]
    assert ceilings(5)["hierarchy"] < evaluator.hierarchy_ceiling < -0.82
    assert found["hierarchy_B"] == pytest.approx(evaluator.hierarchy_ceiling, abs=1e-4)
    # One sequence has no pair.
    alone = evaluate(TableEmbedding(space, closed_form(space)), space, [7])
    assert alone["coverage_B"] == 1
    assert np.isnan([alone["hierarchy_B"], alone["dist_corr"], alone["triplet_accuracy"]]).all()


def test_triples_stay_inside_and_have_their_valuations() -> None:
    space, share = TernarySpace(6), 0.9
    holdout = Holdout(space, share, 1)
    generator = torch.Generator().manual_seed(0)
    rows = PartRows(space, holdout.is_seen)
    triples = Triples(space, 2000, generator, rows, holdout.is_seen)
    assert len(triples) > 1500
    for column in (triples.anchor, triples.near, triples.far):
        assert holdout.is_seen(column).all()
    near = valuation(triples.anchor - triples.near, cap=6)
    far = valuation(triples.anchor - triples.far, cap=6)
    assert (near > far).all()
    # A part without two sequences that share a digit has no triple.
    assert len(Triples(space, 100, generator, member=lambda indices: indices < 3)) == 0


@pytest.mark.parametrize("listed", [True, False])
def test_partners_within_a_part_are_uniform(listed: bool) -> None:
    space = TernarySpace(4)
    holdout = Holdout(space, 0.7, 4)
    rows = PartRows(space, holdout.is_seen) if listed else None
    drawn = torch.zeros(30_000, dtype=torch.int64)
    generator = torch.Generator().manual_seed(3)
    found = triples_within(space, rows, holdout.is_seen, (drawn, drawn + 2), generator)
    assert found.shape == (3, 30_000)
    members = holdout.seen_indices()
    between = valuation(members.unsqueeze(1) - members, cap=4)
    for level, partners in ((2, found[1]), (0, found[2])):
        statistic, degrees = 0.0, 0
        for row, anchor in enumerate(members.tolist()):
            allowed = members[between[row] == level].tolist()
            counts = Counter(partners[found[0] == anchor].tolist())
            assert set(counts) <= set(allowed)
            if counts:
                expected = sum(counts.values()) / len(allowed)
                statistic += sum((counts[each] - expected) ** 2 / expected for each in allowed)
                degrees += len(allowed) - 1
        assert chi2.sf(statistic, degrees) > IMPLAUSIBLE


def test_a_part_of_a_space_that_is_sampled() -> None:
    """Only what is asked of a sample can be in it, and it estimates the part."""
    space, size = TernarySpace(9), 3000
    holdout = Holdout(space, 0.5, 2)
    model = TableEmbedding(space, on_one_ray(shell_radii(space, spread=0.9)))
    options = {"sample_size": size, "exact_up_to": 5, "among": holdout.is_seen}
    sampled = Evaluator(space, **options)
    assert all(bool(holdout.is_seen(rows).all()) for rows in sampled.chunks())
    assert not sampled.sampling["rows_exact"]
    estimate, exact = sampled(model), evaluate(model, space, holdout.seen_indices())
    for name in ("hierarchy_B", "dist_corr", "triplet_accuracy", "r_v0"):
        off = abs(estimate[name] - exact[name])
        assert off < 5 * estimate.standard_errors[name] + 0.01, name


def test_parts_that_are_none() -> None:
    space = TernarySpace(3)
    model = TableEmbedding(space, closed_form(space))
    with pytest.raises(ValueError, match="indices: got 27"):
        evaluate(model, space, [1, 27])
    with pytest.raises(ValueError, match=r"indices: got shape \(0,\)"):
        evaluate(model, space, torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="among"):
        evaluate(model, TernarySpace(16), [1])
    with pytest.raises(ValueError, match="among: is true of none"):
        Evaluator(space, among=lambda indices: indices < 0)
    with pytest.raises(TypeError, match="among: expected something to call"):
        Evaluator(space, among=[1, 2])  # type: ignore[arg-type]
