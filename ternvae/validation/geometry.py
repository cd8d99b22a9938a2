"""The ball: formulas in many digits, laws of the metric, gradients, limits and the optimizer.

Points are looked at near the origin, in the middle, at the default ``max_radius`` and at the rim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from ternvae import manifolds
from ternvae.validation import decimals, specimens
from ternvae.validation.checks import (
    ACCURACY,
    EXACT,
    CheckFunction,
    Finding,
    at_most,
    both,
    inside,
    none_of,
    worst,
)

__all__ = ["CHECKS"]

_NORMS = (1e-6, 0.5, 0.95, 1 - 1e-5)
_CURVATURES = (1.0, 0.7)
_DIM = 16
_ROWS = 3
_MAX_RADIUS = 0.95

_Ball = manifolds.PoincareBall
_Arguments: TypeAlias = tuple[Tensor, ...]
_Cases: TypeAlias = Callable[[float], Iterator[_Arguments]]
_Formula: TypeAlias = Callable[..., decimals.Vector]


# --- against closed forms -------------------------------------------------------------------


def _at(norm: float, c: float, seed: int) -> Tensor:
    """Points with sqrt(c)|x| = norm, (rows, dim) float64."""
    return specimens.random_points(torch.full((_ROWS,), norm / c**0.5), _DIM, seed)


def _points(c: float) -> Iterator[_Arguments]:
    for norm in (0.0, *_NORMS):
        yield (_at(norm, c, 1),)


def _tangents(c: float) -> Iterator[_Arguments]:
    """Tangent vectors at the origin that lead to the same norms."""
    for norm in (0.0, *_NORMS):
        yield (_at(math.atanh(norm), c, 2),)


def _pairs(c: float) -> Iterator[_Arguments]:
    """Far, near, nearly opposite and equal points, and each with the origin."""
    for norm in _NORMS:
        x, y, origin = _at(norm, c, 3), _at(norm, c, 4), _at(0.0, c, 5)
        near = x + _at(1e-4 * min(norm, 1 - norm), c, 6)
        yield from ((x, y), (x, near), (-x, near), (x, x), (x, origin), (origin, y))


def _closed_form(device: torch.device, *, name: str, cases: _Cases) -> Finding:
    """A method of the ball against the decimal formula of the same name."""
    return both(
        *(
            at_most(f"{_short(dtype)} relative error", _error(name, cases, dtype, device), bar)
            for dtype, bar in ACCURACY.items()
        )
    )


def _error(name: str, cases: _Cases, dtype: torch.dtype, device: torch.device) -> float:
    exactly: _Formula = getattr(decimals, name)
    errors = []
    for c in _CURVATURES:
        ball = _Ball(c).to(device)
        for arguments in cases(c):
            given = [t.to(device, dtype) for t in arguments]
            got = getattr(ball, name)(*given)
            with localcontext(prec=decimals.DIGITS):
                for k in range(_ROWS):
                    want = exactly(*(decimals.exact(t[k]) for t in given), Decimal(c))
                    errors.append(decimals.relative_error(decimals.exact(got[k]), want))
    return worst(errors)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- laws ---------------------------------------------------------------------------------


def _triangles(device: torch.device) -> Finding:
    """The triangle inequality for points at all radii, and equality along a diameter.

    Each distance is accurate relative to itself, and the two sides of the inequality are of one
    size at most, so their difference is off by two such errors relative to the longer way.
    """
    norms = 1 - torch.logspace(-5, -0.001, 2000, dtype=torch.float64)
    findings = []
    for dtype, bar in ACCURACY.items():
        ball = _Ball().to(device)
        order = torch.randperm(len(norms))
        x, y, z = (
            specimens.random_points(n, _DIM, seed).to(device, dtype)
            for seed, n in enumerate((norms, norms[order], norms.flip(0)))
        )
        way = ball.dist(x, y) + ball.dist(y, z)
        excess = ((ball.dist(x, z) - way) / way).double()
        through = ball.dist0(x) + ball.dist0(-x / 2)
        straight = ((ball.dist(x, -x / 2) - through) / through).double().abs()
        error = worst([float(excess.max()), float(straight.max())])
        findings.append(at_most(f"{_short(dtype)} violates it by", error, 2 * bar))
    return both(*findings)


def _wrapped_normal(device: torch.device) -> Finding:
    """The density of an isotropic law depends on the distance from its centre alone."""
    c, scale = 0.7, 0.8
    ball = _Ball(c).to(device)
    norms = torch.linspace(0.0, 0.9, 50, dtype=torch.float64) / c**0.5
    centres = specimens.random_points(norms, _DIM, 1).to(device)
    law = manifolds.WrappedNormal(centres, scale, ball)
    sample, density = law.rsample_with_log_prob()
    errors = []
    for row in range(len(norms)):
        x, z = (t[row].cpu().numpy() for t in (centres, sample))
        gaps = (1 - c * float(x @ x)) * (1 - c * float(z @ z))
        r = math.acosh(1 + 2 * c * float((x - z) @ (x - z)) / gaps) / c**0.5
        stretch = math.log(math.sinh(c**0.5 * r) / (c**0.5 * r))
        normal = -_DIM / 2 * math.log(2 * math.pi * scale**2) - (r / scale) ** 2 / 2
        want = normal - (_DIM - 1) * stretch
        for got in (density[row], law.log_prob(sample)[row]):
            errors.append(abs(float(got) - want) / abs(want))
    return at_most("relative error of the log-density", worst(errors), EXACT)


# --- gradients ------------------------------------------------------------------------------


def _gradients(device: torch.device) -> Finding:
    """Finite at every delicate place, 0 where a distance is, and the known length of one."""
    bad = total = 0
    errors = []
    for dtype, bar in ACCURACY.items():
        ball = _Ball().to(device)
        origin, rim = (_at(norm, 1.0, 7).to(device, dtype) for norm in (0.0, 1 - 1e-5))
        unary = (ball.dist0, ball.expmap0, ball.logmap0)
        binary = (ball.dist, ball.mobius_add, ball.expmap, ball.logmap)
        places: list[tuple[Callable[..., Tensor], _Arguments]]
        places = [(f, (x,)) for f in unary for x in (origin, rim)]
        places += [(f, (x, y)) for f in binary for x in (origin, rim) for y in (origin, rim)]
        places.append((ball.mobius_add, (rim, -rim)))
        for function, arguments in places:
            for gradient in _gradients_of(function, arguments):
                bad += int((~gradient.isfinite()).sum())
                total += gradient.numel()
        flat = (*_gradients_of(ball.dist, (rim, rim)), *_gradients_of(ball.dist0, (origin,)))
        errors += [float(gradient.abs().max()) for gradient in flat]
        # |grad dist0| in coordinates is the conformal factor 2 / (1 - |x|^2).
        slope = _gradients_of(ball.dist0, (rim,))[0].double().norm(dim=-1)
        want = 2 / (1 - rim.double().square().sum(-1))
        # In units of the documented accuracy, so that both dtypes share one bar.
        errors.append(float((slope / want - 1).abs().max()) / bar)
    return both(
        none_of(bad, total, "components are not finite"),
        at_most("error where they are known, in units of the accuracy,", worst(errors), 1.0),
    )


def _gradients_of(function: Callable[..., Tensor], arguments: _Arguments) -> tuple[Tensor, ...]:
    leaves = [t.clone().requires_grad_() for t in arguments]
    return torch.autograd.grad(function(*leaves).sum(), leaves)


# --- limits and the optimizer -----------------------------------------------------------------


def _share_of_radius(points: Tensor, c: float) -> float:
    norms = c**0.5 * points.detach().double().norm(dim=-1)
    return worst(norms.flatten().tolist())


def _max_radius(device: torch.device) -> Finding:
    """No operation leaves it, and a point inside stays where it is, bit for bit."""
    reached, moved = [], 0
    for dtype in ACCURACY:
        for c in _CURVATURES:
            ball = _Ball(c, max_radius=_MAX_RADIUS).to(device)
            far = specimens.random_points(torch.logspace(-1, 3, 500), _DIM, 8).to(device, dtype)
            x = ball.projx(far)
            made = (x, ball.expmap0(far), ball.mobius_add(x, x.flip(0)), ball.expmap(x, far))
            reached += [_share_of_radius(points, c) for points in made]
            within = (0.999 * x).detach()
            moved += int((ball.projx(within) != within).any(-1).sum())
    return both(
        inside("points", worst(reached), _MAX_RADIUS),
        none_of(moved, 500 * len(ACCURACY) * len(_CURVATURES), "points inside were moved"),
    )


def _optimizer(device: torch.device) -> Finding:
    """Points run towards targets, some beyond ``max_radius``, and are watched on the way.

    A step has about the hyperbolic length of the learning rate, so the minimum of a distance can
    be found to one step.
    """
    lr, steps = 0.05, 200
    ball = _Ball(max_radius=_MAX_RADIUS).to(device)
    starts = specimens.random_points(torch.linspace(0.0, 0.9, 8), _DIM, 9).float().to(device)
    norms = torch.tensor([0.0, 0.3, 0.6, 0.9, 0.99, 0.99, 0.99, 0.99])
    targets = specimens.random_points(norms, _DIM, 10).float().to(device)
    points = manifolds.ManifoldParameter(starts.clone(), manifold=ball)
    optimizer = manifolds.RiemannianAdam([points], lr=lr)
    within = targets.norm(dim=-1) < _MAX_RADIUS
    reached = []
    for _ in range(steps):
        optimizer.zero_grad()
        ball.dist2(points, targets).sum().backward()
        optimizer.step()
        reached.append(_share_of_radius(points, 1.0))
    before = worst(ball.dist(starts, targets)[within].tolist())
    left = worst(ball.dist(points, targets)[within].tolist())
    return both(
        at_most(f"distance to the minimum from {before:.2g} to", left, lr),
        inside("points", worst(reached), _MAX_RADIUS),
    )


CHECKS: dict[str, CheckFunction] = {
    "distance": partial(_closed_form, name="dist", cases=_pairs),
    "distance from the origin": partial(_closed_form, name="dist0", cases=_points),
    "Moebius addition": partial(_closed_form, name="mobius_add", cases=_pairs),
    "exp at the origin": partial(_closed_form, name="expmap0", cases=_tangents),
    "log at the origin": partial(_closed_form, name="logmap0", cases=_points),
    "triangle inequality": _triangles,
    "wrapped normal": _wrapped_normal,
    "gradients": _gradients,
    "max_radius": _max_radius,
    "Riemannian Adam": _optimizer,
}
