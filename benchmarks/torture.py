"""Torture the training of a model: kill it, fill its disk, damage and forge its files, feed it NaN.

Each trial tries to lose or spoil work, and counts how often it succeeded.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from environment import (
    add_output_option,
    environment,
    environment_markdown,
    markdown_table,
    write_results,
)
from records import Claim

__all__ = ["TRIALS", "Tried", "main"]

#: The trials, from the shortest to the longest, each with what it does in a few words.  A trial
#: ``name`` is the function of that name in ``trials/name.py``.
TRIALS = {
    "flip": "checkpoints with one wrong bit, or cut off",
    "evil": "checkpoints that somebody forged",
    "poison": "NaN and infinity inside a run",
    "soak": "long runs, and long rows of resumptions",
    "inputs": "bad profiles, command lines and calls",
    "kill": "processes that are killed and resumed",
    "disk": "disks that are full, gone or read-only",
}

SOME_CLAIM_FAILED, INTERRUPTED = 1, 130

SKIPPED = "skipped:"


@dataclass(frozen=True)
class Tried:
    """A trial that was made: its claims, and how long it took."""

    name: str
    claims: tuple[Claim, ...]
    seconds: float


def result(claim: Claim) -> str:
    """What a report says of a claim; one that could not be checked here is not passed."""
    return "PASS" if claim.passed else "SKIPPED" if claim.figure.startswith(SKIPPED) else "FAIL"


def attempt(name: str, scratch: Path, scale: float, seed: int) -> Tried:
    """Make one trial; one that breaks down is a claim that fails."""
    scratch.mkdir()
    trial: Callable[..., list[Claim]] = getattr(import_module(f"trials.{name}"), name)
    started = time.perf_counter()
    try:
        claims = trial(scratch, scale=scale, seed=seed, tell=tell)
    except Exception as error:
        claims = [Claim(f"{name}: the trial itself", f"{type(error).__name__}: {error}", False)]
    if not claims:
        claims = [Claim(f"{name}: the trial itself", "it claims nothing", False)]
    tried = Tried(name, tuple(claims), time.perf_counter() - started)
    for claim in claims:
        print(f"{result(claim)}  {claim.statement}: {claim.figure}", flush=True)
    print(f"      {name}: {tried.seconds:.0f} s", flush=True)
    return tried


def tell(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def report(tried: Sequence[Tried], scale: float, seed: int, where: dict[str, Any]) -> str:
    """All claims, as Markdown."""
    rows = [(c.statement, c.figure, result(c)) for each in tried for c in each.claims]
    times = [(each.name, TRIALS[each.name], f"{each.seconds:.0f}") for each in tried]
    whole = sum(each.seconds for each in tried)
    return "\n\n".join(
        [
            "# Torture",
            environment_markdown(where),
            f"Scale {scale:g}, seed {seed}.",
            "## Claims",
            markdown_table(("claim", "figure", "result"), rows),
            "## Trials",
            markdown_table(("trial", "what", "seconds"), [*times, ("all", "", f"{whole:.0f}")]),
        ]
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "trials", nargs="*", metavar="TRIAL", help=f"default: all of {', '.join(TRIALS)}"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases; default 1.0")
    parser.add_argument("--seed", type=int, default=0, help="decides the cases; default 0")
    add_output_option(parser)
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.trials if name not in TRIALS]:
        parser.error(f"{unknown[0]!r} is no trial; choose from {', '.join(TRIALS)}")
    if not 0 < given.scale <= 1:
        parser.error(f"--scale must be above 0 and at most 1, got {given.scale}")
    given.trials = [name for name in TRIALS if name in given.trials or not given.trials]
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the trials and report them.

    Returns:
        0; 1 if a claim failed or could not be checked; 130 if interrupted.
    """
    given = _arguments(arguments)
    where = environment(arguments)
    tried = []
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        for name in given.trials:
            tell(f"{name}: {TRIALS[name]}")
            try:
                tried.append(attempt(name, Path(scratch) / name, given.scale, given.seed))
            except KeyboardInterrupt:
                tell(f"interrupted in {name}; nothing is written")
                return INTERRUPTED
    contents = {
        "environment": where,
        "scale": given.scale,
        "seed": given.seed,
        "seconds": sum(each.seconds for each in tried),
        "trials": [asdict(each) for each in tried],
    }
    text = report(tried, given.scale, given.seed, where)
    for file in write_results(given.out, "torture", contents, text):
        tell(f"Written: {file}")
    passed = all(claim.passed for each in tried for claim in each.claims)
    return 0 if passed else SOME_CLAIM_FAILED


if __name__ == "__main__":
    # Processes and mounts of a trial are to be tidied up by it, however it is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
