"""The training loop: reproducible, frozen when it should be, resumable, and kind."""

import itertools
import json
import logging
import math
import shutil
from collections.abc import Callable
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
from ternvae.trainer.examination import Examination
from ternvae.training.device import choose_device, is_out_of_memory
from ternvae.training.optimisation import Optimisation
from ternvae.training.run_directory import RunDirectory, RunDirectoryError
from ternvae.training.verdict import rank, targets_met


def small(**overrides: Any) -> Profile:
    """The foundation profile on 81 sequences; an epoch takes a few steps."""
    settings = {
        "space.n_digits": 4,
        "training.batch_size": 40,
        "targets.coverage_B": 0.0,  # encoder A does not wait for B
        "training.epochs": 6,
        "monitoring.detailed_metrics_every_n_epochs": 2,
        "monitoring.report": False,
        "checkpointing.save_every_n_epochs": 3,
    }
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_profile("mathematical_foundation", settings | dotted)


def fit(profile: Profile, run_dir: Path, **keywords: Any) -> tuple[Trainer, TrainingResult]:
    trainer = Trainer(profile, run_dir, "cpu", **keywords)
    return trainer, trainer.fit()


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.model.state_dict()


def saved_weights(run_dir: Path, name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run_dir / "checkpoints" / f"{name}.pt")[
        "model_state_dict"
    ]
    return state


def history(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [event for line in history(run_dir) for event in line["events"]]


#: All that coverage depends on.
GUARDED = ("encoders.A.", "charts.A.", "decoder.", "ball.")

#: Encoder A is frozen after the first epoch, whatever its coverage, and stays so.
EARLY_FREEZE: dict[str, Any] = {
    "targets__coverage": 0.0,
    "homeostasis__coverage_precision_threshold": 0.0,
    "homeostasis__enable_annealing": False,
}


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    """As the command line sets it: otherwise the log holds warnings alone."""
    caplog.set_level(logging.INFO, "ternvae")


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_foundation_profile_holds_for_fewer_digits(seed: int, tmp_path: Path) -> None:
    profile = load_profile(
        "mathematical_foundation",
        {"space.n_digits": 5, "training.batch_size": 128, "seed": seed, "monitoring.report": False},
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
    trainer, result = fit(
        small(
            **EARLY_FREEZE,
            training__epochs=5,
            model__dropout=0.2,
            training__weight_decay=0.1,
            checkpointing__save_every_n_epochs=1,
        ),
        tmp_path / "run",
    )
    assert trainer.encoder_a_frozen
    assert trainer.progress.coverage_reached
    states = [saved_weights(tmp_path / "run", f"epoch_{epoch:03d}") for epoch in range(1, 6)]
    for before, after in itertools.pairwise(states):
        for key in before:
            changed = not torch.equal(before[key], after[key])
            if key.startswith(GUARDED):
                assert not changed, key
            elif key.startswith(("encoders.B.features", "charts.B", "prototypes")):
                assert changed, key
    lines = history(tmp_path / "run")
    assert len({line["coverage"] for line in lines}) == 1
    assert result.metrics["coverage"] == lines[0]["coverage"]


def test_the_freeze_comes_with_the_epoch_that_reaches_the_threshold(tmp_path: Path) -> None:
    trainer, _ = fit(small(training__epochs=30), tmp_path / "run")
    frozen = [e for e in events(tmp_path / "run") if e["kind"] == "freeze_encoder_a"]
    assert frozen[0]["epoch"] == trainer.progress.epochs_to["coverage_100"]
    assert frozen[0]["figures"]["coverage"] == 1.0


def test_without_homeostasis_nothing_is_frozen(tmp_path: Path) -> None:
    trainer, _ = fit(
        small(
            homeostasis__enabled=False,
            targets__coverage=0.0,
            checkpointing__save_every_n_epochs=1,
            training__epochs=3,
        ),
        tmp_path / "run",
    )
    assert trainer.progress.coverage_reached
    assert not trainer.encoder_a_frozen
    assert not events(tmp_path / "run")
    first, last = (saved_weights(tmp_path / "run", f"epoch_00{k}") for k in (1, 3))
    fixed = {key for key in first if "ball." in key}
    assert {key for key in first if torch.equal(first[key], last[key])} == fixed


def test_every_point_obeys_max_radius_throughout(tmp_path: Path) -> None:
    profile = small(training__lr=0.5, model__max_radius=0.6, targets__richness=0.001)
    trainer, _ = fit(profile, tmp_path / "run")
    for branch in "AB":
        assert trainer.model.embed(torch.arange(81), branch).norm(dim=-1).max() <= 0.6
    assert trainer.model.prototypes.norm(dim=-1).max() <= 0.6


# --- resuming -----------------------------------------------------------------------------------


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    # A shorter run is evaluated once more, at its end, and nothing shall be decided by that.
    whole, _ = fit(small(homeostasis__patience=9), tmp_path / "whole")
    fit(small(homeostasis__patience=9, training__epochs=3), tmp_path / "parts")
    last = tmp_path / "parts" / "checkpoints" / "last.pt"
    resumed, result = fit(small(homeostasis__patience=9), tmp_path / "parts", resume_from=last)
    assert identical(weights(whole), weights(resumed))
    assert result.stop_reason == "epochs"
    assert [line["epoch"] for line in history(tmp_path / "parts")] == [2, 3, 4, 6]


#: Everything that decides is on.  Encoder A is frozen after epoch 1; once two evaluations are done,
#: annealing raises the threshold out of reach and A thaws.
EVERYTHING: dict[str, Any] = {
    **EARLY_FREEZE,
    "targets__coverage": 1.0,
    "homeostasis__enable_annealing": True,
    "homeostasis__annealing_patience": 2,
    "homeostasis__annealing_step": 1.0,
    "model__enhanced_controller": True,
    "model__dropout": 0.1,
    "curriculum__enabled": True,
    "curriculum__coverage_first_epochs": 1,
    "curriculum__hierarchy_ramp_epochs": 4,
    "curriculum__richness_preserve_epochs": 2,
    "training__epochs": 8,
    "training__weight_decay": 0.01,
    "training__gradient_accumulation_steps": 2,
    "checkpointing__save_every_n_epochs": 1,
}


@pytest.mark.parametrize("evaluated_every", [1, 2])
def test_a_run_resumed_after_any_epoch_ends_with_the_same_bits_and_says_the_same(
    evaluated_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Examination._measure

    def improving(self: Examination) -> tuple[dict[str, float], bool]:
        measured, collapsed = measure(self)
        return measured | {"Q_enhanced": 1 + self.progress.epoch / 10}, collapsed

    # A Q that rises, so that annealing raises the threshold past A, whatever the seed.
    monkeypatch.setattr(Examination, "_measure", improving)
    settings = {**EVERYTHING, "monitoring__detailed_metrics_every_n_epochs": evaluated_every}
    whole, result = fit(small(**settings), tmp_path / "whole")
    kinds = [(event["kind"], event["epoch"]) for event in events(tmp_path / "whole")]
    assert ("freeze_encoder_a", 1) in kinds
    assert ("thaw_encoder_a", 2 * evaluated_every) in kinds
    for epoch in range(1, 8):
        # A copy: the best model so far is part of the run.
        run = tmp_path / f"from{epoch}"
        shutil.copytree(tmp_path / "whole", run)
        for name in ("best_Q", *(f"best_epoch_{later:03d}" for later in range(1, 9))):
            (run / "checkpoints" / f"{name}.pt").unlink(missing_ok=True)
        resumed, again = fit(
            small(**settings), run, resume_from=run / "checkpoints" / f"epoch_{epoch:03d}.pt"
        )
        assert identical(weights(whole), weights(resumed)), epoch
        assert history(run) == history(tmp_path / "whole"), epoch
        assert again.stop_reason == result.stop_reason
        one, other = (load_checkpoint(t.directory.last) for t in (whole, resumed))
        for part in ("homeostasis", "frozen", "warning_signs", "epoch"):
            assert one[part] == other[part], (epoch, part)
        moments = (c["optimizer_state_dict"]["state"] for c in (one, other))
        for here, there in zip(*(list(m.values()) for m in moments), strict=True):
            assert identical(here, there)
        assert identical(one["controller"]["state"], other["controller"]["state"])


def test_the_best_model_is_one_to_go_on_from_as_well(tmp_path: Path) -> None:
    whole, _ = fit(small(**EVERYTHING), tmp_path / "whole")
    best = sorted((tmp_path / "whole" / "checkpoints").glob("best_epoch_*.pt"))
    before_the_end = [path for path in best if load_checkpoint(path)["epoch"] < 8]
    assert before_the_end
    for path in before_the_end:
        resumed, _ = fit(small(**EVERYTHING), tmp_path / path.stem, resume_from=path)
        assert identical(weights(whole), weights(resumed))


def test_after_going_back_the_best_model_is_still_the_one_that_the_figures_are_of(
    tmp_path: Path,
) -> None:
    """Epochs that are forgotten take their models with them, the best one too."""
    settings = {"checkpointing__save_every_n_epochs": 1, "training__epochs": 12}
    settings["monitoring__detailed_metrics_every_n_epochs"] = 1
    run = tmp_path / "run"
    _, first = fit(small(**settings), run)
    earlier = run / "checkpoints" / "epoch_002.pt"
    # From there on with a rate that ruins everything, so nothing better follows.
    ruined = small(**settings, training__lr=1.0, scheduler__warmup_epochs=0)
    trainer, result = fit(ruined, run, resume_from=earlier)
    assert result.metrics["coverage"] < first.metrics["coverage"]
    assert result.checkpoint is not None
    contents = load_checkpoint(result.checkpoint)
    figures = pytest.approx(result.metrics, rel=0, abs=0, nan_ok=True)
    assert contents["comprehensive_metrics"] == figures
    model = TernaryVAE.from_checkpoint(result.checkpoint)
    assert dict(evaluate(model, TernarySpace(4))) == figures
    summary = json.loads((run / "metrics.json").read_text())
    assert contents["epoch"] == summary["best_epoch"]
    kept = {f"best_epoch_{best.epoch:03d}.pt" for best in trainer.progress.kept}
    assert {path.name for path in (run / "checkpoints").glob("best_epoch_*.pt")} == kept


def test_resuming_from_an_earlier_epoch_forgets_the_later_ones(tmp_path: Path) -> None:
    fit(small(), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "epoch_003.pt"
    fit(small(), tmp_path / "run", resume_from=checkpoint)
    assert [line["epoch"] for line in history(tmp_path / "run")] == [2, 4, 6]


def test_resuming_with_another_architecture_is_refused(tmp_path: Path) -> None:
    fit(small(training__epochs=3), tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    with pytest.raises(CheckpointError, match="hidden_dim"):
        Trainer(small(model__hidden_dim=32), tmp_path / "run", "cpu", resume_from=last)
    with pytest.raises(CheckpointError, match=r"all 3 epochs are done; raise training\.epochs"):
        Trainer(small(training__epochs=3), tmp_path / "run", "cpu", resume_from=last)


# --- stopping -----------------------------------------------------------------------------------


def test_a_requested_stop_saves_and_says_so(tmp_path: Path) -> None:
    trainer = Trainer(small(), tmp_path / "run", "cpu")
    trainer.request_stop()
    result = trainer.fit()
    assert result.stop_reason == "interrupted"
    last = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert (last["epoch"], last["step"]) == (0, 1)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["stop_reason"] == (
        "interrupted"
    )


def after_steps(
    monkeypatch: pytest.MonkeyPatch, count: int, happens: Callable[[Optimisation], None]
) -> None:
    """Something happens before the step after so many steps."""
    real, done = Optimisation.step, itertools.count()

    def step(self: Optimisation, *arguments: Any) -> torch.Tensor:
        if next(done) == count:
            happens(self)
        return real(self, *arguments)

    monkeypatch.setattr(Optimisation, "step", step)


def stopped(profile: Profile, run: Path, reason: str) -> tuple[TrainingResult, list[str]]:
    """A run that ends early in epoch 5; its result and the remedies that it gives."""
    _, result = fit(profile, run)
    assert result.stop_reason == reason
    assert json.loads((run / "metrics.json").read_text())["stop_reason"] == reason
    # The last good state is there, and the best model is whole.
    assert load_checkpoint(run / "checkpoints" / "last.pt")["epoch"] == 4
    assert result.checkpoint == run / "checkpoints" / "best_Q.pt"
    model = TernaryVAE.from_checkpoint(result.checkpoint)
    assert evaluate(model, TernarySpace(4)) == result.metrics
    assert load_checkpoint(result.checkpoint)["epoch"] in (2, 4)
    warnings = [warning for line in history(run) for warning in line["warnings"]]
    [warning] = [each for each in warnings if each["epoch"] == 5]
    log = (run / "train.log").read_text()
    assert log.count(f"warning: {warning['message']}") == 1
    assert all(remedy in log for remedy in warning["remedies"])
    return result, warning["remedies"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 1099511627776 bytes. Error code 12"
        ),
        MemoryError(),
    ],
)
def test_a_run_that_runs_out_of_memory_keeps_its_best_model_and_says_what_to_try(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Optimisation) -> None:
        raise error

    per_epoch = Trainer(small(), tmp_path / "unused", "cpu").batches.steps_per_epoch
    after_steps(monkeypatch, 4 * per_epoch + 1, fails)
    _, remedies = stopped(small(), tmp_path / "run", "out_of_memory")
    keys = [remedy.split(":")[0] for remedy in remedies]
    assert "training.batch_size" in keys
    assert "training.gradient_accumulation_steps" in keys
    assert "training.use_amp" in keys


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisons(optimisation: Optimisation) -> None:
        with torch.no_grad():
            optimisation.model.charts["B"][0].weight.fill_(math.nan)

    per_epoch = Trainer(small(), tmp_path / "unused", "cpu").batches.steps_per_epoch
    after_steps(monkeypatch, 4 * per_epoch + 1, poisons)
    _, remedies = stopped(small(), tmp_path / "run", "non_finite_loss")
    assert any(remedy.startswith("training.lr:") for remedy in remedies)


def test_weights_that_the_last_step_before_an_evaluation_spoils_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is checked before its update, and nothing follows this one."""

    def poisons(optimisation: Optimisation) -> None:
        moments = optimisation.optimizer.state[optimisation.model.charts["B"][0].weight]
        moments["exp_avg"].fill_(math.nan)

    per_epoch = Trainer(small(), tmp_path / "unused", "cpu").batches.steps_per_epoch
    after_steps(monkeypatch, 4 * per_epoch - 1, poisons)
    _, result = fit(small(), tmp_path / "run")
    assert result.stop_reason == "non_finite_loss"
    assert result.problem is not None
    assert result.problem.startswith("After epoch 4: NaN or infinite, and so not saved: charts.B")
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["epoch"] == 3


def test_another_error_is_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Optimisation) -> None:
        raise RuntimeError("shapes do not match")

    after_steps(monkeypatch, 2, fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(small(), tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("shape '[3]' is invalid for input of size 4"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_counts_as_a_lack_of_memory(error: BaseException, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


# --- the run directory --------------------------------------------------------------------------


def test_the_run_directory_holds_what_it_promises(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, result = fit(small(), run)
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names == {
        *("profile.yaml", "metrics.jsonl", "metrics.json", "train.log", "lock"),
        "checkpoints/SHA256SUMS",
        *(f"checkpoints/{name}.pt" for name in ("best_Q", "last", "epoch_003", "epoch_006")),
        *(f"checkpoints/best_epoch_00{epoch}.pt" for epoch in (2, 4, 6)),
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
    profile = small(training__epochs=30)
    fit(profile, run)

    def key(line: dict[str, Any]) -> tuple[float, bool, float]:
        met = targets_met(line, profile.targets.model_dump(), n_digits=4)
        return line["coverage"], all(met.values()), line["Q_enhanced"]

    best = max(history(run), key=key)
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
        RunDirectory(tmp_path / "file" / "run").open("")


# --- what is kept and said ----------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_the_best_models_are_kept_and_no_others(most: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    profile = small(
        checkpointing__keep_best_n=most,
        monitoring__detailed_metrics_every_n_epochs=1,
        training__epochs=12,
    )
    trainer, _ = fit(profile, run)

    def key(line: dict[str, Any]) -> tuple[float, bool, float]:
        return rank(line, profile.targets.model_dump(), n_digits=4)

    # Sorting is stable: of equals the older one comes first.
    best = sorted(history(run), key=key, reverse=True)[:most]
    assert [each.epoch for each in trainer.progress.kept] == [line["epoch"] for line in best]
    files = {path.name for path in (run / "checkpoints").glob("best_*.pt")}
    named = {f"best_epoch_{line['epoch']:03d}.pt" for line in best} if most > 1 else set()
    assert files == {"best_Q.pt"} | named
    for line in best[: most if most > 1 else 0]:
        contents = load_checkpoint(run / "checkpoints" / f"best_epoch_{line['epoch']:03d}.pt")
        assert contents["epoch"] == line["epoch"]
        assert contents["comprehensive_metrics"]["Q_enhanced"] == line["Q_enhanced"]
    assert load_checkpoint(run / "checkpoints" / "best_Q.pt")["epoch"] == best[0]["epoch"]


def test_only_own_files_are_deleted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {
        "checkpointing__keep_best_n": 2,
        "checkpointing__save_every_n_epochs": 1,
        "monitoring__detailed_metrics_every_n_epochs": 1,
    }
    fit(small(**settings, training__epochs=2), run)
    foreign = [run / "checkpoints" / name for name in ("best_epoch_999.pt", "mine.pt", "notes.txt")]
    for path in foreign:
        path.write_text("mine")
    last = run / "checkpoints" / "last.pt"
    trainer, _ = fit(small(**settings, training__epochs=12), run, resume_from=last)
    assert min(best.epoch for best in trainer.progress.kept) > 2  # so some were deleted
    assert all(path.read_text() == "mine" for path in foreign)
    numbered = {path.name for path in (run / "checkpoints").glob("epoch_*.pt")}
    assert numbered == {f"epoch_{epoch:03d}.pt" for epoch in range(1, 13)}


@pytest.mark.parametrize("accumulated", [1, 2])
def test_every_so_many_steps_a_line_says_how_it_goes(accumulated: int, tmp_path: Path) -> None:
    settings = {"training__gradient_accumulation_steps": accumulated, "training__epochs": 3}
    _, quiet = fit(small(**settings), tmp_path / "quiet")
    trainer, told = fit(small(**settings, monitoring__log_every_n_steps=1), tmp_path / "told")
    assert told.metrics == quiet.metrics  # looking changes nothing
    lines = (tmp_path / "told" / "train.log").read_text().splitlines()
    steps = [line for line in lines if line.startswith("Step")]
    per_epoch = math.ceil(trainer.batches.steps_per_epoch / accumulated)
    assert len(steps) == 3 * per_epoch
    assert not [
        line
        for line in (tmp_path / "quiet" / "train.log").read_text().splitlines()
        if line.startswith("Step")
    ]
    figures = [dict(part.strip().rsplit(" ", 1) for part in line.split("|")[1:]) for line in steps]
    assert [line.split()[1] for line in steps] == [str(k + 1) for k in range(3 * per_epoch)]
    names = {*("total", "coverage", "hierarchy", "richness", "separation", "kl"), "lr"}
    assert set(figures[0]) >= names | {"gradient_norm"}
    # The norms of the steps average to that of the epoch, whatever was accumulated.
    last = [float(each["gradient_norm"]) for each in figures[-per_epoch:]]
    [line] = [line for line in history(tmp_path / "told") if line["epoch"] == 3]
    assert sum(last) / per_epoch == pytest.approx(line["losses"]["gradient_norm"], rel=2e-3)
    fit(small(**settings, monitoring__log_every_n_steps=3), tmp_path / "third")
    log = (tmp_path / "third" / "train.log").read_text().splitlines()
    numbers = [int(line.split()[1]) for line in log if line.startswith("Step")]
    assert numbers == [k for k in range(1, 3 * per_epoch + 1) if k % 3 == 0]


def test_precision_is_tracked_where_that_is_wanted(tmp_path: Path) -> None:
    errors = []
    for float64 in (False, True):
        run = tmp_path / str(float64)
        fit(
            small(
                monitoring__precision_tracking=True,
                model__mathematical_precision=float64,
                model__max_radius=0.9999,
            ),
            run,
        )
        for line in history(run):
            assert set(line["precision"]) == {"radius_error", "point_error", "rim_gap"}
            assert 0 <= line["precision"]["radius_error"] < 1e-2
            assert 0 <= line["precision"]["point_error"] < 1e-2
            assert 0 < line["precision"]["rim_gap"] <= 1
        errors.append(max(line["precision"]["radius_error"] for line in history(run)))
        assert "against float64" in (run / "train.log").read_text()
    assert errors[1] < errors[0]
    fit(small(training__epochs=2), tmp_path / "plain")
    assert all("precision" not in line for line in history(tmp_path / "plain"))


def test_workers_change_nothing_but_a_line_of_the_log(tmp_path: Path) -> None:
    logs, states = [], []
    for workers in (0, 8):
        run = tmp_path / str(workers)
        trainer, _ = fit(small(training__num_workers=workers, training__epochs=3), run)
        states.append(weights(trainer))
        logs.append((run / "train.log").read_text().replace(str(run), "RUN").splitlines())
        assert history(run) == history(tmp_path / "0")
    assert identical(*states)
    line = "training.num_workers: sequences are made on the device, so workers change nothing"
    assert [each for each in logs[1] if each not in logs[0]] == [line]
    assert [each for each in logs[1] if each != line] == logs[0]


# --- coverage from an earlier run ---------------------------------------------------------------


@pytest.fixture(scope="module")
def covered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best model of a short run that is for coverage."""
    profile = load_profile(
        "coverage_focused",
        {
            "space.n_digits": 4,
            "training.batch_size": 40,
            "training.epochs": 30,
            "scheduler.T_0": 29,
            "monitoring.report": False,
        },
    )
    result = Trainer(profile, tmp_path_factory.mktemp("covered") / "run", "cpu").fit()
    assert result.metrics["coverage"] == 1.0
    assert result.checkpoint is not None
    return result.checkpoint


@pytest.mark.parametrize("seed", [0, 1])
def test_with_coverage_from_a_checkpoint_the_hierarchy_develops_and_coverage_stays(
    seed: int, covered: Path, tmp_path: Path
) -> None:
    trainer, result = fit(
        small(
            frozen_checkpoint__path=str(covered),
            seed=seed,
            model__dropout=0.05,
            training__weight_decay=0.01,
            training__epochs=63,
            monitoring__detailed_metrics_every_n_epochs=7,
            checkpointing__save_every_n_epochs=1,
        ),
        tmp_path / "run",
    )
    assert trainer.encoder_a_frozen
    source = load_checkpoint(covered)["model_state_dict"]
    guarded = {key for key in source if key.startswith(GUARDED)}
    files = sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert len(files) == 63 + 1 + 3 + 1
    for path in files:
        state = load_checkpoint(path)["model_state_dict"]
        assert [key for key in guarded if not torch.equal(state[key], source[key])] == []
        # B is not taken over: it learns from the beginning.
        assert not torch.equal(state["charts.B.0.weight"], source["charts.B.0.weight"])
    assert {line["coverage"] for line in history(tmp_path / "run")} == {1.0}
    assert result.validation["coverage_precision"]
    assert result.validation["hierarchy_ceiling"]
    assert events(tmp_path / "run")[0]["kind"] == "freeze_encoder_a"


def test_coverage_from_a_checkpoint_may_go_on_learning(covered: Path, tmp_path: Path) -> None:
    """With a rate of its own above 0 nothing holds encoder A but homeostasis."""
    trainer, _ = fit(
        small(
            frozen_checkpoint__path=str(covered),
            training__encoder_a_lr_scale=0.1,
            homeostasis__enabled=False,
            training__epochs=2,
        ),
        tmp_path / "run",
    )
    assert not trainer.encoder_a_frozen
    source = load_checkpoint(covered)["model_state_dict"]
    assert not torch.equal(weights(trainer)["decoder.2.weight"], source["decoder.2.weight"])


def test_coverage_that_misses_its_target_is_refused_with_the_reason(tmp_path: Path) -> None:
    _, short = fit(small(training__epochs=1), tmp_path / "short")
    assert short.metrics["coverage"] < 1
    path = str(short.checkpoint)
    run = tmp_path / "run"
    with pytest.raises(CheckpointError) as refusal:
        Trainer(small(frozen_checkpoint__path=path), run, "cpu")
    text = str(refusal.value)
    assert "frozen_checkpoint.path" in text
    assert path in text
    assert f"{short.metrics['coverage']:.6f}" in text
    assert "targets.coverage 1.0" in text
    assert not run.exists()
    # Each way out that it names is one.
    assert "training.encoder_a_lr_scale" in text
    Trainer(small(frozen_checkpoint__path=path, training__encoder_a_lr_scale=0.5), run, "cpu")
    assert "lower the target" in text
    Trainer(
        small(frozen_checkpoint__path=path, targets__coverage=short.metrics["coverage"]), run, "cpu"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.hidden_dim", 32), ("model.curvature", 0.5), ("model.latent_dim", 8)],
)
def test_a_checkpoint_of_another_architecture_is_refused_by_the_key(
    key: str, value: float, covered: Path, tmp_path: Path
) -> None:
    theirs = {"model.hidden_dim": "64", "model.curvature": "1.0", "model.latent_dim": "16"}[key]
    with pytest.raises(CheckpointError, match=rf"frozen_checkpoint\.path: .*set {key} to {theirs}"):
        Trainer(
            small(**{key: value, "frozen_checkpoint.path": str(covered)}), tmp_path / "run", "cpu"
        )
    assert not (tmp_path / "run").exists()


def test_a_run_with_coverage_from_a_checkpoint_resumes_without_it(
    covered: Path, tmp_path: Path
) -> None:
    """All that it took over is in its own checkpoints."""
    borrowed = tmp_path / "borrowed.pt"
    shutil.copy(covered, borrowed)
    profile = small(frozen_checkpoint__path=str(borrowed))
    whole, _ = fit(profile, tmp_path / "whole")
    borrowed.unlink()
    checkpoint = tmp_path / "whole" / "checkpoints" / "epoch_003.pt"
    resumed, _ = fit(profile, tmp_path / "resumed", resume_from=checkpoint)
    assert identical(weights(whole), weights(resumed))
    assert resumed.encoder_a_frozen


# --- curvature and half precision ---------------------------------------------------------------


def test_curvature_is_learned_until_encoder_a_is_frozen(tmp_path: Path) -> None:
    run, epochs = tmp_path / "run", 12
    fit(
        small(
            model__learnable_curvature=True,
            training__weight_decay=0.01,
            training__epochs=epochs,
            targets__coverage=0.8,
            homeostasis__coverage_precision_threshold=0.8,
            homeostasis__coverage_hysteresis=1.0,
            homeostasis__enable_annealing=False,
            monitoring__detailed_metrics_every_n_epochs=1,
            checkpointing__save_every_n_epochs=1,
        ),
        run,
    )
    [frozen] = [e for e in events(run) if e["kind"].endswith("encoder_a")]
    assert 1 < frozen["epoch"] < epochs
    curvatures = []
    for epoch in range(1, epochs + 1):
        model = TernaryVAE.from_checkpoint(run / "checkpoints" / f"epoch_{epoch:03d}.pt")
        c = model.ball.c.item()
        assert (math.sqrt(c) * model.prototypes.double().norm(dim=-1)).max() <= 0.95
        for branch in "AB":
            points = model.embed(torch.arange(81), branch).double()
            assert (math.sqrt(c) * points.norm(dim=-1)).max() <= 0.95 * (1 + 1e-6)
        curvatures.append(c)
    until = frozen["epoch"]
    assert len(set(curvatures[:until])) == until
    assert set(curvatures[until - 1 :]) == {curvatures[until - 1]}
    assert [line["curvature"] for line in history(run)] == curvatures


def test_with_amp_hidden_layers_run_in_bfloat16_and_only_in_training(tmp_path: Path) -> None:
    trainer = Trainer(
        small(training__use_amp=True, training__epochs=4, monitoring__precision_tracking=True),
        tmp_path / "run",
        "cpu",
    )
    seen: dict[bool, set[torch.dtype]] = {False: set(), True: set()}
    points: set[torch.dtype] = set()

    def hidden(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        seen[torch.is_grad_enabled()].add(output.dtype)

    def projected(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        points.add(output.dtype)

    for branch in "AB":
        encoder = trainer.model.encoder(branch)
        encoder.features[0].register_forward_hook(hidden)
        encoder.features[4].register_forward_hook(hidden)
        encoder.projection.register_forward_hook(projected)
    trainer.model.decoder[2].register_forward_hook(hidden)
    result = trainer.fit()
    assert seen[True] == {torch.bfloat16}
    assert torch.bfloat16 not in seen[False]
    assert points <= {torch.float32, torch.float64}
    assert all(value.dtype != torch.bfloat16 for value in weights(trainer).values())
    state = trainer.optimisation.optimizer.state
    assert all(
        value.dtype != torch.bfloat16 for moments in state.values() for value in moments.values()
    )
    assert result.stop_reason == "epochs"
    assert all(math.isfinite(v) for v in history(tmp_path / "run")[-1]["losses"].values())


# --- places and devices -------------------------------------------------------------------------


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
