"""The parts of a run, made as a profile says."""

from __future__ import annotations

import torch

from ternvae.config import Profile
from ternvae.metrics import Evaluator, ceilings
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer.examination import Examination
from ternvae.trainer.holding_out import holdout_of
from ternvae.trainer.steps import seeded
from ternvae.training.batches import BatchPlan, epoch_seed
from ternvae.training.controller import Controller
from ternvae.training.homeostasis import Homeostasis
from ternvae.training.monitor import Monitor
from ternvae.training.optimisation import Optimisation
from ternvae.training.processes import Processes
from ternvae.training.progress import Progress
from ternvae.training.run_directory import RunDirectory
from ternvae.training.verdict import reachable_hierarchy
from ternvae.training.warning_signs import WarningSigns

__all__ = ["batches_of", "examination_of", "model_of", "monitor_of", "optimisation_of"]


def model_of(profile: Profile, device: torch.device) -> TernaryVAE:
    """The model as it begins, a function of the seed."""
    with seeded(epoch_seed(profile.seed, 0), device):
        keywords = profile.model.model_dump(exclude={"enhanced_controller"})
        return TernaryVAE(n_digits=profile.space.n_digits, **keywords).to(device)


def monitor_of(profile: Profile, directory: RunDirectory, processes: Processes) -> Monitor:
    """What a run speaks through."""
    return Monitor(
        directory,
        tensorboard=profile.monitoring.tensorboard,
        patient=profile.checkpointing.on_save_error == "continue",
        processes=processes,
    )


def optimisation_of(profile: Profile, model: TernaryVAE) -> Optimisation:
    """What changes the weights."""
    training = profile.training
    return Optimisation(
        model,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        use_amp=training.use_amp,
        capturable=model.prototypes.is_cuda,
    )


def batches_of(profile: Profile) -> BatchPlan:
    """Which sequences the steps see."""
    training = profile.training
    return BatchPlan(
        TernarySpace(profile.space.n_digits),
        training.batch_size,
        training.balanced_share,
        training.paired_share,
        holdout_of(profile),
    )


def examination_of(
    profile: Profile, model: TernaryVAE, monitor: Monitor, processes: Processes
) -> Examination:
    """What measures, with all that decides by what is measured: that is what training sees."""
    share, holdout = (processes.rank, processes.world), holdout_of(profile)
    among = None if holdout is None else holdout.is_seen
    evaluator = Evaluator(model.space, share=share, add=processes.sum_, among=among)
    return Examination(
        profile=profile,
        model=model,
        evaluator=evaluator,
        progress=Progress(),
        monitor=monitor,
        signs=warning_signs_of(profile),
        homeostasis=homeostasis_of(profile, evaluator),
        controller=controller_of(profile),
        processes=processes,
    )


def homeostasis_of(profile: Profile, evaluator: Evaluator) -> Homeostasis | None:
    """What freezes and thaws the encoders; None if that is off."""
    if not profile.homeostasis.enabled:
        return None
    return Homeostasis(
        **profile.homeostasis.model_dump(exclude={"enabled"}),
        coverage_limit=profile.targets.coverage,
        hierarchy_target=reachable_hierarchy(
            profile.targets.hierarchy_B, evaluator.hierarchy_ceiling
        ),
        q_limit=ceilings(profile.space.n_digits)["Q_enhanced"],
        coverage_b_target=profile.targets.coverage_B,
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
