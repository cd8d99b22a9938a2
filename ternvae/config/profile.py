"""The profile: every decision of a training run, typed, bounded and explained.

A key is one line here; loading, the command line, the JSON schema and the tests follow from it.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ternvae.ceilings import ceilings, richness_ceiling
from ternvae.config.scalars import ProfileDumper


def _plain_text(text: str) -> str:
    if bad := next((c for c in text if not (c.isprintable() or c == "\n")), None):
        raise ValueError(f"must not contain the character U+{ord(bad):04X}")
    return text


class _Section(BaseModel):
    # strict: "1" is no number and true is no 1; forbid: a misspelt key must never pass for set.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Space(_Section):
    """The set that is learned."""

    n_digits: int = Field(9, ge=1, le=20, description="Ternary digits n; the space has 3^n points")


class Model(_Section):
    """Architecture and geometry."""

    latent_dim: int = Field(16, ge=2, le=4096, description="Dimension of the Poincare ball")
    hidden_dim: int = Field(64, ge=1, le=65536, description="Width of the hidden layers")
    projection_layers: int = Field(2, ge=1, le=64, description="Layers of each projection")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability while training")
    curvature: float = Field(1.0, gt=0, description="c of the ball with sectional curvature -c")
    max_radius: float = Field(
        0.95, gt=0, lt=1, description="Largest sqrt(c) * norm of a point: share of the ball in use"
    )


class Training(_Section):
    """Optimisation."""

    epochs: int = Field(120, ge=1, le=10**6, description="Passes over the space")
    batch_size: int = Field(512, ge=1, description="Sequences per step; at most 3^n_digits")
    lr: float = Field(3e-3, gt=0, description="Peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay")
    max_grad_norm: float = Field(5.0, gt=0, description="Gradients are clipped to this norm")
    balanced_share: float = Field(
        0.2, ge=0, lt=1, description="Largest share of a batch drawn level by level"
    )


class Scheduler(_Section):
    """Learning rate over the run: linear warm-up, then cosine cycles with warm restarts."""

    T_0: float = Field(25.0, ge=0.01, description="Length of the first cycle in epochs")
    T_mult: float = Field(1.5, ge=1, le=100, description="Factor from one cycle length to the next")
    eta_min: float = Field(1e-6, ge=0, description="Learning rate at the end of a cycle")
    warmup_epochs: float = Field(1.0, ge=0, description="Length of the linear rise to lr")


class LossWeights(_Section):
    """Factors of the loss terms."""

    coverage: float = Field(1.0, gt=0, description="Reconstruction of the digits")
    hierarchy: float = Field(5.0, ge=0, description="Order of the radii by valuation")
    richness: float = Field(2.5, ge=0, description="Spread of the radii within a level")
    separation: float = Field(3.0, ge=0, description="Gaps between neighbouring levels")
    kl: float = Field(1e-3, ge=0, description="Divergence of the posterior from the prior")


class Targets(_Section):
    """What counts as success; a hierarchy is compared after rounding to four decimals."""

    coverage: float = Field(1.0, ge=0, le=1, description="Least share of sequences recovered")
    hierarchy_B: float = Field(
        -0.8321, ge=-1, le=0, description="Largest Spearman(v, r) that counts as ordered"
    )
    richness: float = Field(0.006, ge=0, description="Least mean within-level variance of r")
    Q_enhanced: float = Field(2.0, ge=0, description="Least dist_corr + 1.5 |hierarchy_B|")


class Monitoring(_Section):
    """How often the metrics are computed."""

    detailed_metrics_every_n_epochs: int = Field(
        5, ge=1, description="Epochs between two evaluations of all metrics"
    )


class Checkpointing(_Section):
    """How often the run is saved."""

    save_every_n_epochs: int = Field(20, ge=1, description="Epochs between numbered checkpoints")


class Profile(_Section):
    """A complete, valid set of decisions for one training run.

    Immutable and comparable. Construct it with `load_profile`, whose errors name the place of
    every mistake; direct construction checks the same rules and raises pydantic's
    `ValidationError`, which is a `ValueError` too.
    """

    name: str = Field(
        "custom",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=64,
        description="Name of the profile: letters, digits, '_', '-' and '.'",
    )
    description: Annotated[str, AfterValidator(_plain_text)] = Field(
        "", max_length=1000, description="What the profile is for, in a sentence"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of every random draw of the run")
    space: Space = Field(default=Space(), description="The set that is learned")
    model: Model = Field(default=Model(), description="Architecture and geometry")
    training: Training = Field(default=Training(), description="Optimisation")
    scheduler: Scheduler = Field(default=Scheduler(), description="Learning rate over the run")
    loss_weights: LossWeights = Field(
        default=LossWeights(), description="Factors of the loss terms"
    )
    targets: Targets = Field(default=Targets(), description="What counts as success")
    monitoring: Monitoring = Field(
        default=Monitoring(), description="How often the metrics are computed"
    )
    checkpointing: Checkpointing = Field(
        default=Checkpointing(), description="How often the run is saved"
    )

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> "Profile":
        if found := conflicts(self):
            raise ConflictError(found)
        return self

    def to_dict(self) -> dict[str, Any]:
        """All keys as nested dicts of plain Python values."""
        return self.model_dump()

    def to_yaml(self) -> str:
        """All keys as YAML; `load_profile` of the text gives an equal profile."""
        return yaml.dump(self.to_dict(), Dumper=ProfileDumper, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Conflict:
    """Values that are fine alone and impossible together.

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


def conflicts(profile: Profile) -> list[Conflict]:
    """Finds the values of a profile that cannot hold together.

    Args:
        profile: A profile whose keys are valid one by one.

    Returns:
        One entry per impossible combination; empty for a sound profile.
    """
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
    limits = ceilings(n)
    lowest, highest_q = limits["hierarchy"], limits["Q_enhanced"]
    if targets.hierarchy_B < round(lowest, 4):
        found.append(
            Conflict(
                ("targets.hierarchy_B", "space.n_digits"),
                f"{targets.hierarchy_B} is beyond the ceiling {lowest:.7f} at {n} digits, which"
                " only radii tied inside a level can pass;"
                f" ask for {round(lowest, 4)} or more",
            )
        )
    if targets.Q_enhanced > highest_q:
        # Rounded down, since a Q is compared as it is.
        reachable_q = math.floor(highest_q * 1e4) / 1e4
        found.append(
            Conflict(
                ("targets.Q_enhanced", "space.n_digits"),
                f"{targets.Q_enhanced} is above the ceiling {highest_q:.7f} at {n} digits;"
                f" ask for {reachable_q} or less",
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
    training, scheduler = profile.training, profile.scheduler
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
    return found


def profile_json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a profile file, with every key's bounds and description."""
    schema = Profile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
