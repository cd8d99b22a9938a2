"""New sequences: their levels, the law of their points, and paths between sequences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ternvae.metrics import level_frequencies, monotone_change
from ternvae.models import LevelMixture, TernaryVAE, interpolate, sample
from ternvae.padic import TernarySpace, valuation
from tests.embeddings import closed_form
from tests.padic.oracles import IMPLAUSIBLE


class Perfect(TernaryVAE):
    """A model whose points are those of a closed form; it decodes the nearest one."""

    def __init__(self, n_digits: int = 5) -> None:
        torch.manual_seed(0)
        super().__init__(n_digits=n_digits, latent_dim=2 * (n_digits - 1), hidden_dim=4)
        self.table = closed_form(self.space, scale=0.4)

    def embed(self, sequences_or_indices: Any, branch: str = "B") -> Tensor:
        given = torch.as_tensor(sequences_or_indices)
        rows = given if given.ndim == 1 else self.space.indices(given)
        return self.table[rows].float()

    def decode(self, points: Any, branch: str = "B") -> Tensor:
        # Near the origin the nearest point is the nearest tangent vector.
        apart = torch.cdist(self.ball.logmap0(points.double()), self.ball.logmap0(self.table))
        return self.space.sequences(apart.argmin(-1))


@pytest.fixture(scope="module")
def perfect() -> TernaryVAE:
    return Perfect()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- frequencies ----------------------------------------------------------------------------


def test_frequencies_by_hand() -> None:
    """27 sequences twice; of 54 a third of level 0 is moved to level 1, two others to zero."""
    space = TernarySpace(3)
    counts = [26, 18, 6, 4]
    first = [1, 3, 9, 0]
    rows = [i for i, count in zip(first, counts, strict=True) for _ in range(count)]
    found = level_frequencies(space.sequences(rows), space)
    assert found.observed == (26, 18, 6, 4)
    assert found.expected == pytest.approx((36, 12, 4, 2))
    # Levels 2 and 3 share a cell, which expects 6.
    statistic = 100 / 36 + 36 / 12 + 16 / 6
    assert found.statistic == pytest.approx(statistic)
    assert found.degrees == 2
    assert found.p_value == pytest.approx(math.exp(-statistic / 2))
    assert found.distinct == 4


def test_p_values_of_uniform_sequences_are_uniform() -> None:
    space = TernarySpace(7)
    found = []
    for seed in range(300):
        rows = torch.randint(space.size, (400,), generator=seeded(seed))
        found.append(level_frequencies(space.sequences(rows), space).p_value)
    assert stats.kstest(found, "uniform").pvalue > IMPLAUSIBLE


@pytest.mark.parametrize("count", [30, 100, 10_000])
def test_no_cell_expects_fewer_than_five(count: int) -> None:
    """As many degrees of freedom as there are cells with enough, and no more."""
    space = TernarySpace(9)
    rows = torch.arange(count) % space.size
    found = level_frequencies(space.sequences(rows), space)
    enough = sum(expected >= 5 for expected in found.expected)
    assert enough - 1 <= found.degrees <= enough
    with pytest.raises(ValueError, match="too few to expect 5 in two cells"):
        level_frequencies(space.sequences(rows[:12]), space)


# --- samples --------------------------------------------------------------------------------


def test_a_mixture_has_the_moments_of_its_components() -> None:
    torch.manual_seed(3)
    model = TernaryVAE(n_digits=4, latent_dim=3, hidden_dim=8)
    mixture = LevelMixture.fit(model, depth=2)
    # Levels 0 to 2 have two digits more, 2 * 3 of them; level 3 has two, and 0 is alone.
    assert torch.bincount(mixture.levels).tolist() == [6, 6, 6, 2, 1]
    assert mixture.sizes.sum() == 81
    indices = torch.arange(81)
    tangent = model.ball.logmap0(model.embed(indices).double())
    rows = tangent[(indices % 9 == 2 + 3 * 1)]  # digits 2, 1, of level 0
    place = next(k for k in range(6) if torch.allclose(mixture.means[k], rows.mean(0), atol=1e-6))
    apart = rows - rows.mean(0)
    factor = mixture.factors[place]
    assert torch.allclose(factor.T @ factor, apart.T @ apart / 9, atol=1e-7)


def test_draws_follow_the_mixture() -> None:
    torch.manual_seed(3)
    model = TernaryVAE(n_digits=4, latent_dim=3, hidden_dim=8)
    mixture = LevelMixture.fit(model, depth=1)
    drawn = mixture.draw(torch.full((8000,), 1), seeded(0))
    tangent = model.ball.logmap0(drawn)
    own = mixture.levels == 1
    weights = mixture.sizes[own] / mixture.sizes[own].sum()
    mean = weights @ mixture.means[own]
    second = sum(
        w * (f.T @ f + torch.outer(m, m))
        for w, f, m in zip(weights, mixture.factors[own], mixture.means[own], strict=True)
    )
    spread = (second - torch.outer(mean, mean)).diagonal().sqrt()
    assert ((tangent.mean(0) - mean).abs() < 5 * spread / math.sqrt(8000)).all()
    assert torch.allclose(tangent.T @ tangent / 8000, torch.as_tensor(second), rtol=0.1, atol=1e-3)


def test_samples_of_a_fit_have_the_statistics_of_the_levels(perfect: TernaryVAE) -> None:
    mixture = LevelMixture.fit(perfect, depth=4)
    found = sample(perfect, 4000, mixture=mixture, generator=seeded(1))
    levels = valuation(perfect.space.indices(found.sequences), cap=5)
    assert (levels == found.levels).double().mean() > 0.99
    assert level_frequencies(found.sequences, perfect.space).p_value > 0.001
    assert len(perfect.space.indices(found.sequences).unique()) > 200


def test_samples_of_the_prior_have_not(perfect: TernaryVAE) -> None:
    """Its law is that of balls about the prototypes, which is not where the levels are."""
    found = sample(perfect, 2000, generator=seeded(1))
    assert level_frequencies(found.sequences, perfect.space).p_value < 1e-6


def test_samples_of_one_level(perfect: TernaryVAE) -> None:
    mixture = LevelMixture.fit(perfect, depth=3)
    found = sample(perfect, 200, valuation=2, mixture=mixture, generator=seeded(1))
    assert (found.levels == 2).all()
    right = valuation(perfect.space.indices(found.sequences), cap=5) == 2
    assert right.double().mean() > 0.95
    zero = sample(perfect, 5, valuation=5, mixture=mixture)
    assert torch.equal(zero.sequences, perfect.space.sequences([0] * 5))


@pytest.mark.parametrize("fitted", [True, False])
def test_the_same_generator_gives_the_same_samples(perfect: TernaryVAE, fitted: bool) -> None:
    mixture = LevelMixture.fit(perfect) if fitted else None
    state = torch.random.get_rng_state()
    one, other = (sample(perfect, 50, mixture=mixture, generator=seeded(4)) for _ in range(2))
    assert torch.equal(one.points, other.points)
    assert torch.equal(one.sequences, other.sequences)
    assert torch.equal(torch.random.get_rng_state(), state)
    third = sample(perfect, 50, mixture=mixture, generator=seeded(5))
    assert not torch.equal(one.points, third.points)


def test_a_large_space_is_fitted_from_some_of_it() -> None:
    torch.manual_seed(0)
    model = TernaryVAE(n_digits=16, latent_dim=3, hidden_dim=8)
    mixture = LevelMixture.fit(model, depth=1, generator=seeded(0))
    assert mixture.sizes.sum() == 3**16
    assert sample(model, 3, mixture=mixture).sequences.shape == (3, 16)


# --- paths ----------------------------------------------------------------------------------


def test_paths_are_geodesics_in_equal_steps() -> None:
    torch.manual_seed(1)
    model = TernaryVAE(n_digits=5, latent_dim=4, hidden_dim=8, curvature=0.7)
    first, second = torch.tensor([0, 7, 100]), torch.tensor([200, 8, 3])
    found = interpolate(model, first, model.space.sequences(second), steps=9)
    assert found.points.shape == (3, 9, 4)
    assert found.sequences.shape == (3, 9, 5)
    assert torch.equal(found.points[:, 0], model.embed(first))
    assert torch.equal(found.points[:, -1], model.embed(second))
    whole = model.ball.dist(found.points[:, 0], found.points[:, -1])
    steps = model.ball.dist(found.points[:, 1:], found.points[:, :-1])
    assert torch.allclose(steps, (whole / 8).unsqueeze(1).expand(-1, 8), rtol=1e-3, atol=1e-6)
    decoded = model.decode(found.points[1])
    assert torch.equal(decoded, found.sequences[1])
    with pytest.raises(ValueError, match="got 2 and 3 sequences"):
        interpolate(model, first[:2], second)


def test_monotone_change_by_hand() -> None:
    straight = [[-1, -1, -1], [-1, -1, 0], [-1, 0, 1], [0, 1, 1], [0, 1, 1]]
    waiting = [[-1, -1, -1], [-1, -1, -1], [0, 1, 1], [0, 1, 1], [0, 1, 1]]
    returning = [[-1, -1, -1], [0, -1, -1], [-1, -1, -1], [0, 1, 1], [0, 1, 1]]
    # It comes to the first digit of the end, keeps away from the beginning, and loses it again.
    astray = [[-1, -1, -1], [0, -1, -1], [1, -1, -1], [0, 1, 1], [0, 1, 1]]
    found = monotone_change([straight, waiting, returning, astray])
    assert (found.share, found.leaving, found.arriving, found.paths) == (0.5, 0.75, 0.5, 4)
    likely = 3 / 6
    assert found.standard_error == pytest.approx(math.sqrt(likely * (1 - likely) / 4))


def test_monotone_change_by_the_distance_itself() -> None:
    space = TernarySpace(4)
    rows = torch.randint(space.size, (400, 4), generator=seeded(0))
    rows[::2] = rows[::2].sort(-1).values
    shares = []
    for path in rows:
        away, near = (space.distance(path, end).numpy() for end in (path[0], path[-1]))
        shares.append(bool((np.diff(away) >= 0).all() and (np.diff(near) <= 0).all()))
    found = monotone_change(space.sequences(rows))
    assert found.share == pytest.approx(np.mean(shares))
    assert 0 < found.share < 1


def test_paths_of_a_perfect_model_leave_and_arrive(perfect: TernaryVAE) -> None:
    """In the plane of a digit the way from one corner to another may lead past the third one."""
    generator = seeded(2)
    first, second = torch.randint(perfect.space.size, (2, 200), generator=generator)
    found = monotone_change(interpolate(perfect, first, second, steps=17).sequences)
    assert found.paths == 200
    assert found.leaving > 0.9
    assert found.arriving > 0.9
