"""The training loop that one would write first: the yardstick for the speed of the Trainer.

Same network, same objective, same data, written the usual way:

* raw ``geoopt.PoincareBall`` operations in float32, with geoopt's own projection;
* ``DataLoader(TensorDataset(...), batch_size, shuffle=True)`` over the whole space;
* ``torch.optim.Adam`` on the Euclidean parameters, ``geoopt.optim.RiemannianAdam`` on the
  prototypes, a constant learning rate and floor of richness, gradients clipped as in the Trainer;
* one Python loop over the valuation levels for the terms on the radii;
* pairs as one would make them: partners by arithmetic on the indices, encoded by branch B beside
  the batch, and the order of the distances as a binary cross-entropy over the thresholds;
* both branches trained in every step to the end, nothing frozen.

Nothing in it is slow on purpose: no value is read back inside an epoch, no worker processes,
one loop over the levels for all three terms, and the posterior's density reuses the noise of its
sample.  It measures no coverage after an epoch either, which the Trainer does and is charged for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ternvae.config import Profile
from ternvae.losses import LEAST_LEVEL_SHARE, SEPARATION_MARGIN, GeometryLosses
from ternvae.losses.ultrametric import TEMPERATURE

# geoopt itself, by the import that keeps its deprecation warnings quiet.
from ternvae.manifolds._geoopt import geoopt
from ternvae.models import BRANCHES, LOG_VARIANCE_RANGE, TernaryVAE
from ternvae.padic import TernarySpace, partners_at_valuation

__all__ = [
    "TextbookOutput",
    "TextbookTraining",
    "TextbookVAE",
    "textbook_geometry_losses",
    "textbook_loss",
    "textbook_ultrametric_loss",
]


class TextbookOutput(NamedTuple):
    """The fields of :class:`ternvae.models.BranchOutput` of the same names."""

    points: Tensor
    radius: Tensor
    logits: Tensor
    posterior_log_prob: Tensor
    prior_log_prob: Tensor


class TextbookVAE(nn.Module):
    """The forward pass of :class:`TernaryVAE` written out with geoopt's operations.

    Args:
        model: gives the linear layers, which are shared and not copied, and the start of the
            prototypes.  Its weights are trained when this module's are, so that it can be
            evaluated like any other model.
    """

    def __init__(self, model: TernaryVAE) -> None:
        super().__init__()
        curvature, max_radius = model.config["curvature"], model.config["max_radius"]
        self.ball = geoopt.PoincareBall(c=curvature)
        self.radius_max = 2 / math.sqrt(curvature) * math.atanh(max_radius)
        self.encoders = model.encoders
        self.charts = model.charts
        self.decoder = model.decoder
        self.thresholds = model.thresholds
        self.n_digits = model.space.n_digits
        self.prototypes = geoopt.ManifoldParameter(
            model.prototypes.detach().clone(), manifold=self.ball
        )

    def forward(self, sequences: Tensor, valuation: Tensor, branch: str) -> TextbookOutput:
        """Encode, sample, decode; shapes as in :meth:`TernaryVAE.forward`."""
        points, scale = self.encode(sequences, branch)
        # The wrapped normal (Nagano et al. 2019): noise in an orthonormal frame at the origin,
        # where the conformal factor is 2, transported to the centre and mapped to the ball.
        noise = scale * torch.randn_like(points)
        sample = self.ball.expmap(points, self.ball.transp0(points, noise / 2))
        if branch == "A":
            displacement = 2 * self.ball.logmap0(sample)
        else:
            centres = self.prototypes[valuation]
            displacement = self.ball.logmap(centres, sample)
            displacement = self.ball.lambda_x(centres, keepdim=True) * displacement
        charted = self.charts[branch](self.ball.logmap0(sample))
        return TextbookOutput(
            points=points,
            radius=self.ball.dist0(points),
            logits=self.decoder(charted),
            posterior_log_prob=self._log_density(noise, scale),
            prior_log_prob=self._log_density(displacement, torch.ones_like(scale)),
        )

    def encode(self, sequences: Tensor, branch: str) -> tuple[Tensor, Tensor]:
        """Centres and scales of the posteriors, both (batch, latent_dim)."""
        encoder: Any = self.encoders[branch]
        one_hot = F.one_hot(sequences + 1, 3).flatten(-2).to(self.prototypes.dtype)
        features = encoder.features(one_hot)
        direction = encoder.projection.direction(features) + encoder.digits(one_hot)
        direction = F.normalize(direction, dim=-1)
        radius = self.radius_max * torch.sigmoid(encoder.projection.radius(features))
        scale = torch.exp(0.5 * encoder.log_variance(features).clamp(*LOG_VARIANCE_RANGE))
        return self.ball.expmap0(direction * radius / 2), scale

    def _log_density(self, v: Tensor, scale: Tensor) -> Tensor:
        """Log-density of the wrapped normal at frame coordinates ``v``."""
        gauss = -0.5 * (v / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
        r = self.ball.c.sqrt() * v.norm(dim=-1)
        return gauss.sum(-1) - (v.shape[-1] - 1) * torch.log(torch.sinh(r) / r)


def textbook_geometry_losses(
    radius: Tensor,
    valuation: Tensor,
    *,
    n_digits: int,
    radius_max: float,
    richness_floor: float,
    margin: float = SEPARATION_MARGIN,
) -> GeometryLosses:
    """The formulas of :func:`ternvae.losses.geometry_losses`, one level after the other.

    Args:
        radius: (batch,) hyperbolic radii.
        valuation: (batch,) integers in 0..n_digits.
        n_digits: number of ternary digits n.
        radius_max: hyperbolic radius of the region in use.
        richness_floor: wanted mean over all levels of the variance within the level; 0: no term.
        margin: empty part at each face of a shell, in shell widths.
    """
    width = radius_max / (n_digits + 1)
    wanted = richness_floor * (n_digits + 1) / n_digits
    hierarchy, weights, separation, variances = [], [], [], []
    for level in range(n_digits + 1):
        radii = radius[valuation == level]
        if len(radii) == 0:
            continue
        offset = radii / width - (n_digits + 0.5 - level)
        share = 2 / 3 ** (level + 1) if level < n_digits else 1 / 3**n_digits
        weights.append(0.5 / (n_digits + 1) + 0.5 * share)
        hierarchy.append(weights[-1] * offset.square().mean())
        separation.append(F.relu(offset.abs() - (0.5 - margin)).mean() / margin)
        if level < n_digits and len(radii) > 1:
            variances.append(radii.var(correction=0))
    richness = radius.new_zeros(())
    if richness_floor and variances:
        variance = torch.stack(variances)
        richness = F.relu(1 - variance.mean() / wanted)
        richness = richness + F.relu(1 - variance / (LEAST_LEVEL_SHARE * wanted)).mean()
    elif richness_floor:
        richness = radius.new_ones(())
    return GeometryLosses(
        hierarchy=torch.stack(hierarchy).sum() / sum(weights),
        richness=richness,
        separation=torch.stack(separation).sum(),
    )


def textbook_ultrametric_loss(distance: Tensor, between: Tensor, thresholds: Tensor) -> Tensor:
    """The formula of :func:`ternvae.losses.ultrametric_loss` for c = 1; arguments as there."""
    value = torch.log(torch.sinh(distance / 2) ** 2 + 1e-6)
    levels = torch.arange(len(thresholds), device=between.device)
    logits = (thresholds - value[:, None]) / TEMPERATURE
    wanted = (between[:, None] > levels).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()


def textbook_loss(
    vae: TextbookVAE,
    sequences: Tensor,
    valuation: Tensor,
    profile: Profile,
    radius_max: float,
    pairs: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The weighted objective of one batch over both branches, scalar.

    Args:
        vae: the model.
        sequences: (batch, n) entries in {-1, 0, 1}.
        valuation: (batch,) their valuations.
        profile: gives the weights.
        radius_max: hyperbolic radius of the region in use.
        pairs: (pairs, n) partners of the first rows and (pairs,) valuations of the differences.
    """
    weights, n_digits = profile.loss_weights, profile.space.n_digits
    loss = torch.zeros((), device=sequences.device)
    for branch in BRANCHES:
        out = vae(sequences, valuation, branch)
        digits = (sequences + 1).flatten()
        errors = F.cross_entropy(out.logits.flatten(0, 1), digits, reduction="sum")
        loss = loss + weights.coverage * errors / len(sequences)
        loss = loss + weights.kl * (out.posterior_log_prob - out.prior_log_prob).mean()
        if branch == "B":
            terms = textbook_geometry_losses(
                out.radius,
                valuation,
                n_digits=n_digits,
                radius_max=radius_max,
                richness_floor=profile.targets.richness,
            )
            loss = loss + weights.hierarchy * terms.hierarchy
            loss = loss + weights.richness * terms.richness
            loss = loss + weights.separation * terms.separation
            if pairs is not None:
                partners, between = pairs
                points, _ = vae.encode(partners, "B")
                distance = vae.ball.dist(out.points[: len(points)], points)
                order = textbook_ultrametric_loss(distance, between, vae.thresholds)
                loss = loss + weights.ultrametric * order
    return loss


class TextbookTraining:
    """Model, data and optimizers of the textbook loop; :meth:`epoch` is the loop.

    Args:
        profile: gives the space, the model, the weights, the batch size and the learning rate.
        device: where the model is; the data stay in main memory, and batches are sent there.

    Attributes:
        model: the :class:`TernaryVAE` whose layers are trained; ready for evaluation.
    """

    def __init__(self, profile: Profile, device: str | torch.device = "cpu") -> None:
        torch.manual_seed(profile.seed)
        self.profile = profile
        self.device = torch.device(device)
        keywords = profile.model.model_dump(exclude={"enhanced_controller"})
        self.model = TernaryVAE(n_digits=profile.space.n_digits, **keywords).to(self.device)
        self.vae = TextbookVAE(self.model).to(self.device)
        space = self.model.space
        indices = torch.arange(space.size)
        self.loader = DataLoader(
            TensorDataset(indices, space.sequences(indices), space.valuation(indices)),
            batch_size=profile.training.batch_size,
            shuffle=True,
        )
        lr = profile.training.lr
        trained = [p for p in self.vae.parameters() if p.requires_grad]  # geoopt's c is fixed
        euclidean = [p for p in trained if p is not self.vae.prototypes]
        self.optimizers = (
            torch.optim.Adam(euclidean, lr=lr),
            geoopt.optim.RiemannianAdam([self.vae.prototypes], lr=lr),
        )

    def epoch(self) -> float:
        """One pass over the space; returns the mean loss of a step."""
        self.vae.train()
        total = torch.zeros((), device=self.device)
        for indices, *batch in self.loader:
            sequences, valuation = (column.to(self.device) for column in batch)
            pairs = self._pairs(indices)
            loss = textbook_loss(
                self.vae, sequences, valuation, self.profile, self.vae.radius_max, pairs
            )
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            nn.utils.clip_grad_norm_(self.vae.parameters(), self.profile.training.max_grad_norm)
            for optimizer in self.optimizers:
                optimizer.step()
            total += loss.detach()
        return float(total) / len(self.loader)

    def _pairs(self, indices: Tensor) -> tuple[Tensor, Tensor] | None:
        """Partners of the first rows, as many as the Trainer has, at every valuation in turn."""
        training, n = self.profile.training, self.profile.space.n_digits
        count = min(int(training.batch_size * training.paired_share), len(indices))
        if not count:
            return None
        between = torch.arange(count) % n
        partners = partners_at_valuation(indices[:count], between, n_digits=n)
        sequences = TernarySpace(n).sequences(partners)
        return sequences.to(self.device), between.to(self.device)
