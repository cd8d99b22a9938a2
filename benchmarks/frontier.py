"""Trace how much richness Q leaves room for, and place what the shipped profiles reach beside it.

Curves are of an idealised problem: the radii of each level are chosen freely, points and training
do not exist.  A level is a distribution on [0, R], its mass held on a grid; rank statistics are
those of all pairs then, by convolution, with values of one grid cell in random order (no ties).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environment import (
    ROOT,
    add_output_option,
    environment,
    environment_markdown,
    integers,
    markdown_table,
    write_results,
)
from frontier_plot import LEAST_LOSS, plot
from numpy.typing import NDArray
from scipy.optimize import minimize
from sweep import Job, Sweep, add_run_options, progress, refuse_bad_run_options

from ternvae.ceilings import ceilings
from ternvae.config import available_profiles, load_profile

__all__ = ["FAMILIES", "Scores", "Space", "curves", "deep_levels", "main", "scores"]

Floats = NDArray[np.float64]

#: Cells of the grid while a curve is searched, and for the figures that are reported.
SEARCH_CELLS, REPORT_CELLS = 1024, 8192


class Space(NamedTuple):
    """n digits, and R, the largest radius in units of the metric."""

    n_digits: int
    radius_max: float

    @property
    def level_sizes(self) -> Floats:
        """Points of the levels v = 0 .. n."""
        n = self.n_digits
        return np.array([2.0 * 3 ** (n - 1 - v) for v in range(n)] + [1.0])


class Scores(NamedTuple):
    """One point of a curve."""

    richness: float
    hierarchy: float
    dist_corr: float
    q: float


@dataclass(frozen=True)
class Point:
    """What one run of a profile reached."""

    profile: str
    seed: int
    richness: float
    q: float


# --- rank statistics of distributions -------------------------------------------------------


def scores(space: Space, mass: Floats, variances: Sequence[float]) -> Scores:
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
    """Mass and variances of levels that fill their intervals uniformly; a width of 0 is a point."""
    edges = np.linspace(0, space.radius_max, cells + 1)
    cell = edges[1]
    thin = np.maximum(width, cell)  # a point fills a cell
    low = np.clip(low, 0, space.radius_max - thin)
    share = np.clip((edges - low[:, None]) / thin[:, None], 0, 1)
    return np.diff(share, axis=1) * space.level_sizes[:, None], width**2 / 12


def deep_levels(space: Space, spread: int, cells: int = REPORT_CELLS) -> Scores:
    """Levels in equal thin shells within 10 % of R, but the deepest half at 0 and half at R.

    Args:
        space: the digits and the largest radius.
        spread: number of levels, from v = n - 1 down, that are put at both ends.
        cells: of the grid.
    """
    n, radius_max = space
    shells = np.linspace(0.9, 1, n + 2)[:-1][::-1] * radius_max
    width = np.full(n + 1, 0.01 * radius_max / n)
    mass, variances = intervals(space, shells, width, cells)
    ends = slice(n - spread, n)
    mass[ends], mass[n] = 0, 0
    mass[ends, 0] = mass[ends, -1] = space.level_sizes[ends] / 2
    mass[n, 0] = 1
    variances[ends], variances[n] = radius_max**2 / 4, 0
    return scores(space, mass, variances)


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
    return weights / weights.sum()


#: How the intervals lie, and the largest width as a share of R for n digits.
FAMILIES: dict[str, tuple[Placing, Callable[[int], float]]] = {
    "equal shells": (_equal, lambda n: 2 / (n + 1)),
    "levels disjoint": (_disjoint, lambda n: 1 / n),
    "levels anywhere": (_anywhere, lambda n: 1.0),
}


def best(space: Space, family: str, richness: float) -> Scores | None:
    """The best Q found when every level but the last has the same uniform spread.

    A local search from two starts, so the curve is reached and may not be the highest.

    Returns:
        The scores; None if the family cannot have so much richness.
    """
    place, widest = FAMILIES[family]
    n = space.n_digits
    width = math.sqrt(12 * richness * (n + 1) / n)
    if width >= widest(n) * space.radius_max:
        return None

    def at(free: Floats, cells: int) -> Scores:
        low = np.append(place(space, width, free)[::-1], 0.0)
        widths = np.append(np.full(n, width), 0.0)
        return scores(space, *intervals(space, low, widths, cells))

    starts = [np.zeros(n), np.linspace(-2, 0, n)]
    found = []
    for start in starts[: 1 if family == "equal shells" else 2]:
        free = start
        for _ in range(0 if family == "equal shells" else 2):
            options = {"maxfev": 1200, "xtol": 1e-3, "ftol": 1e-8}
            free = minimize(
                lambda x: -at(x, SEARCH_CELLS).q, free, method="Powell", options=options
            ).x
        found.append(at(free, REPORT_CELLS))
    return max(found, key=lambda each: each.q)


def horospherical(space: Space, ratio: float, cells: int = REPORT_CELLS) -> Scores:
    """The code of docs/theory.md, section 6: digit k moves a point by ratio^k in its own plane.

    Its distances are ordered as the 3-adic ones wherever ratio^2 < 1/2.
    """
    n, radius_max = space
    index = np.arange(3**n)
    digits = index[:, None] // 3 ** np.arange(n) % 3
    square = (digits != 0) @ ratio ** (2.0 * np.arange(n))
    scale = 2 * math.sinh(radius_max / 2) / math.sqrt(square.max())
    radii = 2 * np.arcsinh(scale * np.sqrt(square) / 2)
    leading = (np.cumsum(digits, axis=1) == 0).sum(axis=1)
    levels = [radii[leading == v] for v in range(n + 1)]
    mass = [np.histogram(r, cells, (0, radius_max * (1 + 1e-12)))[0] for r in levels]
    return scores(space, np.array(mass, dtype=float), [float(r.var()) for r in levels])


def curves(space: Space, steps: int) -> dict[str, list[Scores]]:
    """All curves, each by ascending richness.

    Args:
        space: the digits and the largest radius.
        steps: points of each curve.
    """
    bound = space.radius_max**2 / (16 * space.n_digits * (space.n_digits + 1))
    wanted = np.linspace(0.15, 3.3, steps) * bound
    found = {
        family: [each for richness in wanted if (each := best(space, family, richness))]
        for family in FAMILIES
    }
    ratios = np.sqrt(np.linspace(0.2, 0.5, steps))
    return found | {"horospherical code": [horospherical(space, ratio) for ratio in ratios]}


# --- measured points ------------------------------------------------------------------------


def measure(seeds: Sequence[int], at_a_time: int, folder: Path) -> list[Point]:
    """Train every shipped profile through the command line; runs that fail are left out."""
    jobs = [Job(p, seed, ("--profile", p)) for seed in seeds for p in available_profiles()]
    runs = Sweep(jobs, at_a_time, folder).run()
    return points_of([asdict(run) for run in runs])


def points_of(runs: Sequence[dict[str, Any]]) -> list[Point]:
    """Points of the runs of a sweep that are done."""
    done = [run for run in runs if run["status"] == "done"]
    measured = [run["summary"]["comprehensive_metrics"] for run in done]
    return [
        Point(run["profile"], run["seed"], of_run["richness"], of_run["Q_enhanced"])
        for run, of_run in zip(done, measured, strict=True)
    ]


def shipped_space() -> Space:
    """What the shipped profiles have in common: their digits and their largest radius.

    Raises:
        ValueError: they differ, so that they have no place in one picture.
    """
    models = [(load_profile(p).space.n_digits, load_profile(p).model) for p in available_profiles()]
    spaces = {Space(n, 2 * math.atanh(m.max_radius) / math.sqrt(m.curvature)) for n, m in models}
    if len(spaces) > 1:
        raise ValueError(f"the shipped profiles have several spaces: {spaces}")
    return spaces.pop()


# --- report ---------------------------------------------------------------------------------


def report(
    space: Space,
    found: dict[str, list[Scores]],
    deep: Sequence[Scores],
    points: Sequence[Point],
    where: dict[str, Any],
) -> str:
    """All figures as Markdown."""
    ceiling = ceilings(space.n_digits)["Q_enhanced"]
    header = ("richness", "hierarchy", "dist_corr", "Q", "lost of Q")
    parts = [
        f"# Frontier: richness against Q\n\n{environment_markdown(where)}",
        f"n = {space.n_digits}, R = {space.radius_max:.4f}, ceiling of Q {ceiling:.7f}",
    ]
    for name, curve in found.items():
        parts += [f"## {name}", markdown_table(header, [_row(each, ceiling) for each in curve])]
    rows = [(f"{j}", *_row(each, ceiling)) for j, each in enumerate(deep, start=1)]
    parts += ["## Only the deepest levels spread", markdown_table(("levels", *header), rows)]
    measured = [(p.profile, f"{p.seed}", f"{p.richness:.5f}", f"{p.q:.5f}") for p in points]
    parts += ["## Shipped profiles", markdown_table(("profile", "seed", "richness", "Q"), measured)]
    if above := [p for p in points if _above(p, found["levels anywhere"])]:
        parts.append(f"Above the highest curve: {above}")
    return "\n\n".join(parts) + "\n"


def _row(each: Scores, ceiling: float) -> tuple[str, ...]:
    lost = max(ceiling - each.q, 0.0)
    shown = f"{lost:.1e}" if lost >= LEAST_LOSS else f"< {LEAST_LOSS:.0e}"
    values = (f"{each.hierarchy:.5f}", f"{each.dist_corr:.5f}", f"{each.q:.5f}")
    return (f"{each.richness:.5f}", *values, shown)


def _above(point: Point, curve: Sequence[Scores]) -> bool:
    return any(
        left.richness <= point.richness <= right.richness and point.q > max(left.q, right.q)
        for left, right in pairwise(curve)
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], conflict_handler="resolve"
    )
    add_run_options(parser)
    parser.add_argument("--seeds", type=integers, default="0-1", help="default 0-1")
    parser.add_argument(
        "--sweep", type=Path, metavar="FILE", help="take the runs of this sweep.json, train nothing"
    )
    parser.add_argument("--steps", type=int, default=22, help="points of a curve, %(default)s")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "frontier.svg", help="the SVG")
    add_output_option(parser)
    given = parser.parse_args(arguments)
    refuse_bad_run_options(parser, given)
    if given.steps < 2:
        parser.error(f"--steps must be at least 2, got {given.steps}")
    try:
        given.kept = None if given.sweep is None else json.loads(given.sweep.read_text())["runs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"--sweep: {given.sweep} cannot be read as the results of a sweep: {error!r}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace, train, report.

    Returns:
        0; 1 if a profile was not measured.
    """
    given = _arguments(arguments)
    where, space = environment(arguments), shipped_space()
    if given.kept is not None:
        points = points_of(given.kept)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.runs or Path(temporary)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            points = measure(given.seeds, given.jobs, folder)
    progress("tracing the curves")
    found = curves(space, given.steps)
    deep = [deep_levels(space, spread) for spread in range(1, min(6, space.n_digits) + 1)]
    text = report(space, found, deep, points, where)
    contents = {
        "environment": where,
        "space": space._asdict(),
        "curves": {name: [each._asdict() for each in curve] for name, curve in found.items()},
        "deepest_levels": [each._asdict() for each in deep],
        "points": [asdict(point) for point in points],
    }
    bound = space.radius_max**2 / (16 * space.n_digits * (space.n_digits + 1))
    lines = {name: [(each.richness, each.q) for each in curve] for name, curve in found.items()}
    marks = [(point.profile, point.richness, point.q) for point in points]
    picture = plot(lines, marks, ceilings(space.n_digits)["Q_enhanced"], bound)
    given.plot.write_text(picture, encoding="utf-8")
    print(text)
    for file in [*write_results(given.out, "frontier", contents, text), given.plot]:
        progress(f"Written: {file}")
    return 0 if {p.profile for p in points} == set(available_profiles()) else 1


if __name__ == "__main__":
    sys.exit(main())
