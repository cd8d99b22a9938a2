"""Where the time of a step goes: phases by the clock, library calls and host reads by counting."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.machinery import ExtensionFileLoader
from types import BuiltinFunctionType
from typing import Any
from unittest import mock

import torch
from textbook import TextbookTraining
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from training_measure import ManualTraining, now

from ternvae.training import by_hand

__all__ = ["PHASES", "breakdown"]

#: The phases of a step, in order.  Each lasts until the next one that begins.
PHASES = ("batch", "forward and loss", "backward", "gradient", "optimizer", "the rest")
BATCH, FORWARD, BACKWARD, GRADIENT, OPTIMIZER, REST = PHASES

#: Epochs whose phases are timed; the one with the median time is shown.
PHASE_EPOCHS = 3

#: Operators that are listed.
MOST_OPERATORS = 12

#: What makes the host wait for a number: reading it, and shapes that depend on values.
_HOST_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class _Marks:
    """Adds up the time between marks; each mark ends one phase and begins another."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._device = device
        self._phase, self._since = REST, now(device)

    def begin(self, phase: str) -> None:
        """Charge the time since the last mark to the phase that was on."""
        moment = now(self._device)
        self.seconds[self._phase] += moment - self._since
        self._phase, self._since = phase, moment


class _MarkedBatches:
    """Stands in for a batch plan or a loader, and marks when a batch is asked for and given."""

    def __init__(self, inner: Any, marks: _Marks) -> None:
        self._inner, self._marks = inner, marks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[Any]:
        return self._marked(iter(self._inner))

    def epoch(self, *given: Any, **named: Any) -> Any:
        """The batches of an epoch, marked if they are made one by one."""
        self._marks.begin(BATCH)
        batches = self._inner.epoch(*given, **named)
        self._marks.begin(FORWARD)
        return self._marked(batches) if isinstance(batches, Iterator) else batches

    def _marked(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._marks.begin(BATCH)
            batch = next(batches, None)
            if batch is None:
                self._marks.begin(REST)
                return
            self._marks.begin(FORWARD)
            yield batch


@contextlib.contextmanager
def _marked_calls(marks: _Marks) -> Iterator[None]:
    """Marks the backward passes and the steps of all optimizers."""

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            marks.begin(BACKWARD)
            try:
                return function(*given, **named)
            finally:
                marks.begin(GRADIENT)

        return call

    hooks = [
        register_optimizer_step_pre_hook(lambda *_: marks.begin(OPTIMIZER)),
        register_optimizer_step_post_hook(lambda *_: marks.begin(REST)),
    ]
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.remove)
        for name in ("backward", "grad"):
            wrapped = around(getattr(torch.autograd, name))
            stack.enter_context(mock.patch.object(torch.autograd, name, wrapped))
        # What a step on a CPU does instead of walking back through a graph.
        stack.enter_context(mock.patch.object(by_hand, "_backward", around(by_hand._backward)))
        yield


@contextlib.contextmanager
def _marked_source(loop: ManualTraining | TextbookTraining, marks: _Marks) -> Iterator[None]:
    owner: Any = loop if isinstance(loop, TextbookTraining) else loop.trainer.steps
    name = "loader" if isinstance(loop, TextbookTraining) else "batches"
    with mock.patch.object(owner, name, _MarkedBatches(getattr(owner, name), marks)):
        yield


def _phases(loop: ManualTraining | TextbookTraining, device: torch.device) -> dict[str, float]:
    """Seconds of each phase over an epoch, of the one with the median time."""
    epochs = []
    for _ in range(PHASE_EPOCHS):
        marks = _Marks(device)
        with _marked_calls(marks), _marked_source(loop, marks):
            loop.epoch()
        marks.begin(REST)
        epochs.append(marks.seconds)
    return sorted(epochs, key=lambda seconds: sum(seconds.values()))[PHASE_EPOCHS // 2]


# --- counting -------------------------------------------------------------------------------


@contextlib.contextmanager
def _extension_calls() -> Iterator[Counter[str]]:
    """Counts calls of the package's compiled extensions, which the profiler does not see."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls[name] += 1
            return function(*given)

        return call

    with contextlib.ExitStack() as stack:
        for module in list(sys.modules.values()):
            loader = getattr(module, "__loader__", None)
            ours = getattr(module, "__name__", "").startswith("ternvae.")
            if not ours or not isinstance(loader, ExtensionFileLoader):
                continue
            for name, function in list(vars(module).items()):
                if isinstance(function, BuiltinFunctionType):
                    wrapped = counted(f"{module.__name__}.{name}", function)
                    stack.enter_context(mock.patch.object(module, name, wrapped))
        yield calls


class _HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Counts how often the host waits for a number that is, or would be, on the device.

    On the CPU that is every number but the curvature, which is on the host wherever the points are.

    Args:
        curvature: of a ball that keeps it there; None if there is none.
        device: where the loop runs.
    """

    def __init__(self, curvature: Tensor | None, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.count = 0
        self._curvature = None if curvature is None else curvature.untyped_storage().data_ptr()
        self._device = device.type

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in _HOST_READS and args[0].device.type == self._device:
            self.count += args[0].untyped_storage().data_ptr() != self._curvature
        return function(*args, **(kwargs or {}))


def _is_operator(event: Any) -> bool:
    return bool(event.name.startswith(("aten::", "ternvae::")))


def _is_outermost(event: Any) -> bool:
    while (event := event.cpu_parent) is not None:
        if _is_operator(event):
            return False
    return True


def _counts(
    loop: ManualTraining | TextbookTraining, steps: int, device: torch.device
) -> dict[str, Any]:
    """Calls, host reads and the largest operators of an epoch, each per step."""
    curvature = None
    if isinstance(loop, ManualTraining):
        curvature = loop.trainer.model.ball.c_reference
    with _HostReads(curvature, device) as reads:
        loop.epoch()
    with _extension_calls() as extension, profile(activities=[ProfilerActivity.CPU]) as seen:
        loop.epoch()
    operators = [event for event in seen.events() if _is_operator(event)]
    self_time: Counter[str] = Counter()
    for event in operators:
        self_time[event.name] += event.self_cpu_time_total
    calls = Counter(event.name for event in operators)
    in_all = sum(self_time.values())
    return {
        "library_calls": sum(map(_is_outermost, operators)) / steps,
        "extension_calls": sum(extension.values()) / steps,
        "host_reads": reads.count / steps,
        "operators": [
            {"name": name, "calls": calls[name] / steps, "share": spent / in_all}
            for name, spent in self_time.most_common(MOST_OPERATORS)
        ],
    }


def breakdown(loop: ManualTraining | TextbookTraining, device: torch.device) -> dict[str, Any]:
    """What a step of a loop consists of.

    Args:
        loop: whose epochs are called; one has been made before.
        device: where it runs; waited for at every mark.

    Returns:
        ``phases``: microseconds per step of each of :data:`PHASES`; ``library_calls``: outermost
        operators of torch per step; ``extension_calls``: calls of compiled extensions of the
        package per step; ``host_reads``: how often the host waits for a number of the device, per
        step;
        ``operators``: those with the most time of their own under the profiler.
    """
    steps = len(loop.loader) if isinstance(loop, TextbookTraining) else loop.steps
    phases = _phases(loop, device)
    return {
        "steps": steps,
        "phases": {name: 1e6 * seconds / steps for name, seconds in phases.items()},
        **_counts(loop, steps, device),
    }
