"""The comparison runs on a small space, and claims only what its figures hold."""

from __future__ import annotations

import copy
import json
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.config import resolve_profile
from ternvae.manifolds import PoincareBall
from ternvae.padic import TernarySpace
from tests.benchmarks.small import NO_TARGETS, SMALL, as_options


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything on 27 sequences, as the command does it."""
    folder = tmp_path_factory.mktemp("compare")
    threads = torch.get_num_threads()
    arguments = [*as_options(SMALL | NO_TARGETS), "--epochs", "10", "--steps", "20"]
    try:
        status = module("compare").main([*arguments, "--out", str(folder)])
    finally:
        torch.set_num_threads(threads)
    assert status == 0
    contents: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    contents["text"] = (folder / "compare.md").read_text()
    return contents


def test_every_model_has_a_row_with_all_figures(small_run: dict[str, Any]) -> None:
    names = [row["name"] for row in small_run["rows"]]
    assert len(names) == len(set(names)) == 12
    assert {"learned", "linear", "Sarkar", "plain Euclidean VAE", "geoopt table"} < set(names)
    for row in small_run["rows"]:
        assert f"| {row['name']} " in small_run["text"]
        assert f"**{row['name']}**" in small_run["text"]
        assert all(value is not None for value in row["metrics"].values())
        assert row["siblings_exact"]
        assert isinstance(row["targets_met"], bool)


def test_claims_are_about_the_exact_constructions(small_run: dict[str, Any]) -> None:
    assert len(small_run["claims"]) == 20
    assert all(claim["claim"].startswith("linear") for claim in small_run["claims"])
    assert all(claim["result"] == "PASS" for claim in small_run["claims"])


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("coverage_B", 26 / 27),
        ("hierarchy_B", -0.8),
        ("hierarchy_B", -0.9),  # tied radii
        ("ultrametric_corr", 0.6),
        ("triplet_accuracy", 0.999),
        ("sibling_retrieval", None),
    ],
)
def test_a_claim_fails_when_its_figure_is_bad(
    small_run: dict[str, Any], metric: str, value: float | None
) -> None:
    contents = copy.deepcopy(small_run)
    row = next(row for row in contents["rows"] if row["name"] == "linear")
    row["metrics"][metric] = value
    claims = module("compare_report").check_claims(contents)
    assert [claim.result for claim in claims].count("FAIL") == 1
    assert module("bounds").exit_status(claims) == 1
    assert module("compare_report").report(contents, claims).count("FAIL") == 1


def test_distances_of_the_flat_ball_are_euclidean() -> None:
    flat = module("compare_models").FLAT
    codes = 10 * torch.randn(2, 50, 16, dtype=torch.float64)
    expected = (codes[0] - codes[1]).norm(dim=-1)
    assert torch.allclose(flat.dist(*(codes / 2)), expected, rtol=1e-8)
    assert torch.allclose(flat.dist0(codes[0] / 2), codes[0].norm(dim=-1), rtol=1e-8)


def test_what_is_trained_comes_out_the_same_again() -> None:
    models = module("compare_models")
    profile = resolve_profile(None, None, SMALL)
    space, ball = TernarySpace(3), PoincareBall(max_radius=0.95)
    for make in (
        lambda: models.train_euclidean(profile, space, 5),
        lambda: models.train_table(profile, space, ball, 10),
    ):
        assert torch.equal(make().points, make().points)


def test_both_learn() -> None:
    models = module("compare_models")
    profile = resolve_profile(None, None, SMALL | {"model.hidden_dim": "48"})
    space, ball = TernarySpace(3), PoincareBall(max_radius=0.95)
    vae = models.train_euclidean(profile, space, 400)
    assert torch.equal(vae.model.decode(vae.points), space.sequences())
    table = models.train_table(profile, space, ball, 150)
    levels = space.valuation(torch.arange(27))
    radii = [float(ball.dist0(table.points)[levels == v].mean()) for v in range(4)]
    assert radii == sorted(radii, reverse=True)


@pytest.mark.parametrize("option", ["--epochs", "--steps", "--threads"])
def test_bad_options_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        module("compare").main([option, "0"])
    assert f"{option} must be at least 1" in capsys.readouterr().err


def test_the_kept_results_are_those_of_the_shipped_profile() -> None:
    kept = Path(module("environment").ROOT) / "benchmarks" / "results" / "compare.json"
    contents = json.loads(kept.read_text())
    assert contents["overrides"] == {}
    assert all(claim["result"] == "PASS" for claim in contents["claims"])
    assert {row["name"] for row in contents["rows"] if row["exact"]} == {
        "linear",
        "linear in the plane",
        "linear on a horosphere",
        "linear on a horosphere in space",
    }


def test_the_table_of_the_page_is_the_kept_one() -> None:
    root = Path(module("environment").ROOT)
    page = (root / "docs" / "baselines.md").read_text().split("## Side by side")[1]
    kept = (root / "benchmarks" / "results" / "compare.md").read_text().splitlines()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 14
    assert [row for row in rows if row not in kept] == []
