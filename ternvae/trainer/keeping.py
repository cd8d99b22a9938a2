"""Which checkpoints of a run there are: the last state, the numbered ones, the best models."""

from __future__ import annotations

import logging
from pathlib import Path

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.trainer.examination import Examination
from ternvae.trainer.leading import led
from ternvae.trainer.saving import checkpoint_contents
from ternvae.trainer.steps import Steps
from ternvae.training.events import Event
from ternvae.training.optimisation import Optimisation
from ternvae.training.processes import Processes
from ternvae.training.progress import Best
from ternvae.training.run_directory import RunDirectory
from ternvae.training.saving import SaveError
from ternvae.training.verdict import rank

__all__ = ["Keeper"]

log = logging.getLogger("ternvae")


class Keeper:
    """Saves a run, and removes what newer files of it replace.

    ``last.pt`` is written first, so that a run that is killed between two files goes on from the
    newer one; :meth:`recall` then writes what is missing.  Of several processes the first one does
    it, and all of them hear of it.

    Args:
        directory: the folder of the run.
        examination: of the run.
        optimisation: of the run.
        steps: of the run.
        processes: that train the model.
    """

    def __init__(
        self,
        directory: RunDirectory,
        examination: Examination,
        optimisation: Optimisation,
        steps: Steps,
        processes: Processes,
    ) -> None:
        self._directory = directory
        self._examination = examination
        self._optimisation = optimisation
        self._steps = steps
        self._processes = processes
        settings = examination.profile.checkpointing
        self._most = settings.keep_best_n
        self._goes_on = settings.on_save_error == "continue"
        self._saved_at: tuple[int, int] | None = None
        #: Why the latest attempt to save failed; None if it did not.
        self.failure: str | None = None

    def last(self) -> None:
        """Save the present state, unless it is saved already."""
        if not self.is_saved:
            self._save(self._directory.last)

    def numbered(self) -> None:
        """Save the present state as the last one, and under its number, if that is due."""
        if not self._is_numbered_due():
            return
        epoch = self._examination.progress.epoch
        names = [] if self.is_saved else [self._directory.last]
        self._save(*names, self._directory.numbered(epoch))

    def evaluated(self, scored: Best) -> None:
        """Save the present state, and the model among the best if it is one of them."""
        progress, directory = self._examination.progress, self._directory
        progress.latest, before = scored, list(progress.kept)
        targets, n_digits = self._examination.targets, self._examination.n_digits
        place = progress.enter(
            scored, self._most, lambda each: rank(each.metrics, targets, n_digits=n_digits)
        )
        paths = [directory.last]
        if place is not None and self._most > 1:
            paths.append(directory.good(scored.epoch))
        if place == 0:
            paths.append(directory.best)
        saved = False
        try:
            saved = self._save(*paths)
        finally:
            if not saved:
                # What has no file cannot be among the best.
                progress.kept = before

    def recall(self, resumed_from: Path, *, saved: bool) -> None:
        """Count only those models as the best so far whose files are here, and name them rightly.

        In a fresh folder there are none but the one that the run goes on from; after a kill between
        two files, or after going back to an earlier epoch, ``best_Q.pt`` may be another model than
        the figures are of.

        Args:
            resumed_from: the checkpoint that the run goes on from.
            saved: whether ``last.pt`` of this folder is that checkpoint.
        """
        self._saved_at = self._moment if saved else None
        found = led(self._processes, lambda: self._recalled(resumed_from, saved=saved))
        progress = self._examination.progress
        progress.kept = [each for each in progress.kept if each.epoch in found]

    def _recalled(self, resumed_from: Path, *, saved: bool) -> list[int]:
        """Name the files rightly; returns the epochs of those models that have one."""
        progress, directory = self._examination.progress, self._directory
        found: list[int] = []
        for each in progress.kept[: self._most]:
            good = directory.good(each.epoch)
            there = [p for p in (good, directory.best, resumed_from) if _is_model(p, each.epoch)]
            if there:
                names = [good] if self._most > 1 else []
                names += [] if found else [directory.best]
                for name in names:
                    directory.repeat(name if name in there else there[0], name)
                found.append(each.epoch)
        numbered = directory.numbered(progress.epoch)
        if saved and self._is_numbered_due():
            directory.repeat(
                numbered if _is_model(numbered, progress.epoch) else resumed_from, numbered
            )
        if not found:
            directory.repeat(resumed_from, dropped=[directory.best])
        if saved:
            # It may be newer than the list: a process can be killed between the two.
            directory.repeat(resumed_from, resumed_from)
        return found

    def last_good(self) -> tuple[Path | None, str]:
        """The newest checkpoint that can be read, and where it stands in words."""
        found = []
        for path in (self._directory.last, self._directory.best):
            try:
                contents = load_checkpoint(path)
            except CheckpointError:
                continue
            found.append((contents["epoch"], contents.get("step", 0), path))
        if not found:
            return None, "none"
        epoch, step, path = max(found, key=lambda each: each[:2])
        inside = f" and step {step} of the next" if step else ""
        return path, f"{path}, with epoch {epoch}{inside} done"

    def last_good_for_all(self) -> tuple[Path | None, str]:
        """What the first process finds as :meth:`last_good`; all processes ask."""

        def found() -> tuple[str, str]:
            path, place = self.last_good()
            return str(path or ""), place

        path, place = led(self._processes, found)
        return Path(path) if path else None, place

    def _is_numbered_due(self) -> bool:
        epoch = self._examination.progress.epoch
        every = self._examination.profile.checkpointing.save_every_n_epochs
        return self._steps.done == 0 and epoch > 0 and epoch % every == 0

    @property
    def is_saved(self) -> bool:
        """Whether the present state is in ``last.pt``."""
        return self._saved_at == self._moment

    @property
    def _moment(self) -> tuple[int, int]:
        return self._examination.progress.epoch, self._steps.done

    def _save(self, *paths: Path) -> bool:
        """Save the run; if that fails, stop or go on, as the profile says.

        Returns:
            Whether all files were written.

        Raises:
            SaveError: one was not, and the profile says stop.
        """
        examination = self._examination
        try:
            led(self._processes, lambda: self._write(*paths))
        except SaveError as error:
            self.failure = str(error)
            if not self._goes_on:
                raise
            text = f"{error}; the run goes on and tries again (checkpointing.on_save_error)"
            epoch = examination.progress.epoch
            examination.monitor.event(Event(epoch, "save_failed", text))
            return False
        self.failure, self._saved_at = None, self._moment
        return True

    def _write(self, *paths: Path) -> None:
        examination = self._examination
        contents = checkpoint_contents(examination, self._optimisation, self._steps)
        dropped = self._directory.superseded(each.epoch for each in examination.progress.kept)
        self._directory.save(contents, *paths, dropped=dropped)


def _is_model(path: Path, epoch: int) -> bool:
    """Whether a file holds the model at the end of an epoch; a damaged one holds nothing."""
    if not path.is_file():
        return False
    try:
        contents = load_checkpoint(path)
    except CheckpointError as error:
        log.warning("%s", error)
        return False
    return contents["epoch"] == epoch and not contents.get("step")
