"""Larger spaces: what is measured of them, and that the claims follow from it."""

from __future__ import annotations

import copy
import json
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.metrics import ceilings
from tests.benchmarks.small import NO_TARGETS, SMALL, as_options

TINY = {key: value for key, value in SMALL.items() if key != "space.n_digits"}

ROWS = (
    "n = 12: cost per sequence and epoch over n = 9, before the freeze",
    "n = 12: cost per sequence and epoch over n = 9, after the freeze",
    "n = 12: gigabytes resident at the peak, evaluation included",
    "n = 15: gigabytes resident at the peak, evaluation included",
    "n = 12: sequences lost",
    "n = 12: hierarchy_B from its ceiling",
    "n = 15: sequences that coverage is reported over",
    "n = 4, before the freeze",
    "n = 4, after the freeze",
    *("us per sequence", "s of an evaluation", "MiB at the peak", "recovered", "its ceiling"),
    *("epochs to coverage 1", "to all targets", "s to all targets"),
)


def run_here(script: Path, job: dict[str, Any]) -> dict[str, Any]:
    """As in a process of its own, without waiting for it to start."""
    assert script.name == "spaces_run.py"
    job = json.loads(json.dumps(job))
    run = module("spaces_run")
    profile = run.profile_for(job["n_digits"], job["epochs"], job["overrides"])
    answer: dict[str, Any] = json.loads(json.dumps(run.train_space(profile, job["minutes"])))
    return answer


def test_bench_spaces_measures_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = module("bench_spaces")
    monkeypatch.setattr(bench, "in_child", run_here)
    threads = torch.get_num_threads()
    where = ["--digits", "3,4", "--threads", "1", "--out", str(tmp_path)]
    assert bench.main([*where, *as_options({**TINY, **NO_TARGETS})]) == 0  # nothing is claimed
    assert torch.get_num_threads() == threads
    results = json.loads((tmp_path / "bench_spaces.json").read_text())
    assert {claim["result"] for claim in results["claims"]} == {"skipped"}
    assert [space["size"] for space in results["spaces"]] == [27, 81]
    for space in results["spaces"]:
        assert space["stop_reason"] == "interrupted"  # at its targets
        assert space["sequences_seen"] == space["epochs"] * space["size"]
        assert space["seconds_per_sequence"] > 0
        assert space["peak_mib"] > 0
        assert 0 <= space["metrics"]["coverage"] <= 1
    assert set(results["speed"]["pairs"]) == {"4"}
    for pairs in results["speed"]["pairs"]["4"].values():
        assert all(large > 0 and small > 0 for large, small in pairs)
    text = (tmp_path / "bench_spaces.md").read_text()
    assert text == capsys.readouterr().out
    assert [row for row in ROWS if row not in text] == []


def test_a_space_is_trained_in_a_process_of_its_own_until_the_time_is_up() -> None:
    overrides = {**TINY, "training.epochs": "1000000"}
    job = {"n_digits": 4, "epochs": 1, "minutes": 1 / 60, "threads": 1, "overrides": overrides}
    script = Path(module("spaces_run").__file__)
    space = module("children").in_child(script, job)
    assert space["stop_reason"] == "interrupted"
    assert space["epochs_to"]["targets"] is None
    assert space["seconds"]["train"] > 0
    assert space["size"] == 81
    assert space["sequences_seen"] >= space["epochs"] * 81


def test_turns_are_taken_inside_an_epoch() -> None:
    profile_for = module("spaces_run").profile_for
    overrides = {**TINY, "training.batch_size": "9"}
    small, large = (
        module("training_measure").ManualTraining(
            profile_for(n, 1, overrides), torch.device("cpu"), frozen=False
        )
        for n in (3, 5)
    )
    small.epoch()
    per_large, per_small = module("bench_spaces").interleaved_epoch(large, small)
    assert len(small.seconds) > 1
    assert per_small == pytest.approx(sum(small.seconds) / len(small.seconds) / 27)
    assert per_large > 0


def test_a_larger_space_has_a_schedule_as_long_in_steps() -> None:
    profile_for = module("spaces_run").profile_for
    shipped, larger = profile_for(9, 6, {}), profile_for(12, 6, {})
    assert larger.training.batch_size == shipped.training.batch_size
    warm_up = larger.scheduler.warmup_epochs * 27
    assert warm_up == pytest.approx(shipped.scheduler.warmup_epochs)
    assert larger.training.epochs == larger.scheduler.T_0 == 6
    assert larger.targets.hierarchy_B <= ceilings(12)["hierarchy"] + 1e-3
    assert profile_for(12, 6, {"scheduler.T_0": "2"}).scheduler.T_0 == 2


# --- the claims -----------------------------------------------------------------------------


def space(n_digits: int, **changes: Any) -> dict[str, Any]:
    """A run that keeps every claim."""
    metrics = {"coverage": 1.0, "hierarchy_B": -0.83204, "richness": 0.007, "Q_enhanced": 2.15}
    return {
        "n_digits": n_digits,
        "size": 3**n_digits,
        "stop_reason": "interrupted",
        "epochs": 3,
        "epochs_to": {"coverage_100": 2, "targets": 3},
        "seconds": {"train": 12.0, "evaluate": 2.0, "to_targets": 14.0},
        "sequences_seen": 3 * 3**n_digits,
        "seconds_per_sequence": 6e-6,
        "evaluate_seconds": 2.0,
        "metrics": metrics,
        "peak_mib": 900.0,
        **changes,
    }


def sound() -> dict[str, Any]:
    pairs = {"before": [[1.0e-5, 1.0e-5]] * 3, "after": [[0.7e-5, 0.7e-5]] * 3}
    return {
        "environment": {
            "command": "python",
            "date": "today",
            "versions": {},
            "machine": {"cpu": "x", "cores": 2, "load_before": 0.0, "system": "y"},
        },
        "threads": 2,
        "batch_size": 512,
        "speed": {"least": 9, "pairs": {"12": pairs}},
        "spaces": [space(9), space(12), space(15)],
    }


def results_of(contents: dict[str, Any]) -> str:
    """A letter for each claim: P, F or s; the report and the exit status have to agree."""
    reporting = module("spaces_report")
    claims = reporting.check_claims(contents)
    found = "".join(claim.result[0] for claim in claims)
    assert reporting.report(contents, claims).count("FAIL") == found.count("F")
    assert module("bounds").exit_status(claims) == ("F" in found)
    return found


def test_sound_figures_keep_every_claim() -> None:
    assert results_of(sound()) == "PPPPPPP"


def test_what_was_not_run_is_skipped() -> None:
    contents = sound() | {"spaces": [space(9)], "speed": {"least": 9, "pairs": {}}}
    assert results_of(contents) == "sssssss"


def test_cost_is_the_median_of_the_ratios() -> None:
    contents = sound()
    pairs = contents["speed"]["pairs"]["12"]
    pairs["before"] = [[1.12e-5, 1.0e-5], [1.12e-5, 1.0e-5], [0.1e-5, 1.0e-5]]
    pairs["after"] = [[9.0e-5, 1.0e-5], [1.0e-5, 1.0e-5], [1.0e-5, 1.0e-5]]
    assert results_of(contents) == "FPPPPPP"


@pytest.mark.parametrize(
    ("changed", "results"),
    [
        (space(12, peak_mib=1431.0), "PPFPPPP"),
        (space(12, peak_mib=None), "PPFPPPP"),
        (space(15, peak_mib=3815.0), "PPPFPPP"),
        ({"n_digits": 12, "size": 3**12, "failed": "exit status -9"}, "PPFPFFP"),
        ({"n_digits": 15, "size": 3**15, "failed": "exit status -9"}, "PPPFPPF"),
    ],
)
def test_a_claim_fails_when_its_figure_is_bad(changed: dict[str, Any], results: str) -> None:
    contents = sound()
    contents["spaces"] = [
        changed if each["n_digits"] == changed["n_digits"] else each for each in contents["spaces"]
    ]
    assert results_of(contents) == results


@pytest.mark.parametrize(
    ("metric", "value", "results"),
    [
        ("coverage", 1 - 1 / 3**12, "PPPPFPP"),  # one sequence
        ("coverage", None, "PPPPFPP"),
        ("hierarchy_B", -0.831, "PPPPPFP"),
        ("hierarchy_B", -0.84, "PPPPPFP"),  # tied radii
        ("hierarchy_B", None, "PPPPPFP"),
    ],
)
def test_a_space_that_is_not_learned_fails(metric: str, value: Any, results: str) -> None:
    contents = copy.deepcopy(sound())
    contents["spaces"][1]["metrics"][metric] = value
    assert results_of(contents) == results


# --- bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "options", "result"),
    [
        (1.0, {}, "PASS"),
        (1.01, {}, "FAIL"),
        (1.0, {"least": True}, "PASS"),
        (0.99, {"least": True}, "FAIL"),
        (None, {}, "FAIL"),
        (float("nan"), {}, "FAIL"),
        (float("nan"), {"least": True}, "FAIL"),
        (0.5, {"also": False}, "FAIL"),
        (0.5, {"skipped": "not here"}, "skipped"),
    ],
)
def test_a_bound_passes_only_on_its_side(
    value: float | None, options: dict[str, Any], result: str
) -> None:
    bound = module("bounds").Bound("claim", "figure", value, 1.0, **options)
    assert bound.result == result
    assert module("bounds").exit_status([bound]) == (result == "FAIL")
    assert result in module("bounds").bounds_markdown([bound])
    json.dumps(module("bounds").as_records([bound]), allow_nan=False)
