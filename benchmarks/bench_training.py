"""Time the Trainer against the textbook loop, interleaved in one process.

The claim that is checked: from the first step to the evaluation that finds all targets of the
foundation profile met, evaluations included, the Trainer takes no longer than the textbook loop
takes for 25 passes over the same data, evaluations not included.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from environment import (
    add_shared_options,
    environment,
    environment_markdown,
    integers,
    markdown_table,
    pairs,
    write_results,
)
from textbook import TextbookTraining

from ternvae.config import Profile, resolve_profile
from ternvae.metrics import evaluate
from ternvae.trainer import Trainer

__all__ = ["main"]

#: The yardstick: this many passes of the textbook loop.
YARDSTICK_EPOCHS = 25

#: The Trainer's seconds to all targets, as a share of the yardstick, must not be above this.
LARGEST_RATIO = 1.0


class RunWatcher(logging.Handler):
    """Stops a Trainer once all targets are met, and notes the seconds spent before the freeze.

    Looks at the Trainer's progress whenever it logs a line; the line itself does not matter.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(logging.INFO)
        self.trainer = trainer
        self.at_freeze: tuple[int, float] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Look at the progress."""
        progress = self.trainer.progress
        if self.trainer.encoder_a_frozen and self.at_freeze is None:
            self.at_freeze = progress.epoch, progress.seconds["train"] or 0.0
        if progress.epochs_to["targets"] is not None:
            self.trainer.request_stop()


def time_trainer(profile: Profile) -> dict[str, Any]:
    """Run the Trainer until all targets are met, on the CPU in a folder that is then removed.

    Returns:
        Seed, epochs made, epochs and seconds to all targets (None if never met), seconds per epoch
        before and after the freeze (None without such epochs), wall seconds with set-up and saving,
        the best model's coverage, hierarchy_B, richness and Q_enhanced, and the number of
        parameters.
    """
    log = logging.getLogger("ternvae")
    level = log.level
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(profile, Path(folder) / "run", "cpu")
        parameters = _parameters(trainer.model)  # before the freeze
        watcher = RunWatcher(trainer)
        log.addHandler(watcher)
        log.setLevel(logging.INFO)
        try:
            result = trainer.fit()
        finally:
            log.removeHandler(watcher)
            log.setLevel(level)
    wall = time.perf_counter() - started
    progress = trainer.progress
    epochs, train_seconds = progress.epoch, progress.seconds["train"] or 0.0
    frozen_at, until_freeze = watcher.at_freeze or (epochs, train_seconds)
    after = epochs - frozen_at
    return {
        "seed": profile.seed,
        "epochs": epochs,
        "epochs_to_targets": progress.epochs_to["targets"],
        "seconds_to_targets": progress.seconds["to_targets"],
        "seconds_per_epoch_before_freeze": until_freeze / frozen_at,
        "seconds_per_epoch_after_freeze": (train_seconds - until_freeze) / after if after else None,
        "freeze_epoch": frozen_at if watcher.at_freeze else None,
        "wall_seconds": wall,
        "parameters": parameters,
        "metrics": _shown_metrics(result.metrics),
    }


def _parameters(module: torch.nn.Module) -> int:
    """Those that train: geoopt keeps its fixed curvature as a parameter too."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _shown_metrics(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in ("coverage", "hierarchy_B", "richness", "Q_enhanced")}


def time_textbook(training: TextbookTraining, epochs: int) -> list[float]:
    """Seconds of each of the next epochs of the textbook loop."""
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        training.epoch()
        seconds.append(time.perf_counter() - started)
    return seconds


def compare(profiles: Sequence[Profile], threads: int) -> dict[str, Any]:
    """Time both, in turns: textbook epochs before, between and after the Trainer's runs.

    Args:
        profiles: the same profile with one seed each; the textbook loop takes the first.
        threads: torch's threads inside an operation, for both.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        textbook = TextbookTraining(profiles[0])
        warm_up = time_textbook(textbook, 1)
        turn = max(2, (YARDSTICK_EPOCHS - 1) // (len(profiles) + 1))
        epochs = time_textbook(textbook, turn)
        runs = []
        for profile in profiles:
            _progress(f"{threads} thread(s): Trainer, seed {profile.seed}")
            runs.append(time_trainer(profile))
            epochs += time_textbook(textbook, turn)
        metrics = _shown_metrics(evaluate(textbook.model, textbook.model.space))
    finally:
        torch.set_num_threads(before)
    per_epoch = statistics.median(epochs)
    to_targets = [run["seconds_to_targets"] for run in runs]
    median = None if None in to_targets else statistics.median(to_targets)
    ratio = None if median is None else median / (YARDSTICK_EPOCHS * per_epoch)
    return {
        "threads": threads,
        "textbook": {
            "seconds_per_epoch": per_epoch,
            "fastest_and_slowest_epoch": [min(epochs), max(epochs)],
            "warm_up_seconds": warm_up[0],
            "seconds_of_yardstick": YARDSTICK_EPOCHS * per_epoch,
            "epochs": 1 + len(epochs),
            "parameters": _parameters(textbook.vae),
            "metrics": metrics,
        },
        "trainer": runs,
        "median_seconds_to_targets": median,
        "ratio": ratio,
        "passed": ratio is not None and ratio <= LARGEST_RATIO,
    }


def peak_memory_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


# --- the report -----------------------------------------------------------------------------


def report(contents: dict[str, Any]) -> str:
    """The results as Markdown."""
    parts = ["# Training speed", environment_markdown(contents["environment"])]
    parts += [_comparison_markdown(comparison) for comparison in contents["comparisons"]]
    peak = contents["peak_memory_mib"]
    parts.append(
        "Peak resident memory of the process, both loops: "
        + ("unknown" if peak is None else f"{peak:.0f} MiB")
    )
    return "\n\n".join(parts)


def _comparison_markdown(comparison: dict[str, Any]) -> str:
    textbook, runs = comparison["textbook"], comparison["trainer"]
    fastest, slowest = textbook["fastest_and_slowest_epoch"]
    summary = [
        ("textbook, s per epoch (median)", _seconds(textbook["seconds_per_epoch"])),
        ("textbook, s per epoch (fastest, slowest)", f"{_seconds(fastest)}, {_seconds(slowest)}"),
        (f"textbook, s for {YARDSTICK_EPOCHS} epochs", _seconds(textbook["seconds_of_yardstick"])),
        *(
            (f"Trainer, s to all targets, seed {run['seed']}", _seconds(run["seconds_to_targets"]))
            for run in runs
        ),
        ("Trainer, s to all targets (median)", _seconds(comparison["median_seconds_to_targets"])),
        ("ratio, at most 1", _verdict(comparison)),
        ("parameters, textbook and Trainer", f"{textbook['parameters']}, {runs[0]['parameters']}"),
    ]
    quality = [
        ("textbook", str(textbook["epochs"]), "", "", "", "", *_metrics(textbook["metrics"])),
        *(
            (
                f"Trainer, seed {run['seed']}",
                _or_never(run["epochs_to_targets"]),
                _seconds(run["seconds_per_epoch_before_freeze"]),
                _seconds(run["seconds_per_epoch_after_freeze"]),
                _or_never(run["freeze_epoch"]),
                _seconds(run["wall_seconds"]),
                *_metrics(run["metrics"]),
            )
            for run in runs
        ),
    ]
    header = (
        "run",
        "epochs",
        "s/epoch before freeze",
        "s/epoch after",
        "freeze epoch",
        "s wall",
        "coverage",
        "hierarchy_B",
        "richness",
        "Q_enhanced",
    )
    threads = comparison["threads"]
    return "\n\n".join(
        [
            f"## {threads} thread{'s' if threads > 1 else ''}",
            markdown_table(("quantity", "value"), summary),
            markdown_table(header, quality),
        ]
    )


def _verdict(comparison: dict[str, Any]) -> str:
    ratio = comparison["ratio"]
    word = "PASS" if comparison["passed"] else "FAIL"
    return f"targets not met {word}" if ratio is None else f"{ratio:.3f} {word}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _or_never(value: int | None) -> str:
    return "never" if value is None else str(value)


def _metrics(metrics: dict[str, float]) -> tuple[str, ...]:
    return (
        f"{metrics['coverage']:.5f}",
        f"{metrics['hierarchy_B']:.5f}",
        f"{metrics['richness']:.5f}",
        f"{metrics['Q_enhanced']:.4f}",
    )


# --- the program ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if the ratio is at most 1 for the first thread count, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=integers, default="0-2", help="default 0-2")
    parser.add_argument(
        "--threads",
        type=integers,
        default="1,2",
        help="torch's threads, for both; the first of them decides the exit status; default 1,2",
    )
    add_shared_options(parser, "the foundation profile")
    given = parser.parse_args(arguments)
    if 0 in given.threads:
        parser.error("--threads must be at least 1, got 0")
    try:
        overrides = pairs(given.overrides)
        profiles = [resolve_profile(None, None, {**overrides, "seed": s}) for s in given.seeds]
    except ValueError as error:
        parser.error(str(error))
    where = environment(arguments)
    comparisons = [compare(profiles, threads) for threads in given.threads]
    contents = {
        "environment": where,
        "overrides": overrides,
        "comparisons": comparisons,
        "peak_memory_mib": peak_memory_mib(),
    }
    text = report(contents)
    print(text)
    for file in write_results(given.out, "bench_training", contents, text):
        _progress(f"Written: {file}")
    return 0 if comparisons[0]["passed"] else 1


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
