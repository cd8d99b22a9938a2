"""Checkpoint files: whole or not at all, and every broken one refused by name."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

from ternvae.checkpoint import (
    FORMAT_VERSION,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_whole,
)
from ternvae.checkpoint.sealing import seal
from ternvae.config import profile_from_dict
from ternvae.metrics import evaluate
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer
from ternvae.training.coverage import take_over_coverage

CONTENTS: dict[str, Any] = {
    "model_state_dict": {"weight": torch.arange(6.0).reshape(2, 3)},
    "model_config": {"latent_dim": 3},
    "optimizer_state_dict": {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": []},
    "epoch": 7,
    "comprehensive_metrics": {"coverage": 1.0, "triplet_accuracy": float("nan")},
    "validation_results": {"coverage_precision": True},
    "profile": {"name": "custom", "scheduler": {"T_0": 25.0}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


# --- writing --------------------------------------------------------------------------------


def test_files_are_written_and_replaced(path: Path) -> None:
    for content in (b"first", b"second, longer", b""):
        write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [True, False])
def test_a_write_that_fails_half_way_leaves_what_was_there(
    path: Path, existing: bool, error: BaseException
) -> None:
    if existing:
        path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"ne")
        file.flush()
        raise error

    with pytest.raises(type(error)):
        write_whole(path, fail)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == (
        {"last.pt": b"old"} if existing else {}
    )


def test_the_old_file_stands_until_the_new_one_is_complete(path: Path) -> None:
    path.write_bytes(b"old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())

    write_whole(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


def test_the_bytes_are_on_the_disk_before_the_name_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave the new name on an empty file."""
    events = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        events.append("fsync")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        events.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_whole(path, lambda file: file.write(b"new"))
    # The name itself is in the folder, which is synced last.
    assert events == ["fsync", "replace", "fsync"]


def test_a_partial_file_of_an_earlier_crash_does_no_harm(path: Path) -> None:
    path.with_name("last.pt.partial").write_bytes(b"left over, and longer than the new content")
    write_whole(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("key", CONTENTS)
def test_incomplete_contents_are_not_written(path: Path, key: str) -> None:
    contents = {k: v for k, v in CONTENTS.items() if k != key}
    with pytest.raises(CheckpointError, match=f"a checkpoint needs {key}"):
        save_checkpoint(path, contents)
    assert not path.exists()


# --- reading --------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(path: Path) -> None:
    save_checkpoint(path, {**CONTENTS, "more": [1, 2]})
    loaded = load_checkpoint(path)
    assert loaded.keys() == {*CONTENTS, "more", "format_version"}
    assert loaded["format_version"] == FORMAT_VERSION
    assert torch.equal(loaded["model_state_dict"]["weight"], CONTENTS["model_state_dict"]["weight"])
    assert loaded["optimizer_state_dict"]["state"][0]["step"] == 4
    for key in ("model_config", "epoch", "validation_results", "profile"):
        assert loaded[key] == CONTENTS[key]
    assert loaded["comprehensive_metrics"]["coverage"] == 1.0
    assert load_checkpoint(str(path)).keys() == loaded.keys()


def test_files_load_without_executing_anything(path: Path) -> None:
    save_checkpoint(path, CONTENTS)
    loaded = torch.load(path, weights_only=True)
    assert loaded["epoch"] == 7


def write_sealed(path: Path, contents: object) -> None:
    """Any contents, with a seal that is right."""
    with path.open("w+b") as file:
        torch.save(contents, file)
        seal(file)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert isinstance(caught.value, ValueError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_files_and_folders_are_refused(path: Path) -> None:
    assert "no such checkpoint file" in refusal(path)
    assert "no such checkpoint file" in refusal(path.parent)


def test_the_folder_of_a_run_is_refused_with_the_file_that_was_meant(path: Path) -> None:
    meant = path.parent / "run" / "checkpoints" / "last.pt"
    meant.parent.mkdir(parents=True)
    save_checkpoint(meant, CONTENTS)
    for given in (meant.parents[1], meant.parent, meant.parents[1] / "last.pt"):
        assert refusal(given) == f"{given}: no such checkpoint file; there is {meant}"


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(path: Path, share: float) -> None:
    save_checkpoint(path, CONTENTS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert re.search("not a readable checkpoint|damaged", refusal(path))


def test_garbage_is_refused(path: Path) -> None:
    """Random bytes make torch's unpickler raise all kinds of errors, one in ten not its own."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        path.write_bytes(generator.bytes(int(generator.integers(1, 60))))
        refusal(path)


def test_disturbed_pickles_are_refused_or_read_and_never_crash(path: Path) -> None:
    generator = np.random.default_rng(0)
    save_checkpoint(path, CONTENTS)
    whole = path.read_bytes()
    start = whole.index(b"data.pkl") + len("data.pkl")
    refused = 0
    for _ in range(300):
        bad = bytearray(whole)
        bad[generator.integers(start, start + 700)] = generator.integers(256)
        path.write_bytes(bad)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


def test_pickles_that_run_code_are_refused_and_do_not_run_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    for write in (pickle.dump, torch.save):
        with path.open("wb") as file:
            write({**CONTENTS, "format_version": 1, "trap": Trap()}, file)
        assert "not a readable checkpoint" in refusal(path)
        assert not Path("trapped").exists()


@pytest.mark.parametrize("foreign", [{}, {"state_dict": {}}, [1, 2], torch.zeros(3), 5, "text"])
def test_files_of_other_programs_are_refused(path: Path, foreign: object) -> None:
    torch.save(foreign, path)
    assert "not a checkpoint of ternvae" in refusal(path)


@pytest.mark.parametrize("version", ["1", None, 1.0, 0, -1, False])
def test_versions_that_are_no_number_are_refused(path: Path, version: object) -> None:
    torch.save({**CONTENTS, "format_version": version}, path)
    assert "no format_version" in refusal(path)


def test_newer_formats_are_refused_with_the_way_out(path: Path) -> None:
    torch.save({**CONTENTS, "format_version": FORMAT_VERSION + 1}, path)
    message = refusal(path)
    assert f"format {FORMAT_VERSION + 1}" in message and "install a newer one" in message


@pytest.mark.parametrize("key", CONTENTS)
def test_incomplete_files_are_refused_by_the_missing_key(path: Path, key: str) -> None:
    rest = {k: v for k, v in CONTENTS.items() if k != key}
    write_sealed(path, {**rest, "format_version": FORMAT_VERSION})
    assert f"without {key}" in refusal(path)


# --- format 1 -------------------------------------------------------------------------------

#: A run of 80 epochs over three digits by commit 52e0e5d, the last one that wrote format 1, and
#: beside it the points and sequences that the code of that commit got from the file.
OLD = Path(__file__).parent / "data" / "format_1.pt"


@pytest.fixture(scope="module")
def made_then() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(OLD.with_suffix(".json").read_text(encoding="utf-8"))
    return made


def test_the_file_of_format_1_is_one() -> None:
    raw = torch.load(OLD, weights_only=True)
    assert raw["format_version"] == 1 < FORMAT_VERSION
    assert "progress" in raw and "decoder.ball.c_reference" in raw["model_state_dict"]
    prefixes = {name.rpartition(".")[0] for name in raw["model_state_dict"]}
    assert {"decoder.charts.A", "decoder.charts.B", "decoder.trunk.0"} <= prefixes


@pytest.mark.parametrize("branch", ["A", "B"])
def test_a_model_of_format_1_is_the_same_today(branch: str, made_then: dict[str, Any]) -> None:
    model = TernaryVAE.from_checkpoint(OLD)
    assert (model.config["curvature"], model.config["max_radius"]) == (0.7, 0.9)
    assert model.config["learnable_curvature"] is model.config["mathematical_precision"] is False
    points = torch.tensor(made_then["embeddings"][branch])
    # Another processor may round a product differently.
    torch.testing.assert_close(model.embed(range(27), branch), points, rtol=1e-6, atol=1e-6)
    assert model.decode(points, branch).tolist() == made_then["sequences"][branch]
    # The branches have charts of their own: with each other's the sequences are others.
    other = made_then["embeddings"]["B" if branch == "A" else "A"]
    assert model.decode(other, branch).tolist() != made_then["sequences"][branch]


def test_a_model_of_format_1_scores_as_it_did(made_then: dict[str, Any]) -> None:
    model = TernaryVAE.from_checkpoint(OLD)
    found, then = evaluate(model, model.space), dict(made_then["metrics"])
    # Other triples are drawn today, as many.
    triples = then.pop("triplet_accuracy")
    spread = math.sqrt(2) * found.standard_errors["triplet_accuracy"]
    assert abs(found["triplet_accuracy"] - triples) < 4 * spread < 0.01
    assert {name: found[name] for name in then} == pytest.approx(then, abs=1e-5)
    assert found.keys() == made_then["metrics"].keys()


def test_format_1_is_read_with_the_names_of_today(path: Path) -> None:
    raw, read = torch.load(OLD, weights_only=True), load_checkpoint(OLD)
    weights = read["model_state_dict"]
    assert weights.keys() == TernaryVAE(**read["model_config"]).state_dict().keys()
    pairs = {
        "charts.A.weight": "decoder.charts.A.weight",
        "charts.B.0.bias": "decoder.charts.B.bias",
        "decoder.5.weight": "decoder.trunk.5.weight",
        "decoder.0.bias": "decoder.trunk.0.bias",
        "encoders.B.features.0.weight": "encoders.B.features.0.weight",
        "ball.c_reference": "decoder.ball.c_reference",
    }
    for new, old in pairs.items():
        assert torch.equal(weights[new], raw["model_state_dict"][old]), new
    for key in ("epoch", "profile", "comprehensive_metrics", "validation_results"):
        np.testing.assert_equal(read[key], raw[key])
    # Saved again, it is of today's format and the same model.
    save_checkpoint(path, read)
    assert load_checkpoint(path)["format_version"] == FORMAT_VERSION
    again, model = TernaryVAE.from_checkpoint(path), TernaryVAE.from_checkpoint(OLD)
    assert torch.equal(again.embed(range(27)), model.embed(range(27)))


def test_the_profile_of_format_1_is_still_a_profile() -> None:
    profile = profile_from_dict(load_checkpoint(OLD)["profile"])
    assert (profile.space.n_digits, profile.model.curvature, profile.seed) == (3, 0.7, 1)


def test_a_run_of_format_1_cannot_go_on_and_the_way_out_is_named(path: Path) -> None:
    stored = load_checkpoint(OLD)["profile"]
    stored["training"]["epochs"] = 100
    profile = profile_from_dict(stored)
    with pytest.raises(CheckpointError) as caught:
        Trainer(profile, path.parent / "run", "cpu", resume_from=OLD)
    message = str(caught.value)
    assert str(OLD) in message and "\n" not in message
    assert "holds a model but not the progress of a run" in message
    assert "frozen_checkpoint.path" in message
    assert not (path.parent / "run").exists()


def test_the_way_out_of_format_1_is_one(made_then: dict[str, Any]) -> None:
    torch.manual_seed(5)
    model = TernaryVAE(**load_checkpoint(OLD)["model_config"]).eval()
    take_over_coverage(model, OLD)
    points = torch.tensor(made_then["embeddings"]["A"])
    torch.testing.assert_close(model.embed(range(27), "A"), points, rtol=1e-6, atol=1e-6)
    assert model.decode(points, "A").tolist() == made_then["sequences"]["A"]


@pytest.mark.parametrize("weights", [None, [1], {}, {0: 1}, {"decoder.trunk.0.weight": None}])
def test_weights_of_format_1_that_are_none_are_left_to_the_model(
    path: Path, weights: object
) -> None:
    raw = torch.load(OLD, weights_only=True)
    torch.save({**raw, "model_state_dict": weights, "progress": [1]}, path)
    assert "progress" not in load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"last\.pt: the stored model does not fit"):
        TernaryVAE.from_checkpoint(path)
