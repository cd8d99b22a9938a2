"""Train every shipped profile with many seeds through the command line, and check the claims.

Each run is a process of its own, ``python -m ternvae train``, on the CPU with one thread.  Runs of
the same seed follow one another, so that all profiles meet the same conditions on the machine.
When all have ended, neighbours are looked up and valuations read in the points of each best model.
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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from environment import (
    ROOT,
    add_shared_options,
    available_cores,
    environment,
    integers,
    pairs,
    write_results,
)
from records import Claim, Run, unchecked_reason
from sweep_report import CLAIMED, check_claims, report

from ternvae.config import available_profiles, resolve_profile
from ternvae.metrics import sibling_retrieval
from ternvae.models import TernaryVAE
from ternvae.training.partners import draws, partners_of

__all__ = [
    "INTERRUPTED",
    "Job",
    "Sweep",
    "add_run_options",
    "as_options",
    "exit_status",
    "main",
    "progress",
    "refuse_bad_run_options",
]

#: Pairs whose valuations are read; the standard error of a share of 0.99 of them is 0.0003.
PAIRS = 2**18

SOME_CLAIM_FAILED, INTERRUPTED = 1, 130

#: Lines of a failed run's output that are kept.
KEPT_LINES = 15


class Job(NamedTuple):
    """One run to be made.

    Attributes:
        label: what the run is filed under: for the sweep, its profile.
        seed: the run's seed.
        options: what its command line says beside the seed, the device and the run directory.
        after: label of the run of the same seed that must have ended before this one begins.
    """

    label: str
    seed: int
    options: tuple[str, ...] = ()
    after: str | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder, and of the file with its output."""
        return f"{self.label}-seed{self.seed}"


@dataclass
class Running:
    """A run in progress."""

    job: Job
    process: subprocess.Popen[bytes]
    started: float


def as_options(overrides: Mapping[str, str]) -> list[str]:
    """Overrides as the command line of a run has them."""
    return [text for key, value in overrides.items() for text in (f"--{key}", value)]


def command(job: Job, run_dir: Path) -> list[str]:
    """The command line of one run."""
    where = ["--seed", str(job.seed), "--device", "cpu", "--run-dir", str(run_dir)]
    quiet = ["--monitoring.report", "false"]
    return [sys.executable, "-m", "ternvae", "train", *quiet, *job.options, *where]


class Sweep:
    """Runs jobs, a few at a time, and keeps what came of each.

    Args:
        jobs: the runs to make, in this order, except that one which must wait for another lets
            the next one begin.
        at_a_time: number of processes.
        folder: where the run directories and the output of each run go.

    Attributes:
        interrupted: whether Ctrl-C ended the sweep early.

    Raises:
        ValueError: a job waits for one that is not among the jobs.
    """

    def __init__(self, jobs: Sequence[Job], at_a_time: int, folder: Path) -> None:
        self.jobs = list(jobs)
        labels = {(job.label, job.seed) for job in self.jobs}
        for job in self.jobs:
            if job.after is not None and (job.after, job.seed) not in labels:
                raise ValueError(f"{job.name} waits for {job.after}, which is never run")
        self.at_a_time = at_a_time
        self.folder = folder
        self.interrupted = False
        self._done: dict[Job, Run] = {}

    def run(self) -> list[Run]:
        """Make all runs; returns one record per job, also for failed ones and those never begun.

        Ctrl-C is passed on to the processes, which save and end after their epoch.
        """
        waiting, running = list(self.jobs), list[Running]()
        try:
            while waiting or running:
                while len(running) < self.at_a_time and (job := self._next(waiting)):
                    waiting.remove(job)
                    running.append(self._start(job))
                time.sleep(0.05)
                running = [each for each in running if not self._ended(each)]
        except KeyboardInterrupt:
            self.interrupted = True
            self._interrupt(running)
        return [
            self._done.get(job, Run(job.label, job.seed, status="not begun")) for job in self.jobs
        ]

    def _next(self, waiting: Sequence[Job]) -> Job | None:
        """The first job that need not wait for another one."""
        ended = {(job.label, job.seed) for job in self._done}
        able = (job for job in waiting if job.after is None or (job.after, job.seed) in ended)
        return next(able, None)

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
        with (self.folder / f"{job.name}.txt").open("wb") as output:
            process = subprocess.Popen(
                command(job, self.folder / job.name),
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
        name = running.job.name
        run = outcome(running.job, status, seconds, self.folder / name)
        if run.status != "done":
            text = (self.folder / f"{name}.txt").read_text(encoding="utf-8", errors="replace")
            run.output = text.splitlines()[-KEPT_LINES:]
        self._done[running.job] = run
        progress(f"[{len(self._done):3d}/{len(self.jobs)}] {run}")
        return True


def outcome(job: Job, returned: int, seconds: float, run_dir: Path) -> Run:
    """What a process that has ended says about its run."""
    try:
        summary = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = None
    if returned == 0 and summary is not None and summary["stop_reason"] == "epochs":
        status = "done"
    elif returned == INTERRUPTED:
        status = "interrupted"
    else:
        status = f"failed, exit status {returned}"
    return Run(job.label, job.seed, status, returned, seconds, summary)


def structure(run_dir: Path) -> dict[str, float]:
    """What the points of the best model say of its sequences.

    Returns:
        ``sibling_retrieval``; and the shares of pairs whose valuation is read right from their
        points, pairs of every valuation equally often: of any two sequences ("valuations_read"),
        and of two that differ in one digit alone ("one_digit_read").
    """
    model = TernaryVAE.from_checkpoint(run_dir / "checkpoints" / "best_Q.pt")
    space = model.space
    points = model.embed(torch.arange(space.size))
    first = torch.randint(space.size, (PAIRS,), generator=torch.Generator().manual_seed(0))
    keywords = {"batches": 1, "pairs": PAIRS, "n_digits": space.n_digits, "tries": 1}
    drawn = draws(1, **keywords)[:, 0]
    second, between = partners_of(first, drawn, n_digits=space.n_digits, is_seen=None)
    right = model.valuation_between(points[first], points[second]) == between
    lone = drawn[1] > 0
    return {
        "sibling_retrieval": sibling_retrieval(points, model.ball, space).share,
        "valuations_read": float(right[~lone].double().mean()),
        "one_digit_read": float(right[lone].double().mean()),
    }


def progress(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which runs are made and where: seeds, processes, folders."""
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


def refuse_bad_run_options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """End the program if what :func:`add_run_options` asks for cannot be done."""
    if given.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {given.jobs}")
    if given.runs is not None and given.runs.exists() and any(given.runs.iterdir()):
        parser.error(f"--runs: {given.runs} is not empty")


def exit_status(claims: Iterable[Claim], runs: Iterable[Run], *, interrupted: bool) -> int:
    """0; 1 if a claim or a run failed; 130 if Ctrl-C ended the runs early."""
    if interrupted:
        return INTERRUPTED
    good = all(claim.passed for claim in claims) and all(run.done for run in runs)
    return 0 if good else SOME_CLAIM_FAILED


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
    add_run_options(parser)
    add_shared_options(parser, "every profile (the claims are not checked then)")
    given = parser.parse_args(arguments)
    refuse_bad_run_options(parser, given)
    if unknown := [name for name in given.profiles if name not in shipped]:
        parser.error(f"--profiles: {unknown[0]!r} is not shipped; choose from {', '.join(shipped)}")
    if len(set(given.profiles)) < len(given.profiles):
        parser.error(f"--profiles: a name comes twice in {','.join(given.profiles)}")
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
    options = {name: ("--profile", name, *as_options(given.overrides)) for name in given.profiles}
    jobs = [Job(name, seed, options[name]) for seed in given.seeds for name in given.profiles]
    where = environment(arguments)
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = given.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        progress(f"{len(jobs)} runs, {given.jobs} at a time")
        sweep = Sweep(jobs, given.jobs, folder.absolute())
        runs = sweep.run()
        for run in runs:
            if run.done:
                folder_of_run = folder / Job(run.profile, run.seed).name
                run.measured.update(structure(folder_of_run))
    unchecked = unchecked_reason(runs, CLAIMED, given.overrides, interrupted=sweep.interrupted)
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
    return exit_status(claims, runs, interrupted=sweep.interrupted)


if __name__ == "__main__":
    # The runs have sessions of their own and would outlive a sweep that is merely killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
