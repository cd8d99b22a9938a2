"""Cases of the metrics and the model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ternvae import metrics, models
from ternvae.manifolds import PoincareBall
from ternvae.models import TernaryVAE, dense
from ternvae.padic import TernarySpace
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
    dtype,
    given,
    made,
    shape,
    value,
)
from tests.boundary_cases import DIGITS, INT64, NOT_WHOLE, indices, levels, space

# --- metrics -------------------------------------------------------------------------------

SPACE_SPOILT = given(None, 3, "space")
MODEL_SPOILT = given(None, 3, "model")


def column(m: Material) -> Tensor:
    return m.normal(7, m.rows).detach().abs()


COLUMN_SPOILT = (
    *made("a number", lambda v, m: 3.5, "()"),
    *given(None, "ab", [], ["a", "b"], [None, None], [[1.0], [2.0, 3.0]]),
    *dtype(torch.bool, torch.complex64),
    *RANK_0,
    *ONE_MORE,
    *META,
    *ROWS,
    *value("nan", float("nan")),
)


def metric_cases() -> list[Case]:
    evaluator = Argument(lambda m: EVALUATORS(m.n_digits))
    model = Argument(
        lambda m: MODELS(m.n_digits),
        (*MODEL_SPOILT, *made("another", another, "2, 2)")),
    )
    scored = {"self": evaluator, "model": model}
    branch = Argument(lambda m: "B", BRANCH)
    radii = (*COLUMN_SPOILT, *value("inf", float("inf")), *value("below", -1.0))
    of_levels = (
        *(s for s in COLUMN_SPOILT if s.label not in ("nan", "a number")),
        *dtype(torch.float64),
        *value("below", -1),
        *value("above", 99),
    )
    size = Argument(lambda m: 50, (*INTEGERS, *given(0, -1)))
    of = vars(metrics.Evaluator)
    return [
        Case(metrics.metric_names, {"n_digits": DIGITS}),
        Case(
            metrics.spearman,
            {"x": Argument(column, COLUMN_SPOILT), "y": Argument(column, COLUMN_SPOILT)},
        ),
        Case(
            metrics.collapse_excess,
            {
                "hierarchy": Argument(
                    lambda m: -0.8, given(None, "1", True, 1.5, -2, float("inf"), [0.5])
                ),
                "n_digits": DIGITS,
            },
        ),
        Case(
            metrics.richness,
            {
                "radius": Argument(column, radii),
                "valuation": Argument(levels, of_levels),
                "n_digits": DIGITS,
            },
        ),
        Case(
            metrics.richness,
            {
                "radius": Argument(lambda m: column(m).tolist()),
                "valuation": Argument(lambda m: levels(m).numpy().astype(np.int32)),
                "n_digits": DIGITS,
            },
        ),
        Case(
            metrics.Evaluator,
            {
                "space": Argument(space, SPACE_SPOILT),
                "sample_size": size,
                "sample_seed": Argument(lambda m: m.seed, (*INTEGERS, *given(-1, 2**70))),
                "exact_up_to": Argument(lambda m: m.rows - 2, (*INTEGERS, *given(-1, 21))),
                "kept_bytes": Argument(lambda m: m.width, (*INTEGERS, *given(0, -1))),
                "share": Argument(
                    lambda m: (m.rows - 2, m.rows),
                    given(None, 3, "01", [0, 1], (0,), (2, 2), (-1, 1), (0.5, 2), (0, 0), (0, "2")),
                ),
                "add": Argument(lambda m: torch.clone, given(None, 3, "add", [])),
                "progress": Argument(lambda m: [].append, given(3, "progress", [])),
                "among": Argument(
                    lambda m: lambda rows: rows > m.rows,
                    (
                        *given(3, "among", []),
                        *made("nothing", lambda v, m: lambda rows: rows < 0, "none of the"),
                    ),
                ),
            },
        ),
        Case(of["__call__"], scored),
        Case(of["branch_a"], scored),
        Case(of["branch_b"], scored),
        Case(of["embed"], {**scored, "branch": branch}),
        Case(of["coverage"], {**scored, "branch": branch}),
        Case(of["level_radii"], {**scored, "branch": branch}),
        Case(of["chunks"], {"self": evaluator}, lambda self: list(self.chunks())),
        Case(
            metrics.evaluate,
            {
                "model": model,
                "space": Argument(space, SPACE_SPOILT),
                "indices": Argument(
                    lambda m: m.integers(2, 3**m.n_digits - 1, m.rows),
                    (
                        *given([0.5], [True], [], [float("nan")]),
                        *made("a number", lambda v, m: 3, "()"),
                        *made("a table", lambda v, m: [[1], [2]], "(2, 1)"),
                        *value("below", -9),
                        *value("above", 3**9),
                    ),
                ),
            },
        ),
        Case(
            metrics.monotone_change,
            {
                "sequences": Argument(
                    lambda m: m.integers(3, 2, m.rows, m.rows, m.n_digits) - 1,
                    (
                        *given([]),
                        *made("a half", lambda v, m: [[[0.5]] * 2], "0.5"),
                        *value("above", 2),
                        *value("below", -2),
                        *RANK_1,
                        *shape("one step", lambda v, m: v[:, :1]),
                    ),
                )
            },
        ),
        Case(
            metrics.level_frequencies,
            {
                "sequences": Argument(
                    lambda m: m.integers(3, 2, 60, m.n_digits) - 1,
                    (
                        *value("above", 2),
                        *value("below", -2),
                        *shape("another width", lambda v, m: v[..., :1]),
                        *shape("one dimension more", lambda v, m: v.unsqueeze(0)),
                        *made("too few", lambda v, m: v[:6], "got 6"),
                    ),
                ),
                "space": Argument(space, SPACE_SPOILT),
            },
        ),
        Case(
            metrics.evaluation_bytes,
            {
                "space": Argument(space, SPACE_SPOILT),
                "latent_dim": Argument(lambda m: 2, (*INTEGERS, *given(0, -1))),
            },
        ),
    ]


# --- the model -----------------------------------------------------------------------------


class Stranger:
    """A model of another space, or one that answers with something else than points."""

    ball = PoincareBall()

    def embed(self, rows: Tensor, branch: str = "B") -> Any:
        return torch.zeros(len(rows), 2, 2)

    def decode(self, points: Tensor, branch: str = "B") -> Any:
        return torch.zeros(len(points), 1)


def another(v: Any, m: Material) -> Any:
    """A model whose answers do not fit."""
    return Stranger()


@functools.cache
def MODELS(n_digits: int) -> TernaryVAE:
    """Made once: models are the slowest of all arguments, and nothing may change them."""
    torch.manual_seed(0)
    return TernaryVAE(n_digits=n_digits, latent_dim=2, hidden_dim=4, projection_layers=1).train()


@functools.cache
def EVALUATORS(n_digits: int) -> metrics.Evaluator:
    return metrics.Evaluator(TernarySpace(n_digits), sample_size=50)


#: A file that a model can be read from.
CHECKPOINT = Path(__file__).parent / "data" / "format_1.pt"

MODEL = Argument(lambda m: MODELS(m.n_digits))
BRANCHES = Argument(lambda m: "A", BRANCH)


def positive(least: int, valid: int) -> Argument:
    return Argument(lambda m: valid, (*INTEGERS, *given(least - 1, 0, -1)))


def flag(valid: bool) -> Argument:
    return Argument(lambda m: valid, given(None, 1, "no"))


@functools.cache
def MIXTURES(n_digits: int) -> models.LevelMixture:
    return models.LevelMixture.fit(MODELS(n_digits), depth=1)


#: As many beginnings as before, and one end more.
ONE_MORE_ROW = made("one end more", lambda v, m: torch.cat([v, v[:1]]), "expected as many ends")


def drawing_cases(either: Argument) -> list[Case]:
    no_model = given(None, "model", 3.5)
    model = Argument(MODEL.make, no_model)
    mixture = Argument(
        lambda m: MIXTURES(m.n_digits),
        (*given("mixture", 3), *made("of more digits", lambda v, m: MIXTURES(4), "4 digits")),
    )
    generator = Argument(lambda m: m.generator(9), given("seed", 3))
    return [
        Case(
            models.interpolate,
            {
                "model": model,
                "first": either,
                "second": Argument(either.make, (*either.spoils, *ONE_MORE_ROW)),
                "steps": Argument(lambda m: 3, (*INTEGERS, *given(0, 1))),
                "branch": BRANCHES,
            },
        ),
        Case(
            vars(models.LevelMixture)["fit"].__func__,
            {
                "model": model,
                "depth": Argument(lambda m: 2, (*INTEGERS, *given(0, 7))),
                "generator": generator,
            },
            models.LevelMixture.fit,
        ),
        Case(
            models.LevelMixture.draw,
            {
                "self": Argument(lambda m: MIXTURES(m.n_digits)),
                "levels": Argument(levels, (*INT64, *RANK_0, *ONE_MORE)),
                "generator": generator,
            },
        ),
        Case(
            models.sample,
            {
                "model": model,
                "number": Argument(lambda m: m.rows, (*INTEGERS, *given(0, -1))),
                "valuation": Argument(lambda m: m.n_digits, (*INTEGERS[1:], *given(-1, 99))),
                "mixture": mixture,
                "generator": generator,
            },
        ),
    ]


def model_cases() -> list[Case]:
    of = vars(TernaryVAE)
    sequences = Argument(
        lambda m: space(m).sequences(indices(m)),
        (*NO_TENSOR, *dtype(torch.float32, torch.bool), *RANK_1, *WIDTH, *ROWS, *META),
    )
    noise = Argument(
        lambda m: torch.randn(m.rows, 2, generator=m.generator(4)),
        (
            *(s for s in NO_TENSOR if s.label != "None"),
            *dtype(torch.float64, torch.float16, torch.int64),
            *(*RANK_0, *RANK_1, *ONE_MORE, *ROWS, *WIDTH, *META),
        ),
    )
    lonely = (*INT64, *RANK_0, *ONE_MORE, *META)
    inside = Argument(
        lambda m: 0.2 * torch.randn(m.rows, 2, generator=m.generator(3)),
        (
            *given(None, "points", 3.5, [], ["a"], [[0.1], [0.1, 0.2]]),
            *NO_FLOATS,
            *RANK_0,
            *RANK_1,
            *ONE_MORE,
            *WIDTH,
            *META,
            *value("nan", float("nan")),
            *value("inf", float("inf")),
            *value("outside", 2.0),
        ),
    )
    too_many = made("too many", lambda v, m: torch.cat([v, v[:1]]), "one to compare with")
    either = Argument(
        indices,
        (
            *(s for s in NOT_WHOLE if s.label not in ("None", "'one'", "{'a': 1}")),
            *made("None", lambda v, m: None, "()"),
            *made("a word", lambda v, m: "one", "()"),
            *RANK_0,
            *shape("three dimensions", lambda v, m: v.expand(2, 2, -1)),
        ),
    )
    return [
        Case(dense.available, {}),
        Case(
            TernaryVAE,
            {
                "n_digits": DIGITS,
                "latent_dim": positive(2, 2),
                "hidden_dim": positive(1, 4),
                "projection_layers": positive(1, 1),
                "chart_layers": positive(1, 1),
                "dropout": Argument(lambda m: 0.1, (*REALS, *given(-0.1, 1.0))),
                "curvature": Argument(lambda m: 1.0, (*REALS, *given(0.0, -1.0))),
                "learnable_curvature": flag(False),
                "max_radius": Argument(lambda m: 0.9, given("0.9", True, 0.0, 1.0, -1.0)),
                "mathematical_precision": flag(True),
            },
        ),
        Case(
            of["forward"],
            {
                "self": MODEL,
                "sequences": sequences,
                "valuation": Argument(levels, (*lonely, *ROWS)),
                "branch": BRANCHES,
                "noise": noise,
            },
        ),
        Case(
            of["branch_call"],
            {
                "self": MODEL,
                "sequences": Argument(
                    sequences.make, tuple(s for s in sequences.spoils if s.label != ROWS[0].label)
                ),
                "branch": BRANCHES,
                "noise": Argument(noise.make, (*noise.spoils, *given(None))),
                "centre": noise,
            },
        ),
        Case(
            of["prior"],
            {"self": MODEL, "branch": BRANCHES, "valuation": Argument(levels, lonely)},
        ),
        Case(of["encoder"], {"self": MODEL, "branch": BRANCHES}),
        *drawing_cases(either),
        Case(
            of["embed"],
            {"self": MODEL, "sequences_or_indices": either, "branch": BRANCHES},
        ),
        Case(of["decode"], {"self": MODEL, "points": inside, "branch": BRANCHES}),
        Case(
            of["valuation_between"],
            {
                "self": MODEL,
                "first": Argument(inside.make, (*inside.spoils, *too_many)),
                "second": Argument(
                    lambda m: inside.make(m).flip(0),
                    (*inside.spoils, *too_many),
                ),
            },
        ),
        Case(
            TernaryVAE.from_checkpoint.__func__,  # type: ignore[attr-defined]
            {
                "path": Argument(lambda m: CHECKPOINT, given(None, 3, b"model.pt", "none.pt")),
                "device": Argument(lambda m: "cpu", given("nowhere", "cuda:99", 3.5)),
            },
            TernaryVAE.from_checkpoint,
        ),
    ]


CASES = [*metric_cases(), *model_cases()]
