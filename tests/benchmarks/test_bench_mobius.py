"""The comparison of the ball's operations runs, reports what it saw, and sees what is wrong."""

from __future__ import annotations

import json
import math
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.manifolds import PoincareBall

CPU = torch.device("cpu")


def test_bench_mobius_measures_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = module("bench_mobius")
    threads = torch.get_num_threads()
    options = ["--operations", "dist,lambda_x", "--batches", "8", "--modes", "eager"]
    options += ["--threads", "1", "--seconds", "0.001", "--out", str(tmp_path)]
    status = bench.main(options)
    assert torch.get_num_threads() == threads
    results = json.loads((tmp_path / "bench_mobius.json").read_text())
    assert status == (0 if all(claim["passed"] for claim in results["claims"]) else 1)
    found = [(row["operation"], row["dtype"]) for row in results["rows"]]
    assert found == [(n, d) for d in ("float32", "float64") for n in ("dist", "lambda_x")]
    for row in results["rows"]:
        seconds = row["seconds"]
        assert set(seconds) - {"hypll"} == {"ours", "geoopt"}
        assert row["ratio"]["geoopt"] == pytest.approx(seconds["geoopt"] / seconds["ours"])
        assert 0 < row["error"]["ours"] < (1e-6 if row["dtype"] == "float32" else 1e-13)
        assert all(calls > 0 for calls in row["calls"].values())
        # Ours reads nothing but its curvature, and that from the host.
        assert row["host_reads"]["ours"] == row["host_reads"]["ours_of_the_host"]
    text = (tmp_path / "bench_mobius.md").read_text()
    assert text == capsys.readouterr().out
    # Two of the operations are not what the geometric means are claimed of.
    assert [claim["claim"].split(":")[0] for claim in results["claims"]] == [
        "optimizer step",
        "error in float32 at most 2.5e-07",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--operations", "dist,sum"], "got 'sum'"),
        (["--modes", "eager,eager"], "comes twice"),
        (["--batches", "0"], "at least 1"),
        (["--threads", "0"], "at least 1"),
        (["--seconds", "nan"], "positive"),
    ],
)
def test_bench_mobius_refuses(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        module("bench_mobius").main(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


# --- the errors -----------------------------------------------------------------------------


def test_oracle_agrees_with_another_formula() -> None:
    """The distance as ``arcosh(1 + 2|x-y|^2 / ((1-|x|^2)(1-|y|^2)))``."""
    oracle = module("mobius_oracle")
    x, y = oracle.exact([[0.5, -0.25, 0.75], [0.0625, 0.875, -0.375]])
    d = [a - b for a, b in zip(x, y, strict=True)]
    gaps = (1 - oracle.dot(x, x)) * (1 - oracle.dot(y, y))
    wanted = oracle.mp.acosh(1 + 2 * oracle.dot(d, d) / gaps)
    assert abs(oracle.dist(x, y) / wanted - 1) < 1e-55
    assert abs(oracle.dist(x, oracle.expmap(x, oracle.logmap(x, y))) / wanted - 1) < 1e-55


def worst(name: str, function: Any, batch: int = 7) -> float:
    cases, measure = module("mobius_cases"), module("mobius_measure")
    operation = cases.OPERATIONS[name]
    samples = cases.sample_inputs(torch.float64, CPU)
    wanted = cases.truth(operation, samples)
    return measure.worst_error(function, operation, samples, wanted, batch)


def test_errors_of_wrong_functions_are_large() -> None:
    ball = PoincareBall(c=1.0)
    for batch in (7, 100):  # split into batches, and repeated to fill one
        assert worst("dist", ball.dist, batch) < 1e-13
    assert worst("dist", lambda x, y: 1.001 * ball.dist(x, y)) == pytest.approx(1e-3, rel=1e-6)
    assert worst("dist", lambda x, y: (x - y).norm(dim=-1)) > 0.1
    assert worst("mobius_add", lambda x, y: ball.mobius_add(y, x)) > 0.1
    assert worst("dist", lambda x, y: ball.dist(x, y) / 0.0) == math.inf


# --- summary and claims ---------------------------------------------------------------------


def record(operation: str, batch: int, ratio: float, error: float | None) -> dict[str, Any]:
    case = {"operation": operation, "batch": batch, "dtype": "float32", "mode": "eager"}
    seconds = {"ours": 1.0, "geoopt": ratio}
    times = {"ratio": {"geoopt": ratio}, "fastest_seconds": seconds}
    return {**case, **times, "error": {"ours": error}}


def test_claims_are_of_geometric_means_and_of_the_worst() -> None:
    check = module("mobius_report").check_claims
    step = {"ratio": {"ours": 1.6}}

    def verdicts(rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
        claims = check(rows, step, ["dist", "norm"])
        return [(claim["figure"], claim["passed"]) for claim in claims]

    rows = [record("dist", 512, 1.0, 1e-7), record("norm", 512, 4.5, 1e-3)]
    assert verdicts(rows) == [("2.12", True), ("1.60", False), ("1e-07 (dist)", True)]
    rows = [record("dist", 19683, 2.0, 3e-7), record("norm", 19683, 4.0, 1e-8)]
    assert verdicts(rows) == [("2.83", False), ("1.60", False), ("3e-07 (dist)", False)]
    rows = [record("dist", 513, 2.0, None)]
    assert verdicts(rows) == [("1.60", False), ("inf (dist)", False)]
