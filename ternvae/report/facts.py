"""What a report is made from: the files of a run, read with care, and its best model, measured.

A report is made of runs that have ended, that were interrupted or killed, and of older versions, so
every file may be missing, cut short or of another shape; what cannot be read is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from ternvae.analysis import Analysis, analyze
from ternvae.checkpoint import load_checkpoint
from ternvae.checkpoint.arguments import file_path
from ternvae.metrics import metric_names
from ternvae.training.device import choose_device, is_out_of_memory
from ternvae.training.run_directory import RunDirectory
from ternvae.training.verdict import asked_for

__all__ = ["ReportError", "RunFacts", "entry", "facts_of", "numbers"]


class ReportError(ValueError):
    """There is no run to report on, or the report cannot be written; the text says which."""


@dataclass(frozen=True)
class RunFacts:
    """A run as its files tell it; holds what it is given, check-free.

    Attributes:
        directory: the files.
        profile: the resolved profile; empty if no file has it.
        profile_text: the same as YAML.
        summary: ``metrics.json``; empty if the run has not ended, or the file cannot be read.
        history: the objects of ``metrics.jsonl``.
        log: the lines of ``train.log``.
        checkpoint: the file that was measured; None if there is none.
        stored: what is in it, without tensors; empty if it cannot be read.
        analysis: what was measured; None if nothing could be.
        problem: why not.
    """

    directory: RunDirectory
    profile: Mapping[str, Any]
    profile_text: str
    summary: Mapping[str, Any]
    history: list[dict[str, Any]]
    log: list[str]
    checkpoint: Path | None
    stored: Mapping[str, Any]
    analysis: Analysis | None
    problem: str | None

    @property
    def name(self) -> str:
        """Of the profile."""
        found: str | None = entry(self.summary, "profile", str) or entry(self.profile, "name", str)
        return found or "a run"

    @property
    def seed(self) -> int | None:
        """Of the run; None if no file says."""
        found: int | None = entry({**self.profile, **self.summary}, "seed", int)
        return found

    @property
    def n_digits(self) -> int | None:
        """Digits of a sequence; None if no file says."""
        found: int | None = entry(self.summary, "n_digits", int)
        return found if self.analysis is None else self.analysis.n_digits

    @property
    def ended(self) -> str | None:
        """Why the run ended, as the summary has it; None if it has not."""
        found: str | None = entry(self.summary, "stop_reason", str)
        return found

    @property
    def _summary_is_of_the_model(self) -> bool:
        """Whether the summary's figures are those of the model that was measured, if any was."""
        if not self.summary.get("comprehensive_metrics"):
            return False
        best = self.summary.get("best_epoch")
        return self.analysis is None or best is None or best == self.analysis.epoch

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that the run ended with; without an end, those measured now."""
        if self._summary_is_of_the_model:
            found = numbers(self.summary["comprehensive_metrics"])
            known = metric_names(self.n_digits) if self.n_digits else list(found)
            return {name: found[name] for name in known if name in found}
        return {} if self.analysis is None else dict(self.analysis.metrics)

    @property
    def checks(self) -> dict[str, bool]:
        """The checks of the same model."""
        if self._summary_is_of_the_model:
            stored = entry(self.summary, "validation_results", dict) or {}
            return {str(k): v for k, v in stored.items() if isinstance(v, bool)}
        return {} if self.analysis is None else self.analysis.validation

    @property
    def targets(self) -> dict[str, float]:
        """What was asked for, of the metrics that there are."""
        if self.analysis is not None:
            wanted = self.analysis.targets
        else:
            wanted = asked_for(numbers(self.profile.get("targets")))
        return {name: value for name, value in wanted.items() if name in self.metrics}


def facts_of(run: str | PathLike[str], device: str = "cpu") -> RunFacts:
    """Read the files of a run, and measure its best model.

    Args:
        run: the folder of the run, or a checkpoint in its ``checkpoints`` folder.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Returns:
        What the files say, and what was measured.

    Raises:
        ReportError: there is no run.
        TypeError: ``run`` is not a path, or ``device`` not a name of a device.
        ValueError: ``run`` is no possible name of a file, or there is no such device.
    """
    directory = RunDirectory(_folder(file_path("run", run)))
    choose_device(device)
    found = [path for path in (directory.best, directory.last) if path.is_file()]
    if not found and not directory.summary.is_file():
        raise ReportError(
            f"{run}: holds no run: neither metrics.json nor checkpoints/best_Q.pt; name the folder "
            "that training wrote"
        )
    stored, analysis, problem = _measured(found[0], device) if found else ({}, None, None)
    profile = entry(stored, "profile", dict) or _mapping(_yaml(directory.profile))
    text = _text(directory.profile) or yaml.safe_dump(profile, sort_keys=False, allow_unicode=True)
    return RunFacts(
        directory=directory,
        profile=profile,
        profile_text=text if profile else "",
        summary=_mapping(_json(_text(directory.summary))),
        history=_history(directory.history),
        log=_text(directory.log).splitlines(),
        checkpoint=found[0] if found else None,
        stored=stored,
        analysis=analysis,
        problem=problem if found else "there is no checkpoint",
    )


def _folder(path: Path) -> Path:
    if not path.is_file():
        return path
    if path.parent.name != "checkpoints":
        raise ReportError(
            f"{path}: is in no checkpoints/ folder of a run; name the folder of a run"
        )
    return path.parent.parent


def _measured(path: Path, device: str) -> tuple[dict[str, Any], Analysis | None, str | None]:
    """What a checkpoint says, what its model measures, and why if it does not."""
    stored: dict[str, Any] = {}
    try:
        contents = load_checkpoint(path)
        stored = {key: value for key, value in contents.items() if not key.endswith("_dict")}
        return stored, analyze(path, device), None
    except ValueError as error:
        return stored, None, str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return stored, None, f"{path}: not enough memory to measure it"


# --- files that may be anything -----------------------------------------------------------------


def entry(values: object, key: str, kind: type[Any]) -> Any:
    """``values[key]`` if there is such an entry and it is of that kind; else None."""
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def numbers(values: object) -> dict[str, float]:
    """The entries that are numbers; null is NaN, as a run writes it."""
    found: dict[str, float] = {}
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if value is None:
            found[str(name)] = math.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[str(name)] = float(value)
    return found


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _history(path: Path) -> list[dict[str, Any]]:
    lines = [_mapping(_json(line)) for line in _text(path).splitlines()]
    return [line for line in lines if entry(line, "epoch", int) is not None]
