"""Claims and tables of ``bench_spaces.py``, as pure functions of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bounds import Bound, bounds_markdown
from environment import environment_markdown, markdown_table
from records import shown
from spaces_run import HIERARCHY_TOLERANCE

from ternvae.metrics import ceilings

__all__ = ["check_claims", "report"]

Record = dict[str, Any]

#: The cost per sequence and epoch at so many digits, over that at so many.
COMPARED, BASE = 12, 9
LARGEST_COST = 1.1

#: Digits -> gigabytes that training and evaluation may take.
LARGEST_MEMORY = {12: 1.5, 15: 4.0}

#: Trained until nothing is lost, and until the time is up.
TO_THE_END, LIMITED = 12, 15

_MOMENTS = {"before": "before the freeze", "after": "after the freeze"}


def check_claims(contents: Record) -> list[Bound]:
    """Every claim with its figures; those about spaces that were not run are skipped."""
    spaces = {each["n_digits"]: each for each in contents["spaces"]}
    bounds = [_cost_claim(contents["speed"], moment) for moment in _MOMENTS]
    bounds += [_memory_claim(n, bar, spaces.get(n)) for n, bar in LARGEST_MEMORY.items()]
    return [*bounds, *_quality_claims(spaces.get(TO_THE_END)), _limited_claim(spaces.get(LIMITED))]


def _not_run(n_digits: int, space: Record | None) -> str | None:
    return f"n = {n_digits} was not run" if space is None else None


def _failed(space: Record | None) -> str | None:
    """Why nothing came of a run; None if something did."""
    return None if space is None else space.get("failed")


def _cost_claim(speed: Record, moment: str) -> Bound:
    statement = f"n = {COMPARED}: cost per sequence and epoch over n = {BASE}, {_MOMENTS[moment]}"
    pairs = speed["pairs"].get(str(COMPARED)) if speed["least"] == BASE else None
    if pairs is None:
        reason = f"n = {BASE} and n = {COMPARED} were not compared"
        return Bound(statement, "", None, LARGEST_COST, skipped=reason)
    large, small = (1e6 * each for each in _medians(pairs[moment]))
    figure = f"{large:.3f} us against {small:.3f} us"
    return Bound(statement, figure, _ratio(pairs[moment]), LARGEST_COST)


def _medians(pairs: Sequence[Sequence[float]]) -> tuple[float, float]:
    large, small = zip(*pairs, strict=True)
    return statistics.median(large), statistics.median(small)


def _ratio(pairs: Sequence[Sequence[float]]) -> float:
    """The median over the epochs, each of which was timed in turns with the smaller space."""
    return float(statistics.median(large / small for large, small in pairs))


def _memory_claim(n_digits: int, bar: float, space: Record | None) -> Bound:
    peak = None if space is None or _failed(space) else space["peak_mib"]
    return Bound(
        f"n = {n_digits}: gigabytes resident at the peak, evaluation included",
        _failed(space) or f"{shown(peak, '.0f', 'unknown')} MiB",
        None if peak is None else peak * 2**20 / 1e9,
        bar,
        skipped=_not_run(n_digits, space),
    )


def _quality_claims(space: Record | None) -> list[Bound]:
    skipped, failed = _not_run(TO_THE_END, space), _failed(space)
    lost, distance, when = None, None, failed or ""
    coverage, hierarchy = when, when
    if space is not None and not failed:
        when = f"epoch {shown(space['epochs_to']['targets'], 'd', 'never')}"
        seconds = shown(space["seconds"]["to_targets"], ".1f", "-")
        right, value = _right(space), space["metrics"]["hierarchy_B"]
        ceiling = ceilings(TO_THE_END)["hierarchy"]
        lost = None if right is None else float(space["size"] - right)
        distance = None if value is None else abs(value - ceiling)
        when = f"all targets: {when}, {seconds} s"
        coverage = f"{shown(right, 'd')} of {space['size']} recovered; {when}"
        hierarchy = f"{shown(value, '.7f')}, ceiling {ceiling:.7f}; {when}"
    return [
        Bound(f"n = {TO_THE_END}: sequences lost", coverage, lost, 0.0, skipped=skipped),
        Bound(
            f"n = {TO_THE_END}: hierarchy_B from its ceiling",
            hierarchy,
            distance,
            HIERARCHY_TOLERANCE,
            skipped=skipped,
        ),
    ]


def _right(space: Record) -> int | None:
    """How many sequences are recovered; None if that was not measured."""
    coverage = space["metrics"]["coverage"]
    return None if coverage is None else round(coverage * space["size"])


def _limited_claim(space: Record | None) -> Bound:
    size, value, figure = float(3**LIMITED), None, _failed(space) or ""
    if space is not None and not _failed(space):
        right = _right(space)
        value = None if right is None else float(space["size"])
        figure = (
            f"{shown(right, 'd')} recovered after {space['seconds']['train']:.0f} s of training; "
            f"evaluated in {space['evaluate_seconds']:.0f} s"
        )
    return Bound(
        f"n = {LIMITED}: sequences that coverage is reported over",
        figure,
        value,
        size,
        least=True,
        skipped=_not_run(LIMITED, space),
    )


# --- tables ---------------------------------------------------------------------------------


def report(contents: Record, claims: Sequence[Bound]) -> str:
    """The results as Markdown."""
    threads = contents["threads"]
    return "\n\n".join(
        [
            "# Larger spaces",
            environment_markdown(contents["environment"]),
            f"{threads} thread{'s' if threads > 1 else ''}, batches of {contents['batch_size']}.",
            "## Claims",
            bounds_markdown(claims),
            "## Cost per sequence and epoch, in turns",
            _speed_table(contents["speed"]),
            "## The runs, each in a process of its own",
            _cost_table(contents["spaces"]),
            _quality_table(contents["spaces"]),
        ]
    )


def _speed_table(speed: Record) -> str:
    least = speed["least"]
    rows = []
    for n_digits, of_moments in speed["pairs"].items():
        for moment, words in _MOMENTS.items():
            pairs = of_moments[moment]
            large, small = (1e6 * each for each in _medians(pairs))
            ratios = sorted(a / b for a, b in pairs)
            rows.append(
                (
                    f"n = {n_digits}, {words}",
                    f"{large:.3f}",
                    f"{small:.3f}",
                    f"{_ratio(pairs):.3f}",
                    f"{ratios[0]:.3f}, {ratios[-1]:.3f}",
                )
            )
    header = ("space", "us", f"us at n = {least}", "ratio, median", "least, largest")
    return markdown_table(header, rows)


def _cost_table(spaces: Sequence[Record]) -> str:
    rows = []
    for space in spaces:
        name = f"n = {space['n_digits']}"
        if failed := _failed(space):
            rows.append((name, str(space["size"]), failed, *("-",) * 6))
            continue
        seconds, per_sequence = space["seconds"], space["seconds_per_sequence"]
        rows.append(
            (
                name,
                str(space["size"]),
                space["stop_reason"],
                str(space["epochs"]),
                f"{space['sequences_seen'] / space['size']:.2f}",
                shown(seconds["train"], ".1f"),
                shown(None if per_sequence is None else 1e6 * per_sequence, ".3f"),
                shown(space["evaluate_seconds"], ".1f"),
                shown(space["peak_mib"], ".0f"),
            )
        )
    header = (
        "space",
        "sequences",
        "ended",
        "epochs",
        "passes",
        "s training",
        "us per sequence",
        "s of an evaluation",
        "MiB at the peak",
    )
    return markdown_table(header, rows)


def _quality_table(spaces: Sequence[Record]) -> str:
    rows = []
    for space in spaces:
        name = f"n = {space['n_digits']}"
        if _failed(space):
            continue
        metrics = space["metrics"]
        rows.append(
            (
                name,
                f"{shown(_right(space), 'd')}/{space['size']}",
                shown(metrics["coverage"], ".7f"),
                shown(metrics["hierarchy_B"], ".7f"),
                f"{ceilings(space['n_digits'])['hierarchy']:.7f}",
                shown(metrics["richness"], ".5f"),
                shown(metrics["Q_enhanced"], ".4f"),
                shown(space["epochs_to"]["coverage_100"], "d", "never"),
                shown(space["epochs_to"]["targets"], "d", "never"),
                shown(space["seconds"]["to_targets"], ".1f"),
            )
        )
    header = (
        "space",
        "recovered",
        "coverage",
        "hierarchy_B",
        "its ceiling",
        "richness",
        "Q_enhanced",
        "epochs to coverage 1",
        "to all targets",
        "s to all targets",
    )
    return markdown_table(header, rows)
