"""How much richness Q leaves room for, in an idealised problem: docs/theory.md, section 4.

The radii of each level are chosen freely; points and training do not exist.  A level is a
distribution on [0, R], its mass held on a grid; rank statistics are those of all pairs then, by
convolution, with values of one grid cell in random order (no ties).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = [
    "FAMILIES",
    "REPORT_CELLS",
    "Scores",
    "Space",
    "best",
    "intervals",
    "richness_bound",
    "scores",
    "trace",
]

Floats = NDArray[np.float64]

#: Cells of the grid while a curve is searched, and for the figures that are reported.
SEARCH_CELLS, REPORT_CELLS = 1024, 8192


class Space(NamedTuple):
    """A space of sequences and a ball; holds what it is given, check-free.

    Attributes:
        n_digits: digits n of a sequence.
        radius_max: R, the largest hyperbolic radius, in units of the metric.
    """

    n_digits: int
    radius_max: float

    @property
    def level_sizes(self) -> Floats:
        """Points of the levels v = 0 .. n."""
        n = self.n_digits
        return np.array([2.0 * 3 ** (n - 1 - v) for v in range(n)] + [1.0])


class Scores(NamedTuple):
    """One point of a curve; holds what it is given, check-free.

    Attributes:
        richness: mean variance of the radius within a level, in squared units of the metric.
        hierarchy: Spearman's coefficient of valuation and radius.
        dist_corr: that of the differences of both over all pairs.
        q: dist_corr + 1.5 |hierarchy|.
    """

    richness: float
    hierarchy: float
    dist_corr: float
    q: float


# --- rank statistics of distributions -------------------------------------------------------


def scores(space: Space, mass: Floats, variances: Floats | Sequence[float]) -> Scores:
    """Hierarchy, dist_corr and Q of levels whose radii are spread over a grid.

    Args:
        space: the digits and the largest radius.
        mass: (n + 1, cells) points of each level in each cell of [0, R].
        variances: (n + 1,) variance of the radius in each level.
    """
    hierarchy = -_correlation(mass[::-1])
    cells = mass.shape[1]
    waves = np.fft.rfft(mass, 2 * cells, axis=1)
    gaps = np.zeros((space.n_digits + 1, cells))
    for k in range(space.n_digits + 1):
        crossed = np.fft.irfft((waves[: len(mass) - k] * waves[k:].conj()).sum(0), 2 * cells)
        gaps[k] = crossed[:cells]
        if k:
            gaps[k, 1:] += crossed[:cells:-1]
        else:  # ordered pairs of a level were counted, each point with itself among them
            gaps[0, 0] = (crossed[0] - mass.sum()) / 2
    dist_corr = _correlation(gaps.clip(min=0))
    richness = float(np.mean(variances))
    return Scores(richness, hierarchy, dist_corr, dist_corr + 1.5 * abs(hierarchy))


def _correlation(mass: Floats) -> float:
    """Spearman's coefficient of row and column number, rows tied and columns in random order."""
    of_rows, of_columns = mass.sum(1), mass.sum(0)
    total = of_rows.sum()
    rows, columns = (np.cumsum(each) - (each + total) / 2 for each in (of_rows, of_columns))
    spread = (total**3 - total) / 12 * (rows**2 @ of_rows)
    return float(rows @ mass @ columns) / math.sqrt(spread)


def intervals(space: Space, low: Floats, width: Floats, cells: int) -> tuple[Floats, Floats]:
    """Levels that fill their intervals uniformly; a width of 0 is a point.

    Args:
        space: the digits and the largest radius.
        low: (n + 1,) lower ends, moved so that the intervals lie in [0, R].
        width: (n + 1,) widths.
        cells: of the grid.

    Returns:
        Mass (n + 1, cells) of each level in each cell of [0, R], and (n + 1,) variances.
    """
    edges = np.linspace(0, space.radius_max, cells + 1)
    cell = edges[1]
    thin = np.maximum(width, cell)  # a point fills a cell
    low = np.clip(low, 0, space.radius_max - thin)
    share = np.clip((edges - low[:, None]) / thin[:, None], 0, 1)
    return np.diff(share, axis=1) * space.level_sizes[:, None], width**2 / 12


# --- families of levels ---------------------------------------------------------------------

#: Lower ends of the intervals of the levels n - 1, ..., 0, from their width and n free numbers.
Placing = Callable[[Space, float, Floats], Floats]


def _equal(space: Space, width: float, free: Floats) -> Floats:
    shell = space.radius_max / (space.n_digits + 1)
    return shell * np.arange(1.5, space.n_digits + 1) - width / 2


def _disjoint(space: Space, width: float, free: Floats) -> Floats:
    slack = space.radius_max - space.n_digits * width
    return np.cumsum(_shares(free)) * slack + width * np.arange(space.n_digits)


def _anywhere(space: Space, width: float, free: Floats) -> Floats:
    return np.cumsum(_shares(free)) * (space.radius_max - width)


def _shares(free: Floats) -> Floats:
    weights = np.exp(free - free.max())
    return np.asarray(weights / weights.sum())


#: How the intervals lie, and the largest width as a share of R for n digits.
FAMILIES: dict[str, tuple[Placing, Callable[[int], float]]] = {
    "equal shells": (_equal, lambda n: 2 / (n + 1)),
    "levels disjoint": (_disjoint, lambda n: 1 / n),
    "levels anywhere": (_anywhere, lambda n: 1.0),
}


def best(space: Space, family: str, richness: float) -> Scores | None:
    """The best Q found when every level but the last has the same uniform spread.

    A local search from two starts, so the curve is reached and may not be the highest.

    Args:
        space: the digits and the largest radius.
        family: a key of :data:`FAMILIES`.
        richness: which is wanted, in squared units of the metric; at least 0.

    Returns:
        The scores; None if the family cannot have so much richness.

    Raises:
        ValueError: there is no such family, or no such richness.
    """
    at = _scores_at(space, family, richness)
    if at is None:
        return None
    starts = [np.zeros(space.n_digits), np.linspace(-2, 0, space.n_digits)]
    found = []
    for start in starts[: 1 if family == "equal shells" else 2]:
        free = start
        for _ in range(0 if family == "equal shells" else 2):
            free = _searched(at, SEARCH_CELLS, free, 1200, 1e-3)
        found.append(at(free, REPORT_CELLS))
    return max(found, key=lambda each: each.q)


def trace(space: Space, family: str, wanted: Iterable[float]) -> Iterator[Scores]:
    """A curve of :func:`best`, quickly: one short search for each point, from the one before.

    In steps of a sixth of :func:`richness_bound`, and where more than 1e-6 of Q is lost at nine
    digits, the loss is within a tenth of that of the long search; wider steps do worse.

    Args:
        space: the digits and the largest radius.
        family: a key of :data:`FAMILIES`.
        wanted: richness of its points, ascending; it ends where the family does.

    Raises:
        ValueError: there is no such family, or no such richness.
    """
    free = np.linspace(-2, 0, space.n_digits)
    for richness in wanted:
        at = _scores_at(space, family, richness)
        if at is None:
            return
        if family != "equal shells":
            free = _searched(at, SEARCH_CELLS // 2, free, 400, 1e-2)
        yield at(free, REPORT_CELLS)


def richness_bound(space: Space) -> float:
    """What richness stays below where Q is at its ceiling: Theorem 3 of docs/theory.md.

    Args:
        space: the digits and the largest radius.

    Returns:
        R^2 / (16 n (n + 1)), in squared units of the metric.
    """
    return space.radius_max**2 / (16 * space.n_digits * (space.n_digits + 1))


def _scores_at(
    space: Space, family: str, richness: float
) -> Callable[[Floats, int], Scores] | None:
    """Scores from the free numbers of a family and a number of cells; None if it ends before."""
    if family not in FAMILIES:
        raise ValueError(f"family: got {family!r}, expected one of {', '.join(FAMILIES)}")
    if not 0 <= richness < math.inf:
        raise ValueError(f"richness: got {richness!r}, expected a number from 0")
    place, widest = FAMILIES[family]
    n = space.n_digits
    width = math.sqrt(12 * richness * (n + 1) / n)
    if width >= widest(n) * space.radius_max:
        return None

    def at(free: Floats, cells: int) -> Scores:
        low = np.append(place(space, width, free)[::-1], 0.0)
        widths = np.append(np.full(n, width), 0.0)
        return scores(space, *intervals(space, low, widths, cells))

    return at


def _searched(
    at: Callable[[Floats, int], Scores],
    cells: int,
    start: Floats,
    evaluations: int,
    tolerance: float,
) -> Floats:
    """The free numbers of the best Q that a local search finds."""
    options = {"maxfev": evaluations, "xtol": tolerance, "ftol": 1e-8}
    found = minimize(lambda x: -at(x, cells).q, start, method="Powell", options=options).x
    return np.asarray(found, dtype=np.float64)
