"""The learning rate, and what follows it, as pure functions of the epoch."""

from __future__ import annotations

import math

__all__ = ["learning_rate", "mathematical_cosine", "richness_headroom"]

#: How far the richness term aims above the target: always, and while the learning rate is at its
#: peak.  Steps are noisy then, so room between the levels is given to spread first and to order
#: last, and Q is best where a cycle ends instead of somewhere in its noise.
RICHNESS_HEADROOM, RICHNESS_HEADROOM_AT_PEAK = 0.1, 1.0


def learning_rate(epoch: float, *, type: str, lr: float, **cosine: float) -> float:
    """The learning rate of a profile's scheduler.

    Args:
        epoch: epochs since the start of training, fractional inside an epoch.
        type: "mathematical_cosine", or "constant": ``lr`` as it is once the warm-up is over.
        lr: the peak learning rate.
        cosine: the other arguments of :func:`mathematical_cosine`.

    Returns:
        The learning rate.
    """
    if type == "constant" and epoch >= cosine["warmup_epochs"]:
        return lr
    return mathematical_cosine(epoch, lr=lr, **cosine)


def richness_headroom(rate: float, peak: float) -> float:
    """How far above its target richness is aimed at, as a share of the target."""
    rise = RICHNESS_HEADROOM_AT_PEAK - RICHNESS_HEADROOM
    return RICHNESS_HEADROOM + rise * rate / peak


def mathematical_cosine(
    epoch: float, *, lr: float, T_0: float, T_mult: float, eta_min: float, warmup_epochs: float
) -> float:
    """Linear warm-up, then cosine annealing with warm restarts of growing length.

    Cycle k lasts ``T_0 * T_mult**k`` epochs and falls from ``lr`` to ``eta_min``::

        eta_min + (lr - eta_min) * (1 + cos(pi * T_cur / T_k)) / 2

    (Loshchilov & Hutter 2017, "SGDR", eq. 5).  Cycles start when the warm-up ends.  Unlike torch's
    ``CosineAnnealingWarmRestarts``, ``T_mult`` may be fractional; for whole numbers and without
    warm-up the two agree.

    Args:
        epoch: epochs since the start of training, fractional inside an epoch, at least 0.
        lr: the peak learning rate.
        T_0: length of the first cycle in epochs, > 0.
        T_mult: factor from one cycle length to the next, at least 1.
        eta_min: learning rate at the end of a cycle.
        warmup_epochs: length of the linear rise from 0 to ``lr``; 0 for none.

    Returns:
        The learning rate.
    """
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    since = epoch - warmup_epochs
    if T_mult == 1:
        cycle_length, position = T_0, since % T_0
    else:
        # Cycles before k take T_0 (T_mult^k - 1) / (T_mult - 1) epochs; the floor of the inverse
        # finds k, and rounding can leave it one off at a boundary.
        cycle = math.floor(math.log1p(since / T_0 * (T_mult - 1)) / math.log(T_mult))
        cycle_length, position = _cycle(since, cycle, T_0, T_mult)
        if position >= cycle_length:
            cycle_length, position = _cycle(since, cycle + 1, T_0, T_mult)
        elif position < 0:
            cycle_length, position = _cycle(since, cycle - 1, T_0, T_mult)
    return eta_min + (lr - eta_min) * (1 + math.cos(math.pi * position / cycle_length)) / 2


def _cycle(since: float, cycle: int, T_0: float, T_mult: float) -> tuple[float, float]:
    """Length of a cycle, and how far ``since`` lies after its start."""
    start = T_0 * (T_mult**cycle - 1) / (T_mult - 1)
    return T_0 * T_mult**cycle, since - start
