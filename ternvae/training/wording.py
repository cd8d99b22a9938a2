"""How a run puts its figures: the line of an epoch, the table at the end, a cell of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from ternvae.metrics import ceilings
from ternvae.training.verdict import targets_met

__all__ = [
    "aligned",
    "cell",
    "epoch_line",
    "final_rows",
    "final_table",
    "metric_ceilings",
    "unseen_line",
]


def epoch_line(epoch: int, loss: float, metrics: Mapping[str, float]) -> str:
    """The line that ``grep Epoch`` finds."""
    return (
        f"Epoch {epoch:3d} | Loss: {loss:.4f} | Coverage: {metrics['coverage']:.4f} | "
        f"Hierarchy_B: {metrics['hierarchy_B']:.4f} | Richness: {metrics['richness']:.5f} | "
        f"Q: {metrics['Q_enhanced']:.3f}"
    )


def unseen_line(metrics: Mapping[str, float], count: int) -> str:
    """What the best model makes of so many sequences that it has never seen."""
    return (
        f"Unseen: {count} sequences | Coverage: {metrics['coverage']:.4f} | "
        f"Coverage_B: {metrics['coverage_B']:.4f} | Hierarchy_B: {metrics['hierarchy_B']:.4f} | "
        f"Ultrametric: {metrics['ultrametric_corr']:.4f} | "
        f"Triplets: {metrics['triplet_accuracy']:.4f}"
    )


def final_table(
    metrics: Mapping[str, float], targets: Mapping[str, float], *, n_digits: int
) -> str:
    """The rows of :func:`final_rows`, aligned for a terminal."""
    rows = final_rows(metrics, targets, n_digits=n_digits)
    return aligned(rows, flush_left={0, 4})


def final_rows(
    metrics: Mapping[str, float], targets: Mapping[str, float], *, n_digits: int
) -> list[tuple[str, str, str, str, str]]:
    """Metric, value, target, ceiling and whether the target is met; first the heading.

    Args:
        metrics: all metrics of the model.
        targets: the targets, by metric name.
        n_digits: number of ternary digits, which decides the ceilings.
    """
    limits, met = metric_ceilings(n_digits), targets_met(metrics, targets, n_digits=n_digits)
    rows = [("metric", "value", "target", "ceiling", "met")]
    for name, value in metrics.items():
        verdict = {True: "yes", False: "NO", None: ""}[met.get(name)]
        rows.append((name, cell(value), cell(targets.get(name)), cell(limits.get(name)), verdict))
    return rows


def metric_ceilings(n_digits: int) -> dict[str, float]:
    """The highest value, for hierarchies the lowest, of every metric that has one."""
    highest = ceilings(n_digits)
    return {
        "coverage": 1.0,
        "coverage_B": 1.0,
        "hierarchy_A": highest["hierarchy"],
        "hierarchy_B": highest["hierarchy"],
        "dist_corr": highest["dist_corr"],
        "Q_enhanced": highest["Q_enhanced"],
        "ultrametric_corr": highest["ultrametric_corr"],
        "triplet_accuracy": 1.0,
    }


def aligned(rows: Sequence[Sequence[str]], *, flush_left: Collection[int] = (0,)) -> str:
    """A table for a terminal: columns two spaces apart, the first row underlined.

    Args:
        rows: cells, as many in each row.
        flush_left: columns that are not flush right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if column in flush_left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def cell(value: object) -> str:
    """A cell: a figure to seven decimals, a check as PASS or FAIL, nothing for None."""
    if isinstance(value, bool):
        return "PASS" if value else "FAIL"
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return "undefined" if math.isnan(value) else f"{value:.7f}".rstrip("0").rstrip(".")
