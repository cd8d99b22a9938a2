"""The third part of a batch: partners of its first rows, at every 3-adic distance."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ternvae.padic import Holdout, TernarySpace
from ternvae.training.batches import Batch, BatchPlan
from tests.padic.oracles import relaxed

plans = st.builds(
    lambda n, rows, balanced, paired: BatchPlan(
        TernarySpace(n), max(1, min(rows, 3**n)), balanced, paired
    ),
    st.integers(1, 6),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.2, 0.7]),
    st.sampled_from([0.05, 0.25, 0.5]),
)


def v(difference: int, n: int) -> int:
    """The valuation, counted."""
    return next((k for k in range(n) if difference % 3 ** (k + 1)), n)


def check_pairs(plan: BatchPlan, batch: Batch) -> None:
    pairs, n = len(batch.between), plan.space.n_digits
    first, second = batch.indices[:pairs].tolist(), batch.indices[-pairs or len(batch.indices) :]
    for i, j, k in zip(first, second.tolist(), batch.between.tolist(), strict=True):
        assert v((i - j) % 3**n, n) == k


@relaxed
@given(plans, st.integers(0, 2**63 - 1))
def test_partners_differ_by_the_valuation_that_is_told(plan: BatchPlan, seed: int) -> None:
    passed = Counter[int]()
    for batch in plan.epoch(seed):
        check_pairs(plan, batch)
        assert len(batch.between) == batch.total_pairs <= plan.pairs
        assert batch.between.tolist() == [k % plan.space.n_digits for k in range(batch.total_pairs)]
        assert len(batch.indices) == batch.total <= plan.batch_size
        assert torch.equal(batch.sequences, plan.space.sequences(batch.indices))
        assert torch.equal(batch.levels, plan.space.valuation(batch.indices))
        others = plan.batch_size - plan.passing_rows - plan.pairs
        passed.update(batch.indices[: batch.total - batch.total_pairs - others].tolist())
    assert passed == Counter(range(plan.space.size))


def test_partners_are_at_every_valuation_equally_often() -> None:
    plan = BatchPlan(TernarySpace(9), 1024, 0.2, 0.25)
    assert plan.pairs == 256
    for batch in plan.epoch(0):
        counts = batch.between.bincount(minlength=9)
        assert int(counts.max() - counts.min()) <= 1


def test_partners_are_any_index_of_their_valuation_or_differ_in_one_digit() -> None:
    """A chi-squared over the steps from a row to its partner, far below one chance in a million."""
    n = 4
    plan = BatchPlan(TernarySpace(n), 60, 0.2, 0.5)
    lone = torch.arange(plan.pairs) // n % 2 == 1
    steps, turns = torch.zeros(3**n), torch.zeros(n, 3)
    for seed in range(300):
        for batch in plan.epoch(seed):
            pairs = len(batch.between)
            first, second = batch.indices[:pairs], batch.indices[-pairs:]
            away = (second - first) % 3**n
            steps += away[~lone[:pairs]].bincount(minlength=3**n)
            turned = (batch.sequences[-pairs:] - batch.sequences[:pairs])[lone[:pairs]] % 3
            assert ((turned != 0).sum(1) == 1).all()
            turns += torch.stack([(turned == d).sum(0) for d in range(3)], dim=1)
    levels = plan.space.valuation(torch.arange(3**n))
    for k in range(n):
        for seen in (steps[levels == k], turns[k, 1:]):
            expected = seen.sum() / len(seen)
            assert expected > 100
            deviation = float(((seen - expected) ** 2 / expected).sum())
            assert deviation < len(seen) + 5 * (2 * len(seen)) ** 0.5
    assert steps[0] == 0


def test_rows_without_partners_are_those_of_a_smaller_batch() -> None:
    with_pairs, without = (
        BatchPlan(TernarySpace(6), 100, 0.0, 0.25),
        BatchPlan(TernarySpace(6), 75, 0.0),
    )
    for one, other in zip(with_pairs.epoch(4), without.epoch(4), strict=True):
        assert torch.equal(one.indices[: len(other.indices)], other.indices)


@pytest.mark.parametrize("world", [2, 3, 5, 40])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_process_has_the_partners_of_its_rows(world: int, share: float) -> None:
    plan = BatchPlan(TernarySpace(5), 41, share, 0.3)
    for number, whole in enumerate(plan.epoch(3)):
        rows = torch.arange(whole.total).unsqueeze(0)
        for rank in range(world):
            [part, *_] = plan.epoch(3, first=number, rank=rank, world=world)
            check_pairs(plan, part)
            assert (part.total, part.total_pairs) == (whole.total, whole.total_pairs)
            assert torch.equal(part.indices, whole.indices[whole.mine(rows, rank, world)[0]])
            assert torch.equal(part.between, whole.between[rank::world])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_a_partner_that_is_held_out_is_not_taken(share: float) -> None:
    space = TernarySpace(6)
    holdout = Holdout(space, share, 1)
    plan = BatchPlan(space, 30, 0.2, 0.4, holdout)
    alone = 0
    for seed in range(3):
        for batch in plan.epoch(seed):
            assert bool(holdout.seen(batch.indices).all())
            check_pairs(plan, batch)
            alone += int((batch.between == 6).sum())
    assert alone > 0  # of few rows all partners of the last valuation are held out


def test_without_a_share_there_are_no_pairs() -> None:
    for batch in BatchPlan(TernarySpace(3), 9, 0.2).epoch(0):
        assert (len(batch.between), batch.total_pairs) == (0, 0)
