"""Starting times: measured in turns, and the claims follow from them."""

from __future__ import annotations

import json
from importlib import import_module as module
from pathlib import Path

import pytest

SECONDS = {
    "Python itself": [0.02, 0.02],
    "ternvae --help": [0.1, 0.5],
    "ternvae train --help-keys": [0.1, 0.1],
    "Tab after ternvae train --profile": [0.2, 0.2],
    "import torch": [1.0, 2.0],
    "import ternvae.padic": [1.0, 2.4],
    "import ternvae.models": [1.0, 1.0],
    "a trained model, loaded, to five points": [3.0, 3.0],
}


def test_claims_follow_from_the_figures() -> None:
    bench = module("bench_start")
    assert list(SECONDS) == list(bench.CASES)
    found = {claim.statement: (claim.value, claim.passed) for claim in bench.claims(SECONDS)}
    assert found == {
        "ternvae --help: seconds": (0.3, True),
        "Tab after ternvae train --profile: seconds": (0.2, True),
        # Rounds are compared one by one: 1 and 1.2; 3 and 1.5.
        "import ternvae.padic: times import torch": (pytest.approx(1.1), True),
        "a trained model, loaded, to five points: times import torch": (2.25, True),
    }
    slower = {**SECONDS, "ternvae --help": [0.31, 0.31]}
    assert not bench.claims(slower)[0].passed


def test_what_is_measured_is_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = module("bench_start")
    # What loads torch takes seconds.
    light = {
        name: (["-c", "pass"] if "-c" in arguments else arguments, variables)
        for name, (arguments, variables) in bench.CASES.items()
    }
    monkeypatch.setattr(bench, "CASES", light)
    assert bench.main(["--rounds", "1", "--out", str(tmp_path)]) in (0, 1)  # a busy machine is slow
    kept = json.loads((tmp_path / "bench_start.json").read_text())
    assert list(kept["seconds"]) == list(light)
    assert all(len(each) == 1 and each[0] > 0 for each in kept["seconds"].values())
    page = (tmp_path / "bench_start.md").read_text()
    assert all(f"| {name} " in page for name in light)


def test_rounds_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module("bench_start").main(["--rounds", "0"])
    assert ended.value.code == 2
    assert "--rounds must be at least 1, got 0" in capsys.readouterr().err
