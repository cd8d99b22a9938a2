"""A long run and a long row of resumptions: nothing grows, and nothing drifts."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from records import Claim
from torch import Tensor

from ternvae.config import Profile, resolve_profile
from ternvae.trainer import Trainer
from ternvae.training.monitor import Monitor
from ternvae.training.optimisation import Optimisation
from trials.runs import SMALL, differences, last_of, one_thread

__all__ = ["Samples", "flat_claims", "interrupted_row", "soak"]

#: At scale 1; an evaluation, and a look at the process, every so many epochs.
EPOCHS, RESUMPTIONS, EVERY = 2000, 200, 50

#: Growth of the resident memory that is none, in MB, from the second to the last quarter.
MOST_GROWTH = 2.0

#: A dozen steps an epoch, so that most interruptions are inside one.
ROW = {
    **SMALL,
    "training.batch_size": "9",
    "monitoring.detailed_metrics_every_n_epochs": "5",
    "checkpointing.save_every_n_epochs": "5",
}


@dataclass
class Samples:
    """Looks at this process.

    Attributes:
        megabytes: resident memory at each look; empty where the system does not say.
        files: open file descriptors; likewise.
    """

    megabytes: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self) -> None:
        """Take a sample."""
        if sys.platform.startswith("linux"):
            _release()
            status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            resident = next(line for line in status if line.startswith("VmRSS:"))
            self.megabytes.append(int(resident.split()[1]) / 1024)
            self.files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - /proc is no folder


def _release() -> None:
    """Give back what is free already: what waits for the collector or for malloc is no leak."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # C libraries other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def quarters(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    size = len(values) // 4
    return statistics.median(values[size : 2 * size]), statistics.median(values[-size:])


def flat_claims(what: str, samples: Samples) -> list[Claim]:
    """Claims that neither memory nor the number of open files grows."""
    memory, files = f"soak: {what}: resident memory is flat", f"soak: {what}: no file stays open"
    if len(samples.megabytes) < 4:
        reason = "skipped: no /proc on this system" if not samples.megabytes else "too few samples"
        return [Claim(memory, reason, False), Claim(files, reason, False)]
    early, late = quarters(samples.megabytes)
    growth = late - early
    opened = sorted(set(samples.files[1:]))
    return [
        Claim(
            f"{memory}, growth below {MOST_GROWTH:.0f} MB",
            f"{growth:+.2f} MB, {early:.1f} to {late:.1f} MB, {len(samples.megabytes)} looks",
            growth < MOST_GROWTH,
        ),
        Claim(files, f"{', '.join(map(str, opened))} at every look", len(opened) == 1),
    ]


def soak(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Train long, and resume often, in this process.

    Args:
        scratch: an empty folder.
        scale: 1 for 2000 epochs and 200 resumptions.
        seed: of the runs.
        tell: gets lines about progress.

    Returns:
        Claims on memory, open files and the final weights.
    """
    epochs = EVERY * max(8, round(EPOCHS * scale / EVERY))
    with one_thread():
        samples = _long_run(scratch / "long", epochs, seed)
        tell(f"soak: {epochs} epochs done")
        claims = flat_claims(f"{epochs} epochs", samples)
        return claims + _row_claims(scratch, max(8, round(RESUMPTIONS * scale)), seed, tell)


def _long_run(run: Path, epochs: int, seed: int) -> Samples:
    samples = Samples()
    write = Monitor.epoch

    def epoch(own: Monitor, record: Any) -> None:
        write(own, record)
        samples.look()

    settings = {
        **SMALL,
        "seed": str(seed),
        "training.batch_size": "81",
        "training.epochs": str(epochs),
        "monitoring.detailed_metrics_every_n_epochs": str(EVERY),
        "checkpointing.save_every_n_epochs": str(EVERY),
    }
    with mock.patch.object(Monitor, "epoch", epoch):
        result = Trainer(_profile(settings), run, "cpu").fit()
    if result.stop_reason != "epochs":
        raise RuntimeError(f"the long run stopped: {result.problem}")
    return samples


def _profile(settings: dict[str, str]) -> Profile:
    return resolve_profile(None, None, settings)


def _row_claims(
    scratch: Path, resumptions: int, seed: int, tell: Callable[[str], None]
) -> list[Claim]:
    reference, run = scratch / "reference", scratch / "row"
    settings = {**ROW, "seed": str(seed)}
    steps = len(Trainer(_profile(settings), run, "cpu").steps)
    # Two steps a part on average, and the last part goes to the end.
    settings["training.epochs"] = str(max(20, 2 * (resumptions + 1) // steps + 2))
    Trainer(_profile(settings), reference, "cpu").fit()
    samples, begun = Samples(), []
    for began in interrupted_row(_profile(settings), run, resumptions):
        begun.append(began)
        samples.look()
    made, inside = len(begun), sum(began > 0 for began in begun)
    tell(f"soak: {made} resumptions done, {inside} of them inside an epoch")
    found = differences(reference, run)
    return [
        Claim(
            "soak: a run resumed time and again ends bit for bit as the uninterrupted one",
            found[0] if found else f"{made} resumptions, {inside} inside an epoch; no difference",
            not found and made >= resumptions and inside > made // 2,
        ),
        *flat_claims(f"{made} resumptions", samples),
    ]


def interrupted_row(profile: Profile, run: Path, resumptions: int) -> Iterator[int]:
    """Make a run in so many resumed parts of one to three steps, and the rest; yields after each.

    Yields:
        Steps of the unfinished epoch that the resumption began with.
    """
    for number in range(resumptions + 1):
        trainer = Trainer(profile, run, "cpu", resume_from=last_of(run))
        began = trainer.steps.done
        with _stopping(trainer, 1 + number % 3 if number < resumptions else None):
            result = trainer.fit()
        wanted = "interrupted" if number < resumptions else "epochs"
        if result.stop_reason != wanted:
            raise RuntimeError(f"part {number} ended with {result.stop_reason}: {result.problem}")
        if number:
            yield began


_STEP = Optimisation.step


@contextmanager
def _stopping(trainer: Trainer, after: int | None) -> Iterator[None]:
    """A block in which a run is asked to stop after so many steps."""
    done = 0

    def step(own: Optimisation, *arguments: Any, **keywords: Any) -> Tensor:
        nonlocal done
        norm = _STEP(own, *arguments, **keywords)
        done += 1
        if done == after:
            trainer.request_stop()
        return norm

    with mock.patch.object(Optimisation, "step", step):
        yield
