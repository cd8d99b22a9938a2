"""Samples of pairs and triples against all of them, and their standard errors against spreads."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import SAMPLE_SIZE, Evaluator, Metrics, evaluate
from ternvae.padic import TernarySpace
from tests.embeddings import TableEmbedding, at_random, closed_form, on_one_ray, shell_radii

PAIR_METRICS = ("dist_corr", "ultrametric_corr")
SAMPLED = {*PAIR_METRICS, "Q_enhanced", "triplet_accuracy"}
EMBEDDINGS = ["closed form", "one ray", "random", "noisy ray"]


def embedding(name: str, space: TernarySpace) -> TableEmbedding:
    radii = shell_radii(space)
    if name == "noisy ray":
        radii = radii + 0.3 * at_random(space, 3, dim=1).squeeze(-1)
    points = {
        "closed form": lambda: closed_form(space),
        "one ray": lambda: on_one_ray(radii),
        "random": lambda: at_random(space, 0),
        "noisy ray": lambda: on_one_ray(radii.abs()),
    }
    return TableEmbedding(space, points[name]())


def drawn(name: str, n: int, size: int, seeds: int) -> list[Metrics]:
    space = TernarySpace(n)
    model = embedding(name, space)
    return [Evaluator(space, sample_size=size, sample_seed=seed)(model) for seed in range(seeds)]


@pytest.mark.parametrize("size", [4096, 300])
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_sampled_pairs_agree_with_all_pairs(name: str, size: int) -> None:
    """4096 pairs of 729 sequences are six rounds of them; 300 pairs have no sequence in common."""
    space = TernarySpace(6)
    exact = Evaluator(space)(embedding(name, space))
    assert exact.sampling["pairs_exact"] is True
    samples = drawn(name, 6, size, 25)
    for metric in (*PAIR_METRICS, "triplet_accuracy"):
        count = size if metric in PAIR_METRICS else size // 8
        scores = [metrics[metric] for metrics in samples]
        # One sample is near, and the mean of many is nearer: no bias.
        assert max(abs(s - exact[metric]) for s in scores) < 5 / math.sqrt(count)
        assert abs(statistics.fmean(scores) - exact[metric]) < 5 / math.sqrt(count * 25)
    for metrics in samples:
        same = {k: v for k, v in metrics.items() if k not in SAMPLED}
        assert same == {k: v for k, v in exact.items() if k not in SAMPLED}


@pytest.mark.parametrize("size", [2000, 250])
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_standard_errors_of_pairs_and_triples_are_those_of_the_spread(name: str, size: int) -> None:
    """Never too small; too large only where every sequence being drawn alike helps."""
    seeds = 80
    samples = drawn(name, 6, size, seeds)
    for metric in (*PAIR_METRICS, "Q_enhanced", "triplet_accuracy"):
        stated = statistics.fmean(metrics.standard_errors[metric] for metrics in samples)
        spread = statistics.stdev(metrics[metric] for metrics in samples)
        # The spread of 80 has a standard error of 8 %.
        assert spread < 1.35 * stated, metric
        independent = size == 250 and metric in PAIR_METRICS and metric != "Q_enhanced"
        if name == "random" or (independent and name == "noisy ray"):
            assert spread > 0.65 * stated, metric


def test_standard_errors_stay_below_their_bounds_and_two_thousandths() -> None:
    space = TernarySpace(8)
    for name in EMBEDDINGS:
        metrics = evaluate(embedding(name, space), space)
        bounds = metrics.sampling["standard_error_at_most"]
        assert set(metrics.standard_errors) == SAMPLED
        assert max(metrics.standard_errors[m] for m in PAIR_METRICS) <= bounds["pairs"] < 0.002
        assert metrics.standard_errors["triplet_accuracy"] <= bounds["triples"] < 0.002
        assert bounds["coverage"] == bounds["hierarchy"] == 0


def test_a_sample_without_a_miss_does_not_claim_certainty() -> None:
    space = TernarySpace(5)
    metrics = Evaluator(space, sample_size=800)(TableEmbedding(space, closed_form(space)))
    assert metrics["triplet_accuracy"] == 1
    assert 0 < metrics.standard_errors["triplet_accuracy"] < 1 / 100


def test_the_result_names_its_sample() -> None:
    space = TernarySpace(9)
    sampling = Evaluator(space).sampling
    assert sampling == {
        "rows": 19683,
        "rows_exact": True,
        "pairs": SAMPLE_SIZE,
        "pairs_exact": False,
        "triples": SAMPLE_SIZE // 8,
        "seed": sampling["seed"],
        "standard_error_at_most": sampling["standard_error_at_most"],
    }
    other = Evaluator(TernarySpace(3), sample_size=100, sample_seed=7).sampling
    assert (other["pairs"], other["pairs_exact"]) == (100, False)
    assert (other["triples"], other["seed"]) == (13, 7)
    few = Evaluator(TernarySpace(3), sample_size=351, sample_seed=7).sampling
    assert few["pairs"] == 27 * 26 // 2 and few["pairs_exact"] is True
    assert few["standard_error_at_most"]["pairs"] == 0
    assert Evaluator(TernarySpace(1)).sampling["triples"] == 0
    # 729 * 728 / 2 pairs fit into the budget, 2187 * 2186 / 2 do not.
    exact = [Evaluator(TernarySpace(n)).sampling["pairs_exact"] for n in (6, 7)]
    assert exact == [True, False]


def test_seeds_choose_samples() -> None:
    space = TernarySpace(4)
    model = embedding("noisy ray", space)
    first, again, other = (
        Evaluator(space, sample_size=500, sample_seed=seed)(model) for seed in (1, 1, 2)
    )
    assert first == again
    assert all(first[name] != other[name] for name in SAMPLED)


class WatchedBall(PoincareBall):
    """Keeps what it is asked the distance of; the points are their own names."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Tensor, Tensor]] = []

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        self.asked.append((x[:, 1], y[:, 1]))
        return super().dist(x, y, keepdim=keepdim, dim=dim)


def asked(size: int, seeds: int) -> tuple[list[Tensor], list[Tensor]]:
    """The pairs (two sides) and triples (three) of 27 sequences that many seeds ask for."""
    space = TernarySpace(3)
    names = torch.arange(27.0, dtype=torch.float64) / 100
    points = torch.stack([torch.zeros_like(names), names], dim=-1)
    pairs: list[list[Tensor]] = [[], []]
    triples: list[list[Tensor]] = [[], [], []]
    for seed in range(seeds):
        ball = WatchedBall()
        Evaluator(space, sample_size=size, sample_seed=seed)(
            TableEmbedding(space, points, at_random(space, seed, dim=2), ball=ball)
        )
        found = [tuple((side * 100).round().long() for side in each) for each in ball.asked]
        (anchor, near), (again, far) = found[-2:]
        assert torch.equal(anchor, again)
        i, j = (torch.cat(side) for side in zip(*found[:-2], strict=True))
        assert len(torch.unique(torch.minimum(i, j) * 27 + torch.maximum(i, j))) == len(i) == size
        for kept, new in zip([*pairs, *triples], (i, j, anchor, near, far), strict=True):
            kept.append(new)
    return [torch.cat(side) for side in pairs], [torch.cat(side) for side in triples]


def assert_uniform(values: Tensor, kinds: int) -> None:
    """All kinds occur, and equally often within six standard deviations of chi-square."""
    counts = values.unique(return_counts=True)[1].double()  # type: ignore[no-untyped-call]
    assert len(counts) == kinds
    expected = len(values) / kinds
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < kinds - 1 + 6 * math.sqrt(2 * (kinds - 1))


@pytest.mark.parametrize(("size", "seeds"), [(13, 300), (100, 50), (350, 30)])
def test_samples_follow_their_definition(size: int, seeds: int) -> None:
    """Which pairs and triples are measured, seen from the ball: no pair of a sample twice."""
    space, n = TernarySpace(3), 3
    (i, j), (anchor, near, far) = asked(size, seeds)
    assert len(anchor) == seeds * -(-size // 8)
    # Pairs: every unordered one alike, no point with itself.
    assert bool((i != j).all())
    assert_uniform(torch.minimum(i, j) * 27 + torch.maximum(i, j), 27 * 26 // 2)
    # Triples: all anchors alike, all pairs of distinct valuations alike, all partners alike.
    high, low = (space.valuation((anchor - other) % 27) for other in (near, far))
    assert bool((high > low).all())
    assert_uniform(anchor, 27)
    assert_uniform(low * n + high, 3)
    for offset, v in ((anchor - near, high), (anchor - far, low)):
        for level, members in ((0, 18), (1, 6), (2, 2)):
            chosen = (offset % 27)[v == level]
            if len(chosen):
                assert_uniform(chosen, members)


@pytest.mark.parametrize("size", [0, -5])
def test_empty_samples_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"sample_size.*{size}"):
        Evaluator(TernarySpace(2), sample_size=size)
