"""Cases of the digits, the losses and the ceilings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ternvae import ceilings, losses, padic
from ternvae.padic import TernarySpace
from tests.boundary import (
    INTEGERS,
    META,
    N_DIGITS,
    NO_INT64,
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
    Spoil,
    dtype,
    given,
    made,
    shape,
    value,
)
from tests.boundary_geometry import CURVATURE

DIGITS = Argument(lambda m: m.n_digits, N_DIGITS)
GENERATOR = Argument(lambda m: m.generator(9), given(3, "seed"))
INT64 = (*NO_TENSOR, *NO_INT64)


def levels(m: Material) -> Tensor:
    return m.integers(1, m.n_digits, m.rows)


def indices(m: Material) -> Tensor:
    return m.integers(2, 3**m.n_digits - 1, m.rows)


def space(m: Material) -> TernarySpace:
    return TernarySpace(m.n_digits)


SPACE = Argument(space)

# --- digits ---------------------------------------------------------------------------------

#: Whole numbers of any kind are taken; these are none, or none of the space.
NOT_WHOLE = (
    *given(None, "one", [0, 0.5], [True], [float("nan")], [float("inf")], {"a": 1}),
    *made("truth values", lambda v, m: v > 0, "True", "False"),
    *made("complex", lambda v, m: torch.ones(2, dtype=torch.complex64), "1+0j"),
    *META,
    *value("below", -9),
    *value("above", 3**25),
)
PRIME = Argument(lambda m: 3, (*INTEGERS, *given(0, 1, -3, 4)))
CAP = Argument(lambda m: m.n_digits, (*INTEGERS[1:], *given(-1)))
NO_INTEGERS = (
    *NO_TENSOR,
    *dtype(torch.float64, torch.bool),
)


def of_space(name: str, **arguments: Argument) -> Case:
    return Case(vars(TernarySpace)[name], {"self": SPACE, **arguments})


def padic_cases() -> list[Case]:
    index = Argument(indices, NOT_WHOLE)
    together = Argument(indices, (*NOT_WHOLE, *ROWS))
    any_integer = Argument(indices, NO_INTEGERS, any_value=True)
    both = Argument(indices, (*NO_INTEGERS, *META, *ROWS, *dtype(torch.uint64)), any_value=True)
    sequences = Argument(
        lambda m: space(m).sequences(indices(m)),
        (*NOT_WHOLE, *RANK_0, *shape("another width", lambda v, m: v[..., :-1])),
    )
    valuations = Argument(levels, (*INT64, *META))
    return [
        Case(TernarySpace, {"n_digits": DIGITS}),
        of_space(
            "sequences", indices=Argument(indices, tuple(s for s in NOT_WHOLE if s.label != "None"))
        ),
        of_space("indices", sequences=sequences),
        of_space("valuation", indices=index),
        of_space("distance", i=together, j=together),
        of_space(
            "batches",
            batch_size=Argument(lambda m: 4, (*INTEGERS, *given(0, -1))),
            shuffle=Argument(lambda m: True, given(None, 1, "no")),
            seed=Argument(lambda m: m.seed, (*INTEGERS, *given(-1, 2**64))),
            device=Argument(lambda m: "cpu", given("nowhere", 3.5, "cuda:99")),
        ),
        *holdout_cases(),
        Case(padic.valuation, {"n": any_integer, "p": PRIME, "cap": CAP}),
        Case(padic.padic_distance, {"i": both, "j": both, "p": PRIME}),
        Case(padic.digits_of, {"indices": Argument(indices, INT64), "n_digits": DIGITS}),
        Case(
            padic.indices_of,
            {
                "digits": Argument(
                    lambda m: m.integers(3, 2, m.rows, m.n_digits),
                    (*INT64, *RANK_0, *shape("too wide", lambda v, m: v[:, :1].expand(-1, 50))),
                )
            },
        ),
        Case(
            padic.indices_at_valuation,
            {
                "valuation": Argument(levels, INT64),
                "n_digits": DIGITS,
                "generator": Argument(
                    lambda m: m.generator(9),
                    GENERATOR.spoils,
                ),
            },
        ),
        Case(
            padic.indices_at_valuation,
            {"valuation": Argument(levels, META), "generator": GENERATOR, "n_digits": DIGITS},
        ),
        Case(
            padic.partners_at_valuation,
            {
                "i": Argument(indices, (*INT64, *META, *ROWS)),
                "valuation": Argument(levels, valuations.spoils),
                "n_digits": DIGITS,
                "generator": GENERATOR,
            },
        ),
    ]


def holdout_cases() -> list[Case]:
    share = (*REALS, *given(1.0, -0.1, 0.99))
    methods = vars(padic.Holdout)
    held = Argument(lambda m: padic.Holdout(space(m), 0.4, m.seed))
    seed = Argument(lambda m: m.seed, (*INTEGERS, *given(-1, 2**64)))
    index = Argument(indices, NOT_WHOLE)
    return [
        Case(
            padic.Holdout,
            {
                "space": Argument(space, given(None, 9, "space")),
                "share": Argument(lambda m: 0.4, share),
                "seed": seed,
            },
        ),
        Case(methods["seen"], {"self": held, "indices": index}),
        Case(methods["is_seen"], {"self": held, "indices": Argument(indices, INT64)}),
        Case(
            methods["shuffled"],
            {
                "self": held,
                "ranks": Argument(lambda m: m.integers(2, 4, m.rows), INT64),
                "seed": seed,
            },
        ),
        Case(
            methods["seen_of_level"],
            {
                "self": held,
                "level": Argument(lambda m: m.n_digits, (*INTEGERS, *given(-1, 99))),
                "at_most": Argument(lambda m: m.rows, given("9", 9.5, True, -1)),
            },
        ),
    ]


# --- losses ---------------------------------------------------------------------------------

FLOATS = (*NO_TENSOR, *dtype(torch.int64, torch.bool, torch.complex64))
COLUMN = (*FLOATS, *RANK_0, *ONE_MORE, *META, *ROWS)
NO_ROWS = shape("no rows", lambda v, m: v[:0])
COUNT = Argument(lambda m: m.n_digits, (*INTEGERS, *given(0, -1)))
RADIUS_MAX = Argument(
    lambda m: 3.0,
    (
        *REALS,
        *given(0.0, -1.0),
        *made("two numbers", lambda v, m: torch.ones(2), "(2,)"),
        *made("integer", lambda v, m: torch.tensor(3), "int64"),
        *made("meta", lambda v, m: torch.ones((), device="meta"), "meta"),
    ),
)
NO_SCALARS = RADIUS_MAX.spoils[-3:]
MARGIN = Argument(lambda m: 0.1, (*REALS, *given(0.0, 0.5, -0.1)))
FLOOR = Argument(lambda m: 0.01, (*REALS, *given(-0.1)))
RADIUS = Argument(lambda m: m.normal(4, m.rows).detach().abs().requires_grad_(m.grad), COLUMN)
LEVELS = Argument(levels, (*INT64, *RANK_0, *ONE_MORE, *META, *ROWS))


def other_float(v: Tensor, m: Material) -> Tensor:
    return v.double() if v.dtype == torch.float32 else v.float()


OTHER_FLOAT: tuple[Spoil, ...] = (
    Spoil("the other precision", other_float, lambda bad: (str(bad.dtype),)),
)
ROW = Argument(RADIUS.make, (*COLUMN, *NO_ROWS, *OTHER_FLOAT))
MEMBERSHIP = Argument(
    lambda m: losses.level_membership(levels(m), m.n_digits, m.dtype),
    (
        *FLOATS,
        *RANK_1,
        *META,
        *ROWS,
        *OTHER_FLOAT,
        *shape("one level", lambda v, m: v[:, :1]),
    ),
)


def loss_cases() -> list[Case]:
    logits = Argument(
        lambda m: m.normal(5, m.rows, m.n_digits, 3),
        (*FLOATS, *RANK_1, *META, *ROWS, *WIDTH, *NO_ROWS),
    )
    sequences = Argument(
        lambda m: space(m).sequences(indices(m)), (*INT64, *RANK_1, *META, *ROWS, *WIDTH)
    )
    log_prob = Argument(lambda m: m.normal(6, m.rows), (*COLUMN, *NO_ROWS))
    return [
        Case(losses.reconstruction_loss, {"logits": logits, "sequences": sequences}),
        Case(losses.kl_loss, {"posterior_log_prob": log_prob, "prior_log_prob": log_prob}),
        Case(
            losses.shell_offset,
            {"radius": RADIUS, "valuation": LEVELS, "n_digits": COUNT, "radius_max": RADIUS_MAX},
        ),
        Case(
            losses.level_membership,
            {
                "valuation": Argument(levels, (*INT64, *RANK_0, *ONE_MORE)),
                "n_digits": COUNT,
                "dtype": Argument(lambda m: m.dtype, given(None, "float32", torch.int64)),
            },
        ),
        Case(
            losses.ultrametric_loss,
            {
                "distance": Argument(RADIUS.make, COLUMN),
                "between": LEVELS,
                "thresholds": Argument(
                    lambda m: m.normal(8, m.n_digits - 1), (*FLOATS, *RANK_0, *ONE_MORE, *META)
                ),
                "c": Argument(lambda m: 0.8, CURVATURE),
                "temperature": Argument(lambda m: 0.1, RADIUS_MAX.spoils),
            },
        ),
        Case(losses.hierarchy_loss, {"offset": ROW, "membership": MEMBERSHIP}),
        Case(losses.separation_loss, {"offset": ROW, "membership": MEMBERSHIP, "margin": MARGIN}),
        Case(losses.richness_loss, {"radius": ROW, "membership": MEMBERSHIP, "floor": FLOOR}),
        Case(
            losses.geometry_losses,
            {
                "radius": Argument(RADIUS.make, (*COLUMN, *NO_ROWS)),
                "valuation": LEVELS,
                "n_digits": COUNT,
                "radius_max": RADIUS_MAX,
                "richness_floor": Argument(FLOOR.make, (*FLOOR.spoils, *NO_SCALARS)),
                "margin": MARGIN,
                "total": Argument(lambda m: torch.clone, given(3, "total", [])),
            },
        ),
        Case(
            losses.geometry_losses,
            {
                "radius": RADIUS,
                "valuation": LEVELS,
                "n_digits": COUNT,
                "radius_max": Argument(lambda m: torch.tensor(3.0), RADIUS_MAX.spoils),
                "richness_floor": Argument(lambda m: torch.tensor(0.01, dtype=m.dtype)),
            },
        ),
    ]


# --- ceilings -------------------------------------------------------------------------------

SIZES = given(None, 3, [], [1], [2, 0], [2, -3], [2.5, 3], "ab")


def ceiling_cases() -> list[Case]:
    return [
        Case(ceilings.ceilings, {"n_digits": DIGITS}),
        Case(ceilings.spearman_ceiling, {"group_sizes": Argument(lambda m: [1, m.rows], SIZES)}),
        Case(
            ceilings.richness_ceiling,
            {
                "n_digits": DIGITS,
                "curvature": Argument(lambda m: 1.0, (*REALS, *given(0.0, -1.0))),
                "max_radius": Argument(lambda m: 0.9, (*REALS, *given(0.0, 1.0, -1.0))),
            },
        ),
    ]


MAKERS: tuple[Callable[[], list[Case]], ...] = (padic_cases, loss_cases, ceiling_cases)
CASES = [case for make in MAKERS for case in make()]
