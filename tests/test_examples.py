"""Every example runs; those with a `run` are called, train.py is run by the command-line tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ternvae.cli import main
from ternvae.config import load_profile, profile_template, resolve_profile

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"train", "embed_and_measure"}


def test_embed_and_measure(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = load("embed_and_measure").run(n_digits=5, epochs=60)
    assert metrics["coverage"] == 1.0
    out = capsys.readouterr().out
    assert "decoded exactly: 5 of 5" in out
    load("embed_and_measure").run(quiet=True, n_digits=4, epochs=1)
    assert capsys.readouterr().out == ""


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
