"""What a check is, what it finds, and the few ways in which figures are held against bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch

__all__ = [
    "ACCURACY",
    "EXACT",
    "Check",
    "CheckFunction",
    "Finding",
    "at_most",
    "both",
    "inside",
    "none_of",
    "worst",
]

#: Largest relative error that the operations of the ball are allowed: in float32 what
#: docs/benchmarks.md claims, in float64 what their tests ask for up to the rim.
ACCURACY = {torch.float32: 2.5e-7, torch.float64: 1e-10}

#: The bar for whatever is computed in float64, the same as for the ball.
EXACT = ACCURACY[torch.float64]


@dataclass(frozen=True)
class Check:
    """One line of ``ternvae validate``; holds what it is given, check-free.

    Attributes:
        group: the subject, for instance "geometry".
        name: what was looked at.
        passed: whether it held.
        figure: what was measured and the bar it was held against; for a check that raised, the
            exception in one line.
        seconds: how long it took, in seconds.
    """

    group: str
    name: str
    passed: bool
    figure: str
    seconds: float = 0.0


class Finding(NamedTuple):
    """What a check function returns; the group, the name and the time are added outside."""

    passed: bool
    figure: str


CheckFunction: TypeAlias = Callable[[torch.device], Finding]


def at_most(what: str, value: float, bar: float) -> Finding:
    """``value <= bar``, which NaN never is."""
    return Finding(value <= bar, f"{what} {value:.2g} (at most {bar:.2g})")


def inside(what: str, largest: float, limit: float) -> Finding:
    """``largest <= limit``, by how much: rounding to a few digits would hide a narrow miss."""
    side = "inside" if largest <= limit else "beyond"
    return Finding(largest <= limit, f"{what} {abs(limit - largest):.2g} {side} {limit}")


def none_of(bad: int, total: int, what: str) -> Finding:
    """No case among ``total`` is bad, and there were cases at all."""
    return Finding(bad == 0 < total, f"{bad:,} of {total:,} {what}")


def both(*findings: Finding) -> Finding:
    """All of them; the figures in a row."""
    return Finding(all(f.passed for f in findings), "; ".join(f.figure for f in findings))


def worst(errors: Iterable[float]) -> float:
    """The largest, or NaN if any is NaN (``max`` would lose it) or there is none."""
    found = list(errors)
    return math.nan if not found or any(map(math.isnan, found)) else max(found)
