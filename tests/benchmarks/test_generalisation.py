"""The benchmark of what is held out measures the unseen, and its claims can fail."""

from __future__ import annotations

import copy
import json
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.small import BENCHMARKS, SMALL, as_options

PART = {
    "coverage": 1.0,
    "coverage_B": 1.0,
    "hierarchy_B": -0.832,
    "ultrametric_corr": 0.831,
    "triplet_accuracy": 0.9995,
    "richness": 0.006,
    "dist_corr": 0.9,
}


def perfect_rows() -> list[dict[str, Any]]:
    path = {"share": 0.9, "standard_error": 0.004, "leaving": 0.9, "arriving": 0.9, "paths": 9}
    drawn = {"p_value": 0.4, "distinct": 12}
    return [
        {
            "seed": seed,
            "status": "done",
            "seen": dict(PART),
            "unseen": {**PART, "triplet_accuracy": 0.995},
            "sibling_retrieval": {"seen": 1.0, "unseen": 1.0},
            "paths": {"A": path, "B": path},
            "samples": {"prior": {**drawn, "p_value": 0.0}, "mixture": dict(drawn)},
        }
        for seed in range(5)
    ]


def failing(rows: list[dict[str, Any]]) -> list[str]:
    claims = module("generalisation_report").check_claims(rows, None)
    return [claim.figure for claim in claims if not claim.passed]


def test_claims_hold_by_a_hair() -> None:
    assert failing(perfect_rows()) == []


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        (("unseen", "coverage"), 0.9989, "coverage"),
        (("unseen", "coverage"), None, "coverage"),
        (("unseen", "hierarchy_B"), -0.826, "hierarchy_B"),
        (("seen", "ultrametric_corr"), 0.837, "ultrametric_corr"),
        (("unseen", "triplet_accuracy"), 0.9944, "triplet_accuracy"),
        (("samples", "mixture", "p_value"), 1e-5, "p-value"),
    ],
)
def test_one_seed_is_enough_to_fail(where: tuple[str, ...], value: Any, named: str) -> None:
    rows = copy.deepcopy(perfect_rows())
    entry = rows[3]
    for name in where[:-1]:
        entry = entry[name]
    entry[where[-1]] = value
    assert len(failing(rows)) == 1
    assert named in failing(rows)[0]


def test_a_run_that_failed_counts_against_all_claims() -> None:
    rows = perfect_rows()
    rows[1] = {"seed": 1, "status": "failed, exit status 3"}
    assert len(failing(rows)) == 5
    claims = module("generalisation_report").check_claims(rows, None)
    where = {"command": "x", "date": "y", "versions": {}}
    where["machine"] = {"cpu": "c", "cores": 1, "load_before": None, "system": "s"}  # type: ignore[assignment]
    text = module("generalisation_report").report(rows, claims, where, "p", 0.5)
    assert text.endswith("Seed 1: failed, exit status 3.")


def test_the_page_has_the_kept_results() -> None:
    root = BENCHMARKS.parent
    page = (root / "docs" / "generalisation.md").read_text()
    kept = (BENCHMARKS / "results" / "generalisation.md").read_text().splitlines()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in kept] == []
    claims = json.loads((BENCHMARKS / "results" / "generalisation.json").read_text())["claims"]
    assert {claim["result"] for claim in claims} == {"PASS"}


def test_it_trains_measures_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = module("generalisation")
    where = ["--seeds", "0", "--jobs", "1", "--holdout", "0.3", "--out", str(tmp_path)]
    assert bench.main([*where, *as_options({**SMALL, "training.batch_size": "9"})]) == 0
    results = json.loads((tmp_path / "generalisation.json").read_text())
    assert {claim["result"] for claim in results["claims"]} == {"skipped"}
    (run,) = results["runs"]
    assert run["status"] == "done"
    assert set(run["unseen"]) >= {"coverage", "hierarchy_B"}
    assert run["paths"]["B"]["paths"] == bench.PATHS
    assert sum(run["samples"]["mixture"]["observed"]) == bench.SAMPLES
    text = (tmp_path / "generalisation.md").read_text()
    assert "`space.holdout` 0.3" in text
    assert text.rstrip("\n") == capsys.readouterr().out.rstrip("\n")


def test_bad_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    bench = module("generalisation")
    for given in (["--holdout", "1.5"], ["--set", "space.holdout", "0.2"], ["--profile", "nobody"]):
        with pytest.raises(SystemExit) as ended:
            bench.main(given)
        assert ended.value.code == 2
    assert "expected a share" in capsys.readouterr().err
