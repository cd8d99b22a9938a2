"""Training processes killed at random moments: what is resumed ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from records import Claim

from trials.runs import (
    KEPT,
    SMALL,
    counted,
    differences,
    ended,
    last_of,
    orphans,
    run_process,
    start_process,
    train_command,
    unreadable,
)

__all__ = ["Victim", "kill"]

#: Trials at scale 1, and the share of them that are killed at an operation of saving.
TRIALS, AIMED = 50, 1 / 3

#: Share of the trials that are killed more than once, and how often then.
REPEATED, TIMES = 0.1, 3

#: How often a process may end before its kill came, until the trial counts as failed.
ATTEMPTS = 6


@dataclass
class Victim:
    """One run that is killed and resumed until it is done.

    Attributes:
        folder: where its files go.
        kills: for each kill either ("time", share of the run's duration) or ("aimed", number of the
            operation).
        killed: how often it was.
        halves: kills that left a half-written file.
        before_saving: kills before there was a checkpoint.
        fault: what was wrong on the way or at the end.
        files: checkpoints that are missing, left over or not listed at the end.
    """

    folder: Path
    kills: list[tuple[str, float]]
    killed: int = 0
    halves: int = 0
    before_saving: int = 0
    fault: str | None = None
    files: str | None = None

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.folder / "run"

    def told(self, fault: str | None) -> str | None:
        """A fault with what the run went through."""
        return fault and f"{self.folder.name}, {self.kills}: {fault}"

    def suffer(self, reference: Path, seconds: float) -> None:
        """All kills and the last resumption, and the comparison."""
        self.folder.mkdir()
        for number, (how, when) in enumerate(self.kills):
            if not self._killed(number, how, when, seconds):
                self.fault = self.fault or f"never killed by {how} {when:.3f}"
                return
            self.killed += 1
            self.halves += orphans(self.run) is not None
            self.before_saving += last_of(self.run) is None
            if damage := unreadable(self.run):
                self.fault = f"after the kill: {damage}"
                return
        if differences(reference, self.run):  # none if the kill came after all was done
            done = run_process(self._command(), self.folder / "end", {})
            if done.status != 0 or done.err:
                self.fault = f"resumed, exit status {done.status}: {done.err[-300:]!r}"
                return
        found = differences(reference, self.run)
        self.fault = "; ".join(each for each in found if not each.startswith(KEPT)) or None
        self.files = next((each for each in found if each.startswith(KEPT)), None)

    def _command(self) -> list[str]:
        return train_command(SMALL, self.run, last_of(self.run))

    def _killed(self, number: int, how: str, when: float, seconds: float) -> bool:
        """Kill the run once, sooner if it was done before; whether that came about."""
        for attempt in range(ATTEMPTS):
            output = self.folder / f"life_{number}_{attempt}"
            orders = {"folder": str(self.run), "kill": int(when)} if how == "aimed" else {}
            process = start_process(self._command(), output, orders)
            if how == "time":
                _kill_later(process, self.run / "lock", when * seconds)
            status = ended(process, output).status
            if status == -signal.SIGKILL:
                return True
            if status != 0:
                self.fault = f"exit status {status} of a process that was to be killed"
                return False
            # It was done before; a kill in a run that is done is none, so this one starts anew.
            when = max(1, when / 2) if how == "aimed" else when / 2
            _discard(self.run)
        return False


def _discard(run: Path) -> None:
    run.rename(run.with_name(f"{run.name}_done_{time.monotonic_ns()}"))


def _kill_later(process: object, lock: Path, seconds: float) -> None:
    """Kill a process so many seconds after it has taken the lock of its folder."""
    import subprocess

    assert isinstance(process, subprocess.Popen)  # noqa: S101
    before = lock.read_bytes() if lock.exists() else None
    while process.poll() is None and (lock.read_bytes() if lock.exists() else None) in (
        before,
        b"",
    ):
        time.sleep(0.002)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _uninterrupted(scratch: Path) -> tuple[Path, float, int]:
    """The run that is left alone: its folder, seconds from its lock to its end, operations."""
    run, count = scratch / "uninterrupted", scratch / "count"
    process = start_process(
        train_command(SMALL, run, None),
        scratch / "reference",
        {"folder": str(run), "count": str(count)},
    )
    while process.poll() is None and not (run / "lock").exists():
        time.sleep(0.002)
    started = time.monotonic()
    done = ended(process, scratch / "reference")
    if done.status != 0:
        raise RuntimeError(f"the uninterrupted run ended with {done.status}: {done.err}")
    return run, time.monotonic() - started, int(count.read_text(encoding="utf-8"))


def plan(trials: int, operations: int, draw: random.Random) -> list[list[tuple[str, float]]]:
    """When each trial is killed: a list of kills for each."""
    plans = []
    for number in range(trials):
        aimed = number % round(1 / AIMED) == 0
        times = TIMES if number % round(1 / REPEATED) == 1 else 1
        moments = (
            ("aimed", draw.randint(1, max(1, operations // times)))
            if aimed
            else ("time", draw.random() / times)
            for _ in range(times)
        )
        plans.append(list(moments))
    return plans


def kill(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Kill runs with SIGKILL, resume them, and compare them with one that was left alone.

    Args:
        scratch: an empty folder.
        scale: 1 for 50 trials.
        seed: decides the moments, as far as a clock can be told.
        tell: gets lines about progress and faults.

    Returns:
        A claim on what the runs end with, and one on where the kills fell.
    """
    reference, seconds, operations = _uninterrupted(scratch)
    tell(f"kill: the run left alone takes {seconds:.1f} s and {operations} operations on its files")
    draw = random.Random(seed)
    plans = plan(max(2, round(TRIALS * scale)), operations, draw)
    victims = [Victim(scratch / f"trial_{i:03d}", kills) for i, kills in enumerate(plans)]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(
            pool.map(lambda v: v.suffer(reference, seconds), victims), start=1
        ):
            if done % 10 == 0:
                tell(f"kill: {done} of {len(victims)} trials")
    kills, halves = sum(v.killed for v in victims), sum(v.halves for v in victims)
    early = sum(v.before_saving for v in victims)
    note = (
        f"{kills} kills, {halves} of them while a file was being written, {early} before the first "
        "checkpoint"
    )
    return [
        counted(
            "kill: killed with SIGKILL and resumed, runs end with weights, optimizer, metrics and "
            "log bit for bit as the uninterrupted one",
            [v.told(v.fault) for v in victims],
            tell,
            note,
        ),
        counted(
            "kill: they keep the same checkpoints, all of them listed in SHA256SUMS",
            [v.told(v.fault or v.files) for v in victims],
            tell,
        ),
    ]
