"""Checks that can fail: everything is broken once on purpose, and the right line must say so."""

from __future__ import annotations

import contextlib
import platform
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ternvae import ceilings, checkpoint, losses, manifolds, metrics, models, padic, validation
from ternvae.manifolds import math, programs
from ternvae.metrics import levels, ranks
from ternvae.models import dense, layers, vae
from ternvae.padic import space as space_module
from ternvae.validation import (
    GROUPS,
    Check,
    check_line,
    checks,
    environment,
    hardware,
    run_checks,
)

Break = Callable[[pytest.MonkeyPatch], None]

WANTED_GROUPS = [
    *("environment", "gpu", "p-adic", "geometry", "architecture"),
    *("losses", "metrics", "checkpoint", "precision"),
]


def failures(*groups: str, device: str = "cpu") -> dict[str, str]:
    """The names of the checks of these groups that fail, with their figures."""
    return {
        check.name: check.figure
        for check in run_checks(device, groups=groups or None)
        if not check.passed
    }


@pytest.fixture(scope="module")
def healthy() -> list[Check]:
    return list(run_checks())


# --- the healthy package --------------------------------------------------------------------


def test_all_checks_pass(healthy: list[Check]) -> None:
    assert [check_line(check) for check in healthy if not check.passed] == []


def test_every_group_is_there_in_order_and_no_name_twice(healthy: list[Check]) -> None:
    assert list(GROUPS) == WANTED_GROUPS
    assert [(c.group, c.name) for c in healthy] == [(g, name) for g in GROUPS for name in GROUPS[g]]
    assert all(list(GROUPS[group]) for group in WANTED_GROUPS)


def test_every_figure_is_one_line_with_something_in_it(healthy: list[Check]) -> None:
    for check in healthy:
        assert check.figure.strip() == check.figure != ""
        assert "\n" not in check.figure
        assert 0 <= check.seconds < 30


def test_figures_name_what_they_measured(healthy: list[Check]) -> None:
    figure = {(c.group, c.name): c.figure for c in healthy}
    assert figure["environment", "python"].startswith(platform.python_version())
    declared = environment.declared_ranges()["torch"]
    version = environment.metadata.version("torch")
    assert figure["environment", "torch"] == f"{version} (declared: {declared})"
    parameters = sum(p.numel() for p in models.TernaryVAE().parameters())
    assert figure["architecture", "parameters"].startswith(f"{parameters:,}; ")
    assert "GiB" in figure["gpu", "host memory"]
    assert re.search(r"[\d.e-]+ \(at most 2.5e-07\)", figure["geometry", "distance"])
    if not torch.cuda.is_available():
        assert "none" in figure["gpu", "gpu"] and "CPU" in figure["gpu", "gpu"]


def test_lines_are_aligned(healthy: list[Check]) -> None:
    lines = [check_line(check) for check in healthy]
    starts = {line.index(check.figure) for line, check in zip(lines, healthy, strict=True)}
    assert len(starts) == 1
    for line, check in zip(lines, healthy, strict=True):
        assert re.split(r"\s{2,}", line)[:3] == ["PASS", check.group, check.name]


def test_the_line_of_a_failure() -> None:
    line = check_line(Check("geometry", "distance", False, "off by 1 (at most 0)"))
    assert re.fullmatch(r"FAIL  geometry      distance {2,}off by 1 \(at most 0\)", line)


def test_the_same_figures_every_time_and_no_trace_in_the_random_state() -> None:
    groups = ("p-adic", "geometry", "losses", "precision")
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = [c.figure for c in run_checks(groups=groups)]
    assert torch.equal(torch.rand(3), expected)
    assert first == [c.figure for c in run_checks(groups=groups)]


def test_gradients_are_checked_even_where_they_are_switched_off() -> None:
    with torch.no_grad():
        assert failures("losses") == {}


def test_checks_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def note(device: torch.device) -> checks.Finding:
        ran.append(device.type)
        return checks.Finding(True, "fine")

    monkeypatch.setattr(validation, "GROUPS", {"gpu": {"one": note, "two": note}})
    found = run_checks()
    assert ran == []
    assert next(found).name == "one"
    assert ran == ["cpu"]
    assert [check.name for check in found] == ["two"]


def test_unknown_devices_and_groups_are_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="'toaster' is not the name of a device"):
        run_checks("toaster")
    with pytest.raises(ValueError, match="no group 'geometric'; choose from environment, gpu"):
        run_checks(groups=["geometric"])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_checks_pass_on_a_gpu() -> None:
    found = list(run_checks("cuda"))
    assert [check_line(check) for check in found if not check.passed] == []
    assert any("GiB" in check.figure for check in found if check.name == "gpu")


# --- exceptions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "figure"),
    [
        (RuntimeError("no such thing\nand a second line"), "RuntimeError: no such thing"),
        (KeyError("weight"), "KeyError: 'weight'"),
        (AssertionError(), "AssertionError"),
        (ValueError("long " * 100), "ValueError: " + ("long " * 100)[:185] + "..."),
    ],
)
def test_what_raises_fails_in_one_line_and_the_rest_runs(
    monkeypatch: pytest.MonkeyPatch, error: Exception, figure: str
) -> None:
    def broken(device: torch.device) -> checks.Finding:
        raise error

    def sound(device: torch.device) -> checks.Finding:
        return checks.Finding(True, "fine")

    monkeypatch.setattr(validation, "GROUPS", {"p-adic": {"a": broken, "b": sound}})
    first, second = run_checks()
    assert (first.passed, first.figure) == (False, figure)
    assert (second.passed, second.figure) == (True, "fine")


def test_ctrl_c_is_not_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(device: torch.device) -> checks.Finding:
        raise KeyboardInterrupt

    monkeypatch.setattr(validation, "GROUPS", {"p-adic": {"a": interrupted}})
    with pytest.raises(KeyboardInterrupt):
        list(run_checks())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_gpu_that_is_not_there_fails_every_check_that_needs_it() -> None:
    found = list(run_checks("cuda", groups=["gpu", "p-adic"]))
    assert len(found) == len(GROUPS["gpu"]) + len(GROUPS["p-adic"])
    gpu = next(check for check in found if check.name == "gpu")
    assert not gpu.passed and "\n" not in gpu.figure


# --- how figures are judged -----------------------------------------------------------------


def test_nan_passes_nothing() -> None:
    nan = float("nan")
    assert not checks.at_most("error", nan, 1.0).passed
    assert not checks.inside("points", nan, 0.95).passed
    assert checks.worst([0.1, nan, 0.2]) != checks.worst([0.1, nan, 0.2])
    assert checks.worst([]) != checks.worst([])
    assert checks.worst([0.1, 0.3, 0.2]) == 0.3


def test_nothing_looked_at_is_nothing_shown() -> None:
    assert not checks.none_of(0, 0, "are wrong").passed
    assert not checks.none_of(1, 5, "are wrong").passed
    assert checks.none_of(0, 5, "are wrong") == (True, "0 of 5 are wrong")


def test_narrow_misses_are_not_rounded_away() -> None:
    assert checks.inside("points", 0.95, 0.95).passed
    assert checks.inside("points", 0.95 + 1e-12, 0.95) == (False, "points 1e-12 beyond 0.95")


@pytest.mark.parametrize(
    ("version", "declared", "good"),
    [
        ("2.13.0+cpu", ">=2.13,<3", True),
        ("2.12.9", ">=2.13,<3", False),
        ("3.0.0", ">=2.13,<3", False),
        ("3", "<3.0", False),
        ("2.9", ">=2.10", False),
        ("2.13.0rc1", ">=2.13", True),
        ("1.5", "!=1.5.0", False),
        ("1.5", " >= 1.4 , <= 1.5 , == 1.5 , > 1.4.9", True),
        ("0.1", "", True),
    ],
)
def test_versions_and_ranges(version: str, declared: str, good: bool) -> None:
    assert environment.satisfies(version, declared) is good


@pytest.mark.parametrize("declared", ["~=2.0", "==2.*", "2.0"])
def test_ranges_that_cannot_be_read_are_not_guessed(declared: str) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        environment.satisfies("2.0", declared)


def test_requirements_in_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch<3,>=2.13", "scipy (>=1.13)", "click[extra]>=8.1", "tqdm", 'x>1; extra == "t"']
    monkeypatch.setattr(environment.metadata, "requires", lambda name: lines)
    assert environment.declared_ranges() == {
        "torch": ">=2.13,<3",
        "scipy": ">=1.13",
        "click": ">=8.1",
        "tqdm": "",
    }
    monkeypatch.setattr(environment.metadata, "requires", lambda name: ["torch @ file:///x"])
    with pytest.raises(ValueError, match="cannot read the requirement"):
        environment.declared_ranges()


# --- broken on purpose ------------------------------------------------------------------------


def old_python(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(platform, "python_version", lambda: "3.10.9")


def old_libraries(patch: pytest.MonkeyPatch) -> None:
    version = environment.metadata.version
    patch.setattr(
        environment.metadata,
        "version",
        lambda name: "0.9" if name in {"torch", "click"} else version(name),
    )


def not_installed(patch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise environment.metadata.PackageNotFoundError(name)

    patch.setattr(environment.metadata, "metadata", missing)


def tiles_off(patch: pytest.MonkeyPatch) -> None:
    """Programs that drift from the rules, or rules that do where there are no programs."""
    vmapped = torch.func.vmap
    patch.setattr(torch.func, "vmap", lambda f: lambda *x: vmapped(f)(*x) * (1 + 1e-9))


def unseeded(patch: pytest.MonkeyPatch) -> None:
    loss = losses.kl_loss
    patch.setattr(losses, "kl_loss", lambda q, p: loss(q, p) * (1 + random.random()))


def little_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hardware, "_bytes_of_host", lambda: 2**20)


def one_too_much(patch: pytest.MonkeyPatch) -> None:
    true = padic.valuation
    patch.setattr(space_module, "valuation", lambda n, cap: (true(n, cap=cap) + 1).clamp(max=cap))


def blind_to_signs(patch: pytest.MonkeyPatch) -> None:
    true = padic.valuation

    def wrong(n: Any, p: int = 3, cap: Any = None) -> Any:
        return 0 if isinstance(n, int) and n < 0 else true(n, p, cap)

    patch.setattr(padic, "valuation", wrong)


def ordinary_distance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(padic.TernarySpace, "distance", lambda self, i, j: (i - j).abs() / self.size)


def wrong_level_sizes(patch: pytest.MonkeyPatch) -> None:
    sizes = padic.TernarySpace.level_sizes
    patch.setattr(padic.TernarySpace, "level_sizes", lambda self: sizes(self)[::-1])


def most_significant_first(patch: pytest.MonkeyPatch) -> None:
    """Consistent both ways, so that only the definition finds it."""
    digits_of, indices_of = space_module.digits_of, space_module.indices_of
    patch.setattr(space_module, "digits_of", lambda i, n_digits: digits_of(i, n_digits=9).flip(-1))
    patch.setattr(space_module, "indices_of", lambda digits: indices_of(digits.flip(-1)))


def repeats_in_an_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(space_module, "permute", lambda i, keys, n_digits: i // 2 * 2)


def no_shuffle(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(space_module, "permute", lambda i, keys, n_digits: i)


def wrong_sign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(math, "mobius_add", math.mobius_sub)


def nan_distance(patch: pytest.MonkeyPatch) -> None:
    true = math.dist
    patch.setattr(math, "dist", lambda *a, **k: true(*a, **k) * float("nan"))


def distance_off_by_1e_9(patch: pytest.MonkeyPatch) -> None:
    true = math.dist
    patch.setattr(math, "dist", lambda *a, **k: true(*a, **k) * (1 + 1e-9))


def squared_distance(patch: pytest.MonkeyPatch) -> None:
    true = math.dist
    patch.setattr(math, "dist", lambda *a, **k: true(*a, **k).square())


def forgets_the_curvature(patch: pytest.MonkeyPatch) -> None:
    true = math.dist0
    patch.setattr(math, "dist0", lambda x, c, **k: true(x, c=1.0, **k))


def forgets_the_limit(patch: pytest.MonkeyPatch) -> None:
    true = math.expmap0
    patch.setattr(math, "expmap0", lambda u, c, dim, limit: true(u, c=c, dim=dim))


def naive_logarithm(patch: pytest.MonkeyPatch) -> None:
    """Right away from the origin, and 0/0 in it."""

    def naive(x: Tensor, c: Any, dim: int = -1) -> Tensor:
        s = c**0.5 * x.double().norm(dim=dim, keepdim=True)
        return (s.atanh() / s * x).to(x.dtype)

    patch.setattr(math, "logmap0", naive)


def reciprocal_gradient(patch: pytest.MonkeyPatch) -> None:
    """Right values, and gradients twice as long as they should be."""
    true = math.dist0

    def doubled(x: Tensor, **k: Any) -> Tensor:
        return true(2 * x - x.detach(), **k)

    patch.setattr(math, "dist0", doubled)


def no_stretch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("ternvae.manifolds.numerics.log_sinh_ratio", torch.zeros_like)


def idle_optimizer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(manifolds.RiemannianAdam, "step", lambda self: None)


class EuclideanDescent(torch.optim.SGD):
    """Knows no ball, and leaves it."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=10 * lr)


def euclidean_optimizer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(manifolds, "RiemannianAdam", EuclideanDescent)


def nan_encoder(patch: pytest.MonkeyPatch) -> None:
    forward, embed = models.TernaryVAE.forward, models.TernaryVAE.embed

    def broken(self: Any, *args: Any) -> models.BranchOutput:
        out = forward(self, *args)
        return out._replace(points=out.points * float("nan"))

    patch.setattr(models.TernaryVAE, "forward", broken)
    patch.setattr(models.TernaryVAE, "embed", lambda *a: embed(*a) * float("nan"))


def wrong_shape(patch: pytest.MonkeyPatch) -> None:
    forward = models.TernaryVAE.forward

    def broken(self: Any, *args: Any) -> models.BranchOutput:
        out = forward(self, *args)
        return out._replace(logits=out.logits.mT)

    patch.setattr(models.TernaryVAE, "forward", broken)


def points_outside(patch: pytest.MonkeyPatch) -> None:
    embed = models.TernaryVAE.embed
    patch.setattr(models.TernaryVAE, "embed", lambda *a: embed(*a) * (1 + 1e-5))


def inexact_layers(patch: pytest.MonkeyPatch) -> None:
    """Gradients of weights a thousandth too long, as a bad compiler might make them."""
    if not dense.available():
        pytest.skip("the extension was not compiled: no C compiler")
    genuine = dense.Call.backward

    def backward(self: dense.Call, *arguments: Any) -> list[Tensor | None]:
        return [None if g is None else 1.001 * g for g in genuine(self, *arguments)]

    patch.setattr(dense.Call, "backward", backward)


def inexact_pairs(patch: pytest.MonkeyPatch) -> None:
    """Gradients of points a ten thousandth too long."""
    pairs = losses.ultrametric
    if pairs._pairs is None:  # type: ignore[attr-defined]
        pytest.skip("the extension was not compiled: no C compiler")
    genuine = pairs.add_gradient

    def add_gradient(*arguments: Any, to_points: Tensor, **keywords: Any) -> float:
        found = genuine(*arguments, to_points=to_points, **keywords)
        to_points *= 1.0001
        return found

    patch.setattr(pairs, "add_gradient", add_gradient)


def endless_slopes(patch: pytest.MonkeyPatch) -> None:
    """A scale without a bottom: points that coincide are pulled without end."""

    def bare(distance: Tensor, c: Any) -> Tensor:
        return torch.log(torch.sinh(distance * c**0.5 / 2).square())

    patch.setattr(losses.ultrametric, "log_chord", bare)


def no_divergence(patch: pytest.MonkeyPatch) -> None:
    """Nothing is left that could teach the prior."""
    patch.setattr(losses, "kl_loss", lambda q, p: torch.zeros(()))


def decoder_remembers(patch: pytest.MonkeyPatch) -> None:
    """What was encoded last reaches the decoder behind the back of the points."""
    embed, decode = models.TernaryVAE.embed, models.TernaryVAE.decode
    seen: dict[str, int] = {}

    def noting(self: Any, rows: Any, branch: str = "B") -> Tensor:
        seen["sum"] = int(rows.sum())
        return embed(self, rows, branch)

    def leaking(self: Any, points: Tensor, branch: str = "B") -> Tensor:
        decoded = decode(self, points, branch)
        return torch.where(decoded == 1, seen["sum"] % 3 - 1, decoded)

    patch.setattr(models.TernaryVAE, "embed", noting)
    patch.setattr(models.TernaryVAE, "decode", leaking)


def decoder_is_blind(patch: pytest.MonkeyPatch) -> None:
    decode = models.TernaryVAE.decode
    patch.setattr(models.TernaryVAE, "decode", lambda self, p, b="B": decode(self, 0 * p, b))


def decoder_left_out(patch: pytest.MonkeyPatch) -> None:
    modules = models.TernaryVAE.coverage_modules
    patch.setattr(models.TernaryVAE, "coverage_modules", lambda self: modules(self)[:1])


def times(name: str, factor: float) -> Break:
    def apply(patch: pytest.MonkeyPatch) -> None:
        true = getattr(losses, name)
        patch.setattr(losses, name, lambda *a, **k: factor * true(*a, **k))

    return apply


def term(name: str, broken: Callable[..., Tensor]) -> Break:
    """One of the terms on radii is something else, made of what it is and of its arguments."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        true = losses.geometry_losses

        def changed(radius: Tensor, valuation: Tensor, **keywords: Any) -> losses.GeometryLosses:
            found = true(radius, valuation, **keywords)
            membership = losses.level_membership(valuation, keywords["n_digits"], radius.dtype)
            floor = keywords["richness_floor"]
            return found._replace(**{name: broken(getattr(found, name), radius, membership, floor)})

        patch.setattr(losses, "geometry_losses", changed)

    return apply


def term_times(name: str, factor: float) -> Break:
    return term(name, lambda true, *_: factor * true)


def shifted_shells(patch: pytest.MonkeyPatch) -> None:
    true = losses.shell_offset
    patch.setattr(losses, "shell_offset", lambda *a, **k: true(*a, **k) + 0.5)


def levels_may_collapse(patch: pytest.MonkeyPatch) -> None:
    """The mean alone: what one level loses another can make good."""

    def overall(_: Tensor, radius: Tensor, membership: Tensor, floor: float) -> Tensor:
        count = membership.sum(0)
        mean = radius @ membership / count.clamp_min(1)
        variance = (radius - membership @ mean).square() @ membership / count.clamp_min(1)
        return torch.relu(1 - variance.mean() / floor)

    term("richness", overall)(patch)


def rooted_variance(patch: pytest.MonkeyPatch) -> None:
    """A standard deviation has no slope at 0, which is where it is needed."""

    def broken(_: Tensor, radius: Tensor, membership: Tensor, floor: float) -> Tensor:
        return torch.relu(floor**0.5 - radius.var(correction=0).sqrt())

    term("richness", broken)(patch)


def ranks_without_ties(patch: pytest.MonkeyPatch) -> None:
    """The first rank of a class instead of the one in its middle."""

    def first_ranks(counts: Any) -> Any:
        before = counts.cumsum() - counts
        centres = before - before @ counts / counts.sum()
        return centres, float(counts @ centres**2)

    patch.setattr(ranks, "_class_ranks", first_ranks)


def sign_of_hierarchy(patch: pytest.MonkeyPatch) -> None:
    true = levels.sorted_correlation
    patch.setattr(levels, "sorted_correlation", lambda parts, whole: -true(parts, whole))


def random_metric(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(metrics.Evaluator, "_triplet_accuracy", lambda *_: float(torch.rand(())))


def sample_variance(patch: pytest.MonkeyPatch) -> None:
    true = levels.level_moments

    def unbiased(parts: Any) -> Any:
        mean, variance = true(parts)
        return mean, variance * 1.5

    patch.setattr(levels, "level_moments", unbiased)


def wrong_ceilings(patch: pytest.MonkeyPatch) -> None:
    true = ceilings.ceilings
    patch.setattr(ceilings, "ceilings", lambda n: {**true(n), "hierarchy": -0.8321})


def saving(change: Callable[[dict[str, Any]], object]) -> Break:
    """Save something else than what was given."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        true = checkpoint.save_checkpoint

        def changed(path: Path, contents: dict[str, Any]) -> None:
            state = dict(contents["model_state_dict"])
            copied = {**contents, "model_state_dict": state}
            copied["model_config"] = dict(contents["model_config"])
            change(copied)
            true(path, copied)

        patch.setattr(checkpoint, "save_checkpoint", changed)

    return apply


def _perturb(contents: dict[str, Any]) -> None:
    state = contents["model_state_dict"]
    state["prototypes"] = state["prototypes"] + 1e-8


def _drop(contents: dict[str, Any]) -> None:
    contents["model_state_dict"].popitem()


def _forget_moments(contents: dict[str, Any]) -> None:
    contents["optimizer_state_dict"] = {"state": {}, "param_groups": []}


def _forget_radius(contents: dict[str, Any]) -> None:
    del contents["model_config"]["max_radius"]


def lenient_loader(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "load_checkpoint", lambda path: {})


def unhelpful_loader(patch: pytest.MonkeyPatch) -> None:
    def load(path: Path) -> Any:
        return torch.load(path, weights_only=True)

    patch.setattr(checkpoint, "load_checkpoint", load)


def careless_loader(patch: pytest.MonkeyPatch) -> None:
    """Runs what is in the file, and asks no further."""

    def load(path: Path) -> Any:
        try:
            return torch.load(path, weights_only=False)
        except Exception as error:
            raise checkpoint.CheckpointError(str(error)) from error

    patch.setattr(checkpoint, "load_checkpoint", load)


def rounded_embedding(patch: pytest.MonkeyPatch) -> None:
    embed = models.TernaryVAE.embed

    def rounded(self: Any, rows: Any, branch: str = "B") -> Tensor:
        points = embed(self, rows, branch)
        return points if points.dtype == torch.float64 else points.bfloat16().float()

    patch.setattr(models.TernaryVAE, "embed", rounded)


def coarse_autocast(patch: pytest.MonkeyPatch) -> None:
    linear = torch.nn.functional.linear

    def coarse(x: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
        return (linear(x, weight, bias) * 8).round() / 8

    patch.setattr(torch.nn.functional, "linear", coarse)


def geometry_in_bfloat16(patch: pytest.MonkeyPatch) -> None:
    for room in (layers, vae):
        patch.setattr(room, "full_precision", lambda tensor: contextlib.nullcontext())


def half_precision_points(patch: pytest.MonkeyPatch) -> None:
    true = math.dist0
    patch.setattr(math, "dist0", lambda x, **k: true(x.float(), **k))


# Left out below where they are not the ones to fail; they look at the whole space or at training.
SLOW = {"metrics repeat themselves", "same seed, same bits"}

# What is broken, the group that is run, and the checks of it that must fail.
BREAKS: list[tuple[Break, str, set[str]]] = [
    (old_python, "environment", {"python"}),
    (old_libraries, "environment", {"torch", "other libraries"}),
    (not_installed, "environment", {"python"}),
    (tiles_off, "environment", {"compiled tiles"}),
    (unseeded, "environment", {"same seed, same bits"}),
    (little_memory, "gpu", {"host memory"}),
    (one_too_much, "p-adic", {"valuation by division", "3-adic distance", "level sizes"}),
    (blind_to_signs, "p-adic", {"valuation by division"}),
    (ordinary_distance, "p-adic", {"3-adic distance", "ultrametric inequality"}),
    (wrong_level_sizes, "p-adic", {"level sizes"}),
    (most_significant_first, "p-adic", {"index and digits"}),
    (repeats_in_an_epoch, "p-adic", {"shuffled batches"}),
    (no_shuffle, "p-adic", {"shuffled batches"}),
    (wrong_sign, "geometry", {"Moebius addition"}),
    (
        nan_distance,
        "geometry",
        {"distance", "triangle inequality", "gradients", "Riemannian Adam"},
    ),
    (distance_off_by_1e_9, "geometry", {"distance", "triangle inequality"}),
    (squared_distance, "geometry", {"distance", "triangle inequality"}),
    (forgets_the_curvature, "geometry", {"distance from the origin"}),
    (forgets_the_limit, "geometry", {"max_radius"}),
    (naive_logarithm, "geometry", {"gradients", "log at the origin"}),
    (reciprocal_gradient, "geometry", {"gradients"}),
    (no_stretch, "geometry", {"wrapped normal"}),
    (idle_optimizer, "geometry", {"Riemannian Adam"}),
    (euclidean_optimizer, "geometry", {"Riemannian Adam"}),
    (nan_encoder, "architecture", {"forward pass", "points within max_radius"}),
    (wrong_shape, "architecture", {"forward pass"}),
    (points_outside, "architecture", {"points within max_radius"}),
    (no_divergence, "architecture", {"gradient of every parameter"}),
    (inexact_layers, "architecture", {"float32 like float64"}),
    (decoder_remembers, "architecture", {"decoder sees the point alone"}),
    (decoder_is_blind, "architecture", {"decoder sees the point alone"}),
    (decoder_left_out, "architecture", {"freezing branch A"}),
    (idle_optimizer, "architecture", {"freezing branch A"}),
    (times("reconstruction_loss", 1 / 9), "losses", {"reconstruction"}),
    (times("kl_loss", -1), "losses", {"divergence"}),
    (term_times("hierarchy", 2), "losses", {"hierarchy"}),
    (term_times("separation", 0.5), "losses", {"separation"}),
    (term_times("richness", 2), "losses", {"richness"}),
    (times("ultrametric_loss", 2), "losses", {"ultrametric"}),
    (inexact_pairs, "losses", {"ultrametric"}),
    (endless_slopes, "losses", {"ultrametric", "finite gradients"}),
    (shifted_shells, "losses", {"hierarchy", "separation", "zero at ideal shells"}),
    (levels_may_collapse, "losses", {"richness", "collapsed levels"}),
    (rooted_variance, "losses", {"finite gradients", "richness", "collapsed levels"}),
    (ranks_without_ties, "metrics", {"ceilings are reached", "metrics by definition"}),
    (sign_of_hierarchy, "metrics", {"ceilings are reached", "metrics by definition"}),
    (random_metric, "metrics", {"ceilings are reached", "metrics repeat themselves"}),
    (sample_variance, "metrics", {"metrics by definition"}),
    (wrong_ceilings, "metrics", {"ceilings at nine digits", "ceilings are reached"}),
    (saving(_perturb), "checkpoint", {"save and load"}),
    (saving(_drop), "checkpoint", {"save and load"}),
    (saving(_forget_moments), "checkpoint", {"save and load"}),
    (saving(_forget_radius), "checkpoint", {"save and load"}),
    (lenient_loader, "checkpoint", {"truncated files", "foreign files"}),
    (unhelpful_loader, "checkpoint", {"truncated files", "foreign files"}),
    (careless_loader, "checkpoint", {"foreign files"}),
    (rounded_embedding, "precision", {"float32 against float64"}),
    (coarse_autocast, "precision", {"bfloat16 autocast"}),
    (geometry_in_bfloat16, "precision", {"geometry under autocast"}),
    (half_precision_points, "precision", {"no points in sixteen bits"}),
]


@pytest.mark.parametrize(
    ("breaks", "group", "expected"),
    BREAKS,
    ids=[f"{breaks.__qualname__.split('.')[0]}-{group}" for breaks, group, _ in BREAKS],
)
@pytest.mark.filterwarnings("ignore::ternvae.metrics.CollapsedLevelsWarning")
def test_the_right_checks_fail(
    monkeypatch: pytest.MonkeyPatch, breaks: Break, group: str, expected: set[str]
) -> None:
    run = {name: f for name, f in GROUPS[group].items() if name in expected or name not in SLOW}
    monkeypatch.setattr(validation, "GROUPS", {group: run})
    breaks(monkeypatch)
    found = {check.name: check for check in run_checks()}
    assert list(found) == list(run)
    failed = {name: check.figure for name, check in found.items() if not check.passed}
    assert set(failed) >= expected, failed
    # Some hold all the same, so that a failure says where to look.
    assert set(failed) < set(run)


def test_every_check_of_the_mathematics_is_broken_once() -> None:
    broken = {(group, name) for _, group, names in BREAKS for name in names}
    for group in WANTED_GROUPS[2:]:
        unbroken = {name for name in GROUPS[group] if (group, name) not in broken}
        assert unbroken <= {"parameters", "exp at the origin"}, group


@pytest.mark.filterwarnings("ignore::ternvae.metrics.CollapsedLevelsWarning")
def test_many_faults_at_once_are_each_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for breaks in (one_too_much, wrong_sign, term_times("hierarchy", 3), saving(_drop)):
        breaks(monkeypatch)
    found = list(run_checks())
    assert len(found) == sum(map(len, GROUPS.values()))
    failed = {check.group for check in found if not check.passed}
    assert failed >= {"p-adic", "geometry", "losses", "checkpoint"}
    assert any("CheckpointError" in check.figure for check in found)
    assert {check.group for check in found if check.passed} >= {"environment", "precision"}


# --- what depends on the machine --------------------------------------------------------------


def test_without_compiled_tiles_the_line_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "_tiles", None)
    found = {check.name: check for check in run_checks(groups=["environment"])}["compiled tiles"]
    assert found.passed
    assert "not compiled" in found.figure


def test_a_system_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_bytes_of_host", lambda: None)
    found = {check.name: check for check in run_checks(groups=["gpu"])}["host memory"]
    assert found.passed
    assert "does not tell" in found.figure


def test_a_device_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda device: False)
    found = {c.name: c for c in run_checks(groups=["precision"])}["bfloat16 autocast"]
    assert found.passed
    assert found.figure.startswith("not available on cpu")


def test_without_the_extension_the_mathematics_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "_tiles", None)
    assert failures("geometry", "architecture") == {}


def test_the_bar_of_float32_is_the_claim_of_the_benchmarks() -> None:
    claims = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    assert f"error in float32 at most {checks.ACCURACY[torch.float32]:.1e}:" in claims
