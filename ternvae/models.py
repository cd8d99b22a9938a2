"""The dual-encoder variational autoencoder whose latent space is a Poincare ball.

Two encoders read a sequence of ternary digits and answer with a point of the ball and a scale; one
decoder reads a point of the ball and nothing else.  Branch A guards coverage (every sequence can
be read back), branch B develops the hierarchy (radius carries the 3-adic valuation).

The generative model.  With v the valuation of a sequence x and d the dimension of the ball::

    branch A   p(z)     = WN(origin, 1)        q(z | x) = WN(point_A(x), scale_A(x))
    branch B   p(z | v) = WN(prototype_v, 1)   q(z | x) = WN(point_B(x), scale_B(x))
    both       p(x | z) = product over digits of softmax(decoder(chart(log_0 z)))

WN is the wrapped normal of Nagano et al. 2019 with scales in units of hyperbolic length.  The
prototypes are points of the ball, one per level: the centres of branch B's prior.  They are
learned by the KL term, which moves each one towards the centre of its level's posteriors, and as
points of the ball they are moved by Riemannian Adam.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.manifolds import ManifoldParameter, PoincareBall, WrappedNormal
from ternvae.padic import TernarySpace

__all__ = ["BRANCHES", "BranchOutput", "TernaryVAE"]

BRANCHES = ("A", "B")

#: Bounds of the log-variance of the posteriors, in squared units of the metric.
LOG_VARIANCE_RANGE = (-10.0, 2.0)

#: Posteriors start narrow, so that early gradients of the reconstruction are not drowned in noise.
_INITIAL_LOG_VARIANCE = -4.0

#: Spread of the prototypes at the start, Euclidean; only breaks the tie at the origin.
_INITIAL_PROTOTYPE_SPREAD = 1e-2


class BranchOutput(NamedTuple):
    """What one branch makes of a batch; ``batch`` rows throughout.

    Attributes:
        points: (batch, latent_dim) centres of the posteriors, points of the ball.
        radius: (batch,) hyperbolic distance of ``points`` from the origin.
        logits: (batch, n_digits, 3) for the digits -1, 0, 1, decoded from a posterior sample.
        posterior_log_prob: (batch,) log q(z | x) at that sample, in nats.
        prior_log_prob: (batch,) log p(z) at that sample, in nats.
    """

    points: Tensor
    radius: Tensor
    logits: Tensor
    posterior_log_prob: Tensor
    prior_log_prob: Tensor


def _head(width: int, out: int, layers: int) -> nn.Sequential:
    hidden = [m for _ in range(layers - 1) for m in (nn.Linear(width, width), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(width, out))


class BallProjection(nn.Module):
    """Map features to the ball by a learned direction and a learned hyperbolic radius.

    z = exp_0(r/2 * u) with |u| = 1 has distance r from the origin, since the conformal factor
    there is 2 (Ganea et al. 2018, eq. 12).  r = radius_max * sigmoid(.) stays inside
    ``max_radius`` and leaves the direction free at every radius.
    """

    def __init__(
        self,
        ball: PoincareBall,
        hidden_dim: int,
        latent_dim: int,
        layers: int,
        *,
        float64: bool,
    ) -> None:
        super().__init__()
        self.ball = ball
        self.float64 = float64
        self.direction = _head(hidden_dim, latent_dim, layers)
        self.radius = _head(hidden_dim, 1, layers)

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, hidden_dim) to points (batch, latent_dim)."""
        direction, radius = self.direction(features), self.radius(features)
        if self.float64:
            direction, radius = direction.double(), radius.double()
        unit = F.normalize(direction, dim=-1)
        radius = self.ball.hyperbolic_radius_max * torch.sigmoid(radius)
        return self.ball.expmap0(unit * (radius / 2))


class Encoder(nn.Module):
    """Sequence to posterior: digits one-hot, two hidden layers, a ball projection and a scale."""

    def __init__(
        self,
        ball: PoincareBall,
        n_digits: int,
        latent_dim: int,
        hidden_dim: int,
        projection_layers: int,
        dropout: float,
        *,
        float64: bool,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(3 * n_digits, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
        )
        self.projection = BallProjection(
            ball, hidden_dim, latent_dim, projection_layers, float64=float64
        )
        self.log_variance = nn.Linear(hidden_dim, latent_dim)
        nn.init.constant_(self.log_variance.bias, _INITIAL_LOG_VARIANCE)

    def forward(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences (batch, n) to centres and scales, both (batch, latent_dim)."""
        features = self.features(self._one_hot(sequences))
        with full_precision(features):
            features = features.to(self.log_variance.weight.dtype)
            log_variance = self.log_variance(features).clamp(*LOG_VARIANCE_RANGE)
            points = self.projection(features)
            return points, torch.exp(0.5 * log_variance).to(points.dtype)

    def centres(self, sequences: Tensor) -> Tensor:
        """Only the centres of the posteriors, (batch, latent_dim)."""
        features = self.features(self._one_hot(sequences))
        with full_precision(features):
            points: Tensor = self.projection(features.to(self.log_variance.weight.dtype))
        return points

    def _one_hot(self, sequences: Tensor) -> Tensor:
        digits = torch.arange(-1, 2, device=sequences.device)
        one_hot = sequences.unsqueeze(-1) == digits
        return one_hot.flatten(-2).to(self.log_variance.weight.dtype)


class Decoder(nn.Sequential):
    """Charted point to digits: (batch, hidden_dim) to logits (batch, n_digits, 3).

    One decoder serves both branches.  They lay out the ball differently, so each has its own
    linear chart of the tangent space at the origin in front of it; see :class:`TernaryVAE`.
    """

    def __init__(self, n_digits: int, hidden_dim: int) -> None:
        super().__init__(
            nn.LayerNorm(hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, 3 * n_digits),
            nn.Unflatten(-1, (n_digits, 3)),
        )


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Where autocast is on for the tensor's device: a block in which it is off."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class TernaryVAE(nn.Module):
    """Dual-encoder variational autoencoder over the ternary sequences of ``n_digits`` digits.

    Args:
        n_digits: digits of a sequence, 1 to 20.
        latent_dim: dimension of the ball, at least 2.
        hidden_dim: width of the hidden layers.
        projection_layers: linear layers in each head of the ball projections, at least 1.
        dropout: probability of dropping a hidden feature of an encoder, in [0, 1).
        curvature: c > 0; the ball has sectional curvature -c.
        learnable_curvature: whether c is a parameter that starts there.
        max_radius: share of the ball's Euclidean radius in use, in (0, 1).
        mathematical_precision: whether points, radii and densities are float64 whatever the dtype
            of the weights is.

    Hidden layers may run under ``torch.autocast``; whatever touches the ball opts out of it.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        n_digits: int = 9,
        latent_dim: int = 16,
        hidden_dim: int = 64,
        projection_layers: int = 2,
        dropout: float = 0.0,
        curvature: float = 1.0,
        learnable_curvature: bool = False,
        max_radius: float = 0.95,
        mathematical_precision: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("latent_dim", latent_dim, 2),
            ("hidden_dim", hidden_dim, 1),
            ("projection_layers", projection_layers, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.space = TernarySpace(n_digits)
        self.ball = PoincareBall(c=curvature, max_radius=max_radius, learnable=learnable_curvature)
        #: Keywords that rebuild this model; a checkpoint stores them beside the weights.
        self.config: dict[str, Any] = {
            "n_digits": n_digits,
            "latent_dim": latent_dim,
            "hidden_dim": hidden_dim,
            "projection_layers": projection_layers,
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
        self.charts = nn.ModuleDict({b: nn.Linear(latent_dim, hidden_dim) for b in BRANCHES})
        self.decoder = Decoder(n_digits, hidden_dim)
        start = _INITIAL_PROTOTYPE_SPREAD * torch.randn(n_digits + 1, latent_dim)
        self.prototypes = ManifoldParameter(self.ball.projx(start), manifold=self.ball)

    # --- training ---------------------------------------------------------------------------

    def forward(self, sequences: Tensor, valuation: Tensor, branch: str) -> BranchOutput:
        """Encode, sample a latent point, decode it; see :class:`BranchOutput`.

        Check-free: sequences must be integers in {-1, 0, 1} and valuations in 0..n_digits.
        Sampling uses torch's global random state.

        Args:
            sequences: (batch, n_digits).
            valuation: (batch,), which prototype is the centre of branch B's prior.
            branch: "A" or "B".
        """
        points, scale = self.encoders[branch](sequences)
        with full_precision(points):
            posterior = WrappedNormal(points, scale, self.ball, validate_args=False)
            sample, posterior_log_prob = posterior.rsample_with_log_prob()
            prior_log_prob = self.prior(branch, valuation).log_prob(sample)
            # The densities belong to the unclipped sample; the decoder gets one inside max_radius.
            charted = self._charted(self.ball.projx(sample), branch)
            radius = self.ball.dist0(points)
        logits = self.decoder(charted).to(charted.dtype)
        return BranchOutput(points, radius, logits, posterior_log_prob, prior_log_prob)

    def _charted(self, points: Tensor, branch: str) -> Tensor:
        """What the decoder sees of points (batch, latent_dim): (batch, hidden_dim)."""
        tangent: Tensor = self.ball.logmap0(points)
        charted: Tensor = self.charts[branch](tangent.to(self.prototypes.dtype))
        return charted

    def prior(self, branch: str, valuation: Tensor) -> WrappedNormal:
        """Prior of the latent point: WN(origin, 1) for A, WN(prototype of the level, 1) for B.

        Args:
            branch: "A" or "B".
            valuation: (batch,) integers in 0..n_digits.

        Returns:
            A distribution with batch shape (batch,) and event shape (latent_dim,).
        """
        centres = self.prototypes[valuation].to(self.point_dtype)
        if branch == "A":
            centres = torch.zeros_like(centres)
        return WrappedNormal(centres, torch.ones_like(centres), self.ball, validate_args=False)

    def encoder(self, branch: str) -> Encoder:
        """The encoder of branch "A" or "B"."""
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
    def embed(self, sequences_or_indices: Any, branch: str = "B") -> Tensor:
        """Posterior means as points of the ball; no sampling, dropout off, no gradients.

        Args:
            sequences_or_indices: (batch,) indices in [0, 3**n_digits) or (batch, n_digits)
                sequences in {-1, 0, 1}; tensors, arrays or lists.
            branch: "A" or "B".

        Returns:
            (batch, latent_dim) points of ``point_dtype``, on the model's device.

        Raises:
            ValueError: a value outside the space, a wrong shape or an unknown branch.
        """
        self._check_branch(branch)
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
    def decode(self, points: Any, branch: str = "B") -> Tensor:
        """Most likely sequence for each point of the ball.

        Args:
            points: (batch, latent_dim) points inside the open ball.
            branch: the branch whose layout of the ball the points follow, "A" or "B".

        Returns:
            (batch, n_digits) integers in {-1, 0, 1}.

        Raises:
            ValueError: a wrong shape, a point outside the ball or an unknown branch.
        """
        self._check_branch(branch)
        given = torch.as_tensor(points)
        latent_dim = self.prototypes.shape[-1]
        if given.ndim != 2 or given.shape[-1] != latent_dim or not given.is_floating_point():
            raise ValueError(
                f"expected floating-point points of shape (batch, {latent_dim}), got "
                f"{given.dtype} of shape {tuple(given.shape)}"
            )
        self.ball.assert_check_point_on_manifold(given)
        given = given.to(self.prototypes.device, self.point_dtype)
        with full_precision(given):
            charted = self._charted(given, branch)
        logits: Tensor = self.decoder(charted)
        return logits.argmax(-1) - 1

    @classmethod
    def from_checkpoint(
        cls, path: str | PathLike[str], device: str | torch.device = "cpu"
    ) -> TernaryVAE:
        """Rebuild a trained model from a checkpoint file, ready for inference.

        Args:
            path: a checkpoint that training wrote, for instance ``best_Q.pt``.
            device: where the model shall live.

        Raises:
            CheckpointError: the file is missing, unreadable or not such a checkpoint.
        """
        contents = load_checkpoint(path)
        try:
            # A new model draws weights before it gets those of the file.
            with torch.random.fork_rng(devices=[]):
                model = cls(**contents["model_config"])
            state = contents["model_state_dict"]
            model.to(state["prototypes"].dtype).load_state_dict(state)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: the stored model does not fit: {reason}") from error
        return model.to(device).eval()

    def _check_branch(self, branch: str) -> None:
        if branch not in BRANCHES:
            raise ValueError(f"branch must be one of {', '.join(BRANCHES)}, got {branch!r}")
