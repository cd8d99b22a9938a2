"""A step of training as a CUDA graph: recorded once, then repeated by one call.

A graph repeats its kernels on the memory that they were recorded with.  So what a step is given is
copied to the same place each time, and nothing that is recorded outlasts the memory it works on.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ternvae.training.batches import Batch
from ternvae.training.optimisation import Optimisation

__all__ = ["Body", "Graphs", "Part", "obstacle"]

log = logging.getLogger("ternvae")

#: Steps on the side before one is rehearsed and recorded: PyTorch asks for some, for all that
#: libraries set up.
WARM_UPS = 2


class Part(NamedTuple):
    """A batch and its noise, on the device of the model; holds them check-free.

    Attributes:
        batch: the rows.
        noise: gives (branches, rows, latent_dim) standard normal draws; called once.
    """

    batch: Batch
    noise: Callable[[], Tensor]


#: Takes one step, from the batches whose gradients are averaged and (k,) float64 numbers that
#: change from step to step.
Body: TypeAlias = Callable[[Sequence[Part], Tensor], None]


def obstacle(device: torch.device, *, processes: int, batches_per_step: int) -> str | None:
    """Why steps cannot be recorded; None if nothing is known that speaks against it.

    Args:
        device: of the model.
        processes: that train it.
        batches_per_step: whose gradients are averaged.
    """
    if device.type != "cuda":
        return f"the device is {device.type}"
    if processes > 1:
        return f"{processes} processes add up their sums inside a step"
    if batches_per_step > 1:
        return f"gradients of {batches_per_step} batches are accumulated"
    return None


class _Graph(NamedTuple):
    """A recorded step: where it expects what it is given, and what repeats it."""

    batch: Batch
    noise: Tensor
    numbers: Tensor
    replay: Callable[[], Any]


class _Memory(NamedTuple):
    """Where all is that a step works on; while the tensors are kept, nothing else can be there."""

    addresses: list[int]
    kept: list[Tensor]


class Graphs:
    """Takes steps, as graphs where that is possible, and with the same numbers where it is not.

    Args:
        body: takes one step.  In a graph it has one batch; the host must read nothing in it, and
            nothing may be drawn but by torch's own generator of the device, which graphs know.
        optimisation: of the model that it trains.
        unchanging: a block in which ``body`` changes nothing that lasts.
        reason: why no step is recorded, as :func:`obstacle` gives it.
    """

    def __init__(
        self,
        body: Body,
        optimisation: Optimisation,
        unchanging: Callable[[], AbstractContextManager[None]],
        reason: str | None,
    ) -> None:
        self._body, self._optimisation, self._unchanging = body, optimisation, unchanging
        self._reason, self._told = reason, False
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: set[Hashable] = set()
        self._memory: _Memory | None = None
        self._pool: Any = None

    def begin(self) -> None:
        """Before the first step, and after all that may give tensors other memory.

        That is a freeze, a thaw, and loading the state of the optimizer.
        """
        if self._reason is not None:
            self._tell(self._reason)
        elif self._memory is not None and self._memory.addresses != self._where().addresses:
            self._forget()

    def run(self, parts: Sequence[Part], numbers: Tensor) -> None:
        """Take a step; the arguments are those of the body.

        It is recorded when one of its shape comes for the second time: some come only once.  If
        that fails, the reason is logged, and from then on no step is a graph.
        """
        graph = None
        if self._reason is None:
            [(batch, noise)] = parts
            frozen = tuple(self._optimisation.frozen.values())
            key = (batch.total, frozen)
            if key in self._seen:
                drawn = noise()
                parts = [Part(batch, lambda: drawn)]
                graph = self._graphs.get(key) or self._try_to_record(key, batch, drawn, numbers)
            self._seen.add(key)
        if graph is None:
            self._body(parts, numbers)
            return
        graph.batch.sequences.copy_(batch.sequences)
        graph.batch.levels.copy_(batch.levels)
        graph.batch.between.copy_(batch.between)
        graph.noise.copy_(drawn)
        graph.numbers.copy_(numbers)
        graph.replay()

    def _try_to_record(
        self, key: Hashable, batch: Batch, noise: Tensor, numbers: Tensor
    ) -> _Graph | None:
        try:
            return self._record(key, batch, noise, numbers)
        except RuntimeError as error:
            self._forget()
            self._reason = _first_line(error)
            self._tell(self._reason)
            return None

    def _record(self, key: Hashable, batch: Batch, noise: Tensor, numbers: Tensor) -> _Graph:
        # Indices are for those who make batches, not for those who learn from them.
        fixed = batch._replace(
            indices=batch.indices.new_empty(0),
            sequences=batch.sequences.clone(),
            levels=batch.levels.clone(),
            between=batch.between.clone(),
        )
        fixed_noise, fixed_numbers = noise.clone(), numbers.clone()
        parts = [Part(fixed, lambda: fixed_noise)]

        def step() -> None:
            self._body(parts, fixed_numbers)

        device = numbers.device
        devices = [device] if device.type == "cuda" else []
        # Trial steps draw masks of dropout that the first real one is to draw again.
        with torch.random.fork_rng(devices=devices), self._unchanging():
            memory = _warmed_up(step, self._where, device)
            if self._memory is None or self._memory.addresses != memory.addresses:
                self._forget()
                self._memory = memory
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            replay = _captured(step, device, self._pool)
        self._seen.add(key)
        self._graphs[key] = _Graph(fixed, fixed_noise, fixed_numbers, replay)
        return self._graphs[key]

    def _where(self) -> _Memory:
        own = self._optimisation
        rates = [group["lr"] for group in own.optimizer.param_groups]
        gradients = [each.grad for each in own.parameters.values()]
        kept = [
            *own.tensors().values(),
            *own.model.buffers(),
            *(each for each in (*gradients, *rates) if isinstance(each, Tensor)),
        ]
        return _Memory([each.data_ptr() for each in kept], kept)

    def _forget(self) -> None:
        """Drop all that is recorded; a pool of memory without graphs cannot be used again."""
        if self._graphs and torch.cuda.is_available():
            torch.cuda.synchronize()  # one of them may still be at work
        self._graphs.clear()
        self._seen.clear()
        self._memory, self._pool = None, None

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            log.info("training.execution: cuda_graph: %s; steps run one by one", reason)


def _warmed_up(
    step: Callable[[], None], where: Callable[[], _Memory], device: torch.device
) -> _Memory:
    """Take some steps on a side stream, as PyTorch wants it before recording one.

    Returns:
        Where all is from then on.

    Raises:
        RuntimeError: it is not in the same place after each step, or the host waits in one.
    """
    with torch.cuda.device(device):
        main = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        side.wait_stream(main)
        try:
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    step()
                before = where()
                with _without_waiting():
                    step()
        finally:
            main.wait_stream(side)
    after = where()
    if after.addresses != before.addresses:
        raise RuntimeError("a step moves the tensors that it works on")
    return after


@contextmanager
def _without_waiting() -> Iterator[None]:
    """A block in which it is an error if the host waits for the device.

    A recording would fail for the same reason, and torch does not tidy up after one that has.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(mode)


def _captured(step: Callable[[], None], device: torch.device, pool: Any) -> Callable[[], Any]:
    """Record a step; it is not taken.

    Returns:
        What repeats it.
    """
    graph = torch.cuda.CUDAGraph()
    # Where recording fails, torch does not return to the stream that it came from.
    with (
        torch.cuda.device(device),
        torch.cuda.stream(torch.cuda.current_stream()),
        torch.cuda.graph(graph, pool=pool),
    ):
        step()
    return graph.replay


def _first_line(error: BaseException) -> str:
    """What went wrong first: ending a recording that has failed is an error of its own."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return (str(error) or type(error).__name__).partition("\n")[0]
