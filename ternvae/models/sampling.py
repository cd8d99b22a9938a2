"""New points of branch B, and the sequences that they decode to: from the prior, or a fit.

The prior that training pulls at, WN(prototype of the level, 1), is no law of the points: in d
dimensions a draw is about sqrt(d) away from the prototype, in all directions alike, while the
points of a level fill a thin shell of a cone.  With the weight that the divergence has, 1e-3, it
moves the prototypes and little else.  What does describe the points is the aggregate posterior of
each level (Tomczak & Welling, "VAE with a VampPrior", AISTATS 2018, section 2.2).
:class:`LevelMixture` is a fit of it in few components: the tree says which, since sequences with
the same leading digits lie together.  A component is a level with the next ``depth`` digits; its
law is normal in the tangent space at the origin.  With depth 3 and nine digits there are 135 of
them for 19683 sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ternvae.manifolds import PoincareBall, WrappedNormal
from ternvae.models.arguments import count
from ternvae.models.given import check_model
from ternvae.models.vae import TernaryVAE
from ternvae.padic import TernarySpace

__all__ = ["LevelMixture", "Samples", "sample"]

#: Sequences that a component is fitted to, at most.
_MOST_ROWS = 2048
_MOST_DEPTH = 6  # some thousand components


@dataclass(frozen=True)
class Samples:
    """Drawn points and what they decode to; holds what it is given, check-free.

    Attributes:
        points: (count, latent_dim) points of the ball.
        sequences: (count, n_digits) entries in {-1, 0, 1}.
        levels: (count,) int64, the levels that were drawn, before anything was decoded.
    """

    points: Tensor
    sequences: Tensor
    levels: Tensor


@dataclass(frozen=True)
class LevelMixture:
    """Normal laws of the tangent space at the origin, some for each level; made by :meth:`fit`.

    Holds what it is given, check-free.

    Attributes:
        ball: whose points are drawn.
        levels: (components,) int64 valuations.
        sizes: (components,) float64, sequences that each stands for.
        means: (components, latent_dim) float64, tangent vectors at the origin.
        factors: (components, latent_dim, latent_dim) float64; a draw is mean + normal @ factor.
    """

    ball: PoincareBall
    levels: Tensor
    sizes: Tensor
    means: Tensor
    factors: Tensor

    @classmethod
    @torch.no_grad()
    def fit(
        cls, model: TernaryVAE, *, depth: int = 3, generator: torch.Generator | None = None
    ) -> LevelMixture:
        """Fit the posterior means of branch B, level by level.

        Args:
            model: the model.
            depth: digits after those that make the level which tell components apart, 1 to 6.
            generator: draws the sequences of components with more than 2048 of them; None takes
                torch's default.

        Returns:
            The mixture.

        Raises:
            TypeError: ``model`` is not a :class:`TernaryVAE`, or ``generator`` no generator.
            ValueError: ``depth`` is not an integer from 1 to 6.
        """
        check_model(model)
        depth = count("depth", depth, 1)
        if depth > _MOST_DEPTH:
            raise ValueError(f"depth must be at most {_MOST_DEPTH}, got {depth}; 3 is the default")
        _check_generator(generator)
        levels, sizes, means, factors = [], [], [], []
        for level, rows, size in _components(model.space, depth, generator):
            tangent = model.ball.logmap0(model.embed(rows).double())
            mean = tangent.mean(0)
            apart = tangent - mean
            # Any square root of the covariance will do; this one is defined for few rows, too.
            _, spread, axes = torch.linalg.svd(apart.T @ apart / len(rows))
            levels.append(level)
            sizes.append(size)
            means.append(mean)
            factors.append(spread.sqrt().unsqueeze(-1) * axes)
        return cls(
            model.ball,
            torch.tensor(levels),
            torch.tensor(sizes, dtype=torch.float64),
            torch.stack(means).cpu(),
            torch.stack(factors).cpu(),
        )

    def draw(self, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A point for each level, (count, latent_dim) float64, on the CPU.

        Args:
            levels: (count,) int64 valuations in 0 .. n; check-free in its values.
            generator: of the draws; None takes torch's default.

        Returns:
            Points, (count, latent_dim) float64, on the CPU.

        Raises:
            TypeError: ``levels`` is not an int64 tensor, or ``generator`` no generator.
            ValueError: ``levels`` is not (count,).
        """
        _check_levels(levels)
        _check_generator(generator)
        weights = self.sizes * (self.levels == levels.cpu().unsqueeze(-1))
        chosen = torch.multinomial(weights, 1, generator=generator).squeeze(-1)
        shape = (len(chosen), 1, self.means.shape[-1])
        normal = torch.randn(shape, dtype=torch.float64, generator=generator)
        tangent = self.means[chosen] + (normal @ self.factors[chosen]).squeeze(1)
        return self.ball.projx(self.ball.expmap0(tangent))


@torch.no_grad()
def sample(
    model: TernaryVAE,
    number: int,
    *,
    valuation: int | None = None,
    mixture: LevelMixture | None = None,
    generator: torch.Generator | None = None,
) -> Samples:
    """Draw a level, a point of branch B for it, and decode the point.

    Args:
        model: the model.
        number: how many, at least 1.
        valuation: the level of all; None draws each by the sizes of the levels.
        mixture: the law of the points of each level, as :meth:`LevelMixture.fit` gives; None for
            the prior of the model, which is far from where its points are.
        generator: of all draws, on the CPU; None takes torch's default.

    Returns:
        The levels that were drawn, the points and their sequences.

    Raises:
        TypeError: ``model`` is not a :class:`TernaryVAE`, ``mixture`` no mixture, or ``generator``
            no generator.
        ValueError: ``number`` is not a positive integer, ``valuation`` none of the space, or the
            mixture is of another one.
    """
    check_model(model)
    number = count("number", number, 1)
    _check_generator(generator)
    n = model.space.n_digits
    if mixture is not None:
        _check_mixture(mixture, model)
    if valuation is None:
        sizes = torch.tensor(model.space.level_sizes(), dtype=torch.float64)
        levels = torch.multinomial(sizes, number, replacement=True, generator=generator)
    else:
        level = count("valuation", valuation, 0)
        if level > n:
            raise ValueError(f"valuation must be at most {n}, got {level}")
        levels = torch.full((number,), level)
    if mixture is None:
        points = _from_prior(model, levels, generator)
    else:
        points = mixture.draw(levels, generator)
    points = model.ball.projx(points.to(model.prototypes.device, model.point_dtype))
    return Samples(points, model.decode(points), levels)


def _from_prior(model: TernaryVAE, levels: Tensor, generator: torch.Generator | None) -> Tensor:
    prior: WrappedNormal = model.prior("B", levels.to(model.prototypes.device))
    if generator is None:
        return prior.sample()
    # Distributions of torch draw from the global state only.
    device = model.prototypes.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return prior.sample()


def _components(
    space: TernarySpace, depth: int, generator: torch.Generator | None
) -> list[tuple[int, Tensor, int]]:
    """Level, some of its indices and how many there are, of every component."""
    found = []
    for level in range(space.n_digits + 1):
        free = min(depth, space.n_digits - level)
        below = 3 ** (space.n_digits - level - free)
        for key in range(3**free):
            # Digit `level` itself is not 0, or the level would be another one.
            if free and key % 3 == 0:
                continue
            if below <= _MOST_ROWS:
                rest = torch.arange(below)
            else:
                rest = torch.randint(below, (_MOST_ROWS,), generator=generator)
            found.append((level, 3**level * (key + 3**free * rest), below))
    return found


def _check_generator(generator: object) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator or None, got {type(generator).__name__}: "
            f"{generator!r}"
        )


def _check_levels(levels: Any) -> None:
    if not isinstance(levels, Tensor) or levels.dtype != torch.int64:
        kind = levels.dtype if isinstance(levels, Tensor) else type(levels).__name__
        raise TypeError(f"levels: expected an int64 tensor, got {kind}: {levels!r}")
    if levels.ndim != 1:
        raise ValueError(f"levels: expected shape (count,), got {tuple(levels.shape)}")


def _check_mixture(mixture: object, model: TernaryVAE) -> None:
    if not isinstance(mixture, LevelMixture):
        raise TypeError(
            f"mixture: expected a LevelMixture or None, got {type(mixture).__name__}: {mixture!r}"
        )
    there = (int(mixture.levels.max()), mixture.means.shape[-1])
    wanted = (model.space.n_digits, model.prototypes.shape[-1])
    if there != wanted:
        raise ValueError(
            f"mixture: is of {there[0]} digits and {there[1]} dimensions, the model of {wanted[0]} "
            f"and {wanted[1]}; fit one with LevelMixture.fit(model)"
        )
