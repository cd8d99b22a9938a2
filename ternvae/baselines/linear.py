"""The digits in planes: an embedding whose distances are ordered as the 3-adic ones.

One triangle per digit.  With corners e(d) = (cos 2 pi d / 3, sin 2 pi d / 3), digit k of a sequence
adds the vector

    w_k f(d_k),   f(0) = 0,   f(1) = (1 + eta) (e(1) - e(0)),   f(2) = e(2) - e(0),

in the plane of that digit.  The point is ``expmap0`` of the sum u times a factor, so the sequence
of index 0 lies at the origin and radii are proportional to |u|.  Of p = dim // 2 planes each digit
has one if n <= p; else the first p - 1 digits have one each, and all deeper ones share the last.

**Weights.**  From one number, rho = ``ratio`` < 1/sqrt(2), with m = sqrt(1/rho^2 - 1) > 1, s digits
in planes of their own and t = 1/(2 + m) < 1/3:

    w_k = rho^k,  k < s;     w_(s+j) = rho^s (1 - t) / sqrt(1 - rho^2) t^j,  j = 0, 1, ...

**Order.**  Let T_v be the sum of w_k over k > v in the shared plane, S that over all of it.  Two u
that first differ in digit v differ by at least L_v: sqrt(3) w_v for a plane of its own, and
sqrt(3) (w_v - (1 + eta) T_v) in the shared one (triangle inequality).  Two that agree up to there
differ by at most U_(v+1) = sqrt(3) (1 + eta) sqrt(Q), where Q is the sum of w_k^2 over the own
planes behind v, plus S^2; in the shared plane it is T_v^2.  Distances of u are ordered strictly as
the 3-adic ones if L_v > U_(v+1) for all v; leaving eta aside,

* own planes: w_v^2 > Q.  rho^2 < 1/2 is enough, for w_v^2 = m^2 (w_(v+1)^2 + w_(v+2)^2 + ...);
* shared plane: w_v > 2 T_v.  A ratio t < 1/3 is enough: w_v = (1 + m) (w_(v+1) + ...).  Below
  t = 1/2 the Sierpinski-like sums are still apart, but their distances are not in order.

With the weights above L_v / U_(v+1) is m or more, up to eta.

**In the ball.**  Let R be the largest radius in units of the curvature radius.  ``expmap0``
stretches distances by a factor from 1 to sinh(R)/R (Rauch's comparison theorem; do Carmo,
*Riemannian Geometry*, 1992, chapter 10), so their order is kept if sinh(R)/R < min L_v / U_(v+1).
Radii are not stretched: they fall strictly with the valuation at any scale.

**On a horosphere.**  With ``horosphere=True``, x = u times a factor has dim - 1 coordinates (p is
(dim - 1) // 2) and goes to (x, |x|^2 / 2) / (2 + |x|^2 / 2), divided by sqrt(c).  There (c = 1)
d = 2 arsinh(|x - x'| / 2), so distances have the order of those of u at every scale, which leaves
room for spread within the levels; the documentation's page on theory has the proof.

**Ties.**  Equal sides would give sequences that exchange digits 1 and 2 one radius.  With a plane
for each digit, |u|^2 / 3 is the sum of w_k^2 over the digits that are not 0, those that are 1
counted (1 + eta)^2 times.  Such sums over different sets of digits differ by w_last^2 or more, and
with eta <= w_last^2 / (64 sum w_k^2) those over one set differ too, by 2 eta w_last^2 or more.  In
a shared plane nothing is proven; radii are irregular there, and tests find them different.  eta is
at most (m - 1) / (4 (m + 1)), too, so that the order keeps the larger part of its margin.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ternvae.baselines.arguments import (
    FLOAT64_REACH,
    as_sequences,
    check_ball,
    check_dim,
    check_horosphere,
    check_points,
    positive_number,
)
from ternvae.manifolds import PoincareBall
from ternvae.metrics.arguments import check_branch, check_space
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["DEFAULT_RATIO", "LinearUltrametric", "linear_ultrametric"]

DEFAULT_RATIO = 0.62
_LEAST_RATIO = 1e-6  # squares of the weights of 20 digits stay in float64

#: Half of the share of w_last^2 that unequal sides may add to |u|^2 / 3, and their share of what
#: the order has to spare.
_UNEQUAL, _SHARE_OF_MARGIN = 1 / 64, 1 / 4

#: Largest default radius, in units of the curvature radius, and as a share of ``max_radius``.
_DEFAULT_REACH, _WIDE_REACH, _SHARE_OF_LIMIT = 1.0, 4.0, 0.98

#: Gaps between distances, as a share of the largest, have to be at least that: some roundings.
#: Towards the rim, coordinates say cosh(R/2)^2 times less.
_LEAST_GAP = 64 * torch.finfo(torch.float64).eps

#: Least distance in units of the curvature radius; squares of smaller ones leave float64.
_LEAST_DISTANCE = 1e-100


class LinearUltrametric:
    """The linear embedding as a model: ``ball``, ``embed`` and ``decode``, nothing stored.

    The code of docs/theory.md, theorem 6, or on a horosphere that of theorem 7.
    Satisfies :class:`ternvae.metrics.EmbeddingModel`, for spaces of any size.

    Args:
        space: the space of sequences.
        ball: where the points go; its curvature is read once.
        dim: dimension of the points, at least 2; the last coordinate of an odd one is 0.
        ratio: rho, between the weights of neighbouring digits, from 1e-6 to below 1/sqrt(2).
        scale: distance of the farthest point from the origin, in units of the metric.  Default:
            sinh(R)/R is the square root of what the order allows, but R <= 1, and at most 0.98 of
            the largest radius of the ball.  At larger scales radii stay in order, distances need
            not.  On a horosphere, R <= 4, likewise.
        horosphere: whether points lie on one, in order at every scale; needs ``dim`` 3.

    Attributes:
        weights: w_k of the digits, a list of floats.
        stretch: eta.
        margin: min over v of L_v / U_(v+1); inf for one digit.
        scale: as given or chosen.
        ordered: whether the order of all distances is certain at this scale.

    Raises:
        TypeError: ``space`` or ``ball`` is none, ``ratio`` or ``scale`` no real number, or
            ``horosphere`` no bool.
        ValueError: ``dim`` below 2, ``ratio`` out of range, a ``scale`` beyond ``max_radius``, or
            24 curvature radii without one, or weights (a small ratio and many digits that share a
            plane) or a scale so small that the order would drown in the rounding of float64.
    """

    def __init__(
        self,
        space: TernarySpace,
        ball: PoincareBall,
        dim: int = 16,
        *,
        ratio: float = DEFAULT_RATIO,
        scale: float | None = None,
        horosphere: bool = False,
    ) -> None:
        check_space(space)
        self.space, self.ball, self.dim = space, check_ball(ball), check_dim(dim)
        rho = positive_number(ratio, "ratio")
        if not _LEAST_RATIO <= rho < math.sqrt(0.5):
            raise ValueError(
                f"ratio: got {ratio!r}, expected a number from {_LEAST_RATIO} to below 1/sqrt(2) = "
                f"0.7071, where deeper digits outweigh shallow ones; {DEFAULT_RATIO} is the default"
            )
        self.horosphere = check_horosphere(horosphere, self.dim)
        self._width = self.dim - self.horosphere
        planes, n = self._width // 2, space.n_digits
        self._own = n if n <= planes else planes - 1
        self.weights = _weights(n, self._own, rho)
        last = self.weights[min(n, planes) - 1]
        spare = math.sqrt(1.0 / rho**2 - 1.0)
        self.stretch = min(
            _UNEQUAL * last**2 / math.fsum(w * w for w in self.weights),
            _SHARE_OF_MARGIN * (spare - 1.0) / (spare + 1.0),
        )
        least, most = self._bounds()
        ratios = (a / b for a, b in zip(least[:-1], most[1:], strict=True))
        self.margin = min(ratios, default=math.inf)
        self.scale = self._checked_scale(scale)
        self.ordered = horosphere or self._reach < _reach_of(self.margin)
        self._refuse_rounding(least, most)
        longest = 2.0 * math.sinh(self._reach / 2.0) if horosphere else self.scale / 2.0
        self._factor = longest / most[0]
        angles = torch.arange(3, dtype=torch.float64) * (2.0 * math.pi / 3.0)
        corners = torch.stack([angles.cos(), angles.sin()], -1)
        self._sides = corners - corners[0]
        self._sides[1] *= 1.0 + self.stretch

    def _bounds(self) -> tuple[list[float], list[float]]:
        """L_v and U_v for v = 0 .. n - 1; U_0 is also the largest |u|."""
        root, longer, own = math.sqrt(3.0), 1.0 + self.stretch, self._own
        least, most = [], []
        for v, weight in enumerate(self.weights):
            behind = math.fsum(self.weights[v + 1 :]) if v >= own else 0.0
            least.append(root * (weight - longer * behind))
            shared = math.fsum(self.weights[max(v, own) :])
            squares = math.fsum(w * w for w in self.weights[v:own])
            most.append(root * longer * math.sqrt(squares + shared**2))
        return least, most

    @property
    def _reach(self) -> float:
        """R, the scale in units of the curvature radius."""
        return self.scale * math.sqrt(float(self.ball.c))

    def _checked_scale(self, scale: object) -> float:
        root, limit = math.sqrt(float(self.ball.c)), FLOAT64_REACH
        if self.ball.max_radius is not None:
            limit = min(limit, 2.0 * math.atanh(self.ball.max_radius))
        if scale is None:
            kept = min(_reach_of(math.sqrt(self.margin)), _DEFAULT_REACH)
            return min(_WIDE_REACH if self.horosphere else kept, _SHARE_OF_LIMIT * limit) / root
        found = positive_number(scale, "scale")
        if found * root > limit:
            raise ValueError(
                f"scale: got {scale!r}, but points lie within {limit / root:.6g}, the limit of "
                f"max_radius = {self.ball.max_radius} and of float64; leave it out"
            )
        return found

    def _refuse_rounding(self, least: list[float], most: list[float]) -> None:
        reach = self._reach
        stretched = math.sinh(reach) / reach if self.ordered and not self.horosphere else 1.0
        least_gap = _LEAST_GAP * math.cosh(reach / 2.0) ** 2
        behind = [*most[1:], 0.0]
        gap = min(low - stretched * high for low, high in zip(least, behind, strict=True)) / most[0]
        if not gap >= least_gap:
            weights = f"{self.weights[0]:.2g} to {self.weights[-1]:.1e}"
            raise ValueError(
                f"ratio: got weights from {weights} for n_digits={self.space.n_digits} in dim="
                f"{self.dim}, whose distances lie {gap:.1e} of the "
                f"largest apart, and float64 needs {least_gap:.1e}; take a larger dim, so that "
                f"fewer digits share a plane, or ratio={DEFAULT_RATIO} and no scale"
            )
        if reach * least[-1] / most[0] < _LEAST_DISTANCE:
            raise ValueError(
                f"scale: got {self.scale!r}, with which squares of distances are too small for "
                "float64; leave it out"
            )

    def embed(self, sequences_or_indices: WholeNumbers, branch: str = "B") -> Tensor:
        """The points of sequences.

        Args:
            sequences_or_indices: (batch,) indices or (batch, n) sequences in {-1, 0, 1}.
            branch: "A" or "B", which are the same.

        Returns:
            (batch, dim) float64, on the device of a tensor, else on the CPU.

        Raises:
            ValueError: a value outside the space, another shape or an unknown branch.
        """
        check_branch(branch)
        digits = as_sequences(self.space, sequences_or_indices) + 1
        sides = self._sides.to(digits.device)
        u = torch.zeros(len(digits), self._width, dtype=torch.float64, device=digits.device)
        for k, weight in enumerate(self.weights):
            u[:, self._plane(k)] += weight * sides[digits[:, k]]
        with torch.no_grad():
            return self._placed(self._factor * u)

    def _placed(self, x: Tensor) -> Tensor:
        """Vectors as points of the ball."""
        if not self.horosphere:
            points: Tensor = self.ball.expmap0(x)
            return points
        half = x.square().sum(-1, keepdim=True) / 2.0
        found = torch.cat([x, half], -1) / (2.0 + half)
        return self.ball.projx(found / math.sqrt(float(self.ball.c)))

    def _taken(self, points: Tensor) -> Tensor:
        """Points back as vectors; what is off a horosphere, seen from its point at the rim."""
        if not self.horosphere:
            vectors: Tensor = self.ball.logmap0(points)
            return vectors
        scaled = math.sqrt(float(self.ball.c)) * points
        return 2.0 * scaled[:, :-1] / (1.0 - scaled[:, -1:])

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        """The digits read back from the planes, each as the nearest corner of its triangle.

        In the shared plane the digit with the largest weight comes first, and the mean of what is
        behind it is taken off.  It is right for every point of the embedding, because w_v > 2 T_v.

        Args:
            points: (batch, dim) points of the ball.
            branch: "A" or "B", which are the same.

        Returns:
            (batch, n) int64 in {-1, 0, 1}.

        Raises:
            TypeError: no tensor of float32 or float64.
            ValueError: another shape, a row that is no point of the ball, or an unknown branch.
        """
        check_branch(branch)
        points = check_points(self.ball, points, self.dim)
        with torch.no_grad():
            u = self._taken(points) / self._factor
        sides = self._sides.to(u.device)
        digits = torch.empty(len(u), self.space.n_digits, dtype=torch.int64, device=u.device)
        for k, weight in enumerate(self.weights):
            here = u[:, self._plane(k)]
            behind = math.fsum(self.weights[k + 1 :]) if k >= self._own else 0.0
            gaps = (here - behind * sides.mean(0)).unsqueeze(1) - weight * sides
            digits[:, k] = gaps.square().sum(-1).argmin(-1)
            here -= weight * sides[digits[:, k]]
        return digits - 1

    def _plane(self, k: int) -> slice:
        """The two coordinates of digit k."""
        first = 2 * min(k, self._own)
        return slice(first, first + 2)


def linear_ultrametric(
    space: TernarySpace,
    ball: PoincareBall,
    dim: int = 16,
    *,
    ratio: float = DEFAULT_RATIO,
    scale: float | None = None,
    horosphere: bool = False,
    indices: WholeNumbers | None = None,
) -> Tensor:
    """The points of :class:`LinearUltrametric`; :mod:`ternvae.baselines.linear` has the formula.

    The code of docs/theory.md, theorem 6, or on a horosphere that of theorem 7.
    Distances are ordered strictly as the 3-adic ones and radii fall strictly with the valuation, so
    hierarchy and ultrametric_corr are at their ceilings and triplet_accuracy is 1, in any dimension
    from 2 on, with the default scale.

    Args:
        space: the space of sequences.
        ball: where the points go.
        dim: dimension of the points, at least 2.
        ratio: rho, between the weights of neighbouring digits, from 1e-6 to below 1/sqrt(2).
        scale: distance of the farthest point from the origin, in units of the metric.
        horosphere: whether points lie on one, in order at every scale; needs ``dim`` 3.
        indices: (batch,) of the space; None means all, of a space of up to 16 digits.

    Returns:
        (batch, dim) or (N, dim) float64.

    Raises:
        TypeError: ``space`` or ``ball`` is none, ``ratio`` or ``scale`` no real number, or
            ``horosphere`` no bool.
        ValueError: as :class:`LinearUltrametric`, and for indices that are none of the space.
    """
    made = LinearUltrametric(space, ball, dim, ratio=ratio, scale=scale, horosphere=horosphere)
    return made.embed(space.sequences() if indices is None else indices)


def _weights(n_digits: int, own: int, rho: float) -> list[float]:
    """w_k of the digits, the first ``own`` of them in planes of their own."""
    ratio = 1.0 / (2.0 + math.sqrt(1.0 - rho**2) / rho)
    first = rho**own * (1.0 - ratio) / math.sqrt(1.0 - rho**2)
    return [rho**k if k < own else first * ratio ** (k - own) for k in range(n_digits)]


def _reach_of(stretch: float) -> float:
    """The R of sinh(R)/R = ``stretch``, from below; 0 for a stretch of at most 1."""
    stretch = min(stretch, 1e9)  # whose R is beyond what float64 holds
    low, high = 0.0, 1.0 + 2.0 * math.log1p(stretch)
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if math.sinh(middle) < stretch * middle else (low, middle)
    return low
