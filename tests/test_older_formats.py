"""Models of older formats are what they were; their runs cannot go on, and the way out is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import FORMAT_VERSION, CheckpointError, load_checkpoint
from ternvae.config import Profile, profile_from_dict
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer

#: Saved in the middle of a run by the commits 4788452^ and 7dfd964; beside each file what the code
#: of that commit made of it.
FILES = {n: Path(__file__).parent / "data" / f"format_{n}.pt" for n in (2, 3)}
BRANCHES = ("A", "B")

formats = pytest.mark.parametrize("version", FILES)


def made_then(version: int) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(FILES[version].with_suffix(".json").read_text("utf-8"))
    return made


def profile(version: int) -> Profile:
    return profile_from_dict(load_checkpoint(FILES[version])["profile"])


def points(model: TernaryVAE, branch: str) -> torch.Tensor:
    return model.embed(range(27), branch)


@formats
def test_the_file_is_what_it_is_said_to_be(version: int) -> None:
    raw = torch.load(FILES[version], weights_only=True)
    assert raw["format_version"] == version < FORMAT_VERSION
    assert "charts.B.weight" in raw["model_state_dict"]
    assert "thresholds" not in raw["model_state_dict"]
    assert raw["progress"]


@formats
@pytest.mark.parametrize("branch", BRANCHES)
def test_its_model_is_the_same_today(version: int, branch: str) -> None:
    made, model = made_then(version), TernaryVAE.from_checkpoint(FILES[version])
    stored = torch.tensor(made["embeddings"][branch])
    torch.testing.assert_close(points(model, branch), stored, rtol=1e-6, atol=1e-6)
    assert model.decode(stored, branch).tolist() == made["sequences"][branch]


@formats
def test_no_valuation_is_read_from_a_model_that_has_learned_none(version: int) -> None:
    model = TernaryVAE.from_checkpoint(FILES[version])
    z = points(model, "B")
    with pytest.raises(ValueError, match=r"no thresholds.*train it again"):
        model.valuation_between(z, z)


@formats
def test_its_run_cannot_go_on_and_the_way_out_is_named(version: int, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"format {version}\).*frozen_checkpoint.path"):
        Trainer(profile(version), tmp_path / "run", "cpu", resume_from=FILES[version])


@formats
def test_the_way_out_is_one(version: int, tmp_path: Path) -> None:
    settings = profile(version).model_dump()
    settings["training"]["epochs"] = 2
    settings["monitoring"]["report"] = False
    settings["scheduler"]["warmup_epochs"] = 1.0
    settings["frozen_checkpoint"]["path"] = str(FILES[version])
    settings["targets"]["coverage"] = 0.0
    settings["curriculum"]["enabled"] = False
    trainer = Trainer(profile_from_dict(settings), tmp_path / "run", "cpu")
    assert trainer.fit().stop_reason == "epochs"
    then = torch.tensor(made_then(version)["embeddings"]["A"])
    torch.testing.assert_close(points(trainer.model.eval(), "A"), then, rtol=1e-6, atol=1e-6)
