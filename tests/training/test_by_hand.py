"""The gradient without a graph against autograd on the same terms."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ternvae import losses
from ternvae.losses.levels import LevelRows
from ternvae.models import TernaryVAE, dense
from ternvae.training.batches import Batch, BatchPlan
from ternvae.training.by_hand import accumulate
from ternvae.training.objective import TERMS, loss_terms

pytestmark = pytest.mark.skipif(
    not (dense.available() and LevelRows.fit(torch.zeros(1))),
    reason="the extensions were not compiled: no C compiler",
)

WEIGHTS = (1.0, 5.0, 2.5, 3.0, 0.7, 0.02)
FLOORS = (0.0, 0.006, 3.0)


def model_of(n_digits: int = 4) -> TernaryVAE:
    torch.manual_seed(n_digits)
    model = TernaryVAE(n_digits, latent_dim=5, hidden_dim=20)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
        model.prototypes.copy_(model.ball.projx(model.prototypes))
    return model


def batch_of(model: TernaryVAE, rows: int) -> Batch:
    return next(BatchPlan(model.space, rows, 0.3, 0.25).epoch(rows))


def noise_for(model: TernaryVAE, batch: Batch, branches: Sequence[str]) -> Tensor:
    shape = (len(branches), len(batch.levels), model.config["latent_dim"])
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def start(model: TernaryVAE) -> None:
    """Gradients that are there already, as after an earlier batch of the same step."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25) if parameter.requires_grad else None


def gradients(model: TernaryVAE) -> dict[str, Tensor]:
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


def by_autograd(
    model: TernaryVAE, batch: Batch, branches: Sequence[str], floor: float, share: float
) -> tuple[list[float], dict[str, Tensor]]:
    start(model)
    noise = noise_for(model, batch, branches)
    terms = loss_terms(model, batch, branches=branches, richness_floor=floor, noise=noise)
    loss = sum(w * terms[name] for w, name in zip(WEIGHTS, TERMS, strict=True))
    (share * loss).backward()
    return [terms[name].item() for name in TERMS], gradients(model)


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=2e-5, atol=2e-6, msg=name)


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("rows", [1, 17, 81])
@pytest.mark.parametrize("branches", ["AB", "B"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_terms_and_gradients_are_those_of_autograd(
    branches: str, rows: int, floor: float, share: float
) -> None:
    model = model_of()
    batch = batch_of(model, rows)
    terms, wanted = by_autograd(model, batch, branches, floor, share)
    start(model)
    found = accumulate(
        model,
        batch,
        branches=branches,
        richness_floor=floor,
        noise=noise_for(model, batch, branches),
        weights=WEIGHTS,
        share=share,
    )
    assert found == pytest.approx(terms, rel=1e-5, abs=1e-6)
    assert_equal(gradients(model), wanted)


def test_what_is_frozen_gets_no_gradient() -> None:
    model = model_of()
    for module in model.coverage_modules():
        module.requires_grad_(False)
    model.encoder("B").features.requires_grad_(False)
    batch = batch_of(model, 81)
    _, wanted = by_autograd(model, batch, "B", 0.5, 1.0)
    start(model)
    accumulate(
        model,
        batch,
        branches="B",
        richness_floor=0.5,
        noise=noise_for(model, batch, "B"),
        weights=WEIGHTS,
        share=1.0,
    )
    found = gradients(model)
    assert_equal(found, wanted)
    assert not any(name.startswith(("decoder", "encoders.A", "charts.A")) for name in found)


def test_two_processes_have_together_the_gradient_of_one() -> None:
    """Their sums added up in between, as two processes do, one after the other."""
    model = model_of()
    plan = BatchPlan(model.space, 41, 0.3, 0.25)
    whole = next(plan.epoch(5))
    noise = noise_for(model, whole, "AB")
    keywords = {"branches": "AB", "richness_floor": 0.5, "weights": WEIGHTS, "share": 1.0}
    start(model)
    terms = accumulate(model, whole, noise=noise, **keywords)
    wanted = gradients(model)

    parts = [next(plan.epoch(5, rank=rank, world=2)) for rank in range(2)]
    sent: list[Tensor] = []

    def listen(own: Tensor) -> Tensor:
        sent.append(own.clone())
        return own

    for rank, part in enumerate(parts):
        start(model)
        accumulate(model, part, noise=part.mine(noise, rank, 2), total=listen, **keywords)
    everything = torch.stack(sent).sum(0)
    start(model)
    for rank, part in enumerate(parts):
        own = part.mine(noise, rank, 2)
        found = accumulate(model, part, noise=own, total=lambda _: everything.clone(), **keywords)
        assert found == pytest.approx(terms, rel=1e-5)
    assert_equal(gradients(model), wanted)


@pytest.mark.parametrize("why", ["hook", "no grad", "extension", "dropout", "float64", "curvature"])
def test_where_the_graph_is_needed_nothing_is_touched(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keywords = {"learnable_curvature": True} if why == "curvature" else {}
    model = TernaryVAE(4, 5, 20, dropout=0.5 if why == "dropout" else 0.0, **keywords)
    if why == "float64":
        model.double()
    start(model)
    if why == "hook":
        model.decoder[2].weight.register_hook(lambda grad: grad)
    if why == "no grad":
        model.charts["A"].bias.grad = None
    if why == "extension":
        monkeypatch.setattr(dense, "_dense", None)
    before = gradients(model)
    batch = batch_of(model, 40)
    noise = noise_for(model, batch, "AB").to(model.point_dtype)
    found = accumulate(
        model,
        batch,
        branches="AB",
        richness_floor=0.5,
        noise=noise,
        weights=WEIGHTS,
        share=1.0,
    )
    assert found is None
    assert all(torch.equal(before[name], each) for name, each in gradients(model).items())


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("seed", range(4))
def test_the_terms_in_c_are_those_of_the_formulas_in_float64(seed: int, floor: float) -> None:
    """Radii in and outside of their shells, levels without a row, with one, with many."""
    n, radius_max = 5, 3.0
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(n + 1, (60,), generator=generator)
    levels = levels[levels != seed]
    radius = 1.3 * radius_max * torch.rand(len(levels), generator=generator)
    exact = radius.double().requires_grad_()
    keywords = {"n_digits": n, "radius_max": radius_max, "richness_floor": floor}
    wanted = losses.geometry_losses(exact, levels, **keywords)
    given = radius.clone().requires_grad_()
    found = losses.geometry_losses(given, levels, **keywords)
    for name in wanted._fields:
        (slope,) = torch.autograd.grad(getattr(found, name), given, retain_graph=True)
        exactly = torch.zeros_like(exact)
        if getattr(wanted, name).requires_grad:  # without a floor richness is a constant
            (exactly,) = torch.autograd.grad(getattr(wanted, name), exact, retain_graph=True)
        torch.testing.assert_close(
            getattr(found, name).double(), getattr(wanted, name).detach(), rtol=2e-6, atol=1e-6
        )
        torch.testing.assert_close(slope.double(), exactly, rtol=2e-5, atol=2e-6)
