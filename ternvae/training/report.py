"""How a run speaks: the line of an epoch and the table at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ternvae.metrics import ceilings
from ternvae.training.verdict import targets_met

__all__ = ["epoch_line", "final_table"]


def epoch_line(epoch: int, loss: float, metrics: Mapping[str, float]) -> str:
    """The line that ``grep Epoch`` finds."""
    return (
        f"Epoch {epoch:3d} | Loss: {loss:.4f} | Coverage: {metrics['coverage']:.4f} | "
        f"Hierarchy_B: {metrics['hierarchy_B']:.4f} | Richness: {metrics['richness']:.5f} | "
        f"Q: {metrics['Q_enhanced']:.3f}"
    )


def final_table(
    metrics: Mapping[str, float], targets: Mapping[str, float], *, n_digits: int
) -> str:
    """Metric, value, target, ceiling and whether the target is met, aligned.

    Args:
        metrics: all metrics of the model.
        targets: the targets, by metric name.
        n_digits: number of ternary digits, which decides the ceilings.
    """
    highest, met = ceilings(n_digits), targets_met(metrics, targets, n_digits=n_digits)
    limits = {
        "coverage": 1.0,
        "coverage_B": 1.0,
        "hierarchy_A": highest["hierarchy"],
        "hierarchy_B": highest["hierarchy"],
        "dist_corr": highest["dist_corr"],
        "Q_enhanced": highest["Q_enhanced"],
        "ultrametric_corr": highest["ultrametric_corr"],
        "triplet_accuracy": 1.0,
    }
    rows = [("metric", "value", "target", "ceiling", "met")]
    for name, value in metrics.items():
        target, limit = targets.get(name), limits.get(name)
        verdict = {True: "yes", False: "NO", None: ""}[met.get(name)]
        rows.append((name, _figure(value), _figure(target), _figure(limit), verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{value:.7f}".rstrip("0").rstrip(".")
