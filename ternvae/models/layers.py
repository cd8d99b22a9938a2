"""The parts of the model: encoders, their projection to the ball, and the decoder."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ternvae.manifolds import PoincareBall
from ternvae.manifolds.latent import polar_point, radius_at
from ternvae.models import dense

__all__ = [
    "LOG_VARIANCE_RANGE",
    "BallProjection",
    "BranchOutput",
    "Decoder",
    "Encoder",
    "Polar",
    "chart",
    "full_precision",
]

#: Bounds of the log-variance of the posteriors, in squared units of the metric.
LOG_VARIANCE_RANGE = (-10.0, 2.0)

#: Posteriors start narrow, so that early gradients of the reconstruction are not drowned in noise.
_INITIAL_LOG_VARIANCE = -4.0


class BranchOutput(NamedTuple):
    """What one branch makes of a batch, ``batch`` rows throughout; holds it check-free.

    Attributes:
        points: (batch, latent_dim) centres of the posteriors, points of the ball.
        radius: (batch,) hyperbolic distance of ``points`` from the origin.
        logits: (batch, n_digits, 3) for the digits -1, 0, 1, decoded from a posterior sample.
        nll: (batch,) -log p(x | z) of the sequence at that sample, in nats, from the logits.
        posterior_log_prob: (batch,) log q(z | x) at that sample, in nats.
        prior_log_prob: (batch,) log p(z) at that sample, in nats.
    """

    points: Tensor
    radius: Tensor
    logits: Tensor
    nll: Tensor
    posterior_log_prob: Tensor
    prior_log_prob: Tensor


class Polar(NamedTuple):
    """What an encoder says of a batch; holds it check-free.

    Attributes:
        direction: (batch, latent_dim) of the centre of the posterior, of any length but 0.
        share: (batch,) of the largest radius in use, that the centre has, in (0, 1).
        log_scale: (batch, latent_dim) logarithm of the scale of the posterior.
    """

    direction: Tensor
    share: Tensor
    log_scale: Tensor


def _head(width: int, out: int, layers: int) -> nn.Sequential:
    hidden = [m for _ in range(layers - 1) for m in (nn.Linear(width, width), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(width, out))


def chart(latent_dim: int, hidden_dim: int, layers: int) -> nn.Sequential:
    """Tangent space at the origin to what the decoder reads, (batch, hidden_dim)."""
    bent = [m for _ in range(layers - 1) for m in (nn.SiLU(), nn.Linear(hidden_dim, hidden_dim))]
    return nn.Sequential(nn.Linear(latent_dim, hidden_dim), *bent)


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

    def points(self, direction: Tensor, radius: Tensor) -> Tensor:
        """What the heads say, (batch, latent_dim) and (batch, 1), as points."""
        if self.float64:
            direction, radius = direction.double(), radius.double()
        share = torch.sigmoid(radius).squeeze(-1)
        return polar_point(self.ball, direction, radius_at(self.ball, share))


class Encoder(nn.Module):
    """Sequence to posterior: digits one-hot, two hidden layers, a ball projection and a scale.

    The direction is the sum of what the hidden layers say and of a linear map of the one-hot
    digits.  The 3-adic metric is that of a sum of one vector per digit, each shorter than the one
    before, so the map alone can place every sequence among the others; the layers bend it.
    """

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
        self.digits = nn.Linear(3 * n_digits, latent_dim)
        self.log_variance = nn.Linear(hidden_dim, latent_dim)
        nn.init.constant_(self.log_variance.bias, _INITIAL_LOG_VARIANCE)

    def forward(self, sequences: Tensor) -> Polar:
        """Sequences (batch, n) to their posteriors, in polar coordinates."""
        found = dense.run(self, _wire_posterior, sequences)
        if found is None:
            features, one_hot = self._features(sequences)
            with full_precision(features):
                found = (*self._heads(features, one_hot), self.log_variance(features))
        direction, radius, log_variance = found
        if self.projection.float64:
            direction, radius, log_variance = (each.double() for each in found)
        log_scale = 0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)
        return Polar(direction, torch.sigmoid(radius).squeeze(-1), log_scale)

    def centres(self, sequences: Tensor) -> Tensor:
        """Only the centres of the posteriors, (batch, latent_dim)."""
        ball = self.projection.ball
        found = None
        if not (self.projection.float64 or isinstance(ball._c, Tensor)):
            # To the bit what a branch of the model makes of them in one call.
            found = dense.run(self, _wire_centres, sequences, whole=radius_at(ball, 1.0))
        if found is not None:
            direction, radius = found
            return polar_point(ball, direction, radius.squeeze(-1))
        found = dense.run(self, _wire_heads, sequences)
        if found is not None:
            return self.projection.points(*found)
        features, one_hot = self._features(sequences)
        with full_precision(features):
            return self.projection.points(*self._heads(features, one_hot))

    def _features(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """What the hidden layers make of sequences, and their one-hot digits."""
        dtype = self.log_variance.weight.dtype
        digits = torch.arange(-1, 2, device=sequences.device)
        one_hot = (sequences.unsqueeze(-1) == digits).flatten(-2).to(dtype)
        features: Tensor = self.features(one_hot)
        return features.to(dtype), one_hot

    def _heads(self, features: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """Direction and radius, (batch, latent_dim) and (batch, 1)."""
        head = self.projection
        return head.direction(features) + self.digits(one_hot), head.radius(features)


def _wire_features(encoder: Encoder, wiring: dense.Wiring) -> tuple[int, int]:
    """The features, and the direction."""
    columns: int = encoder.features[0].in_features  # type: ignore[assignment]  # a linear layer
    one_hot = wiring.one_hot(columns // 3)
    features = wiring.through(one_hot, encoder, "features")
    bent = wiring.through(features, encoder.projection, "direction")
    return features, wiring.add(bent, wiring.through(one_hot, encoder, "digits"))


def _wire_centres(encoder: Encoder, wiring: dense.Wiring) -> int:
    features, direction = _wire_features(encoder, wiring)
    wiring.store(direction)
    wiring.store(wiring.share(wiring.through(features, encoder.projection, "radius")))
    return features


def _wire_heads(encoder: Encoder, wiring: dense.Wiring) -> int:
    features, direction = _wire_features(encoder, wiring)
    wiring.store(direction)
    wiring.store(wiring.through(features, encoder.projection, "radius"))
    return features


def wire_sample(encoder: Encoder, wiring: dense.Wiring) -> None:
    """Directions, radii, displacements and the weights of these."""
    features = _wire_centres(encoder, wiring)
    wiring.draw(wiring.through(features, encoder, "log_variance"))


def _wire_posterior(encoder: Encoder, wiring: dense.Wiring) -> None:
    features = _wire_heads(encoder, wiring)
    wiring.store(wiring.through(features, encoder, "log_variance"))


class Decoder(nn.Sequential):
    """Charted point to digits: (batch, hidden_dim) to logits (batch, n_digits, 3).

    One decoder serves both branches.  They lay out the ball differently, so each has its own
    chart of the tangent space at the origin in front of it.  That of A is linear: A and the decoder
    learn together.  B places its points as the tree demands, of which the layout that the decoder
    was made for is no linear image.
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
