"""The torture command, and that none of its judges passes what is broken."""

from __future__ import annotations

import json
import math
import random
from importlib import import_module as module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from ternvae import checkpoint as checkpoints
from ternvae.trainer.steps import Steps
from ternvae.training.optimisation import Optimisation

Told = list[str]


@pytest.fixture
def told() -> Told:
    return []


def failed(claims: list[Any]) -> list[str]:
    return [f"{claim.statement}: {claim.figure}" for claim in claims if not claim.passed]


# --- the command ----------------------------------------------------------------------------


def claim(passed: bool, figure: str = "1 of 1") -> Any:
    return module("records").Claim("it holds", figure, passed)


@pytest.mark.parametrize(
    ("claims", "status", "shown"),
    [
        ([True], 0, "PASS  it holds: 1 of 1"),
        ([False], 1, "FAIL  it holds: 1 of 1"),
        ([True, False], 1, "FAIL  it holds: 1 of 1"),
        ([], 1, "FAIL  flip: the trial itself: it claims nothing"),
        (None, 1, "FAIL  flip: the trial itself: OSError: no disk"),
    ],
)
def test_the_command_prints_and_writes_every_claim(
    claims: list[bool] | None,
    status: int,
    shown: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def trial(scratch: Path, *, scale: float, seed: int, tell: Any) -> list[Any]:
        assert (scratch.is_dir(), scale, seed) == (True, 0.5, 7)
        if claims is None:
            raise OSError("no disk")
        return [claim(each) for each in claims]

    with mock.patch.object(module("trials.flip"), "flip", trial):
        arguments = ["flip", "--scale", "0.5", "--seed", "7", "--out", str(tmp_path)]
        assert module("torture").main(arguments) == status
    assert shown in capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "torture.json").read_text())
    assert [each["name"] for each in written["trials"]] == ["flip"]
    assert (written["scale"], written["seed"]) == (0.5, 7)
    assert written["environment"]["versions"]["torch"]
    assert shown.split()[0] in (tmp_path / "torture.md").read_text()


def test_what_cannot_be_checked_is_not_passed() -> None:
    torture = module("torture")
    assert torture.result(claim(False, "skipped: no tmpfs")) == "SKIPPED"
    with (
        mock.patch.object(module("trials.full"), "run_process", return_value=mock.Mock(status=0)),
        mock.patch.object(module("trials.full"), "CASES", {"tmpfs full": [_skip]}),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(Path, "mkdir", lambda *_, **__: None)
        (found,) = module("trials.full").real_failures(Path("x"), scale=1, tell=print)
    assert (found.figure, found.passed) == ("skipped: no mount", False)


def _skip(*_: Path) -> None:
    raise module("trials.full").SkippedError("no mount")


@pytest.mark.parametrize("arguments", [["drown"], ["--scale", "0"], ["--scale", "2"]])
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module("torture").main(arguments)
    assert ended.value.code == 2
    assert arguments[-1].rstrip(".0") in capsys.readouterr().err


# --- whether two runs are the same ----------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run left alone, one resumed as it should be, and one resumed by a trainer that forgets."""
    soak, runs = module("trials.soak"), module("trials.runs")
    folder = tmp_path_factory.mktemp("pair")
    short = {"training.batch_size": "36", "training.epochs": "12"}
    phases = {"curriculum.hierarchy_ramp_epochs": "4"}
    profile = soak._profile({**soak.ROW, **short, **phases})
    seed, seen = Steps._seed, []

    def forget(own: Steps, number: int) -> None:
        """Draws that depend on how many steps this process did."""
        seen.append(number)
        seed(own, number + len(seen))

    with runs.one_thread():
        soak.Trainer(profile, folder / "alone", "cpu").fit()
        for _ in soak.interrupted_row(profile, folder / "resumed", 5):
            pass
        with mock.patch.object(Steps, "_seed", forget):
            for _ in soak.interrupted_row(profile, folder / "forgetful", 5):
                pass
    return {path.name: path for path in folder.iterdir()}


def test_a_sound_resumption_is_no_difference(pair: dict[str, Path]) -> None:
    assert module("trials.runs").differences(pair["alone"], pair["resumed"]) == []


def test_a_resumption_that_draws_anew_is_one(pair: dict[str, Path]) -> None:
    runs = module("trials.runs")
    found = runs.differences(pair["alone"], pair["forgetful"])
    assert any(each.startswith("checkpoints: ") for each in found)
    assert "model_state_dict" in (runs.weights_differ(pair["alone"], pair["forgetful"]) or "")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda run: (run / "metrics.jsonl").write_text(""), "metrics.jsonl: 0 lines"),
        (lambda run: (run / "checkpoints/x.partial").touch(), "leftovers: x.partial"),
        (lambda run: (run / "checkpoints/epoch_005.pt").unlink(), "files: epoch_005.pt is missing"),
        (lambda run: (run / "checkpoints/epoch_005.pt").unlink(), "SHA256SUMS: epoch_005.pt"),
        (lambda run: _copy(run, "last.pt", "epoch_007.pt"), "files: epoch_007.pt is left over"),
        (lambda run: _copy(run, "epoch_005.pt", "best_Q.pt"), "best_Q.pt: "),
        (lambda run: _copy(run, "epoch_005.pt", "last.pt"), "checkpoints: last.pt, "),
        (lambda run: (run / "metrics.json").unlink(), "metrics.json: FileNotFoundError"),
        (lambda run: _spoil(run / "metrics.json"), "metrics.json: "),
        (lambda run: (run / "train.log").write_text("Profile\n"), "train.log: line 1"),
    ],
)
def test_every_other_difference_is_found(
    pair: dict[str, Path], tmp_path: Path, change: Any, where: str
) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(pair["resumed"], run)
    change(run)
    found = module("trials.runs").differences(pair["alone"], run)
    assert any(each.startswith(where) for each in found), found


def _copy(run: Path, source: str, target: str) -> None:
    (run / "checkpoints" / target).write_bytes((run / "checkpoints" / source).read_bytes())


def _spoil(path: Path) -> None:
    path.write_text(path.read_text().replace('"best_epoch": ', '"best_epoch": 1'))


# --- flip -----------------------------------------------------------------------------------


def test_flips_are_everywhere_and_refused(tmp_path: Path, told: Told) -> None:
    flip = module("trials.flip")
    with mock.patch.object(flip, "PROCESSES", 0):
        claims = flip.flip(tmp_path, scale=0.1, seed=1, tell=told.append)
    assert (failed(claims), told) == ([], [])
    figures = [each.figure for each in claims]
    assert figures[0].startswith("40 of 40; torch.load alone: ")
    assert figures[1] == "10 of 10"


def test_regions_are_the_whole_file(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path / "a.pt", dict.fromkeys(checkpoints._REQUIRED, 1))
    found = module("trials.flip").regions(tmp_path / "a.pt")
    places = [byte for spans in found.values() for span in spans for byte in span]
    assert sorted(places) == list(range((tmp_path / "a.pt").stat().st_size))
    assert all(found.values())


def test_a_loader_that_ignores_the_seal_fails_the_trial(tmp_path: Path, told: Told) -> None:
    flip = module("trials.flip")
    with (
        mock.patch.object(flip, "PROCESSES", 0),
        mock.patch.object(checkpoints, "is_sealed", lambda file: True),
        mock.patch.object(checkpoints, "archive_problem", lambda file, checksums: None),
    ):
        claims = flip.flip(tmp_path, scale=0.1, seed=1, tell=told.append)
    assert not claims[0].passed
    assert any(": loaded" in line for line in told)


def test_a_refusal_must_name_the_file(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise checkpoints.CheckpointError("damaged")

    flip = module("trials.flip")
    assert "not named" in flip.refusal_fault(tmp_path / "a.pt", refuse)
    assert "raised ZeroDivisionError" in flip.refusal_fault(tmp_path, lambda _: 1 / 0)
    assert flip.refusal_fault(tmp_path / "a.pt") is None


# --- poison ---------------------------------------------------------------------------------


def test_poisoned_runs_stop(tmp_path: Path, told: Told) -> None:
    claims = module("trials.poison").poison(tmp_path, scale=0.25, seed=1, tell=told.append)
    assert (failed(claims), told) == ([], [])
    assert [each.figure.partition(";")[0] for each in claims] == ["5 of 5"] * 3


def poisoned(run: Path, kind: str, at: int) -> tuple[Any, Any]:
    poison = module("trials.poison")
    given = poison.Poison(kind, math.nan, at, random.Random(1))
    with module("trials.runs").one_thread():
        return given, poison.train_poisoned(given, run)


def test_a_run_that_does_not_look_fails_the_trial(tmp_path: Path) -> None:
    poison = module("trials.poison")
    with (
        mock.patch("ternvae.trainer.steps.check_step"),
        mock.patch("ternvae.trainer.saving.check_saved"),
        mock.patch("ternvae.trainer.loop.check_saved"),
    ):
        given, done = poisoned(tmp_path / "run", "gradient", 9)
    assert poison.stop_fault(given, tmp_path / "run", done)
    assert poison.aftermath_fault(tmp_path / "run", done)


@pytest.mark.parametrize("entry", ["model_state_dict", "optimizer_state_dict"])
def test_a_checkpoint_with_nan_fails_the_trial(tmp_path: Path, entry: str) -> None:
    run = tmp_path / "run"
    _, done = poisoned(run, "gradient", 9)
    assert module("trials.poison").aftermath_fault(run, done) is None
    contents = checkpoints.load_checkpoint(run / "checkpoints/last.pt")
    tensors = contents["model_state_dict"] if entry == "model_state_dict" else None
    tensors = tensors or contents["optimizer_state_dict"]["state"][3]
    next(t for t in tensors.values() if t.is_floating_point() and t.dim()).fill_(math.nan)
    checkpoints.save_checkpoint(run / "checkpoints/last.pt", contents)
    assert f"last.pt.{entry}" in module("trials.poison").aftermath_fault(run, done)


def test_a_check_that_comes_after_the_update_fails_the_trial(tmp_path: Path) -> None:
    poison = module("trials.poison")
    real = Optimisation.step

    def late(own: Any, losses: Any, check: Any, reduce: Any) -> Any:
        norm = real(own, losses, reduce=reduce)
        check(norm)
        return norm

    with mock.patch.object(poison, "_STEP", late):
        given, done = poisoned(tmp_path / "run", "gradient", 9)
    assert "the step changed" in poison.stop_fault(given, tmp_path / "run", done)


def test_figures_of_another_epoch_fail_the_trial(tmp_path: Path) -> None:
    poison, run = module("trials.poison"), tmp_path / "run"
    given, done = poisoned(run, "learned parameter", 30)
    assert poison.stop_fault(given, run, done) is None
    assert poison.aftermath_fault(run, done) is None
    contents = checkpoints.load_checkpoint(run / "checkpoints/best_Q.pt")
    contents["comprehensive_metrics"]["richness"] += 0.01
    checkpoints.save_checkpoint(run / "checkpoints/best_Q.pt", contents)
    assert "richness" in poison.aftermath_fault(run, done)
    history = run / "metrics.jsonl"
    history.write_text(history.read_text().replace('"richness": 0.', '"richness": 1.'))
    assert "differ in richness" in poison.aftermath_fault(run, done)


# --- soak -----------------------------------------------------------------------------------


def test_soaking(tmp_path: Path, told: Told) -> None:
    soak = module("trials.soak")
    # A short run is mostly its beginning.
    with mock.patch.multiple(soak, MOST_GROWTH=50.0, EVERY=10):
        claims = soak.soak(tmp_path, scale=0.02, seed=1, tell=told.append)
    wrong = [line for line in failed(claims) if "skipped: no /proc" not in line]
    assert wrong == []
    assert "8 resumptions" in claims[2].figure


def test_growth_and_open_files_fail_the_trial() -> None:
    soak = module("trials.soak")
    growing = soak.Samples([100.0 + each for each in range(40)], [5] * 40)
    leaking = soak.Samples([100.0] * 40, list(range(40)))
    assert [each.passed for each in soak.flat_claims("x", growing)] == [False, True]
    assert [each.passed for each in soak.flat_claims("x", leaking)] == [True, False]
    assert not any(each.passed for each in soak.flat_claims("x", soak.Samples()))


def test_memory_that_is_kept_is_seen() -> None:
    samples, kept = module("trials.soak").Samples(), []
    samples.look()
    if not samples.megabytes:
        pytest.skip("no /proc on this system")
    kept.append(torch.ones(8 << 20))
    samples.look()
    assert samples.megabytes[1] - samples.megabytes[0] > 16
