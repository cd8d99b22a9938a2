"""How far a run has come: everything about it that is not in the model or the optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

__all__ = ["Best", "Progress"]


@dataclass(frozen=True)
class Best:
    """The best evaluated model so far.

    Attributes:
        epoch: after which it was evaluated.
        metrics: all its metrics.
        validation: its checks, each true or false.
    """

    epoch: int
    metrics: dict[str, float]
    validation: dict[str, bool]


@dataclass
class Progress:
    """The record that a checkpoint carries beside the weights.

    Attributes:
        epoch: epochs done.
        coverage_reached: whether coverage through A has met its target.
        kept: the best models so far, the best one first.
        latest: the model that was evaluated last; None before the first evaluation.
        epochs_to: first epoch with coverage 0.99, coverage 1, and all targets met; None until then.
        seconds: spent on training steps (``train``) and on metrics (``evaluate``), since the first
            step (``total``), and from the first step to all targets (``to_targets``, None until
            then).  A resumed run counts on.
    """

    epoch: int = 0
    coverage_reached: bool = False
    kept: list[Best] = field(default_factory=list)
    latest: Best | None = None
    epochs_to: dict[str, int | None] = field(
        default_factory=lambda: dict.fromkeys(("coverage_99", "coverage_100", "targets"))
    )
    seconds: dict[str, float | None] = field(
        default_factory=lambda: {"train": 0.0, "evaluate": 0.0, "total": 0.0, "to_targets": None}
    )

    def __post_init__(self) -> None:
        self._first_step: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """The inverse of :meth:`to_dict`."""
        kept, latest = values["kept"], values.get("latest")  # format 2 has no latest
        models = {
            "kept": [Best(**each) for each in kept],
            "latest": Best(**latest) if latest is not None else None,
        }
        return cls(**{**values, **models})

    @property
    def best(self) -> Best | None:
        """The best model so far, None before the first evaluation."""
        return self.kept[0] if self.kept else None

    def start_clock(self) -> None:
        """Begin, or after a resumption go on, counting ``seconds["total"]``."""
        self._first_step = time.perf_counter() - (self.seconds["total"] or 0.0)

    @contextmanager
    def spending(self, what: str, device: torch.device) -> Iterator[None]:
        """Add the time inside the block to ``seconds[what]``, with the device's work finished."""
        started = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self.seconds[what] = (self.seconds[what] or 0.0) + now - started
        if self._first_step is not None:  # a checkpoint that is taken over is measured before it
            self.seconds["total"] = now - self._first_step

    def note_coverage(self, coverage: float) -> None:
        """Record the first epochs with 99 % and with full coverage."""
        for name, share in (("coverage_99", 0.99), ("coverage_100", 1.0)):
            if self.epochs_to[name] is None and coverage >= share:
                self.epochs_to[name] = self.epoch

    def enter(self, scored: Best, most: int, key: Callable[[Best], Any]) -> int | None:
        """Enter a model among the best ones; of equals, the older one comes first.

        Args:
            scored: the model.
            most: how many are kept; what comes after them is forgotten.
            key: larger for better models.

        Returns:
            Its place, 0 for the best, or None if it is not among them.
        """
        mark = key(scored)
        place = sum(bool(key(each) >= mark) for each in self.kept)
        if place >= most:
            return None
        self.kept.insert(place, scored)
        del self.kept[most:]
        return place

    def note_targets(self) -> bool:
        """Record that all targets are met; True the first time."""
        if self.epochs_to["targets"] is not None:
            return False
        self.epochs_to["targets"] = self.epoch
        self.seconds["to_targets"] = self.seconds["total"]
        return True
