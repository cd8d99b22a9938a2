"""What the comparison trains beside the package's own model: a plain VAE, and a table of points.

Both are the textbook thing, with a fixed number of steps and a fixed seed, so that they come out
the same again.  The table has the best of six settings that were tried, rates from 0.02 to 0.3.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ternvae.baselines import PointTable
from ternvae.config import Profile
from ternvae.manifolds import PoincareBall

# geoopt itself, by the import that keeps its deprecation warnings quiet.
from ternvae.manifolds._geoopt import geoopt
from ternvae.metrics import EmbeddingModel
from ternvae.padic import TernarySpace, partners_at_valuation

__all__ = ["FLAT", "EuclideanVAE", "Made", "train_euclidean", "train_table"]

#: A ball as good as flat: distances of z/2 are those of z in Euclidean space, to a relative 1e-9
#: for |z| < 100.
FLAT = PoincareBall(c=1e-13)

#: Weight of the divergence in the plain VAE.  At 1, with sequences that are all equally likely, the
#: bound is as good for a decoder that ignores the code as for any other.
BETA = 0.1

#: Sequences, or pairs, of a step; learning rates.
BATCH, PAIRS = 1024, 16384
VAE_RATE, TABLE_RATE = 2e-3, 0.3

#: The longest distance that the table is asked for, as a share of the largest radius.
REACH = 0.8


class Made(NamedTuple):
    """A model that was made, and how.

    Attributes:
        model: what the metrics ask.
        points: (N, dim) float64, in order.
        how: in a sentence.
        seconds: it took to make.
    """

    model: EmbeddingModel
    points: Tensor
    how: str
    seconds: float


class EuclideanVAE(nn.Module):
    """Kingma & Welling (2014): Gaussian codes in Euclidean space, one network each way.

    Args:
        space: the space of sequences.
        dim: dimension of the code.
        hidden: width of the two hidden layers each way.
    """

    def __init__(self, space: TernarySpace, dim: int, hidden: int) -> None:
        super().__init__()
        self.space, self.ball = space, FLAT
        symbols = 3 * space.n_digits
        self.encoder = nn.Sequential(*_layers(symbols, hidden, 2 * dim))
        self.decoder = nn.Sequential(*_layers(dim, hidden, symbols))

    def _encoded(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        one_hot = F.one_hot(sequences + 1, 3).flatten(-2).float()
        mean, log_variance = self.encoder(one_hot).chunk(2, -1)
        return mean, log_variance

    def loss(self, sequences: Tensor) -> Tensor:
        """Cross-entropy of all digits plus BETA times the divergence from N(0, 1), per sequence."""
        mean, log_variance = self._encoded(sequences)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.decoder(code).unflatten(-1, (-1, 3))
        nll = F.cross_entropy(logits.flatten(0, 1), (sequences + 1).flatten(), reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (nll + BETA * divergence) / len(sequences)

    @torch.no_grad()
    def embed(self, indices: Tensor, branch: str = "B") -> Tensor:
        """Half the posterior means, as points of :data:`FLAT`, float64; one branch only."""
        mean, _ = self._encoded(self.space.sequences(indices))
        return mean.double() / 2

    @torch.no_grad()
    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        """The most likely sequences."""
        logits = self.decoder(2 * points.float()).unflatten(-1, (-1, 3))
        return logits.argmax(-1) - 1


def _layers(first: int, hidden: int, last: int) -> list[nn.Module]:
    widths = (first, hidden, hidden)
    steps = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.SiLU())]
    return [*steps, nn.Linear(hidden, last)]


def train_euclidean(profile: Profile, space: TernarySpace, epochs: int) -> Made:
    """Train the plain VAE until every sequence is reconstructed, at most so many epochs.

    Adam at a constant rate; the weights of the first epoch, out of each five, that has it.
    """
    torch.manual_seed(profile.seed)
    model = EuclideanVAE(space, profile.model.latent_dim, profile.model.hidden_dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=VAE_RATE)
    everything, wanted = torch.arange(space.size), space.sequences()
    started, epoch, done = time.perf_counter(), 0, False
    while not done and epoch < epochs:
        for batch in space.batches(BATCH, shuffle=True, seed=profile.seed * 100_000 + epoch):
            optimizer.zero_grad()
            model.loss(space.sequences(batch)).backward()
            optimizer.step()
        epoch += 1
        if epoch % 5 == 0:
            done = torch.equal(model.decode(model.embed(everything)), wanted)
    took = time.perf_counter() - started
    how = (
        f"cross-entropy + {BETA} KL, Adam {VAE_RATE}, batches of {BATCH}, {epoch} epochs: until "
        f"all are reconstructed, at most {epochs}"
    )
    return Made(model, model.embed(everything), how, took)


def train_table(profile: Profile, space: TernarySpace, ball: PoincareBall, steps: int) -> Made:
    """Train a geoopt table of points on the tree distance, for so many steps.

    The stress of a batch of pairs, mean of (d(z_i, z_j) - s (n - v(i - j)))^2, where j is drawn at
    a valuation v that is uniform over 0 .. n - 1, plus the same for the pairs of each i and the
    origin, which stands for index 0.  s n is REACH of the largest radius.
    """
    generator = torch.Generator().manual_seed(profile.seed)
    n, raw = space.n_digits, geoopt.PoincareBall(c=float(ball.c))
    step = REACH * float(ball.hyperbolic_radius_max) / n
    start = 0.1 * torch.randn(
        space.size, profile.model.latent_dim, dtype=torch.float64, generator=generator
    )
    points = geoopt.ManifoldParameter(raw.expmap0(start), manifold=raw)
    optimizer = geoopt.optim.RiemannianAdam([points], lr=TABLE_RATE, stabilize=100)
    levels = space.valuation(torch.arange(space.size))
    started = time.perf_counter()
    for done in range(steps):
        for group in optimizer.param_groups:  # a cosine to 0
            group["lr"] = TABLE_RATE * 0.5 * (1 + math.cos(math.pi * done / steps))
        first = torch.randint(space.size, (PAIRS,), generator=generator)
        valuation = torch.randint(n, (PAIRS,), generator=generator)
        second = partners_at_valuation(first, valuation, n_digits=n, generator=generator)
        anchors = points[first]
        apart = raw.dist(anchors, points[second]) - step * (n - valuation)
        radial = raw.dist0(anchors) - step * (n - levels[first])
        optimizer.zero_grad()
        (apart.square().mean() + radial.square().mean()).backward()
        optimizer.step()
    took = time.perf_counter() - started
    found = ball.projx(points.detach())
    how = (
        f"stress on the tree distance and on radii, RiemannianAdam {TABLE_RATE}, falling to 0, "
        f"{steps} steps of {PAIRS} pairs; decoded as the nearest point"
    )
    return Made(PointTable(ball, found, space), found, how, took)
