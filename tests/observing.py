"""Small training runs looked at from outside: everything that can be seen of one, by name.

What depends on the clock or on the place of the run is left out, so two runs of one profile have
equal observations; and so is the profile itself, which a run only repeats.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ternvae.checkpoint import load_checkpoint
from ternvae.config import ProfileError, profile_from_dict
from ternvae.metrics import Evaluator
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer

#: 27 sequences, 3 steps in each of 2 epochs, a constant rate, and nothing but the encoders at work.
SMALL: dict[str, Any] = {
    "name": "small",
    "space.n_digits": 3,
    "model.latent_dim": 3,
    "model.hidden_dim": 8,
    "training.epochs": 2,
    "training.batch_size": 9,
    "scheduler.type": "constant",
    "scheduler.warmup_epochs": 0.0,
    "homeostasis.enabled": False,
    "monitoring.log_every_n_steps": 1,
    "monitoring.detailed_metrics_every_n_epochs": 1,
    "monitoring.report": False,
}

#: Enough room for all sequences to be read back; at most 31 epochs for each of 8 seeds.
ROOMY: dict[str, Any] = {"model.latent_dim": 6, "model.hidden_dim": 32}

GEOMETRY = ("hierarchy", "richness", "separation")

Observation = dict[str, Any]


@dataclass(frozen=True)
class Effect:
    """What a key does, as a comparison of two runs that differ in nothing else.

    Attributes:
        value: the key's value in the changed run; a function makes it from the laboratory.
        where: names of observations that must differ.
        base: settings of both runs, over those of ``SMALL``.
        unchanged: names of observations that must not differ.
        figures: measured figures that are replaced in both runs, by metric: one for each
            evaluation of a branch, the last one repeated.  For decisions that would otherwise
            depend on luck.
        unwritable: whether the numbered checkpoints of both runs cannot be written.
        shown: must hold between the observations before and after, beyond their difference.
    """

    value: Any
    where: tuple[str, ...]
    base: Mapping[str, Any] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    figures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    unwritable: bool = False
    shown: Callable[[Observation, Observation], bool] | None = None


class ForcedFigures:
    """An evaluator whose figures are replaced by given ones; the rest is the real one's."""

    def __init__(self, evaluator: Evaluator, figures: Mapping[str, Sequence[float]]) -> None:
        self._evaluator = evaluator
        self._figures = figures
        self._calls = {"A": 0, "B": 0}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def branch_a(self, model: TernaryVAE) -> dict[str, float]:
        return self._forced("A", self._evaluator.branch_a(model))

    def branch_b(self, model: TernaryVAE) -> dict[str, float]:
        return self._forced("B", self._evaluator.branch_b(model))

    def _forced(self, branch: str, measured: dict[str, float]) -> dict[str, float]:
        call = self._calls[branch]
        self._calls[branch] += 1
        return {
            name: self._figures[name][min(call, len(self._figures[name]) - 1)]
            if name in self._figures
            else value
            for name, value in measured.items()
        }


class Said(logging.Handler):
    """What a terminal would show of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    @contextmanager
    def listening(self) -> Iterator[None]:
        log = logging.getLogger("ternvae")
        level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.setLevel(level)


class Laboratory:
    """Makes runs, each in a folder of its own, and remembers the base runs.

    Args:
        folder: for the runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._known: dict[str, Observation] = {}

    @cached_property
    def covering(self) -> Path:
        """A checkpoint of a model, ``ROOMY``, that reads back every sequence."""
        path = self._folder / "covering"
        settings = {
            **ROOMY,
            "training.epochs": 60,
            "training.lr": 0.02,
            "scheduler.type": "mathematical_cosine",
            "scheduler.T_0": 60.0,
            **dict.fromkeys((f"loss_weights.{t}" for t in GEOMETRY), 0.0),
            "monitoring.detailed_metrics_every_n_epochs": 60,
            "monitoring.log_every_n_steps": 0,
        }
        result = Trainer(profile_from_dict(SMALL | settings), path, "cpu").fit()
        assert result.checkpoint is not None
        assert result.metrics["coverage"] == 1
        return result.checkpoint

    def run(
        self,
        settings: Mapping[str, Any],
        figures: Mapping[str, Sequence[float]],
        unwritable: bool = False,
    ) -> Observation:
        """All that can be seen of a new run."""
        self._made += 1
        path = self._folder / f"run_{self._made}"
        profile = profile_from_dict({**SMALL, **self._resolved(settings)})
        said = Said()
        with said.listening():
            trainer = Trainer(profile, path, "cpu")
            if figures:
                trainer.examination.evaluator = ForcedFigures(  # type: ignore[assignment]
                    trainer.examination.evaluator, figures
                )
            if unwritable:
                trainer.directory.numbered = (  # type: ignore[method-assign]
                    lambda epoch: path / "gone" / f"{epoch}.pt"
                )
            trainer.fit()
        return {**observed(path), "said": _lasting(said.lines, path)}

    def base_run(self, effect: Effect) -> Observation:
        """The base run of an effect: made twice the first time, to see that nothing is by chance.

        Raises:
            AssertionError: the two differ.
        """
        given = (effect.base, effect.figures, effect.unwritable)
        known = repr(
            (sorted(effect.base.items(), key=str), sorted(effect.figures.items()), given[2])
        )
        if known not in self._known:
            once, again = (self.run(*given) for _ in range(2))
            assert once == again, f"not reproducible: {differences(once, again)}"
            self._known[known] = once
        return self._known[known]

    def _resolved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value(self) if callable(value) else value for key, value in settings.items()}


def complaints(key: str, effect: Effect, laboratory: Laboratory) -> list[str]:
    """What speaks against the effect of a key; nothing if it shows as promised."""
    before = laboratory.base_run(effect)
    try:
        changed = {**effect.base, key: effect.value}
        after = laboratory.run(changed, effect.figures, effect.unwritable)
    except ProfileError as error:
        return [f"{key}: refused: {error}"]
    missing = [n for n in (*effect.where, *effect.unchanged) if n not in {**before, **after}]
    found = [f"{key}: there is no observation {name!r}" for name in missing]
    found += [
        f"{key}: no effect on {name}"
        for name in effect.where
        if name not in missing and before.get(name) == after.get(name)
    ]
    found += [
        f"{key}: {name} changes, from {before.get(name)} to {after.get(name)}"
        for name in effect.unchanged
        if before.get(name) != after.get(name)
    ]
    if not found and effect.shown is not None and not effect.shown(before, after):
        found.append(f"{key}: not the effect that it should have")
    return found


def differences(one: Observation, other: Observation) -> list[str]:
    """Names of the observations that differ."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


# --- what can be seen ---------------------------------------------------------------------------


def observed(run: Path) -> Observation:
    """Every observation of a finished run; values that compare with ``==``."""
    last = load_checkpoint(run / "checkpoints" / "last.pt")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((run / "metrics.json").read_text())
    del summary["seconds"]
    log = _lasting((run / "train.log").read_text().splitlines(), run)
    return {
        **_of_the_weights(last["model_state_dict"]),
        **{f"rates.{g['name']}": g["lr"] for g in last["optimizer_state_dict"]["param_groups"]},
        "point_dtype": TernaryVAE.from_checkpoint(run / "checkpoints" / "last.pt").embed([0]).dtype,
        **{f"summary.{name}": value for name, value in _flat(summary).items()},
        **_of_the_history(lines),
        "events": [(e["epoch"], e["kind"]) for line in lines for e in line["events"]],
        "event_texts": [e["text"] for line in lines for e in line["events"]],
        **_of_the_warnings(lines),
        "log": log,
        **_of_the_steps([line for line in log if line.startswith("Step ")]),
        "files": sorted({_name(path, run) for path in run.rglob("*") if path.is_file()}),
    }


def _of_the_weights(state: Mapping[str, torch.Tensor]) -> Observation:
    parts = {
        "": "",
        ".encoder_a": "encoders.A.",
        ".encoder_b_hidden": "encoders.B.features.",
        ".decoder": "decoder.",
        ".prototypes": "prototypes",
    }
    return {
        **{f"weights{part}": _digest(state, prefix) for part, prefix in parts.items()},
        "shapes": {name: tuple(value.shape) for name, value in state.items()},
    }


def _digest(state: Mapping[str, torch.Tensor], prefix: str) -> str:
    digest = hashlib.sha256()
    for name, value in state.items():
        if name.startswith(prefix):
            digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _of_the_history(lines: Sequence[Mapping[str, Any]]) -> Observation:
    flat = [
        _flat({k: v for k, v in line.items() if k not in ("events", "warnings")}) for line in lines
    ]
    names = dict.fromkeys(name for line in flat for name in line)
    return {f"history.{name}": [line.get(name) for line in flat] for name in names}


def _of_the_warnings(lines: Sequence[Mapping[str, Any]]) -> Observation:
    """For each sign that was seen, the epochs."""
    epochs: dict[str, list[int]] = {}
    for sign in (sign for line in lines for sign in line["warnings"]):
        epochs.setdefault(f"warnings.{sign['name']}", []).append(sign["epoch"])
    return dict(epochs)


def _of_the_steps(lines: Sequence[str]) -> Observation:
    """How many steps there were, and the figures of the first, taken before any learning."""
    first = lines[0].split(" | ")[1:] if lines else []
    figures = {name: float(value) for name, value in (part.split() for part in first)}
    return {"steps": len(lines), **{f"first_step.{k}": v for k, v in figures.items()}}


def _lasting(lines: Sequence[str], run: Path) -> list[str]:
    """Lines of a log without the place of the run and without times."""
    return [re.sub(r"\d+\.\d s\b", "TIME", line.replace(str(run), "RUN")) for line in lines]


def _name(path: Path, run: Path) -> str:
    name = str(path.relative_to(run))
    return re.sub(r"tfevents\..*", "tfevents", name)


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in _flat(value).items()}
        else:
            flat[name] = value
    return flat
