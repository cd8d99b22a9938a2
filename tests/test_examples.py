"""Every example runs and gives what is true; train.py is run by the command-line tests."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sympy
import torch

from ternvae.cli import main
from ternvae.config import load_profile, profile_template, resolve_profile
from ternvae.manifolds import PoincareBall

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBERED = sorted(path.stem for path in EXAMPLES.glob("[0-9]*.py"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def nothing_said(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """What is asked to be quiet is."""
    yield
    assert capsys.readouterr().out == ""


def test_each_number_has_one_example_and_a_line_in_the_table() -> None:
    assert [name[:2] for name in NUMBERED] == [f"{k:02}" for k in range(1, len(NUMBERED) + 1)]
    table = (EXAMPLES / "README.md").read_text()
    assert re.findall(r"^\| \[(\d\d_\w+)\]\(\1\.py\) \|", table, re.MULTILINE) == NUMBERED
    for name in NUMBERED:
        assert f"def test_{name[3:]}(" in Path(__file__).read_text()
        assert f"python examples/{name}.py" in load(name).__doc__


def test_valuations_and_the_space(nothing_said: None) -> None:
    found = load("01_valuations_and_the_space").run(quiet=True, n_digits=4, triangles=500)
    assert found == {
        "level_sizes": [54, 18, 6, 2, 1],
        "seen": 81,
        "isosceles": 500,
        "back": 5,
    }


def test_geodesics_and_moebius_addition(nothing_said: None, tmp_path: Path) -> None:
    found = load("02_geodesics_and_moebius_addition").run(quiet=True, folder=tmp_path)
    sides = found["sides"]
    torch.testing.assert_close(sides["before"], sides["after"], rtol=1e-12, atol=0.0)
    assert found["commutator"].norm() > 0.1
    assert found["gyrated"].norm() < 1e-12
    assert found["file"].read_bytes().startswith(b"\x89PNG")


def test_fit_a_tree(nothing_said: None) -> None:
    example = load("03_fit_a_tree")
    three = example.tree_distances(1)
    assert three.tolist() == [[0, 1, 1], [1, 0, 2], [1, 2, 0]]
    assert example.distortion(1.1 * three[0, 1:], three[0, 1:]) == pytest.approx(0.1)
    found = example.run(quiet=True, depth=4, steps=400)
    assert found["hyperbolic after"] < 0.5 * found["hyperbolic before"]
    assert found["hyperbolic after"] < 0.8 * found["euclidean after"]


def test_train_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    example = load("04_train_a_profile")
    assert example.run(n_digits=5, epochs=60)["coverage"] == 1.0
    out = capsys.readouterr().out
    assert "stopped because of: epochs" in out
    radii = [float(each) for each in re.findall(r"hyperbolic radius ([\d.]+)", out)]
    assert radii == sorted(radii, reverse=True)
    example.run(quiet=True, n_digits=4, epochs=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("library", ["ternvae", "geoopt"])
def test_a_hierarchy_that_is_not_ours(nothing_said: None, library: str, tmp_path: Path) -> None:
    example = load("05_a_hierarchy_that_is_not_ours")
    found = example.run(True, tmp_path, libraries=[library], steps=150, root=sympy.Set)
    for dim in (2, 5):
        precision, rank = found[library, dim, 0]
        assert precision > 0.9
        assert rank < 1.5
    assert (tmp_path / "sympy_classes.png").read_bytes().startswith(b"\x89PNG")


def test_what_scores_a_hierarchy_is_what_its_definition_says() -> None:
    example = load("05_a_hierarchy_that_is_not_ours")
    classes, above = example.sympy_classes(sympy.Set)
    index = {each: k for k, each in enumerate(classes)}
    assert above[index[sympy.FiniteSet], index[sympy.Set]]
    assert not above[index[sympy.Set], index[sympy.FiniteSet]]
    assert not above.diagonal().any()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(classes), 3, generator=generator, dtype=torch.float64)
    points = PoincareBall().expmap0(drawn)
    precisions, ranks = [], []
    for u in range(len(classes)):
        distances = PoincareBall().dist(points[u], points)
        mine = [v for v in range(len(classes)) if above[u, v]]
        places = []
        for v in mine:
            nearer = [w for w in range(len(classes)) if w != u and distances[w] < distances[v]]
            ancestors = sum(w in mine for w in nearer)
            ranks.append(1 + len(nearer) - ancestors)
            places.append((1 + ancestors) / (1 + len(nearer)))
        if mine:
            precisions.append(sum(places) / len(places))
    precision, rank = example.score(points, above)
    assert precision == pytest.approx(sum(precisions) / len(precisions), rel=1e-12)
    assert rank == pytest.approx(sum(ranks) / len(ranks), rel=1e-12)


def test_read_a_checkpoint(nothing_said: None) -> None:
    found = load("06_read_a_checkpoint").run(quiet=True)
    assert found["exact"] == 3**9
    # Two differ in the last digit alone, six in the last two.
    assert found["nearest"].tolist() == [8, 8, *[7] * 6]
    assert found["read"].tolist() == list(range(8))
    assert found["climbed"].max() > found["climbed"][[0, -1]].max()


def test_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    example, profiles = load("07_a_sweep"), ["coverage_focused", "richness_focused"]
    found = example.run(profiles=profiles, seeds=[0, 1], n_digits=3, epochs=2)
    out = capsys.readouterr().out
    assert list(found) == profiles
    for name, runs in found.items():
        mean = sum(each["coverage"] for each in runs) / 2
        assert re.search(rf"^{name} +{mean:.5f} ", out, re.MULTILINE)
    assert found["coverage_focused"][0] != found["coverage_focused"][1]


# --- profiles to copy ---------------------------------------------------------------------------

CONFIGS = EXAMPLES / "configs"


def test_the_file_to_copy_is_what_the_program_writes() -> None:
    text = (CONFIGS / "my_training.yaml").read_text()
    comment, _, written = text.partition("\n\n")
    assert all(line.startswith("#") for line in comment.splitlines())
    assert written == profile_template(load_profile())
    assert load_profile(CONFIGS / "my_training.yaml") == load_profile()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "memory_constrained",
            {
                "training": {"batch_size": 256, "gradient_accumulation_steps": 2},
                "model": {"hidden_dim": 32, "projection_layers": 1},
            },
        ),
        (
            "high_performance",
            {
                "training": {"batch_size": 1024, "num_workers": 8},
                "model": {"hidden_dim": 128, "enhanced_controller": True},
            },
        ),
        (
            "quick_development",
            {
                "training": {"epochs": 20, "batch_size": 128, "lr": 1e-3},
                "targets": {"coverage": 0.95, "hierarchy_B": -0.7},
            },
        ),
    ],
)
def test_patterns_have_the_figures_of_the_guide_and_run(
    name: str, settings: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    profile = resolve_profile(config=CONFIGS / f"{name}.yaml")
    for section, values in settings.items():
        assert getattr(profile, section).model_dump().items() >= values.items()
    small = ["--space.n_digits", "4", "--training.batch_size", "40", "--training.epochs", "2"]
    small += ["--monitoring.report", "false"]
    run = ["--run-dir", str(tmp_path / "run"), "--device", "cpu", *small]
    assert main(["train", "--config", str(CONFIGS / f"{name}.yaml"), *run]) == 0
