from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ternvae.padic import (
    TernarySpace,
    indices_at_valuation,
    partners_at_valuation,
)
from tests.padic.oracles import IMPLAUSIBLE, valuation_by_definition


def level(v: int, n: int) -> list[int]:
    return [i for i in range(3**n) if min(valuation_by_definition(i, 3), n) == v]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform_p_value(draws: Tensor, support: list[int]) -> float:
    """Chi-square against the uniform law; a draw outside the support fails outright."""
    values, counts = draws.unique(return_counts=True)
    assert set(values.tolist()) <= set(support)
    table = dict(zip(values.tolist(), counts.tolist(), strict=True))
    if len(support) == 1:
        return 1.0
    return float(stats.chisquare([table.get(i, 0) for i in support]).pvalue)


@pytest.mark.parametrize("n", range(1, 5))
def test_indices_are_uniform_on_exactly_their_level(n: int) -> None:
    for v in range(n + 1):
        support = level(v, n)
        valuations = torch.full((200 * len(support),), v)
        draws = indices_at_valuation(valuations, n_digits=n, generator=seeded(v))
        assert draws.dtype == torch.int64
        assert sorted(draws.unique().tolist()) == support
        assert uniform_p_value(draws, support) > IMPLAUSIBLE


@pytest.mark.parametrize("n", [1, 9, 19, 20])
def test_indices_have_the_valuation_asked_for_in_any_space(n: int) -> None:
    valuations = torch.randint(0, n + 1, (50, 40), generator=seeded())
    draws = indices_at_valuation(valuations, n_digits=n, generator=seeded(1))
    space = TernarySpace(n)
    assert torch.equal(space.valuation(draws), valuations)


def test_the_largest_level_is_uniform_in_the_large() -> None:
    draws = indices_at_valuation(
        torch.zeros(100_000, dtype=torch.int64), n_digits=20, generator=seeded()
    )
    assert stats.kstest(draws.numpy() / 3**20, "uniform").pvalue > IMPLAUSIBLE
    residues = torch.bincount(draws % 9, minlength=9)
    assert residues[[0, 3, 6]].tolist() == [0, 0, 0]
    assert stats.chisquare(residues[[1, 2, 4, 5, 7, 8]].numpy()).pvalue > IMPLAUSIBLE


@pytest.mark.parametrize("n", [1, 2, 3])
def test_partners_are_uniform_on_exactly_their_sphere(n: int) -> None:
    for i in range(3**n):
        for v in range(n + 1):
            sphere = [j for j in range(3**n) if min(valuation_by_definition(i - j, 3), n) == v]
            draws = partners_at_valuation(
                torch.full((50 * len(sphere),), i),
                torch.tensor(v),
                n_digits=n,
                generator=seeded(i),
            )
            assert sorted(draws.unique().tolist()) == sphere
            assert uniform_p_value(draws, sphere) > IMPLAUSIBLE


@pytest.mark.parametrize("n", [9, 20])
def test_partners_are_at_the_distance_asked_for(n: int) -> None:
    space = TernarySpace(n)
    i = torch.randint(0, 3**n, (3000,), generator=seeded())
    v = torch.randint(0, n + 1, (3000,), generator=seeded(1))
    j = partners_at_valuation(i, v, n_digits=n, generator=seeded(2))
    expected = np.where(v == n, 0.0, 3.0 ** -v.double().numpy())
    np.testing.assert_allclose(space.distance(i, j), expected, rtol=1e-15)


def test_partners_of_repeated_points_and_levels_are_independent_draws() -> None:
    i, v = torch.arange(5)[:, None], torch.zeros(400, dtype=torch.int64)
    j = partners_at_valuation(i, v, n_digits=9, generator=seeded())
    assert j.shape == (5, 400)
    steps = (j - i) % 3**9
    assert len(steps.unique()) > 1800  # 2000 draws among 13122; shared rows would leave 400


def test_a_seeded_generator_repeats_and_the_global_one_is_left_alone() -> None:
    state = torch.get_rng_state()
    v = torch.arange(10).repeat(20)

    def draw(seed: int) -> list[Tensor]:
        g = seeded(seed)
        return [
            indices_at_valuation(v, n_digits=9, generator=g),
            partners_at_valuation(v, v, n_digits=9, generator=g),
        ]

    first, again, other = draw(5), draw(5), draw(6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(v, torch.arange(10).repeat(20))


def test_the_default_generator_is_torch_s_own() -> None:
    v = torch.arange(10).repeat(10)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        first = indices_at_valuation(v, n_digits=9)
        torch.manual_seed(4)
        assert torch.equal(indices_at_valuation(v, n_digits=9), first)


def test_draws_read_nothing_back() -> None:
    nowhere = torch.empty(3, dtype=torch.int64, device="meta")
    assert indices_at_valuation(nowhere, n_digits=9).device.type == "meta"
    assert partners_at_valuation(nowhere, nowhere, n_digits=9).device.type == "meta"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_draws_live_on_the_device_of_the_generator() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    v = torch.arange(10, device="cuda").repeat(100)
    draws = indices_at_valuation(v, n_digits=9, generator=generator)
    assert draws.is_cuda
    assert torch.equal(TernarySpace().valuation(draws), v)
    partners = partners_at_valuation(draws, v, n_digits=9, generator=generator)
    assert torch.equal(TernarySpace().valuation((partners - draws) % 3**9), v)
