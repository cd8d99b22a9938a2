"""The training loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ternvae.checkpoint import CheckpointError
from ternvae.checkpoint.arguments import file_path
from ternvae.config import Profile
from ternvae.padic import TernarySpace
from ternvae.trainer.bar import RunBar
from ternvae.trainer.holding_out import check_source, measure_unseen
from ternvae.trainer.judging import judged
from ternvae.trainer.keeping import Keeper
from ternvae.trainer.leading import led
from ternvae.trainer.opening import check_installation, opening_lines, resumption_lines
from ternvae.trainer.pace import Pace
from ternvae.trainer.parts import batches_of, examination_of, model_of, monitor_of, optimisation_of
from ternvae.trainer.reporting import report_end
from ternvae.trainer.result import TrainingResult, run_summary
from ternvae.trainer.saving import digest_of, load_run, profile_differences, restore_run
from ternvae.trainer.steps import Steps
from ternvae.training.coverage import take_over_coverage
from ternvae.training.device import check_memory
from ternvae.training.events import Event
from ternvae.training.finite import NonFiniteError, check_saved
from ternvae.training.processes import Processes, ProcessesDifferError
from ternvae.training.progress import Progress
from ternvae.training.run_directory import ResumePoint, RunDirectory, new_run_path
from ternvae.training.saving import SaveError
from ternvae.training.wording import final_table

__all__ = ["Trainer"]

log = logging.getLogger("ternvae")

#: What can end a run in order.
_FORESEEN = (NonFiniteError, SaveError, ProcessesDifferError, RuntimeError, MemoryError)


class Trainer:
    """Trains a model as a profile says and keeps the run in a folder.

    An epoch passes through the whole space.  Which parts learn in it, at which rate and for which
    terms of the loss, is decided by the profile's curriculum, homeostasis and controller from what
    has been measured so far.  Where torchrun has started several processes, they train the model
    together: each makes a trainer and calls :meth:`fit`, and the first one writes the folder.

    Args:
        profile: the resolved profile.
        run_dir: the folder of the run, which must not hold another run; None for a new one in
            ``runs/``.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N"; of several processes
            on a machine, each takes a GPU of its own.
        resume_from: a checkpoint of a run with the same model; training goes on where it stands,
            between epochs or inside one.
        progress_bar: show a progress bar on standard error.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a path is empty or impossible, the device is not there or too small for the
            space, the folder holds another run, a checkpoint does not fit the profile, an optional
            package that the profile needs is missing, or there are more processes than rows of a
            batch.  Nothing has been written then.
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
        if not isinstance(profile, Profile):
            raise TypeError(
                f"profile must be a Profile, as load_profile gives, got {type(profile).__name__}"
            )
        if not isinstance(progress_bar, bool):
            raise TypeError(
                f"progress_bar must be True or False, got {type(progress_bar).__name__}"
            )
        folder = None if run_dir is None else file_path("run_dir", run_dir)
        self._resumed_from = None if resume_from is None else file_path("resume_from", resume_from)
        self.profile = profile
        self._progress_bar = progress_bar
        self._stop_requested = False
        self._problem: str | None = None
        self._unseen: dict[str, float] | None = None
        self._restored: dict[str, Any] | None = None
        self.processes = Processes.joined()
        with self.processes.together():
            self._prepare(folder, device)
        # From here on what is wrong is wrong in all processes.
        if self._resumed_from is not None:
            self.examination.measure_branch_a()
        elif profile.frozen_checkpoint.path is not None:
            self._take_over(profile.frozen_checkpoint.path)

    def _prepare(self, folder: Path | None, device: str) -> None:
        """Make the parts of the run, and put them where the checkpoint left them, if there is one.

        Args:
            folder: of the run; None for a new one.
            device: as given.
        """
        profile, processes = self.profile, self.processes
        self.device = processes.device(device)
        folder = folder or new_run_path(profile.name, profile.seed)
        self.directory = RunDirectory(processes.agree(str(folder)))
        self.directory.check(resuming=self._goes_on_in_place)
        self.space = TernarySpace(profile.space.n_digits)
        check_memory(self.space, profile.model.latent_dim, self.device)
        processes.check_work(profile.training.batch_size, self.space.size)
        self.batches = batches_of(profile)
        self.pace = Pace(profile)
        self.model = model_of(profile, self.device)
        self.monitor = monitor_of(profile, self.directory, processes)
        self.optimisation = optimisation_of(profile, self.model)
        self.examination = examination_of(profile, self.model, self.monitor, processes)
        self.steps = Steps(
            *(profile, self.batches, self.pace, self.optimisation, self.examination, self.device),
            processes,
        )
        self.keeper = Keeper(
            self.directory, self.examination, self.optimisation, self.steps, processes
        )
        if self._resumed_from is not None:
            self._resume(self._resumed_from)

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
            RunDirectoryError: the folder of the run cannot be made, is in use or holds another run.
            SaveError: the folder cannot be written, so nothing began.
            FailedChecksError: the profile asks for checks before training, and one failed.
            LostProcessError: another process is gone.
        """
        try:
            led(self.processes, self._open)
            if not self.processes.leads:
                self.monitor.keep_silent()
            reason = self._guarded(self._begin) or self._guarded(self._train)
            return self._finish(reason or "epochs")
        finally:
            self.monitor.close()

    def request_stop(self) -> None:
        """Ask :meth:`fit` to save and return after the current step.

        Of several processes one is enough; all stop after the same step, which is this one or the
        next.
        """
        self._stop_requested = True

    def _open(self) -> None:
        """Check what is to be checked first, and begin to write."""
        checked = self.profile.validation.before_training
        lines = check_installation(self.device) if checked else []
        self.monitor.open(self.profile.to_yaml(), self._resume_point)
        self.monitor.note(lines)

    def _is_stopping(self) -> bool:
        """Whether somebody wants the run to stop, or it cannot be written any more."""
        failed = self.monitor.failure is not None
        return self.processes.any(self._stop_requested or failed)

    def _begin(self) -> None:
        """Say what begins or goes on, and save it, so that it can be resumed from here on."""
        if self._restored is None:
            log.info("Run directory: %s", self.directory.path)
            for line in opening_lines(self.profile, self.model, self.processes):
                log.info("%s", line)
        else:
            assert self._resumed_from is not None  # noqa: S101 - what was restored has a place
            for line in resumption_lines(
                self._resumed_from, self._restored, self.profile, self.device
            ):
                log.info("%s", line)
            changed = any(profile_differences(self._restored["profile"], self.profile))
            self.keeper.recall(self._resumed_from, saved=self._goes_on_in_place and not changed)
        self.keeper.last()
        self.monitor.check_written()

    def _train(self) -> str | None:
        """All epochs; returns why they ended before the last one."""
        first, last = self.progress.epoch + 1, self.profile.training.epochs
        self.processes.check_equal(self.model.state_dict())
        self.progress.start_clock()
        shown = self._progress_bar and self.processes.leads
        with RunBar(self.progress, self.steps, shown=shown) as self._bar:
            for epoch in range(first, last + 1):
                self._epoch(epoch)
                self.monitor.check_written()
                if self.steps.done or (self._is_stopping() and epoch < last):
                    return "interrupted"
        return None

    def _guarded(self, part: Callable[[], str | None]) -> str | None:
        """Run a part of the run; if it cannot go on, say so, and return why."""
        try:
            return part()
        except _FORESEEN as error:
            reason, self._problem, found = judged(
                error,
                self.progress.epoch + 1,
                self.examination.signs,
                alone=self.processes.world == 1,
            )
        self.monitor.be_patient()
        self.monitor.warn(found)
        log.error("%s; stopped", self._problem)
        return reason

    def _epoch(self, epoch: int) -> None:
        """Train, measure and save; if it is stopped inside, ``steps.done`` says where."""
        self.model.train()
        if self.steps.done:
            self.optimisation.freeze(**self.optimisation.frozen)
        else:
            self._freeze(epoch)
        losses = self.steps.run(epoch, self._bar.moving(self._is_stopping))
        if losses is None:
            return
        self._check_state(epoch)
        rising = self.pace.weights_rise(epoch)
        signs = self.examination.signs.after_epoch(epoch, losses, weights_rising=rising)
        self.monitor.warn(signs)
        self.progress.epoch = epoch
        self._after_epoch(losses)
        self.keeper.numbered()

    def _check_state(self, epoch: int) -> None:
        """Raise ``NonFiniteError`` if an update has made something that is not finite."""
        try:
            check_saved(self.optimisation.tensors())
        except NonFiniteError as error:
            raise error.at(f"After epoch {epoch}") from None

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
        check_source(path, self.profile)
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
        detailed = epoch % every == 0 or epoch == self.profile.training.epochs
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
            self.processes.check_equal(self.model.state_dict())
            self.keeper.evaluated(scored)

    # --- before and after -------------------------------------------------------------------

    @property
    def _goes_on_in_place(self) -> bool:
        """Whether the run that is resumed is the one in the folder, and not a branch of it."""
        return self._resumed_from is not None and self.directory.holds(self._resumed_from)

    @property
    def _resume_point(self) -> ResumePoint | None:
        """Where the run of the folder goes on; None for a new run, and for a branch."""
        if not self._goes_on_in_place or self._restored is None or self._resumed_from is None:
            return None
        restored = self._restored
        return ResumePoint(
            self._resumed_from, restored["digest"], restored["epoch"], restored["record_bytes"]
        )

    def _resume(self, path: Path) -> None:
        # Taken first: a file that is replaced meanwhile is noticed, whichever of the two was read.
        digest = digest_of(path)
        contents = load_run(path, self.profile, self.model.config)
        unfinished = self._goes_on_in_place and not self.directory.is_finished()
        if contents["epoch"] == self.profile.training.epochs and not unfinished:
            raise CheckpointError(
                f"{path}: all {contents['epoch']} epochs are done; raise training.epochs to go on"
            )
        try:
            restore_run(contents, self.examination, self.optimisation, self.steps)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: the stored run does not fit: {reason}") from error
        kept = ("epoch", "step", "record_bytes", "profile", "execution")
        self._restored = {"digest": digest, **{name: contents[name] for name in kept}}

    def _finish(self, stop_reason: str) -> TrainingResult:
        """Save the last state and the summary, and show the best model's figures."""
        if stop_reason in ("epochs", "interrupted"):
            stop_reason = self._guarded(self._save_last) or stop_reason
        best = self.progress.best
        metrics, validation = (best.metrics, best.validation) if best else ({}, {})
        last_good, place = self.keeper.last_good_for_all()
        # The summary comes last: where it is, the run has ended, and nothing of its end is missing.
        stop_reason = self._guarded(lambda: self._say_end(stop_reason, place)) or stop_reason
        stop_reason = self._guarded(lambda: self._write_end(stop_reason, metrics)) or stop_reason
        self._report(stop_reason)
        return TrainingResult(
            metrics=metrics,
            validation=validation,
            stop_reason=stop_reason,
            checkpoint=self.directory.best if best else None,
            run_dir=self.directory.path,
            last_good=last_good,
            problem=self._problem,
            unseen=self._unseen,
        )

    def _save_last(self) -> str | None:
        self.keeper.last()
        if self.keeper.is_saved:
            return None
        self._problem = self.keeper.failure
        return "save_failed"

    def _say_end(self, stop_reason: str, last_good: str) -> None:
        if best := self.progress.best:
            targets, n_digits = self.examination.targets, self.space.n_digits
            log.info("Best model, of epoch %d: %s", best.epoch, self.directory.best)
            log.info("\n%s", final_table(best.metrics, targets, n_digits=n_digits))
            if stop_reason == "epochs":
                at = (self.directory.best, self.profile, self.device)
                self._unseen = led(self.processes, lambda: measure_unseen(*at))
        if stop_reason != "epochs":
            log.info("Stopped (%s); the last good checkpoint is %s", stop_reason, last_good)

    def _report(self, stop_reason: str) -> None:
        """Write the page of a run that has come to an end, and has a model to show for it."""
        ended = stop_reason not in ("interrupted", "save_failed")
        if self.profile.monitoring.report and ended and self.progress.best is not None:
            self.monitor.be_patient()  # a log that cannot be written any more ends nothing
            led(self.processes, lambda: report_end(self.directory, self.device))

    def _write_end(self, stop_reason: str, metrics: dict[str, float]) -> None:
        """Write the summary and what is left to say."""
        try:
            self.monitor.finish(self.progress.epoch, self.profile.to_dict(), metrics)
            self.monitor.check_written()
            summary = run_summary(self.examination, stop_reason, self._unseen)
            led(self.processes, lambda: self.directory.write_summary(summary))
        except SaveError:
            # Why nothing can be written has been said if that is what ended the run.
            if stop_reason != "save_failed":
                raise
