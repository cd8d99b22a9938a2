"""How a run speaks: the line of an epoch and the table at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ternvae.training.verdict import target_met

__all__ = ["epoch_line", "final_table"]


def epoch_line(epoch: int, loss: float, metrics: Mapping[str, float]) -> str:
    """The line that ``grep Epoch`` finds."""
    return (
        f"Epoch {epoch:3d} | Loss: {loss:.4f} | Coverage: {metrics['coverage']:.4f} | "
        f"Hierarchy_B: {metrics['hierarchy_B']:.4f} | Richness: {metrics['richness']:.5f} | "
        f"Q: {metrics['Q_enhanced']:.3f}"
    )


def final_table(
    metrics: Mapping[str, float], targets: Mapping[str, float], ceilings: Mapping[str, float]
) -> str:
    """Metric, value, target, ceiling and whether the target is met, aligned.

    Args:
        metrics: all metrics of the model.
        targets: the targets, by metric name.
        ceilings: what :func:`ternvae.metrics.ceilings` returns.
    """
    limits = {
        "coverage": 1.0,
        "coverage_B": 1.0,
        "hierarchy_A": ceilings["hierarchy"],
        "hierarchy_B": ceilings["hierarchy"],
        "dist_corr": ceilings["dist_corr"],
        "Q_enhanced": ceilings["Q_enhanced"],
        "ultrametric_corr": ceilings["ultrametric_corr"],
        "triplet_accuracy": 1.0,
    }
    rows = [("metric", "value", "target", "ceiling", "met")]
    for name, value in metrics.items():
        target, limit = targets.get(name), limits.get(name)
        met = "" if target is None else "yes" if target_met(name, value, target) else "NO"
        rows.append((name, _figure(value), _figure(target), _figure(limit), met))
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
