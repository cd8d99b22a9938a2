"""Cases of ``ternvae.manifolds``: the functions and the methods of the ball by their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ternvae.manifolds import (
    ManifoldParameter,
    PoincareBall,
    RiemannianAdam,
    WrappedNormal,
    latent,
    log_chord,
    math,
)
from ternvae.manifolds.normal import kl_monte_carlo
from ternvae.manifolds.numerics import limit_of
from tests.boundary import (
    INTEGERS,
    META,
    NO_FLOATS,
    NO_TENSOR,
    RANK_0,
    RANK_1,
    REALS,
    ROWS,
    WIDTH,
    Argument,
    C,
    Case,
    Material,
    Spoil,
    given,
    made,
    shape,
    value,
)

CURVATURE = (
    *REALS,
    *given(0.0, -1.0),
    *made("too large an integer", lambda v, m: 10**400, "inf"),
    *made("two numbers", lambda v, m: torch.ones(2), "(2,)"),
    *made("complex", lambda v, m: torch.tensor(1j), "complex"),
    *made("truth value", lambda v, m: torch.tensor(True), "bool"),
    *made("meta", lambda v, m: torch.ones((), device="meta"), "meta"),
)
DIM = given(None, True, 1.0, "0", 7, -9)
LIMIT = given((0.5, 0.5), 0.5, limit_of(torch.float32, None)._replace(target=1.5))
MAX_RADIUS = given(True, "0.9", 0.0, 1.0, -0.5, float("nan"), float("inf"))
NUMBER = (
    *REALS,
    *made("integers", lambda v, m: torch.ones(m.rows, 1, dtype=torch.int64), "int64"),
    *made("a number per coordinate", lambda v, m: torch.ones(m.rows, m.width), "size 1"),
    *made("meta", lambda v, m: torch.ones(m.rows, 1, device="meta"), "meta"),
)
NOT_FINITE = (*value("nan", float("nan")), *value("inf", float("inf")))


def points(k: int, *spoils: Spoil) -> Argument:
    return Argument(lambda m: m.points(k), (*NO_TENSOR, *NO_FLOATS, *RANK_0, *spoils))


def without_none(spoils: tuple[Spoil, ...]) -> tuple[Spoil, ...]:
    return tuple(s for s in spoils if s.label != "None")


#: Parameters that are points or vectors, which must fit each other.
VECTORS = ("x", "y", "u", "v", "p", "a", "z", "grad", "h", "xs")

#: The other parameters; flags are read for their truth.
OTHERS: dict[str, Argument] = {
    "c": Argument(lambda m: C, CURVATURE),
    "dim": Argument(lambda m: -1, DIM),
    "limit": Argument(lambda m: limit_of(m.dtype, 0.9), LIMIT),
    "max_radius": Argument(lambda m: 0.9, MAX_RADIUS),
    "t": Argument(lambda m: 0.3, NUMBER),
    "r": Argument(lambda m: 0.3, NUMBER),
    "matrix": Argument(
        lambda m: m.normal(7, 3, m.width),
        (*NO_TENSOR, *NO_FLOATS, *META, *RANK_1, *WIDTH),
    ),
    "w": Argument(lambda m: m.points(8), (*NO_TENSOR, *NO_FLOATS, *META, *WIDTH, *ROWS)),
    "weights": Argument(
        lambda m: m.normal(9, m.rows).detach().abs() + 0.1,
        (
            *without_none(NO_TENSOR),
            *NO_FLOATS,
            *META,
            *ROWS,
            *shape("too many dimensions", lambda v, m: v.expand(2, 2, m.rows)),
        ),
    ),
    "reducedim": Argument(lambda m: [0], given([], [1], [0, 0], [5], ["0"], [True])),
    "fn": Argument(lambda m: torch.tanh, given(None, 3, "tanh")),
}
OTHERS["m"] = OTHERS["matrix"]

#: Taken by a matrix product, or averaged: their rows need not be those of the other tensor.
FREE_ROWS = ("mobius_matvec", "pairwise_dist", "weighted_midpoint")


def case_of(function: Callable[..., Any], *, method: bool) -> Case:
    """The case of a function or method whose parameters have their usual names."""
    parameters = inspect.signature(function).parameters
    vectors = [name for name in parameters if name in VECTORS]
    arguments: dict[str, Argument] = {}
    for k, name in enumerate(vectors):
        spoils: tuple[Spoil, ...] = ()
        if len(vectors) > 1:
            spoils = (*META, *WIDTH, *(() if function.__name__ in FREE_ROWS else ROWS))
        if function.__name__ == "pairwise_dist":
            spoils = (*spoils, *RANK_1)
        argument = points(k, *spoils)
        if parameters[name].default is None:
            argument = Argument(argument.make, without_none(argument.spoils))
        arguments[name] = argument
    arguments |= {name: OTHERS[name] for name in parameters if name in OTHERS}
    if not method:
        return Case(function, arguments)
    arguments["ball"] = Argument(
        lambda m: PoincareBall(C, max_radius=0.95),
        made("meta", lambda v, m: PoincareBall(C).to("meta"), "meta")
        if function.__name__ != "antipode"
        else (),
    )
    return Case(function, arguments, lambda ball, **rest: function(ball, **rest))


def size_case(function: Callable[..., Any], **more: Argument) -> Case:
    """A method of the ball that takes a shape and makes points."""
    arguments = {
        "ball": Argument(lambda m: PoincareBall(C)),
        "size": Argument(
            lambda m: (m.rows, m.width),
            given((2, -1), ("2", 3), (2.5, 3), (True, 2), (2, None)),
        ),
        "dtype": Argument(lambda m: m.dtype, given(torch.float16, torch.int64, "float32", 32)),
        "device": Argument(lambda m: None, given("nowhere", "cuda:99", 3.5)),
        **more,
    }
    return Case(function, arguments, lambda ball, size, **rest: function(ball, *size, **rest))


DEVIATION = (
    *REALS,
    *given(-1.0),
    *made("meta", lambda v, m: torch.ones((), device="meta"), "meta"),
)
STD = Argument(lambda m: 0.5, DEVIATION)
INSIDE = (*NOT_FINITE, *value("outside", 2.0 / C**0.5, "sqrt(c)*norm"))
CHECKED = (*NO_TENSOR, *NO_FLOATS, *RANK_0, *META, *INSIDE)


FUNCTIONS_SPOILT = (
    *made("a number", lambda v, m: [torch.sin, 3], "int"),
    *made("None", lambda v, m: [None], "NoneType"),
)


def chained(ball: PoincareBall, x: Tensor, fns: Any, dim: Any) -> Tensor:
    return ball.mobius_fn_apply_chain(x, *fns, dim=dim)


def methods() -> list[Case]:
    """All public methods of the ball."""
    special: dict[str, Case] = {}

    def add(name: str, case: Case) -> None:
        special[name] = case

    ball = Argument(lambda m: PoincareBall(C, max_radius=0.95))
    of = vars(PoincareBall)
    add("random_normal", size_case(of["random_normal"], std=STD, mean=Argument(lambda m: 0, REALS)))
    mean = points(0, *WIDTH, *shape("more rows", lambda v, m: torch.cat([v, v, v, v])))
    add("wrapped_normal", size_case(of["wrapped_normal"], std=STD, mean=mean))
    add("origin", size_case(of["origin"]))
    for name, parameter in (("assert_check_point", "x"), ("assert_check_vector", "u")):
        add(name, Case(of[name], {"self": ball, parameter: points(0)}))
    add(
        "assert_check_point_on_manifold",
        Case(
            of["assert_check_point_on_manifold"],
            {"self": ball, "x": Argument(lambda m: m.points(), CHECKED)},
        ),
    )
    u = (*NO_TENSOR, *NO_FLOATS, *META, *WIDTH, *ROWS, *value("nan", float("nan"), "finite"))
    add(
        "assert_check_vector_on_tangent",
        Case(
            of["assert_check_vector_on_tangent"],
            {
                "self": ball,
                "x": Argument(lambda m: m.points(), CHECKED),
                "u": Argument(lambda m: m.normal(1, m.rows, m.width), u),
            },
        ),
    )
    add(
        "mobius_fn_apply_chain",
        Case(
            of["mobius_fn_apply_chain"],
            {
                "ball": ball,
                "x": points(0),
                "dim": OTHERS["dim"],
                "fns": Argument(lambda m: [torch.tanh, torch.sin], FUNCTIONS_SPOILT),
            },
            chained,
        ),
    )
    found = []
    for name, function in of.items():
        if name.startswith("_") or not inspect.isfunction(function) or name == "random":
            continue
        if len(inspect.signature(function).parameters) > 1:
            found.append(special.get(name) or case_of(function, method=True))
    return found


# --- the wrapped normal ---------------------------------------------------------------------


def law(m: Material, k: int = 0) -> WrappedNormal:
    return WrappedNormal(m.points(k), 0.5, PoincareBall(C), validate_args=True)


LAW = Argument(law)
SAMPLE_SHAPE = Argument(lambda m: (2,), given((-1,), ("2",), (2.5,), 3, None))


def normal() -> list[Case]:
    scale = (
        *(s for s in NO_TENSOR if s.label != "3.5"),
        *given(True, 0.0, -1.0, float("nan"), float("inf")),
        *NO_FLOATS,
        *META,
        *ROWS,
        *WIDTH,
        *NOT_FINITE,
        *value("below", -1.0),
    )
    outside = (*NOT_FINITE, *value("outside", 2.0 / C**0.5, "InsideBall", "support"))
    arguments = {
        "loc": Argument(
            lambda m: m.points(),
            (*NO_TENSOR, *NO_FLOATS, *RANK_0, *META, *ROWS, *WIDTH, *outside),
        ),
        "scale": Argument(lambda m: m.normal(1, m.rows, m.width).detach().abs() + 0.1, scale),
        "ball": Argument(lambda m: PoincareBall(C), given(None, C, "ball")),
        "validate_args": Argument(lambda m: True, given("no", 0)),
    }
    methods: dict[str, Argument] = {
        "rsample": SAMPLE_SHAPE,
        "rsample_with_log_prob": SAMPLE_SHAPE,
        "expand": Argument(
            lambda m: (2, m.rows), given((-1,), ("2",), (2.5,), 3, None, (2, 5), (1,))
        ),
        "log_prob": Argument(
            lambda m: m.points(3),
            (*NO_TENSOR, *NO_FLOATS, *RANK_0, *META, *ROWS, *WIDTH, *outside),
        ),
    }
    cases = [Case(WrappedNormal, arguments)]
    for name, argument in methods.items():
        function = vars(WrappedNormal)[name]
        parameter = list(inspect.signature(function).parameters)[1]
        cases.append(Case(function, {"self": LAW, parameter: argument}))
    other = made(
        "another curvature",
        lambda v, m: WrappedNormal(m.points().detach() / 2, 1.0, PoincareBall(2 * C)),
        str(2 * C),
    )
    wide = made(
        "another width",
        lambda v, m: WrappedNormal(torch.zeros(m.width + 1, dtype=m.dtype), 1.0, v.ball),
        "shapes",
    )
    laws = (*given(None, "law"), *other, *wide)
    cases.append(
        Case(
            kl_monte_carlo,
            {
                "posterior": Argument(law, laws),
                "prior": Argument(lambda m: law(m, 1), laws),
                "n_samples": Argument(lambda m: 2, (*INTEGERS, *given(0, -1))),
            },
        )
    )
    return cases


# --- from an encoder to a decoder -----------------------------------------------------------


def latent_cases() -> list[Case]:
    def radii(m: Material) -> Tensor:
        return m.normal(5, m.rows).detach().abs().requires_grad_(m.grad)

    endless = made("endless", lambda v, m: PoincareBall(C), "max_radius")
    ball = Argument(lambda m: PoincareBall(C, max_radius=0.9), (*given(None, C), *endless))
    column = (*NO_TENSOR, *NO_FLOATS, *RANK_0, *META, *ROWS)
    matrix = (*NO_TENSOR, *NO_FLOATS, *RANK_0, *RANK_1, *META, *ROWS, *WIDTH)
    # Of another width or rank, or with more rows: then radii are too few, or too many.
    direction = (*NO_TENSOR, *NO_FLOATS, *RANK_0, *META, *ROWS)
    vectors = {
        name: Argument(lambda m, k=k: m.normal(k, m.rows, m.width), matrix)
        for k, name in enumerate(("direction", "log_scale", "noise"), 1)
    }
    return [
        Case(
            latent.polar_point,
            {
                "ball": Argument(ball.make, given(None, C)),
                "direction": Argument(lambda m: m.normal(1, m.rows, m.width), direction),
                "radius": Argument(radii, column),
            },
        ),
        Case(
            latent.latent_sample,
            {
                "ball": ball,
                **vectors,
                "radius": Argument(radii, column),
                "centre": Argument(lambda m: m.points(4), without_none(matrix)),
            },
        ),
        Case(
            latent.radius_at,
            {
                "ball": ball,
                "share": Argument(
                    lambda m: torch.rand(m.rows, dtype=m.dtype, generator=m.generator(6)),
                    (*(s for s in NO_TENSOR if s.label != "3.5"), *NO_FLOATS),
                ),
            },
        ),
        Case(latent.radius_at, {"ball": ball, "share": Argument(lambda m: 0.5, REALS)}),
    ]


# --- the optimizer --------------------------------------------------------------------------


def parameters(m: Material) -> list[Any]:
    ball = PoincareBall(C)
    found = [nn.Parameter(m.normal(1, 3)), ManifoldParameter(m.points().detach(), manifold=ball)]
    for p in found:
        p.grad = torch.ones_like(p)
    return found


POSITIVE = (
    *(s for s in REALS if s.label != "nan"),
    *given(float("nan"), -1.0),
)
HYPERPARAMETERS = {
    "lr": Argument(lambda m: 0.1, (*POSITIVE, *made("two", lambda v, m: torch.ones(2), "(2,)"))),
    "eps": Argument(lambda m: 1e-8, POSITIVE),
    "weight_decay": Argument(lambda m: 0.0, POSITIVE),
    "betas": Argument(
        lambda m: (0.9, 0.99), given(None, 0.9, "ab", (0.9,), (0.9, 1.0), (0.9, "1"), (-0.1, 0.9))
    ),
    "amsgrad": Argument(lambda m: False, given(None, 1, "no")),
    "maximize": Argument(lambda m: False, given(None, 1, "no")),
    "capturable": Argument(lambda m: False, given(None, 1, "no", True)),
    "foreach": Argument(lambda m: None, given(1, "no")),
    "fused": Argument(lambda m: None, given(1, "no")),
}


def grouped(m: Material) -> list[dict[str, Any]]:
    return [{"params": parameters(m), "lr": 0.1}]


ADAM = Argument(lambda m: RiemannianAdam(parameters(m), lr=0.1))


def optimizer() -> list[Case]:
    params = (
        *given(None, 3, []),
        *made("a number", lambda v, m: [3], "int"),
        *made("a tensor", lambda v, m: m.points(), "Tensor"),
    )
    return [
        Case(
            RiemannianAdam,
            {"params": Argument(grouped, params), **HYPERPARAMETERS},
        ),
        Case(
            RiemannianAdam.add_param_group,
            {
                "self": ADAM,
                "param_group": Argument(
                    lambda m: {"params": [nn.Parameter(m.normal(5, 2))], "lr": 0.1},
                    (
                        *given(None, [], "params"),
                        *made("no params", lambda v, m: {"lr": 0.1}, "lr"),
                        *made("a bad rate", lambda v, m: {**v, "lr": -3.0}, "-3.0"),
                    ),
                ),
            },
            changes=frozenset({"self"}),
        ),
        Case(
            vars(RiemannianAdam)["step"],
            {"self": ADAM, "closure": Argument(lambda m: None, given(3, "loss"))},
            changes=frozenset({"self"}),
        ),
    ]


def chord_cases() -> list[Case]:
    distance = Argument(
        lambda m: m.normal(5, m.rows).detach().abs().requires_grad_(m.grad),
        (*NO_TENSOR, *NO_FLOATS),
    )
    learned = torch.tensor(C)
    return [
        Case(log_chord, {"distance": distance, "c": Argument(lambda m: C, CURVATURE)}),
        Case(log_chord, {"distance": distance, "c": Argument(lambda m: learned, META)}),
    ]


def constructors() -> list[Case]:
    return [
        Case(
            PoincareBall,
            {
                "c": Argument(lambda m: C, CURVATURE),
                "max_radius": Argument(lambda m: 0.9, MAX_RADIUS),
                "learnable": Argument(lambda m: False, given(None, 1, "no")),
            },
        ),
        Case(
            PoincareBall,
            {
                "c": Argument(
                    lambda m: torch.tensor(C, dtype=m.dtype, requires_grad=m.grad),
                    (*value("nan", float("nan")), *value("below", -1.0), *META),
                )
            },
        ),
    ]


FUNCTIONS = [case_of(getattr(math, name), method=False) for name in math.__all__]
CASES = [
    *FUNCTIONS,
    *constructors(),
    *methods(),
    *normal(),
    *latent_cases(),
    *chord_cases(),
    *optimizer(),
]
