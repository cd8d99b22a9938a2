"""The sweep runs what it is told to, drops nothing, and its claims can fail."""

from __future__ import annotations

import json
import sys
from importlib import import_module as module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks.small import BENCHMARKS, NO_TARGETS, SMALL, as_options

PERFECT = {
    "coverage": 1.0,
    "coverage_B": 1.0,
    "hierarchy_B": -0.8320502,
    "richness": 0.007,
    "Q_enhanced": 2.15,
    "ultrametric_corr": 0.825,
    "triplet_accuracy": 0.999,
    "sibling_retrieval": 0.99,
}


def perfect_runs() -> list[Any]:
    """A complete sweep in which every claim holds, by a hair where that is possible."""
    special = {
        "mathematical_foundation": {
            "hierarchy_B": -0.83204,
            "richness": 0.006,
            "Q_enhanced": 2.13,
        },
        "hierarchy_focused": {"Q_enhanced": 2.16},
        "richness_focused": {"richness": 0.012, "hierarchy_B": -0.8315},
    }
    names = ("mathematical_foundation", "coverage_focused", "hierarchy_focused", "richness_focused")
    return [
        module("sweep_report").Run(
            name,
            seed,
            "done",
            0,
            20.0 if name == "coverage_focused" else 40.0,
            {
                "n_digits": 9,
                "comprehensive_metrics": {**PERFECT, **special.get(name, {})},
                "ceilings": {"Q_enhanced": 2.1627074},
                "validation_results": {"mathematical_foundation_ready": True},
                "epochs_to": {"coverage_100": 9, "targets": 15},
                "seconds": {"to_targets": 10.0},
            },
        )
        for seed in range(10)
        for name in names
    ]


def test_claims_hold_for_a_perfect_sweep() -> None:
    runs = perfect_runs()
    report = module("sweep_report")
    reason = module("records").unchecked_reason
    assert reason(runs, report.CLAIMED, {}, interrupted=False) is None
    failed = [claim for claim in report.check_claims(runs) if not claim.passed]
    assert not failed


@pytest.mark.parametrize(
    ("profile", "section", "key", "value", "failed"),
    [
        ("mathematical_foundation", "comprehensive_metrics", "coverage", 19682 / 19683, "coverage"),
        (
            "mathematical_foundation",
            "comprehensive_metrics",
            "hierarchy_B",
            -0.83203,
            "<= -0.83204",
        ),
        ("mathematical_foundation", "comprehensive_metrics", "coverage_B", 0.99999, "coverage_B"),
        (
            "mathematical_foundation",
            "comprehensive_metrics",
            "ultrametric_corr",
            0.8249,
            "ultrametric_corr",
        ),
        (
            "mathematical_foundation",
            "comprehensive_metrics",
            "triplet_accuracy",
            0.9989,
            "triplet_accuracy",
        ),
        (
            "mathematical_foundation",
            "comprehensive_metrics",
            "sibling_retrieval",
            0.9899,
            "sibling_retrieval",
        ),
        ("mathematical_foundation", "comprehensive_metrics", "richness", 0.00599, "richness"),
        ("mathematical_foundation", "comprehensive_metrics", "richness", None, "richness"),
        ("mathematical_foundation", "comprehensive_metrics", "Q_enhanced", 2.1299, "Q_enhanced"),
        (
            "mathematical_foundation",
            "validation_results",
            "mathematical_foundation_ready",
            0,
            "ready",
        ),
        ("mathematical_foundation", "epochs_to", "coverage_100", 8, "fewest epochs"),
        ("coverage_focused", "epochs_to", "coverage_100", 10, "fewest epochs"),
        ("coverage_focused", "epochs_to", "coverage_100", None, "reaches coverage 1.0"),
        ("coverage_focused", "comprehensive_metrics", "Q_enhanced", 2.3, "highest Q"),
        ("coverage_focused", "comprehensive_metrics", "richness", 0.1, "largest richness"),
        ("hierarchy_focused", "comprehensive_metrics", "Q_enhanced", 2.1599, ">= 2.160"),
        (
            "hierarchy_focused",
            "comprehensive_metrics",
            "ultrametric_corr",
            0.8249,
            "ultrametric_corr",
        ),
        ("hierarchy_focused", "comprehensive_metrics", "coverage", 19682 / 19683, "coverage"),
        ("richness_focused", "comprehensive_metrics", "richness", 0.0119, ">= 0.012"),
        ("richness_focused", "comprehensive_metrics", "hierarchy_B", -0.8314, "<= -0.8315"),
        ("richness_focused", "comprehensive_metrics", "coverage", 19682 / 19683, "coverage"),
    ],
)
def test_one_bad_figure_in_one_run_fails_its_claim(
    profile: str, section: str, key: str, value: float | None, failed: str
) -> None:
    runs = perfect_runs()
    spoilt = next(run for run in runs if run.profile == profile and run.seed == 3)
    assert spoilt.summary is not None
    spoilt.summary[section][key] = value
    claims = module("sweep_report").check_claims(runs)
    assert any(failed in claim.statement for claim in claims if not claim.passed)


def test_a_slow_coverage_profile_fails_its_claim() -> None:
    runs = perfect_runs()
    for run in runs:
        if run.profile == "coverage_focused":
            run.wall_seconds = 40.1
    failed = [c.statement for c in module("sweep_report").check_claims(runs) if not c.passed]
    assert failed == ["coverage_focused: soonest finished (mean seconds in all)"]


@pytest.mark.parametrize("summary_written", [True, False])
def test_a_failed_run_counts_against_the_claims_and_is_shown(summary_written: bool) -> None:
    runs = perfect_runs()
    spoilt = next(run for run in runs if run.profile == "mathematical_foundation")
    spoilt.status, spoilt.exit_status, spoilt.output = "failed, exit status 3", 3, ["boom"]
    if not summary_written:
        spoilt.summary = None
    report = module("sweep_report")
    reason = module("records").unchecked_reason
    assert reason(runs, report.CLAIMED, {}, interrupted=False) is None
    claims = report.check_claims(runs)
    failed = [c for c in claims if c.statement.startswith("mathematical") and not c.passed]
    assert len(failed) == 9
    text = report.report(runs, claims, None, module("environment").environment())
    assert "9 of 10 runs done, 9 ready" in text
    assert "boom" in text
    assert "19683/19683" in text


def test_claims_are_not_checked_on_part_of_a_sweep() -> None:
    reason, claimed = module("records").unchecked_reason, module("sweep_report").CLAIMED
    runs = perfect_runs()
    assert "10" in reason(runs[:-1], claimed, {}, interrupted=False)
    others = [run for run in runs if run.profile != "hierarchy_focused"]
    assert "hierarchy_focused has 0" in reason(others, claimed, {}, interrupted=False)
    assert "--set training.lr" in reason(runs, claimed, {"training.lr": "1"}, interrupted=False)
    assert "interrupted" in reason(runs, claimed, {}, interrupted=True)


def test_sweep_trains_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    options += as_options({**SMALL, **NO_TARGETS, "training.epochs": "2"})
    status = module("sweep").main(
        ["--profiles", "mathematical_foundation", "--seeds", "6", "--jobs", "1", *options]
    )
    assert status == 0
    results = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert "--set" in results["claims_unchecked"]
    assert results["claims"] == []
    assert {"machine", "versions", "command"} <= set(results["environment"])
    (run,) = results["runs"]
    written = tmp_path / "runs" / "mathematical_foundation-seed6" / "metrics.json"
    assert run["summary"] == json.loads(written.read_text())
    assert run["summary"]["seed"] == 6
    text = (tmp_path / "out" / "sweep.md").read_text()
    assert text == capsys.readouterr().out
    assert "/27" in text


def stand_in(monkeypatch: pytest.MonkeyPatch, program: str) -> ModuleType:
    """The sweep with a small program in place of the training."""
    sweep = module("sweep")
    monkeypatch.setattr(sweep, "command", lambda *_: [sys.executable, "-c", program])
    return sweep


def test_sweep_reports_failed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = stand_in(monkeypatch, "print('it broke'); raise SystemExit(3)")
    arguments = ["--profiles", "coverage_focused", "--seeds", "0-2", "--jobs", "2"]
    assert sweep.main([*arguments, "--out", str(tmp_path)]) == 1
    runs = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    assert {run["status"] for run in runs} == {"failed, exit status 3"}
    assert all(run["output"] == ["it broke"] for run in runs)
    assert "0 of 3 runs done" in (tmp_path / "sweep.md").read_text()


def test_a_run_that_ends_well_without_a_summary_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = stand_in(monkeypatch, "pass")
    arguments = ["--profiles", "coverage_focused", "--seeds", "0"]
    assert sweep.main([*arguments, "--out", str(tmp_path)]) == 1
    (run,) = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert run["status"] == "failed, exit status 0"


def test_interrupted_sweep_stops_its_runs_and_still_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = "import signal, sys, time\n"
    waits += "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
    waits += "print('begun', flush=True)\ntime.sleep(60)"
    sweep = stand_in(monkeypatch, waits)
    runs = tmp_path / "runs"

    def press_ctrl_c(seconds: float) -> None:
        while "begun" not in (runs / "coverage_focused-seed0.txt").read_text():
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.time, "sleep", press_ctrl_c)
    arguments = ["--profiles", "coverage_focused", "--seeds", "0-1", "--jobs", "1"]
    arguments += ["--out", str(tmp_path), "--runs", str(runs)]
    assert sweep.main(arguments) == 130
    results = json.loads((tmp_path / "sweep.json").read_text())
    assert [run["status"] for run in results["runs"]] == ["interrupted", "not begun"]
    assert "interrupted" in results["claims_unchecked"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--profiles", "foundation"], "'foundation' is not shipped"),
        (["--profiles", "coverage_focused,coverage_focused"], "comes twice"),
        (["--seeds", "3-1"], "expected numbers"),
        (["--seeds", "1,0-2"], "comes twice"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--set", "seed", "4"], "use --seeds"),
        (["--set", "training.lr", "1", "--set", "training.lr", "2"], "given twice"),
        (["--set", "training.lrr", "1"], "training.lr"),
        (["--runs", str(BENCHMARKS)], "not empty"),
    ],
)
def test_sweep_refuses_bad_arguments(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        module("sweep").main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_run_begins_after_the_one_that_it_needs(tmp_path: Path) -> None:
    sweep = module("sweep")
    jobs = [
        sweep.Job("second", 0, after="first"),
        sweep.Job("first", 0),
        sweep.Job("second", 1, after="first"),
        sweep.Job("first", 1),
    ]
    order = []

    class Recorded(sweep.Sweep):  # type: ignore[misc, name-defined]
        def _start(self, job: Any) -> Any:
            order.append((job.label, job.seed))
            running = [each for each in order if each not in ended]
            assert len(running) <= 2
            return job

        def _ended(self, job: Any) -> bool:
            ended.append((job.label, job.seed))
            self._done[job] = module("records").Run(job.label, job.seed, "done")
            return True

    ended: list[tuple[str, int]] = []
    runs = Recorded(jobs, 2, tmp_path).run()
    assert order == [("first", 0), ("first", 1), ("second", 0), ("second", 1)]
    assert [(run.profile, run.seed) for run in runs] == [(job.label, job.seed) for job in jobs]
    with pytest.raises(ValueError, match="never"):
        sweep.Sweep(jobs[:1], 1, tmp_path)
