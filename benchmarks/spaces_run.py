"""Train and evaluate on one space, in a process of its own: run by ``bench_spaces.py``."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from children import peak_memory_mib, progress
from training_measure import shown_metrics, watching

from ternvae.config import Profile, resolve_profile
from ternvae.metrics import CollapsedLevelsWarning, ceilings, evaluate
from ternvae.trainer import Trainer

__all__ = ["HIERARCHY_TOLERANCE", "profile_for", "train_space"]

#: The space that the shipped profile is for.
SHIPPED_DIGITS = 9

#: How far hierarchy_B may stay from its ceiling.
HIERARCHY_TOLERANCE = 1e-3


def profile_for(n_digits: int, epochs: int, overrides: dict[str, Any]) -> Profile:
    """The foundation profile on another space.

    An epoch of a larger space has many more steps, so that there the schedule is shorter in epochs:
    as many steps of warm-up, and one cycle in all.

    Args:
        n_digits: of the space.
        epochs: of a run on a space that is larger than the shipped one.
        overrides: of the profile, which come last.

    Raises:
        ProfileError: there is no such profile.
    """
    values: dict[str, Any] = {"space.n_digits": n_digits, "monitoring.report": False}
    if n_digits > SHIPPED_DIGITS:
        shipped = resolve_profile(None, None, {})
        share = 3.0 ** (SHIPPED_DIGITS - n_digits)
        ceiling = ceilings(n_digits)["hierarchy"]
        values |= {
            "training.epochs": epochs,
            "scheduler.T_0": float(epochs),
            "scheduler.warmup_epochs": shipped.scheduler.warmup_epochs * share,
            "monitoring.detailed_metrics_every_n_epochs": 1,
            "targets.hierarchy_B": math.floor((ceiling + HIERARCHY_TOLERANCE) * 1e4) / 1e4,
        }
    return resolve_profile(None, None, {**values, **overrides})


def train_space(profile: Profile, minutes: float | None) -> dict[str, Any]:
    """Train until all targets are met or the time is up, then evaluate over the whole space.

    Args:
        profile: the resolved profile.
        minutes: when to stop, wherever the run is then; None for no such limit.

    Returns:
        What came of the run and of the evaluation, and the peak memory of this process so far.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(profile, Path(folder) / "run", "cpu")
        timer = threading.Timer(60 * (minutes or 0), trainer.request_stop)
        if minutes is not None:
            timer.start()
        try:
            with watching(trainer, stop_at_targets=True):
                result = trainer.fit()
        finally:
            timer.cancel()
    done, size = trainer.progress, trainer.space.size
    progress(f"n = {trainer.space.n_digits}: evaluating {size} sequences")
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedLevelsWarning)
        metrics = evaluate(trainer.model, trainer.space)
    evaluate_seconds = time.perf_counter() - started
    seen = done.epoch * size + trainer.steps.done * trainer.batches.passing_rows
    return {
        "n_digits": trainer.space.n_digits,
        "size": size,
        "stop_reason": result.stop_reason,
        "problem": result.problem,
        "epochs": done.epoch,
        "epochs_to": done.epochs_to,
        "seconds": done.seconds,
        "sequences_seen": seen,
        "seconds_per_sequence": (done.seconds["train"] or 0.0) / seen if seen else None,
        "evaluate_seconds": evaluate_seconds,
        "sampling": metrics.sampling,
        "metrics": shown_metrics(metrics),
        "peak_mib": peak_memory_mib(),
    }


def main() -> None:
    """Do the job that is the argument, and print what came of it."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    profile = profile_for(job["n_digits"], job["epochs"], job["overrides"])
    print(json.dumps(train_space(profile, job["minutes"])))


if __name__ == "__main__":
    main()
