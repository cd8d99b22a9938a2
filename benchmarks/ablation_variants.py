"""The variants of the foundation profile that the ablation trains, and which are compared.

What is on and what is off in the shipped profile is read from it, not written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import ROOT
from sweep_report import COVERAGE, FOUNDATION

from ternvae.config import Profile, resolve_profile

__all__ = ["AS_SHIPPED", "FROZEN", "SOURCE", "Comparison", "Variant", "comparisons", "variants"]

AS_SHIPPED = "as_shipped"

#: The two stages of a run with coverage taken over from a checkpoint.
SOURCE, FROZEN = "frozen_checkpoint_source", "frozen_checkpoint"

#: Mechanisms that the profile turns on or off with one key, and whether the default is claimed of.
TOGGLES = {
    "homeostasis": ("homeostasis.enabled", True),
    "curriculum": ("curriculum.enabled", True),
    "enhanced_controller": ("model.enhanced_controller", True),
    "mathematical_precision": ("model.mathematical_precision", False),
    "use_amp": ("training.use_amp", False),
}

#: In the shipped profile encoder B may rest only near the ceiling of Q; here as soon as Q is at
#: the profile's target.
RESTS_EARLY, EARLY_Q = "encoder_b_rests_early", "2.0"

PATTERNS = ("memory_constrained", "high_performance", "quick_development")


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        name: under which its runs are filed.
        profile: the shipped profile that it starts from.
        config: a file of overrides, relative to the root of the repository.
        overrides: keys and values for the command line.
        source: the variant whose best model of the same seed is the frozen checkpoint.
        ready_claimed: whether all its runs are claimed to meet the foundation profile's targets;
            None if they are claimed to meet targets of their own, False if nothing is claimed.
    """

    name: str
    profile: str = FOUNDATION
    config: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    ready_claimed: bool | None = False

    @property
    def change(self) -> str:
        """What it does otherwise than the foundation profile, in the words of a command line."""
        parts = [] if self.profile == FOUNDATION else [f"--profile {self.profile}"]
        parts += [] if self.config is None else [f"--config {self.config.as_posix()}"]
        parts += [f"--{key} {value}" for key, value in self.overrides.items()]
        if self.source is not None:
            parts.append(f"--frozen_checkpoint.path best_Q.pt of {self.source}, same seed")
        return " ".join(parts) or "nothing"

    def resolve(self, overrides: Mapping[str, str]) -> Profile:
        """Its profile.

        Args:
            overrides: for every variant; its own win over them.

        Raises:
            ProfileError: a file is missing, or the values do not go together.
        """
        own = {} if self.source is None else {"frozen_checkpoint.path": "best_Q.pt"}
        config = None if self.config is None else ROOT / self.config
        return resolve_profile(self.profile, config, {**overrides, **self.overrides, **own})


@dataclass(frozen=True)
class Comparison:
    """What one mechanism changes: a variant that has it against one that has not.

    Attributes:
        name: the mechanism.
        on: the variant with it.
        off: the variant without it.
        shipped: whether the foundation profile has it.
        claimed: whether the profile's choice is claimed to be the better or the simpler one.
    """

    name: str
    on: str
    off: str
    shipped: bool
    claimed: bool = False


def variants(shipped: Profile) -> dict[str, Variant]:
    """All variants by name, in the order in which they are trained and shown.

    Args:
        shipped: the foundation profile.
    """
    found = [Variant(AS_SHIPPED, ready_claimed=True)]
    for name, (key, _) in TOGGLES.items():
        other = not _value(shipped, key)
        found.append(
            Variant(
                _opposite(name, shipped),
                overrides={key: str(other).lower()},
                ready_claimed=name == "use_amp",
            )
        )
    rests_early = {"homeostasis.enabled": "true", "homeostasis.Q_target": EARLY_Q}
    found.insert(2, Variant(RESTS_EARLY, overrides=rests_early))
    halves = {
        "training.batch_size": str(shipped.training.batch_size // 2),
        "training.gradient_accumulation_steps": str(
            2 * shipped.training.gradient_accumulation_steps
        ),
    }
    found.append(Variant("accumulation", overrides=halves, ready_claimed=True))
    for name in PATTERNS:
        own_targets = name == "quick_development"
        found.append(
            Variant(
                name,
                config=Path("examples", "configs", f"{name}.yaml"),
                ready_claimed=None if own_targets else True,
            )
        )
    found.append(Variant(SOURCE, profile=COVERAGE))
    found.append(Variant(FROZEN, source=SOURCE, ready_claimed=True))
    return {variant.name: variant for variant in found}


def comparisons(shipped: Profile, made: Sequence[str]) -> list[Comparison]:
    """The comparisons whose two variants are both among those made.

    Args:
        shipped: the foundation profile.
        made: names of variants.
    """
    found = []
    for name, (key, claimed) in TOGGLES.items():
        on = bool(_value(shipped, key))
        pair = (AS_SHIPPED, _opposite(name, shipped))
        found.append(Comparison(name, *(pair if on else pair[::-1]), on, claimed))
    early = Comparison("early rest of encoder B", RESTS_EARLY, AS_SHIPPED, False)
    found.insert(1, early)
    found.append(Comparison("accumulation", "accumulation", AS_SHIPPED, False))
    return [each for each in found if each.on in made and each.off in made]


def _opposite(name: str, shipped: Profile) -> str:
    """Name of the variant in which a mechanism is not as shipped."""
    return f"{name}_{'off' if _value(shipped, TOGGLES[name][0]) else 'on'}"


def _value(profile: Profile, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(profile, section), name)
