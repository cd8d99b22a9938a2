"""Which figure gives a gamed embedding away: points made by hand, right and wrong on purpose."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from environment import (
    add_output_option,
    environment,
    environment_markdown,
    markdown_table,
    write_results,
)
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import CollapsedLevelsWarning, Structure, evaluate, measure_structure
from ternvae.padic import TernarySpace

__all__ = ["EMBEDDINGS", "Embedding", "main", "measure", "table"]

#: Weight of a digit over that of the one before; the last two share a plane and need a smaller one.
RATIO, LAST_RATIO = 0.62, 0.4
#: Of the right embedding: small, so that the ball is flat there.
SCALE = 1e-3


class Embedding:
    """Given points as the metrics ask a model for them; what it decodes is not looked at.

    Args:
        points: (N, d) points of the ball of curvature -1.
        n_digits: digits of a sequence.
    """

    ball = PoincareBall()

    def __init__(self, points: Tensor, n_digits: int) -> None:
        self.points, self.n_digits = points, n_digits

    def embed(self, indices: Tensor, branch: str = "B") -> Tensor:
        """The points of the indices, the same for both branches."""
        return self.points[indices]

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        """Nothing: coverage is no matter of geometry."""
        return torch.zeros(len(points), self.n_digits, dtype=torch.int64)


# --- embeddings -----------------------------------------------------------------------------


def weights(n_digits: int, last: float = LAST_RATIO) -> list[float]:
    """Of each digit."""
    return [RATIO**k for k in range(n_digits - 1)] + [last * RATIO ** (n_digits - 2)]


def tangents(space: TernarySpace, of_digits: Sequence[float]) -> Tensor:
    """(N, 2 (n - 1)): sum of w_k e_k(digit_k), minus that of index 0; e_k corners of a triangle.

    Symmetric sequences would have one radius; a disturbance far below all gaps sets them apart.
    """
    n = space.n_digits
    angle = 2 * math.pi / 3 * (space.sequences() + 1).double()
    corners = torch.stack([angle.cos(), angle.sin()], dim=-1)
    u = torch.zeros(space.size, n - 1, 2, dtype=torch.float64)
    for k, weight in enumerate(of_digits):
        u[:, min(k, n - 2)] += weight * corners[:, k]
    noise = _normal(space, 2 * (n - 1), seed=1).view_as(u)
    return SCALE * (u - u[0] + 1e-5 * min(of_digits) * noise).flatten(1)


def correct(space: TernarySpace) -> Tensor:
    """Distances in the order of the 3-adic ones."""
    return _at(tangents(space, weights(space.n_digits)))


def last_digit_too_heavy(space: TernarySpace) -> Tensor:
    """The last two digits share a plane at the ratio of the others: cousins before siblings."""
    return _at(tangents(space, weights(space.n_digits, last=RATIO)))


def digits_swapped(space: TernarySpace, k: int) -> Tensor:
    """Digits k and k + 1 exchange their weights: another tree, as good as the right one."""
    of_digits = weights(space.n_digits)
    of_digits[k], of_digits[k + 1] = of_digits[k + 1], of_digits[k]
    return _at(tangents(space, of_digits))


def radii_swapped(space: TernarySpace, level: int) -> Tensor:
    """Two neighbouring levels exchange their mean radii, every point on its own ray."""
    u, v = tangents(space, weights(space.n_digits)), space.valuation(torch.arange(space.size))
    outer, inner = (u[v == each].norm(dim=-1).mean() for each in (level, level + 1))
    factor = torch.ones_like(u[:, :1])
    factor[v == level], factor[v == level + 1] = inner / outer, outer / inner
    return _at(u * factor)


def one_ray(space: TernarySpace) -> Tensor:
    """Every radius in the shell of its level, all in one direction."""
    v = space.valuation(torch.arange(space.size))
    jitter = torch.rand(space.size, dtype=torch.float64, generator=_generator(2))
    radii = 3.6 / (space.n_digits + 1) * (space.n_digits - v + 0.3 + 0.4 * jitter)
    direction = torch.eye(2 * (space.n_digits - 1), dtype=torch.float64)[0]
    return _at(radii[:, None] / 2 * direction)


def collapsed(space: TernarySpace) -> Tensor:
    """Every level a single point, at the right radius and in a direction of its own."""
    v = space.valuation(torch.arange(space.size))
    directions = torch.nn.functional.normalize(
        _normal(space, 2 * (space.n_digits - 1), seed=4)[: space.n_digits + 1]
    )
    radii = 3.6 / (space.n_digits + 1) * (space.n_digits - v + 0.5)
    return _at(radii[:, None] / 2 * directions[v])


def random(space: TernarySpace) -> Tensor:
    """Independent points."""
    dim = 2 * (space.n_digits - 1)
    return _at(0.5 * _normal(space, dim, seed=3) / dim**0.5)


def _at(u: Tensor) -> Tensor:
    points: Tensor = Embedding.ball.expmap0(u)
    return points


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(space: TernarySpace, dim: int, seed: int) -> Tensor:
    return torch.randn(space.size, dim, dtype=torch.float64, generator=_generator(seed))


#: By name; those that swap something do it among the first and among the last.
EMBEDDINGS: dict[str, Callable[[TernarySpace], Tensor]] = {
    "correct": correct,
    "one ray": one_ray,
    "levels collapsed": collapsed,
    "random": random,
    "radii of levels 0, 1 swapped": lambda space: radii_swapped(space, 0),
    "radii of levels n-3, n-2 swapped": lambda space: radii_swapped(space, space.n_digits - 3),
    "digits 0, 1 swapped": lambda space: digits_swapped(space, 0),
    "digits n-3, n-2 swapped": lambda space: digits_swapped(space, space.n_digits - 3),
    "digits n-2, n-1 swapped": lambda space: digits_swapped(space, space.n_digits - 2),
    "last digit too heavy": last_digit_too_heavy,
}

# --- figures --------------------------------------------------------------------------------


def measure(name: str, space: TernarySpace) -> dict[str, float]:
    """The figures of an embedding, by name."""
    model = Embedding(EMBEDDINGS[name](space), space.n_digits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CollapsedLevelsWarning)
        metrics = evaluate(model, space)
    told = ("hierarchy_B", "dist_corr", "Q_enhanced", "ultrametric_corr", "triplet_accuracy")
    radii = [metrics[f"r_v{v}"] for v in range(space.n_digits + 1)]
    return {
        **{figure: metrics[figure] for figure in told},
        "levels in order": sum(r > deeper for r, deeper in pairwise(radii)),
        "collapse warnings": len(caught),
        **_of_structure(measure_structure(model, space)),
    }


def _of_structure(structure: Structure) -> dict[str, float]:
    cells = [
        (share, near, far)
        for near, row in enumerate(structure.triplets.accuracy)
        for far, share in enumerate(row[:near])
    ]
    worst, near, far = min(cells)
    return {
        "siblings": structure.siblings.share,
        "triplets, worst cell": worst,
        "near": near,
        "far": far,
        "tree, worst": structure.distortion.tree.worst,
        "tree, average": structure.distortion.tree.average,
        "2 delta / diameter": structure.hyperbolicity.relative,
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """All figures of all embeddings as a Markdown table."""
    header = (
        *("embedding", "levels in order", "hierarchy_B", "dist_corr", "Q_enhanced"),
        *("ultrametric_corr", "triplet_accuracy", "siblings"),
        *("triplets, worst cell", "at v(i-j), v(i-k)"),
        *("tree, worst", "tree, average", "2 delta / diameter"),
    )
    rows = [
        (
            name,
            f"{of['levels in order']:.0f}",
            f"{of['hierarchy_B']:.7f}",
            *(f"{of[each]:.4f}" for each in header[3:9]),
            f"{of['near']:.0f}, {of['far']:.0f}",
            f"{of['tree, worst']:.4g}",
            *(f"{of[each]:.4f}" for each in header[11:]),
        )
        for name, of in figures.items()
    ]
    return markdown_table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all of them, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--digits", type=int, default=9, help="of the space; default 9")
    add_output_option(parser)
    given = parser.parse_args(arguments)
    if not 4 <= given.digits <= 12:
        parser.error(f"--digits must be from 4 to 12, got {given.digits}")
    space, where = TernarySpace(given.digits), environment(arguments)
    figures = {name: measure(name, space) for name in EMBEDDINGS}
    text = "\n\n".join(
        ["# What gives a gamed embedding away", environment_markdown(where), table(figures)]
    )
    contents: dict[str, Any] = {
        "environment": where,
        "n_digits": given.digits,
        "figures": {
            name: {key: each if math.isfinite(each) else None for key, each in of.items()}
            for name, of in figures.items()
        },
    }
    print(text)
    write_results(given.out, "gaming", contents, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
