"""Every example runs; those with a `run` are called, train.py is run by the command-line tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

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
    metrics = load("embed_and_measure").run(n_digits=5, epochs=40)
    assert metrics["coverage"] == 1.0
    out = capsys.readouterr().out
    assert "decoded exactly: 5 of 5" in out
    load("embed_and_measure").run(quiet=True, n_digits=4, epochs=1)
    assert capsys.readouterr().out == ""
