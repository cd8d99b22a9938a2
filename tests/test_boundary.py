"""The boundary of the library: what does not fit is refused before anything is computed.

One registry of all public functions (``tests/boundary_geometry.py``, ``tests/boundary_cases.py``,
``tests/boundary_models.py``, ``tests/boundary_rooms.py``, ``tests/boundary_runs.py`` and
``tests/boundary_structure.py``), and properties that run over all of it. A public name without a
case fails, too.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ternvae import (
    analysis,
    baselines,
    ceilings,
    checkpoint,
    config,
    losses,
    manifolds,
    metrics,
    models,
    padic,
    plots,
    pretrained,
    report,
    trainer,
    validation,
)
from ternvae.manifolds import PoincareBall, RiemannianAdam, WrappedNormal, latent, normal
from ternvae.manifolds import math as geometry
from ternvae.models import branch, dense, layers
from tests import (
    boundary_baselines,
    boundary_cases,
    boundary_geometry,
    boundary_models,
    boundary_plots,
    boundary_report,
    boundary_rooms,
    boundary_runs,
    boundary_structure,
)
from tests.boundary import (
    NO_TENSOR,
    Argument,
    Case,
    Material,
    check_documented,
    check_spoilt,
    check_valid,
    on_disk,
    says_check_free,
    value,
)

CASES = [
    *(*boundary_geometry.CASES, *boundary_cases.CASES),
    *(*boundary_models.CASES, *boundary_rooms.CASES, *boundary_runs.CASES),
    *(
        *boundary_structure.CASES,
        *boundary_baselines.CASES,
        *boundary_plots.CASES,
        *boundary_report.CASES,
    ),
]
MODULES = (
    *(padic, manifolds, geometry, normal, latent, models, branch, dense),
    *(metrics, losses, ceilings),
    *(config, checkpoint, trainer, validation, analysis, baselines, plots, pretrained, report),
)
CLASSES = (
    PoincareBall,
    RiemannianAdam,
    WrappedNormal,
    *(models.TernaryVAE, models.LevelMixture),
    metrics.Evaluator,
    *(padic.TernarySpace, padic.Holdout),
    baselines.LinearUltrametric,
    baselines.PointTable,
    config.Profile,
    trainer.Trainer,
)

#: These hold what they are given and compute nothing.
HOLDERS = (
    *(losses.GeometryLosses, models.BranchOutput, layers.Polar, metrics.Metrics),
    *(latent.LatentSample, padic.HoldoutSizes),
    *(metrics.SiblingRetrieval, metrics.TripletTable, metrics.Hyperbolicity, metrics.Structure),
    *(metrics.Distortion, metrics.Stretch, metrics.MonotoneChange, metrics.LevelFrequencies),
    *(models.Interpolation, models.Samples, models.LevelMixture),
    *(config.Problem, trainer.TrainingResult, validation.Check),
    *(plots.Picture, plots.PairSample, plots.Subject),
    *(analysis.Analysis, analysis.Difference, analysis.LevelRow, report.RunFacts),
)

#: What runs compiled code for those above, which have checked what they pass on.
TRUSTING = (
    *(latent.LatentCall, latent.Values, branch.BranchCall, branch.run_branch),
    *(dense.Wiring, dense.Call, dense.prepare, dense.run),
)

materials = st.builds(
    Material,
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 4),
    width=st.integers(2, 4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    n_digits=st.integers(2, 3),
    grad=st.booleans(),
)
# Every example goes through all arguments and all ways to spoil them.
few = settings(max_examples=4, deadline=None)
some = settings(max_examples=10, deadline=None)
every_case = pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{k}-{case.name}") for k, case in enumerate(CASES)]
)


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_written_where_nobody_asked(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """All of it runs in an empty folder, which stays empty."""
    folder = tmp_path_factory.mktemp("empty")
    with contextlib.chdir(folder):
        yield
    assert on_disk(folder) == {}


@every_case
@some
@given(materials)
def test_valid_arguments_are_taken_and_left_as_they_are(case: Case, material: Material) -> None:
    check_valid(case, material)


@every_case
@few
@given(materials)
def test_spoilt_arguments_are_refused_by_what_is_wrong(case: Case, material: Material) -> None:
    check_spoilt(case, material)


@every_case
def test_who_trusts_values_says_so(case: Case) -> None:
    check_documented(case, Material(1, 2, 3, torch.float64, 2, False))


@pytest.mark.parametrize("case", boundary_geometry.FUNCTIONS, ids=lambda case: case.name)
@few
@given(materials)
def test_what_is_not_a_number_stays_one_where_values_are_trusted(
    case: Case, material: Material
) -> None:
    for name in case.arguments:
        arguments = case.made(material)
        if not isinstance(arguments[name], Tensor):
            continue
        (spoil,) = value("nan", float("nan"))
        arguments[name] = spoil.make(arguments[name], material)
        assert bool(case.run(arguments).isnan().any()), f"{case.name} lost the NaN in {name}"


# --- all of them ----------------------------------------------------------------------------


def checks_itself(thing: Any) -> bool:
    """Whether a public name computes something of ours from what it is given."""
    if not callable(thing) or not getattr(thing, "__module__", "").startswith("ternvae"):
        return False
    described = getattr(thing, "_is_protocol", False)
    return not (inspect.isclass(thing) and (described or issubclass(thing, Exception)))


def public(modules: Iterable[ModuleType], classes: Iterable[type]) -> dict[str, Any]:
    """Public functions, classes and methods that take arguments, by name."""
    found = {}
    for module in modules:
        for name in module.__all__:
            thing = getattr(module, name)
            if checks_itself(thing):
                found[f"{module.__name__}.{name}"] = thing
    for owner in classes:
        for name, attribute in vars(owner).items():
            method = getattr(attribute, "__func__", attribute)
            if not inspect.isfunction(method) or (name.startswith("_") and name != "__call__"):
                continue
            if len(inspect.signature(method).parameters) > 1:
                found[f"{owner.__name__}.{name}"] = method
    return found


def without_case(modules: Iterable[ModuleType], classes: Iterable[type]) -> list[str]:
    # Unwrapped: torch wraps the step of an optimizer once more when the first one is made.
    subjects = (case.subject for case in CASES)
    covered = [inspect.unwrap(thing) for thing in (*subjects, *HOLDERS, *TRUSTING)]
    return [
        name
        for name, thing in public(modules, classes).items()
        if not any(inspect.unwrap(thing) is subject for subject in covered)
    ]


def test_every_public_name_has_a_case() -> None:
    assert without_case(MODULES, CLASSES) == []


#: Flags are read for their truth; tolerances and geoopt's seed are used as they are.
NOT_SPOILT = {
    *("self", "cls", "_instance", "atol", "rtol", "ok_point", "seed"),
    *("keepdim", "project", "lincomb", "posweight", "signed", "scaled"),
}


def test_every_argument_is_spoilt_somewhere() -> None:
    spoilt: dict[str, set[str]] = {}
    for case in CASES:
        names = {name for name, argument in case.arguments.items() if argument.spoils}
        spoilt.setdefault(case.name, set()).update(names)
    for case in CASES:
        parameters = inspect.signature(case.subject).parameters.values()
        named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        assert named - NOT_SPOILT <= spoilt[case.name], case.name


@pytest.mark.parametrize("constant", boundary_rooms.CONSTANTS)
def test_what_is_done_to_a_constant_changes_no_other(constant: Callable[[], Any]) -> None:
    first, told = constant(), repr(constant())
    assert repr(first) == told
    boundary_rooms.ruin(first)
    assert repr(first) != told
    assert repr(constant()) == told


@pytest.mark.parametrize("trusting", [*HOLDERS, *TRUSTING])
def test_who_checks_nothing_says_so(trusting: Any) -> None:
    assert says_check_free(trusting)


# --- the nets hold --------------------------------------------------------------------------


def unchecked(x: Tensor) -> Tensor:
    """The sum."""
    return torch.as_tensor(x).sum()


def mutating(x: Tensor) -> Tensor:
    """The sum, and one thing more."""
    x.detach().add_(1.0)
    return x.sum()


def mutating_when_refusing(x: Tensor) -> Tensor:
    """Clamps, then notices."""
    if bool(x.isnan().any()):
        x.detach().nan_to_num_()
        raise ValueError("x: got nan")
    return x.sum()


def raising_late(x: Tensor) -> Tensor:
    """Whatever torch raises; check-free."""
    return x.reshape(7, 7, 7)


def tight_lipped(x: Tensor) -> Tensor:
    """Refuses without a reason."""
    if bool(x.isnan().any()):
        raise ValueError("bad argument")
    return x.sum()


def keeping_a_gradient(x: Tensor) -> Tensor:
    """The sum, differentiated on the caller's tensor."""
    x.requires_grad_()
    x.sum().backward()
    return x.sum()


MATERIAL = Material(1, 2, 3, torch.float64, 2, False)
NAN = value("nan", float("nan"))


def caught(function: Any, *, spoils: Any = NAN) -> tuple[bool, bool, bool]:
    """Whether each of the three properties fails for the function."""
    case = Case(function, {"x": Argument(lambda m: m.points(), spoils)})
    found = []
    for check in (check_valid, check_spoilt, check_documented):
        try:
            check(case, MATERIAL)
        except (AssertionError, RuntimeError):
            found.append(True)
        else:
            found.append(False)
    return found[0], found[1], found[2]


def honest(x: Tensor) -> Tensor:
    """The sum of what is a number."""
    if bool(x.isnan().any()):
        raise ValueError("x: got nan")
    return x.sum()


def test_an_honest_function_passes() -> None:
    assert caught(honest) == (False, False, False)


@pytest.mark.parametrize(
    ("function", "spoils", "expected"),
    [
        (unchecked, NAN, (False, True, False)),
        (unchecked, NO_TENSOR[3:], (False, True, True)),
        (mutating, NAN, (True, True, False)),
        (mutating_when_refusing, NAN, (False, True, False)),
        (keeping_a_gradient, NAN, (True, True, False)),
        (raising_late, NO_TENSOR[:1], (True, True, False)),
        (tight_lipped, NAN, (False, True, False)),
    ],
)
def test_a_dishonest_function_is_caught(function: Any, spoils: Any, expected: Any) -> None:
    assert caught(function, spoils=spoils) == expected


def test_a_new_name_without_a_case_is_caught() -> None:
    module = ModuleType("ternvae.new")

    def added(x: Tensor) -> Tensor:
        return x

    added.__module__ = "ternvae.new"
    module.__all__, module.added = ["added"], added  # type: ignore[attr-defined]
    assert without_case([module], []) == ["ternvae.new.added"]

    class Ball(PoincareBall):
        def area(self, radius: float) -> float:
            return radius

    assert without_case([], [Ball]) == ["Ball.area"]
