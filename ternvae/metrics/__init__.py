"""What is measured: coverage, hierarchy, richness, distance structure, and how high each can go.

Everything is computed on posterior means (no sampling, dropout off) in float64, so a model has
one score.  Statistics over the whole space are exact.  Statistics over pairs and triples are exact
while all pairs fit in the pair budget and otherwise use a fixed seeded sample, which the result
names in its ``sampling`` attribute.

With n digits there are N = 3**n sequences, v is the 3-adic valuation (v(0) = n), r the hyperbolic
distance of a point from the origin of the ball, d the hyperbolic distance and d3 the 3-adic one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import Tensor

from ternvae.ceilings import ceilings
from ternvae.metrics.arguments import (
    check_branch,
    check_model,
    check_points,
    check_space,
    columns,
    positive,
    refuse,
)
from ternvae.metrics.statistics import level_moments as _level_moments
from ternvae.metrics.statistics import pearson as _pearson
from ternvae.metrics.statistics import richness
from ternvae.metrics.statistics import tied_share as _tied_share
from ternvae.padic import TernarySpace, partners_at_valuation
from ternvae.padic.arguments import whole_number

__all__ = [
    "CollapsedLevelsWarning",
    "EmbeddingModel",
    "Evaluator",
    "Metrics",
    "ceilings",
    "collapse_excess",
    "evaluate",
    "evaluation_bytes",
    "metric_names",
    "richness",
    "spearman",
]

#: Pairs drawn for sampled statistics.  The standard error of a rank correlation over M
#: pairs is about 1/sqrt(M) far from its ceiling, at worst 1.35/sqrt(M) for contrived dependences,
#: and a fraction of that near the ceiling; that of a share over M triples is at most
#: 1/(2 sqrt(M)), so a quarter as many triples do.  All are below 0.002.
SAMPLE_SIZE = 2**19
SAMPLE_SEED = 20_260_110

#: Rows embedded at a time; bounds the memory of the hidden layers, not the result.
ROWS_PER_CHUNK = 8192

#: A hierarchy this far above its tie-free ceiling can only come from radii tied inside a level.
COLLAPSE_TOLERANCE = 1e-4


class CollapsedLevelsWarning(UserWarning):
    """Radii are tied inside a level, so the hierarchy score exceeds what distinct radii allow."""


class EmbeddingModel(Protocol):
    """What :func:`evaluate` needs; any embedding with these three can be scored.

    Their answers are looked at where they are used: shapes and dtypes that do not fit raise
    ``ValueError``, points that are not finite or outside the ball score NaN and are told of by
    ``points_valid``.
    """

    @property
    def ball(self) -> Any:
        """Poincare ball with ``dist`` and ``dist0``."""

    def embed(self, sequences_or_indices: Tensor, branch: str = "B") -> Tensor:
        """Return points of the ball, (batch, latent_dim)."""

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        """Return sequences in {-1, 0, 1}, (batch, n_digits)."""


class Metrics(dict[str, float]):
    """Metric names to values, plus ``sampling``: how pairs and triples were chosen.

    Holds what it is given, check-free.
    """

    def __init__(self, values: dict[str, float], sampling: dict[str, int | bool]) -> None:
        super().__init__(values)
        self.sampling = sampling


def metric_names(n_digits: int) -> tuple[str, ...]:
    """Names of all metrics for a space of ``n_digits`` digits, in the order of reports.

    Raises:
        ValueError: ``n_digits`` is not an integer from 1 to 20.
    """
    n_digits = TernarySpace(n_digits).n_digits
    return (
        "coverage",
        "coverage_B",
        "hierarchy_A",
        "hierarchy_B",
        "richness",
        "dist_corr",
        "Q_enhanced",
        "ultrametric_corr",
        "triplet_accuracy",
        *(f"r_v{v}" for v in range(n_digits + 1)),
    )


# --- rank correlation -----------------------------------------------------------------------


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation with midranks for ties; NaN when either side is constant.

    Args:
        x: (M,) numbers, M >= 1; an infinite one ranks first or last.
        y: (M,) numbers.

    Raises:
        TypeError: what is given is not an array of real numbers.
        ValueError: shapes that are not one-dimensional, empty or not equal; NaN, which has no rank;
            or a tensor of a device that numpy cannot read.
    """
    first, second = columns(x=x, y=y)
    for name, column in (("x", first), ("y", second)):
        refuse(column, np.isnan(column), name, "numbers with a rank; drop the pair")
    return _pearson(rankdata(first), rankdata(second))


def collapse_excess(hierarchy: float, n_digits: int) -> float:
    """How far ``hierarchy`` lies beyond its tie-free ceiling, or 0.0.

    More than ``COLLAPSE_TOLERANCE`` means that radii are tied inside a level: the level has
    collapsed, which the rank correlation rewards and :func:`evaluate` warns about.

    Args:
        hierarchy: a rank correlation, in [-1, 1]; an undefined one, NaN, has no excess.
        n_digits: number of ternary digits n, 1 to 20.

    Raises:
        TypeError: ``hierarchy`` is not a real number.
        ValueError: ``hierarchy`` is no correlation, or ``n_digits`` not an integer from 1 to 20.
    """
    if isinstance(hierarchy, bool) or not isinstance(hierarchy, int | float | np.floating):
        raise TypeError(f"hierarchy: got {hierarchy!r}, expected a rank correlation in [-1, 1]")
    if abs(hierarchy) > 1 + 1e-9:  # what rounding may add
        raise ValueError(f"hierarchy: got {hierarchy!r}, expected a rank correlation in [-1, 1]")
    excess = abs(hierarchy) - abs(ceilings(n_digits)["hierarchy"])
    return excess if excess > COLLAPSE_TOLERANCE else 0.0


def _hierarchy(valuation: NDArray[np.int64], radius: NDArray[np.float64]) -> float:
    """Their rank correlation; NaN if a point is not a number, which has no rank."""
    return math.nan if bool(np.isnan(radius).any()) else spearman(valuation, radius)


def _all_within(radius: NDArray[np.float64], ball: Any) -> float:
    """1.0 if every radius is finite and inside ``max_radius``, else 0.0."""
    return float((radius <= ball.hyperbolic_radius_max.item()).all())


# --- the evaluator --------------------------------------------------------------------------


class Evaluator:
    """Scores models over one space; keeps the fixed pairs, triples and their 3-adic ranks.

    Args:
        space: the space of sequences.
        sample_size: pairs to draw, four for each triple; with at most this many pairs in all,
            every pair is used instead.
        sample_seed: seed of the draw, 0 to 2^63 - 1.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`.
        ValueError: ``sample_size`` is not a positive integer, or ``sample_seed`` out of range.
    """

    def __init__(
        self,
        space: TernarySpace,
        *,
        sample_size: int = SAMPLE_SIZE,
        sample_seed: int = SAMPLE_SEED,
    ) -> None:
        check_space(space)
        sample_size = positive(sample_size, "sample_size", f"{SAMPLE_SIZE} is the default")
        sample_seed = whole_number(
            sample_seed, name="sample_seed", low=0, high=2**63 - 1, remedy="try sample_seed=0"
        )
        self.space = space
        generator = torch.Generator().manual_seed(sample_seed)
        pair_count = space.size * (space.size - 1) // 2
        self._pairs_exact = pair_count <= sample_size
        self._first, self._second = (
            _all_pairs(space.size)
            if self._pairs_exact
            else _sampled_pairs(space.size, sample_size, generator)
        )
        self._triples = _sampled_triples(space, -(-sample_size // 4), generator)
        self._valuation = space.valuation(torch.arange(space.size))
        gap = (self._valuation[self._first] - self._valuation[self._second]).abs()
        self._gap_ranks = rankdata(gap.numpy())
        self._padic_ranks = rankdata(space.distance(self._first, self._second).numpy())
        self.sampling: dict[str, int | bool] = {
            "pairs": len(self._first),
            "pairs_exact": self._pairs_exact,
            "triples": 0 if self._triples is None else len(self._triples[0]),
            "seed": sample_seed,
        }

    def __call__(self, model: EmbeddingModel) -> Metrics:
        """Return all metrics of ``model``; see :func:`evaluate`, also for what it raises."""
        check_model(model)
        values = {**self.branch_a(model), **self.branch_b(model)}
        ordered = {name: values[name] for name in metric_names(self.space.n_digits)}
        return Metrics(ordered, dict(self.sampling))

    @torch.no_grad()
    def branch_a(self, model: EmbeddingModel) -> dict[str, float]:
        """The metrics that depend on branch A alone; they stand still while it is frozen.

        Beside them ``richness_A``, ``r_v0_A`` and ``r_vn_A``: richness and the mean radii of the
        first and the last level, which are no metrics of the model but say how A lies in the ball;
        and ``points_valid_A``, 1 if every point is finite and inside ``max_radius``, else 0.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: it is of another space, or its answers have other shapes or dtypes.
        """
        check_model(model)
        radius = _to_numpy(model.ball.dist0(self.embed(model, "A")))
        valuation = self._valuation.numpy()
        mean, variance = _level_moments(radius, valuation, self.space.n_digits)
        return {
            "coverage": self.coverage(model, "A"),
            "hierarchy_A": _hierarchy(valuation, radius),
            "richness_A": float(variance.mean()),
            "r_v0_A": float(mean[0]),
            "r_vn_A": float(mean[-1]),
            "points_valid_A": _all_within(radius, model.ball),
        }

    @torch.no_grad()
    def branch_b(self, model: EmbeddingModel) -> dict[str, float]:
        """The metrics of branch B; warns of levels that have collapsed.

        Beside them two signs of trouble: ``tied_share``, the share of points whose radius equals
        another's of the same level, and ``limit_share``, the share whose radius is within
        0.1 % of the largest that ``max_radius`` allows; and ``points_valid``, 1 if every point is
        finite and inside ``max_radius``, else 0.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: it is of another space, or its answers have other shapes or dtypes.
        """
        check_model(model)
        ball = model.ball
        points = self.embed(model, "B")
        radius = _to_numpy(ball.dist0(points))
        valuation = self._valuation.numpy()
        level_mean, level_variance = _level_moments(radius, valuation, self.space.n_digits)
        hierarchy = _hierarchy(valuation, radius)
        dist_corr = self._dist_corr(radius)
        self._warn_of_collapse(hierarchy)
        return {
            "coverage_B": self.coverage(model, "B"),
            "hierarchy_B": hierarchy,
            "richness": float(level_variance.mean()),
            "dist_corr": dist_corr,
            "Q_enhanced": dist_corr + 1.5 * abs(hierarchy),
            "ultrametric_corr": self._ultrametric_corr(ball, points),
            "triplet_accuracy": self._triplet_accuracy(ball, points),
            **{f"r_v{v}": float(mean) for v, mean in enumerate(level_mean)},
            "tied_share": _tied_share(radius, valuation),
            "limit_share": float((radius >= 0.999 * ball.hyperbolic_radius_max.item()).mean()),
            "points_valid": _all_within(radius, ball),
        }

    def _warn_of_collapse(self, hierarchy: float) -> None:
        excess = collapse_excess(hierarchy, self.space.n_digits)
        if excess:
            warnings.warn(
                f"hierarchy_B = {hierarchy:.7f} lies {excess:.1e} beyond the ceiling "
                "of distinct radii: radii are tied inside a level (collapse), raise the weight of "
                "richness",
                CollapsedLevelsWarning,
                stacklevel=4,
            )

    def embed(self, model: EmbeddingModel, branch: str) -> Tensor:
        """Points of the whole space, (N, latent_dim) in float64, on the model's device.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: an unknown branch, or points of another shape or dtype.
        """
        check_model(model)
        check_branch(branch)
        return torch.cat([self._points(model, rows, branch).double() for rows in self._chunks()])

    def coverage(self, model: EmbeddingModel, branch: str) -> float:
        """Share of all N sequences that survive encode, ball, decode with every digit right.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: an unknown branch, points of another shape or dtype, or sequences of another
                number of digits.
        """
        check_model(model)
        check_branch(branch)
        right = 0
        for rows in self._chunks():
            decoded = model.decode(self._points(model, rows, branch), branch)
            wanted = self.space.sequences(rows).to(decoded.device)
            if decoded.shape != wanted.shape:
                raise ValueError(
                    f"space: has n_digits={self.space.n_digits}, but the model decodes "
                    f"{decoded.shape[-1]} digits; pass the space that the model was made for"
                )
            right += int((decoded == wanted).all(-1).sum())
        return right / self.space.size

    @staticmethod
    def _points(model: EmbeddingModel, rows: Tensor, branch: str) -> Tensor:
        return check_points(model.embed(rows, branch), len(rows))

    def _chunks(self) -> Iterator[Tensor]:
        return self.space.batches(min(ROWS_PER_CHUNK, self.space.size))

    def _dist_corr(self, radius: NDArray[np.float64]) -> float:
        with np.errstate(invalid="ignore"):
            gap = np.abs(radius[self._first.numpy()] - radius[self._second.numpy()])
        return _pearson(rankdata(gap), self._gap_ranks)

    def _ultrametric_corr(self, ball: Any, points: Tensor) -> float:
        distance = ball.dist(points[self._first], points[self._second])
        return _pearson(rankdata(_to_numpy(distance)), self._padic_ranks)

    def _triplet_accuracy(self, ball: Any, points: Tensor) -> float:
        if self._triples is None:
            return math.nan
        anchor, near, far = (points[column] for column in self._triples)
        return float((ball.dist(anchor, near) < ball.dist(anchor, far)).double().mean())


def evaluate(model: EmbeddingModel, space: TernarySpace) -> Metrics:
    """Score a model over the whole space.

    Args:
        model: anything with ``embed``, ``decode`` and ``ball``, for instance
            :class:`ternvae.models.TernaryVAE`.
        space: the space of sequences that the model was made for.

    Returns:
        A dict with exactly the names of :func:`metric_names`; its ``sampling`` attribute names
        the sample behind the pair and triple statistics.  All points are held in memory:
        N * latent_dim float64 values per branch.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`, or ``model`` lacks ``ball``, ``embed``
            or ``decode``.
        ValueError: the model is of another space, or its answers have other shapes or dtypes.

    Warns:
        CollapsedLevelsWarning: radii are tied inside a level.
    """
    check_model(model)
    return Evaluator(space)(model)


def evaluation_bytes(space: TernarySpace, latent_dim: int) -> int:
    """About how much memory :func:`evaluate` takes at its peak, beyond the model and its sample.

    The points of one branch are held twice while their chunks are joined, in float64; a few
    numbers per sequence come to it.

    Args:
        space: the space of sequences.
        latent_dim: dimension of the ball.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`.
        ValueError: ``latent_dim`` is not a positive integer.
    """
    check_space(space)
    latent_dim = positive(latent_dim, "latent_dim", "16 is the default of the model")
    return space.size * (2 * 8 * latent_dim + 64)


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return array


def _all_pairs(size: int) -> tuple[Tensor, Tensor]:
    first, second = torch.triu_indices(size, size, offset=1)
    return first, second


def _sampled_pairs(size: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform over unordered pairs: a uniform first index and a uniform non-zero offset."""
    first = torch.randint(size, (count,), generator=generator)
    offset = torch.randint(1, size, (count,), generator=generator)
    return first, (first + offset) % size


def _sampled_triples(
    space: TernarySpace, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Anchor, 3-adically nearer and farther index; None for n = 1, where no triple qualifies.

    The two valuations are uniform over the pairs of distinct levels 0..n-1, the anchor is uniform
    over the space and each partner uniform over the indices at its valuation from the anchor.
    """
    n = space.n_digits
    if n == 1:
        return None
    low = torch.randint(n, (count,), generator=generator)
    high = (low + torch.randint(1, n, (count,), generator=generator)) % n
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    anchor = torch.randint(space.size, (count,), generator=generator)
    near = partners_at_valuation(anchor, high, n_digits=n, generator=generator)
    far = partners_at_valuation(anchor, low, n_digits=n, generator=generator)
    return anchor, near, far
