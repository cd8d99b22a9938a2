"""Checkpoints: what is loaded is what was saved, or it is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from ternvae import checkpoint, models
from ternvae.validation import specimens
from ternvae.validation.checks import CheckFunction, Finding, both, none_of

__all__ = ["CHECKS"]

#: Not the defaults, so that a loader that forgets the configuration is found out.
_CONFIG: dict[str, Any] = {
    "n_digits": 5,
    "latent_dim": 6,
    "hidden_dim": 24,
    "curvature": 0.5,
    "max_radius": 0.9,
}


class _Code:
    """Something that a file can only hold as code to run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path, ("never made",)


def _contents(model: models.TernaryVAE, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "model_state_dict": model.state_dict(),
        "model_config": model.config,
        "optimizer_state_dict": optimizer.state_dict(),
        "epoch": 3,
        "comprehensive_metrics": {"coverage": 1.0},
        "validation_results": {"coverage_precision": True},
        "profile": {"name": "custom"},
    }


def _trained(device: torch.device) -> tuple[models.TernaryVAE, torch.optim.Optimizer]:
    model = models.TernaryVAE(**_CONFIG).to(device)
    optimizer = specimens.train(model, specimens.batch_of(model.space, device), steps=2)
    return model.eval(), optimizer


def _round_trip(device: torch.device) -> Finding:
    model, optimizer = _trained(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        checkpoint.save_checkpoint(path, _contents(model, optimizer))
        loaded = models.TernaryVAE.from_checkpoint(path, device)
        stored = torch.load(path, map_location=device, weights_only=True)
    want = _tensors({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    got = _tensors({"model": loaded.state_dict(), "optimizer": stored["optimizer_state_dict"]})
    differing = sum(
        key not in got or not torch.equal(got[key].to(t.device), t) for key, t in want.items()
    )
    indices = torch.arange(model.space.size)
    moved = sum(
        int((model.embed(indices, branch) != loaded.embed(indices, branch)).any(-1).sum())
        for branch in specimens.BRANCHES
    )
    kept = loaded.config == model.config
    return both(
        none_of(differing, len(want), "tensors differ after save and load"),
        none_of(moved, 2 * len(indices), "embedded points do"),
        Finding(kept, "configuration " + ("kept" if kept else f"became {loaded.config}")),
    )


def _tensors(value: Any, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors of nested dictionaries, each under its path."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    found = {}
    if isinstance(value, dict):
        for key, part in value.items():
            found.update(_tensors(part, f"{path}/{key}"))
    return found


def _truncated(device: torch.device) -> Finding:
    model, optimizer = _trained(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        checkpoint.save_checkpoint(path, _contents(model, optimizer))
        whole = path.read_bytes()
        lengths = (0, 1, len(whole) // 4, len(whole) // 2, 3 * len(whole) // 4, len(whole) - 1)
        accepted = 0
        for length in lengths:
            path.write_bytes(whole[:length])
            accepted += not _refused(path)
    return none_of(accepted, len(lengths), "truncated files were accepted")


def _foreign(device: torch.device) -> Finding:
    """A file with code, one that is no checkpoint, and one that is not there."""
    model, optimizer = _trained(device)
    with tempfile.TemporaryDirectory() as folder:
        unsafe, other = Path(folder, "unsafe.pt"), Path(folder, "other.pt")
        contents = {**_contents(model, optimizer), "format_version": checkpoint.FORMAT_VERSION}
        torch.save({**contents, "profile": _Code()}, unsafe)
        torch.save({"weights": torch.zeros(3)}, other)
        paths = (unsafe, other, Path(folder, "missing.pt"))
        accepted = sum(not _refused(path) for path in paths)
    return none_of(
        accepted, len(paths), "files with code, without weights or missing were accepted"
    )


def _refused(path: Path) -> bool:
    """Whether loading ends in a CheckpointError; any other exception goes up."""
    try:
        checkpoint.load_checkpoint(path)
    except checkpoint.CheckpointError:
        return True
    return False


CHECKS: dict[str, CheckFunction] = {
    "save and load": _round_trip,
    "truncated files": _truncated,
    "foreign files": _foreign,
}
