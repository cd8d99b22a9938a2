"""Benchmarks made small enough for a test."""

from __future__ import annotations

from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

SMALL = {
    "space.n_digits": "3",
    "training.batch_size": "27",
    "training.epochs": "12",
    "model.hidden_dim": "8",
    "model.latent_dim": "3",
}
NO_TARGETS = {
    "targets.coverage": "0",
    "targets.hierarchy_B": "0",
    "targets.richness": "0",
    "targets.Q_enhanced": "0",
    "targets.coverage_B": "0",
    "targets.triplet_accuracy": "0",
}


def as_options(overrides: dict[str, str]) -> list[str]:
    """The overrides as a benchmark's command line has them."""
    return [text for item in overrides.items() for text in ("--set", *item)]
