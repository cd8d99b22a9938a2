"""A step where the host sees no number: it asks for none, sends none, and repeats its bits."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ternvae.trainer import Trainer
from ternvae.trainer.steps import FIGURES
from ternvae.training.batches import Batch
from ternvae.training.capture import Part
from ternvae.training.finite import Latch
from ternvae.training.optimisation import Optimisation
from tests.runs import same
from tests.training.tape import VARIANTS, as_on_a_device, epochs, small, trained, use_tapes

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
@pytest.mark.parametrize("overrides", [*VARIANTS[:3], VARIANTS[-1]], ids=str)
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
    batch = Batch(*(x.to(meta) if isinstance(x, Tensor) else x for x in batch))
    assert len(batch.between) == 9
    noise = torch.empty(1 if frozen else 2, 36, 4, dtype=model.point_dtype, device=meta)
    numbers = torch.empty(8, dtype=torch.float64, device=meta)
    for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
        monkeypatch.setattr(owner, name, refused)  # they do not dispatch
    for _ in range(3):
        with NoHost():  # type: ignore[no-untyped-call]  # torch's own
            steps._body([Part(batch, lambda: noise)], numbers)
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
