"""What ``bench_mobius.py`` measures: times in turns, errors, library calls and host reads."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import mobius_oracle as oracle
import torch
from mobius_cases import Operation, rows_of
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ternvae.manifolds import ManifoldParameter, PoincareBall, RiemannianAdam, programs
from ternvae.manifolds._geoopt import geoopt
from ternvae.models import TernaryVAE

__all__ = ["count", "time_in_turns", "time_optimizers", "worst_error"]

Call = Callable[[], object]

#: Calls before anything is measured: TorchScript profiles in the first and optimises in the next.
WARM_UP_CALLS = 3

#: Rounds that are made even where the time is up.
FEWEST_ROUNDS = 3

#: Quick calls are repeated for about this long between two looks at the clock.
SECONDS_PER_LOOK = 1e-3


def time_in_turns(
    calls: dict[str, Call], seconds: float, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Time each of ``calls``, made in turns (A B C A B C ...).

    Args:
        calls: what to time.
        seconds: about this long for each of them.
        device: where they run; waited for before every look at the clock.

    Returns:
        The median seconds of each, and the fastest round of each.
    """
    repeats = {}
    for name, call in calls.items():
        _seconds_of(call, WARM_UP_CALLS, device)
        one = _seconds_of(call, 1, device)
        repeats[name] = max(1, int(min(SECONDS_PER_LOOK, seconds / FEWEST_ROUNDS) / one))
    found: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.perf_counter() + seconds * len(calls)
    rounds = 0
    while rounds < FEWEST_ROUNDS or time.perf_counter() < deadline:
        for name, call in calls.items():
            found[name].append(_seconds_of(call, repeats[name], device) / repeats[name])
        rounds += 1
    medians = {name: statistics.median(times) for name, times in found.items()}
    return medians, {name: min(times) for name, times in found.items()}


def _seconds_of(call: Call, repeats: int, device: torch.device) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def worst_error(
    function: Callable[..., Tensor],
    operation: Operation,
    samples: dict[str, Tensor],
    wanted: Sequence[Any],
    batch: int,
) -> float:
    """The worst relative error of ``function`` over the samples; inf where it is not finite.

    The samples are repeated or split to fill whole batches: code that depends on the size is
    measured at the size it is timed at, and what is compiled is not compiled again.
    """
    total = math.ceil(len(wanted) / batch) * batch
    values = []
    for rows in (torch.arange(total) % len(wanted)).split(batch):
        some = rows_of(samples, rows.to(samples["x"].device))
        values.append(function(*operation.arguments(some)).detach().double().cpu())
    numbers = torch.cat(values)[: len(wanted)].reshape(len(wanted), -1).tolist()
    return max(oracle.relative_error(*pair) for pair in zip(numbers, wanted, strict=True))


# Library calls and host reads


def count(
    call: Call, ball: PoincareBall | None, device: torch.device, eager: bool
) -> dict[str, int]:
    """Count what ``call`` does.

    Args:
        call: what to look at; it has been called before.
        ball: if it is one of ours, its ball.
        device: where it runs.
        eager: not compiled.

    Returns:
        ``calls``: outermost operators, and calls of our extension; ``host_reads``: numbers read
        from tensors; ``of_the_host``: those of them that are known to be read from tensors that
        are on the host whatever the device of the points.
    """
    with _extension_calls(eager) as extension, profile(activities=[ProfilerActivity.CPU]) as seen:
        call()
    operators = [event for event in seen.events() if _is_operator(event)]
    reads = [event for event in operators if event.name == "aten::_local_scalar_dense"]
    if ball is None:
        of_the_host = 0
    elif eager:
        with _Reads(ball, device) as watched:
            call()
        of_the_host = watched.of_the_host
    else:
        # The operation is the host's alone: graphs for other devices do not contain it.
        of_the_host = sum(any(_is_ours(above) for above in _above(event)) for event in reads)
    return {
        "calls": sum(not any(map(_is_operator, _above(event))) for event in operators)
        + sum(each.call_count for each in extension),
        "host_reads": len(reads),
        "of_the_host": of_the_host,
    }


def _above(event: Any) -> Iterator[Any]:
    while (event := event.cpu_parent) is not None:
        yield event


def _is_ours(event: Any) -> bool:
    return bool(event.name.startswith("ternvae::"))


def _is_operator(event: Any) -> bool:
    return _is_ours(event) or bool(event.name.startswith("aten::"))


@contextlib.contextmanager
def _extension_calls(eager: bool) -> Iterator[list[Any]]:
    """Counts calls of the extension, which the profiler does not see unless they are compiled."""
    with contextlib.ExitStack() as stack:
        names = ("forward", "backward") if eager else ()
        yield [
            stack.enter_context(
                mock.patch.object(programs, name, side_effect=getattr(programs, name))
            )
            for name in names
        ]


class _Reads(TorchDispatchMode):
    """Counts numbers read from tensors that are on the host whatever the device of the points.

    With the points on the host too, these are the reads of the ball's curvature.
    """

    def __init__(self, ball: PoincareBall, device: torch.device) -> None:
        super().__init__()
        self.of_the_host = 0
        self._curvature = ball.c_reference.untyped_storage().data_ptr()
        self._elsewhere = device.type != "cpu"

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default and args[0].is_cpu:
            is_curvature = args[0].untyped_storage().data_ptr() == self._curvature
            self.of_the_host += is_curvature or self._elsewhere
        return function(*args, **(kwargs or {}))


# The optimizer


def time_optimizers(seconds: float, device: torch.device) -> dict[str, Any]:
    """Median seconds of a step over the parameters of a default model, with random gradients.

    Ours and geoopt's optimizer move the same parameters, each on its own library's ball; AdamW is
    fused and sees plain tensors of the same shapes.  All with their default hyperparameters.

    Returns:
        ``seconds`` of each, ``ratio`` of each to AdamW, and both in the fastest rounds.
    """
    torch.manual_seed(0)
    model = TernaryVAE().to(device)
    ours = list(model.parameters())
    theirs = geoopt.PoincareBall(c=1.0).to(device)
    plain = [nn.Parameter(p.detach().as_subclass(Tensor).clone()) for p in ours]
    raw = [
        geoopt.ManifoldParameter(q.detach().clone(), manifold=theirs)
        if isinstance(p, ManifoldParameter)
        else nn.Parameter(q.detach().clone())
        for p, q in zip(ours, plain, strict=True)
    ]
    for together in zip(ours, plain, raw, strict=True):
        gradient = torch.randn_like(together[1])
        for p in together:
            p.grad = gradient.clone()
    calls: dict[str, Call] = {
        "ours": RiemannianAdam(ours).step,
        "geoopt": geoopt.optim.RiemannianAdam(raw).step,
        "adamw_fused": torch.optim.AdamW(plain, fused=True).step,
    }
    found, fastest = time_in_turns(calls, seconds, device)
    return {
        "tensors": len(ours),
        "seconds": found,
        "ratio": {name: s / found["adamw_fused"] for name, s in found.items()},
        "fastest_seconds": fastest,
        "fastest_ratio": {name: s / fastest["adamw_fused"] for name, s in fastest.items()},
    }
