"""Who gets which rate, what a freeze stops, what a thaw begins with, and one step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ternvae.models import TernaryVAE
from ternvae.training.batches import Batch
from ternvae.training.objective import TERMS, loss_terms
from ternvae.training.optimisation import (
    Optimisation,
    _keep_on_device,
    _save_as_on_host,
    encoder_a_share,
)

GUARDED = ("encoders.A.", "charts.A.", "decoder.", "ball.")


def model_of(seed: int = 0, *, dropout: float = 0.5, **keywords: bool) -> TernaryVAE:
    torch.manual_seed(seed)
    return TernaryVAE(n_digits=3, latent_dim=4, hidden_dim=8, dropout=dropout, **keywords)


def optimisation_of(model: TernaryVAE, *, rate: float = 0.01, **keywords: float) -> Optimisation:
    settings = {"weight_decay": 0.5, "max_grad_norm": 5.0, **keywords}
    optimisation = Optimisation(model, use_amp=False, **settings)
    optimisation.set_rates(rate, encoder_a=1.0, encoder_b=1.0)
    return optimisation


def batch_of(model: TernaryVAE, rows: slice = slice(None)) -> Batch:
    """Some rows of the whole space."""
    indices = torch.arange(27)[rows]
    levels = model.space.valuation(indices)
    return Batch(indices, model.space.sequences(indices), levels, len(indices))


def loss_of(model: TernaryVAE, branches: str = "AB", rows: slice = slice(None)) -> Tensor:
    """A loss in which everything takes part."""
    batch = batch_of(model, rows)
    terms = loss_terms(model, batch, branches=tuple(branches), richness_floor=0.01)
    return torch.stack([terms[name] for name in TERMS]).sum()


def train(
    optimisation: Optimisation,
    steps: int = 1,
    *,
    encoder_a: bool = False,
    encoder_b: bool = False,
) -> None:
    """As an epoch does it."""
    model = optimisation.model
    model.train()
    optimisation.freeze(encoder_a=encoder_a, encoder_b=encoder_b)
    for _ in range(steps):
        optimisation.step([lambda: loss_of(model, "B" if encoder_a else "AB")])


def state_of(model: TernaryVAE) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(model: TernaryVAE, before: dict[str, Tensor]) -> set[str]:
    now = dict(model.named_parameters())
    return {name for name, value in before.items() if not torch.equal(value, now[name])}


# --- groups and rates -----------------------------------------------------------------------


@pytest.mark.parametrize("learnable", [False, True])
def test_every_parameter_is_in_exactly_one_group(learnable: bool) -> None:
    model = model_of(learnable_curvature=learnable)
    groups = {
        group["name"]: {id(parameter) for parameter in group["params"]}
        for group in optimisation_of(model).optimizer.param_groups
    }
    listed = [p for group in optimisation_of(model).optimizer.param_groups for p in group["params"]]
    assert len(listed) == len(set(map(id, listed))) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        if name.startswith(GUARDED):
            owner = "encoder_a"
        elif name.startswith("encoders.B."):
            owner = "encoder_b"
        else:
            assert name.startswith(("charts.B.", "prototypes", "thresholds")), name
            owner = "rest"
        assert [key for key, members in groups.items() if id(parameter) in members] == [owner], name
    assert any(name.startswith("ball.") for name, _ in model.named_parameters()) is learnable


def test_rates_are_shares_of_one() -> None:
    optimisation = optimisation_of(model_of())
    optimisation.set_rates(0.2, encoder_a=0.5, encoder_b=0.05)
    rates = {group["name"]: group["lr"] for group in optimisation.optimizer.param_groups}
    assert rates == pytest.approx({"encoder_a": 0.1, "encoder_b": 0.01, "rest": 0.2})
    assert optimisation.rate == 0.2


def test_a_rate_decides_how_far_a_group_moves() -> None:
    """Adam's first step has the length of the rate, whatever the gradient."""
    model = model_of(dropout=0.0)
    optimisation = optimisation_of(model, weight_decay=0.0)
    optimisation.set_rates(1e-3, encoder_a=0.5, encoder_b=0.25)
    before = state_of(model)
    train(optimisation)
    now = dict(model.named_parameters())
    for prefix, rate in (("encoders.A.", 5e-4), ("encoders.B.", 2.5e-4), ("charts.B.", 1e-3)):
        moved = max(
            float((now[name] - value).abs().max().detach())
            for name, value in before.items()
            if name.startswith(prefix)
        )
        assert moved == pytest.approx(rate, rel=0.01), prefix


# --- freezing -------------------------------------------------------------------------------


def test_a_frozen_encoder_a_stays_as_it_is_to_the_last_bit() -> None:
    model = model_of(learnable_curvature=True)
    optimisation = optimisation_of(model)
    train(optimisation, 3)  # moments and gradients are there
    before, sequences = state_of(model), model.space.sequences(torch.arange(27))
    points, decoded = model.embed(torch.arange(27), "A"), model.encoders["A"]
    train(optimisation, 3, encoder_a=True)
    moved = changed(model, before)
    assert not {name for name in moved if name.startswith(GUARDED)}
    assert moved == {name for name in before if not name.startswith(GUARDED)}
    assert torch.equal(model.embed(torch.arange(27), "A"), points)
    frozen = [p for name, p in model.named_parameters() if name.startswith(GUARDED)]
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    # Dropout is off where it is frozen and only there.
    assert torch.equal(decoded.features(one_hot(sequences)), decoded.features(one_hot(sequences)))
    b = model.encoders["B"]
    assert not torch.equal(b.features(one_hot(sequences)), b.features(one_hot(sequences)))


def one_hot(sequences: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(sequences + 1, 3).flatten(-2).float()


def test_a_loss_on_both_branches_moves_nothing_that_is_frozen() -> None:
    model = model_of()
    optimisation = optimisation_of(model)
    train(optimisation, 2)
    before = state_of(model)
    model.train()
    optimisation.freeze(encoder_a=True, encoder_b=True)
    optimisation.step([lambda: loss_of(model, "AB")])
    kept = (*GUARDED, "encoders.B.features.")
    assert changed(model, before) == {name for name in before if not name.startswith(kept)}


def test_of_a_frozen_encoder_b_only_the_hidden_layers_rest() -> None:
    model = model_of()
    optimisation = optimisation_of(model)
    train(optimisation, 3)
    before, sequences = state_of(model), model.space.sequences(torch.arange(27))
    train(optimisation, 3, encoder_b=True)
    resting = {name for name in before if name.startswith("encoders.B.features.")}
    assert resting
    assert changed(model, before) == before.keys() - resting
    features = model.encoder("B").features
    assert torch.equal(features(one_hot(sequences)), features(one_hot(sequences)))


@pytest.mark.parametrize(
    ("which", "frozen"), [("encoder_a", GUARDED), ("encoder_b", ("encoders.B.features.",))]
)
def test_what_thaws_starts_with_fresh_moments_and_nothing_else_does(
    which: str, frozen: tuple[str, ...]
) -> None:
    model = model_of(learnable_curvature=True)
    optimisation = optimisation_of(model)
    state = optimisation.optimizer.state
    train(optimisation, 4)
    train(optimisation, 3, **{which: True})
    others = {
        name: {key: value.clone() for key, value in state[parameter].items()}
        for name, parameter in model.named_parameters()
        if not name.startswith(frozen)
    }
    model.train()
    optimisation.freeze(encoder_a=False, encoder_b=False)
    for name, parameter in model.named_parameters():
        if name.startswith(frozen):
            assert parameter not in state, name
            assert parameter.requires_grad
        else:
            kept = state[parameter]
            assert kept.keys() == others[name].keys()
            assert all(torch.equal(kept[key], others[name][key]) for key in kept), name
    before = state_of(model)
    optimisation.step([lambda: loss_of(model)])
    assert changed(model, before) == before.keys()
    for name, parameter in model.named_parameters():
        assert state[parameter]["step"] == (1 if name.startswith(frozen) else 8), name


def test_only_a_thaw_drops_moments() -> None:
    model = model_of()
    optimisation = optimisation_of(model)
    train(optimisation, 2)
    for frozen in (False, True, True):
        model.train()
        optimisation.freeze(encoder_a=frozen, encoder_b=frozen)
        assert all(optimisation.optimizer.state[p]["step"] == 2 for p in model.parameters())
        # A gradient from before would be clipped and counted in the norm.
        stale = {n for n, p in model.named_parameters() if p.grad is not None}
        kept = (*GUARDED, "encoders.B.features.") if frozen else ()
        assert stale == {n for n, _ in model.named_parameters() if not n.startswith(kept)}
    assert optimisation.frozen == {"encoder_a": True, "encoder_b": True}


def test_a_curvature_that_is_not_learned_stays_so_after_a_thaw() -> None:
    model = model_of()
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    optimisation = optimisation_of(model)
    train(optimisation, encoder_a=True)
    train(optimisation)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == learned


# --- a step ---------------------------------------------------------------------------------


def gradients(model: TernaryVAE) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def gradient_of(model: TernaryVAE, losses: list[Callable[[], Tensor]]) -> list[dict[str, Tensor]]:
    """Of each loss alone, through autograd and no optimizer."""
    result = []
    for loss in losses:
        found = torch.autograd.grad(
            loss(), dict(model.named_parameters()).values(), allow_unused=True
        )
        named = zip(dict(model.named_parameters()), found, strict=True)
        result.append({name: gradient for name, gradient in named if gradient is not None})
    return result


def seeded(model: TernaryVAE, seed: int, rows: slice) -> Callable[[], Tensor]:
    """A loss of some rows that draws the same samples whenever it is asked for."""

    def loss() -> Tensor:
        torch.manual_seed(seed)
        return loss_of(model, rows=rows)

    return loss


@pytest.mark.parametrize("count", [1, 2, 4])
def test_accumulated_gradients_are_exactly_the_average(count: int) -> None:
    """Halving is exact in binary, so not even the last bit may differ."""
    model = model_of(dropout=0.0)
    optimisation = optimisation_of(model, max_grad_norm=math.inf)
    parts = [seeded(model, k, slice(k, None, count)) for k in range(count)]
    alone = gradient_of(model, parts)
    norm = optimisation.step(parts)
    for name, gradient in gradients(model).items():
        total = alone[0][name]
        for part in alone[1:]:
            total = total + part[name]
        assert torch.equal(gradient, total / count), name
    assert gradients(model).keys() == alone[0].keys()
    squares = sum(float(g.double().square().sum()) for g in gradients(model).values())
    assert float(norm) == pytest.approx(math.sqrt(squares), rel=1e-5)


def spoilt(model: TernaryVAE) -> Callable[[], Tensor]:
    return lambda: loss_of(model) * math.nan


def test_three_batches_are_averaged_and_not_summed() -> None:
    model = model_of(dropout=0.0)
    optimisation = optimisation_of(model, max_grad_norm=math.inf)
    parts = [seeded(model, k, slice(k, None, 3)) for k in range(3)]
    alone = gradient_of(model, parts)
    optimisation.step(parts)
    for name, gradient in gradients(model).items():
        mean = torch.stack([part[name].double() for part in alone]).mean(0)
        assert torch.allclose(gradient.double(), mean, rtol=1e-4, atol=1e-6), name


def test_nothing_of_an_earlier_step_is_left() -> None:
    model = model_of(dropout=0.0)
    optimisation = optimisation_of(model, max_grad_norm=math.inf)
    train(optimisation, 2)
    loss = seeded(model, 5, slice(None))
    [alone] = gradient_of(model, [loss])
    optimisation.step([loss])
    assert all(torch.equal(gradient, alone[n]) for n, gradient in gradients(model).items())


@pytest.mark.parametrize("most", [1e-3, 0.5])
def test_gradients_are_clipped_and_the_norm_is_that_before(most: float) -> None:
    model = model_of(dropout=0.0)
    optimisation = optimisation_of(model, max_grad_norm=most)
    loss = seeded(model, 1, slice(None))
    [alone] = gradient_of(model, [loss])
    expected = math.sqrt(sum(float(g.double().square().sum()) for g in alone.values()))
    assert expected > most
    norm = optimisation.step([loss])
    assert float(norm) == pytest.approx(expected, rel=1e-5)
    clipped = sum(float(g.double().square().sum()) for g in gradients(model).values())
    assert math.sqrt(clipped) == pytest.approx(most, rel=1e-4)


def test_batches_are_asked_for_in_turn() -> None:
    """The second graph is made when the first one has had its gradients."""
    model = model_of()
    seen: list[bool] = []

    def loss() -> Tensor:
        gradient = model.prototypes.grad
        seen.append(gradient is not None and bool(gradient.any()))
        return loss_of(model)

    optimisation_of(model).step([loss, loss])
    assert seen == [False, True]


def test_every_weight_that_learns_has_a_gradient() -> None:
    """A zero is a gradient, too: moments fade, and weights decay.  So none may be missing."""
    for encoder_a in (False, True):
        for terms in (TERMS, TERMS[:1]):
            model = model_of(learnable_curvature=True)
            optimisation = optimisation_of(model)
            optimisation.freeze(encoder_a=encoder_a, encoder_b=False)
            found = loss_terms(
                model,
                batch_of(model),
                branches="B" if encoder_a else "AB",
                richness_floor=0.01,
            )
            weights = {name: float(name in terms) for name in TERMS}
            sum(weights[name] * found[name] for name in TERMS).backward()
            for name, parameter in model.named_parameters():
                assert (parameter.grad is not None) == parameter.requires_grad, name


def test_gradients_are_reduced_before_they_are_measured() -> None:
    model = model_of(dropout=0.0, learnable_curvature=True)
    optimisation = optimisation_of(model, max_grad_norm=math.inf)
    loss = seeded(model, 1, slice(None))
    [alone] = gradient_of(model, [loss])
    seen: list[Tensor] = []

    def reduce(buffer: Tensor) -> Tensor:
        seen.append(buffer)
        return buffer.mul_(0.5)

    norm = optimisation.step([loss], reduce=reduce)
    assert len(seen) == len({each.dtype for each in model.parameters()})
    assert sum(each.count_nonzero() for each in seen) <= sum(g.numel() for g in alone.values())
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, 0.5 * alone[name]), name
    squares = sum(float(g.double().square().sum()) for g in alone.values())
    assert float(norm) == pytest.approx(0.5 * math.sqrt(squares), rel=1e-5)


def test_one_gradient_that_is_none_spoils_all_if_nobody_checks() -> None:
    """As with torch's own clipping: such a step must not look like an ordinary one."""
    model = model_of()
    optimisation = optimisation_of(model)
    hook = model.prototypes.register_hook(lambda gradient: gradient * math.nan)
    norm = optimisation.step([lambda: loss_of(model)])
    hook.remove()
    assert norm.isnan()
    assert not any(bool(g.isfinite().any()) for g in gradients(model).values())


# --- steps that do not count ----------------------------------------------------------------


@pytest.mark.parametrize("learnable", [False, True])
def test_steps_change_nothing_while_the_flag_is_set(learnable: bool) -> None:
    """And go on afterwards as if they had not been; with it at 0, they are ordinary steps."""
    ends = []
    for kind in ("plain", "heeding", "disturbed"):
        model = model_of(dropout=0.0, learnable_curvature=learnable)
        optimisation = optimisation_of(model, max_grad_norm=0.5)
        flag = torch.zeros(())
        optimisation.heed(None if kind == "plain" else flag)
        for step in range(4):
            if kind == "disturbed" and step:
                flag.fill_(1.0)
                before = {name: each.clone() for name, each in optimisation.tensors().items()}
                optimisation.step([spoilt(model)])
                now = optimisation.tensors()
                assert before.keys() == now.keys()
                assert all(torch.equal(each, now[name]) for name, each in before.items())
                flag.fill_(0.0)
            optimisation.step([seeded(model, step, slice(None))])
        ends.append({name: each.clone() for name, each in optimisation.tensors().items()})
    plain, heeding, disturbed = ends
    assert all(torch.equal(each, heeding[name]) for name, each in disturbed.items())
    # The factor of clipping is rounded elsewhere.
    for name, each in plain.items():
        torch.testing.assert_close(each, heeding[name], rtol=1e-4, atol=1e-6)


# --- on an accelerator ----------------------------------------------------------------------


def meta_model() -> TernaryVAE:
    """A model without values: nothing can be asked for."""
    with torch.device("meta"):
        model = TernaryVAE(n_digits=3, latent_dim=4, hidden_dim=8)
    return model.to("meta")


def test_rates_of_a_captured_step_are_tensors_filled_in_place() -> None:
    optimisation = Optimisation(
        meta_model(), weight_decay=0.1, max_grad_norm=5.0, use_amp=False, capturable=True
    )
    before = [group["lr"] for group in optimisation.optimizer.param_groups]
    assert len(set(map(id, before))) == 3
    for lr in before:
        assert lr.shape == () and lr.dtype == torch.float32 and lr.is_meta
    optimisation.set_rates(0.3, encoder_a=0.5, encoder_b=0.25)
    after = [group["lr"] for group in optimisation.optimizer.param_groups]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert optimisation.rate == 0.3
    assert all(group["capturable"] for group in optimisation.optimizer.param_groups)


def test_what_is_saved_does_not_depend_on_the_device() -> None:
    model = model_of()
    here = optimisation_of(model)
    train(here)
    state = here.optimizer.state_dict()
    there = copy.deepcopy(state)
    for group in there["param_groups"]:
        group.update(lr=torch.tensor(group["lr"], dtype=torch.float64), capturable=True)
    _save_as_on_host(here.optimizer, there)
    assert there["param_groups"] == state["param_groups"]
    _keep_on_device(here.optimizer)
    for group, saved in zip(here.optimizer.param_groups, state["param_groups"], strict=True):
        assert group["capturable"] and float(group["lr"]) == pytest.approx(saved["lr"])


# --- the loss under autocast ----------------------------------------------------------------


@pytest.mark.parametrize("float64", [False, True])
def test_autocast_reaches_the_hidden_layers_and_nothing_else(float64: bool) -> None:
    model = model_of(dropout=0.0, mathematical_precision=float64)
    optimisation = Optimisation(model, weight_decay=0.0, max_grad_norm=5.0, use_amp=True)
    wanted = torch.float64 if float64 else torch.float32
    hidden: list[torch.dtype] = []
    for module in (*model.encoder("B").features, *model.decoder):
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _m, _i, output: hidden.append(output.dtype))
    levels = model.space.valuation(torch.arange(27))
    with optimisation.autocast(torch.device("cpu")):
        output = model(model.space.sequences(), levels, "B")
        terms = loss_terms(model, batch_of(model), branches="AB", richness_floor=0.05)
    assert set(hidden) == {torch.bfloat16}
    for name in ("points", "radius", "posterior_log_prob", "prior_log_prob"):
        assert getattr(output, name).dtype == wanted, name
    assert output.logits.dtype == torch.float32
    assert {term.dtype for term in terms.values()} <= {torch.float32, torch.float64}


def test_autocast_does_not_touch_the_arithmetic_of_the_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same outputs of the model give the same losses, to the last bit."""
    model = model_of(dropout=0.0)
    optimisation = Optimisation(model, weight_decay=0.0, max_grad_norm=5.0, use_amp=True)
    batch = batch_of(model)
    outputs = {branch: model(batch.sequences, batch.levels, branch) for branch in "AB"}
    monkeypatch.setattr(model, "forward", lambda _s, _l, branch, _noise: outputs[branch])
    plain = loss_terms(model, batch, branches="AB", richness_floor=0.05)
    with optimisation.autocast(torch.device("cpu")):
        cast = loss_terms(model, batch, branches="AB", richness_floor=0.05)
    for name in TERMS:
        assert plain[name].dtype == cast[name].dtype, name
        assert torch.equal(plain[name], cast[name]), name


def test_without_amp_nothing_is_cast() -> None:
    model = model_of(dropout=0.0)
    with optimisation_of(model).autocast(torch.device("cpu")):
        assert model.decoder(torch.zeros(1, 8)).dtype == torch.float32


# --- the share of encoder A -----------------------------------------------------------------

#: Scale of the profile, whether A is taken over, length of the first phase, epoch, whether coverage
#: has been reached; and the share.
SHARES = [
    # Nothing else provides coverage: A learns.
    (None, False, 0, 1, False, 1.0),
    (None, False, 0, 100, False, 1.0),
    (None, False, 0, 100, True, 1.0),
    (0.05, False, 0, 100, True, 0.05),
    (2.0, False, 0, 100, True, 2.0),
    # A checkpoint does, from the first epoch on.
    (None, True, 0, 1, False, 0.0),
    (None, True, 0, 1, True, 0.0),
    (0.0, True, 0, 1, True, 0.0),
    (0.05, True, 0, 1, False, 0.05),
    (0.05, True, 0, 50, True, 0.05),
    # A checkpoint and a first phase: there is nothing left to learn first.
    (None, True, 16, 1, True, 0.0),
    (0.5, True, 16, 1, True, 0.5),
    # A first phase learns it, at the full rate.
    (None, False, 16, 1, False, 1.0),
    (None, False, 16, 16, True, 1.0),
    (0.0, False, 16, 16, True, 1.0),
    (0.05, False, 16, 3, True, 1.0),
    # After it, A rests or learns at its scale,
    (None, False, 16, 17, True, 0.0),
    (0.0, False, 16, 17, True, 0.0),
    (0.05, False, 16, 17, True, 0.05),
    # but not before coverage is there.
    (None, False, 16, 17, False, 1.0),
    (0.0, False, 16, 90, False, 1.0),
    (0.05, False, 16, 90, False, 1.0),
]


@pytest.mark.parametrize(("scale", "taken_over", "first", "epoch", "reached", "share"), SHARES)
def test_the_share_of_encoder_a_by_hand(
    scale: float | None, taken_over: bool, first: int, epoch: int, reached: bool, share: float
) -> None:
    result = encoder_a_share(
        epoch,
        scale=scale,
        taken_over=taken_over,
        coverage_first_epochs=first,
        coverage_reached=reached,
    )
    assert result == share
