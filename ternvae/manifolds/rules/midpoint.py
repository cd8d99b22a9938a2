"""The weighted midpoint of a few points.

With ``a_k = w_k / gap_k``, their sum ``A``, that of the weights ``W``, and
``q_jk = c|x_j - x_k|^2``, the centroid of the points on the hyperboloid has the squared length
``T = W^2 + 4 sum_{j<k} a_j a_k q_jk`` and points to ``sum 2 a_k x_k / (2A - W + sqrt(T))``. For
weights of one sign nothing cancels.
"""

import functools
import operator
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.rows import Gradients, Kept, Rule
from ternvae.manifolds.vectors import Blend, Metric

MOST_POINTS = 8
"""The number of pairs grows with the square; beyond, a formula in sums is better."""


def _sum(values: Any) -> Any:
    return functools.reduce(operator.add, values)


class _Centroid(NamedTuple):
    gaps: list[Tensor]
    q: dict[tuple[int, int], Tensor]
    a: list[Tensor]
    total_w: Tensor
    sign: Tensor
    per_root: Tensor
    height: Tensor

    @staticmethod
    def of(m: Metric, xs: tuple[Tensor, ...], ws: tuple[Tensor | float, ...]) -> "_Centroid":
        pairs = list(combinations(range(len(xs)), 2))
        differences = [Blend(xs[j], -1.0, xs[k]) for j, k in pairs]
        measured = m.measure(*(m.gap(x) for x in xs), *(m.dot(d, d) for d in differences))
        gaps, q = measured[: len(xs)], dict(zip(pairs, measured[len(xs) :], strict=True))
        a = [w / gap for w, gap in zip(ws, gaps, strict=True)]
        total_w = _sum(ws)
        squared = _sum(a[j] * a[k] * q[j, k] for j, k in pairs) * 4.0 + total_w * total_w
        root = squared.clamp_min(num.SMALLEST_SQUARED_LENGTH).sqrt()
        up = 2.0 * _sum(a) - total_w
        sign = torch.where(up < 0.0, -1.0, 1.0)
        # Where there is no midpoint (T < 0), the root is cut off and has no derivative.
        per_root = (squared > num.SMALLEST_SQUARED_LENGTH) / root
        return _Centroid(gaps, q, a, total_w, sign, per_root, up.abs() + root)


def _make(n_points: int) -> Rule:

    class WeightedMidpoint:
        @staticmethod
        def forward(m: Metric, *rows: Tensor) -> tuple[Tensor, Kept]:
            xs, ws = rows[:n_points], _weights(rows[n_points:])
            s = _Centroid.of(m, xs, ws)
            factor = 2.0 * s.sign / s.height
            return m.combine(*((a * factor, x) for a, x in zip(s.a, xs, strict=True))), ()

        @staticmethod
        def backward(m: Metric, kept: Kept, grad: Tensor, *rows: Tensor) -> Gradients:
            xs, ws = rows[:n_points], _weights(rows[n_points:])
            s = _Centroid.of(m, xs, ws)
            factor = 2.0 * s.sign / s.height
            g_x = m.measure(*(m.dot(grad, x, 2.0) for x in xs))
            along = [a * factor for a in s.a]
            g_height = _sum(t * g for t, g in zip(along, g_x, strict=True)) / s.height * -1.0
            g_root = g_height * s.per_root * 2.0
            g_q = {(j, k): s.a[j] * s.a[k] * g_root for j, k in s.q}
            g_up = g_height * s.sign
            grads, grads_w, g_gaps = [], [], []
            for k, x in enumerate(xs):
                others = [(min(j, k), max(j, k)) for j in range(n_points) if j != k]
                pull = _sum(s.a[sum(jk) - k] * s.q[jk] for jk in others)
                g_a = g_x[k] * factor + 2.0 * g_up + g_root * pull
                g_gaps.append(-g_a * s.a[k] / s.gaps[k])
                grads_w.append((g_a / s.gaps[k] - g_up + 0.5 * g_root * s.total_w) * (0.5 / m.c))
                terms = [(g_q[jk], Blend(x, -1.0, xs[sum(jk) - k])) for jk in others]
                grads.append(m.combine((along[k], grad), *terms, (-g_gaps[k], x)))
            grad_c = None
            if m.wants_c:
                grad_c = _sum(g * (gap - 1.0) for g, gap in zip(g_gaps, s.gaps, strict=True))
                grad_c = (grad_c + _sum(g_q[jk] * s.q[jk] for jk in s.q)) * (0.5 / m.c**2)
            return *grads, *(grads_w if len(rows) > n_points else ()), grad_c

    def _weights(rows: tuple[Tensor, ...]) -> tuple[Tensor | float, ...]:
        return tuple(w.double() for w in rows) if rows else (1.0,) * n_points

    WeightedMidpoint.__qualname__ = f"weighted_midpoint:{n_points}"  # rules are looked up by name
    return WeightedMidpoint


_RULES = {n: _make(n) for n in range(2, MOST_POINTS + 1)}


def weighted_midpoint(n_points: int) -> Rule:
    """The rule for ``n_points`` points, followed by as many weights, or by none if all are 1."""
    return _RULES[n_points]


__all__ = ["MOST_POINTS", "weighted_midpoint"]
