"""``ternvae train``: a run that can be watched and stopped, and how it ended."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ternvae.cli.colour import painted, verdicts_painted
from ternvae.cli.outcome import (
    STOPPED_ITSELF,
    BadInputError,
    complain,
    discard,
    leads,
    usable,
)
from ternvae.cli.watching import say
from ternvae.config import Profile

if TYPE_CHECKING:
    from ternvae.trainer import Trainer, TrainingResult

__all__ = ["run"]


def run(
    profile: Profile,
    folder: Path | None,
    device: str,
    checkpoint: str | None,
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Train, and return the exit status.

    Args:
        profile: the resolved profile.
        folder: of the run; None for a new one.
        device: see :class:`ternvae.trainer.Trainer`.
        checkpoint: to go on from; None for a new run.
        quiet: print the path of the best checkpoint alone; warnings go to standard error.
        as_json: print what came of it as a JSON object; what is said goes to standard error.
    """
    from ternvae.trainer import FailedChecksError, RunDirectoryError, SaveError, Trainer
    from ternvae.training.device import is_out_of_memory
    from ternvae.training.processes import LostProcessError

    make = partial(Trainer, resume_from=checkpoint, progress_bar=not quiet and sys.stderr.isatty())
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
        with _speaking(quiet=quiet, apart=quiet or as_json), stopping:
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
    status = _told(result, stopping)
    if leads():
        _print_result(result, status, quiet=quiet, as_json=as_json)
    return status


def _told(result: TrainingResult, stopping: _Stopping) -> int:
    """Say why training ended, unless it is done, and how to go on; returns the exit status."""
    if result.stop_reason == "epochs":
        return 0
    if result.stop_reason == "interrupted":
        return complain(f"interrupted{_way_on(result.last_good)}", stopping.status)
    # The same NaN would come again, to the bit.
    changed = "with another setting, " if result.stop_reason == "non_finite_loss" else ""
    way_on = _way_on(result.last_good, changed)
    return complain(f"{result.problem}; stopped{way_on}", STOPPED_ITSELF)


def _print_result(result: TrainingResult, status: int, *, quiet: bool, as_json: bool) -> None:
    """Print what a script wants to know."""
    if as_json:
        fields = {**vars(result), "exit_status": status}
        click.echo(json.dumps(_plain(fields), indent=2, allow_nan=False))
    elif quiet and result.checkpoint is not None:
        click.echo(str(result.checkpoint))


def _plain(value: Any) -> Any:
    """As strict JSON has it: paths as text, NaN and infinities as null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


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
                os.write(2, _over_the_bar("stopping after this step; once more to stop at once"))


def _stop_at_once(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _over_the_bar(line: str) -> bytes:
    """The line as bytes; on a terminal it takes the place of the bar and of ^C."""
    if not os.isatty(2):
        return f"{line}\n".encode()
    width = (os.get_terminal_size(2).columns or 80) - 1
    return f"\r{line:<{width}}\n".encode()


class _Terminal(logging.Handler):
    """Log lines on standard output or error, above the progress bar if there is one.

    Args:
        apart: whether they go to standard error, for standard output is a script's.
    """

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self._apart = apart

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(_painted(self.format(record), record.levelno), err=self._apart)
        except OSError as error:
            # The reader has gone, as head does, or the file behind it cannot grow.  The run goes
            # on, and train.log has every line.
            discard(sys.stderr if self._apart else sys.stdout)
            if not isinstance(error, BrokenPipeError):
                name = "error" if self._apart else "output"
                complain(f"standard {name}: {error.strerror}; train.log has what it would show")


def _painted(text: str, level: int) -> str:
    if level >= logging.WARNING:
        return painted(text, fg="red" if level >= logging.ERROR else "yellow")
    return verdicts_painted(text)


@contextmanager
def _speaking(*, quiet: bool, apart: bool) -> Iterator[None]:
    """Let the program's log be seen.

    Args:
        quiet: only warnings and errors.
        apart: on standard error.
    """
    log = logging.getLogger("ternvae")
    handler = _Terminal(apart=apart)
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
