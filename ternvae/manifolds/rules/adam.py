"""One step of Riemannian Adam for points of the ball.

References:
    [BG] G. Becigneul, O.-E. Ganea, "Riemannian Adaptive Optimization Methods", ICLR 2019.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ternvae.manifolds.rules.pairs import ExpMap
from ternvae.manifolds.rules.radial import ScalarMul
from ternvae.manifolds.rules.tangent import Transport
from ternvae.manifolds.vectors import Metric

Number = float | Tensor


class Hyperparameters(NamedTuple):
    """Numbers, 0-dim tensors, or one number per point.

    Attributes:
        lr: learning rate.
        sign: 1 to descend, -1 to ascend.
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        eps: added to the root of the second moment.
        correction1: ``1 - beta1^step``.
        correction2: ``1 - beta2^step``.
        shrink: what decoupled weight decay leaves of the distance from the origin.
    """

    lr: Number
    sign: Number
    beta1: Number
    beta2: Number
    eps: Number
    correction1: Number
    correction2: Number
    shrink: Number


Formula = Callable[..., tuple[Tensor, ...]]


@functools.cache
def step(decays: bool, amsgrad: bool) -> Formula:
    """The step as a formula ``(m, hyperparameters, grad, point, moment, second, *largest)``.

    It returns the new point, first moment, second moment and, with ``amsgrad``, the largest second
    moment ([BG], section 4 and Riemannian AMSGrad). ``grad`` is the Euclidean gradient; the second
    moments are one number per point.
    """

    def formula(
        m: Metric, parameters: Any, grad: Tensor, p: Tensor, moment: Tensor, *numbers: Tensor
    ) -> tuple[Tensor, ...]:
        h = Hyperparameters(*parameters)
        wide = m.wide()
        second = numbers[0].double()
        (gap,) = m.measure(m.gap(p))
        # The metric length of the Riemannian gradient: |grad / lambda^2| lambda.
        (squared,) = m.measure(m.dot(grad, grad))
        squared = 0.25 * gap * gap * squared / m.c
        second = second + (1.0 - h.beta2) * (squared - second)
        if decays:
            # Along the diameter, transport only rescales: by the ratio of the conformal factors.
            factor = h.shrink + 0.0 * gap  # one number per point
            p = ScalarMul.forward(wide, p, factor)[0]
            (shrunk,) = m.measure(m.gap(p))
            ratio = shrunk / gap
        else:
            ratio = torch.ones_like(gap)
        moment = wide.combine(
            (h.beta1 * ratio, moment), (h.sign * (1.0 - h.beta1) * 0.25 * ratio * gap * gap, grad)
        )
        out = [second]
        if amsgrad:
            out.append(numbers[1].double().clamp_min(second))
        root = (out[-1] / h.correction2).sqrt()
        pace = -h.lr / (h.correction1 * (root + h.eps))
        point, _ = ExpMap.forward(m, p, wide.combine((pace, moment)))
        transported, _ = Transport.forward(m, p, point, moment)
        return point, transported, *out

    return formula


__all__ = ["Hyperparameters", "step"]
