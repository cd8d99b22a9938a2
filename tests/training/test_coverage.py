"""Coverage taken over from a checkpoint: the same bits, or a refusal that names the way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import CheckpointError, save_checkpoint
from ternvae.config import load_profile
from ternvae.models import TernaryVAE
from ternvae.training.coverage import take_over_coverage

ARCHITECTURE: dict[str, Any] = {
    "n_digits": 3,
    "latent_dim": 4,
    "hidden_dim": 8,
    "projection_layers": 2,
    "max_radius": 0.9,
    "curvature": 1.0,
}
GUARDED = ("encoders.A.", "charts.A.", "decoder.")


def model_of(seed: int, **changes: Any) -> TernaryVAE:
    torch.manual_seed(seed)
    return TernaryVAE(**(ARCHITECTURE | changes))


def saved(model: TernaryVAE, path: Path) -> Path:
    contents: dict[str, Any] = {
        "model_state_dict": model.state_dict(),
        "model_config": model.config,
        "optimizer_state_dict": {},
        "epoch": 1,
        "comprehensive_metrics": {},
        "validation_results": {},
        "profile": load_profile("mathematical_foundation").to_dict(),
    }
    save_checkpoint(path, contents)
    return path


def is_ball(key: str) -> bool:
    return "ball." in key


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("float64", [False, True])
def test_encoder_a_its_chart_and_the_decoder_are_the_same_bits(
    dropout: float, float64: bool, tmp_path: Path
) -> None:
    """What shapes neither the weights nor their meaning may differ."""
    source = model_of(1)
    model = model_of(2, dropout=dropout, mathematical_precision=float64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    take_over_coverage(model, saved(source, tmp_path / "a.pt"))
    theirs = source.state_dict()
    for key, value in model.state_dict().items():
        expected = theirs if key.startswith(GUARDED) else before
        assert torch.equal(value, expected[key]), key
    if not float64:
        everything = torch.arange(27)
        points = model.embed(everything, "A")
        assert torch.equal(points, source.embed(everything, "A"))
        assert torch.equal(model.decode(points, "A"), source.decode(points, "A"))


@pytest.mark.parametrize(
    ("key", "theirs"),
    [
        ("space.n_digits", 4),
        ("model.latent_dim", 5),
        ("model.hidden_dim", 16),
        ("model.projection_layers", 1),
        ("model.max_radius", 0.95),
        ("model.curvature", 0.5),
    ],
)
def test_another_architecture_is_refused_by_the_name_of_its_key(
    key: str, theirs: float, tmp_path: Path
) -> None:
    name = key.split(".")[1]
    path = saved(model_of(1, **{name: theirs}), tmp_path / "a.pt")
    model = model_of(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as refusal:
        take_over_coverage(model, path)
    text = str(refusal.value)
    assert "frozen_checkpoint.path" in text
    assert str(path) in text
    assert f"set {key} to {theirs}" in text
    assert f"{ARCHITECTURE[name]}" in text
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("learns", [False, True])
def test_a_learned_curvature_is_taken_over_as_the_refusal_says(
    learns: bool, tmp_path: Path
) -> None:
    source = model_of(1, learnable_curvature=True)
    with torch.no_grad():
        source.ball.log_c_ratio.fill_(0.3)
    path = saved(source, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"set model\.curvature to ") as refusal:
        take_over_coverage(model_of(2), path)
    found = re.search(r"set model\.curvature to ([0-9.e+-]+)$", str(refusal.value))
    assert found
    curvature = float(found[1])
    model = model_of(2, curvature=curvature, learnable_curvature=learns)
    take_over_coverage(model, path)
    assert model.ball.c.item() == curvature
    assert model.ball.learnable is learns
    theirs = source.state_dict()
    for key, value in model.state_dict().items():
        if key.startswith(GUARDED) and not is_ball(key):
            assert torch.equal(value, theirs[key]), key
    everything = torch.arange(27)
    ours, wanted = (each.embed(everything, "A") for each in (model, source))
    assert torch.allclose(ours, wanted, atol=1e-6)
    # One curvature for all: none is left of a second one inside an encoder.
    assert all(each.ball is model.ball for each in model.modules() if hasattr(each, "ball"))


def test_a_curvature_that_is_to_be_learned_starts_at_that_of_the_checkpoint(
    tmp_path: Path,
) -> None:
    source, model = model_of(1), model_of(2, learnable_curvature=True)
    take_over_coverage(model, saved(source, tmp_path / "a.pt"))
    assert model.ball.learnable
    assert model.ball.c.item() == 1.0


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        take_over_coverage(model_of(0), tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        take_over_coverage(model_of(0), tmp_path / "text.pt")


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    path, model = saved(model_of(1), tmp_path / "a.pt"), model_of(2)
    state = torch.get_rng_state()
    take_over_coverage(model, path)
    assert torch.equal(torch.get_rng_state(), state)
