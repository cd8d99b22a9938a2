"""Definitions spelled out one integer at a time, to compare the package with."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import settings

# Deadlines measure the machine, not the code.
relaxed = settings(deadline=None)

IMPLAUSIBLE = 1e-6  # a chi-square p-value below this is a defect, not bad luck


def valuation_by_definition(n: int, p: int) -> float:
    if n == 0:
        return math.inf
    k = 0
    while n % p ** (k + 1) == 0:
        k += 1
    return k


def distance_by_definition(i: int, j: int, p: int) -> Fraction:
    return Fraction(0) if i == j else Fraction(1, p ** int(valuation_by_definition(i - j, p)))


def sequence_by_definition(i: int, n: int) -> list[int]:
    """Through the base-3 numeral, read from its end."""
    numeral = np.base_repr(i, 3).zfill(n)
    return [int(digit) - 1 for digit in reversed(numeral)]


def common_prefix(x: list[int], y: list[int]) -> int:
    return next((k for k, (a, b) in enumerate(zip(x, y, strict=True)) if a != b), len(x))
