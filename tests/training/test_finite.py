"""What is NaN or infinite is found before it does harm, and called by its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ternvae.checkpoint import load_checkpoint
from ternvae.trainer import Trainer
from ternvae.trainer.steps import FIGURES, Steps
from ternvae.training.finite import NonFiniteError, check_saved, check_step
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
    name = "decoder.0.weight" if frozen else "charts.B.weight"
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
