"""The frontier's figures are those of all pairs, and its curves and its picture obey the bounds."""

from __future__ import annotations

import json
import math
from importlib import import_module as module
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr

from ternvae.ceilings import ceilings
from ternvae.config import available_profiles
from tests.benchmarks.small import BENCHMARKS
from tests.padic.oracles import valuation_by_definition

ROOT = BENCHMARKS.parent
RESULTS = BENCHMARKS / "results" / "frontier.json"


@pytest.mark.parametrize("spread", [0.3, 0.9, 1.6])
def test_scores_are_those_of_all_pairs(spread: float) -> None:
    """Points in the middle of fine cells, against Spearman's coefficient of every pair."""
    frontier = module("frontier")
    n, cells = 4, 4096
    space = frontier.Space(n, 2.0)
    v = np.array([int(min(valuation_by_definition(i, 3), n)) for i in range(3**n)])
    rng = np.random.default_rng(0)
    r = (n - v + 0.5 + spread * rng.uniform(-0.5, 0.5, 3**n)) * 2.0 / (n + 1)
    cell = np.clip((r / 2.0 * cells).astype(int), 0, cells - 1)
    r = (cell + rng.uniform(0.4, 0.6, 3**n)) * 2.0 / cells
    mass = np.zeros((n + 1, cells))
    np.add.at(mass, (v, cell), 1)
    i, j = np.triu_indices(3**n, 1)
    variances = [float(r[v == level].var()) for level in range(n + 1)]
    found = frontier.scores(space, mass, variances)
    assert found.richness == pytest.approx(np.mean(variances))
    assert found.hierarchy == pytest.approx(spearmanr(v, r)[0], abs=2e-3)
    dist_corr = spearmanr(abs(v[i] - v[j]), abs(r[i] - r[j]))[0]
    assert found.dist_corr == pytest.approx(dist_corr, abs=2e-3)
    assert found.q == found.dist_corr + 1.5 * abs(found.hierarchy)


def test_thin_levels_are_at_the_ceilings_and_so_is_half_a_shell() -> None:
    frontier = module("frontier")
    space = frontier.Space(9, 3.0)
    limit = ceilings(9)
    for share in (0.1, 0.48):
        width = share * space.radius_max / 10
        found = frontier.best(space, "equal shells", 0.9 * width**2 / 12)
        assert found.hierarchy == pytest.approx(limit["hierarchy"], abs=1e-12)
        assert found.dist_corr == pytest.approx(limit["dist_corr"], abs=1e-7)
        assert found.richness == pytest.approx(0.9 * width**2 / 12)


def test_families_contain_one_another_and_end_where_they_must() -> None:
    frontier = module("frontier")
    space = frontier.Space(4, 2.0)
    q = []
    for family in frontier.FAMILIES:
        found = frontier.best(space, family, 0.01)
        assert found.richness == pytest.approx(0.01)
        assert found.q <= ceilings(4)["Q_enhanced"] + 1e-9
        q.append(found.q)
    assert q == sorted(q)
    widest = 0.8 * 0.5**2 / 12
    assert frontier.best(space, "levels disjoint", widest * 0.99) is not None
    assert frontier.best(space, "levels disjoint", widest * 1.01) is None


def test_deepest_levels_hold_richness_at_little_cost() -> None:
    frontier = module("frontier")
    space = frontier.Space(9, 3.0)
    for spread in (1, 2, 3):
        found = frontier.deep_levels(space, spread)
        assert found.richness == pytest.approx(spread / 10 * 9 / 4, rel=1e-3)
        assert 0 < ceilings(9)["Q_enhanced"] - found.q < 10 * 3.0 ** (spread - 9)


def test_horospherical_radii() -> None:
    """Against the formula of the page, point by point."""
    frontier = module("frontier")
    n, ratio = 3, 0.6
    x = np.zeros((27, 6))
    for i in range(27):
        for k in range(n):
            corner = [(0, 0), (1, 0), (0.5, math.sqrt(0.75))][i // 3**k % 3]
            x[i, 2 * k : 2 * k + 2] = np.array(corner) * ratio**k
    norms = np.linalg.norm(x, axis=1)
    r = 2 * np.arcsinh(norms / norms.max() * math.sinh(1.0))
    levels = [
        [i for i in range(27) if min(valuation_by_definition(i, 3), n) == v] for v in range(4)
    ]
    found = frontier.horospherical(frontier.Space(n, 2.0), ratio)
    assert found.richness == pytest.approx(np.mean([r[level].var() for level in levels]))
    assert found.hierarchy == pytest.approx(ceilings(n)["hierarchy"], abs=1e-6)


def kept_runs() -> list[dict[str, object]]:
    metrics = {"richness": 0.006, "Q_enhanced": 2.16}
    summary = {"comprehensive_metrics": metrics}
    return [
        {"profile": name, "seed": 0, "status": "done", "summary": summary}
        for name in available_profiles()
    ]


def test_main_writes_figures_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frontier = module("frontier")
    monkeypatch.setattr(frontier, "shipped_space", lambda: frontier.Space(4, 3.0))
    sweep = tmp_path / "sweep.json"
    failed = {"profile": "coverage_focused", "seed": 1, "status": "failed", "summary": None}
    sweep.write_text(json.dumps({"runs": [*kept_runs(), failed]}))
    options = ["--sweep", str(sweep), "--out", str(tmp_path), "--plot", str(tmp_path / "f.svg")]
    assert frontier.main([*options, "--steps", "3"]) == 0
    assert (tmp_path / "frontier.md").read_text() == capsys.readouterr().out.rstrip("\n") + "\n"
    written = json.loads((tmp_path / "frontier.json").read_text())
    assert [point["q"] for point in written["points"]] == [2.16] * 4
    assert list(written["curves"]) == [*frontier.FAMILIES, "horospherical code"]
    sweep.write_text(json.dumps({"runs": kept_runs()[1:]}))
    assert frontier.main([*options, "--steps", "2"]) == 1


def test_profiles_are_trained_where_no_sweep_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = module("frontier")
    asked = []

    class Trained:
        def __init__(self, jobs: list[object], at_a_time: int, folder: Path) -> None:
            asked.extend((job.label, job.seed, job.options) for job in jobs)  # type: ignore[attr-defined]

        def run(self) -> list[object]:
            return [module("records").Run(**run) for run in kept_runs()]

    monkeypatch.setattr(frontier, "Sweep", Trained)
    points = frontier.measure([4, 5], 1, tmp_path)
    assert {point.profile for point in points} == set(available_profiles())
    assert asked == [(p, seed, ("--profile", p)) for seed in (4, 5) for p in available_profiles()]


def test_everything_in_the_picture_is_inside_it() -> None:
    plot = module("frontier_plot")
    curves = {"a": [(0.0, 2.16270), (0.02, 1.9)], "b": [(0.01, 2.0)]}
    points = [(f"p{k}", 0.005 * k, 2.16 - 0.1 * k) for k in range(4)]
    picture = plot.plot(curves, points, 2.1627074, 0.0093)
    root = ElementTree.fromstring(picture)  # noqa: S314 - written two lines above
    kinds = [element.tag.rpartition("}")[2] for element in root]
    assert kinds.count("polyline") == 2
    assert kinds.count("circle") == 2 and kinds.count("polygon") == 6  # with the legend
    ends = [pair.split(",") for e in root for pair in e.get("points", "").split()]
    ends += [[e.get("cx", "70"), e.get("cy", "20")] for e in root]
    for x, y in ends:
        assert plot.LEFT - 6 <= float(x) <= plot.WIDTH and 0 <= float(y) <= plot.HEIGHT


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "1"], "--steps must be at least 2"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--sweep", "nowhere.json"], "cannot be read"),
        (["--seeds", "1,1"], "comes twice"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        module("frontier").main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_shipped_profiles_share_the_space_of_the_page() -> None:
    space = module("frontier").shipped_space()
    assert space.n_digits == 9
    assert space.radius_max == pytest.approx(2 * math.atanh(0.95))


def test_the_page_shows_the_kept_results() -> None:
    page = (ROOT / "docs" / "theory.md").read_text()
    kept = RESULTS.with_suffix(".md").read_text().splitlines()
    table = page.partition("| lost of Q |\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 5
    assert [row for row in table[1:] if row not in kept] == []
    written = json.loads(RESULTS.read_text())
    names = [name for name in written["curves"] if f"| {name} |" not in page]
    assert names == []
    assert {point["profile"] for point in written["points"]} == set(available_profiles())
