"""What scripts want: --quiet and --json.  Standard output is the result, standard error talk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ternvae.cli import main
from ternvae.config import load_profile

SMALL = [
    *("train", "--space.n_digits", "3", "--training.batch_size", "27", "--device", "cpu"),
    *("--training.epochs", "2", "--monitoring.detailed_metrics_every_n_epochs", "1"),
    *("--monitoring.report", "false"),
]


def test_quiet_training_prints_the_path_of_the_best_checkpoint_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*SMALL, "--quiet", "--run-dir", str(run)]) == 0
    assert capsys.readouterr() == (f"{run}/checkpoints/best_Q.pt\n", "")
    assert (run / "train.log").read_text().count("Epoch ") >= 2


def test_quiet_training_warns_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*SMALL, "-q", "--run-dir", str(run), "--training.lr", "10"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{run}/checkpoints/best_Q.pt\n"
    assert err and all(": warning: " in line for line in err.splitlines())


def test_training_gives_one_json_object_and_talks_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*SMALL, "--json", "--run-dir", str(run)]) == 0
    out, err = capsys.readouterr()
    assert err == (run / "train.log").read_text()
    found = json.loads(out)
    summary = json.loads((run / "metrics.json").read_text())
    assert found == {
        "run_dir": str(run),
        "checkpoint": f"{run}/checkpoints/best_Q.pt",
        "last_good": f"{run}/checkpoints/last.pt",
        "metrics": summary["comprehensive_metrics"],
        "validation": summary["validation_results"],
        "unseen": None,
        "stop_reason": "epochs",
        "problem": None,
        "exit_status": 0,
    }


def test_what_is_undefined_is_null_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["1" if word == "3" else "3" if word == "27" else word for word in SMALL]
    assert main([*one, "--json", "--quiet", "--run-dir", str(tmp_path / "run")]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert None in found["metrics"].values()


def test_json_says_why_a_run_stopped_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ternvae.trainer import Trainer

    monkeypatch.setattr(Trainer, "_train", lambda self: "non_finite_loss")
    assert main([*SMALL, "--json", "--quiet", "--run-dir", str(tmp_path / "run")]) == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["stop_reason"], found["exit_status"]) == ("non_finite_loss", 3)
    assert found["checkpoint"] is None
    assert "stopped; with another setting, go on with: " in err
    monkeypatch.undo()


@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_bad_input_leaves_standard_output_empty(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, flag, "--training.lr", "fast"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "training.lr" in err


def test_quiet_validation_prints_what_fails_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ternvae.validation as validation

    monkeypatch.setattr(validation, "GROUPS", {"losses": validation.GROUPS["losses"]})
    assert main(["validate", "--device", "cpu", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("ternvae.losses._hierarchy", lambda sums: sums.sum() * math.nan)
    assert main(["validate", "--device", "cpu", "-q"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.startswith("FAIL  losses") for line in lines)
    assert main(["validate", "--device", "cpu", "-q", "--json"]) == 1
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["passed"] for each in objects] == [False] * len(lines)


def test_profiles_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["name"] == "mathematical_foundation"
    assert all(each["description"] for each in listed)
    assert main(["profiles", "coverage_focused", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert load_profile(overrides=found) == load_profile("coverage_focused")
