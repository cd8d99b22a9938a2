"""Every key of a profile is described and does something: a walk over the whole tree.

Each key is changed in a small run, and the run is compared with one that differs in nothing else.
The table of what must show where is ``key_effects.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ternvae.validation
from ternvae.checkpoint import CheckpointError
from ternvae.config import profile_from_dict, profile_keys
from ternvae.trainer import Trainer
from ternvae.validation.checks import Check
from tests.key_effects import EFFECTS
from tests.observing import SMALL, Effect, Laboratory, complaints


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def cheap_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks before training take seconds and have tests of their own."""

    def run_checks(device: object) -> Iterator[Check]:
        yield Check("geometry", "a cheap check", True, "fine")

    monkeypatch.setattr(ternvae.validation, "run_checks", run_checks)


def test_the_table_has_every_key_and_no_other() -> None:
    assert sorted(EFFECTS) == sorted(profile_keys())


@pytest.mark.parametrize("key", profile_keys())
def test_every_key_is_described(key: str) -> None:
    description = profile_keys()[key].description
    assert description
    assert len(description.split()) >= 3


@pytest.mark.parametrize("key", EFFECTS)
def test_the_change_is_one(key: str) -> None:
    effect = EFFECTS[key]
    usual = profile_from_dict(SMALL | effect.base).to_dict()
    for part in key.split("."):
        usual = usual[part]
    assert effect.value != usual
    assert effect.where
    assert not set(effect.where) & set(effect.unchanged)


@pytest.mark.parametrize("key", EFFECTS)
def test_every_key_has_its_effect(key: str, laboratory: Laboratory) -> None:
    assert complaints(key, EFFECTS[key], laboratory) == []


# --- the walk itself catches what it should -----------------------------------------------------

DEAD = Effect(2, ("weights",))


def test_a_key_without_effect_is_found(laboratory: Laboratory) -> None:
    found = complaints("training.num_workers", DEAD, laboratory)
    assert found == ["training.num_workers: no effect on weights"]


@pytest.mark.parametrize(
    "changes",
    [
        {"where": ("nothing.like.it",)},
        {"where": ("log",), "unchanged": ("log",)},
        {"where": ("log",), "shown": lambda before, after: before == after},
    ],
)
def test_an_effect_elsewhere_than_promised_is_found(
    changes: dict[str, Any], laboratory: Laboratory
) -> None:
    assert len(complaints("training.num_workers", replace(DEAD, **changes), laboratory)) == 1


def test_a_value_that_a_profile_refuses_shows_nothing(laboratory: Laboratory) -> None:
    found = complaints("training.num_workers", replace(DEAD, value=-1), laboratory)
    assert len(found) == 1
    assert "refused" in found[0]


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    profile = profile_from_dict(SMALL | {"frozen_checkpoint.path": str(tmp_path / "none.pt")})
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint"):
        Trainer(profile, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
