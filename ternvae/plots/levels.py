"""How levels look: one colour each, of falling lightness, so that they stay apart in grey."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

__all__ = ["level_colours"]

#: The part of viridis that is used; beyond it, it is too light to be seen on white.
_LIGHTEST, _DARKEST = 0.82, 0.0


def level_colours(n_digits: int) -> NDArray[np.float64]:
    """Colours of the levels 0 to n: the many points of level 0 are the lightest.

    Args:
        n_digits: digits n of a sequence, at least 1.

    Returns:
        (n + 1, 4) red, green, blue and opacity, of strictly falling lightness.
    """
    return np.asarray(colormaps["viridis"](np.linspace(_LIGHTEST, _DARKEST, n_digits + 1)))
