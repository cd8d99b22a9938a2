"""Train the foundation profile on larger spaces: cost per sequence, memory, and how far it gets.

Every claim is printed with its figures and PASS or FAIL.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bounds import as_records, exit_status
from children import in_child, progress
from environment import add_shared_options, environment, integers, pairs, write_results
from spaces_report import check_claims, report
from spaces_run import profile_for
from training_measure import ManualTraining, now

from ternvae.config import Profile

__all__ = ["main"]

#: Beyond this many digits a run to the targets takes hours, so the run is limited in time.
MOST_DIGITS_TO_THE_END = 13

#: Epochs of the larger space that its cost is measured in, before and after the freeze.
SPEED_EPOCHS = 3


def interleaved_epoch(large: ManualTraining, small: ManualTraining) -> tuple[float, float]:
    """One epoch on a large space, with epochs on a small one at short intervals within it.

    Both get about half of the time, in turns, so that both see the same weather of the machine.

    Returns:
        Seconds per sequence on the large space and on the small one.
    """
    device = large.trainer.device
    small.seconds.clear()
    elsewhere = 0.0
    started = turned = now(device)

    def turn() -> None:
        nonlocal elsewhere, turned
        # The clock alone: to wait for the device after every step would slow the steps down.
        if time.perf_counter() - turned < (small.seconds[-1] if small.seconds else 0.0):
            return
        began = now(device)
        small.time()
        turned = now(device)
        elsewhere += turned - began

    large.epoch(turn)
    seconds = now(device) - started - elsewhere
    per_small = sum(small.seconds) / (len(small.seconds) * small.trainer.space.size)
    return seconds / large.trainer.space.size, per_small


def compare_speed(small: Profile, large: Profile, *, frozen: bool) -> list[list[float]]:
    """Seconds per sequence and epoch on two spaces, training alone.

    Returns:
        A pair for each epoch of the larger space: that one's, and the smaller one's.
    """
    device = torch.device("cpu")
    loops = [ManualTraining(each, device, frozen=frozen) for each in (small, large)]
    for _ in range(2):  # what is compiled is, after two epochs
        loops[0].epoch()
    return [list(interleaved_epoch(loops[1], loops[0])) for _ in range(SPEED_EPOCHS)]


def measure_speed(profiles: dict[int, Profile], threads: int) -> dict[str, Any]:
    """The cost per sequence on each space that is trained to the end, against the smallest.

    Returns:
        For each of their digits but the fewest the pairs before and after the freeze.
    """
    least, *others = sorted(profiles)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = {}
    try:
        for n_digits in others:
            if n_digits > MOST_DIGITS_TO_THE_END:
                continue
            progress(f"n = {n_digits} and n = {least}, in turns")
            found[str(n_digits)] = {
                moment: compare_speed(profiles[least], profiles[n_digits], frozen=frozen)
                for moment, frozen in (("before", False), ("after", True))
            }
    finally:
        torch.set_num_threads(before)
    return {"least": least, "pairs": found}


def measure_spaces(given: argparse.Namespace, overrides: dict[str, Any]) -> list[dict[str, Any]]:
    """A run on each space, in a process of its own."""
    found = []
    for n_digits in given.digits:
        limited = n_digits > MOST_DIGITS_TO_THE_END
        job = {
            "n_digits": n_digits,
            "epochs": _epochs(n_digits, given.epochs),
            "minutes": given.minutes if limited else None,
            "threads": given.threads,
            "overrides": overrides,
        }
        limit = f", at most {given.minutes:g} minutes" if limited else ""
        progress(f"n = {n_digits}: training to the targets{limit}")
        answer = in_child(Path(__file__).with_name("spaces_run.py"), job)
        found.append({"n_digits": n_digits, "size": 3**n_digits, **answer})
    return found


def _epochs(n_digits: int, epochs: int) -> int:
    """A run that is limited in time gets one epoch, which is longer than the time."""
    return 1 if n_digits > MOST_DIGITS_TO_THE_END else epochs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if every claim that is checked holds, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--digits", type=integers, default="9,12,15", help="the spaces; default 9,12,15"
    )
    parser.add_argument(
        "--epochs", type=int, default=6, help="at most so many, beyond nine digits; default 6"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=2.0,
        help=f"of training beyond {MOST_DIGITS_TO_THE_END} digits; default 2",
    )
    parser.add_argument("--threads", type=int, default=2, help="torch's; default 2")
    add_shared_options(parser, "the foundation profile, on every space")
    given = parser.parse_args(arguments)
    for name in ("epochs", "minutes", "threads"):
        if not getattr(given, name) > 0:
            parser.error(f"--{name} must be above 0, got {getattr(given, name)}")
    try:
        overrides = pairs(given.overrides)
        profiles = {n: profile_for(n, _epochs(n, given.epochs), overrides) for n in given.digits}
    except ValueError as error:
        parser.error(str(error))
    contents = {
        "environment": environment(arguments),
        "overrides": overrides,
        "threads": given.threads,
        "batch_size": profiles[given.digits[0]].training.batch_size,
        "speed": measure_speed(profiles, given.threads),
        "spaces": measure_spaces(given, overrides),
    }
    claims = check_claims(contents)
    contents["claims"] = as_records(claims)
    text = report(contents, claims)
    print(text)
    for file in write_results(given.out, "bench_spaces", contents, text):
        progress(f"Written: {file}")
    return exit_status(claims)


if __name__ == "__main__":
    sys.exit(main())
