"""Several processes that train one model together, as torchrun starts them; mostly there is one.

Each has the whole model and some rows of every batch.  Sums over the rows are sums over the
processes, and so is the gradient; everything else is a function of the seed, of weights that are
equal, and of what one process has told the others.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ternvae.training.device import choose_device, is_out_of_memory

__all__ = ["LostProcessError", "OtherProcessError", "Processes", "ProcessesDifferError"]

#: What torchrun tells each process.
_RANK, _WORLD, _LOCAL_RANK, _LOCAL_WORLD = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
_MEETING = (_RANK, "MASTER_ADDR", "MASTER_PORT")

#: How long a process that has done its part waits for the others.
_PATIENCE = timedelta(seconds=10)


class LostProcessError(Exception):
    """Another process is gone, or cannot be reached."""


class OtherProcessError(ValueError):
    """Another process cannot begin; the text says which, and why."""


class ProcessesDifferError(Exception):
    """Weights that must be equal in all processes are not."""


class Processes:
    """What the processes of a run tell one another; alone, none of it costs anything.

    All of them call the same methods in the same order.

    Args:
        rank: which this is, from 0; 0 speaks and writes for all.
        world: how many there are.
        local_rank: which this is on its machine.
        local_world: how many there are on its machine.
    """

    def __init__(
        self,
        rank: int = 0,
        world: int = 1,
        *,
        local_rank: int = 0,
        local_world: int = 1,
    ) -> None:
        self.rank, self.world = rank, world
        self._local_rank, self._local_world = local_rank, local_world
        self._asked: tuple[dist.Work, Tensor] | None = None

    @classmethod
    def joined(cls) -> Processes:
        """Meet the processes that the environment speaks of, unless that has been done already.

        Raises:
            ValueError: the environment contradicts itself, or torch cannot connect processes.
            LostProcessError: the others do not come.
        """
        place = {name: _number(name, least) for name, least in _LEAST.items()}
        rank, world, local_rank, local_world = place.values()
        if world == 1:
            return cls()
        if rank >= world or local_rank >= local_world or local_world > world:
            told = ", ".join(f"{name}={value}" for name, value in place.items())
            raise ValueError(f"environment: {told} contradict each other; start with torchrun")
        if missing := [name for name in _MEETING if not os.environ.get(name)]:
            raise ValueError(
                f"environment: {_WORLD}={world} but no {' and no '.join(missing)}; start with "
                f"torchrun, or unset {_WORLD}"
            )
        if not (dist.is_available() and dist.is_gloo_available()):
            raise ValueError(
                f"environment: {_WORLD}={world}, but this torch has no gloo to connect processes "
                "with; take another build of torch, or start one process"
            )
        if not dist.is_initialized():
            # Tensors on the host go by gloo also where those on devices go by nccl.
            nccl = torch.cuda.is_available() and dist.is_nccl_available()
            with _reaching("no meeting"):
                dist.init_process_group(
                    "cpu:gloo,cuda:nccl" if nccl else "gloo", rank=rank, world_size=world
                )
            atexit.register(_part)
        return cls(rank, world, local_rank=local_rank, local_world=local_world)

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def device(self, wanted: str) -> torch.device:
        """The device of this process; see :func:`choose_device`.  Each has a GPU of its own.

        Raises:
            TypeError: what is given is not a name of a device.
            ValueError: no such device here, or not one for each process of this machine.
        """
        chosen = choose_device(wanted)
        if self.world == 1 or chosen.type != "cuda":
            return chosen
        there = torch.cuda.device_count()
        if chosen.index is not None and self._local_world > 1:
            raise ValueError(
                f"device: {wanted!r} is one device, and each of the {self._local_world} processes "
                "on this machine needs its own; take cuda"
            )
        if self._local_world > there:
            raise ValueError(
                f"device: {self._local_world} processes on this machine and {there} GPUs; start at "
                f"most {there} (--nproc-per-node), or take cpu"
            )
        device = torch.device("cuda", chosen.index or self._local_rank)
        torch.cuda.set_device(device)
        return device

    def check_work(self, batch_size: int, sequences: int) -> None:
        """Check that there is work for everybody.

        Raises:
            ValueError: there are more processes than sequences, or than rows in a batch.
        """
        for most, what in ((sequences, "sequences"), (batch_size, "rows of training.batch_size")):
            if self.world > most:
                raise ValueError(
                    f"{self.world} processes: more than the {most} {what}; start at most "
                    f"{min(batch_size, sequences)}"
                )

    # --- sums -------------------------------------------------------------------------------

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes.

        The gradient passes as it is: each process then has the gradient for its own rows, and the
        sum of these over the processes is the whole one.

        Args:
            tensor: of the same shape and type everywhere.
        """
        if self.world == 1:
            return tensor
        summed: Tensor = _Total.apply(tensor)  # type: ignore[no-untyped-call]  # torch's own
        return summed

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor without a gradient by its sum over all processes."""
        if self.world > 1:
            _add_up(tensor)
        return tensor

    # --- agreements -------------------------------------------------------------------------

    def any(self, flag: bool) -> bool:
        """Whether a flag was up anywhere; of several processes, at the call before this one.

        So nobody waits for the answer, and all hear of a flag at the same call.
        """
        if self.world == 1:
            return flag
        before, raised = self._asked, torch.tensor(int(flag), dtype=torch.int32)
        with _reaching("while training"):
            work = dist.all_reduce(raised, op=dist.ReduceOp.MAX, async_op=True)
            self._asked = work, raised
            if before is None:
                return False
            before[0].wait()
        return bool(before[1].item())

    def agree(self, value: Any) -> Any:
        """What process 0 has: plain values, as JSON has them; of other processes they are ignored.

        Raises:
            OtherProcessError: one of them cannot begin; see :meth:`together`.
        """
        return value if self.world == 1 else self._exchange({"value": value})[0]["value"]

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block, without sums, that all of the processes get through, or none.

        Raises:
            OtherProcessError: another process did not.
        """
        try:
            yield
        except (OtherProcessError, LostProcessError):
            raise
        except Exception as error:
            if self.world > 1:
                with suppress(OtherProcessError):  # this one has a reason of its own
                    self._exchange({"problem": str(error)})
            raise
        if self.world > 1:
            self._exchange({})

    def check_equal(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that all processes have the same tensors, to the bit.

        Args:
            tensors: by name.

        Raises:
            ProcessesDifferError: they have not.
        """
        if self.world == 1:
            return
        mine = [_digest(each) for each in tensors.values()]
        everybody = self._exchange({"digests": mine})
        for rank, theirs in enumerate(each["digests"] for each in everybody):
            bad = [
                name
                for name, one, other in zip(tensors, everybody[0]["digests"], theirs, strict=True)
                if one != other
            ]
            if bad:
                more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
                raise ProcessesDifferError(
                    f"processes 0 and {rank} have different weights: {', '.join(bad[:3])}{more}; "
                    "use the same machines and versions everywhere, or a single process"
                )

    def _exchange(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What each process says, in the order of their ranks."""
        text = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        with _reaching("while talking"):
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(sizes, torch.tensor([len(text)]))
            longest = max(int(size) for size in sizes)
            texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(text)] = text
            dist.all_gather(texts, padded)
        said = [
            json.loads(bytes(each[: int(size)].tolist()))
            for each, size in zip(texts, sizes, strict=True)
        ]
        for rank, each in enumerate(said):
            if "problem" in each:
                raise OtherProcessError(
                    "\n".join(f"process {rank}: {line}" for line in each["problem"].split("\n"))
                )
        return said

    # --- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Wait a moment until the others have done their part, and end the connection."""
        if self.world > 1:
            _part()


def _part() -> None:
    """End the connection, if there still is one."""
    if not dist.is_initialized():
        return
    # With an other end that is gone nothing can be ended any more.
    with suppress(RuntimeError):
        dist.all_reduce(torch.zeros(1), async_op=True).wait(_PATIENCE)
        dist.destroy_process_group()


class _Total(torch.autograd.Function):
    """A sum over processes, whose gradient is that of each summand."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone(memory_format=torch.contiguous_format)
        _add_up(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _add_up(tensor: Tensor) -> None:
    with _reaching("while training"):
        dist.all_reduce(tensor)


@contextmanager
def _reaching(when: str) -> Iterator[None]:
    """A block that needs the others; what their end makes of it is one kind of error."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        # Without what torch advises beside it.
        reason = " ".join(str(error).split()).partition(". This is typically")[0]
        raise LostProcessError(f"another process cannot be reached, {when}: {reason}") from error


#: The least value of each number that torchrun gives.
_LEAST: dict[str, int] = {_RANK: 0, _WORLD: 1, _LOCAL_RANK: 0, _LOCAL_WORLD: 1}


def _number(name: str, least: int) -> int:
    """A number of the environment; where it does not say, that of a process alone."""
    text = os.environ.get(name) or str(least)
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"environment: {name}: expected a number from {least} (got {text[:40]!r})")
    return int(text)


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous().flatten()
    return blake2b(values.view(torch.uint8).numpy().tobytes(), digest_size=8).hexdigest()
