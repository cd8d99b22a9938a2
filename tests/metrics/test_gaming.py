"""Embeddings made to deceive: which figure gives each away, and by what margin."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.manifolds import PoincareBall
from ternvae.metrics import ceilings, distortion, sibling_retrieval, triplet_table
from ternvae.padic import TernarySpace

ROOT = Path(__file__).parents[2]
N = 6

#: What the right embedding reaches; a figure on the other side of it gives an embedding away.
LEAST = {
    "levels in order": N,
    "hierarchy": abs(ceilings(N)["hierarchy"]) - 1e-5,
    "ultrametric_corr": ceilings(N)["ultrametric_corr"] - 0.005,
    "triplet_accuracy": 0.9999,
    "triplets, worst cell": 0.9995,
    "siblings": 1.0,
}
MOST = {"collapse warnings": 0, "tree, worst": 6.0}

#: All figures that give an embedding away, and by how much at least.
GIVEN_AWAY: dict[str, dict[str, float]] = {
    "correct": {},
    "one ray": {
        "ultrametric_corr": 0.4,
        "triplet_accuracy": 0.3,
        "triplets, worst cell": 0.45,
        "siblings": 0.95,
        "tree, worst": 1e5,
    },
    "levels collapsed": {
        "collapse warnings": 1,
        "ultrametric_corr": 0.25,
        "triplet_accuracy": 0.6,
        "triplets, worst cell": 0.95,
        "siblings": 0.95,
        "tree, worst": 1e5,
    },
    "random": {
        "levels in order": 1,
        "hierarchy": 0.75,
        "ultrametric_corr": 0.8,
        "triplet_accuracy": 0.45,
        "triplets, worst cell": 0.5,
        "siblings": 0.95,
        "tree, worst": 10,
    },
    "radii of levels 0, 1 swapped": {
        "levels in order": 1,
        "hierarchy": 0.7,
        "ultrametric_corr": 0.25,
        "triplet_accuracy": 0.01,
        "triplets, worst cell": 0.15,
        "tree, worst": 3,
    },
    "radii of levels n-3, n-2 swapped": {
        "levels in order": 1,
        "hierarchy": 3e-5,
        "triplet_accuracy": 2e-4,
        "triplets, worst cell": 3e-3,
        "tree, worst": 1,
    },
    "digits 0, 1 swapped": {
        "levels in order": 1,
        "hierarchy": 0.3,
        "ultrametric_corr": 0.3,
        "triplet_accuracy": 0.015,
        "triplets, worst cell": 0.3,
    },
    "digits n-3, n-2 swapped": {
        "levels in order": 1,
        "hierarchy": 5e-6,
        "triplet_accuracy": 0.02,
        "triplets, worst cell": 0.4,
    },
    "digits n-2, n-1 swapped": {
        "triplet_accuracy": 0.03,
        "triplets, worst cell": 0.6,
        "siblings": 1.0,
        "tree, worst": 1,
    },
    "last digit too heavy": {
        "triplet_accuracy": 0.005,
        "triplets, worst cell": 0.1,
        "siblings": 0.66,
        "tree, worst": 1,
    },
}


@pytest.fixture(scope="module")
def gaming() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield import_module("gaming")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def measured(gaming: Any) -> dict[str, dict[str, float]]:
    space = TernarySpace(N)
    found = {name: gaming.measure(name, space) for name in gaming.EMBEDDINGS}
    return {
        name: {**figures, "hierarchy": -figures["hierarchy_B"]} for name, figures in found.items()
    }


def test_every_embedding_is_judged(gaming: Any) -> None:
    assert list(gaming.EMBEDDINGS) == list(GIVEN_AWAY)


@pytest.mark.parametrize("name", GIVEN_AWAY)
def test_what_gives_it_away(measured: dict[str, dict[str, float]], name: str) -> None:
    figures = measured[name]
    short = {each: least - figures[each] for each, least in LEAST.items()}
    short |= {each: figures[each] - most for each, most in MOST.items()}
    found = {each: by for each, by in short.items() if by > 0}
    assert found.keys() == GIVEN_AWAY[name].keys(), found
    for each, least in GIVEN_AWAY[name].items():
        assert found[each] >= least, each


def test_radii_alone_do_not_tell_one_ray_from_the_right_embedding(
    measured: dict[str, dict[str, float]],
) -> None:
    ray, right = measured["one ray"], measured["correct"]
    assert ray["Q_enhanced"] > right["Q_enhanced"]
    assert ray["Q_enhanced"] == pytest.approx(ceilings(N)["Q_enhanced"], abs=1e-3)


def test_what_tells_little_by_itself(measured: dict[str, dict[str, float]]) -> None:
    """Average distortion is one of the first levels; hyperbolicity knows of no sequences."""
    right, heavy = measured["correct"], measured["last digit too heavy"]
    assert abs(heavy["tree, average"] - right["tree, average"]) < 0.005
    assert heavy["ultrametric_corr"] == pytest.approx(right["ultrametric_corr"], abs=5e-4)
    assert measured["one ray"]["2 delta / diameter"] < 1e-12 < right["2 delta / diameter"]


@pytest.mark.parametrize("name", GIVEN_AWAY)
def test_where_the_origin_is_changes_no_figure_of_pairs(gaming: Any, name: str) -> None:
    space, ball = TernarySpace(4), PoincareBall()
    points = gaming.EMBEDDINGS[name](space)
    shift = torch.linspace(-0.2, 0.2, points.shape[1], dtype=torch.float64)
    turn = torch.linalg.qr(torch.vander(torch.linspace(-1, 1, points.shape[1]).double())).Q
    moved = [ball.mobius_add(shift, points), points @ turn]
    siblings, triplets, stretch = (
        [measure(each, ball, space) for each in (points, *moved)]
        for measure in (sibling_retrieval, triplet_table, distortion)
    )
    assert siblings[0] == siblings[1] == siblings[2]
    for other in (1, 2):
        # Where points coincide or lie on a line, distances are tied up to rounding.
        tied = name in ("one ray", "levels collapsed")
        assert triplets[other].mean == pytest.approx(triplets[0].mean, abs=0.25 if tied else 1e-12)
        assert stretch[other].tree.average == pytest.approx(stretch[0].tree.average, rel=1e-6)
        if name != "levels collapsed":
            worst = stretch[other].tree.worst
            assert worst == pytest.approx(stretch[0].tree.worst, rel=1e-6)


def test_the_benchmark_prints_and_keeps_what_the_page_shows(
    gaming: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gaming.main(["--digits", "4", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "gaming.md").read_text() == printed
    kept = json.loads((tmp_path / "gaming.json").read_text())
    assert list(kept["figures"]) == list(GIVEN_AWAY)
    with pytest.raises(SystemExit):
        gaming.main(["--digits", "3", "--out", str(tmp_path)])
    assert "3" in capsys.readouterr().err
    results = (ROOT / "benchmarks" / "results" / "gaming.md").read_text().splitlines()
    page = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    rows = [
        line
        for line in page
        if line.startswith("| ") and line.split("|")[1].strip() in kept["figures"]
    ]
    assert len(rows) == len(GIVEN_AWAY) and set(rows) <= set(results)
