"""What came of a run, for the caller and for ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternvae.metrics import ceilings
from ternvae.trainer.examination import Examination

__all__ = ["TrainingResult", "run_summary"]


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run; holds what it is given, check-free.

    Attributes:
        metrics: all metrics of the best model, the one in ``checkpoint``; empty if none.
        validation: the checks of that model, each true or false; empty if none.
        stop_reason: "epochs" (all done), "interrupted", "non_finite_loss", "out_of_memory",
            "save_failed" or "processes_differ".
        checkpoint: the file that holds the best model; None if no epoch was evaluated.
        run_dir: the folder of the run.
        last_good: the newest checkpoint to go on from; None if there is none.
        problem: why training stopped itself, in a sentence; None if it did not.
        unseen: metrics of the best model over the sequences that training never saw; None if it
            saw all, or has not come to its end.
    """

    metrics: dict[str, float]
    validation: dict[str, bool]
    stop_reason: str
    checkpoint: Path | None
    run_dir: Path
    last_good: Path | None = None
    problem: str | None = None
    unseen: dict[str, float] | None = None


def run_summary(
    examination: Examination, stop_reason: str, unseen: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What ``metrics.json`` holds.

    Args:
        examination: of the run.
        stop_reason: see :class:`TrainingResult`.
        unseen: the same.
    """
    profile, progress = examination.profile, examination.progress
    best, share = progress.best, profile.space.holdout
    parts = {"share": share, "seen": best.metrics if best else {}, "unseen": unseen}
    return {
        "profile": profile.name,
        "seed": profile.seed,
        "n_digits": profile.space.n_digits,
        "epochs": progress.epoch,
        "best_epoch": best.epoch if best else None,
        "stop_reason": stop_reason,
        "comprehensive_metrics": best.metrics if best else {},
        **({"holdout": parts} if share else {}),
        "sampling": examination.evaluator.sampling,
        "ceilings": ceilings(profile.space.n_digits),
        "validation_results": best.validation if best else {},
        "epochs_to": progress.epochs_to,
        "seconds": progress.seconds,
        "warnings": examination.signs.seen,
    }
