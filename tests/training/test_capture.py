"""Steps as CUDA graphs: the same numbers, and a step of its own where a graph cannot be had."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ternvae.config import Profile, load_profile
from ternvae.trainer import Trainer
from ternvae.trainer.steps import FIGURES
from ternvae.training import capture
from ternvae.training.batches import Batch
from ternvae.training.capture import Part, obstacle
from ternvae.training.finite import Latch, NonFiniteError
from ternvae.training.optimisation import Optimisation
from tests.observing import Said
from tests.runs import differing, fit, same
from tests.training.tape import Tape, as_on_a_device, epochs, use_tapes, watch_on_device

#: 81 sequences: 3 steps of 27 rows and a shorter one make an epoch.
SMALL: dict[str, Any] = {
    "space.n_digits": 4,
    "targets.Q_enhanced": 1.0,
    "training.batch_size": 27,
    "training.epochs": 4,
    "training.weight_decay": 0.01,
    "training.max_grad_norm": 0.5,
    "model.hidden_dim": 8,
    "model.latent_dim": 4,
    "model.dropout": 0.25,
    "scheduler.warmup_epochs": 1.0,
    "curriculum.enabled": True,
    "curriculum.coverage_first_epochs": 1,
    "curriculum.hierarchy_ramp_epochs": 2,
    "curriculum.richness_preserve_epochs": 1,
}


def small(execution: str = "cuda_graph", **overrides: Any) -> Profile:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    given = SMALL | dotted | {"training.execution": execution}
    return load_profile("mathematical_foundation", given)


def trained(
    profile: Profile, folder: Path, last: int = 4, frozen: tuple[int, ...] = (2,)
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights and moments after some epochs, and the figures of each."""
    trainer = Trainer(profile, folder, "cpu")
    watch_on_device(trainer)
    figures = list(epochs(trainer, lambda epoch: epoch in frozen, last))
    return {name: each.clone() for name, each in trainer.optimisation.tensors().items()}, figures


@contextmanager
def listening() -> Iterator[list[str]]:
    said = Said()
    with said.listening():
        yield said.lines


def told(lines: list[str]) -> list[str]:
    return [line for line in lines if "training.execution" in line]


# --- the same numbers ---------------------------------------------------------------------------

VARIANTS: list[dict[str, Any]] = [
    {},
    {"model__learnable_curvature": True},
    {"model__mathematical_precision": True},
    {"model__dropout": 0.0, "training__use_amp": True},
    {"targets__richness": 0.0},
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_repeated_steps_end_with_the_bits_of_steps_one_by_one(
    overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a freeze and a thaw, with rates, weights and a floor that change at every step."""
    as_on_a_device(monkeypatch)
    eager, eager_figures = trained(small("eager", **overrides), tmp_path / "eager")
    tapes = use_tapes(monkeypatch)
    with listening() as lines:
        found, figures = trained(small(**overrides), tmp_path / "graph")
    assert told(lines) == []
    assert same(found, eager)
    assert figures == eager_figures
    assert len(eager) > 50
    # Whole batches are recorded in every state; the short ones once there were two of them.
    assert [tape.replays for tape in tapes] == [2, 2, 2 + 3, 1]


def test_nothing_is_recorded_twice_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_device(monkeypatch)
    tapes = use_tapes(monkeypatch)
    trained(small(), tmp_path / "run", last=5, frozen=())
    assert [tape.replays for tape in tapes] == [2 + 4 * 3, 4]


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
    noise, numbers = steps._draw(batch), torch.ones(7, dtype=torch.float64)

    def state() -> dict[str, Tensor]:
        own = {"sums": steps._sums, "flag": latch.flag, "random": torch.get_rng_state()}
        own |= {f"latch {k}": getattr(latch, k) for k in ("_step", "_values")}
        return {name: each.clone() for name, each in {**optimisation.tensors(), **own}.items()}

    for flag in (0.0, 1.0):
        latch.flag.fill_(flag)
        before = state()
        graphs._record((27, 27, (False, False), True), batch, noise, numbers)
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


# --- what a device does alone ---------------------------------------------------------------

#: What torch lists for CUDA as not deterministic, among the operations of a forward and a backward
#: pass: see `torch.use_deterministic_algorithms`.
NOT_DETERMINISTIC = {
    *("index_add", "index_add_", "index_put", "index_put_", "_index_put_impl_", "put", "put_"),
    *("scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_"),
    *("index_copy", "index_copy_", "index_select_backward", "gather", "embedding_bag"),
    *("cumsum", "cumsum_", "histc", "bincount", "median", "nll_loss2d_forward", "atomic_add"),
    *("_embedding_bag", "_embedding_bag_backward", "nll_loss2d_backward", "kthvalue"),
}


class NoHost(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Refuses tensors of the host beside those of a device; on the device meta none has values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs or {}, found)):
            assert not (isinstance(each, Tensor) and each.is_cpu), func.name()
        return found


def refused(*_arguments: Any, **_keywords: Any) -> None:
    raise AssertionError("a tensor was made from numbers of the host")


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("overrides", VARIANTS[:3], ids=str)
def test_nothing_of_a_step_is_on_the_host(
    overrides: dict[str, Any], frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number is asked for, and none is sent, which would be the same in all repetitions."""
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *_, **__: None)  # meta has none
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(Optimisation, "autocast", lambda *_: nullcontext())
    trainer = Trainer(small(**overrides), tmp_path / "run", "cpu")
    steps, model, meta = trainer.steps, trainer.model.to("meta"), torch.device("meta")
    steps.optimisation = Optimisation(
        model.train(), weight_decay=0.1, max_grad_norm=0.5, use_amp=False, capturable=True
    )
    steps.optimisation.freeze(encoder_a=frozen, encoder_b=False)
    steps.device, steps._sums, steps._latch = meta, steps._sums.to(meta), Latch(FIGURES, meta)
    steps.optimisation.heed(steps._latch.flag)
    [batch, *_] = trainer.batches.epoch(1)
    batch = Batch(
        batch.indices.to(meta), batch.sequences.to(meta), batch.levels.to(meta), batch.total
    )
    noise = torch.empty(1 if frozen else 2, 27, 4, dtype=model.point_dtype, device=meta)
    numbers = torch.empty(7, dtype=torch.float64, device=meta)
    for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
        monkeypatch.setattr(owner, name, refused)  # they do not dispatch
    for has_floor in (False, True, True):
        with NoHost():  # type: ignore[no-untyped-call]  # torch's own
            steps._body([Part(batch, lambda: noise)], numbers, has_floor)
    for wrong in (
        lambda: float(numbers.sum()),
        lambda: numbers.new_tensor([1.0]),
        lambda: numbers + torch.zeros(()),
        lambda: torch.zeros(1).to(meta),
    ):
        with pytest.raises((RuntimeError, AssertionError)), NoHost():  # type: ignore[no-untyped-call]
            wrong()


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_no_operation_of_a_step_is_one_that_torch_calls_not_deterministic(
    overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_device(monkeypatch)
    tapes = use_tapes(monkeypatch)
    trained(small(**overrides), tmp_path / "run", last=2)
    assert len(tapes) == 2
    for tape in tapes:
        assert {"embedding", "embedding_dense_backward", "nll_loss_forward"} <= tape.names
        assert not tape.names & NOT_DETERMINISTIC


def test_matrix_products_are_in_full_float32() -> None:
    """As torch has it, unless somebody asks for TF32; the trainer does not."""
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32


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


# --- on a device --------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_on_cuda_graphs_end_with_the_bits_of_steps_one_by_one(
    overrides: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = []
    caplog.set_level(logging.INFO, logger="ternvae")
    for execution in ("eager", "cuda_graph"):
        trainer = Trainer(small(execution, **overrides), tmp_path / execution, "cuda")
        figures = list(epochs(trainer, lambda epoch: epoch == 2, 4))
        assert (trainer.steps._graphs is not None) == (execution == "cuda_graph")
        ends.append(({n: t.cpu() for n, t in trainer.optimisation.tensors().items()}, figures))
    assert "training.execution" not in caplog.text
    assert ends[0][1] == ends[1][1]
    assert same(ends[0][0], ends[1][0])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("execution", ["eager", "cuda_graph"])
def test_on_cuda_the_host_waits_for_no_step(
    execution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(small(execution), tmp_path / "run", "cuda")
    list(epochs(trainer, lambda epoch: False, 2))
    step = trainer.steps._step

    def watched(*arguments: Any) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(trainer.steps, "_step", watched)
    assert trainer.steps.run(3, lambda: False) is not None
