"""One branch of the model, from sequences to likelihoods, as one node of the graph on CPUs.

The same as calling the encoder, the ball and the decoder one after the other, whose operations are
many and small: here they are two calls of :mod:`ternvae.models.dense` and one of the ball's
formula in between, forward and backward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ternvae.first_order import first_order
from ternvae.manifolds import PoincareBall
from ternvae.manifolds.latent import LatentCall, Values, radius_at
from ternvae.models import dense
from ternvae.models.layers import BranchOutput, Encoder, wire_sample

__all__ = ["BranchCall", "run_branch"]


class BranchCall:
    """A branch, ready to run on a batch, outside of any graph; check-free.

    Attributes:
        layers: the calls of the encoder and of the decoder.
    """

    def __init__(
        self, encoding: dense.Call, decoding: dense.Call, ball: PoincareBall, centres: Any
    ) -> None:
        self.layers = (encoding, decoding)
        self._ball = ball
        self._centres: list[Tensor] = [] if centres is None else [centres]
        self._latent: LatentCall | None = None

    @classmethod
    def prepare(
        cls,
        model: nn.Module,
        encoder: Encoder,
        wire_decoder: dense.Wire,
        ball: PoincareBall,
        sequences: Tensor,
        noise: Tensor,
        centres: Tensor | None,
    ) -> BranchCall | None:
        """Get ready; check-free in its values.

        Args:
            model: whose decoder ``wire_decoder`` wires: tangent vectors in, logits and nll out.
            encoder: of the branch.
            wire_decoder: see ``model``.
            ball: the ball of the encoder.
            sequences: (batch, n_digits) integers in {-1, 0, 1}.
            noise: (batch, latent_dim) standard normal draws.
            centres: (batch, latent_dim) centres of the prior; None for the origin.

        Returns:
            None where the modules have to be called themselves; see :mod:`ternvae.models.dense`.
        """
        if isinstance(ball._c, Tensor) or noise.dtype is not torch.float32:
            return None
        whole = radius_at(ball, 1.0)
        encoding = dense.prepare(encoder, wire_sample, sequences, noise, whole=whole)
        # The decoder reads what is not there yet; noise has its shape.
        decoding = dense.prepare(model, wire_decoder, sequences, noise)
        if encoding is None or decoding is None:
            return None
        return cls(encoding, decoding, ball, None if centres is None else centres.detach())

    def forward(self, *, keep: bool) -> BranchOutput:
        """The outputs, logits as (batch, 3 n_digits); ``keep`` what the gradients need."""
        encoding, decoding = self.layers
        direction, radius, displacement, weight = encoding.forward(keep=keep)
        latent = LatentCall.of(self._ball, [direction, displacement, *self._centres, radius])
        values = latent.forward()
        decoding.tensors[0] = values.tangent
        logits, nll = decoding.forward(keep=keep)
        self._latent = latent if keep else None
        constant = -0.5 * direction.shape[-1] * math.log(2.0 * math.pi)
        posterior = values.posterior.squeeze(1).add_(weight).add_(constant)
        prior = values.prior.squeeze(1).add_(constant)
        return BranchOutput(values.points, radius.squeeze(1), logits, nll, posterior, prior)

    def backward(
        self, grads: Sequence[Tensor | None], wanted: Sequence[bool] | None = None
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """The gradients, given those of the outputs; None for zero.

        Args:
            grads: in the order of :class:`BranchOutput`.
            wanted: for each parameter of the encoder, then of the decoder; None to add their
                gradients to the ``grad`` of those that learn.

        Returns:
            That of the centres, and those of the parameters that are wanted.
        """
        encoding, decoding = self.layers
        assert self._latent is not None  # noqa: S101 - forward kept it
        g_points, g_radius, g_logits, g_nll, g_posterior, g_prior = grads
        own = len(encoding.tensors) - 1
        g_decoder: list[Tensor | None] = []
        if wanted is None:
            (g_tangent,) = decoding.accumulate((g_logits, g_nll), (True,))
        else:
            g_tangent, *g_decoder = decoding.backward((g_logits, g_nll), (True, *wanted[own:]))
        assert g_tangent is not None  # noqa: S101 - it was wanted
        g_posterior, g_prior = (
            torch.zeros(len(g_tangent)) if g is None else g.contiguous()
            for g in (g_posterior, g_prior)
        )
        g_direction, g_displacement, *g_centres, along = self._latent.backward(
            Values(g_points, g_tangent, g_posterior.unsqueeze(1), g_prior.unsqueeze(1))
        )
        if g_radius is not None:
            along += g_radius.unsqueeze(1)
        g_centre = g_centres[0] if g_centres else None
        g_outputs = (g_direction, along, g_displacement, g_posterior)
        if wanted is None:
            encoding.accumulate(g_outputs, (False,))
            return g_centre, []
        _, *g_encoder = encoding.backward(g_outputs, (False, *wanted[:own]))
        return g_centre, g_encoder + g_decoder


def run_branch(call: BranchCall, sequences: Tensor, centres: Tensor | None) -> BranchOutput:
    """Run a branch as a node of the graph; check-free in its values.

    Args:
        call: what :meth:`BranchCall.prepare` gave.
        sequences: those of the call.
        centres: those of the call, with their place in the graph.
    """
    learned = [p for layer in call.layers for p in layer.tensors[1:]]
    points, radius, logits, nll, posterior, prior = _Branch.apply(  # type: ignore[no-untyped-call]
        call, centres, *learned
    )
    logits = logits.view(*sequences.shape, 3)
    return BranchOutput(points, radius, logits, nll, posterior, prior)


class _Branch(torch.autograd.Function):
    """A branch as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, call: BranchCall, centres: Tensor | None, *learned: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.call = call
        ctx.set_materialize_grads(False)
        between = [] if centres is None else [centres]
        ctx.save_for_backward(*learned, *between)  # so that changes to them are noticed
        return tuple(call.forward(keep=any(ctx.needs_input_grad)))

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        _ = ctx.saved_tensors
        g_centre, found = ctx.call.backward(grads, ctx.needs_input_grad[2:])
        return None, g_centre, *found
