"""The controller: bounded, mean-preserving, drawn to what lags, unable to win by switching off."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ternvae.metrics import Evaluator
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.training.controller import STATISTICS, Controller, controller_statistics
from tests.padic.oracles import relaxed

TERMS = ("coverage", "hierarchy", "richness", "separation", "kl")
WEIGHTS = {"coverage": 1.0, "hierarchy": 5.0, "richness": 2.5, "separation": 3.0, "kl": 1e-3}

seeds = st.integers(0, 2**32 - 1)
some_weights = st.lists(
    st.just(0.0) | st.floats(1e-6, 1e3), min_size=len(TERMS), max_size=len(TERMS)
).filter(any)


def statistics(seed: int = 0) -> torch.Tensor:
    """Somewhere within their bounds."""
    generator = torch.Generator().manual_seed(seed)
    return 8 * torch.rand(12, generator=generator, dtype=torch.float64) - 4


def named(values: list[float]) -> dict[str, float]:
    return dict(zip(TERMS, values, strict=True))


def bits(values: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint brings back of it."""
    file = io.BytesIO()
    torch.save(values, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


# --- factors --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_factors_start_at_exactly_one(seed: int) -> None:
    controller = Controller(WEIGHTS, seed)
    assert controller.factors() == dict.fromkeys(TERMS, 1.0)
    controller.observe(statistics(seed))
    assert controller.factors() == dict.fromkeys(TERMS, 1.0)


@relaxed
@given(some_weights, seeds, st.integers(-3, 300))
def test_factors_are_bounded_and_keep_the_weighted_mean(
    weights: list[float], seed: int, magnitude: int
) -> None:
    controller = Controller(named(weights), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.normal_(generator=generator).mul_(10.0**magnitude)
    controller.observe(statistics(seed))
    factors = list(controller.factors().values())
    assert all(0.5 - 1e-12 <= factor <= 2 + 1e-12 for factor in factors)
    controlled = math.fsum(w * f for w, f in zip(weights, factors, strict=True))
    assert controlled == pytest.approx(math.fsum(weights), rel=1e-12)
    assert all(w * f == 0 for w, f in zip(weights, factors, strict=True) if w == 0)


# --- learning -------------------------------------------------------------------------------


def taught(
    weights: dict[str, float], losses: dict[str, float], seed: int, steps: int
) -> Controller:
    """After an epoch in which every loss was 1, and then so many with these losses."""
    controller = Controller(weights, seed)
    controller.observe(statistics(seed))
    controller.learn(dict.fromkeys(weights, 1.0))
    for _ in range(steps):
        controller.learn(losses)
    return controller


@pytest.mark.parametrize("lagging", TERMS)
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_weight_moves_to_the_term_that_lags(lagging: str, unit: float) -> None:
    weights = dict.fromkeys(TERMS, 2.0)
    controller = Controller(weights, 0)
    controller.observe(statistics())
    first = {name: unit if name == "richness" else 1.0 for name in TERMS}
    controller.learn(first)
    for _ in range(300):
        controller.learn({n: loss * (0.9 if n == lagging else 0.2) for n, loss in first.items()})
    factors = controller.factors()
    assert factors.pop(lagging) > 1.3
    assert all(factor < 0.95 for factor in factors.values())


@settings(deadline=None, max_examples=25)
@given(some_weights, st.lists(st.floats(0, 1), min_size=5, max_size=5), seeds)
def test_it_cannot_win_by_switching_losses_off(
    weights: list[float], relative: list[float], seed: int
) -> None:
    """What the model minimises never becomes less than it would be without a controller."""
    controller = taught(named(weights), named(relative), seed, steps=100)
    factors = list(controller.factors().values())
    controlled = sum(w * f * r for w, f, r in zip(weights, factors, relative, strict=True))
    alone = sum(w * r for w, r in zip(weights, relative, strict=True))
    assert controlled >= alone - 1e-5 * sum(weights)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("epochs", [20, 200])
def test_it_follows_within_a_few_epochs_when_another_term_begins_to_lag(
    epochs: int, seed: int
) -> None:
    lagging = {**dict.fromkeys(TERMS, 0.1), "hierarchy": 0.9}
    controller = taught(WEIGHTS, lagging, seed, steps=epochs)
    before = controller.factors()
    for _ in range(40):
        controller.learn({**dict.fromkeys(TERMS, 0.1), "richness": 0.9})
    after = controller.factors()
    assert before["hierarchy"] > 1 > after["hierarchy"]
    assert before["richness"] < 1 < after["richness"]


def test_equal_progress_changes_nothing() -> None:
    factors = taught(WEIGHTS, dict.fromkeys(TERMS, 0.3), 0, steps=100).factors()
    assert factors == pytest.approx(dict.fromkeys(TERMS, 1.0), abs=0.02)


def test_a_divergence_below_zero_counts_by_its_size() -> None:
    losses = {"coverage": 0.3, "hierarchy": 0.5, "richness": 0.1, "separation": 0.9, "kl": 0.7}
    controllers = [Controller(WEIGHTS, 0), Controller(WEIGHTS, 0)]
    for controller, sign in zip(controllers, (1, -1), strict=True):
        controller.observe(statistics())
        controller.learn(dict.fromkeys(TERMS, 1.0))
        for _ in range(10):
            controller.learn({**losses, "kl": sign * losses["kl"]})
    assert controllers[0].factors() == controllers[1].factors()


def test_a_loss_that_was_always_zero_divides_nothing() -> None:
    controller = Controller(WEIGHTS, 0)
    controller.observe(statistics())
    for _ in range(5):
        controller.learn({**dict.fromkeys(TERMS, 1.0), "richness": 0.0})
    assert all(map(math.isfinite, controller.factors().values()))


def test_a_weight_of_zero_takes_nothing_from_the_others() -> None:
    """However much its term lags, no weight moves to where it would have no effect."""
    weights = {**WEIGHTS, "richness": 0.0}
    controller = taught(weights, {**dict.fromkeys(TERMS, 0.1), "richness": 1.0}, 0, steps=100)
    factors = controller.factors()
    assert weights["richness"] * factors["richness"] == 0
    others = [factors[name] for name in TERMS if name != "richness"]
    assert others == pytest.approx([1.0] * 4, abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("term", TERMS)
def test_losses_that_are_not_finite_teach_nothing(bad: float, term: str) -> None:
    controller = taught(WEIGHTS, {**dict.fromkeys(TERMS, 0.1), "hierarchy": 0.9}, 0, steps=5)
    before = bits(controller.to_dict())
    controller.learn({**dict.fromkeys(TERMS, 0.5), term: bad})
    assert same(before, controller.to_dict())


def test_other_figures_of_an_epoch_do_not_count() -> None:
    controller = taught(WEIGHTS, dict.fromkeys(TERMS, 0.5), 0, steps=1)
    controller.learn({**dict.fromkeys(TERMS, 0.5), "total": math.nan, "gradient_norm": math.nan})
    assert all(map(math.isfinite, controller.factors().values()))


# --- state ----------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Equality to the last bit, through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@relaxed
@given(st.lists(st.tuples(seeds, st.booleans()), max_size=8), seeds)
def test_it_goes_on_from_a_checkpoint_to_the_same_bits(
    history: list[tuple[int, bool]], other_seed: int
) -> None:
    whole = Controller(WEIGHTS, 3)
    for seed, sees in history:
        resumed = Controller(WEIGHTS, other_seed)
        resumed.restore(bits(whole.to_dict()))
        assert resumed.factors() == whole.factors()
        losses = torch.rand(5, generator=torch.Generator().manual_seed(seed)).tolist()
        for controller in (whole, resumed):
            if sees:
                controller.observe(statistics(seed))
            controller.learn(named(losses))
        assert same(resumed.to_dict(), whole.to_dict())
        assert resumed.factors() == whole.factors()


def test_it_is_a_function_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = Controller(WEIGHTS, 5), Controller(WEIGHTS, 5), Controller(WEIGHTS, 6)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(one.to_dict(), two.to_dict())
    assert not same(one.to_dict(), other.to_dict())


# --- statistics -----------------------------------------------------------------------------

ORDER = ["coverage", "coverage_B", "hierarchy_A", "hierarchy_B", "richness_A", "richness"]
ORDER += ["r_v0_A", "r_v0", "r_vn_A", "r_vn", "dist_corr", "Q_enhanced"]


def test_the_twelve_statistics_in_their_order_and_units() -> None:
    measured = {
        **dict(zip(ORDER, [0.9, 0.8, 0.1, -0.7, 0.003, 0.009, 1.0, 3.0, 1.5], strict=False)),
        "r_v3": 0.5,
        "dist_corr": 0.6,
        "Q_enhanced": 1.0,
        **dict.fromkeys(("r_v1", "tied_share"), 99.0),
    }
    seen = controller_statistics(
        measured, n_digits=3, richness_target=0.006, radius_max=4.0, q_ceiling=2.0
    )
    by_hand = [0.9, 0.8, 0.1, -0.7, 0.5, 1.5, 0.25, 0.75, 0.375, 0.125, 0.6, 0.5]
    assert list(STATISTICS) == ORDER
    assert seen.dtype == torch.float64
    assert seen.tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("value", "seen"),
    [(math.nan, 0.0), (math.inf, 0.0), (-math.inf, 0.0), (1e9, 4.0), (-1e9, -4.0), (3.5, 3.5)],
)
def test_statistics_are_cut_and_undefined_ones_are_zero(value: float, seen: float) -> None:
    measured = {**dict.fromkeys(STATISTICS, value), "r_v2": value}
    result = controller_statistics(
        measured, n_digits=2, richness_target=0.0, radius_max=1.0, q_ceiling=1.0
    )
    assert result.tolist() == [seen] * 12


@pytest.mark.parametrize("n_digits", [1, 2, 4])
def test_an_evaluator_gives_all_that_the_controller_sees(n_digits: int) -> None:
    torch.manual_seed(0)
    model = TernaryVAE(n_digits=n_digits, latent_dim=3, hidden_dim=8)
    evaluator = Evaluator(TernarySpace(n_digits))
    result = controller_statistics(
        {**evaluator.branch_a(model), **evaluator.branch_b(model)},
        n_digits=n_digits,
        richness_target=0.006,
        radius_max=model.ball.hyperbolic_radius_max.item(),
        q_ceiling=2.0,
    )
    assert result.shape == (12,)
    assert result.isfinite().all()
