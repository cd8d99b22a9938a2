"""Runs and epochs of both loops, with the clock beside them."""

from __future__ import annotations

import logging
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from textbook import TextbookTraining

from ternvae.config import Profile, profile_keys, resolve_profile
from ternvae.metrics import CollapsedLevelsWarning, Evaluator
from ternvae.trainer import Trainer
from ternvae.training.verdict import targets_met

__all__ = [
    "EXECUTION",
    "ManualTraining",
    "TextbookRun",
    "compare_executions",
    "now",
    "parameters_of",
    "run_trainer",
    "shown_metrics",
    "watching",
    "with_execution",
]

#: The key that decides how a step is executed.
EXECUTION = "training.execution"

#: Metrics that no time is shown without.
SHOWN = ("coverage", "hierarchy_B", "richness", "Q_enhanced")

#: Epochs between two evaluations of the textbook loop.
EVALUATE_EVERY = 5


def now(device: torch.device) -> float:
    """The clock, read once the device has done all that it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def parameters_of(module: torch.nn.Module) -> int:
    """Those that train: geoopt keeps its fixed curvature as a parameter too."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def shown_metrics(metrics: dict[str, float]) -> dict[str, float | None]:
    """The metrics of the reports; None for one that is undefined, which JSON cannot hold."""
    values = {name: metrics.get(name, math.nan) for name in SHOWN}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


class ManualTraining:
    """A Trainer whose epochs are called one by one, without measuring or saving anything.

    Args:
        profile: the resolved profile.
        device: where.
        frozen: train as after the freeze of encoder A.

    Attributes:
        trainer: the Trainer.
        seconds: of each epoch that was timed.
    """

    def __init__(self, profile: Profile, device: torch.device, *, frozen: bool) -> None:
        # Steps that are logged would want the folder of the run, which is never made.
        quiet = resolve_profile(base=profile, overrides={"monitoring.log_every_n_steps": 0})
        folder = Path(tempfile.gettempdir()) / "ternvae-benchmark-never-made"
        self.trainer = Trainer(quiet, folder, str(device))
        self.frozen = frozen
        self.seconds: list[float] = []
        self._epoch = 0

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last one may be of a smaller batch."""
        return len(self.trainer.steps)

    def epoch(self, between_steps: Callable[[], None] = lambda: None) -> None:
        """One epoch.

        Args:
            between_steps: called between two steps.
        """
        self._epoch += 1
        self.trainer.model.train()
        self.trainer.optimisation.freeze(encoder_a=self.frozen, encoder_b=False)

        def stop() -> bool:
            between_steps()
            return False

        self.trainer.steps.run(self._epoch, stop)

    def time(self) -> float:
        """One epoch; returns its seconds."""
        started = now(self.trainer.device)
        self.epoch()
        self.seconds.append(now(self.trainer.device) - started)
        return self.seconds[-1]


class TextbookRun:
    """A run of the textbook loop, made a few epochs at a time.

    Args:
        profile: the resolved profile.
        device: where.

    Attributes:
        training: the loop.
        seconds: of each epoch but the first, which warms up.
        evaluations: epoch, seconds of training until then, and metrics.
        to_targets: the first of the evaluations that met all targets; None until then.
    """

    def __init__(self, profile: Profile, device: torch.device) -> None:
        self.training = TextbookTraining(profile, device)
        self.seconds: list[float] = []
        self.warm_up: float | None = None
        self.evaluations: list[dict[str, Any]] = []
        self.to_targets: dict[str, Any] | None = None
        self._evaluator = Evaluator(self.training.model.space)
        self._targets: dict[str, float] = profile.targets.model_dump()

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.seconds) + (self.warm_up is not None)

    def run(self, epochs: int) -> None:
        """Make and time so many epochs; evaluations between them are not counted."""
        device = self.training.device
        for _ in range(epochs):
            started = now(device)
            self.training.epoch()
            seconds = now(device) - started
            if self.warm_up is None:
                self.warm_up = seconds
            else:
                self.seconds.append(seconds)
            if self.epochs % EVALUATE_EVERY == 0:
                self.evaluate()

    def evaluate(self) -> None:
        """Measure the model, unless that is done, and note whether all targets are met."""
        if self.evaluations and self.evaluations[-1]["epoch"] == self.epochs:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapsedLevelsWarning)
            metrics = self._evaluator(self.training.model)
        found = {
            "epoch": self.epochs,
            "seconds": (self.warm_up or 0.0) + sum(self.seconds),
            "metrics": shown_metrics(metrics),
        }
        self.evaluations.append(found)
        n_digits = self.training.model.space.n_digits
        met = targets_met(metrics, self._targets, n_digits=n_digits)
        if all(met.values()) and self.to_targets is None:
            self.to_targets = found

    def summary(self) -> dict[str, Any]:
        """What came of it, as plain values."""
        return {
            "seconds_per_epoch": statistics.median(self.seconds),
            "epoch_seconds": self.seconds,
            "warm_up_seconds": self.warm_up,
            "epochs": self.epochs,
            "steps": len(self.training.loader),
            "parameters": parameters_of(self.training.vae),
            "evaluations": self.evaluations,
            "to_targets": self.to_targets,
        }


class Watcher(logging.Handler):
    """Looks at a Trainer's progress whenever it logs a line; the line itself does not matter.

    Args:
        trainer: whom to watch.
        stop_at_targets: stop it once all targets are met.
    """

    def __init__(self, trainer: Trainer, *, stop_at_targets: bool) -> None:
        super().__init__(logging.INFO)
        self.trainer = trainer
        self.stop_at_targets = stop_at_targets
        #: Epoch, and seconds of training, when encoder A was frozen.
        self.at_freeze: tuple[int, float] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Look at the progress."""
        progress = self.trainer.progress
        if self.trainer.encoder_a_frozen and self.at_freeze is None:
            self.at_freeze = progress.epoch, progress.seconds["train"] or 0.0
        if self.stop_at_targets and progress.epochs_to["targets"] is not None:
            self.trainer.request_stop()


@contextmanager
def watching(trainer: Trainer, *, stop_at_targets: bool) -> Iterator[Watcher]:
    """A block in which a Trainer is watched."""
    log = logging.getLogger("ternvae")
    level = log.level
    watcher = Watcher(trainer, stop_at_targets=stop_at_targets)
    log.addHandler(watcher)
    log.setLevel(logging.INFO)
    try:
        yield watcher
    finally:
        log.removeHandler(watcher)
        log.setLevel(level)


def run_trainer(profile: Profile, device: torch.device, *, stop_at_targets: bool) -> dict[str, Any]:
    """Run the Trainer in a folder that is then removed.

    Args:
        profile: the resolved profile.
        device: where.
        stop_at_targets: stop once all targets are met.

    Returns:
        Seed and epochs; ``seconds`` of training, of evaluation, in all since the first step, and to
        all targets (None if never met); ``fit_seconds``, which saving belongs to; seconds per epoch
        before and after the freeze (None without such epochs); and of the best model its metrics
        and whether it is ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        # The other loop ends with its figures, too, and writes no page about them.
        plain = resolve_profile(base=profile, overrides={"monitoring.report": False})
        trainer = Trainer(plain, Path(folder) / "run", str(device))
        with watching(trainer, stop_at_targets=stop_at_targets) as watcher:
            started = now(device)
            result = trainer.fit()
            fit_seconds = now(device) - started
    done = trainer.progress
    epochs, train_seconds = done.epoch, done.seconds["train"] or 0.0
    frozen_at, until_freeze = watcher.at_freeze or (epochs, train_seconds)
    after = epochs - frozen_at
    return {
        "seed": profile.seed,
        "epochs": epochs,
        "epochs_to": done.epochs_to,
        "seconds": done.seconds,
        "fit_seconds": fit_seconds,
        "seconds_per_epoch_before_freeze": until_freeze / frozen_at if frozen_at else None,
        "seconds_per_epoch_after_freeze": (train_seconds - until_freeze) / after if after else None,
        "freeze_epoch": frozen_at if watcher.at_freeze else None,
        "stop_reason": result.stop_reason,
        "metrics": shown_metrics(result.metrics),
        "ready": bool(result.validation.get("mathematical_foundation_ready", False)),
    }


def with_execution(profile: Profile, how: str) -> Profile | None:
    """The profile with its steps executed in that way; None if profiles do not say how."""
    if EXECUTION not in profile_keys():
        return None
    return resolve_profile(base=profile, overrides={EXECUTION: how})


def compare_executions(profile: Profile, device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds of a step called one operation at a time, and as one graph, in turns.

    Returns:
        ``skipped`` with the reason, where there is nothing to compare; or the median seconds of a
        step of each, and how many times as fast the graph is.
    """
    if device.type != "cuda":
        return {"skipped": "no CUDA device"}
    found: dict[str, ManualTraining] = {}
    for how in ("eager", "cuda_graph"):
        if (chosen := with_execution(profile, how)) is None:
            return {"skipped": f"profiles have no key {EXECUTION}"}
        found[how] = ManualTraining(chosen, device, frozen=False)
    for each in found.values():
        each.epoch()
    for _ in range(rounds):
        for each in found.values():
            each.time()
    step = {how: statistics.median(each.seconds) / each.steps for how, each in found.items()}
    return {"step_seconds": step, "ratio": step["eager"] / step["cuda_graph"]}
