"""Straight lines and translations of the Poincare ball, drawn.

python examples/02_geodesics_and_moebius_addition.py  (2 seconds; writes geodesics.png here)

Moebius addition from the left moves the whole ball and changes no distance, although the picture
of a triangle shrinks towards the rim. It does not commute, and the gyration says by how much.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from ternvae.manifolds import PoincareBall


def run(quiet: bool = False, folder: str | Path = ".") -> dict[str, object]:
    """Measure and draw a triangle before and after; returns the sides and the file."""
    say = (lambda *_: None) if quiet else print
    ball = PoincareBall(c=1.0)
    corners = torch.tensor([[0.0, 0.6], [-0.5, -0.3], [0.5, -0.3]], dtype=torch.float64)
    shift = torch.tensor([0.55, 0.35], dtype=torch.float64)
    moved = ball.mobius_add(shift, corners)

    sides = {}
    for name, triangle in (("before", corners), ("after", moved)):
        sides[name] = ball.dist(triangle, triangle.roll(-1, dims=0))
        say(f"sides {name}:", *(f"{side:.12f}" for side in sides[name]))

    # a + b and b + a differ by a rotation, gyr[a, b]; both are as far from the origin.
    a, b = corners[0], shift
    left, right = ball.mobius_add(a, b), ball.mobius_add(b, a)
    say(f"a + b = {left.tolist()}, b + a = {right.tolist()}")
    turned = ball.gyration(a, b, right)
    say(f"|a + b - gyr[a, b](b + a)| = {(left - turned).norm():.1e}")

    # The middle of a geodesic is nearer to the origin than the middle of the straight line.
    middle = ball.geodesic(0.5, corners[1], corners[2])
    say(f"middle of the lower side: {middle.tolist()}")

    file = Path(folder) / "geodesics.png"
    draw(ball, {"a triangle": corners, "the same, moved by a + x": moved}, file)
    say(f"drawn: {file}")
    return {"sides": sides, "commutator": left - right, "gyrated": left - turned, "file": file}


def draw(ball: PoincareBall, triangles: dict[str, Tensor], file: Path) -> None:
    """Triangles with geodesic sides in the unit disk."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes: Axes = figure.subplots()
    axes.add_patch(Circle((0, 0), 1, fill=False))
    steps = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None]
    for (label, corners), colour in zip(triangles.items(), ("C0", "C1"), strict=True):
        for start, end in zip(corners, corners.roll(-1, dims=0), strict=True):
            axes.plot(*ball.geodesic(steps, start, end).T, color=colour)
        axes.plot(*corners.T, "o", color=colour, label=label)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    run()
