"""Nothing that is NaN or infinite gets into the weights, or from there into a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["NonFiniteError", "check_saved", "check_step"]


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
    """Check a step between its gradient and its update.

    The host reads one number for it.  Weights that learn show in the loss at once; frozen ones may
    not, so they are looked at too.

    Args:
        figures: names of the sums; the last one is not theirs but that of ``norm``.
        sums: (len(figures),) sums of the losses of the epoch, this step's included.
        norm: norm of the gradient before clipping, 0-dim.
        parameters: the parameters of the model, by name.

    Raises:
        NonFiniteError: something is NaN or infinite; the terms or the weights are named.
    """
    seen = torch.cat([sums[:-1], norm.reshape(1).to(sums.dtype)])
    if frozen := [each.detach() for each in parameters.values() if not each.requires_grad]:
        # The largest of them: the sum of the squares of huge weights would be infinite.
        total = nn.utils.get_total_norm(frozen, norm_type=math.inf)
        seen = torch.cat([seen, total.reshape(1).to(sums.dtype)])
    if not seen.isfinite().all():
        raise _culprit(dict(zip(figures, seen.tolist(), strict=False)), parameters)


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
