"""The model: two encoders, one decoder, prototypes, and how a trained one is used."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.manifolds import ManifoldParameter, PoincareBall, WrappedNormal, log_chord
from ternvae.manifolds.latent import latent_sample, radius_at
from ternvae.models import dense
from ternvae.models.arguments import (
    BRANCHES,
    as_points,
    available,
    check_batch,
    check_branch,
    check_draws,
    check_dropout,
    check_flag,
    check_levels,
    check_sequences,
    count,
)
from ternvae.models.branch import BranchCall, run_branch
from ternvae.models.layers import BranchOutput, Decoder, Encoder, Polar, chart, full_precision
from ternvae.models.stored import stored_config
from ternvae.padic import TernarySpace
from ternvae.padic.arguments import WholeNumbers

__all__ = ["TernaryVAE"]

#: Spread of the prototypes at the start, Euclidean; only breaks the tie at the origin.
_INITIAL_PROTOTYPE_SPREAD = 1e-2

#: Thresholds start between this and its negative, as :func:`ternvae.manifolds.log_chord`: distances
#: from about 4.5 down to 0.4, among which a tree fits into ``max_radius`` 0.95.
_INITIAL_THRESHOLD = 3.0


class TernaryVAE(nn.Module):
    """Dual-encoder variational autoencoder over the ternary sequences of ``n_digits`` digits.

    Args:
        n_digits: digits of a sequence, 1 to 20.
        latent_dim: dimension of the ball, at least 2.
        hidden_dim: width of the hidden layers.
        projection_layers: linear layers in each head of the ball projections, at least 1.
        chart_layers: linear layers between a point of branch B and the decoder, at least 1.
        dropout: probability of dropping a hidden feature of an encoder, in [0, 1).
        curvature: c > 0; the ball has sectional curvature -c.
        learnable_curvature: whether c is a parameter that starts there.
        max_radius: share of the ball's Euclidean radius in use, in (0, 1).
        mathematical_precision: whether points, radii and densities are float64 whatever the dtype
            of the weights is.

    Hidden layers may run under ``torch.autocast``; whatever touches the ball opts out of it.

    Raises:
        TypeError: ``dropout``, ``curvature`` or ``max_radius`` is not a number, or a flag is not a
            bool.
        ValueError: an argument is out of its range, or a count not an integer.
    """

    def __init__(
        self,
        n_digits: int = 9,
        latent_dim: int = 16,
        hidden_dim: int = 64,
        projection_layers: int = 2,
        chart_layers: int = 2,
        dropout: float = 0.0,
        curvature: float = 1.0,
        learnable_curvature: bool = False,
        max_radius: float = 0.95,
        mathematical_precision: bool = False,
    ) -> None:
        super().__init__()
        latent_dim = count("latent_dim", latent_dim, 2)
        hidden_dim = count("hidden_dim", hidden_dim, 1)
        projection_layers = count("projection_layers", projection_layers, 1)
        chart_layers = count("chart_layers", chart_layers, 1)
        check_dropout(dropout)
        check_flag("mathematical_precision", mathematical_precision)
        self.space = TernarySpace(n_digits)
        n_digits = self.space.n_digits
        self.ball = PoincareBall(c=curvature, max_radius=max_radius, learnable=learnable_curvature)
        #: Keywords that rebuild this model; a checkpoint stores them beside the weights.
        self.config: dict[str, Any] = {
            "n_digits": n_digits,
            "latent_dim": latent_dim,
            "hidden_dim": hidden_dim,
            "projection_layers": projection_layers,
            "chart_layers": chart_layers,
            "dropout": dropout,
            "curvature": curvature,
            "learnable_curvature": learnable_curvature,
            "max_radius": max_radius,
            "mathematical_precision": mathematical_precision,
        }
        self._float64 = mathematical_precision
        self.encoders = nn.ModuleDict(
            {
                branch: Encoder(
                    self.ball,
                    n_digits,
                    latent_dim,
                    hidden_dim,
                    projection_layers,
                    dropout,
                    float64=mathematical_precision,
                )
                for branch in BRANCHES
            }
        )
        self.charts = nn.ModuleDict(
            {
                "A": nn.Linear(latent_dim, hidden_dim),
                "B": chart(latent_dim, hidden_dim, chart_layers),
            }
        )
        self.decoder = Decoder(n_digits, hidden_dim)
        start = _INITIAL_PROTOTYPE_SPREAD * torch.randn(n_digits + 1, latent_dim)
        self.prototypes = ManifoldParameter(self.ball.projx(start), manifold=self.ball)
        levels = torch.arange(1, n_digits) / n_digits
        self.thresholds = nn.Parameter(_INITIAL_THRESHOLD * (1 - 2 * levels))

    # --- training ---------------------------------------------------------------------------

    def forward(
        self, sequences: Tensor, valuation: Tensor, branch: str, noise: Tensor | None = None
    ) -> BranchOutput:
        """Encode, sample a latent point, decode it; see :class:`BranchOutput`.

        Check-free in its values, because training calls it in every step: a digit outside
        {-1, 0, 1} is encoded as none, and for valuations see :meth:`prior`; :meth:`embed` checks.

        Args:
            sequences: (batch, n_digits) integers in {-1, 0, 1}, on the model's device.
            valuation: (batch,) int64 in 0..n_digits, which prototype is the centre of branch B's
                prior.
            branch: "A" or "B".
            noise: (batch, latent_dim) standard normal draws of ``point_dtype`` that make the
                sample; None draws them from torch's global random state.

        Returns:
            Points, radii, logits and densities of the batch.

        Raises:
            TypeError: sequences that are no integers, valuations that are not int64, or noise of
                another dtype.
            ValueError: shapes or devices that do not fit, or an unknown branch.
        """
        check_branch(branch)
        check_batch(sequences, valuation, self.space.n_digits, self.prototypes.device)
        if noise is None:
            shape = (len(sequences), self.prototypes.shape[-1])
            noise = torch.randn(shape, dtype=self.point_dtype, device=sequences.device)
        centre = self._prior_centres(valuation) if branch == "B" else None
        call = self.branch_call(sequences, branch, noise, centre)
        if call is not None:
            return run_branch(call, sequences, centre)
        posterior: Polar = self.encoder(branch)(sequences)
        with full_precision(noise):
            radius = radius_at(self.ball, posterior.share)
            sample = latent_sample(
                self.ball, posterior.direction, radius, posterior.log_scale, noise, centre
            )
        logits, nll = self._decoded(sample.tangent, sequences, branch)
        return BranchOutput(
            sample.points,
            radius,
            logits,
            nll,
            sample.posterior_log_prob,
            sample.prior_log_prob,
        )

    def branch_call(
        self, sequences: Tensor, branch: str, noise: Tensor, centre: Tensor | None
    ) -> BranchCall | None:
        """What :meth:`forward` does, ready to run outside of the graph; check-free in its values.

        For training loops, to which the graph of so small a network is most of the work.

        Args:
            sequences: (batch, n_digits), as for :meth:`forward`.
            branch: "A" or "B".
            noise: (batch, latent_dim), as for :meth:`forward`.
            centre: (batch, latent_dim) centres of the prior; None for the origin.

        Returns:
            None where :meth:`forward` calls the modules: without the extension, on an accelerator,
            in float64, under autocast, with active dropout, hooks or other layers.

        Raises:
            TypeError: sequences that are no integers, or noise or centres of another dtype.
            ValueError: shapes or devices that do not fit, or an unknown branch.
        """
        device = self.prototypes.device
        check_sequences(sequences, self.space.n_digits, device)
        shape = (len(sequences), self.prototypes.shape[-1])
        check_draws("noise", noise, shape, self.point_dtype, device)
        if centre is not None:
            check_draws("centre", centre, shape, self.point_dtype, device)
        return BranchCall.prepare(
            self,
            self.encoder(branch),
            _WIRE_DECODER[branch],
            self.ball,
            sequences,
            noise,
            centre,
        )

    def _decoded(self, tangent: Tensor, sequences: Tensor, branch: str) -> tuple[Tensor, Tensor]:
        """Logits (batch, n, 3), and -log p of the sequences (batch,)."""
        found = dense.run(self, _WIRE_DECODER[branch], sequences, tangent.to(self.prototypes.dtype))
        if found is None:
            with full_precision(tangent):
                charted = self._charted(tangent, branch)
            logits: Tensor = self.decoder(charted)
            logits = logits.to(charted.dtype)
            targets = (sequences + 1).flatten()
            digits = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
            return logits, digits.view(sequences.shape).sum(-1)
        logits, nll = found
        return logits.view(*sequences.shape, 3), nll

    def _charted(self, tangent: Tensor, branch: str) -> Tensor:
        charted: Tensor = self.charts[branch](tangent.to(self.prototypes.dtype))
        return charted

    def _prior_centres(self, valuation: Tensor) -> Tensor:
        return F.embedding(valuation, self.prototypes).to(self.point_dtype)

    def prior(self, branch: str, valuation: Tensor) -> WrappedNormal:
        """Prior of the latent point: WN(origin, 1) for A, WN(prototype of the level, 1) for B.

        Args:
            branch: "A" or "B".
            valuation: (batch,) integers in 0..n_digits.

        Returns:
            A distribution with batch shape (batch,) and event shape (latent_dim,).

        Check-free in its values: a valuation outside 0..n_digits is an ``IndexError`` on a CPU.

        Raises:
            TypeError: valuations that are not int64.
            ValueError: valuations that are not (batch,) or on another device than the model, or an
                unknown branch.
        """
        check_branch(branch)
        check_levels(valuation, self.prototypes.device)
        centres = self._prior_centres(valuation)
        if branch == "A":
            centres = torch.zeros_like(centres)
        return WrappedNormal(centres, torch.ones_like(centres), self.ball, validate_args=False)

    def encoder(self, branch: str) -> Encoder:
        """The encoder of a branch.

        Args:
            branch: "A" or "B".

        Returns:
            The module itself, not a copy.

        Raises:
            ValueError: an unknown branch.
        """
        check_branch(branch)
        encoder = self.encoders[branch]
        assert isinstance(encoder, Encoder)  # noqa: S101 - ModuleDict forgets the type
        return encoder

    @property
    def point_dtype(self) -> torch.dtype:
        """In what points of the ball are represented: that of the weights, or float64."""
        return torch.float64 if self._float64 else self.prototypes.dtype

    def coverage_modules(self) -> tuple[nn.Module, ...]:
        """What coverage through A depends on: freeze these and it cannot change any more.

        Encoder A, its chart, the decoder, and the ball, whose curvature may be learned.
        """
        return self.encoders["A"], self.charts["A"], self.decoder, self.ball

    # --- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def embed(self, sequences_or_indices: WholeNumbers, branch: str = "B") -> Tensor:
        """Posterior means as points of the ball; no sampling, dropout off, no gradients.

        Args:
            sequences_or_indices: (batch,) indices in 0 .. 3^n_digits - 1 or (batch, n_digits)
                sequences in {-1, 0, 1}; tensors, arrays or lists.
            branch: "A" or "B".

        Returns:
            (batch, latent_dim) points of ``point_dtype``, on the model's device.

        Raises:
            ValueError: a value outside the space, a wrong shape or an unknown branch.
        """
        check_branch(branch)
        # The space reads the values itself: a tensor made here from a list of floats would be
        # float32, which moves indices above 2**24 to their neighbours.
        given = sequences_or_indices
        if np.ndim(given) == 1:
            sequences = self.space.sequences(given)
        elif np.ndim(given) == 2:
            sequences = self.space.sequences(self.space.indices(given))
        else:
            raise ValueError(
                f"expected indices of shape (batch,) or sequences of shape (batch, "
                f"{self.space.n_digits}), got shape {tuple(np.shape(given))}"
            )
        encoder = self.encoder(branch)
        was_training = encoder.training
        encoder.eval()
        try:
            points: Tensor = encoder.centres(sequences.to(self.prototypes.device))
        finally:
            encoder.train(was_training)
        return points

    @torch.no_grad()
    def decode(self, points: ArrayLike | Tensor, branch: str = "B") -> Tensor:
        """Most likely sequence for each point of the ball.

        Args:
            points: (batch, latent_dim) points inside the open ball.
            branch: the branch whose layout of the ball the points follow, "A" or "B".

        Returns:
            (batch, n_digits) integers in {-1, 0, 1}.

        Raises:
            TypeError: points of half precision, or what is no array of numbers.
            ValueError: a wrong shape or dtype, a point outside the ball or not finite, a tensor on
                the device meta, or an unknown branch.
        """
        check_branch(branch)
        given = self._points(points)
        with full_precision(given):
            tangent = self.ball.logmap0(given)
        found = dense.run(self, _WIRE_LOGITS[branch], None, tangent.to(self.prototypes.dtype))
        if found is None:
            with full_precision(given):
                charted = self._charted(tangent, branch)
            logits: Tensor = self.decoder(charted)
        else:
            logits = found[0].view(len(given), self.space.n_digits, 3)
        return logits.argmax(-1) - 1

    def _points(self, points: ArrayLike | Tensor) -> Tensor:
        """What a user gives as points, of the model's dtype and on its device."""
        given = as_points(points)
        latent_dim = self.prototypes.shape[-1]
        if given.ndim != 2 or given.shape[-1] != latent_dim or not given.is_floating_point():
            raise ValueError(
                f"expected floating-point points of shape (batch, {latent_dim}), got "
                f"{given.dtype} of shape {tuple(given.shape)}"
            )
        self.ball.assert_check_point_on_manifold(given)
        return given.to(self.prototypes.device, self.point_dtype)

    @torch.no_grad()
    def valuation_between(self, first: ArrayLike | Tensor, second: ArrayLike | Tensor) -> Tensor:
        """The valuation of the difference of two sequences, read from their points of branch B.

        It is the number of thresholds that are above the distance of the points, which training
        has placed; so equal points have valuation n - 1, the largest of two different sequences.
        Not for the sequence of zeros, which is at the centre and so too near to all others: the
        valuation of a sequence itself is in its radius.

        Args:
            first: (batch, latent_dim) points inside the open ball.
            second: likewise; a single row, (1, latent_dim), is compared with all of ``first``.

        Returns:
            (batch,) int64 in 0..n_digits - 1.

        Raises:
            TypeError: points of half precision, or what is no array of numbers.
            ValueError: a wrong shape or dtype, a point outside the ball or not finite, or a model
                from a checkpoint older than the thresholds.
        """
        if self.thresholds.isnan().any():
            raise ValueError(
                "this model has no thresholds: it was trained before they were learned; train it "
                "again to read valuations from its points"
            )
        one, other = (self._points(each) for each in (first, second))
        if len(one) != len(other) and len(other) != 1:
            raise ValueError(
                f"expected as many points, or one to compare with, got {len(one)} and {len(other)}"
            )
        with full_precision(one):
            apart = log_chord(self.ball.dist(one, other), c=self.ball.c)
        return (apart.unsqueeze(-1) < self.thresholds).sum(-1)

    @classmethod
    def from_checkpoint(
        cls, path: str | PathLike[str], device: str | torch.device = "cpu"
    ) -> TernaryVAE:
        """Rebuild a trained model from a checkpoint file, ready for inference.

        Args:
            path: a checkpoint that training wrote, for instance ``best_Q.pt``.
            device: where the model shall live.

        Returns:
            The model on ``device``, in evaluation mode.

        Raises:
            TypeError: ``path`` is not a path.
            ValueError: ``device`` is not available.
            CheckpointError: the file is missing, unreadable or not such a checkpoint.
        """
        if not isinstance(path, str | PathLike):
            raise TypeError(f"path must be a str or a path, got {type(path).__name__}: {path!r}")
        device = available(device)
        contents = load_checkpoint(path)
        try:
            state = contents["model_state_dict"]
            config = stored_config(contents["model_config"], state)
            # A new model draws weights before it gets those of the file.
            with torch.random.fork_rng(devices=[]):
                model = cls(**config)
            model.to(state["prototypes"].dtype).load_state_dict(state)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: the stored model does not fit: {reason}") from error
        return model.to(device).eval()


def _wire_logits(branch: str) -> dense.Wire:
    def wire(model: TernaryVAE, wiring: dense.Wiring) -> int:
        tangent = wiring.load(model.prototypes.shape[-1])
        charted = wiring.through(tangent, model.charts, branch)
        logits = wiring.through(charted, model, "decoder")
        wiring.store(logits)
        return logits

    return wire


def _wire_decoder(branch: str) -> dense.Wire:
    def wire(model: TernaryVAE, wiring: dense.Wiring) -> None:
        wiring.nll(_WIRE_LOGITS[branch](model, wiring))

    return wire


_WIRE_LOGITS = {branch: _wire_logits(branch) for branch in BRANCHES}
_WIRE_DECODER = {branch: _wire_decoder(branch) for branch in BRANCHES}
