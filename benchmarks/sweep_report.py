"""What a sweep says: tables over the seeds, one row per run, and the claims that were checked.

Pure functions of the records of the runs; nothing here starts a process or reads a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from environment import environment_markdown, markdown_table

__all__ = [
    "CLAIMED_SEEDS",
    "COVERAGE",
    "FOUNDATION",
    "QUANTITIES",
    "Claim",
    "Quantity",
    "Run",
    "check_claims",
    "claims_part",
    "count_claim",
    "each_claim",
    "quantity_row",
    "report",
    "shown",
    "troubles",
    "unchecked_reason",
]

FOUNDATION, COVERAGE, HIERARCHY, RICHNESS = CLAIMED = (
    "mathematical_foundation",
    "coverage_focused",
    "hierarchy_focused",
    "richness_focused",
)

#: Seeds that the claims are about, at least.
CLAIMED_SEEDS = 10

#: How far below its ceiling the Q of hierarchy_focused may end.
Q_GAP = 0.005


@dataclass
class Run:
    """One run of a sweep.

    Attributes:
        profile: name of the profile, or what else the run is filed under.
        seed: the run's seed.
        status: "done", "failed, exit status N", "interrupted" or "not begun".
        exit_status: of the process; None if there was none.
        wall_seconds: from the start of the process to its end.
        summary: the run's ``metrics.json``; None if it wrote none.
        output: last lines of its output, if it was not done.
    """

    profile: str
    seed: int
    status: str
    exit_status: int | None = None
    wall_seconds: float | None = None
    summary: dict[str, Any] | None = None
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
        value = (self.summary or {}).get("comprehensive_metrics", {}).get(name)
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
    _reached("epochs to coverage 1.0", "epochs_to", "coverage_100"),
    _reached("epochs to all targets", "epochs_to", "targets"),
    _reached("seconds to all targets", "seconds", "to_targets"),
    Quantity("seconds in all", lambda run: run.wall_seconds, min, ".1f"),
)


# --- the claims -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A statement about the shipped profiles, whether it holds, and the figure behind that."""

    statement: str
    figure: str
    passed: bool


def unchecked_reason(
    runs: Sequence[Run], overrides: Mapping[str, Any], *, interrupted: bool
) -> str | None:
    """Why the claims do not apply to a sweep; None if they do.

    They are about the shipped profiles as they are, each with ten seeds or more.  A run that
    failed is no reason: it counts against the claims.
    """
    if interrupted:
        return "the sweep was interrupted"
    if overrides:
        return f"profiles were changed by --set {next(iter(overrides))}"
    for profile in CLAIMED:
        seeds = sum(run.profile == profile for run in runs)
        if seeds < CLAIMED_SEEDS:
            return f"{profile} has {seeds} seeds, the claims need {CLAIMED_SEEDS}"
    return None


def check_claims(runs: Sequence[Run]) -> list[Claim]:
    """Check every claim on a complete sweep; a missing figure fails the claims that need it."""
    by_profile = {name: [run for run in runs if run.profile == name] for name in CLAIMED}
    return [
        *_foundation_claims(by_profile[FOUNDATION]),
        *_coverage_claims(by_profile),
        *_hierarchy_claims(by_profile),
        *_richness_claims(by_profile),
    ]


def _foundation_claims(runs: Sequence[Run]) -> list[Claim]:
    return [
        each_claim(FOUNDATION, "coverage", "exactly 1.0", runs, lambda x: x == 1.0, min),
        each_claim(FOUNDATION, "hierarchy_B", "<= -0.8320", runs, lambda x: x <= -0.8320, max),
        each_claim(FOUNDATION, "richness", ">= 0.006", runs, lambda x: x >= 0.006, min),
        each_claim(FOUNDATION, "Q_enhanced", ">= 2.10", runs, lambda x: x >= 2.10, min),
        count_claim(f"{FOUNDATION}: mathematical_foundation_ready", [run.ready for run in runs]),
    ]


def _coverage_claims(by_profile: Mapping[str, Sequence[Run]]) -> list[Claim]:
    return [
        count_claim(
            f"{COVERAGE}: reaches coverage 1.0",
            [run.reached("epochs_to", "coverage_100") is not None for run in by_profile[COVERAGE]],
        ),
        _foremost(
            COVERAGE,
            "fewest epochs to coverage 1.0 (mean, ties fine)",
            by_profile,
            lambda run: run.reached("epochs_to", "coverage_100"),
            min,
            ".2f",
        ),
        _foremost(
            COVERAGE,
            "soonest finished (mean seconds in all)",
            by_profile,
            lambda run: run.wall_seconds,
            min,
            ".1f",
        ),
    ]


def _hierarchy_claims(by_profile: Mapping[str, Sequence[Run]]) -> list[Claim]:
    runs = by_profile[HIERARCHY]
    limits = [run.summary["ceilings"]["Q_enhanced"] for run in runs if run.summary]
    ceiling = max(limits, default=float("inf"))
    least = ceiling - Q_GAP
    return [
        _foremost(
            HIERARCHY,
            "highest Q_enhanced (mean)",
            by_profile,
            lambda run: run.metric("Q_enhanced"),
            max,
            ".4f",
        ),
        each_claim(
            HIERARCHY,
            "Q_enhanced",
            f"within {Q_GAP} of the ceiling {ceiling:.4f}",
            runs,
            lambda x: x >= least,
            min,
        ),
        each_claim(HIERARCHY, "coverage", "exactly 1.0", runs, lambda x: x == 1.0, min),
    ]


def _richness_claims(by_profile: Mapping[str, Sequence[Run]]) -> list[Claim]:
    runs = by_profile[RICHNESS]
    return [
        _foremost(
            RICHNESS,
            "largest richness (mean)",
            by_profile,
            lambda run: run.metric("richness"),
            max,
            ".5f",
        ),
        each_claim(RICHNESS, "richness", ">= 0.012", runs, lambda x: x >= 0.012, min),
        each_claim(RICHNESS, "hierarchy_B", "<= -0.82", runs, lambda x: x <= -0.82, max),
        each_claim(RICHNESS, "coverage", "exactly 1.0", runs, lambda x: x == 1.0, min),
    ]


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


def _foremost(
    profile: str,
    statement: str,
    by_profile: Mapping[str, Sequence[Run]],
    value: Callable[[Run], float | None],
    best: Callable[[list[float]], float],
    form: str,
) -> Claim:
    """A claim that a profile's mean is the best of all profiles' means.

    The profile itself must have the figure in every run; the others are compared by the runs that
    have it, since a rival that failed must not make the comparison easier by its absence alone.
    """
    means = {name: _mean([value(r) for r in runs if r.done]) for name, runs in by_profile.items()}
    complete = all(run.done and value(run) is not None for run in by_profile[profile])
    known = [mean for mean in means.values() if mean is not None]
    passed = complete and len(known) == len(means) and means[profile] == best(known)
    figure = ", ".join(f"{name} {shown(mean, form)}" for name, mean in means.items())
    return Claim(f"{profile}: {statement}", figure, passed)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


# --- the tables -----------------------------------------------------------------------------


def report(
    runs: Sequence[Run], claims: Sequence[Claim], unchecked: str | None, where: dict[str, Any]
) -> str:
    """The whole report as Markdown.

    Args:
        runs: all runs of the sweep.
        claims: the claims that were checked.
        unchecked: why no claim was checked, or None.
        where: the environment.
    """
    profiles = list(dict.fromkeys(run.profile for run in runs))
    parts = ["# Sweep over profiles and seeds", environment_markdown(where)]
    parts += [*claims_part(claims, unchecked), "## Over the seeds"]
    for profile in profiles:
        parts += _profile_summary(profile, [run for run in runs if run.profile == profile])
    if rows_of_foundation := [run for run in runs if run.profile == FOUNDATION]:
        parts += [f"## {FOUNDATION}, run by run", _run_table(rows_of_foundation)]
    parts += troubles(runs)
    return "\n\n".join(parts)


def claims_part(claims: Sequence[Claim], unchecked: str | None) -> list[str]:
    """The claims as a part of a report, or why none was checked."""
    if unchecked is not None:
        return ["## Claims", f"Not checked: {unchecked}."]
    rows = [(c.statement, c.figure, "PASS" if c.passed else "FAIL") for c in claims]
    return ["## Claims", markdown_table(("claim", "figure", "result"), rows)]


def _profile_summary(profile: str, runs: Sequence[Run]) -> list[str]:
    done = [run for run in runs if run.done]
    ready = sum(run.ready for run in runs)
    rows = [quantity_row(quantity, done) for quantity in QUANTITIES]
    return [
        f"### {profile}",
        f"{len(done)} of {len(runs)} runs done, {ready} ready.",
        markdown_table(("quantity", "mean", "worst", "best"), rows),
    ]


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


def _run_table(runs: Sequence[Run]) -> str:
    measured = ("coverage", "coverage_B", "hierarchy_B", "richness", "Q_enhanced")
    reached = ("epochs to 1.0", "to targets", "s to targets", "s in all", "ready")
    header = ("seed", *measured, "ultrametric_corr", *reached)
    return markdown_table(header, map(_run_row, runs))


def _run_row(run: Run) -> tuple[str, ...]:
    if not run.done:
        return (str(run.seed), run.status, *("-" for _ in range(10)))
    return (
        str(run.seed),
        _out_of_all(run, "coverage"),
        _out_of_all(run, "coverage_B"),
        shown(run.metric("hierarchy_B"), ".7f"),
        shown(run.metric("richness"), ".7f"),
        shown(run.metric("Q_enhanced"), ".7f"),
        shown(run.metric("ultrametric_corr"), ".7f"),
        shown(run.reached("epochs_to", "coverage_100"), ".0f", "never"),
        shown(run.reached("epochs_to", "targets"), ".0f", "never"),
        shown(run.reached("seconds", "to_targets"), ".2f", "never"),
        shown(run.wall_seconds, ".2f"),
        "yes" if run.ready else "NO",
    )


def _out_of_all(run: Run, metric: str) -> str:
    """A share of the space as a count: 19683/19683."""
    share = run.metric(metric)
    if share is None or run.summary is None:
        return "-"
    size = 3 ** run.summary["n_digits"]
    return f"{round(share * size)}/{size}"


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
