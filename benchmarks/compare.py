"""Compare what is learned with what is constructed: one table over the same space and metrics.

The model of the package, trained by the Trainer; the linear construction and Sarkar's tree; a plain
Euclidean VAE and a geoopt table of points, both trained here.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bounds import as_records, exit_status
from children import progress
from compare_models import Made, train_euclidean, train_table
from compare_report import COLUMNS, check_claims, report
from environment import add_shared_options, environment, pairs, write_results

from ternvae.baselines import LinearUltrametric, PointTable, sarkar
from ternvae.config import Profile, resolve_profile
from ternvae.manifolds import PoincareBall
from ternvae.metrics import CollapsedLevelsWarning, Evaluator, ceilings, sibling_retrieval
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer import Trainer
from ternvae.training.verdict import targets_met

__all__ = ["main"]

#: Share of the largest radius of the linear construction that is stretched, for spread in radii.
STRETCHED = 0.82

#: Ratio of the construction on a horosphere, at which its levels are as wide as the target asks.
WIDE_RATIO = 0.65


def learned(profile: Profile) -> Made:
    """Train in a temporary folder; the best model, as its checkpoint holds it."""
    with tempfile.TemporaryDirectory() as folder:
        plain = resolve_profile(base=profile, overrides={"monitoring.report": False})
        trainer = Trainer(plain, Path(folder) / "run", "cpu")
        started = time.perf_counter()
        result = trainer.fit()
        seconds = time.perf_counter() - started
        if result.checkpoint is None:
            raise RuntimeError(f"training ended without a model: {result.stop_reason}")
        model = TernaryVAE.from_checkpoint(result.checkpoint)
    points = model.embed(torch.arange(model.space.size), "B").double()
    how = (
        f"`ternvae train`, {trainer.progress.epoch} epochs with evaluations and checkpoints; the "
        "best model, and a decoder that has no table"
    )
    return Made(model, points, how, seconds)


def linear(space: TernarySpace, ball: PoincareBall, dim: int, **options: Any) -> Made:
    """The linear construction; its digits are read back by formula."""
    started = time.perf_counter()
    model = LinearUltrametric(space, ball, dim, **options)
    points = model.embed(space.sequences())
    seconds = time.perf_counter() - started
    order = "of all distances is certain" if model.ordered else "of radii alone is certain"
    return Made(
        model, points, f"by formula to radius {model.scale:.3f}; the order {order}", seconds
    )


def tree(space: TernarySpace, ball: PoincareBall, dim: int) -> Made:
    """Sarkar's construction with the longest edge that the ball holds."""
    started = time.perf_counter()
    points = sarkar(space, ball, dim)
    seconds = time.perf_counter() - started
    edge = float(ball.dist0(points[3 ** (space.n_digits - 1)]))
    reach = float(ball.dist0(points).max())
    how = (
        f"farthest leaf at {reach:.2f}, a leaf two edges away at {edge:.2f}; decoded as the nearest"
    )
    return Made(PointTable(ball, points, space), points, f"{how} point", seconds)


def makers(profile: Profile, epochs: int, steps: int) -> list[tuple[str, bool, Callable[[], Made]]]:
    """What is compared: name, whether the order of its distances is claimed, and how it is made."""
    space, chosen = TernarySpace(profile.space.n_digits), profile.model
    ball = PoincareBall(chosen.curvature, chosen.max_radius)
    whole = PoincareBall(chosen.curvature)
    far = STRETCHED * float(ball.hyperbolic_radius_max)
    dim, share = chosen.latent_dim, f"{chosen.max_radius:g}"
    return [
        ("learned", False, lambda: learned(profile)),
        ("linear", True, lambda: linear(space, ball, dim)),
        ("linear in the plane", True, lambda: linear(space, ball, 2)),
        ("linear, stretched", False, lambda: linear(space, ball, dim, scale=far)),
        (
            "linear on a horosphere",
            True,
            lambda: linear(space, ball, dim, ratio=WIDE_RATIO, horosphere=True),
        ),
        ("linear on a horosphere in space", True, lambda: linear(space, ball, 3, horosphere=True)),
        (f"Sarkar within {share}", False, lambda: tree(space, ball, dim)),
        (f"Sarkar in the plane within {share}", False, lambda: tree(space, ball, 2)),
        ("Sarkar", False, lambda: tree(space, whole, dim)),
        ("Sarkar in the plane", False, lambda: tree(space, whole, 2)),
        ("plain Euclidean VAE", False, lambda: train_euclidean(profile, space, epochs)),
        ("geoopt table", False, lambda: train_table(profile, space, ball, steps)),
    ]


def measured(
    name: str, exact: bool, made: Made, evaluator: Evaluator, profile: Profile
) -> dict[str, Any]:
    """The row of one model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CollapsedLevelsWarning)
        metrics = evaluator(made.model)
    tied = any(issubclass(each.category, CollapsedLevelsWarning) for each in caught)
    siblings = sibling_retrieval(made.points, made.model.ball, evaluator.space)
    values = {**metrics, "sibling_retrieval": siblings.share}
    met = targets_met(metrics, profile.targets.model_dump(), n_digits=evaluator.space.n_digits)
    return {
        "name": name,
        "dim": made.points.shape[1],
        "how": made.how,
        "seconds": made.seconds,
        "exact": exact,
        "tied": tied,
        "targets_met": all(met.values()),
        "metrics": {column: _finite(values[column]) for column, _, _ in COLUMNS},
        "ultrametric_error": metrics.standard_errors.get("ultrametric_corr", 1e-9),
        "siblings_exact": siblings.exact,
    }


def _finite(value: float) -> float | None:
    """The value; None for one that is undefined, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def compare(profile: Profile, epochs: int, steps: int) -> list[dict[str, Any]]:
    """Make and measure everything, one after the other."""
    evaluator = Evaluator(TernarySpace(profile.space.n_digits))
    rows = []
    for name, exact, make in makers(profile, epochs, steps):
        progress(name)
        rows.append(measured(name, exact, make(), evaluator, profile))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 if every claim holds, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--profile", default="mathematical_foundation", help="what is trained; default %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all training; default 0")
    parser.add_argument(
        "--epochs", type=int, default=200, help="of the plain VAE, at most; default %(default)s"
    )
    parser.add_argument(
        "--steps", type=int, default=1500, help="of the geoopt table; default %(default)s"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's; default 1")
    add_shared_options(parser, "the profile")
    given = parser.parse_args(arguments)
    for name in ("epochs", "steps", "threads"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(given, name)}")
    try:
        overrides = pairs(given.overrides)
        profile = resolve_profile(given.profile, None, {**overrides, "seed": given.seed})
    except ValueError as error:
        parser.error(str(error))
    if profile.model.latent_dim < 3:
        parser.error(f"model.latent_dim must be at least 3 here, got {profile.model.latent_dim}")
    torch.set_num_threads(given.threads)
    contents = {
        "environment": environment(arguments),
        "profile": profile.name,
        "seed": profile.seed,
        "overrides": overrides,
        "threads": given.threads,
        "epochs": given.epochs,
        "steps": given.steps,
        "n_digits": profile.space.n_digits,
        "targets": profile.targets.model_dump(),
        "ceilings": ceilings(profile.space.n_digits),
        "rows": compare(profile, given.epochs, given.steps),
    }
    claims = check_claims(contents)
    contents["claims"] = as_records(claims)
    text = report(contents, claims)
    print(text)
    for file in write_results(given.out, "compare", contents, text):
        progress(f"Written: {file}")
    return exit_status(claims)


if __name__ == "__main__":
    sys.exit(main())
