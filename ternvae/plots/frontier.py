"""Richness against Q: what the idealised problem allows, what is asked for, and where this is."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ternvae.frontier import FAMILIES, Space, richness_bound, trace
from ternvae.plots.frame import FONT, GREY, HALO, INK, framed, plain
from ternvae.plots.subject import Subject

__all__ = ["frontier"]

#: Losses of Q below this are drawn as this: the idealised curves resolve not much less.
LEAST_LOSS = 1e-6

#: Points of a curve, and where it begins and ends, in bounds of the richness at the ceiling.
_STEPS, _FIRST, _LAST = 21, 0.1, 3.3

#: Lines that differ in lightness and in dashes, one for each family.
_LINES = (
    ("#b08a00", (0, (1, 1))),
    ("#9c4f7c", (0, (5, 1.5))),
    ("#1d3557", "-"),
)


def frontier(subject: Subject) -> Figure | str:
    """The curves of :mod:`ternvae.frontier`, the targets, and the way of the run.

    Args:
        subject: what is drawn.

    Returns:
        The figure, or why there is none: richness or Q is not a number.
    """
    here = np.array([[subject.metrics["richness"], subject.metrics["Q_enhanced"]]])
    if not np.isfinite(here).all():
        return "richness or Q of the checkpoint is not a number"
    figure = framed(subject, "Richness against Q", _caption(subject), 6.8, 4.6)
    axes = figure.subplots()
    plain(axes)
    space = Space(subject.n_digits, subject.radius_max)
    way = _way(subject)
    bound = richness_bound(space)
    right = max(_LAST * bound, 1.1 * here[0, 0], 1.1 * float(way[:, 0].max(initial=0)))
    _curves(axes, subject, space, right)
    _targets(axes, subject, right)
    axes.axvline(bound, color=GREY, linewidth=1)
    _upright(axes, "most at the ceiling of Q", bound, 0.98)
    _run(axes, subject, way, here[0])
    axes.set_yscale("log")
    axes.set_xlim(0, right)
    low, high = LEAST_LOSS / 2, _loss(subject, np.append(way[:, 1], here[0, 1])).max()
    axes.set_ylim(max(2 * float(high), 1.0), low)
    axes.set_xlabel("richness, squared units of the metric")
    axes.set_ylabel(f"lost of Q: {subject.ceilings['Q_enhanced']:.4f} less Q (log, best above)")
    axes.legend(fontsize=FONT, loc="upper right", framealpha=0.92, edgecolor="none")
    return figure


def _curves(axes: Axes, subject: Subject, space: Space, right: float) -> None:
    wanted = np.linspace(_FIRST, _LAST, _STEPS) * richness_bound(space)
    for family, (colour, dashes) in zip(FAMILIES, _LINES, strict=True):
        found = list(trace(space, family, wanted[wanted <= right].tolist()))
        richness = [each.richness for each in found]
        lost = _loss(subject, np.array([each.q for each in found]))
        axes.plot(richness, lost, color=colour, linestyle=dashes, linewidth=1.8, label=family)


def _targets(axes: Axes, subject: Subject, right: float) -> None:
    """Lines where the targets are, and the corner in which both are met."""
    richness, q = subject.targets.get("richness"), subject.targets.get("Q_enhanced")
    if richness is not None:
        axes.axvline(richness, color=INK, linestyle="--", linewidth=1)
        _upright(axes, f"target {richness:g}", richness, 0.02)
    lost = None if q is None else subject.ceilings["Q_enhanced"] - q
    if lost is not None and lost > LEAST_LOSS:
        axes.axhline(lost, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            f"target of Q: {q:g}",
            (0.005, lost),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            va="top",
            fontsize=FONT,
            path_effects=HALO,
        )
        if richness is not None:
            corner = np.array([LEAST_LOSS / 10, lost])
            axes.fill_betweenx(corner, richness, right, color="#2a9d8f", alpha=0.10, linewidth=0)


def _run(axes: Axes, subject: Subject, way: NDArray[np.float64], here: NDArray[np.float64]) -> None:
    if len(way) > 1:
        lost = _loss(subject, way[:, 1])
        axes.plot(
            *(way[:, 0], lost, ".-"),
            color=GREY,
            linewidth=0.7,
            markersize=4,
            zorder=3,
            label="the run, epoch by epoch",
        )
        axes.annotate(
            f"epoch {int(way[0, 2])}",
            (way[0, 0], lost[0]),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=FONT,
            path_effects=HALO,
        )
    axes.plot(
        here[0],
        _loss(subject, here[1:])[0],
        "*",
        color="#d62828",
        markeredgecolor=INK,
        markersize=13,
        zorder=6,
        linestyle="none",
        label="this checkpoint",
    )


def _upright(axes: Axes, text: str, x: float, height: float) -> None:
    """A label along a vertical line, at its foot or head."""
    axes.annotate(
        text,
        (x, height),
        xycoords=("data", "axes fraction"),
        xytext=(-2, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom" if height < 0.5 else "top",
        fontsize=FONT,
        path_effects=HALO,
    )


def _loss(subject: Subject, q: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(subject.ceilings["Q_enhanced"] - q, LEAST_LOSS)


def _way(subject: Subject) -> NDArray[np.float64]:
    """Richness, Q and epoch of the evaluated epochs that have them, in order."""
    names = ("richness", "Q_enhanced", "epoch")
    rows = [[entry.get(name) for name in names] for entry in subject.history]
    kept = [row for row in rows if all(_number(value) for value in row)]
    return np.array(kept, dtype=np.float64).reshape(-1, 3)


def _number(value: object) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]


def _caption(subject: Subject) -> str:
    both = {"richness", "Q_enhanced"} <= subject.targets.keys()
    corner = "; the tinted corner meets both targets" if both else ""
    return (
        "Curves: the best Q found for radii that are chosen freely, every level but the last "
        f"spread evenly and alike; losses below {LEAST_LOSS:g} are drawn as that. A model that "
        "spreads some levels more can lie above them. The grey line is the richness that no "
        f"embedding with Q at its ceiling reaches{corner}. This checkpoint: richness "
        f"{subject.metrics['richness']:.5f}, Q {subject.metrics['Q_enhanced']:.4f}."
    )
