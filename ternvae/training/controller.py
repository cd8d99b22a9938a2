"""A learned controller: from twelve statistics of a run to bounded factors on its loss weights.

A network trained to lower the loss that it weighs would learn to switch that loss off.  Here the
two have opposite interests: the model descends and the controller *ascends* on the same weighted
sum, over a simplex.  Its factors keep the sum of the weights as it is, so all that it can do is to
move weight from terms that have come far to terms that lag behind.  This is the minimax view of
learning several tasks at once (Mohri, Sivek & Suresh 2019, "Agnostic Federated Learning"; Sagawa et
al. 2020, "Distributionally Robust Neural Networks"), with two changes: the factors are a function
of the state of the run, and they are bounded, so no term falls below half of its weight or rises
above twice.  A slight pull towards factors of 1 lets them follow when another term begins to lag.

A term counts relative to the largest mean that it has had in any epoch so far, in the spirit of the
training rates of Chen et al. 2018, "GradNorm"; otherwise the term with the largest unit would win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["STATISTICS", "Controller", "controller_statistics"]

#: What the controller sees, in this order.
STATISTICS = (
    *("coverage", "coverage_B", "hierarchy_A", "hierarchy_B", "richness_A", "richness"),
    *("r_v0_A", "r_v0", "r_vn_A", "r_vn", "dist_corr", "Q_enhanced"),
)

#: Bounds of a factor: 1 / BOUND to BOUND.
BOUND = 2.0

#: Price of the squared scores behind the factors.  Without one they would run on where the tanh has
#: levelled off, and a factor once at its bound would stay there for hundreds of epochs.
_PULL = 0.01

_HIDDEN = 16
_LEARNING_RATE = 0.02


def controller_statistics(
    metrics: Mapping[str, float],
    *,
    n_digits: int,
    richness_target: float,
    radius_max: float,
    q_ceiling: float,
) -> Tensor:
    """The twelve inputs, each brought to the order of one.

    Args:
        metrics: what the evaluator says of both branches.
        n_digits: number of ternary digits; the last level with a radius counts as the last one.
        richness_target: unit of the two richnesses; 0 takes them as they are.
        radius_max: unit of the radii, in units of the metric.
        q_ceiling: unit of Q.

    Returns:
        (12,) float64, cut at -4 and 4; an undefined statistic is 0.
    """
    last = next(name for v in range(n_digits, -1, -1) if (name := f"r_v{v}") in metrics)
    named = {**metrics, "r_vn": metrics[last]}
    units = {
        **dict.fromkeys(("richness_A", "richness"), richness_target or 1.0),
        **dict.fromkeys(("r_v0_A", "r_v0", "r_vn_A", "r_vn"), radius_max),
        "Q_enhanced": q_ceiling,
    }
    values = (named[name] / units.get(name, 1.0) for name in STATISTICS)
    return torch.tensor(
        [min(max(value, -4.0), 4.0) if math.isfinite(value) else 0.0 for value in values],
        dtype=torch.float64,
    )


class Controller(nn.Module):
    """Two layers from the statistics to one factor per loss term.

    Starts at factors of 1.  Lives on the host: it acts once per evaluation and learns once per
    epoch.

    Args:
        weights: the weights of the loss terms by name, at least one of them positive.
        seed: of the first layer.
    """

    reference: Tensor

    def __init__(self, weights: Mapping[str, float], seed: int) -> None:
        super().__init__()
        self.terms = tuple(weights)
        self._weights = torch.tensor([weights[name] for name in self.terms], dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        first = torch.empty(_HIDDEN, len(STATISTICS), dtype=torch.float64)
        first.normal_(0.0, 1 / math.sqrt(len(STATISTICS)), generator=generator)
        self.first = nn.Parameter(first)
        self.second = nn.Parameter(torch.zeros(len(self.terms), _HIDDEN, dtype=torch.float64))
        self.register_buffer("reference", torch.zeros(len(self.terms), dtype=torch.float64))
        self.register_buffer("statistics", torch.zeros(len(STATISTICS), dtype=torch.float64))
        self.optimizer = torch.optim.Adam(self.parameters(), _LEARNING_RATE, maximize=True)

    def forward(self, statistics: Tensor) -> Tensor:
        """Factors of the loss terms.

        Args:
            statistics: (12,) from :func:`controller_statistics`.

        Returns:
            (terms,) factors in [1 / BOUND, BOUND] whose mean, weighted by the weights of the terms,
            is 1.
        """
        return self._factors(self._scores(statistics))

    def _scores(self, statistics: Tensor) -> Tensor:
        return self.second @ torch.tanh(self.first @ statistics)

    def _factors(self, scores: Tensor) -> Tensor:
        # Ratios stay within BOUND, so normalising cannot push a factor out of its bounds.
        factors = torch.exp(math.log(BOUND) / 2 * torch.tanh(scores))
        return factors * (self._weights.sum() / (self._weights @ factors))

    def observe(self, statistics: Tensor) -> None:
        """Take new statistics; the factors follow."""
        self.get_buffer("statistics").copy_(statistics)

    def factors(self) -> dict[str, float]:
        """The factors for the latest statistics, by term."""
        with torch.no_grad():
            factors = self(self.get_buffer("statistics"))
        return dict(zip(self.terms, factors.tolist(), strict=True))

    def learn(self, losses: Mapping[str, float]) -> None:
        """One step of ascent on the weighted sum of relative losses.

        Args:
            losses: the mean of each term over an epoch, unweighted.  Magnitudes count: the KL
                estimate of an epoch may be negative.
        """
        terms = torch.tensor([abs(losses[name]) for name in self.terms], dtype=torch.float64)
        if not terms.isfinite().all():
            return
        self.reference.copy_(torch.maximum(self.reference, terms))
        relative = terms / self.reference.clamp_min(torch.finfo(torch.float64).tiny)
        weights = self._weights / self._weights.sum()
        self.optimizer.zero_grad()
        scores = self._scores(self.get_buffer("statistics"))
        gain = weights @ (self._factors(scores) * relative - _PULL * scores.square())
        gain.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimizer.step()

    def to_dict(self) -> dict[str, Any]:
        """Everything that changes, for a checkpoint."""
        return {"state": self.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_dict` gave."""
        self.load_state_dict(values["state"])
        self.optimizer.load_state_dict(values["optimizer"])
