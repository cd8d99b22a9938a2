"""The training loop: reproducible, frozen when it should be, resumable, and kind."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.config import Profile, load_profile
from ternvae.metrics import ceilings, evaluate, metric_names
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer import Trainer, TrainingResult
from ternvae.training.device import choose_device
from ternvae.training.run_directory import RunDirectory, RunDirectoryError
from ternvae.training.verdict import targets_met


def small(**overrides: Any) -> Profile:
    """The foundation profile on 81 sequences; an epoch takes a few steps."""
    settings = {
        "space.n_digits": 4,
        "training.batch_size": 40,
        "training.epochs": 6,
        "monitoring.detailed_metrics_every_n_epochs": 2,
        "checkpointing.save_every_n_epochs": 3,
    }
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_profile("mathematical_foundation", settings | dotted)


def fit(profile: Profile, run_dir: Path, **keywords: Any) -> tuple[Trainer, TrainingResult]:
    trainer = Trainer(profile, run_dir, "cpu", **keywords)
    return trainer, trainer.fit()


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.model.state_dict()


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_foundation_profile_holds_for_fewer_digits(seed: int, tmp_path: Path) -> None:
    profile = load_profile(
        "mathematical_foundation",
        {"space.n_digits": 5, "training.batch_size": 128, "seed": seed},
    )
    _, result = fit(profile, tmp_path / "run")
    assert result.stop_reason == "epochs"
    assert result.metrics["coverage"] == 1.0
    assert result.metrics["hierarchy_B"] == pytest.approx(ceilings(5)["hierarchy"], abs=1e-6)
    assert result.validation["mathematical_foundation_ready"] is True


def test_same_seed_same_bits_and_another_seed_other_bits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, a = fit(small(), tmp_path / "a")
    torch.manual_seed(2)  # what the caller did to the global generator must not matter
    second, b = fit(small(), tmp_path / "b")
    other, _ = fit(small(seed=1), tmp_path / "c")
    assert a.metrics == b.metrics
    assert identical(weights(first), weights(second))
    assert not identical(weights(first), weights(other))


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(small(training__epochs=1), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_evaluating_a_checkpoint_twice_gives_the_logged_numbers(tmp_path: Path) -> None:
    _, result = fit(small(), tmp_path / "run")
    assert result.checkpoint is not None
    model = TernaryVAE.from_checkpoint(result.checkpoint)
    once, twice = (evaluate(model, TernarySpace(4)) for _ in range(2))
    assert once == twice == result.metrics
    assert load_checkpoint(result.checkpoint)["comprehensive_metrics"] == result.metrics


def test_after_the_freeze_branch_a_does_not_change_by_one_bit(tmp_path: Path) -> None:
    profile = small(training__epochs=1, targets__coverage=0.0, model__dropout=0.2)
    trainer = Trainer(profile, tmp_path / "run", "cpu")
    trainer.fit()
    assert trainer.progress.coverage_frozen
    everything = torch.arange(81)
    points = trainer.model.embed(everything, "A")
    before = {key: value.clone() for key, value in weights(trainer).items()}
    for epoch in range(2, 5):
        trainer._train_epoch(epoch)
    after = weights(trainer)
    guarded = ("encoders.A.", "decoder.charts.A.", "decoder.trunk.")
    for key in before:
        changed = not torch.equal(before[key], after[key])
        if key.startswith(guarded):
            assert not changed, key
        elif key.startswith(("encoders.B.features", "decoder.charts.B", "prototypes")):
            assert changed, key
    assert torch.equal(trainer.model.embed(everything, "A"), points)


def test_every_point_obeys_max_radius_throughout(tmp_path: Path) -> None:
    profile = small(training__lr=0.5, model__max_radius=0.6, targets__richness=0.001)
    trainer, _ = fit(profile, tmp_path / "run")
    for branch in "AB":
        assert trainer.model.embed(torch.arange(81), branch).norm(dim=-1).max() <= 0.6
    assert trainer.model.prototypes.norm(dim=-1).max() <= 0.6


# --- resuming -----------------------------------------------------------------------------------


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, _ = fit(small(), tmp_path / "whole")
    fit(small(training__epochs=3), tmp_path / "parts")
    last = tmp_path / "parts" / "checkpoints" / "last.pt"
    resumed, result = fit(small(), tmp_path / "parts", resume_from=last)
    assert identical(weights(whole), weights(resumed))
    assert result.stop_reason == "epochs"
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [2, 3, 4, 6]


def test_resuming_from_an_earlier_epoch_forgets_the_later_ones(tmp_path: Path) -> None:
    fit(small(), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "epoch_003.pt"
    fit(small(), tmp_path / "run", resume_from=checkpoint)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [2, 4, 6]


def test_resuming_with_another_architecture_is_refused(tmp_path: Path) -> None:
    fit(small(training__epochs=3), tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    with pytest.raises(CheckpointError, match="hidden_dim"):
        Trainer(small(model__hidden_dim=32), tmp_path / "run", "cpu", resume_from=last)
    with pytest.raises(CheckpointError, match=r"epoch 3 is done.*raise training\.epochs"):
        Trainer(small(training__epochs=3), tmp_path / "run", "cpu", resume_from=last)


# --- stopping -----------------------------------------------------------------------------------


def test_a_requested_stop_saves_and_says_so(tmp_path: Path) -> None:
    trainer = Trainer(small(), tmp_path / "run", "cpu")
    trainer.request_stop()
    result = trainer.fit()
    assert result.stop_reason == "interrupted"
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["epoch"] == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["stop_reason"] == (
        "interrupted"
    )


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(small(), tmp_path / "run", "cpu")
    real = trainer._train_epoch

    def poisoned(epoch: int) -> dict[str, float]:
        losses = real(epoch)
        return losses | {"total": math.nan} if epoch == 5 else losses

    monkeypatch.setattr(trainer, "_train_epoch", poisoned)
    result = trainer.fit()
    assert result.stop_reason == "non_finite_loss"
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["epoch"] == 3
    assert result.checkpoint is not None
    assert TernaryVAE.from_checkpoint(result.checkpoint).embed([0]).isfinite().all()


# --- the run directory --------------------------------------------------------------------------


def test_the_run_directory_holds_what_it_promises(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, result = fit(small(), run)
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names == {
        *("profile.yaml", "metrics.jsonl", "metrics.json", "train.log"),
        *(f"checkpoints/{name}.pt" for name in ("best_Q", "last", "epoch_003", "epoch_006")),
    }
    assert load_profile(run / "profile.yaml") == small()
    summary = json.loads((run / "metrics.json").read_text())
    assert set(summary) >= {
        *("profile", "seed", "n_digits", "epochs", "stop_reason", "comprehensive_metrics"),
        *("ceilings", "validation_results", "epochs_to", "seconds"),
    }
    assert set(summary["epochs_to"]) == {"coverage_99", "coverage_100", "targets"}
    assert set(summary["seconds"]) >= {"train", "evaluate", "to_targets"}
    assert tuple(summary["comprehensive_metrics"]) == metric_names(4)
    assert summary["comprehensive_metrics"] == result.metrics
    assert set(summary["validation_results"]) == {
        *("coverage_precision", "hierarchy_ceiling", "richness_preservation", "Q_enhanced"),
        *("numerical_stability", "p_adic_structure", "mathematical_foundation_ready"),
    }
    contents = torch.load(run / "checkpoints" / "best_Q.pt", weights_only=True)
    assert set(contents) >= {
        *("model_state_dict", "optimizer_state_dict", "epoch", "comprehensive_metrics"),
        *("validation_results", "profile", "format_version"),
    }


def test_best_is_first_by_coverage_then_by_targets_then_by_q(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer, _ = fit(small(training__epochs=30), run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def key(line: dict[str, Any]) -> tuple[float, bool, float]:
        met = targets_met(line, trainer.targets, n_digits=4)
        return line["coverage"], all(met.values()), line["Q_enhanced"]

    best = max(lines, key=key)
    assert load_checkpoint(run / "checkpoints" / "best_Q.pt")["epoch"] == best["epoch"]


def test_metrics_json_has_null_where_a_metric_is_undefined(tmp_path: Path) -> None:
    profile = small(
        space__n_digits=1, training__batch_size=3, targets__hierarchy_B=-0.8, training__epochs=2
    )
    fit(profile, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert summary["comprehensive_metrics"]["ultrametric_corr"] is None
    assert summary["ceilings"]["ultrametric_corr"] is None


def test_a_directory_with_a_run_in_it_is_refused_untouched(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(small(training__epochs=1), run)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(RunDirectoryError, match="holds a run already"):
        Trainer(small(), run, "cpu")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_bad_places_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file"):
        Trainer(small(), tmp_path / "file", "cpu")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        Trainer(small(), tmp_path / "run", "cpu", resume_from=tmp_path / "none.pt")
    with pytest.raises(ValueError, match="'cuda:77' is not there; choose from auto, cpu"):
        Trainer(small(), tmp_path / "run", "cuda:77")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="run directory"):
        RunDirectory(tmp_path / "file" / "run").open("", resume_epoch=None)


@pytest.mark.parametrize("name", ["tpu", "cpu:1", "mps", "", "cuda:x", "cuda:-1", "meta"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(ValueError, match="is not there; choose from auto, cpu"):
        choose_device(name)


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_meets_the_small_targets(tmp_path: Path) -> None:
    profile = small(space__n_digits=5, training__batch_size=128, training__epochs=63)
    result = Trainer(profile, tmp_path / "run", "cuda").fit()
    assert result.metrics["coverage"] == 1.0
    assert result.metrics["hierarchy_B"] == pytest.approx(ceilings(5)["hierarchy"], abs=1e-6)
