"""Training curves: what each evaluated epoch measured, with the targets of the profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from ternvae.plots.frame import FONT, GREY, HALO, INK, framed, plain
from ternvae.plots.subject import Subject

__all__ = ["curves"]

Floats = NDArray[np.float64]

#: The panels: a heading, and the metrics in it, each with the colour and dashes of its line.
_DARK, _LIGHT = ("#20435c", "-"), ("#c9772b", (0, (3, 1.2)))
_PANELS = (
    ("coverage", ("coverage", "coverage_B")),
    ("hierarchy_B", ("hierarchy_B",)),
    ("richness", ("richness",)),
    ("Q", ("Q_enhanced",)),
    ("dist_corr", ("dist_corr",)),
    ("ultrametric_corr", ("ultrametric_corr",)),
    ("triplet_accuracy", ("triplet_accuracy",)),
    ("loss (log scale)", ("loss",)),
)

#: The least height of a panel as a share of its values, so that noise does not look like events.
_LEAST_HEIGHT = 0.004


def curves(subject: Subject) -> Figure | str:
    """One small panel for each metric over the epochs.

    Args:
        subject: what is drawn.

    Returns:
        The figure, or why there is none: the run has left no history.
    """
    if not subject.history:
        return "there is no metrics.jsonl with an evaluated epoch beside the checkpoint"
    figure = framed(subject, "Training", _caption(subject), 9.2, 4.4)
    epochs = np.array([entry["epoch"] for entry in subject.history], dtype=np.float64)
    grid = figure.subplots(2, 4, sharex=True)
    for axes, (heading, names) in zip(grid.flat, _PANELS, strict=True):
        axes.set_title(heading, fontsize=FONT + 1, loc="left")
        _panel(axes, subject, epochs, names)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    return figure


def _panel(axes: Axes, subject: Subject, epochs: Floats, names: Sequence[str]) -> None:
    plain(axes)
    shown = []
    for name, (colour, dashes) in zip(names, (_DARK, _LIGHT), strict=False):
        column = _column(subject.history, name)
        marker = "o" if len(epochs) <= 40 else ""
        axes.plot(
            epochs, column, marker, color=colour, linestyle=dashes, markersize=2.6, label=name
        )
        shown += column[np.isfinite(column)].tolist()
    if not shown:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", fontsize=FONT)
    if names == ("loss",):
        _logarithmic(axes, shown)
    elif shown:
        _lines(axes, subject, names[-1], shown)
    if len(names) > 1:
        axes.legend(fontsize=FONT, loc="best", framealpha=0.9, edgecolor="none", handlelength=2.2)
    if subject.epoch is not None and len(epochs) > 1 and epochs[0] <= subject.epoch < epochs[-1]:
        axes.axvline(subject.epoch, color=GREY, linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=FONT)


def _logarithmic(axes: Axes, shown: list[float]) -> None:
    """A log scale with plain numbers, where all values have a logarithm."""
    if shown and min(shown) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _lines(axes: Axes, subject: Subject, name: str, shown: list[float]) -> None:
    """Target and ceiling, labelled, and limits that hold them with the curve."""
    target, ceiling = subject.targets.get(name), _ceiling(subject, name)
    marks = [mark for mark in (target, ceiling) if mark is not None and math.isfinite(mark)]
    values = shown + marks
    low, high = min(values), max(values)
    pad = max(0.16 * (high - low), (_LEAST_HEIGHT * abs(high) - (high - low)) / 2, 1e-9)
    axes.set_ylim(low - pad, high + pad)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    one = target is not None and ceiling is not None and abs(target - ceiling) < 0.2 * pad
    if target is not None:
        # On the side where the curve is not, at its end.
        up = shown[-1:] < [target] or (one and target > 0)
        _mark(axes, target, _told(target, ceiling if one else None), "--", up=up)
    if ceiling is not None and math.isfinite(ceiling) and not one:
        _mark(axes, ceiling, f"ceiling {ceiling:.5g}", "-.", up=name != "hierarchy_B")


def _told(target: float, ceiling: float | None) -> str:
    """A target, and a ceiling that is too near for a label of its own."""
    goal, limit = f"{target:g}", f"{ceiling:.4g}" if ceiling is not None else ""
    if not limit:
        return f"target {goal}"
    return f"target and ceiling {goal}" if goal == limit else f"target {goal}, ceiling {limit}"


def _mark(axes: Axes, at: float, label: str, dashes: str, *, up: bool) -> None:
    axes.axhline(at, color=GREY, linestyle=dashes, linewidth=1)
    axes.annotate(
        label,
        (0.98, at),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2.5 if up else -2.5),
        textcoords="offset points",
        ha="right",
        va="bottom" if up else "top",
        fontsize=FONT,
        color=INK,
        path_effects=HALO,
        zorder=5,
    )


def _ceiling(subject: Subject, name: str) -> float | None:
    if name in ("coverage_B", "triplet_accuracy"):
        return 1.0
    return subject.ceilings.get("hierarchy" if name == "hierarchy_B" else name)


def _column(history: list[dict[str, Any]], name: str) -> Floats:
    """A metric over the epochs; NaN where it is missing or no number."""
    found = []
    for entry in history:
        losses = entry.get("losses")
        total = losses.get("total") if isinstance(losses, dict) else None
        value = total if name == "loss" else entry.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        found.append(float(value) if number else math.nan)  # type: ignore[arg-type]
    return np.array(found, dtype=np.float64)


def _caption(subject: Subject) -> str:
    count = len(subject.history)
    here = "" if subject.epoch is None else f" The checkpoint is of epoch {subject.epoch}."
    return (
        f"{count} evaluated epoch{'' if count == 1 else 's'} of the run; dashed lines are the "
        "targets of its profile, dash-dotted ones the ceilings that no embedding of this space "
        f"exceeds without ties.{here}"
    )
