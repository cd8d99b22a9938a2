"""Claims that are bounds on a measured value, shown with figure, value and bar."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from environment import markdown_table

__all__ = ["Bound", "as_records", "bounds_markdown", "exit_status"]


@dataclass(frozen=True)
class Bound:
    """A statement about a value, and the figures behind it.

    Attributes:
        statement: what is claimed.
        figure: where the value comes from, in words.
        value: what is held against the bar; None if it could not be measured.
        bar: the largest value that passes, or the least one.
        least: whether the bar is the least one.
        also: whether everything else that is claimed along with the value holds.
        skipped: why nothing could be measured here; a skipped claim neither passes nor fails.
    """

    statement: str
    figure: str
    value: float | None
    bar: float
    least: bool = False
    also: bool = True
    skipped: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the claim was checked and holds; a value that is not a number never does."""
        if self.skipped is not None or self.value is None or math.isnan(self.value):
            return False
        return self.also and (self.value >= self.bar if self.least else self.value <= self.bar)

    @property
    def result(self) -> str:
        """The verdict in a word."""
        return "skipped" if self.skipped is not None else "PASS" if self.passed else "FAIL"

    def row(self) -> tuple[str, ...]:
        """Its row of the table."""
        bar = f"{'>=' if self.least else '<='} {self.bar:g}"
        if self.skipped is not None:
            return self.statement, self.skipped, "-", bar, self.result
        value = "-" if self.value is None else f"{self.value:.4g}"
        return self.statement, self.figure, value, bar, self.result


def bounds_markdown(bounds: Iterable[Bound]) -> str:
    """The claims as a table."""
    header = ("claim", "figure", "value", "bar", "result")
    return markdown_table(header, [bound.row() for bound in bounds])


def as_records(bounds: Iterable[Bound]) -> list[dict[str, Any]]:
    """The claims as plain values, for a result file."""
    return [
        {
            "claim": bound.statement,
            "figure": bound.figure if bound.skipped is None else bound.skipped,
            "value": bound.value if bound.value is None or math.isfinite(bound.value) else None,
            "bar": bound.bar,
            "result": bound.result,
        }
        for bound in bounds
    ]


def exit_status(bounds: Sequence[Bound]) -> int:
    """0 if every claim that was checked holds, else 1."""
    return 0 if all(bound.passed for bound in bounds if bound.skipped is None) else 1
