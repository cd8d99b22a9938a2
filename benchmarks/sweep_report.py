"""What a sweep says: tables over the seeds, one row per run, and the claims that were checked.

Pure functions of the records of the runs; nothing here starts a process or reads a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from environment import environment_markdown, markdown_table
from records import (
    QUANTITIES,
    Claim,
    Run,
    claims_part,
    count_claim,
    each_claim,
    quantity_row,
    shown,
    troubles,
)

__all__ = ["CLAIMED", "COVERAGE", "FOUNDATION", "Run", "check_claims", "report"]

FOUNDATION, COVERAGE, HIERARCHY, RICHNESS = CLAIMED = (
    "mathematical_foundation",
    "coverage_focused",
    "hierarchy_focused",
    "richness_focused",
)

#: What says how far the distances are those of the tree.
STRUCTURE = ("ultrametric_corr", "triplet_accuracy", "sibling_retrieval")

# --- the claims -----------------------------------------------------------------------------


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
        each_claim(FOUNDATION, "coverage_B", "exactly 1.0", runs, lambda x: x == 1.0, min),
        each_claim(FOUNDATION, "hierarchy_B", "<= -0.83204", runs, lambda x: x <= -0.83204, max),
        each_claim(FOUNDATION, "richness", ">= 0.006", runs, lambda x: x >= 0.006, min),
        each_claim(FOUNDATION, "Q_enhanced", ">= 2.13", runs, lambda x: x >= 2.13, min),
        each_claim(FOUNDATION, "ultrametric_corr", ">= 0.825", runs, lambda x: x >= 0.825, min),
        each_claim(FOUNDATION, "triplet_accuracy", ">= 0.999", runs, lambda x: x >= 0.999, min),
        each_claim(FOUNDATION, "sibling_retrieval", ">= 0.99", runs, lambda x: x >= 0.99, min),
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
    return [
        _foremost(
            HIERARCHY,
            "highest Q_enhanced (mean)",
            by_profile,
            lambda run: run.metric("Q_enhanced"),
            max,
            ".4f",
        ),
        each_claim(HIERARCHY, "Q_enhanced", ">= 2.160", runs, lambda x: x >= 2.160, min),
        each_claim(HIERARCHY, "ultrametric_corr", ">= 0.825", runs, lambda x: x >= 0.825, min),
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
        each_claim(RICHNESS, "hierarchy_B", "<= -0.8315", runs, lambda x: x <= -0.8315, max),
        each_claim(RICHNESS, "coverage", "exactly 1.0", runs, lambda x: x == 1.0, min),
    ]


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


def _profile_summary(profile: str, runs: Sequence[Run]) -> list[str]:
    done = [run for run in runs if run.done]
    ready = sum(run.ready for run in runs)
    rows = [quantity_row(quantity, done) for quantity in QUANTITIES]
    return [
        f"### {profile}",
        f"{len(done)} of {len(runs)} runs done, {ready} ready.",
        markdown_table(("quantity", "mean", "worst", "best"), rows),
    ]


def _run_table(runs: Sequence[Run]) -> str:
    measured = ("coverage", "coverage_B", "hierarchy_B", "richness", "Q_enhanced")
    reached = ("epochs to 1.0", "to targets", "s to targets", "s in all", "ready")
    header = ("seed", *measured, *STRUCTURE, *reached)
    return markdown_table(header, map(_run_row, runs))


def _run_row(run: Run) -> tuple[str, ...]:
    if not run.done:
        return (str(run.seed), run.status, *("-" for _ in range(12)))
    return (
        str(run.seed),
        _out_of_all(run, "coverage"),
        _out_of_all(run, "coverage_B"),
        shown(run.metric("hierarchy_B"), ".7f"),
        shown(run.metric("richness"), ".7f"),
        shown(run.metric("Q_enhanced"), ".7f"),
        *(shown(run.metric(name), ".5f") for name in STRUCTURE),
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
