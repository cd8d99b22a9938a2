"""What a checkpoint of a run holds beside the weights, and how a run goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ternvae.checkpoint import FORMAT_VERSION, CheckpointError, load_checkpoint
from ternvae.config import Profile
from ternvae.trainer.examination import Examination
from ternvae.training.optimisation import Optimisation
from ternvae.training.progress import Best, Progress

__all__ = ["checkpoint_contents", "load_run", "restore_run"]


def checkpoint_contents(
    examination: Examination, optimisation: Optimisation, scored: Best | None
) -> dict[str, Any]:
    """Everything that a run needs to go on, and the figures of one of its models.

    Args:
        examination: of the run.
        optimisation: of the run.
        scored: whose metrics and checks the file shows; None for none yet.
    """
    homeostasis, controller = examination.homeostasis, examination.controller
    return {
        "model_state_dict": examination.model.state_dict(),
        "model_config": examination.model.config,
        "optimizer_state_dict": optimisation.optimizer.state_dict(),
        "epoch": examination.progress.epoch,
        "metrics_epoch": scored.epoch if scored else None,
        "comprehensive_metrics": scored.metrics if scored else {},
        "validation_results": scored.validation if scored else {},
        "profile": examination.profile.to_dict(),
        "progress": examination.progress.to_dict(),
        "frozen": dict(optimisation.frozen),
        "homeostasis": homeostasis.to_dict() if homeostasis is not None else None,
        "controller": controller.to_dict() if controller is not None else None,
        "warning_signs": examination.signs.state(),
        "unwritten": examination.monitor.pending(),
    }


def load_run(path: str | Path, profile: Profile, model_config: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint that a run with this profile can go on from.

    Raises:
        CheckpointError: the file cannot be used, holds another model, or has nothing left to do.
    """
    contents = load_checkpoint(path)
    if "progress" not in contents:
        version = contents["format_version"]
        older = f" that can go on (format {version})" if version < FORMAT_VERSION else ""
        raise CheckpointError(
            f"{path}: holds a model but not the progress of a run{older}; to begin a new run with "
            "its encoder A and decoder, set frozen_checkpoint.path to it"
        )
    if contents["model_config"] != model_config:
        raise CheckpointError(
            f"{path}: holds a model of {contents['model_config']}, the profile asks for "
            f"{model_config}; resume with the profile of that run"
        )
    if contents["epoch"] >= profile.training.epochs:
        raise CheckpointError(
            f"{path}: epoch {contents['epoch']} is done and the profile ends at epoch "
            f"{profile.training.epochs}; raise training.epochs to go on"
        )
    return contents


def restore_run(
    contents: dict[str, Any], examination: Examination, optimisation: Optimisation
) -> None:
    """Put a run where the checkpoint left it.

    What only one of the two profiles has, homeostasis or the controller, begins afresh.
    """
    examination.model.load_state_dict(contents["model_state_dict"])
    optimisation.optimizer.load_state_dict(contents["optimizer_state_dict"])
    optimisation.frozen.update(contents["frozen"])
    examination.progress = Progress.from_dict(contents["progress"])
    if examination.homeostasis is not None and contents["homeostasis"] is not None:
        examination.homeostasis.restore(contents["homeostasis"])
    if examination.controller is not None and contents["controller"] is not None:
        examination.controller.restore(contents["controller"])
    examination.signs.restore(contents["warning_signs"])
    examination.monitor.restore(contents["unwritten"])
    examination.branch_a = examination.evaluator.branch_a(examination.model)
