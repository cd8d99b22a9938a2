"""Batches: every sequence once per epoch, every level in every batch, nothing left to chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ternvae.padic import TernarySpace
from ternvae.training.batches import Batch, BatchPlan, epoch_seed
from tests.padic.oracles import relaxed, valuation_by_definition

plans = st.builds(
    BatchPlan,
    st.integers(1, 5).map(TernarySpace),
    st.integers(1, 300),
    st.just(0.0) | st.floats(0, 1, exclude_max=True),
)


def level(index: int, n: int) -> int:
    return int(min(valuation_by_definition(index, 3), n))


def parts(plan: BatchPlan, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """The passing and the balanced indices of each batch."""
    balanced = plan.batch_size - plan.passing_rows
    found = []
    for batch in plan.epoch(seed):
        check_rows(plan, batch)
        rows = batch.indices.tolist()
        assert len(rows) == batch.total
        found.append((rows[: len(rows) - balanced], rows[len(rows) - balanced :]))
    return found


def check_rows(plan: BatchPlan, batch: Batch) -> None:
    """Sequences and levels are those of the indices."""
    for part in batch[:3]:
        assert part.dtype == torch.int64 and len(part) == len(batch.indices)
    assert torch.equal(batch.sequences, plan.space.sequences(batch.indices))
    assert torch.equal(batch.levels, plan.space.valuation(batch.indices))


def check(plan: BatchPlan, seed: int) -> None:
    """All that a plan promises, by counting."""
    n, size = plan.space.n_digits, plan.space.size
    batches = parts(plan, seed)
    assert len(batches) == plan.steps_per_epoch

    # The passing rows of an epoch are the space, each index once; only the last batch is short.
    assert sorted(i for passing, _ in batches for i in passing) == list(range(size))
    lengths = [len(passing) + len(balanced) for passing, balanced in batches]
    assert all(length == plan.batch_size for length in lengths[:-1])
    assert lengths[-1] <= plan.batch_size
    assert batches[-1][0]

    # The balanced rows: so many of each level, or the whole level where it is smaller.
    rows = plan.rows_per_level
    for _, balanced in batches:
        counts = Counter(level(i, n) for i in balanced)
        for v, members in enumerate(plan.space.level_sizes()):
            assert counts[v] == min(rows, members)
            if members <= rows:
                assert {i for i in balanced if level(i, n) == v} == {
                    i for i in range(size) if level(i, n) == v
                }
        assert all(0 <= i < size for i in balanced)

    # As many as the share allows, and not one level's worth more.
    room = plan.batch_size * plan.balanced_share
    sizes = plan.space.level_sizes()
    used = sum(min(rows, members) for members in sizes)
    assert used == plan.batch_size - plan.passing_rows
    assert used <= room
    more = sum(min(rows + 1, members) for members in sizes)
    assert more == used or more > min(int(room), plan.batch_size - 1)


@relaxed
@given(plans, st.integers(0, 2**63 - 1))
def test_an_epoch_keeps_every_promise(plan: BatchPlan, seed: int) -> None:
    check(plan, seed)


def test_a_share_next_to_one_still_leaves_a_row_to_pass_through() -> None:
    for n, batch_size in ((1, 3), (2, 8), (2, 9), (3, 16), (3, 27)):
        plan = BatchPlan(TernarySpace(n), batch_size, math.nextafter(1, 0))
        assert plan.passing_rows >= 1
        check(plan, seed=0)


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_for_every_number_of_digits(n: int, share: float) -> None:
    check(BatchPlan(TernarySpace(n), min(3**n, 509), share), seed=n)


@pytest.mark.parametrize(
    ("batch_size", "share"), [(512, 0.2), (1, 0.9), (19683, 0.5), (997, 0.99), (64, 0.2)]
)
def test_nine_digits(batch_size: int, share: float) -> None:
    space = TernarySpace(9)
    plan = BatchPlan(space, batch_size, share)
    batches = [batch.indices for batch in plan.epoch(3)]
    assert len(batches) == plan.steps_per_epoch
    balanced = batch_size - plan.passing_rows
    passing = torch.cat([batch[: len(batch) - balanced] for batch in batches])
    assert torch.equal(passing.sort().values, torch.arange(space.size))
    for batch in (batches[0], batches[-1]):
        levels = space.valuation(batch[len(batch) - balanced :]).bincount(minlength=10).tolist()
        assert levels == [min(plan.rows_per_level, members) for members in space.level_sizes()]


def test_the_default_batch_by_hand() -> None:
    """512 rows, a fifth balanced: 102 in ten levels; those of 1, 2 and 6 leave 13 for the others.

    13 * 7 + 6 + 2 + 1 = 100 fits, 14 * 7 + 9 = 107 does not.
    """
    plan = BatchPlan(TernarySpace(9), 512, 0.2)
    assert (plan.rows_per_level, plan.passing_rows) == (13, 412)
    assert plan.steps_per_epoch == 48  # 19683 / 412 = 47.8


def test_every_batch_shows_every_level_as_soon_as_there_is_room_for_one_of_each() -> None:
    for n in (1, 3, 9):
        space = TernarySpace(n)
        assert BatchPlan(space, 2 * (n + 1), 0.5).rows_per_level >= 1
        assert BatchPlan(space, 2 * (n + 1) - 1, 0.5).rows_per_level == 0


def test_a_share_of_zero_gives_plain_batches() -> None:
    space = TernarySpace(4)
    plan = BatchPlan(space, 10, 0.0)
    assert (plan.rows_per_level, plan.passing_rows, plan.steps_per_epoch) == (0, 10, 9)
    expected = list(space.batches(10, shuffle=True, seed=5))
    for batch, plain in zip(plan.epoch(5), expected, strict=True):
        assert torch.equal(batch.indices, plain)


def as_rows(plan: BatchPlan, seed: int) -> list[list[int]]:
    return [batch.indices.tolist() for batch in plan.epoch(seed)]


def test_seeds_decide_everything() -> None:
    plan = BatchPlan(TernarySpace(6), 100, 0.3)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = as_rows(plan, 11)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert as_rows(plan, 11) == first
    assert as_rows(BatchPlan(TernarySpace(6), 100, 0.3), 11) == first
    other = as_rows(plan, 12)
    assert other != first
    # Not only the permutation: the balanced draws differ too, and from batch to batch.
    balanced = plan.batch_size - plan.passing_rows
    assert other[0][-balanced:] != first[0][-balanced:]
    assert first[1][-balanced:] != first[0][-balanced:]


def test_the_permutation_is_no_rotation_of_another() -> None:
    plan = BatchPlan(TernarySpace(5), 81, 0.0)
    orders = [torch.cat([batch.indices for batch in plan.epoch(seed)]) for seed in range(5)]
    for k, order in enumerate(orders):
        assert not torch.equal(order, torch.arange(243))
        for other in orders[k + 1 :]:
            assert float((order == other).float().mean()) < 0.1
            assert len(set(((order - other) % 243).tolist())) > 50


# --- from any step, in any number of processes --------------------------------------------------


def same_batches(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    return all(
        a.total == b.total and all(map(torch.equal, a[:3], b[:3]))
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of several chunks, the last of them not a whole one."""
    monkeypatch.setattr("ternvae.training.batches._CHUNK", 300)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("batch_size", [16, 50, 729])
def test_a_batch_is_a_function_of_the_seed_and_its_number(batch_size: int) -> None:
    plan = BatchPlan(TernarySpace(6), batch_size, 0.3)
    check(plan, 7)
    whole = list(plan.epoch(7))
    for first in range(plan.steps_per_epoch + 2):
        assert same_batches(whole[first:], plan.epoch(7, first=first))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("world", [2, 3, 5, 40])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_processes_share_the_rows_of_one(world: int, share: float) -> None:
    plan = BatchPlan(TernarySpace(5), 32, share)
    alone = list(plan.epoch(3, first=2))
    shares = [list(plan.epoch(3, first=2, rank=k, world=world)) for k in range(world)]
    for number, whole in enumerate(alone):
        of_batch = [each[number] for each in shares]
        assert {each.total for each in of_batch} == {whole.total}
        for each in of_batch:
            check_rows(plan, each)
        everything = torch.cat([each.indices for each in of_batch])
        assert torch.equal(everything.sort().values, whole.indices.sort().values)
        for rank, each in enumerate(of_batch):
            expected = (part[rank::world] for part in whole[:3])
            assert all(map(torch.equal, each[:3], expected))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_process_sees_every_level(world: int) -> None:
    plan = BatchPlan(TernarySpace(6), 300, 0.4)
    for rank in range(world):
        for batch in plan.epoch(0, rank=rank, world=world):
            counts = batch.levels.bincount(minlength=7)
            rows = torch.tensor([min(plan.rows_per_level, s) for s in plan.space.level_sizes()])
            assert (counts >= rows // world).all()


def test_the_random_rows_of_a_level_are_uniform() -> None:
    """A chi-squared of each level, far below what one chance in a million would give."""
    plan = BatchPlan(TernarySpace(4), 60, 0.5)
    rows, balanced = plan.rows_per_level, plan.batch_size - plan.passing_rows
    counts = torch.zeros(plan.space.size)
    batches = 0
    for seed in range(100):
        for batch in plan.epoch(seed):
            counts += batch.indices[-balanced:].bincount(minlength=plan.space.size)
            batches += 1
    levels = plan.space.valuation(torch.arange(plan.space.size))
    for v, size in enumerate(plan.space.level_sizes()):
        expected = batches * min(rows, size) / size
        deviation = float(((counts[levels == v] - expected) ** 2 / expected).sum())
        assert deviation < size + 5 * (2 * size) ** 0.5
        assert size > rows or deviation == 0


@pytest.mark.parametrize("batch_size", [512, 100_000])
def test_the_largest_space_takes_neither_time_nor_memory(batch_size: int) -> None:
    """3^20 rows: of int64, 28 GB; here both ends of an epoch, and what torch asks for meanwhile."""
    plan = BatchPlan(TernarySpace(20), batch_size, 0.2)
    assert plan.steps_per_epoch * plan.passing_rows >= plan.space.size
    with torch.profiler.profile(profile_memory=True) as profile:
        [*_, final] = plan.epoch(1, first=plan.steps_per_epoch - 2)
        began = next(plan.epoch(1, rank=1, world=2))
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < 25 * 8 * max(batch_size, 2**15)
    check_rows(plan, final)
    check_rows(plan, began)
    assert began.levels.unique().tolist() == list(range(21))


def test_epoch_seeds_are_distinct_and_in_range() -> None:
    seeds = [epoch_seed(run, epoch) for run in range(60) for epoch in range(60)]
    seeds += [epoch_seed(2**63 - 1, epoch) for epoch in range(60)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert epoch_seed(3, 4) == epoch_seed(3, 4) != epoch_seed(4, 3)
    # Spread over the whole range: the top bit is a fair coin, within seven standard deviations.
    high = sum(seed >= 2**62 for seed in seeds)
    assert abs(high - len(seeds) / 2) < 7 * (len(seeds) / 4) ** 0.5
