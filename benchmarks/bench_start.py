"""How long one waits before anything happens: the help, Tab, imports, a trained model."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from bounds import Bound, as_records, bounds_markdown, exit_status
from environment import (
    add_output_option,
    environment,
    environment_markdown,
    markdown_table,
    write_results,
)

__all__ = ["CASES", "YARDSTICK", "main", "measure", "table"]

#: What the times are compared with: nothing that computes with torch can start faster.
YARDSTICK = "import torch"

POINTS = """\
from ternvae import pretrained
pretrained.load("mathematical_foundation").embed([1, 3, 9, 27, 0])
"""

#: Arguments of Python, by name, and variables of the environment.
CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    "Python itself": (["-c", "pass"], {}),
    "ternvae --help": (["-m", "ternvae", "--help"], {}),
    "ternvae train --help-keys": (["-m", "ternvae", "train", "--help-keys"], {}),
    "Tab after ternvae train --profile": (
        ["-m", "ternvae"],
        {
            "_TERNVAE_COMPLETE": "bash_complete",
            "COMP_WORDS": "ternvae train --profile ",
            "COMP_CWORD": "3",
        },
    ),
    YARDSTICK: (["-c", "import torch"], {}),
    "import ternvae.padic": (["-c", "import ternvae.padic"], {}),
    "import ternvae.models": (["-c", "import ternvae.models"], {}),
    "a trained model, loaded, to five points": (["-c", POINTS], {}),
}

#: Seconds in which a program seems to answer at once.
AT_ONCE = 0.3
WITHOUT_TORCH = ("ternvae --help", "Tab after ternvae train --profile")
#: Times of the yardstick.
BARS = {"import ternvae.padic": 1.1, "a trained model, loaded, to five points": 2.5}


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of a process of its own, in turns, for every case; one more before does not count."""
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, (arguments, variables) in CASES.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                env={**os.environ, **variables},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            if number:
                found[name].append(time.perf_counter() - start)
    return found


def _ratio(found: dict[str, list[float]], name: str) -> float:
    """To the yardstick of the same round; the median over the rounds."""
    return median(a / b for a, b in zip(found[name], found[YARDSTICK], strict=True))


def claims(found: dict[str, list[float]]) -> list[Bound]:
    """What is promised."""
    at_once = [
        Bound(f"{name}: seconds", f"median of {len(found[name])}", median(found[name]), AT_ONCE)
        for name in WITHOUT_TORCH
    ]
    ratios = [
        Bound(
            f"{name}: times {YARDSTICK}",
            f"{median(found[name]):.2f} s against {median(found[YARDSTICK]):.2f} s",
            _ratio(found, name),
            bar,
        )
        for name, bar in BARS.items()
    ]
    return at_once + ratios


def table(found: dict[str, list[float]]) -> str:
    """All cases."""
    rows = [
        (
            name,
            f"{median(seconds):.3f}",
            f"{min(seconds):.3f}, {max(seconds):.3f}",
            f"{_ratio(found, name):.3f}",
        )
        for name, seconds in found.items()
    ]
    return markdown_table(
        ("started", "s, median", "least, largest", f"ratio to {YARDSTICK}, median"), rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="of all cases; default 15")
    add_output_option(parser)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {given.rounds}")
    where = environment(arguments)
    found = measure(given.rounds)
    bounds = claims(found)
    text = "\n\n".join(
        [
            "# How soon it starts",
            environment_markdown(where),
            f"Each in a process of its own, in turns, {given.rounds} rounds; files are in memory.",
            f"## Claims\n\n{bounds_markdown(bounds)}",
            f"## Seconds from the start of the process to its end\n\n{table(found)}",
        ]
    )
    contents: dict[str, Any] = {
        "environment": where,
        "seconds": found,
        "claims": as_records(bounds),
    }
    print(text)
    write_results(given.out, "bench_start", contents, text)
    return exit_status(bounds)


if __name__ == "__main__":
    sys.exit(main())
