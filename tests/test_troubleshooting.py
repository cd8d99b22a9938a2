"""Runs that go wrong on purpose: the program says what is wrong, and what it says to do helps.

Each case is provoked by settings (or, where settings cannot, by a broken part), the sign is looked
for in ``metrics.jsonl`` and in ``train.log``, and a remedy is followed exactly as it is printed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from torch import Tensor

from ternvae.config import load_profile
from ternvae.trainer import Trainer, TrainingResult

#: The foundation profile on 81 sequences, with two steps in an epoch.
SMALL: dict[str, Any] = {
    "space.n_digits": 4,
    "training.batch_size": 81,
    "training.epochs": 12,
    "model.latent_dim": 6,
    "model.hidden_dim": 32,
    "monitoring.detailed_metrics_every_n_epochs": 2,
    "monitoring.report": False,
}

SEEDS = pytest.mark.parametrize("seed", [0, 1])


class Run(NamedTuple):
    """What a finished run left behind."""

    result: TrainingResult
    lines: list[dict[str, Any]]
    log: str

    @property
    def signs(self) -> dict[str, dict[str, Any]]:
        """Every sign by its name."""
        return {sign["name"]: sign for line in self.lines for sign in line["warnings"]}

    def of(self, name: str) -> list[float]:
        """A figure of every evaluated epoch."""
        return [line[name] for line in self.lines if name in line]

    @property
    def losses(self) -> list[float]:
        return [line["losses"]["total"] for line in self.lines if "losses" in line]


def read(path: Path, result: TrainingResult) -> Run:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return Run(result, lines, (path / "train.log").read_text())


def run(
    path: Path, settings: dict[str, Any], *, broken: Callable[[Trainer], None] | None = None
) -> Run:
    trainer = Trainer(load_profile("mathematical_foundation", SMALL | settings), path, "cpu")
    if broken is not None:
        broken(trainer)
    return read(path, trainer.fit())


def followed(settings: dict[str, Any], run: Run, name: str, *keys: str) -> dict[str, Any]:
    """The settings with the remedies of a sign for these keys, as the log has them."""
    said = remedies(run.signs[name]["remedies"])
    (line,) = [line for line in run.log.splitlines() if run.signs[name]["message"] in line]
    assert line.startswith(f"Epoch {run.signs[name]['epoch']}: warning: ")
    assert [each for each in run.signs[name]["remedies"] if each not in line] == []
    return settings | {key: said[key] for key in keys}


def remedies(texts: list[str]) -> dict[str, Any]:
    """From ``key: value (reason)`` to the value, read as YAML."""
    return {k: v for text in texts for k, v in yaml.safe_load(text.partition(" (")[0]).items()}


# --- the loss explodes --------------------------------------------------------------------------


@SEEDS
def test_a_loss_that_explodes(seed: int, tmp_path: Path) -> None:
    settings = {"seed": seed, "training.lr": 10.0}
    wrong = run(tmp_path / "wrong", settings)
    assert wrong.signs["loss_high"]["epoch"] == 1
    assert max(wrong.losses) > 1000

    settings = followed(settings, wrong, "loss_high", "training.lr", "training.max_grad_norm")
    assert settings["training.lr"] < 1e-3
    mended = run(tmp_path / "mended", settings)
    assert not mended.signs.keys() & {"loss_high", "non_finite", "loss_collapsed"}
    assert mended.losses[-1] < mended.losses[0]
    assert mended.result.stop_reason == "epochs"


@SEEDS
def test_clipping_alone_does_not_tame_a_rate_that_is_far_too_high(
    seed: int, tmp_path: Path
) -> None:
    """Adam divides by the size of the gradients, so a step is as long with shorter ones."""
    settings = {"seed": seed, "training.lr": 10.0, "training.max_grad_norm": 0.5}
    assert "loss_high" in run(tmp_path / "run", settings | {"training.epochs": 2}).signs


# --- coverage is lost ---------------------------------------------------------------------------

#: 27 sequences, read back within 31 epochs.
COVERING: dict[str, Any] = {
    "space.n_digits": 3,
    "training.batch_size": 27,
    "training.epochs": 40,
    "training.lr": 0.02,
    "scheduler.T_0": 39.0,
    "loss_weights.coverage": 5.0,
    "loss_weights.hierarchy": 1.0,
    "loss_weights.separation": 1.0,
    "loss_weights.richness": 0.5,
    "monitoring.detailed_metrics_every_n_epochs": 20,
}


def thawed(seed: int, folder: Path) -> dict[str, Any]:
    """Coverage that was learned, and an encoder A that goes on learning, far too fast."""
    learned = run(folder / "learned", COVERING | {"seed": seed})
    assert learned.result.metrics["coverage"] == 1
    return {
        "seed": seed,
        "space.n_digits": 3,
        "training.batch_size": 27,
        "training.epochs": 20,
        "training.encoder_a_lr_scale": 1.0,
        "frozen_checkpoint.path": str(learned.result.checkpoint),
        "monitoring.detailed_metrics_every_n_epochs": 1,
    }


@SEEDS
@pytest.mark.parametrize(("lr", "warmup"), [(0.3, 1.0), (0.15, 20.0)], ids=["at_once", "slowly"])
def test_coverage_that_drops(seed: int, lr: float, warmup: float, tmp_path: Path) -> None:
    pace = {"training.lr": lr, "scheduler.warmup_epochs": warmup}
    settings = thawed(seed, tmp_path) | pace
    wrong = run(tmp_path / "wrong", settings)
    assert min(wrong.of("coverage")) < 0.95
    assert "coverage_drop" in wrong.signs

    settings = followed(settings, wrong, "coverage_drop", "training.encoder_a_lr_scale")
    assert settings["training.encoder_a_lr_scale"] == 0
    mended = run(tmp_path / "mended", settings)
    assert set(mended.of("coverage")) == {1.0}
    assert "coverage_drop" not in mended.signs


# --- the hierarchy does not develop -------------------------------------------------------------


@SEEDS
def test_a_hierarchy_that_does_not_develop(seed: int, tmp_path: Path) -> None:
    settings = {
        "seed": seed,
        "space.n_digits": 5,
        "training.batch_size": 128,
        "training.epochs": 20,
        "scheduler.T_0": 19.0,
        "loss_weights.hierarchy": 0.0,
        "loss_weights.separation": 0.0,
        "loss_weights.ultrametric": 0.0,
        "monitoring.detailed_metrics_every_n_epochs": 5,
    }
    wrong = run(tmp_path / "wrong", settings)
    assert wrong.signs["hierarchy_stalled"]["epoch"] == 10
    # Nothing orders the levels, so which way they lie is by chance.
    assert ("hierarchy_positive" in wrong.signs) == (max(wrong.of("hierarchy_B")) > 0)

    settings = followed(settings, wrong, "hierarchy_stalled", "loss_weights.hierarchy")
    mended = run(tmp_path / "mended", settings)
    assert mended.of("hierarchy_B")[-1] < -0.5
    assert "hierarchy_stalled" not in mended.signs


# --- the levels collapse ------------------------------------------------------------------------

#: Order at any price: every radius is drawn to the middle of its level's shell.
ORDER_ALONE: dict[str, Any] = {
    "training.epochs": 40,
    "training.lr": 0.01,
    "scheduler.T_0": 39.0,
    "loss_weights.hierarchy": 50.0,
    "loss_weights.richness": 0.0,
    "monitoring.detailed_metrics_every_n_epochs": 10,
}


@SEEDS
def test_richness_that_collapses(seed: int, tmp_path: Path) -> None:
    settings = ORDER_ALONE | {"seed": seed}
    wrong = run(tmp_path / "wrong", settings)
    assert "richness_low" in wrong.signs
    assert wrong.of("richness")[-1] < 0.001

    settings = followed(settings, wrong, "richness_low", "loss_weights.richness")
    mended = run(tmp_path / "mended", settings)
    assert "richness_low" not in mended.signs
    assert mended.of("richness")[-1] > 0.002
    assert mended.of("hierarchy_B")[-1] < -0.8


def coarse_radii(trainer: Trainer) -> None:
    """As on a device that computes radii in half precision, unless float64 is asked for."""
    ball = trainer.model.ball
    exact = ball.dist0

    def dist0(points: Tensor, **keywords: Any) -> Tensor:
        radius = exact(points, **keywords)
        return radius.bfloat16().to(radius.dtype)

    if not trainer.profile.model.mathematical_precision:
        ball.dist0 = dist0  # type: ignore[method-assign]


@SEEDS
def test_radii_that_are_tied_inside_a_level(seed: int, tmp_path: Path) -> None:
    settings = ORDER_ALONE | {"seed": seed}
    wrong = run(tmp_path / "wrong", settings, broken=coarse_radii)
    assert "radii_tied" in wrong.signs
    assert max(wrong.of("tied_share")) > 0.5

    settings = followed(settings, wrong, "radii_tied", "model.mathematical_precision")
    mended = run(tmp_path / "mended", settings, broken=coarse_radii)
    assert "radii_tied" not in mended.signs
    assert max(mended.of("tied_share")) == 0


@SEEDS
def test_points_that_pile_up_at_the_limit(seed: int, tmp_path: Path) -> None:
    settings = ORDER_ALONE | {
        "seed": seed,
        "training.epochs": 20,
        "model.max_radius": 0.1,  # too small for so much variance, so radii go to its ends
        "loss_weights.hierarchy": 0.0,
        "loss_weights.separation": 0.0,
        "loss_weights.richness": 10.0,
    }
    wrong = run(tmp_path / "wrong", settings)
    assert "points_at_limit" in wrong.signs
    assert max(wrong.of("limit_share")) > 0.2

    settings = followed(settings, wrong, "points_at_limit", "model.max_radius")
    mended = run(tmp_path / "mended", settings)
    assert "points_at_limit" not in mended.signs
    assert max(mended.of("limit_share")) <= 0.01
