"""The hyperbolic radius, level by level."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ternvae.plots.levels import level_colours
from ternvae.plots.subject import Subject

__all__ = ["radii"]


def radii(subject: Subject) -> Figure:
    """Bands of the hyperbolic radius of each level."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for level, colour in enumerate(level_colours(subject.n_digits)):
        r = subject.radius[subject.valuation == level]
        axes.plot([level, level], [r.min(), r.max()], color=colour)
        axes.plot([level], [np.average(r)], "o", color=colour)
    axes.set_xlabel("valuation (level)")
    axes.set_ylabel("hyperbolic radius")
    figure.suptitle(f"Hyperbolic radius by level: {subject.name}")
    figure.set_label("Hyperbolic radius by level.")
    return figure
