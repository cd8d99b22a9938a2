"""Cases of the measures of 3-adic structure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ternvae import metrics
from ternvae.manifolds import PoincareBall
from ternvae.padic import TernarySpace
from tests import boundary_models
from tests.boundary import (
    BRANCH,
    INTEGERS,
    META,
    NO_FLOATS,
    NO_TENSOR,
    ONE_MORE,
    RANK_0,
    RANK_1,
    ROWS,
    Argument,
    C,
    Case,
    Material,
    given,
    made,
    shape,
    value,
)
from tests.boundary_cases import NOT_WHOLE, space

SPACE = Argument(space, given(None, 3, "space"))
BALL = Argument(
    lambda m: PoincareBall(C),
    (*given(None, 3, "ball"), *made("no ball", lambda v, m: SimpleNamespace(c=1.0), "dist")),
)
SEED = Argument(lambda m: m.seed, (*INTEGERS, *given(-1, 2**70)))
POINTS_SPOILT = (
    *(*NO_TENSOR, *NO_FLOATS, *META, *RANK_0, *RANK_1, *ONE_MORE),
    *shape("none", lambda v, m: v[:0]),
    *shape("no coordinates", lambda v, m: v[:, :0]),
    *value("nan", float("nan")),
    *value("inf", float("inf")),
    *value("outside", 2.0),
)
SIZE = (*INTEGERS, *given(0, -1))


def sample(valid: int) -> Argument:
    return Argument(lambda m: valid, SIZE)


def all_points(m: Material) -> Tensor:
    """Of a whole space, (3^n, width)."""
    drawn = torch.randn(3**m.n_digits, m.width, dtype=torch.float64, generator=m.generator(8))
    inside = 0.9 * drawn / (1 + drawn.norm(dim=-1, keepdim=True)) / C**0.5
    return inside.to(m.dtype).requires_grad_(m.grad)


def some_indices(m: Material) -> Tensor:
    """(rows,) different ones."""
    return torch.randperm(3**m.n_digits, generator=m.generator(9))[: m.rows]


def measure(function: Any, **sizes: Argument) -> list[Case]:
    """Of a whole space, and of some sequences."""
    whole = Argument(all_points, (*POINTS_SPOILT, *ROWS))
    some = Argument(lambda m: m.points(), (*POINTS_SPOILT, *ROWS))
    indices = Argument(
        some_indices,
        (
            *(spoil for spoil in NOT_WHOLE if spoil.label != "None"),
            *ROWS,
            *made("twice", lambda v, m: torch.cat([v[1:], v[1:2]]), "twice"),
        ),
    )
    return [
        Case(function, {"points": whole, "ball": BALL, "space": SPACE, **sizes}),
        Case(
            function,
            {"points": some, "ball": BALL, "space": SPACE, "indices": indices, **sizes},
        ),
    ]


def structure_cases() -> list[Case]:
    return [
        *measure(
            metrics.sibling_retrieval,
            comparisons=Argument(lambda m: 100, (*SIZE, *given(1))),
            seed=SEED,
        ),
        *measure(metrics.triplet_table, triples=sample(50), seed=SEED),
        *measure(metrics.distortion, pairs=Argument(lambda m: 50, (*SIZE, *given(1))), seed=SEED),
        Case(
            metrics.gromov_hyperbolicity,
            {
                "points": Argument(
                    all_points, (*POINTS_SPOILT, *shape("three", lambda v, m: v[:3]))
                ),
                "ball": BALL,
                "quadruples": sample(50),
                "seed": SEED,
            },
        ),
        Case(
            metrics.measure_structure,
            {
                "model": Argument(
                    lambda m: boundary_models.MODELS(m.n_digits),
                    (*given(None, 3, "model"), *made("another", boundary_models.another, "2, 2)")),
                ),
                "space": Argument(
                    space,
                    (
                        *given(None, 3, "space"),
                        *made("small", lambda v, m: TernarySpace(1), "1 digits"),
                        *made("large", lambda v, m: TernarySpace(16), "16 digits"),
                    ),
                ),
                "branch": Argument(lambda m: "B", BRANCH),
                "seed": SEED,
            },
        ),
    ]


CASES = structure_cases()
