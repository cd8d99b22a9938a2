"""What is said of rounding, against the same weights in float64 and formulas of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ternvae.metrics import Evaluator
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.training.precision import precision_figures

EVALUATOR = Evaluator(TernarySpace(4))
EVERYTHING = torch.arange(81)


def model_of(
    seed: int, *, float64: bool = False, curvature: float = 1.0, max_radius: float = 0.95
) -> TernaryVAE:
    torch.manual_seed(seed)
    return TernaryVAE(
        n_digits=4,
        latent_dim=6,
        hidden_dim=16,
        curvature=curvature,
        max_radius=max_radius,
        mathematical_precision=float64,
    )


def outwards(model: TernaryVAE, logit: float) -> TernaryVAE:
    """Points near the rim, where rounding of a coordinate weighs most."""
    with torch.no_grad():
        model.encoder("B").projection.radius[-1].bias.fill_(logit)
    return model


def radius(points: np.ndarray, c: float) -> np.ndarray:
    norm = np.linalg.norm(points, axis=-1)
    return 2 / math.sqrt(c) * np.arctanh(math.sqrt(c) * norm)


def distance(x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """arsinh keeps its digits for neighbours, which arcosh(1 + ...) does not."""
    gap = c * ((x - y) ** 2).sum(-1)
    room = (1 - c * (x**2).sum(-1)) * (1 - c * (y**2).sum(-1))
    return 2 / math.sqrt(c) * np.arcsinh(np.sqrt(gap / room))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("curvature", [0.25, 1.0, 4.0])
def test_against_formulas_by_hand(curvature: float, seed: int) -> None:
    model = outwards(model_of(seed, curvature=curvature), 2.0)
    figures = precision_figures(model, EVALUATOR)
    points = model.embed(EVERYTHING).double().numpy()
    reference = model.double().embed(EVERYTHING).numpy()
    gaps = np.abs(radius(points, curvature) - radius(reference, curvature))
    rim = 1 - math.sqrt(curvature) * np.linalg.norm(points, axis=-1).max()
    assert figures["radius_error"] == pytest.approx(gaps.max(), rel=1e-6)
    apart = distance(points, reference, curvature).max()
    assert figures["point_error"] == pytest.approx(apart, rel=1e-4)
    assert figures["rim_gap"] == pytest.approx(rim, rel=1e-9)
    assert figures["radius_error"] <= figures["point_error"] * (1 + 1e-6)
    assert figures["radius_error"] > 0
    assert 0.05 - 1e-6 <= figures["rim_gap"] < 1


def test_a_model_in_float64_rounds_nothing_away() -> None:
    figures = precision_figures(model_of(0, float64=True).double(), EVALUATOR)
    assert figures["radius_error"] == 0
    assert figures["point_error"] < 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_radius", [0.95, 0.9999])
def test_mathematical_precision_makes_the_error_smaller(max_radius: float, seed: int) -> None:
    """Of the same weights; the nearer the rim, the more it gains."""
    plain, precise = (
        outwards(model_of(seed, float64=float64, max_radius=max_radius), 4.0)
        for float64 in (False, True)
    )
    assert all(
        torch.equal(value, precise.state_dict()[key]) for key, value in plain.state_dict().items()
    )
    errors = [precision_figures(model, EVALUATOR)["radius_error"] for model in (plain, precise)]
    assert errors[1] < errors[0] / (10 if max_radius > 0.99 else 1)


def test_measuring_changes_nothing() -> None:
    model = model_of(0).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    precision_figures(model, EVALUATOR)
    now = model.state_dict()
    assert all(torch.equal(now[key], value) for key, value in before.items())
    assert {key: value.dtype for key, value in now.items()} == {
        key: value.dtype for key, value in before.items()
    }
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
