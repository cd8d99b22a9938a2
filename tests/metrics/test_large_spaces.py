"""Spaces too large to measure row by row, to keep, or to measure alone."""

from __future__ import annotations

import math
import statistics
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ternvae.ceilings import ceilings
from ternvae.manifolds import PoincareBall
from ternvae.metrics import SAMPLE_SIZE, Evaluator, Metrics, evaluation_bytes
from ternvae.metrics.levels import largest_errors
from ternvae.metrics.rows import LevelSample
from ternvae.padic import TernarySpace, valuation
from ternvae.training import device as devices
from ternvae.training.device import check_memory
from tests.embeddings import TableEmbedding, at_random, on_one_ray, shell_radii

SEVEN = TernarySpace(7)


class Shells:
    """Perfect radii for any number of digits, from the indices alone; some decode wrong.

    The second coordinate is the index in small, which the decoder reads.
    """

    ball = PoincareBall(max_radius=0.95)

    def __init__(self, n_digits: int, *, every: int = 0) -> None:
        self.space = TernarySpace(n_digits)
        self.every = every

    def embed(self, indices: Tensor, branch: str = "B") -> Tensor:
        level = valuation(indices, cap=self.space.n_digits)
        jitter = (indices * 2_654_435_761 % 2**32).double() / 2**32 - 0.5
        radius = 3.6 / (self.space.n_digits + 1) * (self.space.n_digits - level + 0.5 + jitter / 4)
        return torch.stack([torch.tanh(radius / 2), indices.double() * 2.0**-60], dim=-1)

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        indices = (points[:, 1] * 2.0**60).round().long()
        sequences = self.space.sequences(indices)
        if self.every:
            sequences[indices % self.every == 0, 0] = 9
        return sequences


def noisy(space: TernarySpace, *, wrong: int = 5) -> TableEmbedding:
    """Radii that lean towards the levels, and every so-many-th sequence decoded wrong."""
    radii = (shell_radii(space) + 0.5 * at_random(space, 3, dim=1).squeeze(-1)).abs()
    return TableEmbedding(space, on_one_ray(radii), wrong_b=list(range(0, space.size, wrong)))


def figures(evaluator: Evaluator, model: Any) -> dict[str, float]:
    return {**evaluator.branch_a(model), **evaluator.branch_b(model)}


# --- samples of rows ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_sample_that_is_complete_is_exact(n: int) -> None:
    space = TernarySpace(n)
    model = noisy(space)
    exact = figures(Evaluator(space), model)
    sampled = figures(Evaluator(space, exact_up_to=n - 1), model)
    assert sampled == pytest.approx(exact, rel=1e-9, abs=1e-12, nan_ok=True)


def test_rows_of_a_sample_are_distinct_and_of_their_level() -> None:
    for n, size in ((7, 400), (20, 3000)):
        sample = LevelSample(TernarySpace(n), size, seed=5)
        rows = sample.chunk(0, sample.total)
        assert len(rows) == len(rows.unique()) == sample.total  # type: ignore[no-untyped-call]
        parts = sample.by_level(rows.numpy())
        for level, part in enumerate(parts):
            assert len(part) == sample.counts[level] <= sample.sizes[level]
            assert (valuation(torch.from_numpy(part), cap=n) == level).all()
            assert part.min() >= 0 and part.max() < 3**n
        assert [len(part) for part in parts[:4]] == [size, size // 2, size // 4, size // 8]
        assert len(parts[-1]) == 1


def test_every_row_of_a_level_is_drawn_alike() -> None:
    counts = np.zeros(SEVEN.size)
    for seed in range(200):
        sample = LevelSample(SEVEN, 40, seed)
        counts[sample.chunk(0, sample.total).numpy()] += 1
    drawn, there = sample.counts, sample.sizes
    for level in range(8):
        of_level = counts[:: 3**level].reshape(-1, 3)[:, 1:] if level < 7 else counts[:1]
        p = drawn[level] / there[level]
        assert of_level.mean() == pytest.approx(200 * p)
        if p < 1:  # binomial counts, six standard deviations
            assert abs(of_level - 200 * p).max() < 6 * math.sqrt(200 * p * (1 - p))


ROW_FIGURES = ["coverage_B", "hierarchy_B", "richness", "Q_enhanced", "r_v0", "r_v1", "r_v2"]


def test_standard_errors_of_sampled_rows_are_those_of_the_spread() -> None:
    """And the mean of many is the exact figure."""
    model, seeds = noisy(SEVEN), 100
    exact = Evaluator(SEVEN, sample_size=3**7 * (3**7 - 1) // 2)(model)
    samples = [
        Evaluator(SEVEN, sample_size=240, sample_seed=seed, exact_up_to=0)(model)
        for seed in range(seeds)
    ]
    bounds = samples[0].sampling["standard_error_at_most"]
    for name in [*ROW_FIGURES, "coverage", "hierarchy_A"]:
        stated = statistics.fmean(metrics.standard_errors[name] for metrics in samples)
        spread = statistics.stdev(metrics[name] for metrics in samples)
        if name != "coverage":  # no miss in any sample, which is no certainty
            assert 0.75 * stated < spread < 1.3 * stated, name
        mean = statistics.fmean(metrics[name] for metrics in samples)
        # Ranks within a sample are biased by a part of 1/M.
        assert mean == pytest.approx(exact[name], abs=4 * stated / math.sqrt(seeds) + 2e-3), name
        bound = bounds.get(name.partition("_")[0])
        assert bound is None or all(m.standard_errors[name] <= bound for m in samples)
    assert samples[0]["coverage"] == 1 and samples[0].standard_errors["coverage"] > 0
    complete = {f"r_v{v}" for v in range(8) if samples[0].standard_errors[f"r_v{v}"] == 0}
    assert complete == {"r_v4", "r_v5", "r_v6", "r_v7"}
    for name in complete:
        assert samples[0][name] == pytest.approx(exact[name], rel=1e-12)


def test_a_perfect_order_is_at_its_ceiling_in_any_sample_and_no_collapse() -> None:
    model = TableEmbedding(SEVEN, on_one_ray(shell_radii(SEVEN)))
    for seed in range(5):
        metrics = Evaluator(SEVEN, sample_size=200, sample_seed=seed, exact_up_to=0)(model)
        assert metrics["hierarchy_B"] == pytest.approx(ceilings(7)["hierarchy"], abs=1e-4)
        assert metrics["hierarchy_B"] > ceilings(7)["hierarchy"] - 1e-4


@pytest.mark.parametrize("n", [3, 6])
def test_points_that_are_no_numbers_are_nan_in_a_sample_too(n: int) -> None:
    space = TernarySpace(n)
    points = at_random(space, 1, dim=2)
    points[:] = math.nan
    metrics = Evaluator(space, exact_up_to=0)(TableEmbedding(space, points))
    for name in ("hierarchy_A", "hierarchy_B", "richness", "dist_corr", "ultrametric_corr"):
        assert math.isnan(metrics[name]), name


def test_a_sample_has_no_points_of_the_whole_space() -> None:
    evaluator = Evaluator(TernarySpace(16))
    with pytest.raises(ValueError, match=r"43046721 sequences.*chunks\(\)"):
        evaluator.embed(Shells(16), "A")
    assert sum(len(rows) for rows in evaluator.chunks()) == evaluator.sampling["rows"]


# --- twenty digits --------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The number of elements of the largest tensor that anything made."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, Tensor):
                self.largest = max(self.largest, each.untyped_storage().nbytes())
        return made


def test_twenty_digits_are_measured_in_the_memory_of_the_sample() -> None:
    def measure() -> tuple[Evaluator, Metrics]:
        evaluator = Evaluator(TernarySpace(20), sample_size=2**12)
        return evaluator, evaluator(Shells(20, every=10))

    with LargestTensor() as watched:  # type: ignore[no-untyped-call]
        evaluator, metrics = measure()
    assert 2**16 < watched.largest < 2**22  # bytes; even 3^20 bits are 2^28.7
    tracemalloc.start()  # which sees the arrays of numpy
    try:
        measure()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22
    right, error = 0.9, metrics.standard_errors["coverage"]
    assert abs(metrics["coverage"] - right) < 5 * error < 0.05
    assert metrics["hierarchy_B"] == pytest.approx(ceilings(20)["hierarchy"], abs=1e-4)
    assert metrics["r_v20"] == pytest.approx(metrics["r_v0"] / 41, rel=0.3)
    assert metrics.standard_errors["r_v20"] == 0 < metrics.standard_errors["r_v0"]
    bound = evaluator.sampling["standard_error_at_most"]
    assert metrics.standard_errors["hierarchy_B"] <= bound["hierarchy"]


@pytest.mark.parametrize("n", [16, 20])
def test_the_bounds_of_the_default_samples_are_two_thousandths(n: int) -> None:
    space = TernarySpace(n)
    bounds = largest_errors(LevelSample(space, SAMPLE_SIZE, 0))
    assert 0 < max(bounds.values()) < 0.002, bounds


# --- streams and shares ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exact_up_to", [0, 15])
def test_points_that_are_not_kept_score_the_same(dtype: torch.dtype, exact_up_to: int) -> None:
    points = at_random(SEVEN, 4).to(dtype)
    model = TableEmbedding(SEVEN, points)
    kept, streamed = (
        Evaluator(SEVEN, sample_size=5000, kept_bytes=limit, exact_up_to=exact_up_to)
        for limit in (2**28, 1)
    )
    np.testing.assert_equal(figures(kept, model), figures(streamed, model))


def test_progress_counts_what_is_embedded() -> None:
    told: list[int] = []
    evaluator = Evaluator(SEVEN, sample_size=1000, progress=told.append)
    model = TableEmbedding(SEVEN, at_random(SEVEN, 4))
    evaluator.branch_a(model)
    assert sum(told) == SEVEN.size and len(told) > 0


class Meeting:
    """Adds the tensors of several threads, as processes would."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=30)
        self.brought: dict[int, Tensor] = {}

    def adder(self, rank: int) -> Callable[[Tensor], Tensor]:
        def add(column: Tensor) -> Tensor:
            self.brought[rank] = column
            self.barrier.wait()
            total: Tensor = torch.stack([self.brought[r] for r in sorted(self.brought)]).sum(0)
            self.barrier.wait()
            return total.to(column.dtype)

        return add


@pytest.mark.parametrize("kept_bytes", [1, 2**28])
@pytest.mark.parametrize("exact_up_to", [0, 15])
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_measure_what_one_does(
    world: int, exact_up_to: int, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ternvae.metrics.survey.ROWS_PER_CHUNK", 256)
    model = noisy(SEVEN)
    settings: dict[str, Any] = {"sample_size": 3000, "exact_up_to": exact_up_to}
    alone = figures(Evaluator(SEVEN, **settings), model)
    meeting, found = Meeting(world), {}
    embedded = [0] * world

    def measure(rank: int) -> None:
        def tell(count: int) -> None:
            embedded[rank] += count

        evaluator = Evaluator(
            SEVEN,
            **settings,
            kept_bytes=kept_bytes,
            share=(rank, world),
            add=meeting.adder(rank),
            progress=tell,
        )
        found[rank] = figures(evaluator, model)

    threads = [threading.Thread(target=measure, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(world):
        np.testing.assert_equal(found[rank], alone)
    if kept_bytes == 1 or exact_up_to == 0:
        assert max(embedded) < 1.5 * sum(embedded) / world, "each takes its share"
    else:
        assert embedded == [2 * SEVEN.size] * world, "what is small, each measures by itself"


@pytest.mark.parametrize(
    ("share", "add", "error"),
    [
        ((1, 1), None, ValueError),
        ((0, 2), None, ValueError),
        ((-1, 2), torch.clone, ValueError),
        ((0, 0), torch.clone, ValueError),
        ([0, 1], None, TypeError),
        (3, None, TypeError),
        ((0, 2), 3, TypeError),
    ],
)
def test_shares_that_are_none_are_refused(share: Any, add: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"share|add"):
        Evaluator(SEVEN, share=share, add=add)


# --- memory ---------------------------------------------------------------------------------


def test_memory_grows_with_rows_up_to_the_limit_and_not_beyond() -> None:
    needed = [evaluation_bytes(TernarySpace(n), 16) for n in range(1, 21)]
    assert needed[:15] == sorted(needed[:15])
    assert needed[14] < 1.2 * 2**30, "fifteen digits fit beside torch into 4 GB"
    assert set(needed[15:]) == {needed[15]} and needed[15] < 2**28
    assert evaluation_bytes(TernarySpace(20), 4096) < 2**29


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(devices, "memory_of", lambda _: 2**28)
    check_memory(TernarySpace(20), 16, cpu)
    with pytest.raises(ValueError, match=r"3\^15 = 14348907 sequences in 16 dim.*0\.25 GiB; take"):
        check_memory(TernarySpace(15), 16, cpu)
    with pytest.raises(ValueError, match="65536 dimensions"):
        check_memory(TernarySpace(20), 2**16, cpu)
    monkeypatch.setattr(devices, "memory_of", lambda _: None)
    check_memory(TernarySpace(15), 16, cpu)
