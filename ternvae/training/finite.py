"""Nothing that is NaN or infinite gets into the weights, or from there into a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Latch", "NonFiniteError", "check_saved", "check_step"]


class NonFiniteError(ArithmeticError):
    """A figure that training depends on is NaN or infinite.

    Args:
        names: what it is, for the warning that goes with it.
        text: the same in a sentence.
    """

    def __init__(self, names: Sequence[str], text: str) -> None:
        super().__init__(text)
        self.names = tuple(names)
        self.text = text

    def at(self, place: str) -> NonFiniteError:
        """The same, with the place."""
        return NonFiniteError(self.names, f"{place}: {self.text}")


def check_step(
    figures: Sequence[str], sums: Tensor, norm: Tensor, parameters: Mapping[str, nn.Parameter]
) -> None:
    """Check a step between its gradient and its update, on the host.

    Weights that learn show in the loss at once; frozen ones may not, so they are looked at too.

    Args:
        figures: names of the sums; the last one is not theirs but that of ``norm``.
        sums: (len(figures),) sums of the losses of the epoch, this step's included.
        norm: norm of the gradient before clipping, 0-dim.
        parameters: the parameters of the model, by name.

    Raises:
        NonFiniteError: something is NaN or infinite; the terms or the weights are named.
    """
    values = [*sums.tolist()[:-1], norm.item()]
    frozen = [each.item() for each in _extremes_of_frozen(parameters)]
    if not all(map(math.isfinite, values + frozen)):
        raise _culprit(dict(zip(figures, values, strict=True)), parameters)


class Latch:
    """The same check for accelerators: it waits for nothing and says later what it saw first.

    From the step on that it closes at, nothing may change any more: :attr:`flag` is for
    :meth:`ternvae.training.optimisation.Optimisation.heed`.

    Args:
        figures: as for :func:`check_step`.
        device: where the losses are.
    """

    def __init__(self, figures: Sequence[str], device: torch.device) -> None:
        self.figures = tuple(figures)
        #: 1 from the first bad step on, else 0; 0-dim float32.
        self.flag = torch.zeros((), device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._values = torch.zeros(len(self.figures), device=device)

    @torch.no_grad()
    def observe(
        self,
        step: int | Tensor,
        sums: Tensor,
        norm: Tensor,
        parameters: Mapping[str, nn.Parameter],
    ) -> None:
        """Look at a step between its gradient and its update.

        Args:
            step: its number in the run, from 1.  In a CUDA graph, a 0-dim tensor that counts.
            sums: as for :func:`check_step`.
            norm: likewise.
            parameters: likewise.
        """
        values = torch.cat([sums[:-1], norm.reshape(1).to(sums.dtype)])
        finite = values.isfinite().all()
        for each in _extremes_of_frozen(parameters):
            finite &= each.isfinite()
        is_open = self.flag == 0.0
        self._values.copy_(torch.where(is_open, values, self._values.to(values.dtype)))
        self._step.copy_(torch.where(is_open, step, self._step))
        self.flag.copy_(torch.where(finite, self.flag, 1.0))

    def raise_if_set(self, parameters: Mapping[str, nn.Parameter], steps_per_epoch: int) -> None:
        """Say what was seen first, if it was bad; the host waits for the device.

        Args:
            parameters: the parameters of the model, by name, unchanged since then.
            steps_per_epoch: for the place.

        Raises:
            NonFiniteError: a step was bad, named with its epoch.
        """
        if self.flag.item() != 1.0:
            return
        epoch, step = divmod(int(self._step.item()) - 1, steps_per_epoch)
        values = dict(zip(self.figures, self._values.tolist(), strict=True))
        place = f"Epoch {epoch + 1}, step {step + 1} of {steps_per_epoch}"
        raise _culprit(values, parameters).at(place)


def _extremes_of_frozen(parameters: Mapping[str, nn.Parameter]) -> list[Tensor]:
    """The least and the largest of all frozen weights of each dtype, which are NaN if one is.

    Not a norm: the sum of the squares of huge weights would be infinite.
    """
    frozen = [each for each in parameters.values() if not each.requires_grad]
    kinds = [[p for p in frozen if p.dtype is dtype] for dtype in {p.dtype for p in frozen}]
    # One concatenation takes a fraction of the time of a look at each.
    flat = [torch._utils._flatten_dense_tensors(own) for own in kinds]  # type: ignore[no-untyped-call]  # torch's own
    return [extreme for each in flat for extreme in torch.aminmax(each)]


def _culprit(values: Mapping[str, float], parameters: Mapping[str, nn.Parameter]) -> NonFiniteError:
    """The most telling of the figures that are not finite: weights, then terms, then gradients."""
    if weights := _non_finite(parameters):
        return NonFiniteError(weights, f"weights are NaN or infinite: {_few(weights)}")
    *terms, norm = values
    bad = [name for name in terms if not math.isfinite(values[name])]
    # A total is not finite because a term is not; it says something only if it stands alone.
    if bad := [name for name in bad if name != "total"] or bad:
        told = ", ".join(f"{name} is {values[name]}" for name in bad)
        return NonFiniteError(bad, f"the loss is not finite: {told}")
    gradients = {name: each.grad for name, each in parameters.items() if each.grad is not None}
    where = f" ({_few(found)})" if (found := _non_finite(gradients)) else ""
    return NonFiniteError([norm + where], f"the norm of the gradient is {values[norm]}{where}")


def check_saved(tensors: Mapping[str, Tensor]) -> None:
    """Check what is about to be measured, and saved.

    A step is checked before its update, so what the last update has made is seen here.

    Args:
        tensors: weights and moments, by name.

    Raises:
        NonFiniteError: one of them holds NaN or an infinity.
    """
    if bad := _non_finite(tensors):
        raise NonFiniteError(bad, f"NaN or infinite, and so not saved: {_few(bad)}")


def _non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, each in tensors.items() if not bool(each.isfinite().all())]


def _few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
