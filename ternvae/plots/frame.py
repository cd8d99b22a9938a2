"""What all figures have in common: their size, title and caption, and the colours of levels.

Levels are told apart by lightness alone, which falls from level 0 to level n, so that figures read
in grey and to the colour-blind; viridis is by S. van der Walt and N. Smith.
"""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ternvae.plots.subject import Subject

__all__ = ["FONT", "GREY", "HALO", "INK", "framed", "level_colours", "of_what", "on_top", "plain"]

#: The smallest size of text, in points.
FONT = 8.0

INK, GREY = "#222222", "#767676"

#: Lets a label be read on whatever is below it.
HALO = [withStroke(linewidth=2.5, foreground="white")]

#: The part of viridis in use: beyond the first it is too light to be seen on white.
_LIGHTEST, _DARKEST = 0.86, 0.0

#: Of a longer name of a checkpoint the end is shown.
_LONGEST_NAME = 40

#: Characters of the smallest font in an inch of a caption, on average.
_PER_INCH = 17.0


def level_colours(n_digits: int) -> NDArray[np.float64]:
    """Colours of the levels 0 to n; the many points of level 0 are the lightest.

    Args:
        n_digits: digits n of a sequence, at least 1.

    Returns:
        (n + 1, 4) red, green, blue and opacity, of strictly falling lightness.
    """
    return np.asarray(colormaps["viridis"](np.linspace(_LIGHTEST, _DARKEST, n_digits + 1)))


def of_what(subject: Subject) -> str:
    """Which points are drawn, as the beginning of a caption."""
    n, size = subject.n_digits, 3**subject.n_digits
    which = f"a sample of {len(subject.points):,} of the" if subject.sampled else "all"
    return f"Branch B, {which} {size:,} sequences of {n} digit{'' if n == 1 else 's'}"


def framed(subject: Subject, title: str, caption: str, width: float, height: float) -> Figure:
    """An empty figure with a title above and a caption below.

    Args:
        subject: what it is of; named in the title.
        title: what is shown.
        caption: sentences that say how to read it, and what holds for this subject only.
        width: in inches.
        height: in inches, without the caption, which adds to it.
    """
    lines = textwrap.wrap(caption, int(_PER_INCH * width))
    height += 0.16 * len(lines)
    figure = Figure(figsize=(width, height), layout="constrained")
    # A dollar sign in the name of a folder is no mathematics.
    left = {"x": 0.012, "ha": "left", "parse_math": False}
    name = subject.name
    if len(name) > _LONGEST_NAME:
        name = f"\N{HORIZONTAL ELLIPSIS}{name[1 - _LONGEST_NAME :]}"
    figure.suptitle(f"{title}: {name}", weight="bold", **left)
    figure.supxlabel("\n".join(lines), fontsize=FONT, color=INK, **left)
    figure.set_label(caption)
    return figure


def plain(axes: Axes) -> None:
    """Only the two axes that carry numbers, and a faint grid behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def on_top(axes: Axes) -> None:
    """No frame, ticks or numbers, and both directions to one scale."""
    axes.set_aspect("equal")
    axes.set_axis_off()
