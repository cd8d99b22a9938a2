"""The training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.config import Profile
from ternvae.metrics import Evaluator
from ternvae.models import BRANCHES, TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer.examination import Examination
from ternvae.trainer.opening import check_installation, opening_lines
from ternvae.trainer.pace import Pace
from ternvae.trainer.parts import controller_of, homeostasis_of, warning_signs_of
from ternvae.trainer.result import TrainingResult, run_summary
from ternvae.trainer.saving import checkpoint_contents, load_run, restore_run
from ternvae.training.batches import BatchPlan, epoch_seed
from ternvae.training.coverage import take_over_coverage
from ternvae.training.device import check_memory, choose_device, is_out_of_memory
from ternvae.training.events import Event
from ternvae.training.monitor import Monitor
from ternvae.training.objective import TERMS, loss_terms, weighted_sum
from ternvae.training.optimisation import Optimisation
from ternvae.training.progress import Best, Progress
from ternvae.training.report import final_table
from ternvae.training.run_directory import RunDirectory, new_run_path
from ternvae.training.verdict import rank

__all__ = ["Trainer"]

log = logging.getLogger("ternvae")

#: What is known of each step and, on average, of each epoch.
_FIGURES = ("total", *TERMS, "gradient_norm")


class Trainer:
    """Trains a model as a profile says and keeps the run in a folder.

    An epoch passes through the whole space.  Which parts learn in it, at which rate and for which
    terms of the loss, is decided by the profile's curriculum, homeostasis and controller from what
    has been measured so far.

    Args:
        profile: the resolved profile.
        run_dir: the folder of the run, which must not hold another run; None for a new one in
            ``runs/``.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        resume_from: a checkpoint of a run with the same model; training goes on after its epoch.
        progress_bar: show a progress bar on standard error.

    Raises:
        ValueError: the device is not there or too small for the space, the folder holds another
            run, a checkpoint does not fit the profile, or an optional package that the profile
            needs is missing.  Nothing has been written then.
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
        check_memory(self.space, profile.model.latent_dim, self.device)
        training = profile.training
        self.batches = BatchPlan(self.space, training.batch_size, training.balanced_share)
        self.pace = Pace(profile)
        with self._seeded(epoch=0):
            keywords = profile.model.model_dump(exclude={"enhanced_controller"})
            self.model = TernaryVAE(n_digits=self.space.n_digits, **keywords)
        self.model.to(self.device)
        self.monitor = Monitor(self.directory, tensorboard=profile.monitoring.tensorboard)
        self.optimisation = Optimisation(
            self.model,
            weight_decay=training.weight_decay,
            max_grad_norm=training.max_grad_norm,
            use_amp=training.use_amp,
        )
        self.examination = Examination(
            profile=profile,
            model=self.model,
            evaluator=Evaluator(self.space),
            progress=Progress(),
            monitor=self.monitor,
            signs=warning_signs_of(profile),
            homeostasis=homeostasis_of(profile),
            controller=controller_of(profile),
        )
        self._progress_bar = progress_bar
        self._stop_requested = False
        self._resumed_at: int | None = None
        if resume_from is not None:
            self._resume(resume_from)
        elif profile.frozen_checkpoint.path is not None:
            self._take_over(profile.frozen_checkpoint.path)

    @property
    def progress(self) -> Progress:
        """How far the run has come."""
        return self.examination.progress

    @property
    def encoder_a_frozen(self) -> bool:
        """Whether encoder A and the decoder are frozen at this moment."""
        return self._held[0] or self.optimisation.frozen["encoder_a"]

    # --- the run ----------------------------------------------------------------------------

    def fit(self) -> TrainingResult:
        """Train to the end of the profile, or until stopped; return the best model's figures.

        Raises:
            RunDirectoryError: the folder of the run cannot be made or holds another run by now.
            FailedChecksError: the profile asks for checks before training, and one failed.
        """
        checked = self.profile.validation.before_training
        lines = check_installation(self.device) if checked else []
        self.monitor.open(self.profile.to_yaml(), resume_epoch=self._resumed_at)
        try:
            self.monitor.note(lines)
            if self._resumed_at is not None:
                self._recall_best()
            log.info("Run directory: %s", self.directory.path)
            for line in opening_lines(self.profile, self.model, self.progress.epoch + 1):
                log.info("%s", line)
            return self._finish(self._train())
        finally:
            self.monitor.close()

    def request_stop(self) -> None:
        """Ask :meth:`fit` to save and return after the current epoch."""
        self._stop_requested = True

    def _train(self) -> str:
        """All epochs; returns why they ended."""
        first, last = self.progress.epoch + 1, self.profile.training.epochs
        self.progress.start_clock()
        for epoch in tqdm(
            range(first, last + 1), unit="epoch", disable=not self._progress_bar, leave=False
        ):
            try:
                reason = self._epoch(epoch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.monitor.warn(self.examination.signs.out_of_memory(epoch, str(error)))
                log.error("Epoch %d: out of memory; stopped", epoch)
                reason = "out_of_memory"
            if reason is not None:
                return reason
        return "epochs"

    def _epoch(self, epoch: int) -> str | None:
        """Train, measure and save; returns why the run ends here, or None if it goes on."""
        losses = self._train_epoch(epoch)
        rising = self.pace.weights_rise(epoch)
        signs = self.examination.signs.after_epoch(epoch, losses, weights_rising=rising)
        self.monitor.warn(signs)
        if not all(map(math.isfinite, losses.values())):
            log.error("Epoch %d: the loss is not finite: %s; stopped", epoch, losses)
            return "non_finite_loss"
        self.progress.epoch = epoch
        self._after_epoch(losses)
        if epoch % self.profile.checkpointing.save_every_n_epochs == 0:
            self._save(self.directory.numbered(epoch), self.directory.last)
        if self._stop_requested:
            log.info("Stopped on request after epoch %d", epoch)
            return "interrupted"
        return None

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the space.

        Sums stay on the device, so that no step waits for the host.

        Returns:
            The mean of the loss ("total"), of each of its unweighted terms, and of the norm of the
            gradient ("gradient_norm").
        """
        per_step = self.profile.training.gradient_accumulation_steps
        batches = self.batches.steps_per_epoch
        steps = math.ceil(batches / per_step)
        sums = torch.zeros(len(_FIGURES), device=self.device)
        controller = self.examination.controller
        factors = controller.factors() if controller is not None else {}
        self.model.train()
        self._freeze(epoch)
        with self.progress.spending("train", self.device), self._seeded(epoch):
            indices = self.batches.epoch(epoch_seed(self.profile.seed, epoch), self.device)
            for step, group in enumerate(_grouped(indices, per_step)):
                moment = epoch - 1 + (step + 0.5) / steps
                self._set_rates(moment)
                told = self._is_told(epoch, step, steps)
                before = sums.clone() if told else sums
                losses = [partial(self._loss, each, moment, factors, sums) for each in group]
                sums[-1] += self.optimisation.step(losses)
                if told:
                    self._tell(epoch, step, steps, _means(sums - before, len(group), 1))
        return _means(sums, batches, steps)

    def _loss(
        self, indices: Tensor, moment: float, factors: Mapping[str, float], sums: Tensor
    ) -> Tensor:
        """The loss of one batch; it and its terms are added to ``sums``."""
        with self.optimisation.autocast(self.device):
            terms = loss_terms(
                self.model,
                indices,
                branches="B" if self.optimisation.frozen["encoder_a"] else BRANCHES,
                richness_floor=self.pace.richness_floor(moment),
            )
        loss = weighted_sum(terms, self.pace.weights(moment, factors))
        sums[:-1] += torch.stack([loss.detach(), *(terms[name].detach() for name in TERMS)])
        return loss

    def _is_told(self, epoch: int, step: int, steps: int) -> bool:
        """Whether the host reads the figures of this step; that makes the device wait."""
        number = (epoch - 1) * steps + step + 1
        return number == 1 or self._is_logged(number)

    def _is_logged(self, number: int) -> bool:
        every = self.profile.monitoring.log_every_n_steps
        return every > 0 and number % every == 0

    def _tell(self, epoch: int, step: int, steps: int, figures: dict[str, float]) -> None:
        number = (epoch - 1) * steps + step + 1
        if number == 1:
            # With the whole weights, which a curriculum may hold back at this step.
            weights = self.profile.loss_weights.model_dump()
            total = sum(weight * figures[name] for name, weight in weights.items())
            self.examination.signs.after_first_step(total)
        if self._is_logged(number):
            rate = self.pace.rate(epoch - 1 + (step + 0.5) / steps)
            self.monitor.step(number, epoch, {**figures, "lr": rate})

    def _set_rates(self, moment: float) -> None:
        reached = self.progress.coverage_reached
        self.optimisation.set_rates(
            self.pace.rate(moment),
            encoder_a=self.pace.encoder_a_share(int(moment) + 1, coverage_reached=reached),
            encoder_b=self.profile.training.encoder_b_lr_scale,
        )

    # --- who learns -------------------------------------------------------------------------

    @property
    def _held(self) -> tuple[bool, bool]:
        """What homeostasis holds: encoder A, encoder B."""
        homeostasis = self.examination.homeostasis
        if homeostasis is None:
            return False, False
        return homeostasis.state.a_frozen, homeostasis.state.b_frozen

    def _encoder_a_scaled(self, epoch: int) -> bool:
        """Whether the profile has encoder A frozen in an epoch, whatever homeostasis says."""
        reached = self.progress.coverage_reached
        return self.pace.encoder_a_share(epoch, coverage_reached=reached) == 0

    def _freeze(self, epoch: int) -> None:
        """Put into effect what is frozen in this epoch, and say what begins with it."""
        held_a, held_b = self._held
        scaled = self._encoder_a_scaled(epoch)
        was_frozen = self.optimisation.frozen["encoder_a"]
        self.optimisation.freeze(encoder_a=held_a or scaled, encoder_b=held_b)
        if scaled and not held_a and not was_frozen:
            text = "coverage is provided for: encoder A and the decoder are frozen"
            self.monitor.event(Event(epoch, "freeze_encoder_a", text))
        if (event := self.pace.curriculum_event(epoch)) is not None:
            self.monitor.event(event)

    def _take_over(self, path: str) -> None:
        """Begin with the encoder A and the decoder of an earlier run."""
        take_over_coverage(self.model, path)
        coverage = self.examination.measure_coverage()
        wanted = self.profile.targets.coverage
        if self._encoder_a_scaled(1) and not self.progress.coverage_reached:
            raise CheckpointError(
                f"frozen_checkpoint.path: {path} has coverage {coverage:.6f}, which misses "
                f"targets.coverage {wanted} and cannot improve while it is frozen; take another "
                "checkpoint, lower the target, or set training.encoder_a_lr_scale above 0"
            )

    # --- after an epoch ---------------------------------------------------------------------

    def _after_epoch(self, losses: dict[str, float]) -> None:
        """Measure what is due, and let everything that decides see it."""
        epoch, examination = self.progress.epoch, self.examination
        every = self.profile.monitoring.detailed_metrics_every_n_epochs
        last = epoch == self.profile.training.epochs or self._stop_requested
        detailed = epoch % every == 0 or last
        watched = examination.homeostasis is not None or not self.progress.coverage_reached
        if not self.optimisation.frozen["encoder_a"] and (watched or detailed):
            examination.measure_coverage()
        if examination.controller is not None:
            examination.controller.learn(losses)
        if detailed:
            scored = examination.evaluate(
                losses,
                rate=self.optimisation.rate,
                curriculum=self.pace.curriculum_factors(epoch),
                encoder_a_scaled=self._encoder_a_scaled(epoch + 1),
            )
            self._keep(scored)

    def _keep(self, scored: Best) -> None:
        """Save the model if it is among the best."""
        targets, n_digits = self.examination.targets, self.space.n_digits
        most = self.profile.checkpointing.keep_best_n
        place, dropped = self.progress.enter(
            scored, most, lambda each: rank(each.metrics, targets, n_digits=n_digits)
        )
        if place is None:
            return
        paths = [self.directory.best] if place == 0 else []
        self._save(*paths, *([self.directory.good(scored.epoch)] if most > 1 else []), of=scored)
        for old in dropped:
            self.directory.good(old.epoch).unlink(missing_ok=True)

    def _save(self, *paths: Path, of: Best | None = None) -> None:
        """Save the run; the figures in the file are those ``of`` a model, or of the best one."""
        scored = of or self.progress.best
        contents = checkpoint_contents(self.examination, self.optimisation, scored)
        self.directory.save(contents, *paths)

    def _resume(self, path: str | Path) -> None:
        contents = load_run(path, self.profile, self.model.config)
        restore_run(contents, self.examination, self.optimisation)
        self._resumed_at = self.progress.epoch

    def _recall_best(self) -> None:
        """Count only those models as the best so far whose files are here.

        In a fresh folder there are none; and after going back to an earlier epoch ``best_Q.pt`` may
        be a model of an epoch that is forgotten.
        """
        progress, directory = self.progress, self.directory
        best = load_checkpoint(directory.best)["epoch"] if directory.best.exists() else None
        progress.kept = [
            each
            for each in progress.kept
            if each.epoch == best or directory.good(each.epoch).exists()
        ]
        if progress.best is not None and progress.best.epoch != best:
            directory.make_best(progress.best.epoch)

    # --- before and after -------------------------------------------------------------------

    def _finish(self, stop_reason: str) -> TrainingResult:
        """Save the last state and the summary, and show the best model's figures."""
        if stop_reason in ("epochs", "interrupted"):
            self._save(self.directory.last)
        best = self.progress.best
        metrics, validation = (best.metrics, best.validation) if best else ({}, {})
        self.directory.write_summary(run_summary(self.examination, stop_reason))
        self.monitor.finish(self.progress.epoch, self.profile.to_dict(), metrics)
        if best:
            log.info("Best model, of epoch %d: %s", best.epoch, self.directory.best)
            log.info(
                "\n%s",
                final_table(best.metrics, self.examination.targets, n_digits=self.space.n_digits),
            )
        return TrainingResult(
            metrics=metrics,
            validation=validation,
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


def _means(sums: Tensor, batches: int, steps: int) -> dict[str, float]:
    """Means over the batches, and over the steps for the norm of the gradient."""
    *summed, norm = sums.tolist()
    return dict(zip(_FIGURES, [*(each / batches for each in summed), norm / steps], strict=True))


def _grouped(batches: Iterable[Tensor], count: int) -> Iterator[list[Tensor]]:
    """Lists of so many batches; the last one may be shorter."""
    rest = iter(batches)
    while group := list(islice(rest, count)):
        yield group
