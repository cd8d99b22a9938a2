"""Records of runs made through the command line, and how reports show and judge them.

Pure functions; nothing here starts a process or reads a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from environment import markdown_table

__all__ = [
    "CLAIMED_SEEDS",
    "QUANTITIES",
    "Claim",
    "Quantity",
    "Run",
    "claims_part",
    "count_claim",
    "each_claim",
    "quantity_row",
    "shown",
    "troubles",
    "unchecked_reason",
]

#: Seeds that claims are about, at least.
CLAIMED_SEEDS = 10


@dataclass
class Run:
    """One run: a process, and what it left behind.

    Attributes:
        profile: name of the profile, or what else the run is filed under.
        seed: the run's seed.
        status: "done", "failed, exit status N", "interrupted" or "not begun".
        exit_status: of the process; None if there was none.
        wall_seconds: from the start of the process to its end.
        summary: the run's ``metrics.json``; None if it wrote none.
        measured: what was measured of its best model afterwards, by name.
        output: last lines of its output, if it was not done.
    """

    profile: str
    seed: int
    status: str
    exit_status: int | None = None
    wall_seconds: float | None = None
    summary: dict[str, Any] | None = None
    measured: dict[str, float] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "done"

    @property
    def ready(self) -> bool:
        """Whether the run is done and all its checks are passed."""
        checks = self.summary["validation_results"] if self.done and self.summary else {}
        return bool(checks.get("mathematical_foundation_ready", False))

    def metric(self, name: str) -> float | None:
        """A metric of the best model; None if undefined or never measured."""
        known = (self.summary or {}).get("comprehensive_metrics", {})
        value = self.measured.get(name, known.get(name))
        return None if value is None else float(value)

    def reached(self, what: str, when: str) -> float | None:
        """Entry ``when`` of ``epochs_to`` or ``seconds``; None if it was never reached."""
        value = (self.summary or {}).get(what, {}).get(when)
        return None if value is None else float(value)

    def __str__(self) -> str:
        seconds = "" if self.wall_seconds is None else f" in {self.wall_seconds:.1f} s"
        text = f"{self.profile} seed {self.seed}: {self.status}{seconds}"
        if self.done:
            names = ("coverage", "hierarchy_B", "richness", "Q_enhanced")
            text += "".join(f", {name} {shown(self.metric(name), '.5f')}" for name in names)
        return text


class Quantity(NamedTuple):
    """A row of the tables over the seeds."""

    name: str
    value: Callable[[Run], float | None]
    best: Callable[[list[float]], float]
    format: str


def _metric(name: str, best: Callable[[list[float]], float], form: str) -> Quantity:
    return Quantity(name, lambda run: run.metric(name), best, form)


def _reached(name: str, what: str, when: str) -> Quantity:
    return Quantity(name, lambda run: run.reached(what, when), min, ".1f")


QUANTITIES = (
    _metric("coverage", max, ".6f"),
    _metric("coverage_B", max, ".6f"),
    _metric("hierarchy_B", min, ".7f"),
    _metric("richness", max, ".5f"),
    _metric("Q_enhanced", max, ".4f"),
    _metric("ultrametric_corr", max, ".4f"),
    _metric("triplet_accuracy", max, ".5f"),
    _metric("sibling_retrieval", max, ".5f"),
    _metric("valuations_read", max, ".5f"),
    _metric("one_digit_read", max, ".5f"),
    _reached("epochs to coverage 1.0", "epochs_to", "coverage_100"),
    _reached("epochs to all targets", "epochs_to", "targets"),
    _reached("seconds to all targets", "seconds", "to_targets"),
    Quantity("seconds in all", lambda run: run.wall_seconds, min, ".1f"),
)


@dataclass(frozen=True)
class Claim:
    """A statement about profiles, whether it holds, and the figure behind that."""

    statement: str
    figure: str
    passed: bool


def count_claim(statement: str, holds: Sequence[bool]) -> Claim:
    """A claim that something holds in every single run."""
    figure = f"{sum(holds)} of {len(holds)}"
    return Claim(f"{statement}, every run", figure, bool(holds) and all(holds))


def each_claim(
    profile: str,
    metric: str,
    wanted: str,
    runs: Sequence[Run],
    holds: Callable[[float], bool],
    worst: Callable[[list[float]], float],
) -> Claim:
    """A claim on a metric of every single run; runs that are not done do not meet it."""
    values = [run.metric(metric) if run.done else None for run in runs]
    known = [value for value in values if value is not None]
    met = sum(map(holds, known))
    figure = f"{met} of {len(runs)}, worst {shown(worst(known) if known else None, '.7f')}"
    return Claim(f"{profile}: {metric} {wanted}, every run", figure, met == len(runs) > 0)


def claims_part(claims: Sequence[Claim], unchecked: str | None) -> list[str]:
    """The claims as a part of a report, or why none was checked."""
    if unchecked is not None:
        return ["## Claims", f"Not checked: {unchecked}."]
    rows = [(c.statement, c.figure, "PASS" if c.passed else "FAIL") for c in claims]
    return ["## Claims", markdown_table(("claim", "figure", "result"), rows)]


def quantity_row(quantity: Quantity, runs: Sequence[Run]) -> tuple[str, ...]:
    """Mean, worst and best over the runs that are done; missing values are counted, not hidden."""
    known = [value for run in runs if (value := quantity.value(run)) is not None]
    if not known:
        return (quantity.name, "-", "-", "-")
    missing = len(runs) - len(known)
    mean = shown(statistics.fmean(known), quantity.format)
    worst = max if quantity.best is min else min
    return (
        quantity.name,
        f"{mean} ({len(known)} of {len(runs)})" if missing else mean,
        "never" if missing else shown(worst(known), quantity.format),
        shown(quantity.best(known), quantity.format),
    )


def troubles(runs: Sequence[Run]) -> list[str]:
    """What is known of the runs that are not done."""
    troubled = [run for run in runs if not run.done]
    if not troubled:
        return []
    parts = ["## Runs that are not done"]
    for run in troubled:
        parts.append(str(run))
        if run.output:
            parts.append("\n".join(["```text", *run.output, "```"]))
    return parts


def shown(value: float | None, form: str, missing: str = "-") -> str:
    """A figure, or what stands for a missing one."""
    return missing if value is None else format(value, form)


def unchecked_reason(
    runs: Sequence[Run],
    names: Iterable[str],
    overrides: Mapping[str, Any],
    *,
    interrupted: bool,
) -> str | None:
    """Why claims do not apply to the runs; None if they do.

    They are about profiles and variants as they are, each with ten seeds or more.  A run that
    failed is no reason: it counts against the claims.

    Args:
        runs: all runs.
        names: what the claims are about, as the runs are filed.
        overrides: what was set for every run.
        interrupted: whether some runs were never made.
    """
    if interrupted:
        return "the runs were interrupted"
    if overrides:
        return f"profiles were changed by --set {next(iter(overrides))}"
    for name in names:
        seeds = sum(run.profile == name for run in runs)
        if seeds < CLAIMED_SEEDS:
            return f"{name} has {seeds} seeds, the claims need {CLAIMED_SEEDS}"
    return None
