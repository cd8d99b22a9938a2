"""The page of the keys is complete, its defaults are the real ones, and its tests exist."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import ternvae.training.warning_signs
from ternvae.config import available_profiles, load_profile, profile_keys
from ternvae.metrics import COLLAPSE_TOLERANCE
from tests.key_effects import EFFECTS

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PAGE = (ROOT / "docs" / "keys.md").read_text()

#: Cells of a row, by the heading of their column.
Row = dict[str, str]


def tables(page: str) -> list[list[Row]]:
    """Every table of a page, row by row."""
    found: list[list[Row]] = []
    heading: list[str] | None = None
    for line in page.splitlines():
        if not line.startswith("|"):
            heading = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if heading is None:
            heading = cells
            found.append([])
        elif not set(line) <= set("|-"):
            found[-1].append(dict(zip(heading, cells, strict=True)))
    return found


def rows(column: str) -> list[Row]:
    """The rows of all tables that begin with this column."""
    return [row for table in tables(PAGE) for row in table if next(iter(row)) == column]


KEYS = {row["key"].strip("`"): row for row in rows("key")}
SIGNS = {row["sign"].strip("`"): row for row in rows("sign")}


def test_every_key_is_there_once() -> None:
    assert sorted(row["key"].strip("`") for row in rows("key")) == sorted(profile_keys())


def value(text: str) -> Any:
    """As YAML reads it, but for numbers such as 1e-3, which YAML 1.1 takes for text."""
    return float(text) if re.fullmatch(r"\d+e-\d+", text) else yaml.safe_load(text)


@pytest.mark.parametrize("key", profile_keys())
def test_the_default_is_that_of_the_key(key: str) -> None:
    of_foundation: Any = load_profile("mathematical_foundation").to_dict()
    for part in key.split("."):
        of_foundation = of_foundation[part]
    usual = profile_keys()[key].default
    cell = re.fullmatch(r"(.*?)(?: \((.*)\))?", KEYS[key]["default"])
    assert cell
    assert value(cell[1]) == usual
    assert type(value(cell[1])) is type(usual)
    if of_foundation == usual:
        assert cell[2] is None
    else:
        assert value(cell[2]) == of_foundation


def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "row", [*KEYS.values(), *SIGNS.values()], ids=lambda row: next(iter(row.values())).strip("`")
)
def test_every_named_test_exists(row: Row) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", list(row.values())[-1])
    assert named
    assert list(row.values())[-1].count("::") == len(named)
    for file, function in named:
        assert function in functions(file), f"{file}::{function}"


def test_the_tests_that_all_keys_have_are_those_of_the_table() -> None:
    assert "tests/test_every_key.py::test_every_key_has_its_effect[KEY]" in PAGE
    assert "test_every_key_has_its_effect" in functions("test_every_key.py")
    assert set(EFFECTS) == set(KEYS)


def test_every_sign_is_there_once() -> None:
    source = ast.parse(Path(ternvae.training.warning_signs.__file__).read_text())
    raised = [
        ast.literal_eval(node.args[0])
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "WarningSign"
    ]
    assert len(raised) == 10
    assert sorted(row["sign"].strip("`") for row in rows("sign")) == sorted(raised)


@pytest.mark.parametrize("sign", SIGNS)
def test_remedies_are_keys(sign: str) -> None:
    named = re.findall(r"`([^`]+)`", SIGNS[sign]["remedies"])
    assert named
    assert set(named) <= set(profile_keys())


@pytest.mark.parametrize("column", ["what it does here", "what it does", "raised when"])
def test_keys_that_texts_speak_of_exist(column: str) -> None:
    texts = [row[column] for row in (*KEYS.values(), *SIGNS.values()) if column in row]
    named = {name for text in texts for name in re.findall(r"`([a-z_]+\.[A-Za-z_0]+)`", text)}
    assert named
    files = {name for name in named if name.endswith((".pt", ".json", ".jsonl"))}
    assert named - files <= set(profile_keys())


def test_the_numbers_of_the_signs_are_those_of_the_program() -> None:
    signs = ternvae.training.warning_signs
    assert f"above {signs.STALLED_HIERARCHY:g} " in SIGNS["hierarchy_stalled"]["raised when"]
    assert f"at least {signs.LEAST_EPOCHS}," in SIGNS["hierarchy_stalled"]["raised when"]
    share = f"{100 * signs.SHARE_AT_LIMIT:g} %"
    assert f"more than {share} of the points" in SIGNS["points_at_limit"]["raised when"]
    noise = f"{100 * (signs.FIRST_STEP_NOISE - 1):.0f} %"
    assert f"more than {noise} above" in SIGNS["loss_high"]["raised when"]
    assert COLLAPSE_TOLERANCE == 1e-4
    assert "more than 1e-4 beyond the ceiling" in SIGNS["radii_tied"]["raised when"]
    assert signs.VANISHED_LOSS == 1e-8
    assert "below 1e-8 " in SIGNS["loss_collapsed"]["raised when"]


def test_the_shipped_profiles_are_as_the_page_says() -> None:
    """Short, without controller and phases, and yet at their targets in every kept run."""
    kept = json.loads((ROOT / "benchmarks" / "results" / "sweep.json").read_text())["runs"]
    profiles = {name: load_profile(name) for name in available_profiles()}
    for profile in profiles.values():
        assert not profile.model.enhanced_controller
        assert not profile.curriculum.enabled
        assert profile.training.epochs < 120
        assert profile.homeostasis.coverage_precision_threshold == 1
        assert profile.training.lr > profile_keys()["training.lr"].default
    assert {run["profile"] for run in kept} == set(profiles)
    for run in kept:
        assert run["summary"]["validation_results"]["mathematical_foundation_ready"]
        assert run["summary"]["epochs_to"]["targets"] < profiles[run["profile"]].training.epochs


def test_every_example_of_a_configuration_is_there() -> None:
    files = sorted(path.name for path in (ROOT / "examples" / "configs").iterdir())
    named = re.findall(r"`examples/configs/(\w+\.yaml)`", PAGE)
    assert sorted(named) == files
    for name in files:
        load_profile(ROOT / "examples" / "configs" / name)
