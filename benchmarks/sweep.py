"""Train every shipped profile with many seeds through the command line, and check the claims.

Each run is a process of its own, ``python -m ternvae train``, on the CPU with one thread.  Runs of
the same seed follow one another, so that all profiles meet the same conditions on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from environment import (
    ROOT,
    add_shared_options,
    available_cores,
    environment,
    integers,
    pairs,
    write_results,
)
from sweep_report import Run, check_claims, report, unchecked_reason

from ternvae.config import available_profiles, resolve_profile

__all__ = ["main"]

SOME_CLAIM_FAILED, INTERRUPTED = 1, 130

#: Lines of a failed run's output that are kept.
KEPT_LINES = 15


class Job(NamedTuple):
    """One run to be made."""

    profile: str
    seed: int


@dataclass
class Running:
    """A run in progress."""

    job: Job
    process: subprocess.Popen[bytes]
    started: float


def command(job: Job, run_dir: Path, overrides: Mapping[str, str]) -> list[str]:
    """The command line of one run."""
    options = [text for key, value in overrides.items() for text in (f"--{key}", value)]
    where = ["--device", "cpu", "--run-dir", str(run_dir)]
    named = ["--profile", job.profile, "--seed", str(job.seed)]
    return [sys.executable, "-m", "ternvae", "train", *named, *where, *options]


class Sweep:
    """Runs jobs, a few at a time, and keeps what came of each.

    Args:
        jobs: the runs to make, in this order.
        at_a_time: number of processes.
        folder: where the run directories and the output of each run go.
        overrides: keys and values for every run.

    Attributes:
        interrupted: whether Ctrl-C ended the sweep early.
    """

    def __init__(
        self, jobs: Sequence[Job], at_a_time: int, folder: Path, overrides: Mapping[str, str]
    ) -> None:
        self.jobs = list(jobs)
        self.at_a_time = at_a_time
        self.folder = folder
        self.overrides = overrides
        self.interrupted = False
        self._done: dict[Job, Run] = {}

    def run(self) -> list[Run]:
        """Make all runs; returns one record per job, also for failed ones and those never begun.

        Ctrl-C is passed on to the processes, which save and end after their epoch.
        """
        waiting, running = deque(self.jobs), list[Running]()
        try:
            while waiting or running:
                while waiting and len(running) < self.at_a_time:
                    running.append(self._start(waiting.popleft()))
                time.sleep(0.05)
                running = [each for each in running if not self._ended(each)]
        except KeyboardInterrupt:
            self.interrupted = True
            self._interrupt(running)
        return [self._done.get(job, Run(*job, status="not begun")) for job in self.jobs]

    def _interrupt(self, running: Sequence[Running]) -> None:
        """Pass Ctrl-C on and wait; a second one goes to the runs too and stops them at once."""
        progress("interrupted; waiting for the runs in progress to save")
        for each in running:
            each.process.send_signal(signal.SIGINT)
        for each in running:
            while not self._ended(each):
                try:
                    each.process.wait()
                except KeyboardInterrupt:
                    for other in running:
                        other.process.send_signal(signal.SIGINT)

    def _start(self, job: Job) -> Running:
        name = f"{job.profile}-seed{job.seed}"
        with (self.folder / f"{name}.txt").open("wb") as output:
            process = subprocess.Popen(
                command(job, self.folder / name, self.overrides),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                # Ctrl-C at the terminal must reach the run once, and from here.
                start_new_session=True,
            )
        return Running(job, process, time.perf_counter())

    def _ended(self, running: Running) -> bool:
        """Record the run if its process has ended."""
        status = running.process.poll()
        if status is None:
            return False
        seconds = time.perf_counter() - running.started
        name = f"{running.job.profile}-seed{running.job.seed}"
        run = outcome(running.job, status, seconds, self.folder / name)
        if run.status != "done":
            text = (self.folder / f"{name}.txt").read_text(encoding="utf-8", errors="replace")
            run.output = text.splitlines()[-KEPT_LINES:]
        self._done[running.job] = run
        progress(f"[{len(self._done):3d}/{len(self.jobs)}] {run}")
        return True


def outcome(job: Job, exit_status: int, seconds: float, run_dir: Path) -> Run:
    """What a process that has ended says about its run."""
    try:
        summary = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = None
    if exit_status == 0 and summary is not None and summary["stop_reason"] == "epochs":
        status = "done"
    elif exit_status == INTERRUPTED:
        status = "interrupted"
    else:
        status = f"failed, exit status {exit_status}"
    return Run(*job, status, exit_status, seconds, summary)


def progress(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    shipped = available_profiles()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--profiles",
        type=lambda text: text.split(","),
        default=list(shipped),
        metavar="A,B",
        help=f"default: all of {', '.join(shipped)}",
    )
    parser.add_argument("--seeds", type=integers, default="0-9", help="default 0-9")
    parser.add_argument(
        "--jobs", type=int, default=available_cores(), help="default: one per core, %(default)s"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="keep the run directories in DIR, new or empty; default: a temporary folder",
    )
    add_shared_options(parser, "every profile (the claims are not checked then)")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {given.jobs}")
    if unknown := [name for name in given.profiles if name not in shipped]:
        parser.error(f"--profiles: {unknown[0]!r} is not shipped; choose from {', '.join(shipped)}")
    if len(set(given.profiles)) < len(given.profiles):
        parser.error(f"--profiles: a name comes twice in {','.join(given.profiles)}")
    if given.runs is not None and given.runs.exists() and any(given.runs.iterdir()):
        parser.error(f"--runs: {given.runs} is not empty")
    try:
        given.overrides = pairs(given.overrides)
        for name in given.profiles:
            resolve_profile(name, None, given.overrides)
    except ValueError as error:
        parser.error(str(error))
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep and report it.

    Returns:
        0; 1 if a claim or, where claims are not checked, a run failed; 130 if interrupted.
    """
    given = _arguments(arguments)
    jobs = [Job(profile, seed) for seed in given.seeds for profile in given.profiles]
    where = environment(arguments)
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = given.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        progress(f"{len(jobs)} runs, {given.jobs} at a time")
        sweep = Sweep(jobs, given.jobs, folder.absolute(), given.overrides)
        runs = sweep.run()
    unchecked = unchecked_reason(runs, given.overrides, interrupted=sweep.interrupted)
    claims = [] if unchecked else check_claims(runs)
    text = report(runs, claims, unchecked, where)
    contents: dict[str, Any] = {
        "environment": where,
        "jobs": given.jobs,
        "overrides": given.overrides,
        "seconds": time.perf_counter() - started,
        "claims_unchecked": unchecked,
        "claims": [asdict(claim) for claim in claims],
        "runs": [asdict(run) for run in runs],
    }
    print(text)
    for file in write_results(given.out, "sweep", contents, text):
        progress(f"Written: {file}")
    if sweep.interrupted:
        return INTERRUPTED
    good = all(claim.passed for claim in claims) and all(run.status == "done" for run in runs)
    return 0 if good else SOME_CLAIM_FAILED


if __name__ == "__main__":
    # The runs have sessions of their own and would outlive a sweep that is merely killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
