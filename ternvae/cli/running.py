"""``ternvae train``: a run that can be watched and stopped, and how it ended."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ternvae.cli.outcome import (
    STOPPED_ITSELF,
    BadInputError,
    complain,
    discard_standard_output,
    leads,
    usable,
)
from ternvae.config import Profile

if TYPE_CHECKING:
    from ternvae.trainer import Trainer

__all__ = ["run"]


def run(profile: Profile, folder: Path | None, device: str, checkpoint: str | None) -> int:
    """Train, and return the exit status.

    Args:
        profile: the resolved profile.
        folder: of the run; None for a new one.
        device: see :class:`ternvae.trainer.Trainer`.
        checkpoint: to go on from; None for a new run.
    """
    from ternvae.trainer import FailedChecksError, RunDirectoryError, SaveError, Trainer
    from ternvae.training.device import is_out_of_memory
    from ternvae.training.processes import LostProcessError

    make = partial(Trainer, resume_from=checkpoint, progress_bar=sys.stderr.isatty())
    try:
        trainer = usable(make, profile, folder, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return complain(
            "out of memory before the first epoch; take fewer space.n_digits", STOPPED_ITSELF
        )
    stopping = _Stopping(trainer)
    try:
        with _speaking(), stopping:
            result = trainer.fit()
    except RunDirectoryError as error:
        raise BadInputError(str(error)) from error
    except (FailedChecksError, SaveError) as error:
        return complain(str(error), STOPPED_ITSELF)
    except KeyboardInterrupt:
        last_good, _ = trainer.keeper.last_good()
        return complain(f"stopped at once{_way_on(last_good)}", stopping.status)
    except LostProcessError as error:
        last_good, _ = trainer.keeper.last_good()
        return complain(f"{error}; stopped{_way_on(last_good)}", STOPPED_ITSELF)
    except (RuntimeError, MemoryError) as error:
        # A process that is alone ends in order; of several, the others do not know.
        if not is_out_of_memory(error):
            raise
        rank = trainer.processes.rank
        return complain(f"process {rank}: out of memory; stopped", STOPPED_ITSELF, for_all=False)
    if result.stop_reason == "epochs":
        return 0
    if result.stop_reason == "interrupted":
        return complain(f"interrupted{_way_on(result.last_good)}", stopping.status)
    # The same NaN would come again, to the bit.
    changed = "with another setting, " if result.stop_reason == "non_finite_loss" else ""
    way_on = _way_on(result.last_good, changed)
    return complain(f"{result.problem}; stopped{way_on}", STOPPED_ITSELF)


def _way_on(checkpoint: Path | None, condition: str = "") -> str:
    """How to go on, if that is possible."""
    if checkpoint is None:
        return "; there is no checkpoint to go on from"
    return f"; {condition}go on with: ternvae train --checkpoint {shlex.quote(str(checkpoint))}"


class _Stopping:
    """First Ctrl-C, SIGTERM or SIGHUP: finish the step, save, and end.  Second: end at once.

    A context manager, inside which the signals mean that.

    Attributes:
        status: the exit status that the signal asks for.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._before: dict[int, object] = {}
        self.status = 128 + signal.SIGINT

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals are for the main thread alone
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # nohup has it ignored, and means that.
            if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                continue
            self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as it was given

    def _stop(self, number: int, frame: object) -> None:
        self._trainer.request_stop()
        self.status = 128 + number
        for each in self._before:
            signal.signal(each, _stop_at_once)
        if leads():
            # Not through sys.stderr, which may be in the middle of a line, or have lost its reader.
            with suppress(OSError):
                os.write(2, b"stopping after this step; once more to stop at once\n")


def _stop_at_once(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class _Terminal(logging.Handler):
    """Log lines on standard output, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:
            # The reader has gone, as head does, or the file behind it cannot grow.  The run goes
            # on, and train.log has every line.
            discard_standard_output()
            if not isinstance(error, BrokenPipeError):
                complain(f"standard output: {error.strerror}; train.log has what it would show")


@contextmanager
def _speaking() -> Iterator[None]:
    """Let the program's log be seen."""
    log = logging.getLogger("ternvae")
    handler = _Terminal()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
