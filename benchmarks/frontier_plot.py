"""A small picture of the frontier, written as SVG by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["LEAST_LOSS", "plot"]

#: Losses of Q below this are drawn and shown as this: the grid does not resolve much less.
LEAST_LOSS = 1e-6

COLOURS = ("#1b6ca8", "#c1440e", "#2e7d32", "#7b3fa0")
SHAPES = ("circle", "square", "diamond", "triangle")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 470, 70, 20, 20, 50
#: Left end of the legend, which stands where no curve comes: far to the right, near the ceiling.
LEGEND = 540


def plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    points: Sequence[tuple[str, float, float]],
    ceiling: float,
    bound: float,
) -> str:
    """The curves and points as SVG: richness to the right, what is lost of Q downwards (log).

    Args:
        curves: (richness, Q) along each curve, at most four.
        points: profile, richness and Q of each run, of at most four profiles.
        ceiling: of Q.
        bound: of richness where Q is at its ceiling.
    """
    profiles = sorted({profile for profile, _, _ in points})
    top = 1.05 * max([r for curve in curves.values() for r, _ in curve] + [r for _, r, _ in points])
    decades = range(round(math.log10(LEAST_LOSS)), 1)

    def x(richness: float) -> float:
        return LEFT + richness / top * (WIDTH - LEFT - RIGHT)

    def y(q: float) -> float:
        depth = math.log10(max(ceiling - q, LEAST_LOSS)) - decades[0]
        return TOP + depth / (len(decades) - 1) * (HEIGHT - TOP - BOTTOM)

    def text(at: float, down: float, label: str, anchor: str = "start") -> str:
        return f'<text x="{at:.1f}" y="{down:.1f}" text-anchor="{anchor}">{label}</text>'

    def line(x1: float, y1: float, x2: float, y2: float, style: str = 'stroke="#ddd"') -> str:
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'

    def parts() -> Iterator[str]:
        yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        for decade in decades:
            at = y(ceiling - 10.0**decade)
            yield line(LEFT, at, WIDTH - RIGHT, at)
            yield text(LEFT - 6, at + 4, f"1e{decade}", "end")
        for tick in (0.005 * count for count in range(int(top / 0.005) + 1)):
            yield line(x(tick), TOP, x(tick), HEIGHT - BOTTOM)
            yield text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", "middle")
        yield line(x(bound), TOP, x(bound), HEIGHT - BOTTOM, style='stroke="#888" stroke-width="2"')
        yield text(LEFT + 250, HEIGHT - 10, "richness (vertical: most at the ceiling of Q)")
        yield text(8, TOP - 6, "ceiling of Q less Q (downwards: worse)")
        legend = TOP
        for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
            path = " ".join(f"{x(richness):.1f},{y(q):.1f}" for richness, q in curve)
            stroke = f'stroke="{colour}" stroke-width="2"'
            yield f'<polyline points="{path}" fill="none" {stroke}/>'
            legend += 16
            yield line(LEGEND, legend - 4, LEGEND + 20, legend - 4, style=stroke)
            yield text(LEGEND + 26, legend, name)
        for shape, profile in zip(SHAPES, profiles, strict=False):
            legend += 16
            yield marker(shape, LEGEND + 10, legend - 4)
            yield text(LEGEND + 26, legend, profile)
            yield from (marker(shape, x(r), y(q)) for name, r, q in points if name == profile)

    body = "\n".join(parts())
    head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg {head} font-family="sans-serif" font-size="12">\n{body}\n</svg>\n'


def marker(shape: str, x: float, y: float) -> str:
    """A small black outline about (x, y)."""
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="black"/>'
    corners = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "diamond": [(0, -5), (5, 0), (0, 5), (-5, 0)],
        "triangle": [(0, -5), (5, 4), (-5, 4)],
    }[shape]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{path}" fill="none" stroke="black"/>'
