"""Peak memory of one loop, in a process of its own: run by ``bench_training.py`` with a job."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from children import in_child, peak_memory_mib

# What a loop needs is imported where it runs: the base is what the import of torch alone takes.

__all__ = ["EPOCHS", "LOOPS", "peak_memory"]

#: Epochs of the loops; memory stands still after the first.
EPOCHS = 3


def _torch(job: dict[str, Any]) -> None:
    """Nothing beyond the import at the top."""


def _textbook(job: dict[str, Any]) -> None:
    from textbook import TextbookTraining

    training = TextbookTraining(_profile(job), job["device"])
    for _ in range(EPOCHS):
        training.epoch()


def _steps(job: dict[str, Any]) -> None:
    from training_measure import ManualTraining

    training = ManualTraining(_profile(job), torch.device(job["device"]), frozen=False)
    for _ in range(EPOCHS):
        training.epoch()


def _fit(job: dict[str, Any]) -> None:
    from training_measure import run_trainer

    from ternvae.config import resolve_profile

    short = {"training.epochs": EPOCHS, "monitoring.detailed_metrics_every_n_epochs": 1}
    profile = resolve_profile(base=_profile(job), overrides=short)
    run_trainer(profile, torch.device(job["device"]), stop_at_targets=False)


def _profile(job: dict[str, Any]) -> Any:
    from ternvae.config import resolve_profile

    return resolve_profile(None, None, job["overrides"])


#: What is measured, and how it is called in reports.
LOOPS: dict[str, Callable[[dict[str, Any]], None]] = {
    "import of torch alone": _torch,
    "textbook, training": _textbook,
    "Trainer, training": _steps,
    "Trainer, training, evaluating and saving": _fit,
}


def peak_memory(overrides: dict[str, Any], device: str, threads: int) -> dict[str, dict[str, Any]]:
    """What each of :data:`LOOPS` says of its memory, each in a process of its own.

    Args:
        overrides: of the foundation profile, the seed among them.
        device: where.
        threads: torch's threads inside an operation.
    """
    job = {"overrides": overrides, "device": device, "threads": threads}
    return {loop: in_child(Path(__file__), {**job, "loop": loop}) for loop in LOOPS}


def main() -> None:
    """Do the job that is the argument, and print its memory."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    LOOPS[job["loop"]](job)
    on_cuda = torch.cuda.max_memory_allocated() / 2**20 if job["device"] != "cpu" else None
    print(json.dumps({"peak_mib": peak_memory_mib(), "cuda_mib": on_cuda}))


if __name__ == "__main__":
    main()
