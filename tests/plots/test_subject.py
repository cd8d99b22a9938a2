"""What the pictures are of: the model's own points and distances, and the history of its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ternvae.plots.subject as module
from ternvae.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ternvae.models import TernaryVAE
from ternvae.plots import Subject, caption_of, pictures, subject_of
from tests.padic.oracles import valuation_by_definition
from tests.plots.subjects import Floats
from tests.runs import fit, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 sequences in 4 dimensions, four epochs."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    fit(tiny(), folder)
    return folder


@pytest.fixture(scope="module")
def subject(run: Path) -> Subject:
    return subject_of(run / "checkpoints" / "best_Q.pt")


def saved(path: Path, model: TernaryVAE) -> Path:
    contents = {
        "model_config": model.config,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": {},
        "epoch": 7,
        "comprehensive_metrics": {},
        "validation_results": {},
        "profile": {},
    }
    save_checkpoint(path, contents)
    return path


def levels_of(indices: np.ndarray, n_digits: int) -> list[int]:
    return [int(min(valuation_by_definition(int(i), 3), n_digits)) for i in indices]


def distances(x: Floats, y: Floats, c: float) -> Floats:
    """arcosh(1 + 2c |x-y|^2 / ((1-c|x|^2)(1-c|y|^2))) / sqrt(c)."""
    below = (1 - c * (x**2).sum(1)) * (1 - c * (y**2).sum(1))
    return np.asarray(np.arccosh(1 + 2 * c * ((x - y) ** 2).sum(1) / below) / np.sqrt(c))


def test_a_subject_is_what_the_model_says(run: Path, subject: Subject) -> None:
    path = run / "checkpoints" / "best_Q.pt"
    model = TernaryVAE.from_checkpoint(path)
    with torch.no_grad():
        points = model.embed(torch.arange(27)).double()
    assert (subject.points == points.numpy()).all()
    assert subject.radius == pytest.approx(model.ball.dist0(points).numpy(), rel=1e-12)
    assert subject.indices.tolist() == list(range(27))
    assert subject.valuation.tolist() == levels_of(subject.indices, 3)
    assert (subject.weight == 1).all() and not subject.sampled
    assert subject.name == "mine/best_Q.pt"
    stored = load_checkpoint(path)
    assert subject.epoch == stored["epoch"]
    assert subject.profile == stored["profile"]
    assert subject.targets["richness"] == stored["profile"]["targets"]["richness"]
    assert subject.metrics["richness"] == pytest.approx(
        stored["comprehensive_metrics"]["richness"], rel=1e-5
    )
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert subject.history == [json.loads(line) for line in lines]


def test_pairs_have_the_valuations_and_distances_they_claim(subject: Subject) -> None:
    pairs = subject.pairs
    assert len(pairs.first) == 27 * 26 // 2  # so few that all of them are there, each once
    assert len({frozenset(pair) for pair in zip(pairs.first, pairs.second, strict=True)}) == 351
    assert pairs.valuation.tolist() == levels_of(np.abs(pairs.first - pairs.second), 3)
    x, y = subject.points[pairs.first], subject.points[pairs.second]
    assert pairs.distance == pytest.approx(distances(x, y, subject.c), rel=1e-6)


def test_every_picture_of_a_run_is_drawn(subject: Subject) -> None:
    names = [name for name, _ in pictures(subject)]
    assert names == ["disk", "radii", "curves", "distances", "frontier"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """An untrained model of 11 digits, on a ball of another curvature."""
    torch.manual_seed(0)
    model = TernaryVAE(n_digits=11, latent_dim=3, hidden_dim=8, curvature=2.0)
    return subject_of(saved(tmp_path_factory.mktemp("large") / "large.pt", model))


def test_of_a_large_space_a_sample_of_each_level_is_drawn(large: Subject) -> None:
    assert large.sampled and len(large.points) < 3**11 / 4
    assert len(set(large.indices.tolist())) == len(large.indices)
    assert large.valuation[::97].tolist() == levels_of(large.indices[::97], 11)
    sizes = np.array([2 * 3 ** (10 - v) for v in range(11)] + [1])
    counts = np.bincount(large.valuation, minlength=12)
    assert (counts >= np.minimum(sizes, module.SAMPLE_SIZE // 8)).all()
    assert np.bincount(large.valuation, large.weight) == pytest.approx(sizes)
    found = dict(pictures(large, ["disk", "radii", "distances"]))
    for name in ("disk", "radii"):
        assert f"a sample of {len(large.points):,} of the 177,147 seq" in caption_of(found[name])
    assert "at most 4,000 pairs of each valuation" in caption_of(found["distances"])


def test_deep_pairs_are_drawn_as_often_as_shallow_ones(large: Subject) -> None:
    pairs = large.pairs
    assert np.bincount(pairs.valuation).tolist() == [module.PAIRS_PER_VALUATION] * 11
    apart = np.abs(pairs.first - pairs.second)
    assert pairs.valuation[::53].tolist() == levels_of(apart[::53], 11)
    both = {int(i): point for i, point in zip(large.indices, large.points, strict=True)}
    known = [
        k
        for k, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True))
        if i in both and j in both
    ]
    assert len(known) > 100
    x, y = (np.stack([both[int(side[k])] for k in known]) for side in (pairs.first, pairs.second))
    assert pairs.distance[known] == pytest.approx(distances(x, y, 2.0), rel=1e-4, abs=1e-6)


def test_without_a_run_there_is_no_history(large: Subject) -> None:
    assert large.history == [] and large.name == "large.pt" and large.epoch == 7


def test_lines_that_are_none_are_no_epochs(run: Path, tmp_path: Path) -> None:
    lines = [b'{"epoch": 1}', b"\xff", b"[1]", b'{"epoch": "2"}', b"", b'{"epoch": true}']
    cut_off = [b'{"epoch": 5, "lr": 1}', b'{"epoch": 6']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines + cut_off))
    shutil.copy(run / "checkpoints" / "last.pt", tmp_path / "last.pt")
    assert [entry["epoch"] for entry in subject_of(tmp_path / "last.pt").history] == [1, 5]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        subject_of(tmp_path / "none.pt")
    with pytest.raises(TypeError):
        subject_of(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gpu"):
        subject_of(saved(tmp_path / "a.pt", TernaryVAE(2, 2, 4)), "gpu")
