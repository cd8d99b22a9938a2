"""Which sequences are held out: exact in number, without a table, and not to be guessed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ternvae.padic import Holdout, TernarySpace, valuation
from ternvae.padic.permutation import permute, permute_below, position_of, round_keys
from tests.padic.oracles import IMPLAUSIBLE

PUBLISHED = [6, 8, 12, 13, 15, 17, 18, 20, 21, 22, 26]

few = settings(max_examples=40, deadline=None)


@st.composite
def holdouts(draw: st.DrawFn) -> Holdout:
    space = TernarySpace(draw(st.integers(1, 7)))
    unseen = draw(st.integers(0, space.size - 1))
    return Holdout(space, unseen / space.size, draw(st.integers(0, 2**64 - 1)))


@few
@given(n=st.integers(1, 8), seed=st.integers(0, 2**64 - 1))
def test_a_position_is_where_its_image_came_from(n: int, seed: int) -> None:
    keys, every = round_keys(seed, n_digits=n), torch.arange(3**n)
    assert torch.equal(position_of(permute(every, keys, n_digits=n), keys, n_digits=n), every)


def test_positions_are_found_in_the_largest_space() -> None:
    n, keys = 20, round_keys(7, n_digits=20)
    generator = torch.Generator().manual_seed(0)
    positions = torch.randint(3**n, (20_000,), generator=generator)
    assert torch.equal(
        position_of(permute(positions, keys, n_digits=n), keys, n_digits=n), positions
    )


@few
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1))
def test_any_size_can_be_permuted(size: int, seed: int) -> None:
    images = permute_below(torch.arange(size), seed, size=size)
    assert torch.equal(images.sort().values, torch.arange(size))
    # Point by point it is the same.
    assert torch.equal(permute_below(torch.tensor([size - 1]), seed, size=size), images[-1:])


def test_permutations_of_any_size_are_fair() -> None:
    """Where two neighbouring points go, over many seeds: all ordered pairs alike."""
    size, seeds = 7, 2000
    pairs = torch.stack([permute_below(torch.tensor([3, 4]), s, size=size) for s in range(seeds)])
    counts = torch.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size)
    apart = counts.view(size, size)[~torch.eye(size, dtype=torch.bool)]
    assert counts.sum() == apart.sum()
    assert stats.chisquare(apart.numpy()).pvalue > IMPLAUSIBLE


def test_the_choice_is_published() -> None:
    """Another one would put what a run has seen among what a later one calls unseen."""
    assert Holdout(TernarySpace(3), 0.4, 0).unseen_indices().tolist() == PUBLISHED


@few
@given(holdouts())
def test_two_parts_of_exact_size(holdout: Holdout) -> None:
    every, (seen, unseen) = torch.arange(holdout.space.size), holdout.sizes
    assert unseen == round(holdout.share * holdout.space.size)
    assert seen + unseen == holdout.space.size
    assert torch.equal(holdout.seen(every).nonzero().squeeze(1), holdout.seen_indices())
    assert torch.equal(every[~holdout.is_seen(every)], holdout.unseen_indices())
    assert len(holdout.seen_indices()) == seen


@few
@given(holdouts(), st.integers(0, 2**64 - 1))
def test_an_epoch_of_all_that_is_seen(holdout: Holdout, seed: int) -> None:
    order = holdout.shuffled(torch.arange(holdout.sizes.seen), seed)
    assert torch.equal(order.sort().values, holdout.seen_indices())


@few
@given(holdouts(), st.integers(0, 5))
def test_the_seen_of_a_level(holdout: Holdout, at_most: int) -> None:
    for level in range(holdout.space.n_digits + 1):
        seen = holdout.seen_indices()
        expected = seen[valuation(seen, cap=holdout.space.n_digits) == level]
        assert torch.equal(holdout.seen_of_level(level), expected)
        some = holdout.seen_of_level(level, at_most)
        assert len(some) == min(at_most, len(expected))
        assert set(some.tolist()) <= set(expected.tolist())


def test_a_larger_share_holds_out_what_a_smaller_one_does() -> None:
    space = TernarySpace(5)
    parts = [set(Holdout(space, k / 10, 3).unseen_indices().tolist()) for k in range(10)]
    assert all(small < large for small, large in itertools.pairwise(parts))


def test_every_sequence_is_as_likely_to_be_held_out_as_any_other() -> None:
    """Zero and the deep levels too."""
    space, share, seeds = TernarySpace(3), 1 / 3, 2000
    every = torch.arange(space.size)
    times = sum((~Holdout(space, share, s).is_seen(every)).long() for s in range(seeds))
    # Counts of a seed are drawn without replacement, so they vary by less than independent ones.
    spread = (times - seeds / 3).square().sum() / (seeds * share * (1 - share))
    assert stats.chi2.sf(float(spread), space.size - 1) > IMPLAUSIBLE
    assert stats.chi2.cdf(float(spread), space.size - 1) > IMPLAUSIBLE


def test_the_largest_space_takes_no_memory() -> None:
    holdout = Holdout(TernarySpace(20), 0.5, 1)
    assert sum(holdout.sizes) == 3**20
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(3**20, (40_000,), generator=generator)
    share = holdout.is_seen(some).double().mean()
    assert abs(float(share) - 0.5) < 5 * 0.5 / math.sqrt(40_000)
    ranks = torch.arange(holdout.sizes.seen - 1000, holdout.sizes.seen)
    assert holdout.is_seen(holdout.shuffled(ranks, 9)).all()
    assert len(holdout.seen_of_level(0, 100)) == 100
    assert set(holdout.seen_of_level(18).tolist()) <= {3**18 * u for u in (1, 2, 4, 5, 7, 8)}
    with pytest.raises(ValueError, match="too many sequences to list"):
        holdout.seen_indices()


def test_nothing_can_be_held_out_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"share: got 0\.9"):
        Holdout(TernarySpace(1), 0.9, 0)
    assert Holdout(TernarySpace(1), 0.0, 0).sizes == (3, 0)
