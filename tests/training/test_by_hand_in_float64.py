"""The gradient without a graph against that of a graph in float64, and where there is none."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ternvae import losses
from ternvae.models import TernaryVAE, dense
from ternvae.training import by_hand
from ternvae.training.batches import Batch, BatchPlan
from ternvae.training.gradients import Gradients
from ternvae.training.objective import TERMS, loss_terms

pytestmark = pytest.mark.skipif(
    not (dense.available() and losses.levels._levels), reason="the extensions were not compiled"
)

WEIGHTS = [1.0, 5.0, 2.5, 3.0, 0.7, 0.01]


def model_of(n_digits: int = 4, **keywords: Any) -> TernaryVAE:
    """A model whose scales, shifts and biases are not those of the start."""
    torch.manual_seed(0)
    model = TernaryVAE(n_digits, latent_dim=5, hidden_dim=24, **keywords)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def batch_of(model: TernaryVAE, rows: int = 60, **part: int) -> Batch:
    return next(BatchPlan(model.space, rows, 0.5, 0.25).epoch(3, **part))


def noise_of(model: TernaryVAE, batch: Batch, branches: str) -> Tensor:
    shape = (len(branches), batch.total, model.prototypes.shape[-1])
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def found_by_hand(
    model: TernaryVAE, batch: Batch, noise: Tensor, **keywords: Any
) -> list[float] | None:
    keywords = {"branches": "AB", "richness_floor": 0.05, "share": 1.0, **keywords}
    return by_hand.accumulate(model, batch, noise=noise, weights=WEIGHTS, **keywords)


def graph_of(
    model: TernaryVAE, batch: Batch, noise: Tensor, branches: str = "AB", floor: float = 0.05
) -> tuple[list[float], dict[str, Tensor]]:
    """The terms and the gradients, from the graph of a copy in float64."""
    wide = copy.deepcopy(model).double()
    wide.zero_grad()
    terms = loss_terms(wide, batch, branches=branches, richness_floor=floor, noise=noise.double())
    total = sum(w * terms[name] for w, name in zip(WEIGHTS, TERMS, strict=True))
    total.backward()  # type: ignore[union-attr]
    gradients = {n: p.grad for n, p in wide.named_parameters() if p.grad is not None}
    return [float(terms[name].detach()) for name in TERMS], gradients


def assert_gradients(model: TernaryVAE, expected: dict[str, Tensor], share: float = 1.0) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None
        want = share * expected.get(name, torch.zeros_like(parameter, dtype=torch.float64))
        scale = float(want.abs().max()) + 1e-3 * share
        error = float((parameter.grad.double() - want).abs().max()) / scale
        assert error < 2e-4, (name, error)


def ready(model: TernaryVAE) -> Gradients:
    gradients = Gradients(model.parameters())
    gradients.begin()
    return gradients


@pytest.mark.parametrize("branches", ["AB", "B"])
@pytest.mark.parametrize("floor", [0.0, 0.05, 2.0])
@pytest.mark.parametrize("keywords", [{}, {"curvature": 0.3, "max_radius": 0.8}, {"n_digits": 9}])
def test_terms_and_gradients_are_those_of_the_graph(
    branches: str, floor: float, keywords: dict[str, Any]
) -> None:
    model = model_of(**keywords)
    batch = batch_of(model, 300 if model.space.n_digits == 9 else 60)
    noise = noise_of(model, batch, branches)
    terms, gradients = graph_of(model, batch, noise, branches, floor)
    ready(model)
    found = found_by_hand(model, batch, noise, branches=branches, richness_floor=floor, share=0.25)
    assert found == pytest.approx(terms, rel=1e-5, abs=1e-5)
    assert_gradients(model, gradients, 0.25)


def test_gradients_are_added_to_those_that_are_there() -> None:
    model = model_of()
    batch = batch_of(model)
    noise = noise_of(model, batch, "AB")
    _, gradients = graph_of(model, batch, noise)
    ready(model)
    for _ in range(3):
        assert found_by_hand(model, batch, noise, share=1 / 3) is not None
    assert_gradients(model, gradients)


@pytest.mark.parametrize("frozen", ["coverage", "features"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    model = model_of()
    parts = model.coverage_modules() if frozen == "coverage" else [model.encoder("B").features]
    for part in parts:
        part.requires_grad_(False)
    batch = batch_of(model)
    noise = noise_of(model, batch, "B")
    terms, gradients = graph_of(model, batch, noise, "B")
    ready(model)
    assert found_by_hand(model, batch, noise, branches="B") == pytest.approx(terms, rel=1e-5)
    assert_gradients(model, gradients)


@pytest.mark.parametrize("world", [2, 3, 100])
def test_processes_have_the_terms_of_all_and_add_up_to_the_gradient(world: int) -> None:
    """A hundred for sixty rows: some have none."""
    model = model_of()
    whole = batch_of(model)
    noise = noise_of(model, whole, "AB")
    ready(model)
    alone = found_by_hand(model, whole, noise)
    expected = {
        name: p.grad.clone().double() for name, p in model.named_parameters() if p.grad is not None
    }
    parts = [batch_of(model, rank=rank, world=world) for rank in range(world)]
    draws = [part.mine(noise, rank, world) for rank, part in enumerate(parts)]
    seen: list[Tensor] = []

    def noting(sums: Tensor) -> Tensor:
        seen.append(sums.clone())
        return sums

    for part, own in zip(parts, draws, strict=True):
        assert found_by_hand(model, part, own, total=noting) is not None
    together = torch.stack(seen).sum(0)
    ready(model)
    for part, own in zip(parts, draws, strict=True):
        found = found_by_hand(model, part, own, total=lambda sums: together.clone())
        assert found == pytest.approx(alone, rel=1e-5, abs=1e-6)
    assert_gradients(model, expected)


def hooked(model: TernaryVAE) -> None:
    model.decoder[2].weight.register_hook(lambda g: g)


def prototypes_hooked(model: TernaryVAE) -> None:
    model.prototypes.register_hook(lambda g: g)


def prototypes_hooked_afterwards(model: TernaryVAE) -> None:
    model.prototypes.register_post_accumulate_grad_hook(lambda p: None)


def dropping(model: TernaryVAE) -> None:
    model.encoder("B").features[3].p = 0.5


def watched(model: TernaryVAE) -> None:
    model.charts["A"].register_forward_hook(lambda *_: None)


def without_a_gradient(model: TernaryVAE) -> None:
    model.charts["A"].bias.grad = None


@pytest.mark.parametrize(
    "change",
    [
        *(hooked, prototypes_hooked, prototypes_hooked_afterwards),
        *(dropping, watched, without_a_gradient),
    ],
)
def test_where_the_graph_is_needed_nothing_is_changed(
    change: Callable[[TernaryVAE], None],
) -> None:
    model = model_of()
    batch = batch_of(model)
    gradients = ready(model)
    change(model)
    assert found_by_hand(model, batch, noise_of(model, batch, "AB")) is None
    assert not any(bool(buffer.any()) for buffer in gradients.buffers)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["encoders.B.features.0.weight", "decoder.5.bias", "prototypes"])
def test_what_is_not_finite_shows_in_the_terms(where: str, poison: float) -> None:
    model = model_of()
    with torch.no_grad():
        model.get_parameter(where).view(-1)[3] = poison
    batch = batch_of(model)
    ready(model)
    found = found_by_hand(model, batch, noise_of(model, batch, "AB"))
    assert found is not None and not all(map(math.isfinite, found))
