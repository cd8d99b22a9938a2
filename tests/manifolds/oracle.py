"""The textbook formulas of the ball in 60-digit arithmetic, on the exact values of float inputs.

Nothing here is rearranged for accuracy: these are the definitions of Ganea et al. 2018, so that an
error in the package's rearrangements cannot be shared.
"""

from collections.abc import Sequence

import mpmath as mp
import torch
from torch import Tensor

mp.mp.dps = 60

Vector = list[mp.mpf]


def exact(x: Tensor) -> Vector:
    return [mp.mpf(t) for t in x.detach().double().tolist()]


def dot(x: Vector, y: Vector) -> mp.mpf:
    return mp.fsum(a * b for a, b in zip(x, y, strict=True))


def length(x: Vector) -> mp.mpf:
    return mp.sqrt(dot(x, x))


def scale(k: mp.mpf, x: Vector) -> Vector:
    return [k * a for a in x]


def mobius_add(x: Vector, y: Vector, c: mp.mpf) -> Vector:
    xy, x2, y2 = dot(x, y), dot(x, x), dot(y, y)
    a, b = 1 + 2 * c * xy + c * y2, 1 - c * x2
    denominator = 1 + 2 * c * xy + c * c * x2 * y2
    return [(a * p + b * q) / denominator for p, q in zip(x, y, strict=True)]


def conformal_factor(x: Vector, c: mp.mpf) -> mp.mpf:
    return 2 / (1 - c * dot(x, x))


def dist(x: Vector, y: Vector, c: mp.mpf) -> mp.mpf:
    return 2 / mp.sqrt(c) * mp.atanh(mp.sqrt(c) * length(mobius_add(scale(-1, x), y, c)))


def dist0(x: Vector, c: mp.mpf) -> mp.mpf:
    return 2 / mp.sqrt(c) * mp.atanh(mp.sqrt(c) * length(x))


def expmap0(u: Vector, c: mp.mpf) -> Vector:
    n = length(u)
    return u if n == 0 else scale(mp.tanh(mp.sqrt(c) * n) / (mp.sqrt(c) * n), u)


def logmap0(x: Vector, c: mp.mpf) -> Vector:
    n = length(x)
    return x if n == 0 else scale(mp.atanh(mp.sqrt(c) * n) / (mp.sqrt(c) * n), x)


def expmap(x: Vector, u: Vector, c: mp.mpf) -> Vector:
    n = length(u)
    if n == 0:
        return x
    k = mp.tanh(mp.sqrt(c) * conformal_factor(x, c) * n / 2) / (mp.sqrt(c) * n)
    return mobius_add(x, scale(k, u), c)


def logmap(x: Vector, y: Vector, c: mp.mpf) -> Vector:
    m = mobius_add(scale(-1, x), y, c)
    n = length(m)
    if n == 0:
        return m
    k = 2 / (mp.sqrt(c) * conformal_factor(x, c)) * mp.atanh(mp.sqrt(c) * n) / n
    return scale(k, m)


def gyration(x: Vector, y: Vector, v: Vector, c: mp.mpf) -> Vector:
    left = mobius_add(x, mobius_add(y, v, c), c)
    return mobius_add(scale(-1, mobius_add(x, y, c)), left, c)


def relative_error(got: Tensor, want: mp.mpf | Sequence[mp.mpf]) -> float:
    """``|got - want| / |want|`` (0 if both are 0)."""
    wanted = list(want) if isinstance(want, list) else [want]
    error = length([a - b for a, b in zip(exact(got.reshape(-1)), wanted, strict=True)])
    size = length(wanted)
    return float(error) if size == 0 else float(error / size)


def points(norm: float, count: int, dim: int, c: float, seed: int) -> Tensor:
    """``count`` random float64 points with ``sqrt(c) |x| = norm``, (count, dim)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, dtype=torch.float64, generator=g)
    return x / x.norm(dim=-1, keepdim=True) * (norm / c**0.5)


def assert_gradients_finite(*inputs: Tensor, outputs: Tensor | Sequence[Tensor]) -> None:
    """Every gradient of the sum of ``outputs`` exists and is finite."""
    listed = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    assert all(bool(out.isfinite().all()) for out in listed)
    grads = torch.autograd.grad(sum(out.sum() for out in listed), inputs)
    for g in grads:
        assert bool(g.isfinite().all()), g
