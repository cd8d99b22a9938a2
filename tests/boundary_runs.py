"""Cases of training, of the checks of an installation, and of the analysis of a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ternvae import analysis, checkpoint, pretrained, validation
from ternvae.config import Profile
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer
from ternvae.trainer.saving import checkpoint_contents
from tests.boundary import Argument, Case, Spoil, given, made
from tests.boundary_models import CHECKPOINT, flag
from tests.boundary_rooms import (
    BASE_SPOILT,
    NEST,
    NO_FILE_NAME,
    UNREADABLE,
    always,
    deep,
    folder,
    nest,
    place,
    profile,
    sealed,
)

NO_DEVICE = (
    *(*given(None, 3.5, 0, True, b"cpu", [], "", "nowhere", "cuda:99", "meta"), *NEST),
    *always("too long", lambda: "x" * 40_000, "xxx"),
)


NAMES = ("'cuda:99'", "'meta'")


@functools.cache
def run_contents() -> dict[str, Any]:
    """What a run saves before its first epoch."""
    trainer = Trainer(profile(), folder() / "never", "cpu")
    found = checkpoint_contents(trainer.examination, trainer.optimisation, trainer.steps)
    return {**found, "record_bytes": {}, "format_version": checkpoint.FORMAT_VERSION}


def saved(label: str, change: dict[str, Any], *shown: str) -> tuple[Spoil, ...]:
    """The checkpoint of a run with other entries; those of ... are left out."""

    def make() -> Any:
        whole = {**run_contents(), **change}
        return sealed("run", {k: v for k, v in whole.items() if v is not ...})

    return always(label, make, *shown)


def told(label: str, key: str, bad: Callable[[], Any], *shown: str) -> tuple[Spoil, ...]:
    """The checkpoint of a run with another value in its profile that cannot change any more."""
    stored = {**profile().to_dict(), "frozen_checkpoint": {"path": bad()}}
    return saved(label, {"profile": {**stored, key: bad()}}, *shown)


def itself() -> dict[str, Any]:
    """A mapping without end."""
    found: dict[str, Any] = {}
    found["training"] = found
    found["frozen_checkpoint"] = {"path": found}
    return found


NO_RUN = (
    *(spoil for spoil in UNREADABLE if spoil.label != "None"),
    *always("a model only", lambda: CHECKPOINT, "not the progress"),
    *(
        spoil
        for key in ("step", "within_epoch", "execution", "frozen", "homeostasis", "controller")
        for spoil in (
            *saved(f"without {key}", {key: ...}, f"without {key}"),
            *saved(f"{key} a nest", {key: nest()}, f"{key} is of type list"),
        )
    ),
    *(
        spoil
        for key in ("progress", "warning_signs", "unwritten", "record_bytes")
        for spoil in saved(f"{key} a text", {key: "x" * 9999}, key)
    ),
    *saved("progress of another kind", {"progress": {"kept": 3}}, "does not fit"),
    *saved("weights of another kind", {"model_state_dict": {}}, "does not fit"),
    *saved("epoch below", {"epoch": -1}, "number of epochs"),
    *saved("epoch above", {"epoch": 99}, "99"),
    *saved("step below", {"step": -1}, "step"),
    *saved("step above", {"step": 10**600}, "step"),
    *saved("profile a nest", {"profile": nest()}, "not a mapping"),
    *saved("profile in itself", {"profile": itself()}, "of type dict"),
    *told("a nest in the profile", "seed", nest, "of type list"),
    *told("deep in the profile", "training", deep, "of type list"),
    *told("a tensor in the profile", "seed", lambda: torch.zeros(3), "of type Tensor"),
    *told("long in the profile", "name", lambda: "x" * 40_000, "40000 characters"),
    *told("an odd key in the profile", "x", lambda: "y", "'y'"),
    *saved("another model", {"model_config": {**TernaryVAE(n_digits=3).config}}, "does not fit"),
)


def trainer_cases() -> list[Case]:
    run_dir = Argument(
        lambda m: folder() / "run",
        (
            *(spoil for spoil in NO_FILE_NAME if spoil.label != "None"),
            *given("a\nb", "a\x1b[2Jb"),
            *always("a file", lambda: place("run_is_a_file", b"file"), "is a file"),
            *always("another run", another_run, "holds a run already"),
        ),
    )
    return [
        Case(
            Trainer,
            {
                "profile": Argument(lambda m: profile(seed=m.seed), (*given(None), *BASE_SPOILT)),
                "run_dir": run_dir,
                "device": Argument(lambda m: "cpu", NO_DEVICE),
                "progress_bar": flag(False),
            },
        ),
        Case(
            Trainer,
            {
                "profile": Argument(
                    lambda m: profile(),
                    made(
                        "of another model", lambda v, m: profile(**{"model.latent_dim": 3}), "not 3"
                    ),
                ),
                "run_dir": Argument(run_dir.make),
                "device": Argument(lambda m: "cpu"),
                "resume_from": Argument(lambda m: sealed("run", run_contents()), NO_RUN),
            },
        ),
        Case(
            vars(Trainer)["request_stop"],
            {"self": Argument(lambda m: Trainer(profile(), folder() / "run", "cpu"))},
        ),
    ]


def of_three_dimensions() -> Profile:
    return profile(**{"model.latent_dim": 3})


def another_run() -> Any:
    """The folder of a run that is over."""
    summary = place("another_run").with_name("metrics.json")
    summary.write_text("{}")
    return summary.parent


# --- checks, and what a checkpoint is worth --------------------------------------------------


def check_cases() -> list[Case]:
    no_groups = (
        *given(3, True, "geometry", [], (), ["nope"], [None], [["geometry"]]),
        *always("a number among them", lambda: ["geometry", 7], "no group 7"),
        *always("a long name", lambda: ["x" * 9999], "xxx"),
        *always("nests", nest, "[[["),
        *made("a generator", lambda v, m: (each for each in v), "generator"),
    )
    return [
        Case(
            validation.run_checks,
            {
                # One that is not there has a name: its checks fail.
                "device": Argument(
                    lambda m: "cpu", tuple(s for s in NO_DEVICE if s.label not in NAMES)
                ),
                "groups": Argument(lambda m: ["geometry"], no_groups),
            },
            # An iterator that nobody asks: what is wrong is said at the call.
            lambda device, groups: (validation.run_checks(device, groups=groups),),
        ),
        Case(
            validation.check_line,
            {
                "check": Argument(
                    lambda m: validation.Check("geometry", "distance", True, "0"),
                    (*given(None, 3, "PASS", [], ("geometry", "distance")), *NEST),
                )
            },
        ),
    ]


@functools.cache
def measured() -> analysis.Analysis:
    return analysis.analyze(CHECKPOINT)


def with_targets(label: str, targets: dict[Any, Any], *shown: str) -> tuple[Spoil, ...]:
    """A checkpoint whose profile has these targets."""

    def make() -> Any:
        whole = checkpoint.load_checkpoint(CHECKPOINT)
        version = checkpoint.FORMAT_VERSION
        return sealed(
            "targets", {**whole, "format_version": version, "profile": {"targets": targets}}
        )

    return always(label, make, *shown)


def analysis_cases() -> list[Case]:
    one = Argument(lambda m: measured(), (*given(None, 3, "text", [], {}), *NEST))
    several = (
        *given(None, 3, True, "", "ab", {}),
        *(*always("empty", list, "none"), *NEST),
        *made("one alone", lambda v, m: v[0], "Analysis"),
        *made("one among them", lambda v, m: [*v, nest()], "analyses[2]"),
    )
    targets = (
        *with_targets("a nest for a target", {"richness": nest()}, "list"),
        *with_targets("huge target", {"richness": 10**600}, "richness: not a number: int"),
        *with_targets("nan", {"richness": float("nan")}, "nan"),
        *with_targets("text for a target", {"richness": "x" * 9999}, "str"),
    )
    return [
        Case(
            analysis.analyze,
            {
                "path": Argument(lambda m: CHECKPOINT, (*UNREADABLE, *targets)),
                "device": Argument(lambda m: "cpu", NO_DEVICE),
                "structure": Argument(lambda m: False, given(None, 1, "no")),
                "progress": Argument(lambda m: [].append, given(3, "progress", [])),
            },
        ),
        Case(analysis.analysis_json, {"analysis": one}),
        Case(analysis.analysis_text, {"analysis": one}),
        Case(
            analysis.comparison_text,
            {"analyses": Argument(lambda m: [measured(), measured()], several)},
        ),
    ]


# --- models of the package -------------------------------------------------------------------


def pretrained_cases() -> list[Case]:
    name = Argument(
        lambda m: "mathematical_foundation",
        (
            *(*given(None, 3, True, b"mathematical_foundation", [], "", "no such model"), *NEST),
            *given("../pretrained/mathematical_foundation", "mathematical_foundation.pt"),
            *always("too long", lambda: "x" * 40_000, "xxx"),
            *always("control characters", lambda: "a\x1b[2Jb", r"a\x1b[2Jb"),
        ),
    )
    device = Argument(lambda m: "cpu", given("nowhere", "cuda:99", 3.5, ""))
    return [
        Case(pretrained.path, {"name": name}),
        Case(pretrained.load, {"name": name, "device": device}),
    ]


CASES = [*trainer_cases(), *check_cases(), *analysis_cases(), *pretrained_cases()]
