"""The benchmarks run, report what they saw, and compare like with like."""

from __future__ import annotations

import argparse
import json
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.config import load_profile
from ternvae.losses import geometry_losses, kl_loss, reconstruction_loss
from ternvae.models import BRANCHES, TernaryVAE
from ternvae.padic import TernarySpace
from tests.benchmarks.small import NO_TARGETS, SMALL, as_options

# --- the textbook loop does the same job ----------------------------------------------------


def batches(n_digits: int) -> dict[str, torch.Tensor]:
    """Valuations of batches that go where loops over levels and matrix products could differ."""
    space = TernarySpace(n_digits)
    everything = space.valuation(torch.arange(space.size))
    generator = torch.Generator().manual_seed(7)
    uniform = torch.randint(space.size, (200,), generator=generator)
    return {
        "whole space": everything,
        "uniform": space.valuation(uniform),
        "one row": everything[1:2],
        "deepest level only": torch.full((3,), n_digits),
        "level 0 missing": everything[everything > 0],
        "single rows": torch.arange(n_digits + 1),
    }


@pytest.mark.parametrize("floor", [0.0, 0.006, 50.0])
@pytest.mark.parametrize("case", batches(4))
def test_textbook_losses_are_those_of_the_package(case: str, floor: float) -> None:
    valuation = batches(4)[case]
    generator = torch.Generator().manual_seed(3)
    radius = 3.6 * torch.rand(len(valuation), generator=generator, dtype=torch.float64)
    both = []
    for function in (module("textbook").textbook_geometry_losses, geometry_losses):
        leaf = radius.clone().requires_grad_()
        terms = function(leaf, valuation, n_digits=4, radius_max=3.66, richness_floor=floor)
        (2 * terms.hierarchy + 3 * terms.richness + 5 * terms.separation).backward()
        both.append((torch.stack(list(terms)), leaf.grad))
    torch.testing.assert_close(both[0], both[1], rtol=1e-10, atol=1e-12)


def model_and_textbook(dtype: torch.dtype, curvature: float) -> tuple[TernaryVAE, Any]:
    torch.manual_seed(5)
    model = TernaryVAE(n_digits=4, curvature=curvature).to(dtype)
    with torch.no_grad():  # prototypes away from the origin, where nothing cancels
        model.prototypes.copy_(model.ball.expmap0(0.3 * torch.randn_like(model.prototypes)))
    return model, module("textbook").TextbookVAE(model).to(dtype)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("curvature", [1.0, 0.5])
def test_textbook_model_computes_the_same_for_equal_noise(branch: str, curvature: float) -> None:
    model, textbook = model_and_textbook(torch.float64, curvature)
    space = model.space
    indices = torch.arange(space.size)
    outputs = []
    for each in (textbook, model):
        torch.manual_seed(11)
        outputs.append(each(space.sequences(indices), space.valuation(indices), branch))
    for name, mine, theirs in zip(outputs[0]._fields, *outputs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8, msg=lambda m, n=name: n + m)


def test_textbook_objective_is_that_of_the_package() -> None:
    model, textbook = model_and_textbook(torch.float32, 1.0)
    profile = load_profile(
        overrides={"space.n_digits": 4, "training.batch_size": 81, "targets.Q_enhanced": 1.0}
    )
    weights = profile.loss_weights
    indices = torch.arange(model.space.size)
    sequences, levels = model.space.sequences(indices), model.space.valuation(indices)
    torch.manual_seed(11)
    found = module("textbook").textbook_loss(
        textbook, sequences, levels, profile, textbook.radius_max
    )
    torch.manual_seed(11)
    wanted = torch.zeros(())
    for branch in BRANCHES:
        out = model(sequences, levels, branch)
        wanted = wanted + weights.coverage * reconstruction_loss(out.logits, sequences)
        wanted = wanted + weights.kl * kl_loss(out.posterior_log_prob, out.prior_log_prob)
    terms = geometry_losses(
        out.radius,
        levels,
        n_digits=4,
        radius_max=model.ball.hyperbolic_radius_max,
        richness_floor=profile.targets.richness,
    )
    wanted = wanted + weights.hierarchy * terms.hierarchy + weights.richness * terms.richness
    wanted = wanted + weights.separation * terms.separation
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0.0)


def test_textbook_loop_trains_the_model_that_it_shares() -> None:
    profile = load_profile(
        overrides={"space.n_digits": 4, "training.batch_size": 27, "targets.Q_enhanced": 1.0}
    )
    training = module("textbook").TextbookTraining(profile)
    before = {name: p.detach().clone() for name, p in training.vae.named_parameters()}
    losses = [training.epoch() for _ in range(6)]
    assert losses[-1] < losses[0] / 2
    still = [n for n, p in training.vae.named_parameters() if torch.equal(p, before[n])]
    assert still == ["ball.isp_c"]  # geoopt's curvature; all else moved, in both branches


# --- bench_training -------------------------------------------------------------------------


def test_bench_training_stops_at_the_targets_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = module("bench_training")
    threads = torch.get_num_threads()
    at_once = {"homeostasis.coverage_precision_threshold": "0"}  # frozen after the first epoch
    options = as_options({**SMALL, **NO_TARGETS, **at_once, "training.epochs": "60"})
    status = bench.main(["--seeds", "0,4", "--threads", "1", "--out", str(tmp_path), *options])
    assert torch.get_num_threads() == threads
    results = json.loads((tmp_path / "bench_training.json").read_text())
    (comparison,) = results["comparisons"]
    assert status == (0 if comparison["passed"] else 1)
    assert [run["seed"] for run in comparison["trainer"]] == [0, 4]
    for run in comparison["trainer"]:
        assert run["epochs"] == run["epochs_to_targets"] < 60
        assert run["freeze_epoch"] == 1
        assert run["parameters"] == comparison["textbook"]["parameters"]
        assert 0 < run["seconds_to_targets"] < run["wall_seconds"]
    seconds = comparison["textbook"]["seconds_per_epoch"]
    median = comparison["median_seconds_to_targets"]
    assert comparison["ratio"] == pytest.approx(median / (25 * seconds))
    assert comparison["passed"] == (comparison["ratio"] <= 1)
    assert (tmp_path / "bench_training.md").read_text() == capsys.readouterr().out


def test_bench_training_fails_where_targets_are_not_met(tmp_path: Path) -> None:
    options = as_options({**SMALL, "training.epochs": "1", "targets.Q_enhanced": "1.9"})
    arguments = ["--seeds", "0", "--threads", "1", "--out", str(tmp_path), *options]
    assert module("bench_training").main(arguments) == 1
    (comparison,) = json.loads((tmp_path / "bench_training.json").read_text())["comparisons"]
    assert comparison["ratio"] is None
    assert not comparison["passed"]
    assert "targets not met FAIL" in (tmp_path / "bench_training.md").read_text()


# --- shared parts ---------------------------------------------------------------------------


def test_integers_reads_ranges_and_lists() -> None:
    integers = module("environment").integers
    assert integers("0-3") == [0, 1, 2, 3]
    assert integers("7,0-1, 5") == [7, 0, 1, 5]
    for text in ("", "a", "1-", "-1", "1,,2", "2-1", "1.5", "0-99999999"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected numbers"):
            integers(text)


def test_markdown_table_is_aligned() -> None:
    text = module("environment").markdown_table(("a", "value"), [("long name", "1"), ("b", "22")])
    assert text.splitlines() == [
        "| a         | value |",
        "| --------- | ----: |",
        "| long name |     1 |",
        "| b         |    22 |",
    ]
