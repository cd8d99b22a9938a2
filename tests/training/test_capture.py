"""Steps as CUDA graphs: the same numbers, and a step of its own where a graph cannot be had."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ternvae.trainer import Trainer
from ternvae.training import capture
from ternvae.training.capture import obstacle
from ternvae.training.finite import NonFiniteError
from tests.observing import Said
from tests.runs import differing, fit, same
from tests.training.tape import (
    VARIANTS,
    Tape,
    as_on_a_device,
    epochs,
    small,
    trained,
    use_tapes,
    watch_on_device,
)


@contextmanager
def listening() -> Iterator[list[str]]:
    said = Said()
    with said.listening():
        yield said.lines


def told(lines: list[str]) -> list[str]:
    return [line for line in lines if "training.execution" in line]


# --- the same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_repeated_steps_end_with_the_bits_of_steps_one_by_one(
    overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a freeze and a thaw, with rates, weights and a floor that change at every step."""
    as_on_a_device(monkeypatch)
    last = 2 if overrides else 4
    eager, eager_figures = trained(small("eager", **overrides), tmp_path / "eager", last)
    tapes = use_tapes(monkeypatch)
    with listening() as lines:
        found, figures = trained(small(**overrides), tmp_path / "graph", last)
    assert told(lines) == []
    assert same(found, eager)
    assert figures == eager_figures
    assert len(eager) > 50
    # Whole batches are recorded in every state; the short ones once there were two of them.
    assert [tape.replays for tape in tapes] == ([2, 2] if overrides else [2, 2, 2 + 3, 1])
    # Graphs that are used in turn share their memory; torch refuses that of graphs that are gone.
    assert len({id(tape.pool) for tape in tapes}) == (2 if overrides else 3)
    assert overrides or tapes[2].pool is tapes[3].pool


def test_nothing_is_recorded_twice_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_device(monkeypatch)
    tapes = use_tapes(monkeypatch)
    trained(small(), tmp_path / "run", last=5, frozen=())
    assert [tape.replays for tape in tapes] == [2 + 4 * 3, 4]


def test_a_thaw_of_what_never_learned_is_no_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No moments are dropped and no gradients, so all is where it was but for what learns."""
    as_on_a_device(monkeypatch)
    eager, _ = trained(small("eager"), tmp_path / "eager", last=2, frozen=(1,))
    use_tapes(monkeypatch)
    found, _ = trained(small(), tmp_path / "graph", last=2, frozen=(1,))
    assert same(found, eager)


def test_recording_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the weights, the moments, the sums, nor what is drawn next; and it reads nothing."""
    as_on_a_device(monkeypatch)
    use_tapes(monkeypatch)
    trainer = Trainer(small(), tmp_path / "run", "cpu")
    watch_on_device(trainer)
    list(epochs(trainer, lambda epoch: False, 1))
    steps, optimisation = trainer.steps, trainer.optimisation
    graphs, latch = steps._graphs, steps._latch
    assert graphs is not None and latch is not None
    steps._sums.fill_(3.0)
    [batch, *_] = trainer.batches.epoch(1)
    noise, numbers = steps._draw(batch), torch.ones(8, dtype=torch.float64)

    def state() -> dict[str, Tensor]:
        own = {"sums": steps._sums, "flag": latch.flag, "random": torch.get_rng_state()}
        own |= {f"latch {k}": getattr(latch, k) for k in ("_step", "_values")}
        return {name: each.clone() for name, each in {**optimisation.tensors(), **own}.items()}

    for flag in (0.0, 1.0):
        latch.flag.fill_(flag)
        before = state()
        graphs._record((36, (False, False)), batch, noise, numbers)
        assert same(state(), before)


def test_a_tape_is_as_blind_as_a_graph() -> None:
    """The stand-in catches what it is for: numbers that come from the host."""
    x, tape = torch.ones(3), Tape()
    factor = 2.0
    with tape:
        x.mul_(factor)
        y = x.sum()
    assert torch.equal(x, torch.full((3,), 2.0))
    factor = 100.0
    tape.replay()
    assert torch.equal(x, torch.full((3,), 4.0))
    assert y == 12.0
    with Tape(), pytest.raises(RuntimeError, match="_local_scalar_dense"):
        y.item()


def test_a_step_that_is_not_finite_is_found_in_a_graph_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights stay as they were before it, and its place is told at the end of the epoch."""
    as_on_a_device(monkeypatch)
    tapes = use_tapes(monkeypatch)
    trainer = Trainer(small(model__dropout=0.0), tmp_path / "run", "cpu")
    watch_on_device(trainer)
    list(epochs(trainer, lambda epoch: False, 1))
    step, before = trainer.steps._step, {}

    def spoilt(epoch: int, *rest: Any) -> None:
        if (epoch, trainer.steps.done) == (2, 2):
            before.update({n: t.clone() for n, t in trainer.optimisation.tensors().items()})
            trainer.steps._sums[0] = math.nan
        step(epoch, *rest)

    monkeypatch.setattr(trainer.steps, "_step", spoilt)
    with pytest.raises(NonFiniteError, match=r"^Epoch 2, step 3 of 4: the loss .* total is nan$"):
        trainer.steps.run(2, lambda: False)
    assert same(trainer.optimisation.tensors(), before)
    assert [tape.replays for tape in tapes] == [2 + 3, 1]


def test_what_is_loaded_is_trained_and_not_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_device(monkeypatch)
    use_tapes(monkeypatch)
    ends = []
    for execution in ("eager", "cuda_graph"):
        trainer = Trainer(small(execution), tmp_path / execution, "cpu")
        watch_on_device(trainer)
        list(epochs(trainer, lambda epoch: False, 1))
        state = trainer.optimisation.optimizer.state_dict()
        state["state"] = {
            k: {n: t.clone() for n, t in v.items()} for k, v in state["state"].items()
        }
        list(epochs(trainer, lambda epoch: False, 3))
        trainer.optimisation.optimizer.load_state_dict(state)
        list(epochs(trainer, lambda epoch: False, 3))
        ends.append(trainer.optimisation.tensors())
    assert same(*ends)


# --- where there is none ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "processes", "batches", "words"),
    [
        ("cuda", 1, 1, None),
        ("cpu", 1, 1, "the device is cpu"),
        ("cuda", 2, 1, "2 processes add up their sums inside a step"),
        ("cuda", 1, 3, "gradients of 3 batches are accumulated"),
    ],
)
def test_what_speaks_against_a_graph(
    device: str, processes: int, batches: int, words: str | None
) -> None:
    found = obstacle(torch.device(device), processes=processes, batches_per_step=batches)
    assert found == words


def test_on_a_cpu_steps_run_one_by_one_and_it_is_said_once(tmp_path: Path) -> None:
    with listening() as lines:
        fit(small(), tmp_path / "graph")
    line = "training.execution: cuda_graph: the device is cpu; steps run one by one"
    assert told(lines) == [line]
    place = lines.index(line)
    assert "epochs on cpu" in " ".join(lines[:place])
    assert not any("Loss:" in each for each in lines[:place])
    assert (tmp_path / "graph" / "train.log").read_text().count("training.execution") == 1
    fit(small("eager"), tmp_path / "eager")
    assert differing(tmp_path / "graph", tmp_path / "eager") == ["profile", "train.log"]


@pytest.mark.parametrize("when", ["before", "inside", "at the end", "moved"])
def test_a_recording_that_fails_is_said_once_and_changes_no_number(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_device(monkeypatch)
    eager, _ = trained(small("eager"), tmp_path / "eager")
    use_tapes(monkeypatch)
    graph = torch.cuda.graph

    @contextmanager
    def failing(tape: Any, pool: Any) -> Iterator[None]:
        if when == "before":
            raise RuntimeError("CUDA error: no graphs today\nCompile with TORCH_USE_CUDA_DSA.")
        try:
            with graph(tape, pool):
                yield
                if when == "inside":
                    raise torch.OutOfMemoryError("CUDA error: no graphs today")
        finally:
            if when == "inside":  # as torch's own, where a recording was broken off
                raise RuntimeError("CUDA error: previous error during capture")
        raise RuntimeError("CUDA error: no graphs today\nMore.")

    monkeypatch.setattr(torch.cuda, "graph", failing)
    if when == "moved":
        monkeypatch.setattr(capture, "WARM_UPS", 0)
        places = iter(range(1 << 20))
        monkeypatch.setattr(
            capture.Graphs, "_where", lambda self: capture._Memory([next(places)], [])
        )
    with listening() as lines:
        found, _ = trained(small(), tmp_path / "graph")
    reason = {"moved": "a step moves the tensors that it works on"}
    words = reason.get(when, "CUDA error: no graphs today")
    assert told(lines) == [f"training.execution: cuda_graph: {words}; steps run one by one"]
    assert same(found, eager)


def test_a_host_read_inside_a_step_makes_the_recording_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is on a CPU, where the host counts steps and looks at the numbers."""
    use_tapes(monkeypatch)
    with listening() as lines:
        trained(small(), tmp_path / "graph", last=1)
    [line] = told(lines)
    assert "_local_scalar_dense is not permitted when stream is capturing;" in line
