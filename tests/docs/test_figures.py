"""Figures of the pages are those of the kept results, and the profiles are all told of."""

import json
import re
from statistics import fmean

import pytest

from ternvae.config import available_profiles
from tests.docs.pages import ROOT


def test_tables_of_measurements_are_the_kept_results() -> None:
    """Every table row of the benchmark page stands in a file that a benchmark wrote."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    kept = "".join(path.read_text() for path in ROOT.glob("benchmarks/results/*.md"))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 50
    assert [row for row in rows if row not in kept.splitlines()] == []


def test_the_readme_tells_the_means_of_the_kept_sweep() -> None:
    runs = json.loads((ROOT / "benchmarks" / "results" / "sweep.json").read_text())["runs"]
    readme = (ROOT / "README.md").read_text()
    for name in available_profiles():
        of_profile = [
            run["summary"]["comprehensive_metrics"] for run in runs if run["profile"] == name
        ]
        row = re.search(rf"^\| `{name}` \|(.*)\|$", readme, re.MULTILINE)
        assert row, name
        worst, hierarchy, richness, q, *_ = (cell.strip() for cell in row[1].split("|"))

        def mean(metric: str, runs: list[dict[str, float]] = of_profile) -> float:
            return fmean(run[metric] for run in runs)

        assert len(of_profile) == 10
        assert worst == f"{min(run['coverage'] for run in of_profile):.6f}"
        assert hierarchy == f"{mean('hierarchy_B'):.7f}"
        assert richness == f"{mean('richness'):.5f}"
        assert q == f"{mean('Q_enhanced'):.4f}"


def test_what_the_pages_say_of_the_mechanisms_is_what_the_ablation_found() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "ablation.json").read_text())
    found = {
        (each["name"], quantity["quantity"]): quantity
        for each in kept["comparisons"]
        for quantity in each["quantities"]
    }

    def pair(name: str, quantity: str, form: str) -> tuple[str, str]:
        figures = found[name, quantity]["figures"]
        return format(figures["first"], form), format(figures["second"], form)

    training = " ".join((ROOT / "docs" / "training.md").read_text().split())
    late, early = pair("curriculum", "epochs to all targets", ".1f")
    assert f"and later: {late} epochs against {early} (" in training
    on, off = pair("enhanced_controller", "Q_enhanced", ".4f")
    assert f"Q {on} with it and {off} without" in training
    page = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    assert f"but {float(late) - float(early):.1f} epochs later" in page
    seconds = found["homeostasis", "seconds in all"]
    assert seconds["reading"] == "better"
    assert "saves a quarter of the time" in training
    assert seconds["figures"]["first"] / seconds["figures"]["second"] == pytest.approx(
        0.75, abs=0.03
    )
    # What is said to change nothing beyond noise is better or worse in nothing.
    for name in ("early rest of encoder B", "enhanced_controller", "mathematical_precision"):
        readings = {q["reading"] for (each, _), q in found.items() if each == name}
        assert readings <= {"no difference beyond noise", "the same in every pair"}, name
    assert all(claim["passed"] for claim in kept["claims"])


def test_every_profile_is_told_of() -> None:
    training = (ROOT / "docs" / "training.md").read_text()
    assert [name for name in available_profiles() if f"`{name}`" not in training] == []
