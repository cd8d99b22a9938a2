"""The ablation trains what it says, compares like with like, and its claims can fail."""

from __future__ import annotations

import json
import sys
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import load_checkpoint, save_checkpoint
from ternvae.config import load_profile
from tests.benchmarks.small import BENCHMARKS, NO_TARGETS, SMALL, as_options

#: What is on and off in today's profile; the tests do not depend on whether that stays so.
SHIPPED = load_profile(
    overrides={
        "homeostasis.enabled": True,
        "curriculum.enabled": False,
        "model.enhanced_controller": False,
        "model.mathematical_precision": False,
        "training.use_amp": False,
    }
)
TARGETS = SHIPPED.targets.model_dump()
METRICS = {
    "coverage": 1.0,
    "coverage_B": 0.9999,
    "hierarchy_B": -0.8320502,
    "richness": 0.007,
    "Q_enhanced": 2.15,
    "ultrametric_corr": 0.2,
}


def made_up(variant: str, seed: int, seconds: float = 30.0) -> Any:
    """A run as it should be; seeds differ a little, all variants in the same way."""
    metrics = {**METRICS, "Q_enhanced": 2.15 + 0.001 * seed, "richness": 0.007 + 0.0001 * seed}
    summary = {
        "n_digits": 9,
        "comprehensive_metrics": metrics,
        "validation_results": {"mathematical_foundation_ready": True},
        "epochs_to": {"coverage_100": 9, "targets": 15 + seed},
        "seconds": {"to_targets": 10.0},
    }
    return module("ablation_report").Record(
        variant,
        seed,
        "done",
        0,
        seconds + 0.1 * (seed % 3),
        summary,
        events=[(10, "freeze_encoder_a")],
        changed_parts=[] if variant == "frozen_checkpoint" else None,
    )


def complete() -> list[Any]:
    """A complete ablation in which every claim holds: without homeostasis runs take longer."""
    return [
        made_up(name, seed, 30.0 + (name == "homeostasis_off") * (10 + 0.1 * seed))
        for seed in range(10)
        for name in module("ablation_variants").variants(SHIPPED)
    ]


def compared(runs: list[Any]) -> list[Any]:
    variants, report = module("ablation_variants"), module("ablation_report")
    names = list(variants.variants(SHIPPED))
    return [(each, report.compare(each, runs)) for each in variants.comparisons(SHIPPED, names)]


def claims(runs: list[Any], targets: dict[str, Any] | None = None) -> list[Any]:
    variants = list(module("ablation_variants").variants(SHIPPED).values())
    every = {each.name: TARGETS for each in variants} | (targets or {})
    return module("ablation_report").check_claims(runs, variants, every, compared(runs))


def failed(runs: list[Any], targets: dict[str, Any] | None = None) -> list[str]:
    return [claim.statement for claim in claims(runs, targets) if not claim.passed]


def row(runs: list[Any], comparison: str, quantity: str) -> Any:
    (rows,) = [rows for each, rows in compared(runs) if each.name == comparison]
    (found,) = [each for each in rows if each.quantity == quantity]
    return found


# --- the variants ---------------------------------------------------------------------------


def test_variants_follow_the_shipped_profile() -> None:
    variants = module("ablation_variants")
    found = variants.variants(SHIPPED)
    assert found["homeostasis_off"].overrides == {"homeostasis.enabled": "false"}
    assert found["curriculum_on"].overrides == {"curriculum.enabled": "true"}
    assert found["accumulation"].overrides == {
        "training.batch_size": str(SHIPPED.training.batch_size // 2),
        "training.gradient_accumulation_steps": "2",
    }
    assert found["as_shipped"].resolve({}) == load_profile()
    assert found["encoder_b_rests_early"].resolve({}).homeostasis.Q_target == 2.0
    assert load_profile().homeostasis.Q_target > 2.0
    other = load_profile(overrides={"homeostasis.enabled": False, "curriculum.enabled": True})
    turned = variants.variants(other)
    assert turned["homeostasis_on"].overrides == {"homeostasis.enabled": "true"}
    assert turned["curriculum_off"].overrides == {"curriculum.enabled": "false"}
    assert turned["encoder_b_rests_early"].resolve({}).homeostasis.enabled


def test_every_variant_has_a_profile() -> None:
    """Those of the pattern files among them, which must be there."""
    for variant in module("ablation_variants").variants(SHIPPED).values():
        assert variant.resolve({}).seed == 0


def test_on_and_off_are_the_right_way_round() -> None:
    variants = module("ablation_variants")
    names = list(variants.variants(SHIPPED))
    found = {each.name: each for each in variants.comparisons(SHIPPED, names)}
    assert found["homeostasis"].shipped
    assert (found["homeostasis"].on, found["homeostasis"].off) == ("as_shipped", "homeostasis_off")
    assert not found["curriculum"].shipped
    assert (found["curriculum"].on, found["curriculum"].off) == ("curriculum_on", "as_shipped")
    claimed = [each.name for each in found.values() if each.claimed]
    assert claimed == ["homeostasis", "curriculum", "enhanced_controller"]
    assert variants.comparisons(SHIPPED, ["as_shipped", "frozen_checkpoint"]) == []
    resting = found["early rest of encoder B"]
    assert (resting.on, resting.off) == ("encoder_b_rests_early", "as_shipped")


# --- comparisons and claims -----------------------------------------------------------------


def test_claims_hold_for_a_perfect_ablation() -> None:
    runs = complete()
    names = module("ablation_variants").variants(SHIPPED)
    assert module("records").unchecked_reason(runs, names, {}, interrupted=False) is None
    assert failed(runs) == []
    assert len(claims(runs)) == 6 + 1 + 2 + 3


def test_what_a_mechanism_changes_is_read_from_the_figures() -> None:
    runs = complete()
    seconds = row(runs, "homeostasis", "seconds in all")
    assert seconds.figures.difference == pytest.approx(-10.45)
    assert seconds.figures.p == 2 / 2**10
    assert seconds.p_corrected == pytest.approx(6 * 2 / 2**10)
    assert seconds.reading == "better"
    assert row(runs, "homeostasis", "Q_enhanced").reading == "the same in every pair"
    assert row(runs, "curriculum", "seconds in all").reading == "the same in every pair"
    for run in runs:  # as often up as down
        if run.profile == "curriculum_on":
            run.summary["comprehensive_metrics"]["Q_enhanced"] += 0.01 * (-1) ** run.seed
            run.summary["comprehensive_metrics"]["richness"] -= 0.001
    assert row(runs, "curriculum", "Q_enhanced").reading == "no difference beyond noise"
    assert row(runs, "curriculum", "richness").reading == "worse"
    few = [run for run in runs if run.seed < 5]
    assert row(few, "curriculum", "richness").reading == "too few pairs to tell"


def test_runs_that_are_not_done_are_not_ready_and_have_no_other_figures() -> None:
    runs = complete()
    for run in runs:
        if run.profile == "curriculum_on" and run.seed < 2:
            run.status = "failed, exit status 1"
        if run.profile == "curriculum_on" and run.seed == 2:
            run.summary["epochs_to"]["targets"] = None
    assert row(runs, "curriculum", "ready").figures.difference == pytest.approx(-0.2)
    assert row(runs, "curriculum", "Q_enhanced").figures.pairs == 8
    assert row(runs, "curriculum", "epochs to all targets").figures.pairs == 7


@pytest.mark.parametrize(
    ("variant", "statement"),
    [
        ("as_shipped", "as_shipped: meets"),
        ("use_amp_on", "use_amp_on: meets"),
        ("accumulation", "accumulation: meets"),
        ("memory_constrained", "memory_constrained: meets the foundation"),
        ("high_performance", "high_performance: meets the foundation"),
        ("quick_development", "quick_development: meets its own"),
        ("frozen_checkpoint", "frozen_checkpoint: meets"),
    ],
)
def test_one_run_that_is_not_ready_fails_its_claim(variant: str, statement: str) -> None:
    runs = complete()
    spoilt = next(run for run in runs if run.profile == variant and run.seed == 4)
    spoilt.summary["validation_results"]["mathematical_foundation_ready"] = False
    (found,) = failed(runs)
    assert found.startswith(statement)


def test_easier_targets_do_not_meet_those_of_the_foundation() -> None:
    easier = {name: {**TARGETS, "coverage": 0.9} for name in ("accumulation", "quick_development")}
    (found,) = failed(complete(), easier)
    assert found.startswith("accumulation")


@pytest.mark.parametrize("changed", [["decoder.0.weight"], None])
def test_one_changed_part_or_lost_sequence_fails_its_claim(changed: list[str] | None) -> None:
    runs = complete()
    frozen = [run for run in runs if run.profile == "frozen_checkpoint"]
    frozen[3].changed_parts = changed
    frozen[4].summary["comprehensive_metrics"]["coverage"] = 19682 / 19683
    assert [text.split(",")[0] for text in failed(runs)] == [
        "frozen_checkpoint: encoder A",
        "frozen_checkpoint: coverage exactly 1.0",
    ]


def test_a_mechanism_that_gains_nothing_must_not_be_shipped_on() -> None:
    runs = complete()
    for run in runs:
        run.wall_seconds = 30.0
    (found,) = failed(runs)
    assert found.startswith("homeostasis, shipped on")


def test_a_mechanism_that_only_gains_must_not_be_shipped_off() -> None:
    runs = complete()
    better = [run for run in runs if run.profile == "enhanced_controller_on"]
    for run in better:
        run.summary["epochs_to"]["targets"] -= 3
    (found,) = failed(runs)
    assert found.startswith("enhanced_controller, shipped off")
    for run in better:  # at a price, the simpler choice stands
        run.wall_seconds += 5
    assert failed(runs) == []


def test_claims_are_not_checked_on_part_of_an_ablation() -> None:
    reason = module("records").unchecked_reason
    runs, names = complete(), module("ablation_variants").variants(SHIPPED)
    assert "frozen_checkpoint has 9 seeds" in reason(runs[:-1], names, {}, interrupted=False)
    assert "--set training.lr" in reason(runs, names, {"training.lr": "1"}, interrupted=False)
    assert "interrupted" in reason(runs, names, {}, interrupted=True)


def test_report_shows_every_variant_comparison_and_failure() -> None:
    runs = complete()
    runs[0].status, runs[0].output = "failed, exit status 3", ["boom"]
    variants = list(module("ablation_variants").variants(SHIPPED).values())
    where = module("environment").environment()
    arguments = (runs, variants, compared(runs), claims(runs), None, where)
    text = module("ablation_report").report(*arguments)
    table = text.partition("## The variants")[2].partition("Means over")[0]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if "|" in line}
    assert "9 of 10" in rows["as_shipped"]
    assert "10 of 10" in rows["use_amp_on"]
    assert all(each.name in rows for each in variants)
    assert "In 10 of 10 runs of `frozen_checkpoint`" in text
    assert all(f"### {each.name}" in text for each, _ in compared(runs))
    said = (
        "better in seconds in all; no difference beyond noise in ready; exactly equal in Q_enhanced"
    )
    assert f"On against off: {said}" in text
    assert "boom" in text


# --- the command ----------------------------------------------------------------------------


def test_ablation_trains_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "3,5", "--jobs", "2", "--variants", "homeostasis_off,frozen_checkpoint"]
    options += ["--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    options += as_options({**SMALL, **NO_TARGETS, "training.epochs": "3"})
    assert module("ablation").main(options) == 0
    results = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert "--set" in results["claims_unchecked"]
    assert results["comparisons"] == []  # nothing was run as shipped
    names = ["homeostasis_off", "frozen_checkpoint_source", "frozen_checkpoint"]
    runs = results["runs"]
    assert [(run["variant"], run["seed"]) for run in runs] == [
        (n, s) for s in (3, 5) for n in names
    ]
    assert {run["status"] for run in runs} == {"done"}
    for run in runs:
        folder = tmp_path / "runs" / f"{run['variant']}-seed{run['seed']}"
        assert run["summary"] == json.loads((folder / "metrics.json").read_text())
        profile = load_profile(folder / "profile.yaml")
        assert profile.homeostasis.enabled == (run["variant"] != "homeostasis_off")
        taken_from = profile.frozen_checkpoint.path
        if run["variant"] == "frozen_checkpoint":
            source = tmp_path / "runs" / f"frozen_checkpoint_source-seed{run['seed']}"
            assert taken_from == str(source / "checkpoints" / "best_Q.pt")
            assert run["changed_parts"] == []
        else:
            assert taken_from is None
            assert run["changed_parts"] is None
    assert (tmp_path / "out" / "ablation.md").read_text() == capsys.readouterr().out


def test_changed_parts_sees_a_single_bit(tmp_path: Path) -> None:
    state = {
        "encoders.A.features.0.weight": torch.tensor([1.0, 0.0]),
        "charts.A.weight": torch.ones(2, 2),
        "decoder.0.bias": torch.zeros(3),
        "encoders.B.features.0.weight": torch.ones(2),
    }
    keys = ("model_config", "optimizer_state_dict", "comprehensive_metrics", "validation_results")
    contents: dict[str, Any] = {**{key: {} for key in keys}, "epoch": 1, "profile": {}}
    before, after = tmp_path / "before.pt", tmp_path / "after.pt"
    changed_parts = module("ablation").changed_parts
    save_checkpoint(before, {**contents, "model_state_dict": state})
    other = {**state, "encoders.B.features.0.weight": torch.zeros(2)}
    save_checkpoint(after, {**contents, "model_state_dict": other})
    assert changed_parts(before, after) == []
    other |= {"decoder.0.bias": torch.tensor([0.0, -0.0, 0.0]), "charts.A.bias": torch.ones(1)}
    save_checkpoint(after, {**contents, "model_state_dict": other})
    assert changed_parts(before, after) == ["charts.A.bias", "decoder.0.bias"]
    del other["decoder.0.bias"]
    save_checkpoint(after, {**contents, "model_state_dict": other})
    with pytest.raises(ValueError, match=r"holds no decoder\."):
        changed_parts(before, after)
    assert load_checkpoint(before)["epoch"] == 1


def test_events_are_the_freezes_and_thaws(tmp_path: Path) -> None:
    def line(epoch: int, *kinds: str) -> str:
        return json.dumps({"epoch": epoch, "events": [{"epoch": epoch, "kind": k} for k in kinds]})

    history = tmp_path / "metrics.jsonl"
    kinds = ("curriculum_all_terms", "freeze_encoder_b", "anneal_thresholds")
    history.write_text("\n".join([line(5), line(10, *kinds), line(15, "thaw_encoder_b")]) + "\n")
    found = module("ablation").events(history)
    assert found == [(10, "freeze_encoder_b"), (15, "thaw_encoder_b")]


def test_a_failed_source_is_reported_and_so_is_what_builds_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "print('it broke'); raise SystemExit(3)"
    monkeypatch.setattr(module("sweep"), "command", lambda *_: [sys.executable, "-c", program])
    arguments = ["--variants", "frozen_checkpoint", "--seeds", "0-1", "--out", str(tmp_path)]
    assert module("ablation").main(arguments) == 1
    runs = json.loads((tmp_path / "ablation.json").read_text())["runs"]
    assert {run["status"] for run in runs} == {"failed, exit status 3"}
    assert len(runs) == 4
    assert (tmp_path / "ablation.md").read_text().count("it broke") == 4


def test_a_missing_pattern_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module("ablation_variants"), "ROOT", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        module("ablation").main(["--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "memory_constrained.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--variants", "homeostasis"], "'homeostasis' is none of as_shipped"),
        (["--variants", "as_shipped,as_shipped"], "comes twice"),
        (["--seeds", "0-20"], "at most 20"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--set", "seed", "4"], "use --seeds"),
        (["--set", "training.lrr", "1"], "training.lr"),
        (["--runs", str(BENCHMARKS)], "not empty"),
    ],
)
def test_ablation_refuses_bad_arguments(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        module("ablation").main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
