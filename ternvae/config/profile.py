"""The profile: every decision of a training run, typed, bounded and explained."""

from typing import Any

import yaml
from pydantic import Field, model_validator

from ternvae.config.conflicts import ConflictError, conflicts
from ternvae.config.scalars import ProfileDumper
from ternvae.config.sections import (
    Checkpointing,
    Curriculum,
    FrozenCheckpoint,
    Homeostasis,
    LossWeights,
    Model,
    Monitoring,
    PlainText,
    Scheduler,
    Section,
    Space,
    Targets,
    Training,
    Validation,
)


class Profile(Section):
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
    description: PlainText = Field(
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
    curriculum: Curriculum = Field(
        default=Curriculum(), description="Coverage first, then the hierarchy, richness last"
    )
    homeostasis: Homeostasis = Field(
        default=Homeostasis(), description="When encoder A and encoder B are frozen and thawed"
    )
    frozen_checkpoint: FrozenCheckpoint = Field(
        default=FrozenCheckpoint(), description="Coverage taken over from an earlier run"
    )
    checkpointing: Checkpointing = Field(
        default=Checkpointing(), description="How often the run is saved, and what is kept"
    )
    monitoring: Monitoring = Field(
        default=Monitoring(), description="What is measured and said along the way"
    )
    validation: Validation = Field(
        default=Validation(),
        description="Checks before training, and the bounds whose crossing is warned of",
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


def profile_json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a profile file, with every key's bounds and description."""
    schema = Profile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
