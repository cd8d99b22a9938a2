"""Checkpoint files: a dictionary of plain values and tensors, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import torch

__all__ = ["FORMAT_VERSION", "CheckpointError", "load_checkpoint", "save_checkpoint", "write_whole"]

#: 2: the charts of the branches are the model's own, in format 1 they were the decoder's.
FORMAT_VERSION = 2

_REQUIRED = (
    "model_state_dict",
    "model_config",
    "optimizer_state_dict",
    "epoch",
    "comprehensive_metrics",
    "validation_results",
    "profile",
)


class CheckpointError(ValueError):
    """A checkpoint file is missing, unreadable or does not hold what it should."""


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Args:
        path: the file to create or replace.
        write: called with a binary file to fill.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_checkpoint(path: str | PathLike[str], contents: dict[str, Any]) -> None:
    """Write ``contents`` and the format version to ``path``; see :func:`write_whole`."""
    missing = [key for key in _REQUIRED if key not in contents]
    if missing:
        raise CheckpointError(f"a checkpoint needs {', '.join(missing)}")
    whole = {**contents, "format_version": FORMAT_VERSION}
    write_whole(Path(path), lambda file: torch.save(whole, file))


def load_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in the file is executed.

    Raises:
        CheckpointError: no such file, not a checkpoint, or one of a newer format.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Misread as opcodes, foreign bytes make the unpickler raise KeyError, IndexError, TypeError
        # and others, so no shorter list would do.
        raise CheckpointError(f"{path}: not a readable checkpoint: {error}") from error
    version = contents.get("format_version") if isinstance(contents, dict) else None
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{path}: not a checkpoint of ternvae (no format_version)")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written in format {version}, this version of ternvae reads up to "
            f"{FORMAT_VERSION}; install a newer one"
        )
    missing = [key for key in _REQUIRED if key not in contents]
    if missing:
        raise CheckpointError(f"{path}: incomplete checkpoint, without {', '.join(missing)}")
    return _from_format_1(contents) if version == 1 else dict(contents)


def _from_format_1(contents: dict[str, Any]) -> dict[str, Any]:
    """The same with today's names of the weights; its progress belongs to another trainer."""
    kept = {key: value for key, value in contents.items() if key != "progress"}
    weights = contents["model_state_dict"]
    if isinstance(weights, dict):  # anything else is for the model to refuse
        # The decoder referred to the ball, which has been under its own name as well.
        gone = "decoder.ball.c_reference"
        kept["model_state_dict"] = {_new_name(k): v for k, v in weights.items() if k != gone}
    progress = contents.get("progress")
    best = progress.get("best") if isinstance(progress, dict) else None
    kept["metrics_epoch"] = best.get("epoch") if isinstance(best, dict) else None
    return kept


def _new_name(name: Any) -> Any:
    for old, new in (("decoder.charts.", "charts."), ("decoder.trunk.", "decoder.")):
        if isinstance(name, str) and name.startswith(old):
            return new + name.removeprefix(old)
    return name
