"""Runs so small that a test can make dozens of them, and all that is compared of two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ternvae.checkpoint import load_checkpoint
from ternvae.config import Profile, load_profile
from ternvae.trainer import Trainer, TrainingResult
from ternvae.training.inventory import file_digest
from ternvae.training.run_directory import ResumePoint, RunDirectory

#: Everything that decides is on, on 27 sequences: 3 steps of 5 batches make an epoch.  Encoder A is
#: frozen after epoch 1, whatever its coverage, and thaws when annealing raises the threshold.
EVERYTHING: dict[str, Any] = {
    "seed": 3,
    "space.n_digits": 3,
    "training.batch_size": 8,  # two of them partners
    "targets.coverage_B": 0.0,  # encoder A does not wait for B
    "training.epochs": 4,
    "training.weight_decay": 0.01,
    "training.gradient_accumulation_steps": 2,
    "monitoring.detailed_metrics_every_n_epochs": 1,
    "monitoring.log_every_n_steps": 2,
    "monitoring.report": False,
    "checkpointing.save_every_n_epochs": 2,
    "checkpointing.keep_best_n": 2,
    "homeostasis.coverage_precision_threshold": 0.0,
    "homeostasis.enable_annealing": True,
    "homeostasis.annealing_patience": 2,
    "homeostasis.annealing_step": 1.0,
    "model.enhanced_controller": True,
    "model.hidden_dim": 16,
    "model.latent_dim": 4,
    "model.dropout": 0.1,
    "curriculum.enabled": True,
    "curriculum.coverage_first_epochs": 1,
    "curriculum.hierarchy_ramp_epochs": 2,
    "curriculum.richness_preserve_epochs": 1,
    "scheduler.warmup_epochs": 1,
}


def tiny(**overrides: Any) -> Profile:
    """A profile with everything on; ``__`` stands for the dot of a key."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_profile("mathematical_foundation", EVERYTHING | dotted)


def fit(
    profile: Profile, run: Path, resume_from: Path | None = None, stop_after: int | None = None
) -> tuple[Trainer, TrainingResult]:
    """Train; as if somebody asked to stop during step ``stop_after`` of this process, if any."""
    trainer = Trainer(profile, run, "cpu", resume_from=resume_from)
    step, done = trainer.optimisation.step, iter(range(1, 1 << 30))

    def counted(*arguments: Any) -> torch.Tensor:
        if next(done) == stop_after:
            trainer.request_stop()
        return step(*arguments)

    trainer.optimisation.step = counted  # type: ignore[method-assign]
    return trainer, trainer.fit()


def last(run: Path) -> Path:
    """The newest state of a run."""
    return run / "checkpoints" / "last.pt"


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def log_of_one_run(run: Path) -> list[str]:
    """``train.log`` without its own path and without what says that it went on."""
    lines = (run / "train.log").read_text().replace(str(run), "RUN").splitlines()
    return [line for line in lines if not line.startswith("Resumed from")]


def same(one: Any, other: Any) -> bool:
    """Whether two values are of the same kind and the same to the last bit."""
    if isinstance(one, torch.Tensor):
        alike = isinstance(other, torch.Tensor) and one.dtype == other.dtype
        return (
            alike
            and one.shape == other.shape
            and one.numpy().tobytes() == (other.numpy().tobytes())
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or repr(one) == repr(other) == "nan"


def differing(one: Path, other: Path) -> list[str]:
    """What is not the same at the end of two runs: parts of ``last.pt``, and files."""
    parts = [load_checkpoint(last(run)) for run in (one, other)]
    for contents in parts:
        del contents["progress"]["seconds"], contents["record_bytes"]
    keys = dict.fromkeys([*parts[0], *parts[1]])
    bad = [key for key in keys if not same(parts[0].get(key), parts[1].get(key))]
    if (one / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
        bad.append("metrics.jsonl")
    if log_of_one_run(one) != log_of_one_run(other):
        bad.append("train.log")
    return bad


def point(
    directory: RunDirectory, epoch: int | None, sizes: Mapping[str, int] | None = None
) -> ResumePoint | None:
    """Where a run goes on in its folder, with a file for a checkpoint; None for a new run."""
    if epoch is None:
        return None
    directory.checkpoints.mkdir(parents=True, exist_ok=True)
    if not directory.last.exists():
        directory.last.write_bytes(b"as good as any")
    return ResumePoint(directory.last, file_digest(directory.last), epoch, sizes or {})
