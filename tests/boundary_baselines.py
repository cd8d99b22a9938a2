"""Cases of the constructions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ternvae import baselines
from ternvae.baselines import LinearUltrametric, PointTable
from ternvae.manifolds import PoincareBall
from tests.boundary import (
    BRANCH,
    INTEGERS,
    META,
    NO_FLOATS,
    NO_TENSOR,
    ONE_MORE,
    RANK_0,
    RANK_1,
    REALS,
    ROWS,
    WIDTH,
    Argument,
    Case,
    Material,
    given,
    made,
    shape,
    value,
)
from tests.boundary_cases import NOT_WHOLE, indices, space

BALL = PoincareBall(c=0.8, max_radius=0.9)


def linear(m: Material) -> LinearUltrametric:
    return LinearUltrametric(space(m), BALL, m.width)


def table(m: Material) -> PointTable:
    return PointTable(BALL, linear(m).embed(space(m).sequences()), space(m))


def whole(m: Material) -> Tensor:
    """A point for each sequence."""
    return linear(m).embed(space(m).sequences()).to(m.dtype).requires_grad_(m.grad)


def construction_cases() -> list[Case]:
    common = {
        "space": Argument(space, given(None, 3, "space")),
        "ball": Argument(lambda m: BALL, given(None, 3, "ball")),
        "dim": Argument(lambda m: m.width, (*INTEGERS, *given(1, 0, -3))),
    }
    number = (*REALS, *given(0.0, -0.5, 1e-300))
    linear_arguments = {
        **common,
        "ratio": Argument(lambda m: 0.6, (*number, *given(0.75))),
        "scale": Argument(lambda m: 0.5, (*without_none(number), *given(1e4))),
        "horosphere": Argument(lambda m: m.width > 2, given(None, 1, "no")),
    }
    rows = Argument(
        indices,
        (
            *(s for s in NOT_WHOLE if s.label not in ("None", "'one'", "{'a': 1}")),
            *made("a word", lambda v, m: "one", "()"),
            *RANK_0,
            *shape("three dimensions", lambda v, m: v.expand(2, 2, -1)),
        ),
    )
    points = (
        *(*NO_TENSOR, *NO_FLOATS, *RANK_0, *RANK_1, *ONE_MORE, *META, *WIDTH),
        *(
            *value("nan", float("nan")),
            *value("inf", float("inf")),
            *value("outside", 2.0, "expected <= max_radius"),
        ),
    )
    points_of_table = tuple(s for s in points if s.label != WIDTH[0].label)  # any dimension goes
    inside = Argument(lambda m: 0.5 * m.points().detach(), points)
    branch = Argument(lambda m: "A", BRANCH)
    held = Argument(whole, (*points_of_table, *ROWS))
    return [
        Case(LinearUltrametric, linear_arguments),
        Case(baselines.linear_ultrametric, {**linear_arguments, "indices": rows}),
        Case(
            baselines.sarkar,
            {
                **common,
                "edge_length": Argument(lambda m: 0.4, (*without_none(number), *given(1e4))),
            },
        ),
        Case(
            PointTable,
            {
                "ball": common["ball"],
                "points": held,
                "space": common["space"],
                "decode": Argument(lambda m: torch.clone, given(3, "decode", [])),
            },
        ),
        *(
            case
            for maker, owner in ((linear, LinearUltrametric), (table, PointTable))
            for case in (
                Case(
                    vars(owner)["embed"],
                    {"self": Argument(maker), "sequences_or_indices": rows, "branch": branch},
                ),
                Case(
                    vars(owner)["decode"],
                    {"self": Argument(maker), "points": inside, "branch": branch},
                ),
            )
        ),
    ]


def without_none(spoils: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(s for s in spoils if s.label != "None")


CASES = construction_cases()
