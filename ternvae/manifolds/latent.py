"""The way from an encoder to a decoder through the ball, as one operation.

Written out with :class:`ternvae.manifolds.WrappedNormal` it is a dozen operations, each of which
goes over the batch and is a node of the graph.  Here it is one of each: see
:class:`ternvae.manifolds.rules.latent.Latent` for the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from ternvae.first_order import first_order
from ternvae.manifolds import numerics as num
from ternvae.manifolds import programs
from ternvae.manifolds.arguments import check_beside, check_real, check_tensor, check_vectors
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.rows import apply
from ternvae.manifolds.rules.latent import Latent, PolarPoint, Region, Values
from ternvae.manifolds.vectors import Metric

__all__ = ["LatentCall", "LatentSample", "Values", "latent_sample", "polar_point", "radius_at"]


class LatentSample(NamedTuple):
    """What :func:`latent_sample` gives, ``batch`` rows throughout; holds it check-free.

    Attributes:
        points: (batch, d) centres of the posteriors, points of the ball inside ``max_radius``.
        tangent: (batch, d) the samples, moved inside ``max_radius``, as tangent vectors at the
            origin: log_0 of them.
        posterior_log_prob: (batch,) log-density of the sample under WN(points, scale), nats.
        prior_log_prob: (batch,) the same under WN(centre, 1).
    """

    points: Tensor
    tangent: Tensor
    posterior_log_prob: Tensor
    prior_log_prob: Tensor


@overload
def radius_at(ball: PoincareBall, share: Tensor) -> Tensor: ...
@overload
def radius_at(ball: PoincareBall, share: float) -> float: ...
def radius_at(ball: PoincareBall, share: Tensor | float) -> Tensor | float:
    """Hyperbolic radii that are given shares of the largest in use; check-free in values.

    Args:
        ball: the ball, with a ``max_radius``.
        share: in [0, 1]; a tensor of any shape, float32 or float64, or a number.

    Returns:
        ``share * ball.hyperbolic_radius_max``, of the shape and dtype of ``share``.

    Raises:
        TypeError: ``ball`` is none, or ``share`` not a tensor of float32 or float64 or a number.
        ValueError: the ball has no ``max_radius``.
    """
    _check_ball(ball)
    if isinstance(share, Tensor):
        check_tensor(share)
    else:
        check_real(share, "share")
    if ball.max_radius is None:
        raise ValueError("ball must have a max_radius, of which there can be shares")
    c = ball._c
    if isinstance(c, Tensor):
        whole = ball.hyperbolic_radius_max
        return share * (whole.to(share) if isinstance(share, Tensor) else float(whole.detach()))
    return share * (2.0 / math.sqrt(c) * math.atanh(ball.max_radius))


def polar_point(ball: PoincareBall, direction: Tensor, radius: Tensor) -> Tensor:
    """The points at given distances from the origin in given directions; check-free in values.

    Args:
        ball: the ball; no point is outside of its ``max_radius``.
        direction: (..., d) vectors, not 0; float32 or float64.
        radius: (...,) hyperbolic distances from the origin, not negative.

    Returns:
        (..., d) points of the dtype of ``direction``.

    Raises:
        TypeError: ``ball`` is none, or a tensor is not float32 or float64.
        ValueError: shapes or devices do not fit.
    """
    _check_ball(ball)
    check_vectors((direction,), 1.0, -1)
    check_beside(radius, "radius", direction)
    if radius.shape != direction.shape[:-1]:
        raise ValueError(
            f"radius must be {tuple(direction.shape[:-1])}, one for each direction of "
            f"{tuple(direction.shape)}, got {tuple(radius.shape)}"
        )
    limit = num.limit_of(direction.dtype, ball.max_radius)
    numbers = radius.unsqueeze(-1)
    return apply(PolarPoint, direction, numbers, c=ball._c, dim=-1, limit=limit, per_point=1)


def latent_sample(
    ball: PoincareBall,
    direction: Tensor,
    radius: Tensor,
    log_scale: Tensor,
    noise: Tensor,
    centre: Tensor | None = None,
) -> LatentSample:
    """Draw from wrapped normals whose centres are given in polar coordinates; check-free in values.

    The same law as ``WrappedNormal(expmap0(radius / 2 * direction / |direction|),
    exp(log_scale), ball)`` and the densities of its ``rsample_with_log_prob`` and of
    ``WrappedNormal(centre, 1, ball).log_prob`` (Nagano et al. 2019, algorithm 1 and eq. 8).

    Args:
        ball: the ball, with a ``max_radius``.
        direction: (batch, d) vectors, not 0; float32 or float64.
        radius: (batch,) hyperbolic distances of the centres from the origin.
        log_scale: (batch, d) logarithms of the scales, in units of hyperbolic length.
        noise: (batch, d) standard normal draws.
        centre: (batch, d) centres of the prior; None for the origin.

    Raises:
        TypeError: ``ball`` is none, or a tensor is not float32 or float64.
        ValueError: shapes or devices do not fit, or the ball has no ``max_radius``.
    """
    _check_ball(ball)
    vectors = (
        (direction, log_scale, noise) if centre is None else (direction, log_scale, noise, centre)
    )
    check_vectors(vectors, 1.0, -1)
    check_beside(radius, "radius", direction)
    if direction.ndim != 2 or any(v.shape != direction.shape for v in vectors):
        shapes = ", ".join(str(tuple(v.shape)) for v in vectors)
        raise ValueError(f"expected matrices (batch, d) of one shape, got {shapes}")
    if radius.shape != direction.shape[:1]:
        raise ValueError(
            f"radius must be (batch,) = {tuple(direction.shape[:1])}, got {tuple(radius.shape)}"
        )
    if ball.max_radius is None:
        raise ValueError("ball must have a max_radius, which the samples are moved inside")
    displacement = noise * log_scale.exp()
    rows = [direction, displacement, *([] if centre is None else [centre]), radius.unsqueeze(-1)]
    values = _apply(ball, rows)
    constant = -0.5 * direction.shape[-1] * math.log(2.0 * math.pi)
    gauss = -0.5 * noise.square() - log_scale
    return LatentSample(
        values.points,
        values.tangent,
        gauss.sum(-1) + (values.posterior.squeeze(-1) + constant),
        values.prior.squeeze(-1) + constant,
    )


def _check_ball(ball: Any) -> None:
    if not isinstance(ball, PoincareBall):
        raise TypeError(f"ball must be a PoincareBall, got {type(ball).__name__}: {ball!r}")


def _apply(ball: PoincareBall, rows: list[Tensor]) -> Values:
    call, c = LatentCall.of(ball, rows), ball._c
    visible = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if visible or (isinstance(c, Tensor) and c.requires_grad):
        # Somebody wants to see the operations, or the derivative with respect to c.
        m = Metric(_double(c), call.rim, False, rows[0].dtype)
        found = Latent.forward(m, call.region, *rows)
        values = Values(*(value.to(rows[0].dtype) for value in found))
        # To the bit the points of whoever asks for them alone.
        return values._replace(points=polar_point(ball, rows[0], rows[-1].squeeze(-1)))
    return Values(*_LatentFunction.apply(call, *rows))  # type: ignore[no-untyped-call]


class LatentCall:
    """:class:`Latent` on rows, outside of any graph; check-free.

    Args:
        c: curvature.
        rim: the limit of the open ball.
        region: the rest of what the formula is given.
        rows: directions, displacements, perhaps centres, (n, d) each, and radii (n, 1).
    """

    def __init__(self, c: Any, rim: num.Limit, region: Region, rows: Sequence[Tensor]) -> None:
        self._c, self.rim, self.region = c, rim, region
        self._rows = [_rows(t) for t in rows]

    @classmethod
    def of(cls, ball: PoincareBall, rows: Sequence[Tensor]) -> LatentCall:
        """The call for a ball with a ``max_radius``."""
        dtype, width = rows[0].dtype, rows[0].shape[-1]
        assert ball.max_radius is not None  # noqa: S101 - the caller's part
        inside = num.limit_of(dtype, ball.max_radius)
        region = Region(inside.threshold, inside.target, float(width - 1))
        return cls(ball._c, num.limit_of(dtype, None), region, rows)

    def forward(self) -> Values:
        """The values of the formula."""
        rows, dtype = self._rows, self._rows[0].dtype
        if not programs.fits(rows):
            m = Metric(_double(self._c), self.rim, False, dtype)
            return Values(*(v.to(dtype) for v in Latent.forward(m, self.region, *rows)))
        like, n = rows[0].shape, rows[0].shape[0]
        found = [torch.empty(s, dtype=dtype) for s in (like, like, (n, 1), (n, 1))]
        programs.evaluate(
            _forward, float(self._c), self.rim, self.region, rows[:-1], rows[-1:], found
        )
        return Values(*found)

    def backward(self, grads: Values) -> list[Tensor]:
        """The gradients of the rows; that of the points may be None."""
        rows, given = self._rows, [_rows(g) for g in grads if g is not None]
        # Of the gradients the last two are numbers; that of the points is the first.
        vectors, numbers = [*given[:-2], *rows[:-1]], [*given[-2:], rows[-1]]
        formula = _BACKWARD[len(rows) == 4, grads.points is not None]
        if programs.fits([*vectors, *numbers]):
            found = [torch.empty_like(t) for t in rows]
            programs.evaluate(
                formula, float(self._c), self.rim, self.region, vectors, numbers, found
            )
            return found
        m = Metric(_double(self._c), self.rim, False, rows[0].dtype)
        made = formula(m, self.region, *vectors, *(t.double() for t in numbers))
        return [g.to(t.dtype) for g, t in zip(made, rows, strict=True)]


def _forward(m: Any, parameters: Any, *rows: Any) -> list[Any]:
    return list(Latent.forward(m, Region(*parameters), *rows))


def _backward_of(centred: bool, pointed: bool) -> Callable[..., list[Any]]:
    """The backward pass as a formula of rows alone.

    Rows are the gradients of the vectors, the vectors, the gradients of the numbers, the radii.
    """

    def backward(m: Any, parameters: Any, *rows: Any) -> list[Any]:
        given = list(rows)
        g_points = given.pop(0) if pointed else None
        g_tangent = given.pop(0)
        vectors = [given.pop(0) for _ in range(3 if centred else 2)]
        g_posterior, g_prior, radius = given
        grads = Values(g_points, g_tangent, g_posterior, g_prior)
        return Latent.backward(m, Region(*parameters), grads, *vectors, radius)

    return backward


_BACKWARD = {
    (centred, pointed): _backward_of(centred, pointed)
    for centred in (False, True)
    for pointed in (False, True)
}


class _LatentFunction(torch.autograd.Function):
    """:class:`Latent` as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, call: LatentCall, *rows: Tensor) -> tuple[Any, ...]:
        ctx.call = call
        ctx.save_for_backward(*rows)  # so that changes to them are noticed
        return tuple(call.forward())

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> Any:
        _ = ctx.saved_tensors
        return None, *ctx.call.backward(Values(*grads))


def _double(c: Any) -> Any:
    return c.double() if isinstance(c, Tensor) else c


def _rows(t: Tensor) -> Tensor:
    return t if t.stride(1) == 1 or t.shape[1] == 1 else t.contiguous()
