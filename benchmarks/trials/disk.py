"""Every write of a run made to fail: it ends with one clear line, and what was saved stays good.

The failures here are made in this process, one per operation on the run's files; real ones are in
`trials.full`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from records import Claim

from trials.full import real_failures
from trials.runs import (
    SMALL,
    Ended,
    counted,
    in_process,
    last_of,
    orphans,
    train_command,
    unreadable,
    weights_differ,
)
from trials.watch import Watch

__all__ = ["TINY", "Failing", "disk", "failed_run_fault", "lasting_fault"]

#: Every kind of file is written more than once.
TINY = {
    **SMALL,
    "space.n_digits": "2",
    "training.batch_size": "9",
    "training.epochs": "3",
    "curriculum.coverage_first_epochs": "1",
    "curriculum.hierarchy_ramp_epochs": "1",
    "curriculum.richness_preserve_epochs": "1",
    "checkpointing.save_every_n_epochs": "2",
    "checkpointing.keep_best_n": "1",
}

#: Long enough for a disk to be full and free again.
PATIENT = {**TINY, "training.epochs": "12"}

#: Errors beside ENOSPC, each for every so many-th operation.
OTHERS, EVERY = (errno.EIO, errno.EACCES, errno.EROFS), 4

#: What lies in the path that was given if nothing has been written yet.
_OF_THE_PATH = (errno.EACCES, errno.EROFS)

#: Operations that a full disk does not hinder.
_FREEING = ("unlink", "rmdir", "truncate", "ftruncate")

#: Runs at scale 1 whose disk is full for a while, or from some moment on.
WINDOWS = 12


class Failing:
    """Makes some operations on a folder fail.

    Args:
        run: the folder.
        which: the operations, by number.
        error: the error number.

    Attributes:
        failed: name and path of those that did.
        saved: digests of the checkpoints when the first one did.
        begun: whether the log of the run had been begun then, or was just to be.
    """

    def __init__(self, run: Path, which: Collection[int], error: int) -> None:
        self._run, self._which, self._error = run, which, error
        self.failed: list[tuple[str, str]] = []
        self.saved: dict[str, str] = {}
        self.begun = False

    def __call__(self, number: int, what: str, path: str) -> None:
        """Let an operation fail if it is one of them; see :class:`Watch`."""
        if number not in self._which or (what in _FREEING and self._error == errno.ENOSPC):
            return
        if not self.failed:
            self.saved = digests(self._run)
            log = self._run / "train.log"
            self.begun = log.exists() or Path(path) == Path(os.path.abspath(log))  # noqa: PTH100
        self.failed.append((what, path))
        raise OSError(self._error, os.strerror(self._error), path)

    def train(self, settings: dict[str, str]) -> Ended:
        """A new run with these failures."""
        with Watch(self._run, self).watching():
            return in_process(train_command(settings, self._run, None))


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of the checkpoints of a run."""
    paths = sorted((run / "checkpoints").glob("*.pt"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def failed_run_fault(reference: Path, run: Path, number: int, error: int) -> str | None:
    """Let one operation of a run fail; why what came of it is not right, or None if it is.

    Args:
        reference: folder of a run that was left alone.
        run: a folder that is not there yet.
        number: of the operation.
        error: the error number.
    """
    failing = Failing(run, (number,), error)
    done = failing.train(TINY)
    if not failing.failed:
        return "the operation never came"
    refused = not failing.begun and error in _OF_THE_PATH
    fault = done.refusal_fault(2 if refused else 3)
    fault = fault or (None if os.strerror(error) in done.err else f"no reason: {done.err!r}")
    fault = fault or (None if str(run) in done.err else f"no file: {done.err!r}")
    fault = fault or unreadable(run)
    now = digests(run)
    if lost := [name for name, digest in failing.saved.items() if now.get(name) != digest]:
        fault = fault or f"not as it was: {', '.join(lost)}"
    fault = fault or _resumption_fault(reference, run, last_of(run))
    where = f"{failing.failed[0][0]} {Path(failing.failed[0][1]).name}"
    return fault and f"operation {number} ({where}), {errno.errorcode[error]}: {fault}"


def _resumption_fault(reference: Path, run: Path, last: Path | None) -> str | None:
    """Why a run cannot be brought to the end it would have had; None if it can."""
    if last is None and (run / "metrics.json").exists():
        shutil.rmtree(run)  # it ended by itself and has nothing to go on from
    contents_before = (run / "metrics.json").exists()
    done = in_process(train_command(TINY, run, last))
    if done.status == 2 and contents_before and "is done" in done.err:
        return weights_differ(reference, run)  # only the summary of a whole run was missing
    if done.status != 0 or done.err:
        return f"resumed, exit status {done.status}: {done.err[-300:]!r}"
    return weights_differ(reference, run) or orphans(run)


def lasting_fault(
    reference: Path, run: Path, window: range, *, whole: bool, error: int = errno.ENOSPC
) -> str | None:
    """A run that goes on when it cannot be saved, on a disk that is full for a while.

    Args:
        reference: folder of a run that was left alone.
        run: a folder that is not there yet.
        window: numbers of the operations that fail.
        whole: whether the disk is free again before the end.
        error: the error number.
    """
    failing = Failing(run, window, error)
    done = failing.train({**PATIENT, "checkpointing.on_save_error": "continue"})
    if not failing.failed:
        return "no operation failed"
    if not whole:
        fault = done.refusal_fault(3) or unreadable(run)
        return fault and f"full from operation {window.start} on: {fault}"
    fault = None
    if done.status != 0 or done.err:
        fault = f"exit status {done.status}: {done.err[-300:]!r}"
    fault = fault or weights_differ(reference, run) or _missing_lines(reference, run)
    return fault and f"full at operations {window.start} to {window.stop - 1}: {fault}"


def _missing_lines(reference: Path, run: Path) -> str | None:
    """Lines of the log and of metrics.jsonl that a full disk has cost."""
    lines = iter((run / "train.log").read_text(encoding="utf-8").splitlines())
    for wanted in (reference / "train.log").read_text(encoding="utf-8").splitlines():
        if wanted.startswith("Run directory"):
            continue
        if wanted.startswith("Best model"):
            break  # which is another one if the best could not be saved
        if not any(line == wanted for line in lines):
            return f"train.log is without {wanted!r}, or has it elsewhere"
    one, other = (
        [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()]
        for each in (reference, run)
    )
    for each in other:
        each["events"] = [event for event in each["events"] if event["kind"] != "save_failed"]
    return None if one == other else "metrics.jsonl has other lines"


def disk(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Let writes fail, in this process and really, and judge what becomes of the runs.

    Args:
        scratch: an empty folder.
        scale: 1 for every operation of a run; less for a share of them.
        seed: decides which, and the other errors.
        tell: gets lines about progress and faults.

    Returns:
        Claims on single failures, on runs that go on, and on real failures.
    """
    draw = random.Random(seed)
    reference = scratch / "reference"
    operations = _left_alone(reference, TINY)
    total = len(operations)
    tell(f"disk: a run is {total} operations on its files")
    chosen = range(1, total + 1)
    cases = [
        (number, errno.EIO if operations[number - 1][0] in _FREEING else errno.ENOSPC)
        for number in chosen
    ]
    cases += [(number, draw.choice(OTHERS)) for number in chosen if number % EVERY == 0]
    if scale < 1:
        cases = draw.sample(cases, max(4, round(len(cases) * scale)))
    faults = []
    for done, (number, error) in enumerate(cases, start=1):
        run = scratch / "failing"
        faults.append(failed_run_fault(reference, run, number, error))
        shutil.rmtree(run, ignore_errors=True)
        if done % 100 == 0:
            tell(f"disk: {done} of {len(cases)} failures")
    return [
        counted(
            "disk: a run of which one operation on a file fails ends with one line, exit status 3 "
            "(2 before it began), what was saved intact, and resumes to the same weights",
            faults,
            tell,
            f"{total} operations, ENOSPC at {'each' if scale >= 1 else 'some'}, others at a share",
        ),
        *_windows(scratch, max(2, round(WINDOWS * scale)), draw, tell),
        *real_failures(scratch / "real", scale=scale, tell=tell),
    ]


def _left_alone(run: Path, settings: dict[str, str]) -> list[tuple[str, str]]:
    """Make a run without failures; returns the operations on its files."""
    with Watch(run, lambda *_: None).watching() as watch:
        made = in_process(train_command(settings, run, None))
    if made.status != 0:
        raise RuntimeError(f"the run that is left alone ended with {made.status}: {made.err}")
    return watch.seen


def _windows(
    scratch: Path, number: int, draw: random.Random, tell: Callable[[str], None]
) -> list[Claim]:
    """Claims on `checkpointing.on_save_error`: continue."""
    reference = scratch / "patient"
    operations = _left_alone(reference, PATIENT)
    first = next(i for i, (_, path) in enumerate(operations, 1) if path.endswith("train.log"))
    total = len(operations)
    passing: list[str | None] = []
    ending: list[str | None] = []
    for _ in range(number):
        # A full disk takes one or two operations for what were forty, so a few last for epochs.
        start = draw.randint(first, total // 2)
        window = range(start, start + draw.randint(1, 16))
        for found, which, whole in (
            (passing, window, True),
            (ending, range(start, 100 * total), False),
        ):
            run = scratch / "lasting"
            found.append(lasting_fault(reference, run, which, whole=whole))
            shutil.rmtree(run, ignore_errors=True)
    return [
        counted(
            "disk: on_save_error: continue, full for a while: exit status 0, the same weights, no "
            "line of train.log or metrics.jsonl lost",
            passing,
            tell,
        ),
        counted(
            "disk: on_save_error: continue, full to the end: exit status 3 and one line",
            ending,
            tell,
        ),
    ]
