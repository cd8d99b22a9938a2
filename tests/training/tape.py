"""A stand-in for CUDA graphs on a CPU: operations are written down and done again on their memory.

As a graph does, it repeats what was done with the tensors that it was done with, and none of the
Python around it: a number that came from the host is the same in every repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ternvae.losses
import ternvae.manifolds.programs
import ternvae.models.dense
from ternvae.config import Profile, load_profile
from ternvae.manifolds import PoincareBall, RiemannianAdam, updates
from ternvae.trainer import Trainer
from ternvae.trainer.steps import FIGURES
from ternvae.training.finite import Latch
from ternvae.training.optimisation import _keep_on_device

#: 81 sequences: 3 steps of 27 rows and a shorter one make an epoch.
SMALL: dict[str, Any] = {
    "space.n_digits": 4,
    "targets.Q_enhanced": 1.0,
    "training.batch_size": 36,  # nine of them partners
    "training.epochs": 4,
    "monitoring.report": False,
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

#: Settings of such a run in which other operations are recorded.
VARIANTS: list[dict[str, Any]] = [
    {},
    {"model__learnable_curvature": True},
    {"model__mathematical_precision": True},
    {"model__dropout": 0.0, "training__use_amp": True},
    {"targets__richness": 0.0},
]

#: What makes the host wait for a device, or the shape of a result depend on values.
HOST = (
    *("_local_scalar_dense", "item", "is_nonzero", "equal"),
    *("nonzero", "masked_select", "unique_consecutive", "_unique2"),
)


def small(execution: str = "cuda_graph", **overrides: Any) -> Profile:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    given = SMALL | dotted | {"training.execution": execution}
    return load_profile("mathematical_foundation", given)


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Writes down what is done, and does it again; refuses what a CUDA graph refuses."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.pool: object = None
        self.replays = 0

    @property
    def names(self) -> set[str]:
        """Of the operations, without their overloads."""
        return {_name(func) for func, *_ in self.calls}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _name(func) in HOST:
            raise RuntimeError(f"{_name(func)} is not permitted when stream is capturing\nIndeed.")
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, found in self.calls:
            aliases = [each.alias_info for each in func._schema.returns]
            if any(each is not None and not each.is_write for each in aliases):
                continue  # a view shows what is in its memory
            again = func(*args, **kwargs)
            for then, now in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(then, Tensor) and then is not now:
                    then.copy_(now)


def _name(func: Any) -> str:
    return str(func.name()).partition("::")[2].partition(".")[0]


class Stream:
    """As good as one of CUDA's."""

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


def use_tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Put tapes in the place of CUDA graphs; gives all that are made."""
    made: list[Tape] = []

    def graph() -> Tape:
        made.append(Tape())
        return made[-1]

    def recording(tape: Tape, pool: object) -> AbstractContextManager[Any]:
        assert pool is not None and modes[-2:] == ["error", "default"]
        tape.pool = pool
        return tape

    monkeypatch.setattr("ternvae.trainer.steps.obstacle", lambda *_, **__: None)
    modes: list[Any] = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    return made


def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all take the way that it takes where the host cannot see the numbers."""
    monkeypatch.setattr(ternvae.models.dense, "_dense", None)
    monkeypatch.setattr(ternvae.losses.levels, "_levels", None)
    monkeypatch.setattr(ternvae.manifolds.programs, "_tiles", None)
    monkeypatch.setattr(PoincareBall, "_c", property(lambda ball: ball.c))
    monkeypatch.setattr(updates, "_bias_corrections", _corrections)
    monkeypatch.setattr(RiemannianAdam, "step", _step)


def _corrections(step: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    t = step.double()
    return 1.0 - beta1**t, 1.0 - beta2**t


@torch.no_grad()
def _step(optimizer: RiemannianAdam) -> None:
    optimizer._take_step(optimizer.found_inf)


def watch_on_device(trainer: Trainer) -> None:
    """Rates and counts as tensors, and a latch: what a trainer has where its model is on CUDA."""
    _keep_on_device(trainer.optimisation.optimizer)
    trainer.steps._latch = Latch(FIGURES, torch.device("cpu"))
    trainer.optimisation.heed(trainer.steps._latch.flag)


def epochs(
    trainer: Trainer, frozen: Callable[[int], bool], last: int
) -> Iterator[dict[str, float]]:
    """Train so many epochs, measure nothing, and give the figures of each."""
    for epoch in range(1, last + 1):
        trainer.model.train()
        trainer.optimisation.freeze(encoder_a=frozen(epoch), encoder_b=False)
        means = trainer.steps.run(epoch, lambda: False)
        assert means is not None
        yield means


def trained(
    profile: Profile, folder: Path, last: int = 4, frozen: tuple[int, ...] = (2,)
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights and moments after some epochs, and the figures of each."""
    trainer = Trainer(profile, folder, "cpu")
    watch_on_device(trainer)
    figures = list(epochs(trainer, lambda epoch: epoch in frozen, last))
    return {name: each.clone() for name, each in trainer.optimisation.tensors().items()}, figures
