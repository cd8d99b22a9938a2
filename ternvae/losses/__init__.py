"""What is minimised, one function per term and one that computes the geometric terms together.

Functions take plain tensors: radii are hyperbolic distances from the origin (units of the metric),
valuations arrive as an argument.  Nothing here knows a profile, a space or a model.

Shells.  For n digits the radii up to ``radius_max`` are cut into n + 1 shells of equal width
s = radius_max / (n + 1); level v belongs to shell n - v, whose centre is (n - v + 1/2) s.  Equal
spacing is what the best ``dist_corr`` needs: with centres s apart and spreads below s / 2, every
radius gap between levels k + 1 apart exceeds every gap between levels k apart.

What is checked.  Every function raises ``TypeError`` for what is no tensor, a wrong dtype or a
number of the wrong kind, and ``ValueError`` for shapes and devices that do not fit and for Python
numbers out of range, before anything is computed.  The elements of tensors are not looked at, for
that would make every step of training wait for the device: each function is check-free in its
values, and says what it makes of those outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ternvae.losses.arguments import (
    check_digits,
    check_membership,
    check_number,
    check_rows,
    check_scalar,
    check_tensor,
)
from ternvae.losses.levels import GeometryFunction, LevelRows
from ternvae.losses.ultrametric import ultrametric_loss

__all__ = [
    "GeometryLosses",
    "geometry_losses",
    "hierarchy_loss",
    "kl_loss",
    "level_membership",
    "reconstruction_loss",
    "richness_loss",
    "separation_loss",
    "shell_offset",
    "ultrametric_loss",
]

#: Part of a shell's width, at each face, that separation keeps empty between levels.
SEPARATION_MARGIN = 0.1

#: As in ``_levels.c``.
_MOST_LEVELS = 64

#: Part of the wanted variance that every single level must have; see :func:`richness_loss`.
LEAST_LEVEL_SHARE = 0.5


# --- the terms ------------------------------------------------------------------------------


def reconstruction_loss(logits: Tensor, sequences: Tensor) -> Tensor:
    """Coverage term: mean negative log-likelihood of a sequence, in nats.

    Up to its sign the first term of the evidence lower bound (Kingma & Welling 2014, section 2.2).

    Args:
        logits: (batch, n, 3) unnormalised log-probabilities of the digits -1, 0, 1.
        sequences: (batch, n) integers in {-1, 0, 1}.

    Returns:
        Scalar in nats; the sum over digits, averaged over the batch.

    Check-free in its values: NaN gives NaN, and digits outside {-1, 0, 1} are what torch's cross
    entropy makes of them, on a CPU an ``IndexError``.

    Raises:
        TypeError: logits that are not floating-point, sequences that are not int64.
        ValueError: shapes or devices that do not fit, or no rows.
    """
    check_tensor(logits, "logits", "(batch, n, 3)")
    check_tensor(sequences, "sequences", "(batch, n)", integer=True)
    check_rows(logits, sequences, "logits, sequences")
    if logits.shape != (*sequences.shape, 3):
        raise ValueError(
            f"logits, sequences: expected shapes (batch, n, 3) and (batch, n), got "
            f"{tuple(logits.shape)} and {tuple(sequences.shape)}"
        )
    batch = logits.shape[0]
    return F.cross_entropy(logits.flatten(0, 1), (sequences + 1).flatten(), reduction="sum") / batch


def kl_loss(posterior_log_prob: Tensor, prior_log_prob: Tensor) -> Tensor:
    """One-sample estimate of ``KL(posterior || prior)`` in nats, averaged over the batch.

    The other term of the bound, by the Monte Carlo estimator of Kingma & Welling 2014, section 2.3,
    for there is no closed form for wrapped normals.

    Args:
        posterior_log_prob: (batch,) log q(z | x) at a sample z of q.
        prior_log_prob: (batch,) log p(z) at the same sample.

    Returns:
        Scalar in nats; unbiased for the divergence, so single values may be negative.

    Check-free in its values: what is not finite makes the mean not finite.

    Raises:
        TypeError: dtypes that are not floating-point.
        ValueError: shapes or devices that do not fit, or no rows.
    """
    check_tensor(posterior_log_prob, "posterior_log_prob", "(batch,)")
    check_tensor(prior_log_prob, "prior_log_prob", "(batch,)")
    check_rows(posterior_log_prob, prior_log_prob, "posterior_log_prob, prior_log_prob")
    return (posterior_log_prob - prior_log_prob).mean()


def shell_offset(
    radius: Tensor, valuation: Tensor, *, n_digits: int, radius_max: Tensor | float
) -> Tensor:
    """Signed distance of each radius from the centre of its level's shell, in shell widths.

    ``r / s - (n - v + 1/2)`` with the shells of docs/model.md, "The objective", ``s = radius_max /
    (n + 1)`` wide.

    Args:
        radius: (batch,) hyperbolic radii, units of the metric.
        valuation: (batch,) integers in 0..n_digits.
        n_digits: number of ternary digits n.
        radius_max: hyperbolic radius of the region in use, same units as ``radius``; a number or a
            0-dim tensor.

    Returns:
        (batch,) offsets; within +-1/2 a point is inside its own shell.

    Check-free in its values: radii and valuations outside are extrapolated.

    Raises:
        TypeError: radii that are not floating-point, valuations that are not int64, or numbers of
            the wrong kind.
        ValueError: shapes or devices that do not fit, or a number out of range.
    """
    check_tensor(radius, "radius", "(batch,)")
    check_tensor(valuation, "valuation", "(batch,)", integer=True)
    check_rows(radius, valuation, "radius, valuation", some=False)
    check_digits(n_digits)
    check_scalar(radius_max, "radius_max", radius)
    return radius * ((n_digits + 1) / radius_max) - (n_digits + 0.5 - valuation.to(radius.dtype))


def level_membership(valuation: Tensor, n_digits: int, dtype: torch.dtype) -> Tensor:
    """Indicator matrix: which level each row belongs to, by definition of the levels.

    Sums over levels are products with this matrix: no loop, and the order of summation is fixed on
    every device, which atomic scatter-adds do not give.

    Args:
        valuation: (batch,) integers in 0..n_digits. Check-free in its values: a row of any other
            belongs to no level.
        n_digits: number of ternary digits n.
        dtype: floating-point dtype of the matrix.

    Returns:
        (batch, n + 1), 1 in the column of the row's valuation and 0 elsewhere.

    Raises:
        TypeError: valuations that are not int64, or another argument of the wrong kind.
        ValueError: ``valuation`` is not one-dimensional, or ``n_digits`` is below 1.
    """
    check_tensor(valuation, "valuation", "(batch,)", integer=True)
    check_digits(n_digits)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype: expected a floating-point dtype, got {dtype!r}")
    levels = torch.arange(n_digits + 1, device=valuation.device)
    return (valuation.unsqueeze(-1) == levels).to(dtype)


# --- sums over the levels -------------------------------------------------------------------


def _columns(x: Tensor, margin: float) -> Tensor:
    """What is summed over the rows of each level, (batch, 4) in float64: 1, x, x^2, reach of x."""
    wide = x.double()
    reach = (wide.abs() - (0.5 - margin)).clamp_min(0) / margin
    return torch.stack([torch.ones_like(wide), wide, wide.square(), reach], dim=1)


def _level_sums(x: Tensor, membership: Tensor, margin: float = SEPARATION_MARGIN) -> Tensor:
    """The sums, (n + 1, 4)."""
    return membership.double().T @ _columns(x, margin)


class _Sums(NamedTuple):
    """What the terms are made of, each (n + 1,)."""

    number: Tensor
    some: Tensor
    total: Tensor
    squares: Tensor
    reach: Tensor

    @classmethod
    def of(cls, sums: Tensor) -> _Sums:
        count, total, squares, reach = sums.unbind(1)
        return cls(count, count.clamp_min(1), total, squares, reach)


def _level_weights(like: Tensor) -> Tensor:
    """Weight of each level, (n + 1,): half for the level, half for its share of the sequences."""
    n_digits = len(like) - 1
    level = torch.arange(n_digits + 1, dtype=like.dtype, device=like.device)
    share = torch.where(level < n_digits, 2 * 3 ** -(level + 1), 3**-level)
    return 0.5 / (n_digits + 1) + 0.5 * share


def _hierarchy(sums: _Sums) -> Tensor:
    weights = _level_weights(sums.number)
    return weights @ (sums.squares / sums.some) / (weights @ (sums.number > 0).to(weights.dtype))


def _separation(sums: _Sums) -> Tensor:
    return (sums.reach / sums.some).sum()


def _shares(sums: _Sums, scale: Tensor | float) -> tuple[Tensor, Tensor]:
    """The variance of each level over what is wanted, and the weight of the level in their mean.

    ``scale`` is the square of the unit of x over the richness that is wanted.
    """
    levels = len(sums.number)
    # In float64 the difference loses nothing: x is of the size of a shell, or of a radius.
    variance = sums.squares / sums.some - (sums.total / sums.some).square()
    plural = (sums.number > 1).to(variance.dtype)
    plural[-1] = 0  # the last level is one point
    return variance * (scale * (levels - 1) / levels), plural / plural.sum().clamp_min(1)


def _richness(sums: _Sums, scale: Tensor | float) -> Tensor:
    shares, weights = _shares(sums, scale)
    overall = F.relu(1 - shares @ weights)
    return overall + F.relu(1 - shares / LEAST_LEVEL_SHARE) @ weights


def hierarchy_loss(offset: Tensor, membership: Tensor) -> Tensor:
    """Order of the levels: mean squared offset from the shell centre, a mean over the levels.

    The term is defined in docs/model.md, "The objective".

    Pointwise on purpose.  A loss on the level means alone lets the levels overlap.  Half of a
    level's weight is that of any level, half its share of the sequences: richness counts levels and
    rank correlations count sequences.  Were the weights equal, hierarchy and richness would have
    nothing to say on which level gets the spread, and it costs least where sequences are few.

    Args:
        offset: (batch,) from :func:`shell_offset`.
        membership: (batch, n + 1) from :func:`level_membership`.

    Returns:
        Scalar, in squared shell widths.

    Check-free in its values: NaN gives NaN, and so does a membership without a level.

    Raises:
        TypeError: dtypes that are not floating-point or differ.
        ValueError: shapes or devices that do not fit, or no rows.
    """
    check_membership(offset, "offset", membership)
    return _hierarchy(_Sums.of(_level_sums(offset, membership))).to(offset.dtype)


def separation_loss(
    offset: Tensor, membership: Tensor, *, margin: float = SEPARATION_MARGIN
) -> Tensor:
    """Distinction of the levels: how far points reach into the margin of their shell.

    Defined in docs/model.md, "The objective": a hinge, zero exactly where neighbouring levels are
    at least ``2 * margin`` shell widths apart.  A sum over the levels, not a mean: each border is a
    constraint of its own, and one that is violated must not count for less because there are many.

    Args:
        offset: (batch,) from :func:`shell_offset`.
        membership: (batch, n + 1) from :func:`level_membership`.
        margin: empty part at each face of a shell, in shell widths, in (0, 1/2).

    Returns:
        Scalar, the sum over levels of the mean reach within the level, in units of the margin.

    Check-free in its values: NaN gives NaN.

    Raises:
        TypeError: dtypes that are not floating-point or differ, or a margin that is no number.
        ValueError: shapes or devices that do not fit, no rows, or a margin outside (0, 1/2).
    """
    check_membership(offset, "offset", membership)
    check_number(margin, "margin", 0.0, 0.5)
    return _separation(_Sums.of(_level_sums(offset, membership, margin))).to(offset.dtype)


def richness_loss(radius: Tensor, membership: Tensor, *, floor: float) -> Tensor:
    """Diversity inside the levels: shortfall of the variance of the radius against a floor.

    Two hinges, defined in docs/model.md, "The objective".  The mean over levels, which is what
    richness measures, must reach the floor; and
    no single level may fall below ``LEAST_LEVEL_SHARE`` of it, so that none collapses.  Between the
    two, spread goes where it costs the order of the levels least.

    Args:
        radius: (batch,) hyperbolic radii, units of the metric.
        membership: (batch, n + 1) from :func:`level_membership`.
        floor: wanted richness, the mean over all n + 1 levels of the variance within the level.
            The deepest level has one point and no variance, so the others aim at
            ``floor * (n + 1) / n``.  0 switches the term off.

    Returns:
        Scalar in [0, 2]: relative shortfall of the mean, plus the mean relative shortfall of the
        single levels, over the levels with two rows or more.

    Check-free in its values: NaN gives NaN.

    Raises:
        TypeError: dtypes that are not floating-point or differ, or a floor that is no number.
        ValueError: shapes or devices that do not fit, no rows, or a floor that is negative or not
            finite.
    """
    check_membership(radius, "radius", membership)
    check_number(floor, "floor", 0.0, closed=True)
    if floor == 0:
        return radius.new_zeros(())
    return _richness(_Sums.of(_level_sums(radius, membership)), 1.0 / floor).to(radius.dtype)


class GeometryLosses(NamedTuple):
    """The three terms on radii, unweighted; holds what it is given, check-free.

    Attributes:
        hierarchy: scalar, :func:`hierarchy_loss`.
        richness: scalar, :func:`richness_loss`.
        separation: scalar, :func:`separation_loss`.
    """

    hierarchy: Tensor
    richness: Tensor
    separation: Tensor


def geometry_losses(
    radius: Tensor,
    valuation: Tensor,
    *,
    n_digits: int,
    radius_max: Tensor | float,
    richness_floor: Tensor | float,
    margin: float = SEPARATION_MARGIN,
    total: Callable[[Tensor], Tensor] | None = None,
) -> GeometryLosses:
    """All terms on the radii of one batch, from one set of sums over its levels.

    Those of :func:`hierarchy_loss`, :func:`richness_loss` and :func:`separation_loss`, which are
    defined in docs/model.md, "The objective".

    Args:
        radius: (batch,) hyperbolic radii, units of the metric.
        valuation: (batch,) integers in 0..n_digits.
        n_digits: number of ternary digits n.
        radius_max: hyperbolic radius of the region in use, units of the metric; a number or a 0-dim
            tensor.
        richness_floor: see :func:`richness_loss`; a number, or a 0-dim tensor that is positive.
        margin: see :func:`separation_loss`.
        total: given the sums of these rows, (n + 1, 4) in float64, gives those of the whole batch,
            where several processes share it; its gradient passes as it is.

    Returns:
        The unweighted terms.

    Check-free in its values, like each of them.

    Raises:
        TypeError: what one of them refuses: dtypes, or numbers of the wrong kind.
        ValueError: shapes or devices that do not fit, no rows, or a number out of range.
    """
    check_number(margin, "margin", 0.0, 0.5)
    if total is not None and not callable(total):
        raise TypeError(f"total: expected a function, got {type(total).__name__}: {total!r}")
    # Shapes, kinds and devices are checked there; of several processes one may have no rows.
    offset = shell_offset(radius, valuation, n_digits=n_digits, radius_max=radius_max)
    check_scalar(richness_floor, "richness_floor", radius, closed=True)
    if total is None and not len(radius):
        check_rows(radius, valuation, "radius, valuation")
    if n_digits < _MOST_LEVELS and LevelRows.fit(radius, radius_max, richness_floor):
        rows = LevelRows(
            radius,
            valuation,
            n_digits=n_digits,
            radius_max=float(radius_max),
            richness_floor=float(richness_floor),
            margin=margin,
            total=total,
        )
        return GeometryLosses(*GeometryFunction.apply(rows, radius))  # type: ignore[no-untyped-call]
    membership = level_membership(valuation, n_digits, radius.dtype)
    summed = _level_sums(offset, membership, margin)
    sums = _Sums.of(summed if total is None else total(summed))
    wanted = isinstance(richness_floor, Tensor) or richness_floor > 0
    width = radius_max / (n_digits + 1)
    terms = (
        _hierarchy(sums),
        _richness(sums, width * width / richness_floor) if wanted else sums.number.new_zeros(()),
        _separation(sums),
    )
    return GeometryLosses(*(term.to(radius.dtype) for term in terms))
