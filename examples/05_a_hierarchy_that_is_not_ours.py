"""Embed a hierarchy that has nothing to do with 3-adic numbers: the classes of sympy.

python examples/05_a_hierarchy_that_is_not_ours.py           (20 seconds; writes sympy_classes.png)
python examples/05_a_hierarchy_that_is_not_ours.py compare   (3 to 5 minutes: geoopt, too)

Expressions, functions, sets, matrices: sympy, which torch brings along, sorts the objects of
mathematics into some hundred classes, each below those that it inherits from, up to 8 deep. The
points are learned as in Nickel and Kiela, "Poincare Embeddings for Learning Hierarchical
Representations" (NIPS 2017), equation (6): a class u and an ancestor v of it, any number of steps
above, shall be nearer than u and what is no ancestor of u. That sum runs over a sample there; so
few classes allow all of it. Nothing here but `ternvae.manifolds`: no `padic`, no `models`.
What `compare` prints, and what it means, is in examples/README.md.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import geoopt
import sympy
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ternvae import manifolds

LIBRARIES = {
    "ternvae": (manifolds.PoincareBall, manifolds.RiemannianAdam),
    "geoopt": (geoopt.PoincareBall, geoopt.optim.RiemannianAdam),
}
#: By dimension: for both libraries the best of 0.03, 0.1 and 0.3 (in the plane 0.1, 0.3 and 1).
LEARNING_RATES = {2: 0.3, 5: 0.1}
#: What is told apart in the picture, the first that fits.
KINDS = {
    sympy.MatrixExpr: "matrices",
    sympy.Function: "functions",
    sympy.Set: "sets",
    sympy.logic.boolalg.Boolean: "logic",
    sympy.Expr: "other expressions",
    sympy.Basic: "others",
}


def sympy_classes(root: type) -> tuple[list[type], Tensor]:
    """The public classes of sympy below one, and who is above whom: [u, v] if v is an ancestor."""
    public = [getattr(sympy, name) for name in dir(sympy)]
    public = [each for each in public if isinstance(each, type) and issubclass(each, root)]
    found = {above for each in public for above in each.__mro__ if issubclass(above, root)}
    classes = sorted(found, key=lambda each: (each.__name__, each.__module__))
    above = [[u is not v and issubclass(u, v) for v in classes] for u in classes]
    return classes, torch.tensor(above)


def embed(above: Tensor, library: str, dim: int, steps: int, seed: int) -> Tensor:
    """Learn a point for every class, (classes, dim)."""
    ball, optimizer_class = LIBRARIES[library][0](), LIBRARIES[library][1]
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(len(above), dim, generator=generator, dtype=torch.float64)
    points = manifolds.ManifoldParameter((2 * start - 1) * 1e-3, manifold=ball)
    rate = LEARNING_RATES.get(dim, 0.1)
    optimizer = optimizer_class([points], lr=rate)
    u, v = above.nonzero().T
    excluded = above | torch.eye(len(above), dtype=torch.bool)
    for step in range(steps):
        # As in the paper, a tenth of the steps burns in at a tenth of the rate.
        burning_in = step < steps / 10
        optimizer.param_groups[0]["lr"] = rate * (0.1 if burning_in else (1 - step / steps) / 0.9)
        distances = ball.dist(points[:, None], points)
        others = (-distances).masked_fill(excluded, -torch.inf).logsumexp(1)
        loss = F.softplus(others[u] + distances[u, v]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return points.detach()


def score(points: Tensor, above: Tensor) -> tuple[float, float]:
    """Reconstruction as in section 4.1 of the paper: mean average precision and mean rank.

    For every u that has ancestors, all other classes are sorted by their distance to u. Averaged
    over u: the precision at each ancestor, averaged over the ancestors. Averaged over all (u, v):
    1 + the number of classes nearer to u than its ancestor v that are no ancestors of u.
    """
    distances = manifolds.PoincareBall().pairwise_dist(points, points).fill_diagonal_(torch.inf)
    hits = above.gather(1, distances.argsort(1)).double()
    found, place = hits.cumsum(1), torch.arange(1, len(points) + 1)
    precision = (hits * found / place).sum(1) / hits.sum(1)
    rank = ((place - found + 1) * hits).sum() / hits.sum()
    return float(precision[above.any(1)].mean()), float(rank)


def run(
    quiet: bool = False,
    folder: str | Path = ".",
    libraries: Sequence[str] = ("ternvae",),
    seeds: Sequence[int] = (0,),
    steps: int = 800,
    root: type = sympy.Basic,
) -> dict[tuple[str, int, int], tuple[float, float]]:
    """Embed in 2 and 5 dimensions, score, and draw the plane; returns the scores.

    Args:
        quiet: say nothing.
        folder: where sympy_classes.png is written.
        libraries: of :data:`LIBRARIES`; all run the same lines, and are scored with one distance.
        seeds: of the points at the start.
        steps: of the optimizer.
        root: the class to begin below.
    """
    say = (lambda *_: None) if quiet else print
    classes, above = sympy_classes(root)
    say(f"{len(classes)} classes of sympy {sympy.__version__}, {int(above.sum())} pairs")
    scores = {}
    for dim in (2, 5):
        for library in libraries:
            for seed in seeds:
                began = time.process_time()
                points = embed(above, library, dim, steps, seed)
                seconds = time.process_time() - began
                radii = manifolds.PoincareBall().dist0(points)
                scores[library, dim, seed] = precision, rank = score(points, above)
                say(
                    f"{dim} dimensions, {library:8} seed {seed}: mean average precision "
                    f"{precision:.4f}, mean rank {rank:.3f}, median distance from the origin "
                    f"{radii.median():.1f}, {seconds:.1f} s of processor time"
                )
                if (dim, library, seed) == (2, libraries[0], seeds[0]):
                    draw(points, classes, Path(folder) / "sympy_classes.png")
    return scores


def draw(points: Tensor, classes: list[type], file: Path) -> None:
    """The hyperbolic plane: directions are those of the disk, radii the hyperbolic distances.

    On the disk itself, nearly all points would be at the rim.  Lines are geodesics to parents.
    """
    ball = manifolds.PoincareBall()

    def flat(x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * ball.dist0(x)[..., None]

    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots()
    steps = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
    for k, each in enumerate(classes):
        for parent in (classes.index(base) for base in each.__bases__ if base in classes):
            line = flat(ball.geodesic(steps, points[k], points[parent]))
            axes.plot(*line.T, color="0.8", linewidth=0.5, zorder=1)
    left = dict(zip(classes, flat(points).tolist(), strict=True))
    for (kind, title), marker in zip(KINDS.items(), "o^sDX.", strict=True):
        members = [left.pop(each) for each in classes if each in left and issubclass(each, kind)]
        if members:
            axes.scatter(*zip(*members, strict=True), s=16, marker=marker, label=title)
    for each, place in zip(classes, flat(points).tolist(), strict=True):
        if sum(each in other.__bases__ for other in classes) >= 6:
            axes.annotate(each.__name__, place, fontsize=8)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.05), ncols=6, frameon=False)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    compare = sys.argv[1:] == ["compare"]
    run(libraries=tuple(LIBRARIES)[: 2 if compare else 1], seeds=range(3 if compare else 1))
