"""Trace how much richness Q leaves room for, and place what the shipped profiles reach beside it.

Curves are of the idealised problem of :mod:`ternvae.frontier`: the radii of each level are chosen
freely, points and training do not exist.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

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
from sweep import Job, Sweep, add_run_options, progress, refuse_bad_run_options

from ternvae.ceilings import ceilings
from ternvae.config import available_profiles, load_profile
from ternvae.frontier import (
    FAMILIES,
    REPORT_CELLS,
    Scores,
    Space,
    best,
    intervals,
    richness_bound,
    scores,
)

__all__ = ["FAMILIES", "Scores", "Space", "curves", "deep_levels", "main", "scores"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """What one run of a profile reached."""

    profile: str
    seed: int
    richness: float
    q: float


# --- idealised levels ----------------------------------------------------------------------


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
    wanted = np.linspace(0.15, 3.3, steps) * richness_bound(space)
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
    bound = richness_bound(space)
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
