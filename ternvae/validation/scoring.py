"""What is measured and how high it can go: definitions, ideal embeddings, and repeatability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae import ceilings, manifolds, metrics, padic
from ternvae.validation import specimens
from ternvae.validation.checks import EXACT, CheckFunction, Finding, at_most, both, none_of, worst

__all__ = ["CHECKS"]

_Floats = NDArray[np.float64]

#: The ceilings of nine digits as docs/metrics.md has them.
_NINE_DIGITS = {
    "hierarchy": -0.8320503,
    "dist_corr": 0.9146320,
    "Q_enhanced": 2.1627074,
    "ultrametric_corr": 0.8320221,
}


@dataclass(frozen=True)
class _Table:
    """A given point per index; decodes to the index of the nearest point, but some wrongly."""

    space: padic.TernarySpace
    points: Tensor
    wrong: int = 0
    ball: Any = None

    def embed(self, sequences_or_indices: Tensor, branch: str = "B") -> Tensor:
        return self.points[sequences_or_indices.to(self.points.device)]

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        found = torch.cdist(points, self.points).argmin(-1)
        sequences = self.space.sequences(found)
        sequences[found < self.wrong] *= -1
        return sequences


def _table(device: torch.device, tangent: Tensor, n_digits: int, wrong: int = 0) -> _Table:
    ball = manifolds.PoincareBall().to(device)
    points = ball.expmap0(tangent.to(device))
    return _Table(padic.TernarySpace(n_digits), points, wrong, ball)


# --- ceilings -------------------------------------------------------------------------------


def _nine_digits(device: torch.device) -> Finding:
    found = ceilings.ceilings(9)
    error = worst(abs(found[name] - value) for name, value in _NINE_DIGITS.items())
    listed = ", ".join(f"{name} {found[name]:.7f}" for name in _NINE_DIGITS)
    return both(Finding(True, listed), at_most("off by", error, 5e-8))


def _digit_tree(n: int) -> Tensor:
    """Tangent vectors whose geometry is the 3-adic one: a triangle per digit, each smaller.

    Digits contribute corners of equilateral triangles in planes of their own (the last two share
    one), with weights rho^k; the point of index 0 is moved to the origin. A disturbance far below
    all gaps tells apart what symmetry makes equal.
    """
    weights = [0.62**k for k in range(n - 1)] + [0.4 * 0.62 ** (n - 2)]
    angle = 2 * math.pi / 3 * padic.TernarySpace(n).sequences().double()
    u = torch.zeros(3**n, n - 1, 2, dtype=torch.float64)
    for k, weight in enumerate(weights):
        u[:, min(k, n - 2)] += weight * torch.stack([angle[:, k].cos(), angle[:, k].sin()], dim=-1)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(u.shape, dtype=u.dtype, generator=generator)
    return 1e-3 * (u - u[0] + 1e-5 * weights[-1] * noise).flatten(1)


def _shells(n: int) -> Tensor:
    """Tangent vectors on one ray: distinct radii near the centres of equal shells.

    A fifth of a width about the centre keeps all gaps of k levels below all gaps of k + 1.
    """
    space = padic.TernarySpace(n)
    generator = torch.Generator().manual_seed(2)
    jitter = 0.4 * torch.rand(space.size, dtype=torch.float64, generator=generator) - 0.2
    radius = (n + 0.5 - space.valuation(torch.arange(space.size)) + jitter) * (3.6 / (n + 1))
    return torch.stack([radius / 2, torch.zeros_like(radius)], dim=-1)


def _reached(device: torch.device) -> Finding:
    """Ideal embeddings of a small space, where all pairs are counted, score what can be scored."""
    n = 4
    highest = ceilings.ceilings(n)
    evaluator = metrics.Evaluator(padic.TernarySpace(n))
    tree = evaluator(_table(device, _digit_tree(n), n))
    shells = evaluator(_table(device, _shells(n), n))
    gaps = {
        "hierarchy": tree["hierarchy_B"] - highest["hierarchy"],
        "ultrametric_corr": tree["ultrametric_corr"] - highest["ultrametric_corr"],
        "coverage": tree["coverage_B"] - 1,
        "triplet_accuracy": tree["triplet_accuracy"] - 1,
        "hierarchy of shells": shells["hierarchy_B"] - highest["hierarchy"],
        "dist_corr": shells["dist_corr"] - highest["dist_corr"],
        "Q_enhanced": shells["Q_enhanced"] - highest["Q_enhanced"],
    }
    return _all_within({name: abs(gap) for name, gap in gaps.items()})


def _all_within(errors: dict[str, float]) -> Finding:
    """The worst error, and the names of those that are too large."""
    finding = at_most(f"worst of {len(errors)} scores off by", worst(errors.values()), EXACT)
    off = [name for name, error in errors.items() if not error <= EXACT]
    return Finding(finding.passed, ", ".join([finding.figure, *off]))


# --- definitions and repeatability ------------------------------------------------------------


def _definitions(device: torch.device) -> Finding:
    """Random points of a small space against the definitions, counted out over all pairs."""
    n, wrong = 3, 5
    space = padic.TernarySpace(n)
    # Drawn, not evenly spaced: rounding would decide the order of equal gaps between radii.
    norms = 0.1 + 1.4 * torch.rand(space.size, dtype=torch.float64)
    table = _table(device, specimens.random_points(norms, 4, 3), n, wrong)
    got = metrics.evaluate(table, space)
    want = _by_definition(table.points.cpu().numpy(), n, wrong)
    return _all_within({name: abs(got[name] - value) for name, value in want.items()})


def _by_definition(points: _Floats, n: int, wrong: int) -> dict[str, float]:
    """Every metric but the one over triples, from points (3^n, d) and a count of wrong digits."""
    size = 3**n
    v = np.array([max(k for k in range(n + 1) if i % 3**k == 0) for i in range(size)])
    r = 2 * np.arctanh(np.sqrt((points * points).sum(-1)))
    levels = [r[v == level] for level in range(n + 1)]
    i, j = np.triu_indices(size, 1)
    gaps = 1 - (points * points).sum(-1)
    squares = ((points[i] - points[j]) ** 2).sum(-1)
    hyperbolic = np.arccosh(1 + 2 * squares / (gaps[i] * gaps[j]))
    # v of a difference is read off the table of v: it lies within the space.
    padically = 3.0 ** -v[j - i]
    hierarchy = _rank_correlation(v, r)
    dist_corr = _rank_correlation(np.abs(r[i] - r[j]), np.abs(v[i] - v[j]))
    return {
        "coverage": 1 - wrong / size,
        "coverage_B": 1 - wrong / size,
        "hierarchy_A": hierarchy,
        "hierarchy_B": hierarchy,
        "richness": float(np.mean([level.var() for level in levels])),
        "dist_corr": dist_corr,
        "Q_enhanced": dist_corr + 1.5 * abs(hierarchy),
        "ultrametric_corr": _rank_correlation(hyperbolic, padically),
        **{f"r_v{k}": float(level.mean()) for k, level in enumerate(levels)},
    }


def _rank_correlation(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Spearman's coefficient with midranks, each rank counted out."""
    ranks = [(t[:, None] > t).sum(1) + (t[:, None] == t).sum(1) / 2 for t in (x, y)]
    return float(np.corrcoef(*ranks)[0, 1])


def _repeatable(device: torch.device) -> Finding:
    model = specimens.fresh_model(device)
    first = metrics.evaluate(model, model.space)
    torch.rand(1)  # whatever is drawn in between
    second = metrics.evaluate(model, model.space)
    names = metrics.metric_names(model.space.n_digits)
    good = tuple(first) == tuple(second) == names
    differing = sum(repr(first.get(name)) != repr(second.get(name)) for name in names)
    return both(
        none_of(differing, len(names), "metrics of all sequences differ the second time"),
        Finding(good, "names as documented" if good else f"names: {', '.join(first)}"),
    )


CHECKS: dict[str, CheckFunction] = {
    "ceilings at nine digits": _nine_digits,
    "ceilings are reached": _reached,
    "metrics by definition": _definitions,
    "metrics repeat themselves": _repeatable,
}
