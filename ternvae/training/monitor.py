"""What a run says on its way: the log, ``metrics.jsonl`` and, if wanted, TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ternvae.training.events import Event
from ternvae.training.processes import Processes
from ternvae.training.record import RecordHandler
from ternvae.training.run_directory import ResumePoint, RunDirectory
from ternvae.training.saving import SaveError, saving
from ternvae.training.tensorboard import TensorBoard, TensorBoardError, require_tensorboard
from ternvae.training.warning_signs import WarningSign

__all__ = ["Monitor"]

log = logging.getLogger("ternvae")


class Monitor:
    """Says things once, in every place where they belong.

    Events and warnings go to the log at once, and into the next line of ``metrics.jsonl`` as its
    ``events`` and ``warnings``.  Of several processes one says them, and the others keep them in
    mind; a file that it cannot write is then an error only when all of them have heard of it.

    Args:
        directory: the folder of the run.
        tensorboard: whether to write event files as well.
        patient: whether a run goes on when these files cannot be written; what could not be
            written to the log and to ``metrics.jsonl`` then waits for the next time.
        processes: that train the model; None for this one alone.

    Attributes:
        failure: of several processes, why a file could not be written; None if none failed.

    Raises:
        TensorBoardError: event files are wanted and the package is missing.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        tensorboard: bool,
        patient: bool = False,
        processes: Processes | None = None,
    ) -> None:
        if tensorboard:
            require_tensorboard()
        self._directory = directory
        self._tensorboard = tensorboard
        self._patient = patient
        self._processes = processes or Processes()
        self.failure: str | None = None
        self._board: TensorBoard | None = None
        self._handler: RecordHandler | None = None
        self._level: int | None = None
        self._events: list[dict[str, Any]] = []
        self._warnings: list[dict[str, Any]] = []

    def open(self, profile_yaml: str, resumed: ResumePoint | None = None) -> None:
        """Begin; see :meth:`RunDirectory.open`.  :meth:`close` is due even if this fails.

        Of several processes the first one alone begins; the others :meth:`keep_silent`.
        """
        protected = self._directory.open(profile_yaml, resumed)
        defer = self._fail if self._processes.world > 1 else None
        self._handler = RecordHandler(
            self._directory.log_record, patient=self._patient, defer=defer
        )
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(self._handler)
        # The log of the run has every line, whether or not anybody else listens.
        self._level = log.level
        log.setLevel(min(log.getEffectiveLevel(), logging.INFO))
        if not protected:
            log.warning("This system has no file locks: see that no other run uses this folder")
        for note in self._directory.notes:
            log.warning("%s", note)
        if self._tensorboard:
            first = resumed.epoch + 1 if resumed is not None else 0
            try:
                with saving(self._directory.tensorboard):
                    self._board = TensorBoard(self._directory.tensorboard, purge_step=first)
                    self._board.text("profile", profile_yaml, step=first)
            except TensorBoardError as error:
                raise SaveError(str(error)) from error

    def keep_silent(self) -> None:
        """Say nothing from here to :meth:`close`, for another process does."""
        self._level = log.level
        log.setLevel(logging.CRITICAL + 1)

    def note(self, lines: Iterable[str]) -> None:
        """Put lines into the log of the run that were said before it was opened."""
        if self._handler is not None:
            for line in lines:
                self._handler.handle(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))

    def close(self) -> None:
        """End; what is still to be said was."""
        if self._level is not None:
            log.setLevel(self._level)
        if self._handler is not None:
            log.removeHandler(self._handler)
            self._handler.close()
        if self._board is not None:
            self._board.close()
        self._directory.close()

    def be_patient(self) -> None:
        """From now on write what can be written: the run is ending, and why is what matters."""
        self._patient = True
        if self._handler is not None:
            self._handler.patient = True

    def check_written(self) -> None:
        """Raise ``SaveError`` in all processes if the first one could not write something."""
        if (failure := self._processes.agree(self.failure)) is not None:
            self.failure = None
            raise SaveError(failure)

    def pending(self) -> dict[str, list[dict[str, Any]]]:
        """What has been said since the last line of ``metrics.jsonl``, for a checkpoint."""
        return {"events": list(self._events), "warnings": list(self._warnings)}

    def restore(self, pending: Mapping[str, list[dict[str, Any]]]) -> None:
        """The inverse of :meth:`pending`."""
        self._events, self._warnings = list(pending["events"]), list(pending["warnings"])

    def event(self, *events: Event) -> None:
        """Say what was decided."""
        for event in events:
            log.info("%s", event)
            self._events.append(event.to_dict())

    def warn(self, signs: Iterable[WarningSign]) -> None:
        """Say what looks wrong and what to try."""
        for sign in signs:
            log.warning("Epoch %d: warning: %s", sign.epoch, sign)
            self._warnings.append(sign.to_dict())

    def step(self, step: int, epoch: int, figures: Mapping[str, float]) -> None:
        """Say how a single step went."""
        told = " | ".join(f"{name} {value:.4g}" for name, value in figures.items())
        log.info("Step %6d of epoch %d | %s", step, epoch, told)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Write the line of an evaluated epoch, with what has happened since the last one."""
        whole = {**record, **self.pending()}
        self._events, self._warnings = [], []
        if self._processes.leads:
            with self._attempt():
                self._directory.append(whole)
        if self._board is not None:
            with self._attempt(), saving(self._directory.tensorboard):
                self._board.scalars(record["epoch"], _flat(record))

    def finish(self, epoch: int, profile: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write what is left after the last evaluation, and the final figures."""
        if self._events or self._warnings:
            self.epoch({"epoch": epoch})
        if self._board is not None and metrics:
            with self._attempt(), saving(self._directory.tensorboard):
                self._board.hyperparameters(profile, metrics, step=epoch)

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        """A block that writes; whether the run survives its failure is for the profile to say."""
        try:
            yield
        except SaveError as error:
            if self._patient:
                log.warning("%s", error)
            elif self._processes.world == 1:
                raise
            else:
                self._fail(error)

    def _fail(self, error: SaveError) -> None:
        self.failure = self.failure or str(error)


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record, those of its parts as ``part/name``."""
    numbers: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}/{key}": each for key, each in _flat(value).items()}
        elif isinstance(value, int | float) and name != "epoch":
            numbers[name] = value
    return numbers
