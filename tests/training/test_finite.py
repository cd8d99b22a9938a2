"""What is NaN or infinite is found before it does harm, and called by its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ternvae.checkpoint import load_checkpoint
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer
from ternvae.trainer.steps import FIGURES, Steps
from ternvae.training.finite import Latch, NonFiniteError, check_saved, check_step
from ternvae.training.optimisation import Optimisation
from tests.runs import fit, last, same, tiny

BAD = [math.nan, math.inf, -math.inf]
TERMS = FIGURES[1:-1]
HUGE = 3e38


def parameters(**bad: float) -> dict[str, torch.nn.Parameter]:
    """Four parameters, half of them frozen, with gradients where they learn."""
    found = {}
    for name in ("frozen_one", "frozen_two", "learned_one", "learned_two"):
        found[name] = torch.nn.Parameter(torch.ones(3), requires_grad=name.startswith("learned"))
        if found[name].requires_grad:
            found[name].grad = torch.ones(3)
        if name in bad:
            found[name].data[1] = bad[name]
    return found


def problem(
    weights: dict[str, torch.nn.Parameter] | None = None, norm: float = 1.0, **figures: float
) -> NonFiniteError | None:
    """What is found in a step with these figures, all others being 1."""
    sums = torch.tensor([figures.get(name, 1.0) for name in FIGURES])
    try:
        check_step(FIGURES, sums, torch.tensor(norm), weights or parameters())
    except NonFiniteError as error:
        return error
    return None


def test_a_good_step_passes() -> None:
    assert problem() is None


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_named_and_the_total_that_it_spoils_is_not(name: str, value: float) -> None:
    found = problem(total=math.nan, norm=math.nan, **{name: value})
    assert found is not None and found.names == (name,)
    assert str(found) == f"the loss is not finite: {name} is {value}"


@pytest.mark.parametrize("value", BAD)
def test_a_total_that_stands_alone_is_named(value: float) -> None:
    found = problem(total=value)
    assert found is not None and found.names == ("total",)
    assert str(found) == f"the loss is not finite: total is {value}"


@pytest.mark.parametrize("value", BAD)
def test_a_gradient_is_named_with_its_weight(value: float) -> None:
    weights = parameters()
    gradient = weights["learned_two"].grad
    assert gradient is not None
    gradient[2] = value
    norm = math.nan if math.isnan(value) else math.inf
    found = problem(weights, norm=norm)
    assert found is not None
    assert str(found) == f"the norm of the gradient is {norm} (learned_two)"


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["frozen_one", "frozen_two", "learned_one"])
def test_a_weight_is_named_frozen_or_not(name: str, value: float) -> None:
    """One that learns shows in the loss; one that is frozen need not."""
    learned = name.startswith("learned")
    found = problem(parameters(**{name: value}), **({"kl": math.nan} if learned else {}))
    assert found is not None and found.names == (name,)
    assert str(found) == f"weights are NaN or infinite: {name}"


def test_of_many_weights_the_first_are_named_and_the_others_counted() -> None:
    bad = dict.fromkeys(("frozen_one", "frozen_two", "learned_one", "learned_two"), math.nan)
    found = problem(parameters(**bad))
    assert found is not None and len(found.names) == 4
    assert str(found).endswith(": frozen_one, frozen_two, learned_one and 1 more")


@given(name=st.sampled_from([*FIGURES[:-1], "norm"]), value=st.floats(width=32), sign=st.booleans())
def test_exactly_what_is_not_finite_is_found(name: str, value: float, sign: bool) -> None:
    found = problem(**{name: -value if sign else value})
    assert (found is None) == math.isfinite(value)
    if found is not None:
        assert ("gradient" if name == "norm" else name) in str(found)


@pytest.mark.parametrize("value", [HUGE, -HUGE, 1e20, 1e-45])
def test_what_is_huge_is_not_infinite(value: float) -> None:
    for name in FIGURES[:-1]:
        assert problem(**{name: value}) is None
    assert problem(norm=abs(value)) is None
    assert problem(parameters(learned_one=value)) is None
    assert problem(parameters(frozen_one=value)) is None
    check_saved(parameters(frozen_one=value, learned_one=value))


@given(
    bad=st.dictionaries(st.sampled_from([f"w{k}" for k in range(6)]), st.sampled_from(BAD)),
    place=st.integers(0, 3),
)
def test_nothing_bad_is_saved_and_all_of_it_is_named(bad: dict[str, float], place: int) -> None:
    tensors = {f"w{k}": torch.full((2, 2), HUGE) for k in range(6)}
    for name, value in bad.items():
        tensors[name].view(-1)[place] = value
    if not bad:
        check_saved(tensors)
        return
    with pytest.raises(NonFiniteError, match="and so not saved: ") as caught:
        check_saved(tensors)
    assert set(caught.value.names) == set(bad)


def test_whole_numbers_and_empty_tensors_are_finite() -> None:
    check_saved({"step": torch.tensor(3), "none": torch.empty(0), "flag": torch.tensor(True)})


# --- on an accelerator --------------------------------------------------------------------------


class NoHost(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Refuses whatever waits for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        assert name not in ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero"), name
        return func(*args, **(kwargs or {}))


def latch() -> Latch:
    return Latch(FIGURES, torch.device("cpu"))


def observe(
    own: Latch,
    step: int,
    weights: dict[str, torch.nn.Parameter] | None = None,
    norm: float = 1.0,
    **figures: float,
) -> None:
    sums = torch.tensor([figures.get(name, 1.0) for name in FIGURES])
    with NoHost():  # type: ignore[no-untyped-call]  # torch's own
        own.observe(step, sums, torch.full((), norm), weights or parameters())


def told(own: Latch, weights: dict[str, torch.nn.Parameter] | None = None) -> str | None:
    try:
        own.raise_if_set(weights or parameters(), 5)
    except NonFiniteError as error:
        return str(error)
    return None


def test_a_latch_stays_open_over_good_steps() -> None:
    own = latch()
    for step in range(1, 8):
        observe(own, step, total=HUGE, norm=HUGE)
        assert own.flag == 0.0 and told(own) is None


@given(name=st.sampled_from([*FIGURES[:-1], "norm"]), value=st.floats(width=32))
def test_a_latch_finds_what_the_check_finds(name: str, value: float) -> None:
    own, found = latch(), problem(**{name: value})
    observe(own, 1, **{name: value})
    assert told(own) == (None if found is None else str(found.at("Epoch 1, step 1 of 5")))


@pytest.mark.parametrize("value", [*BAD, HUGE])
@pytest.mark.parametrize("name", ["frozen_one", "frozen_two"])
def test_a_latch_looks_at_frozen_weights(name: str, value: float) -> None:
    own, weights = latch(), parameters(**{name: value})
    weights["double"] = torch.nn.Parameter(
        torch.full((2,), 1e300, dtype=torch.float64), requires_grad=False
    )
    observe(own, 5, weights)
    wanted = f"Epoch 1, step 5 of 5: weights are NaN or infinite: {name}"
    assert told(own, weights) == (None if value == HUGE else wanted)


def test_a_latch_tells_the_first_bad_step_whatever_follows() -> None:
    own = latch()
    observe(own, 11)
    observe(own, 12, total=math.nan, kl=math.inf, norm=math.nan)
    observe(own, 13, total=math.nan, prototype=-math.inf, norm=math.nan)
    observe(own, 14)
    assert told(own) == "Epoch 3, step 2 of 5: the loss is not finite: kl is inf"
    assert told(own) == "Epoch 3, step 2 of 5: the loss is not finite: kl is inf"


def test_a_latch_takes_its_step_from_the_device() -> None:
    own, step = latch(), torch.zeros((), dtype=torch.int64)
    for value in (1.0, math.nan, math.nan):
        step += 1
        with NoHost():  # type: ignore[no-untyped-call]  # torch's own
            own.observe(step, torch.full((len(FIGURES),), value), torch.ones(()), parameters())
    assert str(told(own)).startswith("Epoch 1, step 2 of 5: ")


@pytest.mark.parametrize("kind", ["total", "gradient", "frozen"])
def test_a_run_that_a_latch_watches_stays_as_it_was_before_the_bad_step(kind: str) -> None:
    """The host hears of it when it asks, with the name of the weight."""
    torch.manual_seed(0)
    model = TernaryVAE(n_digits=3, latent_dim=4, hidden_dim=8, learnable_curvature=True)
    optimisation = Optimisation(model, weight_decay=0.1, max_grad_norm=1.0, use_amp=False)
    optimisation.set_rates(0.01, encoder_a=1.0, encoder_b=1.0)
    optimisation.freeze(encoder_a=kind == "frozen", encoder_b=False)
    own, before, name = latch(), {}, "charts.B.0.weight"
    optimisation.heed(own.flag)
    for step in range(1, 9):
        sums = torch.ones(len(FIGURES))
        factor = torch.ones(())
        if step == 4:
            if kind == "total":
                sums[0] = math.nan
            elif kind == "frozen":
                name = "decoder.0.weight"
                optimisation.parameters[name].data.view(-1)[0] = math.nan
            before = state(optimisation)

        def spoil(gradient: torch.Tensor, step: int = step) -> torch.Tensor:
            spoilt = gradient.clone()
            spoilt[0, 0] = math.inf if step == 4 and kind == "gradient" else spoilt[0, 0]
            return spoilt

        def loss(factor: torch.Tensor = factor) -> torch.Tensor:
            learning = [p for p in model.parameters() if p.requires_grad]
            return factor * sum((p.float().sin().square().sum() for p in learning), torch.zeros(()))

        hook = optimisation.parameters["charts.B.0.weight"].register_hook(spoil)  # type: ignore[no-untyped-call]
        optimisation.step(
            [loss],
            lambda norm: own.observe(step, sums, norm, optimisation.parameters),  # noqa: B023
        )
        hook.remove()
    now = state(optimisation)
    assert before.keys() == now.keys()
    assert all(torch.equal(each, now[key]) or key == name for key, each in before.items())
    words = {
        "total": "the loss is not finite: total is nan",
        "gradient": f"the norm of the gradient is inf ({name})",
        "frozen": f"weights are NaN or infinite: {name}",
    }
    with pytest.raises(NonFiniteError) as caught:
        own.raise_if_set(optimisation.parameters, 3)
    assert str(caught.value) == f"Epoch 2, step 1 of 3: {words[kind]}"


# --- in a run -----------------------------------------------------------------------------------


def state(optimisation: Optimisation) -> dict[str, Any]:
    return {name: value.clone() for name, value in optimisation.tensors().items()}


@pytest.mark.parametrize("name", ["total", *TERMS, "gradient"])
def test_a_step_that_is_refused_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    loss, calls, before = Steps._loss, iter(range(1 << 30)), {}

    def poisoned(self: Steps, *arguments: Any) -> torch.Tensor:
        value = loss(self, *arguments)
        call = next(calls)
        if call == 7:  # the second batch of the second step of epoch 2, which has 5 batches
            before.update(state(self.optimisation))
            if name == "gradient":
                return value * math.inf
            self._sums[FIGURES.index(name)] = math.nan
        return value

    monkeypatch.setattr(Steps, "_loss", poisoned)
    trainer, result = fit(tiny(), run)
    assert result.stop_reason == "non_finite_loss"
    assert before and same(before, state(trainer.optimisation))
    assert result.problem is not None
    assert result.problem.startswith("Epoch 2, step 2 of 3: ") or name == "gradient"
    assert ("gradient" if name == "gradient" else f"{name} is nan") in result.problem
    assert load_checkpoint(last(run))["epoch"] == 1
    assert (run / "train.log").read_text().count(result.problem) >= 1


@pytest.mark.parametrize("frozen", [True, False])
def test_a_weight_that_goes_bad_stops_the_run_with_its_name_and_is_not_saved(
    frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In epoch 2 encoder A is frozen; a frozen weight goes bad by a fault of the memory only."""
    run = tmp_path / "run"
    name = "decoder.0.weight" if frozen else "charts.B.0.weight"
    epoch = Trainer._epoch

    def poisoned(self: Trainer, number: int) -> None:
        if number == 2:
            with torch.no_grad():
                self.optimisation.parameters[name].view(-1)[0] = math.inf
        epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", poisoned)
    _, result = fit(tiny(), run)
    assert result.stop_reason == "non_finite_loss"
    assert result.problem == f"Epoch 2, step 1 of 3: weights are NaN or infinite: {name}"
    contents = load_checkpoint(last(run))
    assert contents["epoch"] == 1
    assert all(each.isfinite().all() for each in contents["model_state_dict"].values())


def test_moments_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    means = Steps.run

    def poisoned(self: Steps, epoch: int, stop: Any) -> Any:
        found = means(self, epoch, stop)
        if epoch == 3:
            moments = self.optimisation.optimizer.state[self.optimisation.model.prototypes]
            moments["exp_avg"].view(-1)[0] = math.nan
        return found

    monkeypatch.setattr(Steps, "run", poisoned)
    _, result = fit(tiny(), run)
    assert result.stop_reason == "non_finite_loss"
    assert "exp_avg of prototypes" in str(result.problem)
    assert load_checkpoint(last(run))["epoch"] == 2
