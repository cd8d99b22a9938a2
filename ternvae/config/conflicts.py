"""Values of a profile that are fine alone and impossible together."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ternvae.ceilings import ceilings, richness_ceiling

if TYPE_CHECKING:
    from ternvae.config.profile import Profile


@dataclass(frozen=True)
class Conflict:
    """One impossible combination.

    Attributes:
        keys: The dotted keys involved, the likeliest culprit first.
        reason: What is wrong and the way out.
    """

    keys: tuple[str, ...]
    reason: str


class ConflictError(ValueError):
    """Raised inside validation; carries every conflict of a profile.

    Attributes:
        conflicts: The conflicts, at least one.
    """

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__("; ".join(f"{c.keys[0]}: {c.reason}" for c in conflicts))
        self.conflicts = conflicts


def conflicts(profile: "Profile") -> list[Conflict]:
    """Finds the values of a profile that cannot hold together.

    Args:
        profile: A profile whose keys are valid one by one.

    Returns:
        One entry per impossible combination; empty for a sound profile.
    """
    return [*_beyond_the_space(profile), *_beyond_the_run(profile), *_never_learned(profile)]


def _beyond_the_space(profile: "Profile") -> list[Conflict]:
    """What no model of this space can do."""
    found = []
    n, targets = profile.space.n_digits, profile.targets
    size, batch = 3**n, profile.training.batch_size
    if batch > size:
        found.append(
            Conflict(
                ("training.batch_size", "space.n_digits"),
                f"a batch of {batch} exceeds the 3^{n} = {size} sequences of the space;"
                f" set training.batch_size to at most {size}",
            )
        )
    seen = size - round(profile.space.holdout * size)
    if seen < batch <= size:
        least = "space.holdout" if not seen else "training.batch_size"
        found.append(
            Conflict(
                (least, "space.holdout", "training.batch_size"),
                f"a holdout of {profile.space.holdout:g} leaves {seen} of {size} sequences, fewer"
                f" than a batch of {batch}; lower space.holdout or training.batch_size",
            )
        )
    limits = ceilings(n)
    lowest = limits["hierarchy"]
    if targets.hierarchy_B < round(lowest, 4):
        found.append(
            Conflict(
                ("targets.hierarchy_B", "space.n_digits"),
                f"{targets.hierarchy_B} is beyond the ceiling {lowest:.7f} at {n} digits, which"
                " only radii tied inside a level can pass;"
                f" ask for {round(lowest, 4)} or more",
            )
        )
    wanted = [("targets.Q_enhanced", targets.Q_enhanced)]
    if profile.homeostasis.enabled:
        wanted.append(("homeostasis.Q_target", profile.homeostasis.Q_target))
    highest_q = limits["Q_enhanced"]
    for key, q in wanted:
        if q > highest_q:
            # Rounded down, since a Q is compared as it is.
            reachable_q = math.floor(highest_q * 1e4) / 1e4
            found.append(
                Conflict(
                    (key, "space.n_digits"),
                    f"{q} is above the ceiling {highest_q:.7f} at {n} digits;"
                    f" ask for {reachable_q} or less",
                )
            )
    if n > 1 and targets.ultrametric_corr > limits["ultrametric_corr"]:
        reachable = math.floor(limits["ultrametric_corr"] * 1e4) / 1e4
        found.append(
            Conflict(
                ("targets.ultrametric_corr", "space.n_digits"),
                f"{targets.ultrametric_corr} is above the ceiling {limits['ultrametric_corr']:.7f}"
                f" at {n} digits; ask for {reachable} or less",
            )
        )
    spread = richness_ceiling(n, profile.model.curvature, profile.model.max_radius)
    if targets.richness > spread:
        found.append(
            Conflict(
                ("targets.richness", "model.max_radius", "model.curvature", "space.n_digits"),
                f"richness {targets.richness} is above {spread:.4g}, the most that radii inside"
                f" max_radius {profile.model.max_radius} can have at"
                f" curvature {profile.model.curvature}; lower the target or raise max_radius",
            )
        )
    return found


def _beyond_the_run(profile: "Profile") -> list[Conflict]:
    """What does not fit into the epochs or under the learning rate of the run."""
    found = []
    training, scheduler, curriculum = profile.training, profile.scheduler, profile.curriculum
    if scheduler.warmup_epochs > training.epochs:
        found.append(
            Conflict(
                ("scheduler.warmup_epochs", "training.epochs"),
                f"a warm-up of {scheduler.warmup_epochs:g} epochs does not fit into a run of"
                f" {training.epochs}; set scheduler.warmup_epochs to at most {training.epochs}",
            )
        )
    if scheduler.eta_min > training.lr:
        found.append(
            Conflict(
                ("scheduler.eta_min", "training.lr"),
                f"a cycle falls from training.lr {training.lr:g} to {scheduler.eta_min:g};"
                f" set scheduler.eta_min to at most {training.lr:g}",
            )
        )
    phases = (
        curriculum.coverage_first_epochs,
        curriculum.hierarchy_ramp_epochs,
        curriculum.richness_preserve_epochs,
    )
    if curriculum.enabled and sum(phases) > training.epochs:
        found.append(
            Conflict(
                (
                    "curriculum.enabled",
                    "curriculum.coverage_first_epochs",
                    "curriculum.hierarchy_ramp_epochs",
                    "curriculum.richness_preserve_epochs",
                    "training.epochs",
                ),
                f"phases of {phases[0]} + {phases[1]} + {phases[2]} = {sum(phases)} epochs do not"
                f" fit into a run of {training.epochs}; shorten them or raise training.epochs",
            )
        )
    return found


def _never_learned(profile: "Profile") -> list[Conflict]:
    """What is frozen before it has learned anything."""
    found = []
    training, curriculum = profile.training, profile.curriculum
    taken_over = profile.frozen_checkpoint.path is not None
    first_phase = curriculum.enabled and curriculum.coverage_first_epochs > 0
    if training.encoder_a_lr_scale == 0 and not taken_over and not first_phase:
        found.append(
            Conflict(
                (
                    "training.encoder_a_lr_scale",
                    "frozen_checkpoint.path",
                    "curriculum.enabled",
                    "curriculum.coverage_first_epochs",
                ),
                "encoder A and the decoder would be frozen without ever having been trained;"
                " give frozen_checkpoint.path, or let them learn first with curriculum.enabled"
                " true and curriculum.coverage_first_epochs above 0, or set"
                " training.encoder_a_lr_scale above 0",
            )
        )
    if taken_over and not training.encoder_a_lr_scale and profile.model.learnable_curvature:
        found.append(
            Conflict(
                ("model.learnable_curvature", "frozen_checkpoint.path"),
                "the points of a frozen encoder A hold for the curvature of its checkpoint only;"
                " set model.learnable_curvature to false, or training.encoder_a_lr_scale above 0",
            )
        )
    return found
