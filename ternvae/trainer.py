"""The training loop: the one place that sees both a profile and tensors."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.config import Profile
from ternvae.losses import geometry_losses, kl_loss, reconstruction_loss
from ternvae.manifolds import RiemannianAdam
from ternvae.metrics import (
    CollapsedLevelsWarning,
    Evaluator,
    ceilings,
    evaluation_bytes,
    metric_names,
)
from ternvae.models import BRANCHES, TernaryVAE
from ternvae.padic import TernarySpace, digits_of, valuation
from ternvae.training.batches import BatchPlan, epoch_seed
from ternvae.training.device import choose_device, memory_of
from ternvae.training.progress import Best, Progress
from ternvae.training.report import epoch_line, final_table
from ternvae.training.run_directory import RunDirectory, RunDirectoryError, new_run_path
from ternvae.training.schedule import mathematical_cosine
from ternvae.training.verdict import rank, targets_met, validation_results

__all__ = ["RunDirectoryError", "Trainer", "TrainingResult"]

log = logging.getLogger("ternvae")

#: How far the richness term aims above the target: always, and while the learning rate is at its
#: peak.  Steps are noisy then, so room between the levels is given to spread first and to order
#: last, and Q is best where a cycle ends instead of somewhere in its noise.
RICHNESS_HEADROOM, RICHNESS_HEADROOM_AT_PEAK = 0.1, 1.0


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        metrics: all metrics of the best model, the one in ``checkpoint``; empty if none.
        validation: the checks of that model, each true or false; empty if none.
        stop_reason: "epochs" (all done), "interrupted" or "non_finite_loss".
        checkpoint: the file that holds the best model; None if no epoch was evaluated.
        run_dir: the folder of the run.
    """

    metrics: dict[str, float]
    validation: dict[str, bool]
    stop_reason: str
    checkpoint: Path | None
    run_dir: Path


class Trainer:
    """Trains a model as a profile says and keeps the run in a folder.

    An epoch passes through the whole space.  Encoder A, the decoder and branch B learn together
    until every sequence that the target asks for is recovered through A; then encoder A and the
    decoder are frozen, their metrics kept, and B goes on alone.

    Args:
        profile: the resolved profile.
        run_dir: the folder of the run, which must not hold another run; None for a new one in
            ``runs/``.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        resume_from: a checkpoint of a run with the same model; training goes on after its epoch.
        progress_bar: show a progress bar on standard error.

    Raises:
        ValueError: the device is not there or too small for the space, the folder holds another
            run, or the checkpoint does not fit the profile.  Nothing has been written then.
    """

    def __init__(
        self,
        profile: Profile,
        run_dir: str | Path | None = None,
        device: str = "auto",
        *,
        resume_from: str | Path | None = None,
        progress_bar: bool = False,
    ) -> None:
        self.profile = profile
        self.device = choose_device(device)
        self.directory = RunDirectory(run_dir or new_run_path(profile.name, profile.seed))
        self.directory.check(resuming=resume_from is not None)
        self.space = TernarySpace(profile.space.n_digits)
        self._check_memory()
        self.batches = BatchPlan(
            self.space, profile.training.batch_size, profile.training.balanced_share
        )
        self.targets: dict[str, float] = profile.targets.model_dump()
        self.progress = Progress()
        self.evaluator = Evaluator(self.space)
        with self._seeded(epoch=0):
            self.model = TernaryVAE(n_digits=self.space.n_digits, **profile.model.model_dump())
        self.model.to(self.device)
        self.optimizer = RiemannianAdam(
            self.model.parameters(), weight_decay=profile.training.weight_decay, fused=True
        )
        self._metrics_a: dict[str, float] = {}
        self._richness_floor = self.targets["richness"]
        self._progress_bar = progress_bar
        self._stop_requested = False
        self._resumed_at: int | None = None
        if resume_from is not None:
            self._resume(resume_from)

    # --- the run ----------------------------------------------------------------------------

    def fit(self) -> TrainingResult:
        """Train to the end of the profile, or until stopped; return the best model's figures.

        Raises:
            RunDirectoryError: the folder of the run cannot be made or holds another run by now.
        """
        self.directory.open(self.profile.to_yaml(), resume_epoch=self._resumed_at)
        handler = self.directory.log_handler()
        log.addHandler(handler)
        try:
            self._announce()
            return self._finish(self._train())
        finally:
            log.removeHandler(handler)
            handler.close()

    def request_stop(self) -> None:
        """Ask :meth:`fit` to save and return after the current epoch."""
        self._stop_requested = True

    def _train(self) -> str:
        """All epochs; returns why they ended."""
        first, last = self.progress.epoch + 1, self.profile.training.epochs
        every = self.profile.checkpointing.save_every_n_epochs
        self.progress.start_clock()
        for epoch in tqdm(
            range(first, last + 1), unit="epoch", disable=not self._progress_bar, leave=False
        ):
            losses = self._train_epoch(epoch)
            if not math.isfinite(losses["total"]):
                log.error("Epoch %d: the loss is not finite: %s; stopped", epoch, losses)
                return "non_finite_loss"
            self.progress.epoch = epoch
            if not self.progress.coverage_frozen:
                self._watch_coverage()
            if self._stop_requested or self._is_detailed(epoch):
                self._evaluate(losses)
            if epoch % every == 0:
                self._save(self.directory.numbered(epoch), self.directory.last)
            if self._stop_requested:
                log.info("Stopped on request after epoch %d", epoch)
                return "interrupted"
        return "epochs"

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the space; returns the mean of each loss term, and of their weighted sum.

        The total is summed on the device, so that no step waits for the host.
        """
        steps = self.batches.steps_per_epoch
        weights = self.profile.loss_weights.model_dump()
        sums = torch.zeros(len(weights), device=self.device)
        self.model.train()
        self._freeze()
        with self.progress.spending("train", self.device), self._seeded(epoch):
            seed = epoch_seed(self.profile.seed, epoch)
            for step, indices in enumerate(self.batches.epoch(seed, self.device)):
                self._set_pace(epoch - 1 + (step + 0.5) / steps)
                sums += self._step(indices, weights)
        means = dict(zip(weights, (sums / steps).tolist(), strict=True))
        return {"total": sum(weights[name] * mean for name, mean in means.items()), **means}

    def _step(self, indices: Tensor, weights: dict[str, float]) -> Tensor:
        """Update the weights once; returns the unweighted terms in the order of ``weights``."""
        terms = self._terms(indices)
        loss = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.model.parameters(), self.profile.training.max_grad_norm)
        self.optimizer.step()
        return torch.stack([terms[name].detach() for name in weights])

    def _terms(self, indices: Tensor) -> dict[str, Tensor]:
        """The loss terms of one batch: both branches, or B alone once A is frozen."""
        n_digits = self.space.n_digits
        sequences = digits_of(indices, n_digits=n_digits) - 1
        levels = valuation(indices, cap=n_digits)
        outputs = {
            branch: self.model(sequences, levels, branch)
            for branch in ("B" if self.progress.coverage_frozen else BRANCHES)
        }
        geometry = geometry_losses(
            outputs["B"].radius,
            levels,
            n_digits=n_digits,
            radius_max=self.model.ball.hyperbolic_radius_max,
            richness_floor=self._richness_floor,
        )
        losses = [reconstruction_loss(out.logits, sequences) for out in outputs.values()]
        divergences = [
            kl_loss(out.posterior_log_prob, out.prior_log_prob) for out in outputs.values()
        ]
        return {
            "coverage": torch.stack(losses).sum(),
            "kl": torch.stack(divergences).sum(),
            **geometry._asdict(),
        }

    def _set_pace(self, epoch: float) -> None:
        """Set what changes with the epoch: the learning rate and the floor of richness."""
        peak = self.profile.training.lr
        rate = mathematical_cosine(epoch, lr=peak, **self.profile.scheduler.model_dump())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        headroom = RICHNESS_HEADROOM
        headroom += (RICHNESS_HEADROOM_AT_PEAK - RICHNESS_HEADROOM) * rate / peak
        self._richness_floor = self.targets["richness"] * (1 + headroom)

    # --- coverage first, then frozen --------------------------------------------------------

    def _watch_coverage(self) -> None:
        """Measure branch A; once coverage is reached, encoder A and the decoder are frozen."""
        with self.progress.spending("evaluate", self.device):
            self._metrics_a = self.evaluator.branch_a(self.model)
        coverage = self._metrics_a["coverage"]
        self.progress.note_coverage(coverage)
        if coverage >= self.targets["coverage"]:
            self.progress.coverage_frozen = True
            log.info(
                "Epoch %d: coverage %.6f, encoder A and the decoder are frozen from here on",
                self.progress.epoch,
                coverage,
            )

    def _freeze(self) -> None:
        """Put the freeze into effect: no dropout, no gradient, so no step of the optimizer."""
        if not self.progress.coverage_frozen:
            return
        for module in self.model.coverage_modules():
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(False)
                parameter.grad = None

    # --- measuring and saving ---------------------------------------------------------------

    def _is_detailed(self, epoch: int) -> bool:
        every = self.profile.monitoring.detailed_metrics_every_n_epochs
        return epoch % every == 0 or epoch == self.profile.training.epochs

    def _evaluate(self, losses: dict[str, float]) -> None:
        """Measure everything, log it, and keep the checkpoint if it is the best so far."""
        epoch = self.progress.epoch
        with self.progress.spending("evaluate", self.device):
            metrics = self._measure()
        log.info("%s", epoch_line(epoch, losses["total"], metrics))
        met = targets_met(metrics, self.targets, n_digits=self.space.n_digits)
        if all(met.values()) and self.progress.note_targets():
            seconds = self.progress.seconds["to_targets"]
            log.info("Epoch %d: all targets met, %.1f s after the first step", epoch, seconds)
        rate = self.optimizer.param_groups[0]["lr"]
        self.directory.append({"epoch": epoch, "lr": rate, "losses": losses, **metrics})
        best, n_digits = self.progress.best, self.space.n_digits
        if best is None or (
            rank(metrics, self.targets, n_digits=n_digits)
            > rank(best.metrics, self.targets, n_digits=n_digits)
        ):
            checks = validation_results(
                metrics,
                self.targets,
                n_digits=n_digits,
                points_valid=self.evaluator.points_valid(self.model),
            )
            self.progress.best = Best(epoch, metrics, checks)
            self._save(self.directory.best)

    def _measure(self) -> dict[str, float]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CollapsedLevelsWarning)
            values = {**self._metrics_a, **self.evaluator.branch_b(self.model)}
        for warning in caught:
            log.warning("Epoch %d: warning: %s", self.progress.epoch, warning.message)
        return {name: values[name] for name in metric_names(self.space.n_digits)}

    def _save(self, *paths: Path) -> None:
        best = self.progress.best
        contents = {
            "model_state_dict": self.model.state_dict(),
            "model_config": self.model.config,
            "optimizer_state_dict": self.optimizer.state_dict(),
            "epoch": self.progress.epoch,
            "comprehensive_metrics": best.metrics if best else {},
            "validation_results": best.validation if best else {},
            "profile": self.profile.to_dict(),
            "progress": self.progress.to_dict(),
        }
        self.directory.save(contents, *paths)

    def _resume(self, path: str | Path) -> None:
        contents = load_checkpoint(path)
        if "progress" not in contents:
            raise CheckpointError(f"{path}: holds a model but not the progress of a run")
        if contents["model_config"] != self.model.config:
            raise CheckpointError(
                f"{path}: holds a model of {contents['model_config']}, the profile asks for "
                f"{self.model.config}; resume with the profile of that run"
            )
        if contents["epoch"] >= self.profile.training.epochs:
            raise CheckpointError(
                f"{path}: epoch {contents['epoch']} is done and the profile ends at epoch "
                f"{self.profile.training.epochs}; raise training.epochs to go on"
            )
        self.model.load_state_dict(contents["model_state_dict"])
        self.optimizer.load_state_dict(contents["optimizer_state_dict"])
        self.progress = Progress.from_dict(contents["progress"])
        self._resumed_at = self.progress.epoch
        if not self.directory.best.exists():
            self.progress.best = None  # a fresh folder: its best model is yet to come
        self._metrics_a = self.evaluator.branch_a(self.model)

    # --- before and after -------------------------------------------------------------------

    def _check_memory(self) -> None:
        needed = evaluation_bytes(self.space, self.profile.model.latent_dim)
        there = memory_of(self.device)
        if there is not None and needed > there:
            raise ValueError(
                f"space.n_digits: to measure all 3^{self.space.n_digits} = {self.space.size} "
                f"sequences takes about {needed / 2**30:.3g} GiB, and {self.device} has "
                f"{there / 2**30:.3g} GiB; take fewer digits or a smaller model.latent_dim"
            )

    def _announce(self) -> None:
        log.info("Run directory: %s", self.directory.path)
        log.info(
            "Profile %s, seed %d: %d sequences, %d parameters, epochs %d to %d on %s",
            self.profile.name,
            self.profile.seed,
            self.space.size,
            sum(parameter.numel() for parameter in self.model.parameters()),
            self.progress.epoch + 1,
            self.profile.training.epochs,
            self.device,
        )

    def _finish(self, stop_reason: str) -> TrainingResult:
        """Save the last state and the summary, and show the best model's figures."""
        if stop_reason != "non_finite_loss":
            self._save(self.directory.last)
        best, limits = self.progress.best, ceilings(self.space.n_digits)
        self.directory.write_summary(
            {
                "profile": self.profile.name,
                "seed": self.profile.seed,
                "n_digits": self.space.n_digits,
                "epochs": self.progress.epoch,
                "best_epoch": best.epoch if best else None,
                "stop_reason": stop_reason,
                "comprehensive_metrics": best.metrics if best else {},
                "sampling": self.evaluator.sampling,
                "ceilings": limits,
                "validation_results": best.validation if best else {},
                "epochs_to": self.progress.epochs_to,
                "seconds": self.progress.seconds,
            }
        )
        if best:
            log.info("Best model, of epoch %d: %s", best.epoch, self.directory.best)
            log.info("\n%s", final_table(best.metrics, self.targets, n_digits=self.space.n_digits))
        return TrainingResult(
            metrics=best.metrics if best else {},
            validation=best.validation if best else {},
            stop_reason=stop_reason,
            checkpoint=self.directory.best if best else None,
            run_dir=self.directory.path,
        )

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """Torch's global random state as a function of run seed and epoch, restored afterwards."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(epoch_seed(self.profile.seed, epoch))
            yield
