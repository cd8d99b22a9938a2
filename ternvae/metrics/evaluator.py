"""The evaluator: one space, its fixed samples, and the figures of any model over them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae.metrics.arguments import (
    check_branch,
    check_callback,
    check_model,
    check_share,
    check_space,
    positive,
)
from ternvae.metrics.levels import Levels, largest_errors
from ternvae.metrics.pairs import Pairs, Triples
from ternvae.metrics.results import (
    ERROR_PREFIX,
    CollapsedLevelsWarning,
    EmbeddingModel,
    Metrics,
    RadialBall,
    collapse_excess,
    metric_names,
)
from ternvae.metrics.rows import AllRows, LevelSample, Member, PartRows, Rows
from ternvae.metrics.survey import KEPT_BYTES, ROWS_PER_CHUNK, Found, Surveyor, rows_at_a_time
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import whole_number

__all__ = ["EXACT_DIGITS", "SAMPLE_SEED", "SAMPLE_SIZE", "Evaluator"]

#: Pairs drawn for sampled statistics.  The standard error of a rank correlation over M
#: pairs is about 1/sqrt(M) far from its ceiling, at worst 1.35/sqrt(M) for contrived dependences,
#: and a fraction of that near the ceiling; that of a share p over M triples is
#: sqrt(p (1 - p) / M), at most 1/(2 sqrt(M)), so an eighth as many triples do: 0.00196.  All are
#: below 0.002.
SAMPLE_SIZE = 2**19
#: Seed of those draws.
SAMPLE_SEED = 20_260_110
_WORST_PAIRS = 1.35

#: Spaces of up to this many digits are measured row by row, 3^15 = 14,348,907 of them; of larger
#: ones a sample of each level is.
EXACT_DIGITS = 15


class Evaluator:
    """Scores models over one space; keeps the fixed samples and their 3-adic ranks.

    What it measures is defined in docs/metrics.md.

    Coverage, hierarchy, richness and the level means are exact over all N sequences up to
    ``exact_up_to`` digits; beyond, they come from ``sample_size`` rows of the first level, half as
    many of each next one, at least an eighth, small levels complete.  Pairs are all pairs where
    ``sample_size`` allows it.  Memory is one number per measured row and that of the samples,
    beside the points of the whole space where these take at most ``kept_bytes``.

    Args:
        space: the space of sequences.
        sample_size: pairs to draw, eight for each triple; with at most this many pairs in all,
            every pair is used instead.
        sample_seed: seed of the draw, 0 to 2^63 - 1.
        exact_up_to: most digits of a space that is measured row by row.
        kept_bytes: most memory for points that are kept while they are compared.
        share: (rank, world) of a process among several that measure one model together: each
            embeds every world-th chunk of a space whose points are not kept.  All must make the
            same calls in the same order.
        add: adds a tensor over these processes and gives each the sum; needed with several.
        progress: called after each chunk with the number of sequences embedded in it.
        among: says of int64 indices (rows,), as bool (rows,), which belong to the part of the space
            that is measured; None for the whole space.  Pairs and triples are then within the part,
            and each level weighs as in the whole space, so that ceilings stay what they are; a
            level without a sequence in the part has no ``r_v``.

    Attributes:
        space: the space.
        hierarchy_ceiling: the lowest hierarchy of radii that are not tied; that of the space, but
            for a part in which a level is missing.
        sampling: what is measured: ``rows`` of N (``rows_exact``), ``pairs`` (``pairs_exact``),
            ``triples``, the ``seed`` of all draws, and ``standard_error_at_most``, which no model
            exceeds (radii not tied): of ``coverage``, ``hierarchy``, ``pairs`` (dist_corr and
            ultrametric_corr) and ``triples``; 0 is exact.

    Raises:
        TypeError: ``space`` is not a :class:`TernarySpace`, ``share`` no pair, or ``add`` or
            ``progress`` or ``among`` cannot be called.
        ValueError: ``sample_size`` or ``kept_bytes`` is not a positive integer, ``sample_seed`` or
            ``exact_up_to`` out of range, ``share`` no rank of its world, or several processes have
            no ``add``; or nothing belongs to the part.
    """

    def __init__(
        self,
        space: TernarySpace,
        *,
        sample_size: int = SAMPLE_SIZE,
        sample_seed: int = SAMPLE_SEED,
        exact_up_to: int = EXACT_DIGITS,
        kept_bytes: int = KEPT_BYTES,
        share: tuple[int, int] = (0, 1),
        add: Callable[[Tensor], Tensor] | None = None,
        progress: Callable[[int], object] | None = None,
        among: Member | None = None,
    ) -> None:
        check_space(space)
        sample_size = positive(sample_size, "sample_size", f"{SAMPLE_SIZE} is the default")
        sample_seed = whole_number(
            sample_seed, name="sample_seed", low=0, high=2**63 - 1, remedy="try sample_seed=0"
        )
        exact_up_to = whole_number(
            exact_up_to,
            name="exact_up_to",
            low=0,
            high=20,
            remedy=f"{EXACT_DIGITS} is the default",
        )
        kept_bytes = positive(kept_bytes, "kept_bytes", f"{KEPT_BYTES} is the default")
        check_share(share, add)
        check_callback("progress", progress)
        check_callback("among", among)
        self.space = space
        self._rows: Rows
        if space.n_digits > exact_up_to:
            self._rows = LevelSample(space, sample_size, sample_seed, among)
        else:
            self._rows = AllRows(space) if among is None else PartRows(space, among)
        self.hierarchy_ceiling = -self._rows.ceiling
        self._surveyor = Surveyor(
            self._rows, kept_bytes=kept_bytes, share=share, add=add, progress=progress
        )
        generator = torch.Generator().manual_seed(sample_seed)
        self._pairs = Pairs(
            space, sample_size, generator, seed=sample_seed, rows=self._rows, member=among
        )
        self._triples = Triples(space, -(-sample_size // 8), generator, self._rows, among)
        self.sampling: dict[str, Any] = {
            "rows": self._rows.total,
            "rows_exact": not self._rows.sampled,
            "pairs": self._pairs.count,
            "pairs_exact": self._pairs.exact,
            "triples": len(self._triples),
            "seed": sample_seed,
            "standard_error_at_most": {
                **largest_errors(self._rows),
                "pairs": 0.0 if self._pairs.exact else _WORST_PAIRS / math.sqrt(self._pairs.count),
                "triples": 0.5 / math.sqrt(max(len(self._triples), 1)),
            },
        }

    def __call__(self, model: EmbeddingModel) -> Metrics:
        """Return all metrics of ``model``. As in :func:`ternvae.metrics.evaluate`.

        Args:
            model: what is measured.
        """
        check_model(model)
        values = {**self.branch_a(model), **self.branch_b(model)}
        names = [name for name in metric_names(self.space.n_digits) if name in values]
        errors = {
            name: values[ERROR_PREFIX + name] for name in names if ERROR_PREFIX + name in values
        }
        return Metrics({name: values[name] for name in names}, dict(self.sampling), errors)

    @torch.no_grad()
    def branch_a(self, model: EmbeddingModel) -> dict[str, float]:
        """The metrics that depend on branch A alone; they stand still while it is frozen.

        Beside them ``richness_A``, ``r_v0_A`` and ``r_vn_A``: richness and the mean radii of the
        first and the last measured level, which are no metrics of the model but say how A lies in
        the ball; and ``points_valid_A``, 1 if every point is finite and inside ``max_radius``, else
        0.  What comes from a sample has its standard error beside it, as ``standard_error_of_`` and
        its name.

        Args:
            model: what is measured, see :func:`evaluate`.

        Returns:
            Figures by name.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: it is of another space, or its answers have other shapes or dtypes.
        """
        check_model(model)
        found = self._surveyor.survey(model, "A")
        levels = Levels.of(found.radius, self._rows)
        mean, _ = levels.moments()
        coverage, coverage_error = self._coverage(found, levels)
        hierarchy, hierarchy_error = levels.hierarchy()
        figures = {
            "coverage": coverage,
            "hierarchy_A": hierarchy,
            "richness_A": levels.richness(),
            "r_v0_A": float(mean[0]),
            "r_vn_A": float(mean[-1]),
            "points_valid_A": float(levels.within(_limit(model))),
        }
        if not levels.complete:
            figures |= _errors({"coverage": coverage_error, "hierarchy_A": hierarchy_error})
        return figures

    @torch.no_grad()
    def branch_b(self, model: EmbeddingModel) -> dict[str, float]:
        """The metrics of branch B; warns of levels that have collapsed.

        Beside them two signs of trouble: ``tied_share``, the share of points whose radius equals
        another's of the same level (another measured one: of a sample, the share is a lower
        bound), and ``limit_share``, the share whose radius is within 0.1 % of the largest that
        ``max_radius`` allows; and ``points_valid``, 1 if every point is finite and inside
        ``max_radius``, else 0.  What comes from a sample has its standard error beside it, as
        ``standard_error_of_`` and its name.

        Args:
            model: what is measured, see :func:`evaluate`.

        Returns:
            Figures by name.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: it is of another space, or its answers have other shapes or dtypes.
        """
        check_model(model)
        found = self._surveyor.survey(model, "B", keep=True)
        levels, limit = Levels.of(found.radius, self._rows), _limit(model)
        mean, _ = levels.moments()
        coverage, coverage_error = self._coverage(found, levels)
        hierarchy, hierarchy_error = levels.hierarchy()
        self._warn_of_collapse(hierarchy)
        compared, errors = self._compared(model, found)
        figures = {
            "coverage_B": coverage,
            "hierarchy_B": hierarchy,
            "richness": levels.richness(),
            **compared,
            "Q_enhanced": compared["dist_corr"] + 1.5 * abs(hierarchy),
            **self._by_level(mean),
            "tied_share": levels.tied_share(),
            "limit_share": levels.share_from(0.999 * limit),
            "points_valid": float(levels.within(limit)),
        }
        if not levels.complete:
            mean_errors, richness_error = levels.moment_errors()
            errors |= {
                "coverage_B": coverage_error,
                "hierarchy_B": hierarchy_error,
                "richness": richness_error,
                **self._by_level(mean_errors),
            }
        if "dist_corr" in errors:  # two independent samples
            errors["Q_enhanced"] = math.hypot(errors["dist_corr"], 1.5 * hierarchy_error)
        return figures | _errors(errors)

    def _by_level(self, column: NDArray[np.float64]) -> dict[str, float]:
        return {
            f"r_v{v}": float(value) for v, value in zip(self._rows.valuations, column, strict=True)
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

    # --- parts of it ------------------------------------------------------------------------

    def chunks(self) -> Iterator[Tensor]:
        """The indices of the measured rows, a chunk at a time; all where rows are exact.

        Yields:
            (rows,) int64.
        """
        total = self._rows.total
        for start in range(0, total, ROWS_PER_CHUNK):
            yield self._rows.chunk(start, min(start + ROWS_PER_CHUNK, total))

    def embed(self, model: EmbeddingModel, branch: str) -> Tensor:
        """Points of all that is measured.

        Args:
            model: what is measured, see :func:`evaluate`.
            branch: "A" or "B".

        Returns:
            (rows, latent_dim) in float64, on the model's device.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: an unknown branch, points of another shape or dtype, or a space of which
                only a sample is measured; go through :meth:`chunks` then.
        """
        check_model(model)
        check_branch(branch)
        if not self.sampling["rows_exact"]:
            raise ValueError(
                f"space: has {self.space.size} sequences, too many to hold their points at once; "
                "embed those of chunks() one after the other"
            )
        ask = self._surveyor.points
        return torch.cat([ask(model, rows, branch).double() for rows in self.chunks()])

    @torch.no_grad()
    def level_radii(self, model: EmbeddingModel, branch: str) -> list[NDArray[np.float64]]:
        """The radii of each measured level in ascending order.

        Args:
            model: what is measured, see :func:`evaluate`.
            branch: "A" or "B".

        Returns:
            n + 1 arrays (rows,), or fewer of a part, in units of the metric.

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: an unknown branch, or points of another shape or dtype.
        """
        check_model(model)
        check_branch(branch)
        found = self._surveyor.survey(model, branch, decode=False)
        return Levels.of(found.radius, self._rows).parts

    @torch.no_grad()
    def coverage(self, model: EmbeddingModel, branch: str) -> float:
        """Share of the sequences that survive encode, ball, decode with every digit right.

        Args:
            model: what is measured, see :func:`evaluate`.
            branch: "A" or "B".

        Returns:
            The share, in [0, 1].

        Raises:
            TypeError: ``model`` lacks ``ball``, ``embed`` or ``decode``.
            ValueError: an unknown branch, points of another shape or dtype, or sequences of another
                number of digits.
        """
        check_model(model)
        check_branch(branch)
        found = self._surveyor.survey(model, branch)
        return self._coverage(found, Levels(self._rows.by_level(found.radius), self._rows))[0]

    def _coverage(self, found: Found, levels: Levels) -> tuple[float, float]:
        right = self._rows.by_level(np.asarray(found.right))
        hits = np.array([np.count_nonzero(part) for part in right], dtype=np.float64)
        return levels.share(hits), levels.share_error(hits)

    # --- pairs and triples ------------------------------------------------------------------

    def _compared(
        self, model: EmbeddingModel, found: Found
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The metrics over pairs and triples, and the standard errors of those of a sample."""
        points = self._surveyor.lookup(model, "B", found.points)
        probe = points(self._rows.chunk(0, 1))
        kept = found.points is not None
        gaps, distances = self._pair_columns(model.ball, points, probe, kept, found.radius)
        triplets = self._triplet_accuracy(model.ball, points, probe, kept)
        # Sorting takes one core and lets other threads run.
        with ThreadPoolExecutor(1) as aside:
            of_gaps = aside.submit(self._pairs.correlation, self._pairs.gaps, gaps)
            of_distances = self._pairs.correlation(self._pairs.distances, distances)
        figures = {
            "dist_corr": of_gaps.result(),
            "ultrametric_corr": of_distances,
            "triplet_accuracy": triplets,
        }
        errors = {}
        if not self._pairs.exact:
            errors["dist_corr"] = self._pairs.error(self._pairs.gaps, gaps)
            errors["ultrametric_corr"] = self._pairs.error(self._pairs.distances, distances)
        if count := len(self._triples):
            likely = (triplets * count + 1) / (count + 2)
            errors["triplet_accuracy"] = math.sqrt(likely * (1 - likely) / count)
        return figures, errors

    def _pair_columns(
        self,
        ball: RadialBall,
        points: Callable[[Tensor], Tensor],
        probe: Tensor,
        kept: bool,
        radius: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """|r_i - r_j| and d(z_i, z_j) of the pairs."""
        pairs, survey = self._pairs, self._surveyor
        radii = torch.from_numpy(radius)
        size = rows_at_a_time(probe.shape[1])
        gaps = torch.zeros(pairs.count, dtype=torch.float64)
        distances = probe.new_zeros(pairs.count)  # read by the host once, not chunk by chunk
        for start in survey.dealt(pairs.starts(size), everything=kept):
            rows = pairs.rows(start, size)
            found = points(rows)
            if self._rows.sampled:
                of_rows = ball.dist0(found).cpu()
            else:
                of_rows = radii[self._rows.places(rows)]
            for part, x, y in pairs.sides(start, found):
                distances[part] = ball.dist(x, y)
            for part, x, y in pairs.sides(start, of_rows):
                torch.sub(x, y, out=gaps[part])
        gaps.abs_()
        gaps = survey.sum(gaps, everything=kept)
        return gaps.numpy(), survey.sum(distances, everything=kept).cpu().numpy()

    def _triplet_accuracy(
        self, ball: RadialBall, points: Callable[[Tensor], Tensor], probe: Tensor, kept: bool
    ) -> float:
        triples, survey = self._triples, self._surveyor
        if not len(triples):
            return math.nan
        right, size = probe.new_zeros(1, dtype=torch.int64), rows_at_a_time(probe.shape[1])
        for start in survey.dealt(range(0, len(triples), size), everything=kept):
            part = slice(start, start + size)
            columns = (triples.anchor[part], triples.near[part], triples.far[part])
            anchor, near, far = map(points, columns)
            closer = ball.dist(anchor, near) < ball.dist(anchor, far)
            right += closer.sum()
        return int(survey.sum(right, everything=kept)) / len(triples)


def _limit(model: EmbeddingModel) -> float:
    return float(model.ball.hyperbolic_radius_max)


def _errors(errors: dict[str, float]) -> dict[str, float]:
    return {ERROR_PREFIX + name: value for name, value in errors.items()}
