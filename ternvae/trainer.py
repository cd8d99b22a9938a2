"""The training loop: the one place that sees both a profile and tensors."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.config import Profile
from ternvae.losses import geometry_losses, kl_loss, reconstruction_loss
from ternvae.manifolds import RiemannianAdam
from ternvae.metrics import CollapsedLevelsWarning, Evaluator, Metrics, ceilings, metric_names
from ternvae.models import BRANCHES, TernaryVAE
from ternvae.padic import TernarySpace, digits_of, valuation
from ternvae.training.batches import BatchPlan, epoch_seed
from ternvae.training.report import epoch_line, final_table
from ternvae.training.run_directory import RunDirectory
from ternvae.training.schedule import mathematical_cosine
from ternvae.training.verdict import rank, targets_met, validation_results

__all__ = ["Trainer", "TrainingResult", "choose_device"]

log = logging.getLogger("ternvae")

#: How far the richness term aims above the target: always, and more while the learning rate is at
#: its peak.  Steps are noisy then, so room between the levels is given to spread first and to order
#: last, and Q is best where a cycle ends instead of somewhere in its noise.
RICHNESS_HEADROOM, RICHNESS_HEADROOM_AT_PEAK = 0.05, 0.5


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        metrics: all metrics of the best model, the one in ``checkpoint``.
        validation: the checks of that model, each true or false.
        stop_reason: "epochs" (all done), "interrupted" or "non_finite_loss".
        checkpoint: the file that holds the best model; None if no epoch was evaluated.
        run_dir: the folder of the run.
    """

    metrics: dict[str, float]
    validation: dict[str, bool]
    stop_reason: str
    checkpoint: Path | None
    run_dir: Path


@dataclass
class Progress:
    """Everything about a run that is not in the model or the optimizer; goes into checkpoints."""

    epoch: int = 0
    coverage_frozen: bool = False
    best: dict[str, Any] | None = None
    epochs_to: dict[str, int | None] = field(
        default_factory=lambda: dict.fromkeys(("coverage_99", "coverage_100", "targets"))
    )
    seconds: dict[str, float | None] = field(
        default_factory=lambda: {"train": 0.0, "evaluate": 0.0, "to_targets": None}
    )


def choose_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: no such device here; the message names those that there are.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    name = f"cuda:{device.index or 0}" if device and device.type == "cuda" else str(device)
    if device is None or name not in there:
        raise ValueError(f"device: {wanted!r} is not there; choose from {', '.join(there)}")
    return device


class Trainer:
    """Trains a model as a profile says and keeps the run in a folder.

    Args:
        profile: the resolved profile.
        run_dir: the folder of the run; must not hold another run.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        resume_from: a checkpoint of a run with the same model; training goes on after its epoch.
        progress_bar: show a progress bar on standard error.

    Raises:
        ValueError: the device is not there, the folder holds another run, or the checkpoint does
            not fit the profile.  Nothing has been written then.
    """

    def __init__(
        self,
        profile: Profile,
        run_dir: str | Path,
        device: str = "auto",
        *,
        resume_from: str | Path | None = None,
        progress_bar: bool = False,
    ) -> None:
        self.profile = profile
        self.device = choose_device(device)
        self.directory = RunDirectory(run_dir)
        self.directory.check(resuming=resume_from is not None)
        self.space = TernarySpace(profile.space.n_digits)
        self.batches = BatchPlan(
            self.space, profile.training.batch_size, profile.training.balanced_share
        )
        self.targets: dict[str, float] = profile.targets.model_dump()
        self.progress = Progress()
        self._progress_bar = progress_bar
        self._stop_requested = False
        self._richness_floor = self.targets["richness"]
        self._evaluator = Evaluator(self.space)
        self._frozen_metrics: dict[str, float] | None = None
        with self._seeded(epoch=0):
            self.model = TernaryVAE(n_digits=self.space.n_digits, **profile.model.model_dump())
        self.model.to(self.device)
        self.optimizer = RiemannianAdam(
            self.model.parameters(),
            lr=profile.training.lr,
            weight_decay=profile.training.weight_decay,
            fused=True,
        )
        self._resume_epoch: int | None = None
        if resume_from is not None:
            self._resume(resume_from)

    # --- the run ----------------------------------------------------------------------------

    def fit(self) -> TrainingResult:
        """Train to the end of the profile, or until stopped; return the best model's figures."""
        self.directory.open(self.profile.to_yaml(), resume_epoch=self._resume_epoch)
        handler = self.directory.log_handler()
        log.addHandler(handler)
        try:
            stop_reason = self._epochs()
            return self._finish(stop_reason)
        finally:
            log.removeHandler(handler)
            handler.close()

    def request_stop(self) -> None:
        """Ask :meth:`fit` to save and return after the current epoch."""
        self._stop_requested = True

    def _epochs(self) -> str:
        training = self.profile.training
        epochs = range(self.progress.epoch + 1, training.epochs + 1)
        log.info(
            "Training %s: %d parameters on %s, %d sequences, %d epochs, seed %d",
            self.profile.name,
            sum(p.numel() for p in self.model.parameters()),
            self.device,
            self.space.size,
            training.epochs,
            self.profile.seed,
        )
        for epoch in tqdm(epochs, unit="epoch", disable=not self._progress_bar, leave=False):
            loss = self._train_epoch(epoch)
            if not math.isfinite(loss):
                log.error("Epoch %d: the loss is %s; stopped, checkpoints kept", epoch, loss)
                return "non_finite_loss"
            self.progress.epoch = epoch
            self._watch_coverage(epoch)
            if self._is_detailed(epoch):
                self._evaluate(epoch, loss)
            if epoch % self.profile.checkpointing.save_every_n_epochs == 0:
                self._save(self.directory.numbered(epoch), self.directory.last)
            if self._stop_requested:
                log.info("Interrupted after epoch %d", epoch)
                return "interrupted"
        return "epochs"

    def _train_epoch(self, epoch: int) -> float:
        """One pass over the space; returns the mean loss of a step."""
        started = time.perf_counter()
        self.model.train()
        if self.progress.coverage_frozen:
            self._freeze_coverage()
        steps = self.batches.steps_per_epoch
        total = torch.zeros((), device=self.device)
        with self._seeded(epoch):
            batches = self.batches.epoch(epoch_seed(self.profile.seed, epoch), self.device)
            for step, indices in enumerate(batches):
                self._set_pace(epoch - 1 + (step + 0.5) / steps)
                total += self._step(indices)
        mean = float(total) / steps
        self._spend("train", started)
        return mean

    def _step(self, indices: Tensor) -> Tensor:
        loss = self._loss(indices)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.model.parameters(), self.profile.training.max_grad_norm)
        self.optimizer.step()
        return loss.detach()

    def _loss(self, indices: Tensor) -> Tensor:
        """The weighted objective of one batch: both branches, or B alone once A is frozen."""
        weights = self.profile.loss_weights
        n_digits = self.space.n_digits
        sequences = digits_of(indices, n_digits=n_digits) - 1
        levels = valuation(indices, cap=n_digits)
        loss = torch.zeros((), device=self.device)
        for branch in "B" if self.progress.coverage_frozen else BRANCHES:
            out = self.model(sequences, levels, branch)
            loss = loss + weights.coverage * reconstruction_loss(out.logits, sequences)
            loss = loss + weights.kl * kl_loss(out.posterior_log_prob, out.prior_log_prob)
            if branch == "B":
                terms = geometry_losses(
                    out.radius,
                    levels,
                    n_digits=n_digits,
                    radius_max=self.model.ball.hyperbolic_radius_max,
                    richness_floor=self._richness_floor,
                )
                loss = (
                    loss
                    + weights.hierarchy * terms.hierarchy
                    + weights.richness * terms.richness
                    + weights.separation * terms.separation
                )
        return loss

    def _set_pace(self, epoch: float) -> None:
        """Set what changes with the epoch: the learning rate and the floor of richness."""
        rate = mathematical_cosine(
            epoch, lr=self.profile.training.lr, **self.profile.scheduler.model_dump()
        )
        heat = rate / self.profile.training.lr
        headroom = RICHNESS_HEADROOM + (RICHNESS_HEADROOM_AT_PEAK - RICHNESS_HEADROOM) * heat
        self._richness_floor = self.targets["richness"] * (1 + headroom)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    # --- coverage first, then frozen --------------------------------------------------------

    def _watch_coverage(self, epoch: int) -> None:
        """Freeze encoder A and the decoder at the first epoch that meets the coverage target."""
        if self.progress.coverage_frozen:
            return
        started = time.perf_counter()
        metrics = self._evaluator.branch_a(self.model)
        coverage = metrics["coverage"]
        reached = self.progress.epochs_to
        for name, share in (("coverage_99", 0.99), ("coverage_100", 1.0)):
            if reached[name] is None and coverage >= share:
                reached[name] = epoch
        if coverage >= self.targets["coverage"]:
            self.progress.coverage_frozen = True
            log.info(
                "Epoch %d: coverage %.6f reached, encoder A and the decoder frozen", epoch, coverage
            )
        self._frozen_metrics = metrics
        self._spend("evaluate", started)

    def _freeze_coverage(self) -> None:
        for module in self.model.coverage_modules():
            module.eval()
            module.requires_grad_(False)
            for parameter in module.parameters():
                parameter.grad = None

    # --- measuring and saving ---------------------------------------------------------------

    def _is_detailed(self, epoch: int) -> bool:
        every = self.profile.monitoring.detailed_metrics_every_n_epochs
        return epoch % every == 0 or epoch == self.profile.training.epochs or self._stop_requested

    def _evaluate(self, epoch: int, loss: float) -> None:
        """Measure everything, log it, and keep the checkpoint if it is the best so far."""
        started = time.perf_counter()
        metrics = self._measure()
        reached_all = targets_met(metrics, self.targets)
        self._spend("evaluate", started)
        log.info("%s", epoch_line(epoch, loss, metrics))
        if reached_all and self.progress.epochs_to["targets"] is None:
            self.progress.epochs_to["targets"] = epoch
            spent = self.progress.seconds
            spent["to_targets"] = (spent["train"] or 0.0) + (spent["evaluate"] or 0.0)
            log.info("Epoch %d: all targets met after %.1f s", epoch, spent["to_targets"])
        self.directory.append(
            {"epoch": epoch, "loss": loss, "lr": self.optimizer.param_groups[0]["lr"], **metrics}
        )
        best = self.progress.best
        if best is None or rank(metrics) > rank(best["metrics"]):
            self.progress.best = {
                "epoch": epoch,
                "metrics": dict(metrics),
                "validation": validation_results(
                    metrics,
                    self.targets,
                    n_digits=self.space.n_digits,
                    points_valid=self._points_valid(),
                ),
            }
            self._save(self.directory.best)

    def _measure(self) -> Metrics:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CollapsedLevelsWarning)
            values = {**(self._frozen_metrics or {}), **self._evaluator.branch_b(self.model)}
        for warning in caught:
            log.warning("Warning: %s", warning.message)
        ordered = {name: values[name] for name in metric_names(self.space.n_digits)}
        return Metrics(ordered, self._evaluator.sampling)

    def _points_valid(self) -> bool:
        """Whether every point of both branches is finite and inside ``max_radius``."""
        ball = self.model.ball
        for branch in BRANCHES:
            points = self._evaluator.embed(self.model, branch)
            share = ball.c.sqrt() * points.norm(dim=-1)
            if not bool((share <= self.profile.model.max_radius).all()):
                return False
        return True

    def _save(self, *paths: Path) -> None:
        best = self.progress.best
        contents = {
            "model_state_dict": self.model.state_dict(),
            "model_config": self.model.config,
            "optimizer_state_dict": self.optimizer.state_dict(),
            "epoch": self.progress.epoch,
            "comprehensive_metrics": best["metrics"] if best else {},
            "validation_results": best["validation"] if best else {},
            "profile": self.profile.to_dict(),
            "progress": asdict(self.progress),
        }
        self.directory.save(contents, *paths)

    def _finish(self, stop_reason: str) -> TrainingResult:
        """Save the last state and the summary, and show the best model's figures."""
        if stop_reason != "non_finite_loss":
            self._save(self.directory.last)
        best = self.progress.best or {"metrics": {}, "validation": {}, "epoch": None}
        limits = ceilings(self.space.n_digits)
        self.directory.write_summary(
            {
                "profile": self.profile.name,
                "seed": self.profile.seed,
                "n_digits": self.space.n_digits,
                "epochs": self.progress.epoch,
                "best_epoch": best["epoch"],
                "stop_reason": stop_reason,
                "comprehensive_metrics": best["metrics"],
                "sampling": self._evaluator.sampling,
                "ceilings": limits,
                "validation_results": best["validation"],
                "epochs_to": self.progress.epochs_to,
                "seconds": self.progress.seconds,
            }
        )
        if best["metrics"]:
            log.info("\n%s", final_table(best["metrics"], self.targets, limits))
        return TrainingResult(
            metrics=best["metrics"],
            validation=best["validation"],
            stop_reason=stop_reason,
            checkpoint=self.directory.best if best["metrics"] else None,
            run_dir=self.directory.path,
        )

    def _resume(self, path: str | Path) -> None:
        contents = load_checkpoint(path)
        if contents["model_config"] != self.model.config:
            raise CheckpointError(
                f"{path}: holds a model of {contents['model_config']}, the profile asks for "
                f"{self.model.config}; resume with the profile of that run"
            )
        self.model.load_state_dict(contents["model_state_dict"])
        self.optimizer.load_state_dict(contents["optimizer_state_dict"])
        self.progress = Progress(**contents["progress"])
        self._resume_epoch = self.progress.epoch
        if self.progress.coverage_frozen:
            self._frozen_metrics = self._evaluator.branch_a(self.model)

    def _spend(self, what: str, started: float) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.progress.seconds[what] = (
            (self.progress.seconds[what] or 0.0) + time.perf_counter() - started
        )

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """Torch's global random state as a function of run seed and epoch, restored afterwards."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(epoch_seed(self.profile.seed, epoch))
            yield
