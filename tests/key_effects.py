"""For every key of a profile: a change of its value, and where that must show.

The table, read by ``test_every_key.py``; ``observing.py`` says what the names of observations mean.
"""

from __future__ import annotations

import math
from typing import Any

from tests.key_effects_of_decisions import AT_REST, DECISIONS, TERMS, becomes
from tests.observing import ROOMY, Effect, Observation

#: At no rate to speak of nothing moves, so what is measured stays as it was.
STILL: dict[str, Any] = {"training.lr": 1e-12, "scheduler.eta_min": 0.0}

CYCLES: dict[str, Any] = {
    "scheduler.type": "mathematical_cosine",
    "scheduler.T_0": 1.0,
    "training.epochs": 4,
}


def ratio(name: str, wanted: float) -> Any:
    """An observation, or each of its entries, becomes so many times what it was."""

    def shown(before: Observation, after: Observation) -> bool:
        one, other = before[name], after[name]
        pairs = zip(one, other, strict=True) if isinstance(one, list) else [(one, other)]
        return all(math.isclose(b, wanted * a, rel_tol=1e-3) for a, b in pairs)

    return shown


def weight(term: str, value: float, usual: float) -> Effect:
    """A weight changes the first loss by the term times the difference, and so what is learned."""

    def shown(before: Observation, after: Observation) -> bool:
        gain = after["first_step.total"] - before["first_step.total"]
        expected = (value - usual) * before[f"first_step.{term}"]
        return expected != 0 and math.isclose(gain, expected, rel_tol=0.05, abs_tol=0.02)

    return Effect(value, ("first_step.total", "weights"), unchanged=TERMS, shown=shown)


def structure(name: str) -> Effect:
    """A target that decides whether points in order of their radii are in 3-adic order as well."""
    return Effect(
        0.6,
        ("summary.validation_results.p_adic_structure",),
        figures={**{f"r_v{v}": [4.0 - v] for v in range(4)}, name: [0.5]},
        unchanged=("weights",),
        shown=becomes(summary__validation_results__p_adic_structure=(True, False)),
    )


SPACE_AND_MODEL: dict[str, Effect] = {
    "name": Effect("another", ("summary.profile", "log"), unchanged=("weights",)),
    "description": Effect(
        "What it is for.",
        ("log",),
        unchanged=("weights",),
        shown=lambda _, after: "What it is for." in after["log"],
    ),
    "seed": Effect(1, ("weights", "first_step.coverage", "summary.seed"), unchanged=("shapes",)),
    "space.n_digits": Effect(4, ("shapes", "history.r_v4", "summary.ceilings.hierarchy", "steps")),
    # 16 of 27 sequences are left, fewer steps pass through them.
    "space.holdout": Effect(
        0.4,
        ("steps", "weights", "log", "summary.sampling.rows"),
        unchanged=("shapes",),
        shown=becomes(summary__sampling__rows=(27, 16)),
    ),
    "model.latent_dim": Effect(
        4, ("shapes",), shown=lambda _, after: after["shapes"]["prototypes"] == (4, 4)
    ),
    "model.hidden_dim": Effect(
        16,
        ("shapes",),
        shown=lambda _, after: after["shapes"]["encoders.A.features.4.weight"] == (16, 16),
    ),
    "model.projection_layers": Effect(
        3, ("shapes",), shown=lambda before, after: len(after["shapes"]) > len(before["shapes"])
    ),
    # Two modules more: the bend, and a layer with weights and a bias.
    "model.chart_layers": Effect(
        3,
        ("shapes", "weights"),
        shown=lambda before, after: (
            set(after["shapes"]) - set(before["shapes"]) == {"charts.B.4.weight", "charts.B.4.bias"}
        ),
    ),
    "model.dropout": Effect(0.5, ("weights", "first_step.coverage"), unchanged=("shapes",)),
    # All radii scale by 1/2 as long as nothing is learned; the curvature is 4 times as high.
    "model.curvature": Effect(
        4.0,
        ("history.curvature", "history.r_v0"),
        base=STILL,
        shown=lambda before, after: (
            ratio("history.curvature", 4)(before, after)
            and ratio("history.r_v0", 0.5)(before, after)
        ),
    ),
    "model.learnable_curvature": Effect(
        True,
        ("history.curvature", "weights"),
        shown=lambda before, after: (
            len(set(before["history.curvature"])) == 1 and len(set(after["history.curvature"])) == 2
        ),
    ),
    # Radii are a share of the largest one, artanh(0.95) against artanh(0.5).
    "model.max_radius": Effect(
        0.5,
        ("history.r_v0",),
        base=STILL,
        shown=ratio("history.r_v0", math.atanh(0.5) / math.atanh(0.95)),
    ),
    "model.mathematical_precision": Effect(True, ("point_dtype", "weights"), unchanged=("shapes",)),
    "model.enhanced_controller": Effect(
        True,
        ("weights", "history.controller.hierarchy"),
        base={"training.epochs": 4},  # it learns from what it sees, so its factors are 1 at first
        unchanged=("shapes", "first_step.total"),
        shown=lambda _, after: after["history.controller.hierarchy"][-1] != 1,
    ),
}

TRAINING: dict[str, Effect] = {
    "training.epochs": Effect(
        3, ("summary.epochs", "history.epoch", "weights"), shown=becomes(steps=(8, 12))
    ),
    "training.batch_size": Effect(18, ("steps", "weights"), shown=becomes(steps=(8, 4))),
    "training.gradient_accumulation_steps": Effect(
        3, ("steps", "weights"), shown=becomes(steps=(8, 4))
    ),
    "training.lr": Effect(6e-3, ("history.lr", "weights"), shown=ratio("history.lr", 2)),
    "training.encoder_a_lr_scale": Effect(
        0.5,
        ("rates.encoder_a", "weights.encoder_a"),
        unchanged=("rates.encoder_b", "rates.rest"),
        shown=ratio("rates.encoder_a", 0.5),
    ),
    "training.encoder_b_lr_scale": Effect(
        0.5,
        ("rates.encoder_b", "weights.encoder_b_hidden"),
        unchanged=("rates.encoder_a", "rates.rest"),
        shown=ratio("rates.encoder_b", 0.5),
    ),
    "training.weight_decay": Effect(
        0.5, ("weights",), unchanged=("first_step.total", "first_step.gradient_norm")
    ),
    "training.max_grad_norm": Effect(
        1e-4, ("weights",), unchanged=("first_step.total", "first_step.gradient_norm")
    ),
    # Of 9 rows 2 are partners; if 4 are one of each level, 3 are left to pass through the 27.
    "training.balanced_share": Effect(0.5, ("steps", "weights"), shown=becomes(steps=(8, 18))),
    # All 9 rows pass through the 27 sequences, and no two are compared.
    "training.paired_share": Effect(
        0.0,
        ("steps", "weights", "first_step.ultrametric"),
        unchanged=("shapes",),
        shown=becomes(steps=(8, 6)),
    ),
    "training.use_amp": Effect(
        True, ("weights", "history.losses.coverage"), unchanged=("shapes", "point_dtype")
    ),
    # On a CPU there are no graphs; tests/training/test_capture.py has what they do where there are.
    "training.execution": Effect(
        "cuda_graph",
        ("log",),
        unchanged=("weights", "history.losses.total"),
        shown=lambda _, after: any("training.execution: cuda_graph" in s for s in after["log"]),
    ),
    "training.num_workers": Effect(
        2,
        ("log",),
        unchanged=("weights", "history.losses.total"),
        shown=lambda _, after: any("num_workers" in line for line in after["log"]),
    ),
    "scheduler.type": Effect(
        "constant",
        ("history.lr", "weights"),
        base=CYCLES,
        shown=lambda _, after: set(after["history.lr"]) == {3e-3},
    ),
    "scheduler.T_0": Effect(2.0, ("history.lr", "weights"), base=CYCLES),
    "scheduler.T_mult": Effect(3.0, ("history.lr", "weights"), base=CYCLES),
    "scheduler.eta_min": Effect(1e-3, ("history.lr", "weights"), base=CYCLES),
    "scheduler.warmup_epochs": Effect(
        2.0,
        ("history.lr", "first_step.lr", "weights"),
        shown=lambda _, after: after["first_step.lr"] < 1e-3 < after["history.lr"][-1] < 3e-3,
    ),
    "loss_weights.coverage": weight("coverage", 2.0, 1.0),
    "loss_weights.hierarchy": weight("hierarchy", 0.0, 5.0),
    "loss_weights.richness": weight("richness", 0.0, 2.5),
    "loss_weights.separation": weight("separation", 0.0, 3.0),
    "loss_weights.ultrametric": weight("ultrametric", 0.0, 1.0),
    "loss_weights.kl": weight("kl", 1.0, 1e-3),
    "targets.coverage": Effect(
        0.0,
        ("summary.validation_results.coverage_precision",),
        base=STILL,
        unchanged=("history.losses.total",),
        shown=becomes(summary__validation_results__coverage_precision=(False, True)),
    ),
    "targets.hierarchy_B": Effect(
        -0.3,
        ("summary.validation_results.hierarchy_ceiling",),
        figures={"hierarchy_B": [-0.4]},
        unchanged=("weights",),
        shown=becomes(summary__validation_results__hierarchy_ceiling=(False, True)),
    ),
    # It is also what the term of the loss aims at.
    "targets.richness": Effect(
        0.0,
        ("summary.validation_results.richness_preservation", "first_step.richness", "weights"),
        base={"targets.richness": 2.0},
        shown=becomes(summary__validation_results__richness_preservation=(False, True)),
    ),
    "targets.Q_enhanced": Effect(
        1.0,
        ("summary.validation_results.Q_enhanced",),
        figures={"Q_enhanced": [1.5]},
        unchanged=("weights",),
        shown=becomes(summary__validation_results__Q_enhanced=(False, True)),
    ),
    "targets.coverage_B": Effect(
        0.6,
        ("summary.validation_results.coverage_precision",),
        figures={"coverage": [1.0], "coverage_B": [0.5]},
        unchanged=("weights",),
        shown=becomes(summary__validation_results__coverage_precision=(True, False)),
    ),
    "targets.ultrametric_corr": structure("ultrametric_corr"),
    "targets.triplet_accuracy": structure("triplet_accuracy"),
}

KEEPING_AND_WATCHING: dict[str, Effect] = {
    "frozen_checkpoint.path": Effect(
        lambda laboratory: str(laboratory.covering),
        ("weights.encoder_a", "weights.decoder", "history.coverage", "events", "log"),
        base=ROOMY,
        shown=lambda before, after: (
            max(before["history.coverage"]) < 1
            and set(after["history.coverage"]) == {1.0}
            and after["events"] == [(1, "freeze_encoder_a")]
        ),
    ),
    "checkpointing.save_every_n_epochs": Effect(
        1,
        ("files",),
        unchanged=("weights", "log"),
        shown=lambda before, after: (
            set(after["files"]) - set(before["files"])
            == {"checkpoints/epoch_001.pt", "checkpoints/epoch_002.pt"}
        ),
    ),
    "checkpointing.keep_best_n": Effect(
        1,
        ("files",),
        unchanged=("weights", "log"),
        shown=lambda before, after: (
            set(before["files"]) - set(after["files"])
            == {"checkpoints/best_epoch_001.pt", "checkpoints/best_epoch_002.pt"}
        ),
    ),
    "checkpointing.on_save_error": Effect(
        "continue",
        ("events", "log", "weights", "summary.epochs"),
        base={"checkpointing.save_every_n_epochs": 1},
        unwritable=True,
        shown=becomes(
            summary__stop_reason=("save_failed", "epochs"),
            events=([], [(1, "save_failed"), (2, "save_failed")]),
        ),
    ),
    "monitoring.log_every_n_steps": Effect(
        4, ("log",), unchanged=("weights", "files"), shown=becomes(steps=(8, 2))
    ),
    "monitoring.detailed_metrics_every_n_epochs": Effect(
        2,
        ("history.epoch", "log"),
        unchanged=("weights",),
        shown=becomes(history__epoch=([1, 2], [2])),
    ),
    "monitoring.precision_tracking": Effect(
        True,
        ("history.precision.radius_error", "history.precision.rim_gap", "log"),
        unchanged=("weights", "history.losses.total"),
    ),
    "monitoring.tensorboard": Effect(
        True,
        ("files",),
        unchanged=("weights", "log"),
        shown=lambda _, after: "tensorboard/events.out.tfevents" in after["files"],
    ),
    "monitoring.report": Effect(
        True,
        ("files", "log"),
        unchanged=("weights", "summary.stop_reason", "events"),
        shown=lambda before, after: set(after["files"]) - set(before["files"]) == {"report.html"},
    ),
    "validation.before_training": Effect(
        True,
        ("said",),
        unchanged=("weights",),
        shown=lambda _, after: (
            after["said"][0] == "Checks before training" and after["said"][1].startswith("PASS")
        ),
    ),
    "validation.coverage_floor": Effect(
        0.3,
        ("warnings.coverage_drop",),
        base={"validation.coverage_floor": 0.45},
        figures=AT_REST | {"coverage": [0.5, 0.4]},
        unchanged=("weights",),
        shown=becomes(warnings__coverage_drop=([2], None)),
    ),
    "validation.richness_floor": Effect(
        0.02,
        ("warnings.richness_low",),
        base={"targets.richness": 0.1, "training.epochs": 5},  # nothing is said of it before
        figures=AT_REST,
        unchanged=("weights",),
        shown=becomes(warnings__richness_low=(None, [5])),
    ),
    "validation.loss_ceiling": Effect(
        1e30,
        ("warnings.loss_high",),
        base={"training.lr": 10.0},
        unchanged=("weights",),
        shown=becomes(warnings__loss_high=([1], None)),
    ),
}

EFFECTS: dict[str, Effect] = {
    **SPACE_AND_MODEL,
    **TRAINING,
    **DECISIONS,
    **KEEPING_AND_WATCHING,
}
