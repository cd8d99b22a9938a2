"""The command line, run as a user runs it: what it prints, where, and its exit status."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ternvae.cli import main

SMALL = [
    *("--space.n_digits", "3", "--training.batch_size", "27", "--training.epochs", "4"),
    *("--monitoring.report", "false"),
]


def train(run: Path, *arguments: str) -> int:
    return main(["train", *SMALL, "--device", "cpu", "--run-dir", str(run), *arguments])


def test_a_run_ends_with_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("metric"))
    assert lines[header].split() == ["metric", "value", "target", "ceiling", "met"]
    assert lines[-1].startswith("r_v3")
    rows = {line.split()[0]: line.split() for line in lines[header + 2 :]}
    assert rows["coverage"][-1] in ("yes", "NO")
    assert rows["hierarchy_B"][2:4] == ["-0.8321", "-0.8326004"]
    # A pipe gets plain lines, and the log has the same.
    assert "\r" not in out and "\x1b" not in out
    assert (tmp_path / "run" / "train.log").read_text() == out


def test_the_epoch_line_keeps_its_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run")
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("Epoch   4 |"))
    names = [part.split(":")[0].strip() for part in line.split("|")[1:]]
    assert names == ["Loss", "Coverage", "Hierarchy_B", "Richness", "Q"]


def test_test_mode_is_five_epochs_unless_told_otherwise(tmp_path: Path) -> None:
    small = ["--space.n_digits", "3", "--training.batch_size", "27", "--device", "cpu"]
    small += ["--monitoring.report", "false"]
    assert main(["train", *small, "--test-mode", "--run-dir", str(tmp_path / "a")]) == 0
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 5
    arguments = ["--test-mode", "--training.epochs=2", "--run-dir", str(tmp_path / "b")]
    assert main(["train", *small, *arguments]) == 0
    assert len((tmp_path / "b" / "metrics.jsonl").read_text().splitlines()) == 2


def test_precedence_defaults_profile_config_command_line(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("training: {lr: 1e-4, weight_decay: 1e-3}\nloss_weights: {hierarchy: 7}\n")
    arguments = ["--config", str(config), "--profile", "hierarchy_focused", "--training.lr", "2e-4"]
    assert train(tmp_path / "run", *arguments, "--seed", "3") == 0
    from ternvae.config import load_profile

    profile = load_profile(tmp_path / "run" / "profile.yaml")
    assert profile.seed == 3
    assert profile.training.lr == 2e-4  # command line over config file
    assert profile.training.weight_decay == 1e-3  # config file over defaults
    assert profile.loss_weights.hierarchy == 7  # config file over profile
    assert profile.loss_weights.separation == 1.2  # profile over defaults
    assert profile.loss_weights.coverage == 1  # default


def test_resuming_needs_only_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert main(["train", "--checkpoint", str(last), "--training.epochs", "6"]) == 0
    assert "last.pt: 4 of 6 epochs done" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 6


BAD = [
    (["train", "--profile", "mathematical_fundation"], "mathematical_foundation"),
    (
        ["train", "--model.latnt_dim", "8"],
        "command line: model.latnt_dim: unknown key, did you mean",
    ),
    (["train", "--training.lr", "fast"], "training.lr: expected a number (got 'fast')"),
    (["train", "--training.lr"], "--training.lr needs a value"),
    (["train", "--training.lr", "1", "--training.lr", "2"], "--training.lr is given twice"),
    (["train", "--space.n_digits", "21"], "space.n_digits: must be at most 20 (got 21)"),
    (["train", "--space.n_digits", "3"], "a batch of 1024 exceeds the 3^3 = 27 sequences"),
    (["train", "--seed", "-1"], "seed: must be at least 0 (got -1)"),
    (["train", "--seed", "x"], "seed: expected an integer (got 'x')"),
    (["train", "--device", "cuda:99"], "device: 'cuda:99' is not there; choose from auto, cpu"),
    (["train", "--device", "gpu"], "device: 'gpu' is not there"),
    (["train", "--config", "missing.yaml"], "missing.yaml: cannot be read"),
    (["train", "--checkpoint", "missing.pt"], "missing.pt: no such checkpoint file"),
    (["train", "--tset-mode"], "--test-mode"),  # the sentence is click's
    (["train", "extra"], "unexpected argument 'extra'"),
    (["profiles", "nope"], "no such profile"),
    (["profiles", "--schema", "coverage_focused"], "--schema takes no profile name"),
    (["profiles", "--schema", "--full"], "--schema takes no profile name (got --full)"),
    (["profiles", "nope", "--full"], "no such profile"),
    (["validate", "--device", "gpu"], "device: 'gpu' is not there"),
    (["analyze", "missing.pt"], "missing.pt: no such checkpoint file"),
    (["analyze"], "Missing argument"),
    (["trian"], "No such command 'trian'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda x: " ".join(x)[:40])
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left behind"


def test_every_problem_of_a_file_is_listed_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("training:\n  lr: -1\n  epoch: 5\n")
    assert train(tmp_path / "run", "--config", str(config)) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{config}:2:7: training.lr: must be greater than 0 (got -1)"
    assert second.startswith(f"{config}:3:3: training.epoch: unknown key, did you mean 'epochs'?")
    assert not (tmp_path / "run").exists()


def test_a_used_run_directory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run")
    capsys.readouterr()
    assert train(tmp_path / "run") == 2
    assert "holds a run already" in capsys.readouterr().err


def test_a_run_directory_that_cannot_be_made_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert train(tmp_path / "file" / "run") == 2
    assert capsys.readouterr().err == f"run directory {tmp_path}/file/run: Not a directory\n"


def test_a_broken_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a checkpoint")
    assert main(["train", "--checkpoint", str(broken)]) == 2
    assert str(broken) in capsys.readouterr().err


def test_a_run_that_stops_itself_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ternvae.trainer import Trainer

    monkeypatch.setattr(Trainer, "_train", lambda self: "non_finite_loss")
    assert train(tmp_path / "run") == 3


def test_profiles_are_listed_printed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[0] == "mathematical_foundation"
    assert set(names) == {
        *("mathematical_foundation", "coverage_focused"),
        *("hierarchy_focused", "richness_focused"),
    }
    assert main(["profiles", "coverage_focused"]) == 0
    assert "name: coverage_focused" in capsys.readouterr().out
    assert main(["profiles", "--schema"]) == 0
    assert "training" in json.loads(capsys.readouterr().out)["properties"]


def test_a_profile_is_written_out_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ternvae.config import load_profile, profile_keys

    assert main(["profiles", "coverage_focused", "--full"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "full.yaml").write_text(text)
    assert load_profile(tmp_path / "full.yaml") == load_profile("coverage_focused")
    told = " ".join(line.strip().lstrip("# ") for line in text.splitlines())
    assert [key for key, info in profile_keys().items() if str(info.description) not in told] == []


def test_help_names_every_key_of_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    from ternvae.config import profile_keys

    assert main(["train", "--help-keys"]) == 0
    text = capsys.readouterr().out
    for key in profile_keys():
        assert f"--{key}" in text


def test_validate_prints_a_line_for_each_check_and_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ternvae.validation as validation

    groups = {name: validation.GROUPS[name] for name in ("p-adic", "losses")}
    monkeypatch.setattr(validation, "GROUPS", groups)
    total = sum(map(len, groups.values()))
    assert main(["validate", "--device", "cpu"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == total and all(line.startswith("PASS  ") for line in lines)
    assert last == f"{total} checks: all passed"
    monkeypatch.setattr("ternvae.losses._hierarchy", lambda sums: sums.sum() * math.nan)
    assert main(["validate", "--device", "cpu"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("FAIL  ")]
    assert failed and last == f"{total} checks: {len(failed)} failed"
    assert main(["validate", "--device", "cpu", "--json"]) == 1
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["passed"] for each in objects].count(False) == len(failed)


def test_analyze_tells_one_checkpoint_and_compares_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run")
    capsys.readouterr()
    best, last = (str(tmp_path / "run" / "checkpoints" / f"{n}.pt") for n in ("best_Q", "last"))
    assert main(["analyze", best]) == 0
    out = capsys.readouterr().out
    assert "the metrics in the file agree with those measured here" in out
    assert "mathematical_foundation_ready" in out
    assert main(["analyze", best, last, "--device", "cpu"]) == 0
    assert "stored metrics" in capsys.readouterr().out
    assert main(["analyze", best, last, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found[0]["metrics"] == summary["comprehensive_metrics"]
    assert main(["analyze", best, "--structure"]) == 0
    assert "siblings" in capsys.readouterr().out


def test_test_mode_fits_whatever_the_profile_plans(tmp_path: Path) -> None:
    config = tmp_path / "planned.yaml"
    config.write_text(
        "training: {epochs: 120}\nscheduler: {warmup_epochs: 8}\n"
        "curriculum: {enabled: true, coverage_first_epochs: 30, hierarchy_ramp_epochs: 50}\n"
    )
    small = ["--space.n_digits", "3", "--training.batch_size", "27", "--device", "cpu"]
    small += ["--monitoring.report", "false"]
    run = tmp_path / "run"
    command = ["train", *small, "--config", str(config), "--test-mode", "--run-dir", str(run)]
    assert main(command) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_check_that_fails_before_training_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ternvae.validation as validation

    monkeypatch.setattr(validation, "GROUPS", {"losses": validation.GROUPS["losses"]})
    before = ["--validation.before_training", "true"]
    assert train(tmp_path / "fine", *before) == 0
    # The log of the run has the lines that were said before there was one.
    assert (tmp_path / "fine" / "train.log").read_text() == capsys.readouterr().out
    monkeypatch.setattr("ternvae.losses._hierarchy", lambda sums: sums.sum() * math.nan)
    assert train(tmp_path / "run", *before) == 3
    assert "FAIL  losses" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- as a process -------------------------------------------------------------------------------


def process(*arguments: str, **keywords: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **keywords,  # type: ignore[call-overload]
    )


def test_the_module_the_script_and_the_example_are_one_program(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "train.py"
    outputs = []
    for k, program in enumerate((["-m", "ternvae", "train"], [str(example)])):
        run = process(*program, *SMALL, "--run-dir", str(tmp_path / f"{k}"), "--device", "cpu")
        out, err = run.communicate(timeout=120)
        assert (run.returncode, err) == (0, "")
        outputs.append(out.replace(str(tmp_path / f"{k}"), "RUN"))
    assert outputs[0] == outputs[1]


def test_help_and_profiles_do_not_load_torch() -> None:
    code = (
        "import sys\nfrom ternvae.cli import main\n"
        "main(['train', '--help']), main(['profiles'])\n"
        "print('torch' in sys.modules)"
    )
    out, err = process("-c", code).communicate(timeout=60)
    assert (out.splitlines()[-1], err) == ("False", "")


def test_a_reader_that_goes_away_does_not_stop_the_run(tmp_path: Path) -> None:
    command = ["-m", "ternvae", "train", *SMALL, "--run-dir", str(tmp_path / "run")]
    run = process(*command, "--device", "cpu", "--monitoring.log_every_n_steps", "1")
    assert run.stdout is not None and run.stderr is not None
    assert run.stdout.readline().startswith("Run directory")
    run.stdout.close()  # as head does
    with run.stderr:
        assert run.stderr.read() == ""
    assert run.wait(timeout=120) == 0
    assert "metric" in (tmp_path / "run" / "train.log").read_text()


def test_ctrl_c_finishes_the_step_saves_and_exits_with_130(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    small = ["--space.n_digits", "5", "--training.batch_size", "64", "--training.epochs", "100000"]
    run = process("-m", "ternvae", "train", *small, "--run-dir", str(run_dir), "--device", "cpu")
    deadline = time.monotonic() + 60
    log = run_dir / "train.log"
    while not (log.exists() and "Epoch" in log.read_text()):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "stopping after this step" in err
    last = run_dir / "checkpoints" / "last.pt"
    assert f"ternvae train --checkpoint {last}" in err
    assert last.is_file()
    assert "metric" in out
