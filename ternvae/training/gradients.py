"""The gradients of a step, next to each other in memory."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Gradients"]

#: Every gradient begins at a multiple of so many bytes: kernels of accelerators load 16 at once,
#: and a cache line of a CPU has 64.
ALIGNMENT = 64


class Gradients:
    """The gradients of all parameters that learn, as parts of one buffer per dtype and device.

    So it takes one call to make them zero, to measure their norm, to scale them, and to add up
    those of several processes.  Autograd adds to the gradients that it finds.

    Args:
        parameters: of the model; those that require a gradient when a step begins learn in it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        #: For every parameter its part of a buffer, or False if it does not learn.
        self._parts: list[Tensor | bool] = [False] * len(self._parameters)
        #: One tensor per dtype and device.
        self.buffers: list[Tensor] = []

    def begin(self, flag: Tensor | None = None) -> None:
        """Set the gradients to zero, and give them to the parameters if that is not done.

        Args:
            flag: gradients stay as they are where it is 1.
        """
        given = [each.requires_grad and each.grad for each in self._parameters]
        if not all(map(operator.is_, given, self._parts)) or self._was_moved():
            self._allocate()
        for buffer in self.buffers:
            if flag is None:
                buffer.zero_()
            else:
                buffer.masked_fill_(flag != 1.0, 0.0)

    def norm(self) -> Tensor:
        """The Euclidean norm of all of them, 0-dim."""
        norms: list[Tensor] = [torch.linalg.vector_norm(buffer) for buffer in self.buffers]
        if len(norms) == 1:
            return norms[0]
        if not norms:
            return torch.zeros(())
        joined = torch.stack([each.to(norms[0].device) for each in norms])
        total: Tensor = torch.linalg.vector_norm(joined)
        return total

    def scale(self, factor: float | Tensor) -> None:
        """Multiply all of them by a number."""
        for buffer in self.buffers:
            buffer.mul_(factor)

    def _was_moved(self) -> bool:
        """Whether gradients were given other memory, as moving a model does to all of them."""
        if not self.buffers:
            return False
        first = next(part for part in self._parts if isinstance(part, Tensor))
        return first.data_ptr() != self.buffers[0].data_ptr()

    def _allocate(self) -> None:
        kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for place, parameter in enumerate(self._parameters):
            if parameter.requires_grad:
                kinds.setdefault((parameter.dtype, parameter.device), []).append(place)
        self._parts, self.buffers = [False] * len(self._parameters), []
        for (dtype, device), places in kinds.items():
            unit = max(1, ALIGNMENT // dtype.itemsize)
            parameters = [self._parameters[place] for place in places]
            rooms = [-(-each.numel() // unit) * unit for each in parameters]
            buffer = torch.zeros(sum(rooms), dtype=dtype, device=device)
            self.buffers.append(buffer)
            for place, parameter, room in zip(
                places, parameters, torch.split(buffer, rooms), strict=True
            ):
                part = room[: parameter.numel()].view(parameter.shape)
                parameter.grad = self._parts[place] = part
