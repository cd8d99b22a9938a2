"""The hyperbolic radius, level by level."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ternvae.plots.frame import FONT, HALO, INK, framed, level_colours, of_what, plain
from ternvae.plots.subject import Subject

__all__ = ["radii"]


def radii(subject: Subject) -> Figure:
    """Bands of the hyperbolic radius of each level, and its standard deviation.

    Args:
        subject: what is drawn.
    """
    figure = framed(subject, "Hyperbolic radius by level", _caption(subject), 6.8, 4.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    levels = range(subject.n_digits + 1)
    parts = [subject.radius[subject.valuation == level] for level in levels]
    _bands(above, parts)
    for level in levels:
        count = 1 if level == subject.n_digits else 2 * 3 ** (subject.n_digits - 1 - level)
        above.annotate(
            f"{count:,}",
            (level, parts[level].max()),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            rotation=0 if subject.n_digits <= 9 else 90,
            fontsize=FONT,
            path_effects=HALO,
        )
    above.set_ylabel("hyperbolic radius")
    room = 1.12 if subject.n_digits <= 9 else 1.35
    above.set_ylim(0, room * max(float(part.max()) for part in parts) or 1.0)
    spread = [float(part.std()) for part in parts]
    colours = level_colours(subject.n_digits)
    below.bar(levels, spread, width=0.62, color=colours, edgecolor=INK, linewidth=0.5)
    _richness(below, subject)
    below.set_ylabel("standard\ndeviation")
    below.set_xlabel("3-adic valuation (level)")
    below.set_xticks(list(levels))
    return figure


def _bands(axes: Axes, parts: list[np.ndarray]) -> None:
    plain(axes)
    for level, (r, colour) in enumerate(zip(parts, level_colours(len(parts) - 1), strict=True)):
        low, high = np.percentile(r, [5, 95])
        axes.bar(level, np.ptp(r), 0.62, r.min(), color=colour, alpha=0.35, linewidth=0)
        axes.bar(level, high - low, 0.62, low, color=colour, edgecolor=INK, linewidth=0.5)
        axes.plot([level - 0.38, level + 0.38], [r.mean()] * 2, color=INK, linewidth=1.4)


def _richness(axes: Axes, subject: Subject) -> None:
    """The spread that would give the target if all levels but the last had it."""
    plain(axes)
    target, n = subject.targets.get("richness"), subject.n_digits
    if target is None or not target > 0:
        return
    axes.axhline(np.sqrt(target * (n + 1) / n), color=INK, linestyle="--", linewidth=1)
    axes.set_title(
        f"dashed: as much in every level but the last gives the target, richness {target:g}",
        fontsize=FONT,
        loc="left",
    )


def _caption(subject: Subject) -> str:
    return (
        f"{of_what(subject)}: black lines are means, dark boxes hold the middle 90 % of a level, "
        "pale ones all of it; numbers above count the sequences of the level. Levels are told "
        "apart by radius where the boxes do not overlap. Richness, the mean of the squared "
        f"standard deviations over the {subject.n_digits + 1} levels, is "
        f"{subject.metrics['richness']:.5f}."
    )
