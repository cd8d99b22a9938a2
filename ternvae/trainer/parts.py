"""The parts of a run that decide, made as a profile says."""

from __future__ import annotations

from ternvae.config import Profile
from ternvae.metrics import ceilings
from ternvae.training.batches import epoch_seed
from ternvae.training.controller import Controller
from ternvae.training.homeostasis import Homeostasis
from ternvae.training.warning_signs import WarningSigns

__all__ = ["controller_of", "homeostasis_of", "warning_signs_of"]


def homeostasis_of(profile: Profile) -> Homeostasis | None:
    """What freezes and thaws the encoders; None if that is off."""
    if not profile.homeostasis.enabled:
        return None
    return Homeostasis(
        **profile.homeostasis.model_dump(exclude={"enabled"}),
        coverage_limit=profile.targets.coverage,
        hierarchy_target=profile.targets.hierarchy_B,
        q_limit=ceilings(profile.space.n_digits)["Q_enhanced"],
    )


def controller_of(profile: Profile) -> Controller | None:
    """What modulates the loss weights; None if that is off."""
    if not profile.model.enhanced_controller:
        return None
    return Controller(profile.loss_weights.model_dump(), epoch_seed(profile.seed, 0))


def warning_signs_of(profile: Profile) -> WarningSigns:
    """What watches the run for signs of trouble."""
    settings = {
        f"{section}.{key}": value
        for section, values in profile.to_dict().items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    bounds = profile.validation
    return WarningSigns(
        settings,
        coverage_floor=bounds.coverage_floor,
        # A run that meets its target for richness is in order, however low the target is.
        richness_floor=min(bounds.richness_floor, profile.targets.richness),
        loss_ceiling=bounds.loss_ceiling,
        epochs=profile.training.epochs,
    )
