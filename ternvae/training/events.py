"""What a run decides on its way: one record for the log, for ``metrics.jsonl`` and for tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Event"]


@dataclass(frozen=True)
class Event:
    """A decision, with the figures that led to it.

    Attributes:
        epoch: after which it was taken.
        kind: what happened, such as "freeze_encoder_a".
        text: the same in a sentence.
        figures: the figures behind it, by name.
    """

    epoch: int
    kind: str
    text: str
    figures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"Epoch {self.epoch}: {self.text}"
