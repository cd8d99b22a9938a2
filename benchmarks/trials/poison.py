"""NaN and infinity put into a run at random steps: it stops before the weights take any harm."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from records import Claim
from torch import Tensor

from ternvae.analysis import analyze
from ternvae.checkpoint import load_checkpoint
from ternvae.trainer import steps as steps_module
from ternvae.training.by_hand import accumulate
from ternvae.training.objective import TERMS, loss_terms
from ternvae.training.optimisation import Optimisation
from trials.runs import (
    SMALL,
    Ended,
    counted,
    in_process,
    last_of,
    train_command,
    unreadable,
    weights_differ,
)

__all__ = ["KINDS", "Poison", "aftermath_fault", "poison", "stop_fault", "train_poisoned"]

KINDS = ("loss term", "gradient", "learned parameter", "frozen parameter", "optimizer moment")

#: Trials at scale 1, a fifth for each kind.
TRIALS = 20

#: Encoder A is frozen from the fifth epoch on.
SETTINGS = {**SMALL, "training.epochs": "16", "curriculum.hierarchy_ramp_epochs": "4"}
SETTINGS["targets.coverage"] = "0"
STEPS, EPOCHS = 4, 16
FROZEN_FROM = 4 * STEPS + 1


@dataclass
class Poison:
    """A number that is none, in one place of one step.

    Attributes:
        kind: where, one of :data:`KINDS`.
        value: NaN or an infinity.
        at: the step of the run, from 1.
        draw: decides the place.
        name: the term, or the parameter, once it is known.
        before: weights and moments after the poison came and before the step.
        after: the same at the end of the run.
        seen: steps begun.
    """

    kind: str
    value: float
    at: int
    draw: random.Random
    name: str = ""
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    seen: int = 0

    def __str__(self) -> str:
        return f"{self.value} in {self.kind} {self.name} at step {self.at}"

    @property
    def place(self) -> str:
        """How a message names the step."""
        return place(self.at)

    def step(self, own: Optimisation, *arguments: Any) -> Tensor:
        """In place of :meth:`Optimisation.step`."""
        self.seen += 1
        hooks = self._inject(own) if self.seen == self.at else []
        if self.seen == self.at:
            self.before = _copied(own)
        try:
            return _STEP(own, *arguments)
        finally:
            self.after = own.tensors()
            for hook in hooks:
                hook.remove()

    def terms(self, *arguments: Any, **keywords: Any) -> dict[str, Tensor]:
        """In place of :func:`loss_terms`."""
        found = _LOSS_TERMS(*arguments, **keywords)
        if self.kind == "loss term" and self.seen == self.at:
            self.name = self.draw.choice(TERMS)
            found[self.name] = found[self.name] * 0 + self.value
        return found

    def by_hand(self, *arguments: Any, **keywords: Any) -> list[float] | None:
        """In place of :func:`accumulate`."""
        found = _ACCUMULATE(*arguments, **keywords)
        if found is not None and self.kind == "loss term" and self.seen == self.at:
            self.name = self.draw.choice(TERMS)
            found[TERMS.index(self.name)] = self.value
        return found

    def _inject(self, own: Optimisation) -> list[Any]:
        if self.kind == "loss term":
            return []
        frozen = self.kind == "frozen parameter"
        able = [name for name, p in own.parameters.items() if p.requires_grad != frozen]
        self.name = self.draw.choice(able)
        parameter = own.parameters[self.name]
        spot = self.draw.randrange(parameter.numel())
        if self.kind == "gradient":
            hook = parameter.register_hook(  # type: ignore[no-untyped-call]  # torch's own
                lambda gradient: _with(gradient, spot, self.value)
            )
            return [hook]
        tensor = parameter.data
        if self.kind == "optimizer moment":
            moment = self.draw.choice(("exp_avg", "exp_avg_sq"))
            tensor = own.optimizer.state[parameter][moment]
        tensor.reshape(-1)[spot] = self.value
        if not _same(tensor.reshape(-1)[spot].item(), self.value):
            raise RuntimeError(f"{self.name} was not poisoned")
        return []


def place(step: int) -> str:
    """How a message names a step of the run."""
    return f"Epoch {(step - 1) // STEPS + 1}, step {(step - 1) % STEPS + 1} of {STEPS}:"


_STEP, _LOSS_TERMS, _ACCUMULATE = Optimisation.step, loss_terms, accumulate


def _with(gradient: Tensor, spot: int, value: float) -> Tensor:
    changed = gradient.clone()
    changed.reshape(-1)[spot] = value
    return changed


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _copied(own: Optimisation) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in own.tensors().items()}


@contextmanager
def poisoned(given: Poison) -> Iterator[None]:
    """A block in which runs are poisoned."""

    def step(own: Optimisation, *arguments: Any) -> Tensor:
        return given.step(own, *arguments)

    with (
        mock.patch.object(Optimisation, "step", step),
        mock.patch.object(steps_module, "loss_terms", given.terms),
        mock.patch.object(steps_module, "accumulate", given.by_hand),
    ):
        yield


def train_poisoned(given: Poison, run: Path) -> Ended:
    """A new run with poison in it."""
    with poisoned(given):
        return in_process(train_command(SETTINGS, run, None))


# --- what has to be true afterwards ---------------------------------------------------------


def stop_fault(given: Poison, run: Path, done: Ended) -> str | None:
    """Why a run was not stopped as it should be; None if it was.

    A poisoned moment harms the weights in the same step, and is seen in the next one, or when they
    are to be measured or saved before that.
    """
    if given.seen < given.at:
        return f"stopped before the poison: {done.err!r}"
    if fault := done.refusal_fault(3):
        return fault
    summary = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    if summary["stop_reason"] != "non_finite_loss":
        return f"stop_reason {summary['stop_reason']}"
    late = given.kind == "optimizer moment"
    changed = [name for name, each in given.before.items() if not _equal(each, given.after[name])]
    if changed and not late:
        return f"the step changed {', '.join(changed[:3])}"
    if given.name not in done.err:
        return f"{given.name} is not named: {done.err!r}"
    # The second moment divides: infinite, it does no harm, and only saving finds it.
    epochs = tuple(place(step).partition(",")[0] for step in (given.at, given.at + 1))
    told = late and (done.err.startswith(epochs) or "not saved" in done.err)
    return None if told or done.err.startswith(given.place) else f"not {given.place} {done.err!r}"


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0)))


def aftermath_fault(run: Path, done: Ended) -> str | None:
    """Why what the run left is not sound; None if it is."""
    fault = unreadable(run)
    for path in sorted((run / "checkpoints").glob("*.pt")):
        fault = fault or _non_finite(load_checkpoint(path), path.name)
    if fault:
        return fault
    named = done.err.strip().partition("ternvae train --checkpoint ")[2]
    if not named:
        return f"no checkpoint is named: {done.err!r}"
    return _figures_fault(run, Path(named)) or _best_fault(run)


def _non_finite(value: Any, where: str) -> str | None:
    """The first tensor that holds NaN or an infinity."""
    if isinstance(value, Tensor):
        finite = not value.is_floating_point() or bool(value.isfinite().all())
        return None if finite else f"{where} is not finite"
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    inner = value.items() if isinstance(value, dict) else ()
    found = (_non_finite(each, f"{where}.{key}") for key, each in inner)
    return next((each for each in found if each), None)


def _figures_fault(run: Path, checkpoint: Path) -> str | None:
    """Whether the figures in a checkpoint are those that the history has for their epoch."""
    contents = load_checkpoint(checkpoint)
    epoch, metrics = contents["metrics_epoch"], contents["comprehensive_metrics"]
    if epoch is None:
        return "there are figures of no epoch" if metrics else None
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    line = next((each for each in lines if each["epoch"] == epoch and "losses" in each), None)
    if line is None:
        return f"{checkpoint.name} has figures of epoch {epoch}, of which there is no line"
    stored = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    other = [name for name, value in stored.items() if line[name] != value]
    return f"{checkpoint.name} and epoch {epoch} differ in {', '.join(other)}" if other else None


def _best_fault(run: Path) -> str | None:
    """Whether the best model measures what its file says."""
    best = run / "checkpoints" / "best_Q.pt"
    if not best.is_file():
        return None
    found = analyze(best, "cpu").differences
    if found is None:
        return "best_Q.pt holds figures of another model"
    return f"best_Q.pt measures other figures than stored: {found[0]}" if found else None


def trials(number: int, draw: random.Random) -> list[Poison]:
    """So many poisons, all kinds in turn."""
    found = []
    for index in range(number):
        kind = KINDS[index % len(KINDS)]
        first = FROZEN_FROM if kind == "frozen parameter" else 2
        value = (
            math.nan
            if index % (2 * len(KINDS)) < len(KINDS)
            else draw.choice([math.inf, -math.inf])
        )
        at = draw.randint(first, EPOCHS * STEPS - 1)
        if kind == "optimizer moment" and index < number // 2:
            # What it spoils is measured and saved at once: every second epoch is evaluated.
            at = 2 * STEPS * draw.randint(1, EPOCHS // 2)
        found.append(Poison(kind, value, at, random.Random(draw.random())))
    return found


def poison(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Poison runs, and judge how they stop and what they leave.

    Args:
        scratch: an empty folder.
        scale: 1 for 20 runs.
        seed: decides what is poisoned, with what and when.
        tell: gets lines about faults.

    Returns:
        Claims on how they stop, on what is on the disk, and on going on from there.
    """
    draw = random.Random(seed)
    reference = scratch / "reference"
    made = in_process(train_command(SETTINGS, reference, None))
    if made.status != 0:
        raise RuntimeError(f"the run that is left alone ended with {made.status}: {made.err}")
    stops: list[str | None] = []
    aftermaths: list[str | None] = []
    resumptions: list[str | None] = []
    sayings: dict[str, int] = {}
    for given in trials(max(len(KINDS), round(TRIALS * scale)), draw):
        run = scratch / "poisoned"
        done = train_poisoned(given, run)
        stops.append(_told(given, stop_fault(given, run, done)))
        aftermaths.append(_told(given, aftermath_fault(run, done)))
        again = in_process(train_command(SETTINGS, run, last_of(run)))
        fault = again.err[-300:] if again.status else weights_differ(reference, run)
        resumptions.append(_told(given, fault))
        if given.kind == "optimizer moment":
            when = "one step later" if ", step " in done.err else "at the end of an epoch"
            sayings[when] = sayings.get(when, 0) + 1
        shutil.rmtree(run)
    note = ", ".join(f"{count} {when}" for when, count in sayings.items())
    return [
        counted(
            "poison: stop_reason non_finite_loss, exit status 3, epoch, step and place named, "
            "weights and moments as before the step",
            stops,
            tell,
            f"poisoned moments show {note}",
        ),
        counted(
            "poison: nothing on the disk is NaN or infinite; the checkpoint that is named has the "
            "figures of its line, the best model those of its file",
            aftermaths,
            tell,
        ),
        counted("poison: resumed without the poison, the run ends the same", resumptions, tell),
    ]


def _told(given: Poison, fault: str | None) -> str | None:
    return fault and f"{given}: {fault}"
