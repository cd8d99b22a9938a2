"""Each warning sign appears when it should, once, and asks for nothing that makes no sense."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ternvae.config import load_profile
from ternvae.config.sections import LossWeights
from ternvae.training.warning_signs import _USUAL_WEIGHTS, WarningSign, WarningSigns

EPOCHS = 60

#: A remedy's key, value and reason.
REMEDY = re.compile(r"(?P<pair>[a-z_]+\.[a-z_]+: \S+)(?: \((?P<reason>[^()]+)\))?")

UP, DOWN = 1, -1

#: Where each sign may send each number; a key that is not here is a switch or a path.
DIRECTIONS: dict[str, dict[str, int]] = {
    "coverage_drop": {
        "training.encoder_a_lr_scale": DOWN,
        "loss_weights.coverage": UP,
        "training.lr": DOWN,
    },
    "hierarchy_positive": {"loss_weights.hierarchy": UP, "training.encoder_b_lr_scale": DOWN},
    "hierarchy_stalled": {"loss_weights.hierarchy": UP, "training.encoder_b_lr_scale": DOWN},
    "richness_low": {"loss_weights.richness": UP, "loss_weights.hierarchy": DOWN},
    "loss_high": {"training.lr": DOWN, "training.max_grad_norm": DOWN},
    "loss_collapsed": {
        **{f"loss_weights.{term}": UP for term in ("hierarchy", "richness", "separation", "kl")},
        "training.encoder_a_lr_scale": UP,
    },
    "non_finite": {
        "training.lr": DOWN,
        "training.max_grad_norm": DOWN,
        "model.max_radius": DOWN,
    },
    "out_of_memory": {
        "training.batch_size": DOWN,
        "training.gradient_accumulation_steps": UP,
        "model.hidden_dim": DOWN,
    },
    "radii_tied": {"loss_weights.richness": UP},
    "points_at_limit": {
        "model.max_radius": UP,
        "loss_weights.hierarchy": UP,
        "training.lr": DOWN,
    },
}

SWITCHES: dict[str, dict[str, Any]] = {
    "coverage_drop": {"frozen_checkpoint.path": "CHECKPOINT"},
    "hierarchy_positive": {"homeostasis.enabled": True},
    "hierarchy_stalled": {"homeostasis.enabled": True},
    "non_finite": {"model.mathematical_precision": True, "training.use_amp": False},
    "out_of_memory": {"training.use_amp": True},
    "radii_tied": {"model.mathematical_precision": True, "training.use_amp": False},
}


def dotted(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, keys in tree.items()
        if isinstance(keys, Mapping)
        for key, value in keys.items()
    }


PLAIN = dotted(load_profile("mathematical_foundation").to_dict()) | {
    "training.lr": 3e-3,
    "training.batch_size": 512,
    "training.max_grad_norm": 5.0,
    "training.encoder_b_lr_scale": 1.0,
    "loss_weights.coverage": 1.0,
    "loss_weights.hierarchy": 5.0,
    "loss_weights.richness": 2.5,
    "homeostasis.enabled": True,
}


def watch(changes: dict[str, Any] | None = None, epochs: int = EPOCHS) -> WarningSigns:
    return WarningSigns(PLAIN | (changes or {}), epochs=epochs)


def losses(total: float, **terms: float) -> dict[str, float]:
    parts = ("coverage", "kl", "hierarchy", "richness", "separation")
    return {"total": total, **dict.fromkeys(parts, total / 5), **terms}


def names(signs: list[WarningSign]) -> list[str]:
    return [sign.name for sign in signs]


def evaluated(signs: WarningSigns, epoch: int = 10, **changes: Any) -> list[WarningSign]:
    """An evaluation in which all is well, but for the changes."""
    flags = {
        "tied_share": 0.0,
        "collapsed": False,
        "share_at_limit": 0.0,
        "richness_expected": True,
    }
    metrics = {"coverage": 1.0, "hierarchy_B": -0.7, "richness": 0.006, "Q_enhanced": 1.9}
    for name, value in changes.items():
        (metrics if name in metrics else flags)[name] = value
    return signs.after_evaluation(epoch, metrics, **flags)


#: How to make each sign appear.
PROVOKE: dict[str, Callable[[WarningSigns], list[WarningSign]]] = {
    "coverage_drop": lambda s: [*evaluated(s), *evaluated(s, coverage=0.9312)],
    "hierarchy_positive": lambda s: evaluated(s, hierarchy_B=0.01),
    "hierarchy_stalled": lambda s: evaluated(s, epoch=30, hierarchy_B=-0.2),
    "richness_low": lambda s: evaluated(s, richness=0.0004),
    "loss_high": lambda s: [*s.after_epoch(1, losses(3.0)), *s.after_epoch(2, losses(12.5))],
    "loss_collapsed": lambda s: s.after_epoch(1, losses(0.0)),
    "non_finite": lambda s: s.non_finite(3, ["hierarchy"]),
    "out_of_memory": lambda s: s.out_of_memory(1, "CUDA out of memory. Tried to allocate 2 GiB"),
    "radii_tied": lambda s: evaluated(s, tied_share=0.2, collapsed=True),
    "points_at_limit": lambda s: evaluated(s, share_at_limit=0.02),
}

EVERY_SIGN = pytest.mark.parametrize("name", sorted(PROVOKE))


def remedies(name: str, changes: dict[str, Any] | None = None) -> tuple[str, ...]:
    (sign,) = PROVOKE[name](watch(changes))
    return sign.remedies


def parsed(remedy: str) -> tuple[str, Any, str]:
    match = REMEDY.fullmatch(remedy)
    assert match, remedy
    ((key, value),) = yaml.safe_load(match["pair"]).items()
    return key, value, match["reason"] or ""


# --- every sign -----------------------------------------------------------------------------


@EVERY_SIGN
def test_a_sign_appears_alone_and_once_per_run(name: str) -> None:
    signs = watch()
    assert names(PROVOKE[name](signs)) == [name]
    assert PROVOKE[name](signs) == []


@EVERY_SIGN
def test_a_resumed_run_does_not_repeat_a_sign(name: str) -> None:
    before, after = watch(), watch()
    PROVOKE[name](before)
    state = json.loads(json.dumps(before.state()))  # plain values, whatever they are saved as
    after.restore(state)
    assert after.state() == before.state()
    assert PROVOKE[name](after) == []
    others = [other for other in PROVOKE if other != name]
    for other in others:
        assert names(PROVOKE[other](after)) == [other]


@EVERY_SIGN
def test_a_sign_is_one_line_and_names_its_remedies(name: str) -> None:
    (sign,) = PROVOKE[name](watch())
    assert len(str(sign).splitlines()) == 1
    assert str(sign).startswith(f"{sign.message}; try {sign.remedies[0]}")
    assert all(remedy in str(sign) for remedy in sign.remedies)
    as_json = json.loads(json.dumps(sign.to_dict()))
    assert as_json == {
        "name": name,
        "epoch": sign.epoch,
        "message": sign.message,
        "remedies": list(sign.remedies),
    }


def test_lines_as_they_stand_in_the_log() -> None:
    (sign,) = PROVOKE["coverage_drop"](
        watch({"frozen_checkpoint.path": "a.pt", "training.encoder_a_lr_scale": 0.1})
    )
    assert str(sign) == (
        "coverage fell to 0.9312, under 0.95 where it had been; "
        "try training.encoder_a_lr_scale: 0.0, loss_weights.coverage: 2.0 "
        "or training.lr: 1.5e-3 (now 3.0e-3)"
    )
    assert str(WarningSign("x", 1, "it is 3", ("a.b: 1",))) == "it is 3; try a.b: 1"
    assert str(WarningSign("x", 1, "it is 3", ())) == "it is 3; no setting is left to try"


def test_a_fresh_state_and_an_empty_one_are_the_same() -> None:
    signs = watch()
    fresh = signs.state()
    PROVOKE["radii_tied"](signs)
    signs.restore([])
    assert signs.state() == fresh


def test_the_state_given_out_does_not_change_with_the_run() -> None:
    signs = watch()
    state = signs.state()
    PROVOKE["radii_tied"](signs)
    assert state == watch().state()


def test_figures_of_numpy_leave_a_plain_state() -> None:
    signs = watch()
    signs.after_first_step(np.float64(24.0))
    signs.after_epoch(1, losses(np.float64(3.0)))
    evaluated(signs, coverage=np.float64(1.0))
    assert json.loads(json.dumps(signs.state())) == [[], 24.0, True, True]


# --- healthy runs ---------------------------------------------------------------------------


def test_a_healthy_run_raises_no_sign() -> None:
    signs = watch()
    signs.after_first_step(24.1)
    seen = []
    for epoch in range(1, EPOCHS + 1):
        progress = epoch / EPOCHS
        noise = 0.05 * math.sin(7 * epoch)
        total = 0.3 + 23.7 * math.exp(-8 * (epoch - 1) / EPOCHS) * (1 + noise)
        seen += signs.after_epoch(epoch, losses(total, kl=-0.01))
        if epoch % 5 == 0:
            seen += evaluated(
                signs,
                epoch=epoch,
                coverage=1 - math.exp(-12 * progress) if epoch < EPOCHS else 1.0,
                hierarchy_B=-0.1 - 0.732 * min(1.0, 1.3 * progress),
                richness=0.0002 + 0.006 * progress,
                richness_expected=epoch > 10,
                share_at_limit=0.01 * (1 - progress),
                tied_share=0.1 if epoch == 5 else 0.0,
            )
    assert seen == []


def test_a_healthy_curriculum_raises_no_sign() -> None:
    signs = watch({"curriculum.enabled": True})
    signs.after_first_step(19.8)
    seen = []
    for epoch, total in enumerate([18.0, 6.0, 0.4, 14.0, 35.0, 18.0, 8.0, 2.0], start=1):
        seen += signs.after_epoch(epoch, losses(total), weights_rising=epoch in {4, 5})
        seen += evaluated(
            signs,
            epoch=epoch,
            hierarchy_B=0.02 if epoch < 4 else -0.5,
            hierarchy_expected=epoch >= 4,
            richness=0.0 if epoch < 8 else 0.006,
            richness_expected=epoch >= 8,
        )
    assert seen == []


# --- boundaries -----------------------------------------------------------------------------


def test_coverage_drops_only_from_where_it_has_been() -> None:
    signs = watch()
    assert evaluated(signs, coverage=0.2) == []
    assert evaluated(signs, coverage=math.nextafter(0.95, 0)) == []
    assert evaluated(signs, coverage=0.95) == []
    assert evaluated(signs, coverage=0.95) == []
    (sign,) = evaluated(signs, epoch=25, coverage=math.nextafter(0.95, 0))
    assert (sign.name, sign.epoch) == ("coverage_drop", 25)


def test_a_resumed_run_remembers_what_it_had_reached() -> None:
    before, after = watch(), watch()
    evaluated(before, coverage=0.97)
    before.after_epoch(1, losses(3.0))
    after.restore(before.state())
    assert names(evaluated(after, coverage=0.94)) == ["coverage_drop"]
    assert names(after.after_epoch(2, losses(11.0))) == ["loss_high"]


@pytest.mark.parametrize(
    ("name", "changes", "appears"),
    [
        ("hierarchy_positive", {"hierarchy_B": 0.0}, False),
        ("hierarchy_positive", {"hierarchy_B": 5e-324}, True),
        ("hierarchy_positive", {"hierarchy_B": 0.5, "hierarchy_expected": False}, False),
        ("hierarchy_stalled", {"epoch": 30, "hierarchy_B": -0.3}, False),
        ("hierarchy_stalled", {"epoch": 30, "hierarchy_B": math.nextafter(-0.3, 0)}, True),
        ("hierarchy_stalled", {"epoch": 29, "hierarchy_B": -0.1}, False),
        ("hierarchy_stalled", {"epoch": 60, "hierarchy_B": -0.1}, True),
        (
            "hierarchy_stalled",
            {"epoch": 60, "hierarchy_B": -0.1, "hierarchy_expected": False},
            False,
        ),
        ("richness_low", {"richness": 0.001}, False),
        ("richness_low", {"richness": math.nextafter(0.001, 0)}, True),
        ("richness_low", {"richness": 0.0, "richness_expected": False}, False),
        ("radii_tied", {"tied_share": 1e-4, "collapsed": True}, True),
        ("radii_tied", {"tied_share": 0.0, "collapsed": True}, False),
        ("radii_tied", {"tied_share": 0.9, "collapsed": False}, False),
        ("points_at_limit", {"share_at_limit": 0.01}, False),
        ("points_at_limit", {"share_at_limit": math.nextafter(0.01, 1)}, True),
    ],
)
def test_boundaries_of_an_evaluation(name: str, changes: dict[str, Any], appears: bool) -> None:
    assert names(evaluated(watch(), **changes)) == [name] * appears


def test_half_of_an_odd_number_of_epochs() -> None:
    assert evaluated(watch(epochs=5), epoch=2, hierarchy_B=-0.1) == []
    assert names(evaluated(watch(epochs=5), epoch=4, hierarchy_B=-0.1)) == []
    assert names(evaluated(watch(epochs=5), epoch=5, hierarchy_B=-0.1)) == ["hierarchy_stalled"]


def test_a_reversed_hierarchy_late_in_the_run_is_both_signs() -> None:
    both = ["hierarchy_positive", "hierarchy_stalled"]
    assert names(evaluated(watch(), epoch=30, hierarchy_B=0.1)) == both


def test_an_untrained_loss_above_the_ceiling_is_no_sign() -> None:
    signs = watch()
    signs.after_first_step(24.0)
    assert signs.after_epoch(1, losses(23.0)) == []
    assert signs.after_epoch(2, losses(24.0 * 1.5)) == []  # noise of a single batch
    (sign,) = signs.after_epoch(3, losses(36.5))
    assert sign.name == "loss_high"
    assert "36.5, above 10 and above the 24 of the first step" in sign.message


def test_a_loss_that_rises_above_the_ceiling_is_a_sign_below_its_first_value_too() -> None:
    signs = watch()
    signs.after_first_step(24.0)
    assert signs.after_epoch(1, losses(10.0)) == []
    assert signs.after_epoch(2, losses(10.0)) == []
    assert names(signs.after_epoch(3, losses(math.nextafter(10.0, 11)))) == ["loss_high"]


def test_a_first_loss_below_the_ceiling_does_not_lower_it() -> None:
    signs = watch()
    signs.after_first_step(2.0)
    assert signs.after_epoch(1, losses(9.0)) == []
    signs = watch()
    signs.after_first_step(2.0)
    assert names(signs.after_epoch(1, losses(10.5))) == ["loss_high"]


def test_only_the_first_finite_step_of_a_run_counts() -> None:
    signs = watch()
    signs.after_first_step(math.nan)
    signs.after_first_step(24.0)
    after = watch()
    after.restore(signs.state())
    after.after_first_step(12.0)  # the first step after a resumption
    assert after.after_epoch(1, losses(20.0)) == []
    # Without a first step there is nothing to compare with but the run's own lowest.
    assert watch().after_epoch(1, losses(200.0)) == []


def test_rising_weights_make_totals_incomparable() -> None:
    signs = watch()
    signs.after_first_step(20.0)
    assert signs.after_epoch(1, losses(1.0)) == []
    assert signs.after_epoch(2, losses(90.0), weights_rising=True) == []
    assert signs.after_epoch(3, losses(15.0)) == []
    assert signs.after_epoch(4, losses(9.0)) == []
    assert names(signs.after_epoch(5, losses(15.0))) == ["loss_high"]


@pytest.mark.parametrize(
    ("total", "appears"),
    [(0.0, True), (9.99e-9, True), (-9.99e-9, True), (1e-8, False), (-1e-8, False), (-1, False)],
)
def test_a_loss_collapses_towards_zero_from_both_sides(total: float, appears: bool) -> None:
    assert names(watch().after_epoch(4, losses(total))) == ["loss_collapsed"] * appears


# --- not finite -----------------------------------------------------------------------------


def test_the_terms_that_are_not_finite_are_named() -> None:
    (sign,) = watch().after_epoch(7, losses(math.inf, kl=1.0, richness=1.0, separation=math.nan))
    assert sign.message == "NaN or infinite: coverage, hierarchy, separation"
    (sign,) = watch().after_epoch(7, {"total": -math.inf, "kl": 0.1})
    assert sign.message == "NaN or infinite: total"
    (sign,) = watch().non_finite(7, ["kl", "total", "kl"])
    assert sign.message == "NaN or infinite: kl"
    assert watch().non_finite(7, []) == []


@pytest.mark.parametrize("metric", ["coverage", "hierarchy_B", "richness", "Q_enhanced"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_named(metric: str, value: float) -> None:
    signs = watch()
    evaluated(signs)
    (sign,) = [s for s in evaluated(signs, **{metric: value}) if s.name == "non_finite"]
    assert sign.message == f"NaN or infinite: {metric}"
    if math.isnan(value):
        assert signs.state()[0] == ["non_finite"]


def test_metrics_that_a_caller_leaves_out_are_passed_over() -> None:
    flags = {"tied_share": 0.0, "collapsed": False, "share_at_limit": 0.0}
    assert watch().after_evaluation(60, {}, richness_expected=True, **flags) == []


# --- remedies -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("coverage_drop", {"loss_weights.coverage": 2.0}, "loss_weights.coverage: 4.0"),
        ("coverage_drop", {"loss_weights.coverage": 1.9}, "loss_weights.coverage: 2.0"),
        (
            "coverage_drop",
            {},
            "frozen_checkpoint.path: CHECKPOINT (best_Q.pt of an earlier run)",
        ),
        (
            "coverage_drop",
            {"training.encoder_a_lr_scale": 0.5},
            "training.encoder_a_lr_scale: 0.0 (with a frozen_checkpoint.path)",
        ),
        ("hierarchy_stalled", {}, "loss_weights.hierarchy: 8.0"),
        ("hierarchy_stalled", {"loss_weights.hierarchy": 0.0}, "loss_weights.hierarchy: 5.0"),
        ("hierarchy_stalled", {"loss_weights.hierarchy": 8.0}, "loss_weights.hierarchy: 16.0"),
        ("hierarchy_stalled", {}, "training.encoder_b_lr_scale: 0.05"),
        (
            "hierarchy_stalled",
            {"training.encoder_b_lr_scale": 0.05},
            "training.encoder_b_lr_scale: 0.025",
        ),
        ("hierarchy_stalled", {"homeostasis.enabled": False}, "homeostasis.enabled: true"),
        ("richness_low", {}, "loss_weights.richness: 5.0"),
        ("richness_low", {"loss_weights.richness": 0.0}, "loss_weights.richness: 2.5"),
        ("richness_low", {"loss_weights.hierarchy": 8.0}, "loss_weights.hierarchy: 5.0"),
        ("loss_high", {}, "training.lr: 1.0e-4 (now 3.0e-3)"),
        (
            "loss_high",
            {"training.lr": 0.01},
            "training.lr: 1.0e-4 (now 0.01, 3.0e-3 is the default)",
        ),
        ("loss_high", {"training.lr": 1e-4}, "training.lr: 5.0e-5 (now 1.0e-4)"),
        (
            "loss_high",
            {"scheduler.eta_min": 1e-3},
            "training.lr: 1.5e-3 (now 3.0e-3)",
        ),
        ("loss_high", {}, "training.max_grad_norm: 0.5 (with the lower rate)"),
        (
            "loss_high",
            {"training.max_grad_norm": 0.5},
            "training.max_grad_norm: 0.25 (with the lower rate)",
        ),
        ("loss_collapsed", {"loss_weights.kl": 0.0}, "loss_weights.kl: 1.0e-3 (it is 0)"),
        (
            "loss_collapsed",
            {"frozen_checkpoint.path": "a.pt"},
            "training.encoder_a_lr_scale: 0.05 (0 keeps encoder A as it is)",
        ),
        ("loss_collapsed", {}, "loss_weights.hierarchy: 8.0"),
        ("non_finite", {"model.max_radius": 0.999}, "model.max_radius: 0.95"),
        ("non_finite", {"training.use_amp": True}, "training.use_amp: false"),
        ("out_of_memory", {}, "training.batch_size: 256"),
        ("out_of_memory", {"training.batch_size": 3}, "training.batch_size: 1"),
        (
            "out_of_memory",
            {"training.gradient_accumulation_steps": 3},
            "training.gradient_accumulation_steps: 6 (keeps the effective batch size)",
        ),
        ("out_of_memory", {}, "training.use_amp: true"),
        ("out_of_memory", {}, "model.hidden_dim: 32"),
        ("out_of_memory", {"model.hidden_dim": 32}, "model.hidden_dim: 16"),
        ("radii_tied", {}, "model.mathematical_precision: true"),
        ("radii_tied", {"training.use_amp": True}, "training.use_amp: false"),
        ("points_at_limit", {}, "model.max_radius: 0.99"),
        ("points_at_limit", {"model.max_radius": 0.8}, "model.max_radius: 0.95"),
    ],
)
def test_a_remedy_starts_from_the_present_value(
    name: str, changes: dict[str, Any], expected: str
) -> None:
    assert expected in remedies(name, changes)


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("coverage_drop", {"frozen_checkpoint.path": "a.pt"}, "frozen_checkpoint.path"),
        # Without a scale encoder A stands still by itself once it has learned.
        ("coverage_drop", {"frozen_checkpoint.path": "a.pt"}, "training.encoder_a_lr_scale"),
        ("coverage_drop", {"training.encoder_a_lr_scale": 0.0}, "training.encoder_a_lr_scale"),
        ("hierarchy_stalled", {}, "homeostasis.enabled"),
        ("richness_low", {"loss_weights.hierarchy": 0.0}, "loss_weights.hierarchy"),
        ("loss_high", {"training.lr": 1e-6, "scheduler.eta_min": 1e-6}, "training.lr"),
        ("non_finite", {"model.max_radius": 0.95}, "model.max_radius"),
        ("non_finite", {}, "training.use_amp"),
        ("out_of_memory", {"training.batch_size": 1}, "training.batch_size"),
        ("out_of_memory", {"training.batch_size": 1}, "training.gradient_accumulation_steps"),
        (
            "out_of_memory",
            {"training.gradient_accumulation_steps": 5001},
            "training.gradient_accumulation_steps",
        ),
        ("out_of_memory", {"training.use_amp": True}, "training.use_amp"),
        ("radii_tied", {"model.mathematical_precision": True}, "model.mathematical_precision"),
        ("points_at_limit", {"model.max_radius": 0.99}, "model.max_radius"),
    ],
)
def test_a_remedy_that_would_change_nothing_is_not_offered(
    name: str, changes: dict[str, Any], key: str
) -> None:
    assert key not in {parsed(remedy)[0] for remedy in remedies(name, changes)}


@EVERY_SIGN
def test_a_key_that_a_run_does_not_have_is_not_offered(name: str) -> None:
    (sign,) = PROVOKE[name](WarningSigns({"training.lr": 3e-3}, epochs=EPOCHS))
    assert {parsed(remedy)[0] for remedy in sign.remedies} <= {"training.lr"}


def test_what_an_exception_says_is_cut_to_one_line() -> None:
    (sign,) = watch().out_of_memory(2, "CUDA out of memory.\n\n  Tried\u2028to " + "do more " * 99)
    assert sign.message.startswith("out of memory: CUDA out of memory. Tried to do more")
    assert sign.message.endswith(" ...")
    assert len(sign.message) < 200
    assert len(str(sign).splitlines()) == 1
    (sign,) = watch().out_of_memory(2, "")
    assert sign.message == "out of memory"


def test_memory_can_run_out_with_nothing_left_to_set() -> None:
    least = {"training.batch_size": 1, "model.hidden_dim": 1, "training.use_amp": True}
    assert remedies("out_of_memory", least) == ()


def positive(most: float) -> st.SearchStrategy[float]:
    return st.floats(1e-6, most)


def weight() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.05, 0.5, 2.5, 5.0, 8.0]) | st.floats(0, 1e9)


#: Settings that make a profile on their own, whatever the others are.
OVERRIDES = st.fixed_dictionaries(
    {
        "training.batch_size": st.integers(2, 19683),
        "training.gradient_accumulation_steps": st.integers(1, 10**4),
        "training.lr": st.sampled_from([1e-6, 1e-4, 3e-3]) | positive(10.0),
        "training.max_grad_norm": st.sampled_from([0.25, 0.5]) | positive(1e9),
        "training.encoder_a_lr_scale": st.none() | positive(100.0),
        "training.encoder_b_lr_scale": st.sampled_from([0.05, 0.1]) | positive(100.0),
        "training.use_amp": st.booleans(),
        "model.hidden_dim": st.integers(1, 65536),
        "model.max_radius": st.sampled_from([0.95, 0.99]) | st.floats(0.95, 0.9999),
        "model.mathematical_precision": st.booleans(),
        "model.learnable_curvature": st.booleans(),
        "loss_weights.coverage": st.sampled_from([1.0, 2.0]) | positive(1e9),
        "loss_weights.hierarchy": weight(),
        "loss_weights.richness": weight(),
        "loss_weights.separation": weight(),
        "loss_weights.kl": weight(),
        "homeostasis.enabled": st.booleans(),
        "curriculum.enabled": st.booleans(),
        "curriculum.coverage_first_epochs": st.integers(0, 5),
        "curriculum.hierarchy_ramp_epochs": st.just(10),
        "curriculum.richness_preserve_epochs": st.just(5),
    }
)


@EVERY_SIGN
@settings(max_examples=25, deadline=None)
@given(overrides=OVERRIDES, loaded=st.booleans())
def test_every_remedy_makes_a_profile_that_differs_the_right_way(
    name: str, overrides: dict[str, Any], loaded: bool
) -> None:
    if loaded:
        overrides = {**overrides, "frozen_checkpoint.path": "earlier.pt"}
        # A profile refuses a learned curvature under a frozen encoder A.
        overrides["model.learnable_curvature"] &= (
            overrides["training.encoder_a_lr_scale"] is not None
        )
    present = dotted(load_profile("mathematical_foundation", overrides).to_dict())
    (sign,) = PROVOKE[name](WarningSigns(present, epochs=EPOCHS))
    assert sign.remedies
    keys = [parsed(remedy)[0] for remedy in sign.remedies]
    assert len(set(keys)) == len(keys)
    for remedy in sign.remedies:
        key, value, reason = parsed(remedy)
        together = {**overrides, key: value, **needed_with(reason)}
        applied = dotted(load_profile("mathematical_foundation", together).to_dict())
        assert applied[key] == value != present[key]
        if key in SWITCHES.get(name, {}):
            assert value == SWITCHES[name][key]
        elif present[key] is None:  # stands for 0 here: encoder A is frozen after its first phase
            assert (name, key) == ("loss_collapsed", "training.encoder_a_lr_scale")
        else:
            assert (value - present[key]) * DIRECTIONS[name][key] > 0


def needed_with(reason: str) -> dict[str, Any]:
    """The settings that a reason says belong to a remedy."""
    needed: dict[str, Any] = {}
    if "with a frozen_checkpoint.path" in reason:
        needed["frozen_checkpoint.path"] = "earlier.pt"
    if "with model.learnable_curvature: false" in reason:
        needed["model.learnable_curvature"] = False
    return needed


def test_every_weight_that_is_zero_has_a_usual_value_to_go_back_to() -> None:
    usual = _USUAL_WEIGHTS
    defaults = LossWeights().model_dump()
    assert usual == {f"loss_weights.{name}": value for name, value in defaults.items()}
