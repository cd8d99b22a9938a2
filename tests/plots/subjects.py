"""Subjects made by hand: embeddings of known geometry, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ternvae.ceilings import ceilings
from ternvae.manifolds import math as ball
from ternvae.plots import PairSample, Subject
from tests.padic.oracles import valuation_by_definition

Floats = NDArray[np.float64]


def history(epochs: int = 4) -> list[dict[str, Any]]:
    """Lines as a run leaves them, one value missing."""
    names = ("coverage", "coverage_B", "dist_corr", "ultrametric_corr", "triplet_accuracy")
    lines = [
        {
            "epoch": k,
            "losses": {"total": 5.0 / k},
            **dict.fromkeys(names, 1 - 0.5 / k),
            "hierarchy_B": -0.8,
            "richness": 0.002 * k,
            "Q_enhanced": 2.1 - 0.1 / k,
        }
        for k in range(1, epochs + 1)
    ]
    lines[-1]["ultrametric_corr"] = None
    return lines


def made(
    n_digits: int = 3, dim: int = 4, *, c: float = 1.0, points: Floats | None = None, **other: Any
) -> Subject:
    """Points whose radius falls with the valuation, in directions by chance."""
    size = 3**n_digits
    indices = np.arange(size)
    levels = np.array([int(min(valuation_by_definition(i, 3), n_digits)) for i in range(size)])
    if points is None:
        rng = np.random.default_rng(1)
        directions = rng.normal(size=(size, dim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        radius = (n_digits + 0.5 - levels) / (n_digits + 1) + 0.05 * rng.uniform(size=size)
        points = directions * np.tanh(radius)[:, None] / np.sqrt(c)
    values: dict[str, Any] = {
        "name": "run/best_Q.pt",
        "points": points,
        "indices": indices,
        "valuation": levels,
        "weight": np.ones(size),
        "c": c,
        "radius_max": 2 * np.arctanh(0.95) / np.sqrt(c),
        "n_digits": n_digits,
        "epoch": 4,
        "profile": {},
        "targets": {"richness": 0.006, "Q_enhanced": 2.0, "hierarchy_B": -0.8321},
        "ceilings": ceilings(n_digits),
        "metrics": {"richness": 0.004, "Q_enhanced": 2.05, "triplet_accuracy": 0.9},
        "history": history(),
        "pairs": None,
        "sampled": False,
    } | other
    values["pairs"] = values["pairs"] or all_pairs(points, c)
    return Subject(**values)


def all_pairs(points: Floats, c: float) -> PairSample:
    """Every pair of a space."""
    first, second = np.triu_indices(len(points), 1)
    x, y = (torch.from_numpy(points[side]) for side in (first, second))
    apart = np.array([int(valuation_by_definition(k, 3)) for k in range(1, len(points))])
    valuation = apart[second - first - 1]
    return PairSample(first, second, valuation, ball.dist(x, y, c=c).numpy())
