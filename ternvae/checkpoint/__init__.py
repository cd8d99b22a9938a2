"""Checkpoint files: a dictionary of plain values and tensors, sealed, written whole or not at all.

A file is read in this order: its seal is compared with its bytes, its archive is looked through,
and only then is it parsed, by torch's restricted unpickler, which builds tensors and plain values
and executes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ternvae.checkpoint.arguments import file_path, unstorable
from ternvae.checkpoint.durable import copy_whole, write_whole
from ternvae.checkpoint.formats import FORMAT_VERSION, SEALED_SINCE, migrated
from ternvae.checkpoint.sealing import SealError, archive_problem, is_sealed, seal

__all__ = [
    "FORMAT_VERSION",
    "CheckpointError",
    "copy_whole",
    "load_checkpoint",
    "save_checkpoint",
    "write_whole",
]

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
    """A checkpoint file is missing, unreadable, damaged or does not hold what it should.

    Args:
        text: what is wrong; paths and what the file says may be in it, so whatever could move the
            cursor of a terminal is written as an escape.
    """

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def save_checkpoint(path: str | PathLike[str], contents: dict[str, Any]) -> None:
    """Write ``contents`` and the format version to ``path``, whole, sealed and durable.

    Args:
        path: the file to create or replace.
        contents: tensors and plain values, in lists, tuples and dictionaries, by name.

    Raises:
        CheckpointError: a required entry is missing, or one could not be read back; nothing is
            written.
        TypeError: ``path`` is not a path, or ``contents`` are not entries by name.
        ValueError: ``path`` is no possible name of a file.
        OSError: the file cannot be written; what was there before still is.
    """
    target = file_path("path", path)
    if not isinstance(contents, Mapping):
        raise TypeError(
            f"contents must be a dictionary of entries by name, got {type(contents).__name__}"
        )
    missing = [key for key in _REQUIRED if key not in contents]
    if missing:
        raise CheckpointError(f"a checkpoint needs {', '.join(missing)}")
    if problem := unstorable(contents):
        raise CheckpointError(
            f"{problem}, which could not be read back; a checkpoint holds tensors and plain values "
            "in lists, tuples and dicts, so convert it, for instance with float(), dict() or "
            "torch.as_tensor()"
        )
    whole = {**contents, "format_version": FORMAT_VERSION}

    def write(file: BinaryIO) -> None:
        try:
            torch.save(whole, file)
        except RuntimeError as error:
            # Torch tells what it made of a full disk, and that there was one only in passing.
            reason: BaseException | None = error
            while reason is not None and not isinstance(reason, OSError):
                reason = reason.__context__
            raise reason or error from None
        seal(file)

    write_whole(target, write)


def load_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in the file is executed.

    Older formats are brought up to today's; ``format_version`` says what the file had.

    Args:
        path: the file.

    Returns:
        What was saved by name, tensors on the CPU.

    Raises:
        CheckpointError: no such file, a damaged one, not a checkpoint, or one of a newer format.
        TypeError: ``path`` is not a path.
        ValueError: ``path`` is no possible name of a file.
    """
    source = file_path("path", path)
    try:
        if not source.is_file():
            raise CheckpointError(f"{path}: no such checkpoint file{_meant(source)}")
        with source.open("rb") as file:
            sealed, contents = _read(path, file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    version = contents.get("format_version") if isinstance(contents, dict) else None
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: not a checkpoint of ternvae (no format_version)")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written in format {version}, this version of ternvae reads up to "
            f"{FORMAT_VERSION}; install a newer one"
        )
    if version >= SEALED_SINCE and not sealed:
        raise CheckpointError(
            f"{path}: damaged: a checkpoint of format {version} ends with the SHA-256 of its "
            "bytes, and this one does not; take another checkpoint of the run"
        )
    missing = [key for key in _REQUIRED if key not in contents]
    if missing:
        raise CheckpointError(f"{path}: incomplete checkpoint, without {', '.join(missing)}")
    return migrated(dict(contents))


def _meant(missing: Path) -> str:
    """The checkpoint that a run's folder, or a name in it, stands for most likely; or nothing."""
    folder = missing.parent / "checkpoints"
    for file in (missing / "checkpoints" / "last.pt", missing / "last.pt", folder / missing.name):
        if file.is_file():
            return f"; there is {file}"
    return ""


def _read(path: str | PathLike[str], file: BinaryIO) -> tuple[bool, Any]:
    """Whether the file is sealed, and what it holds."""
    try:
        sealed = is_sealed(file)
    except SealError as error:
        raise CheckpointError(
            f"{path}: damaged: {error}; take another checkpoint of the run"
        ) from error
    if problem := archive_problem(file, checksums=not sealed):
        raise CheckpointError(f"{path}: not a readable checkpoint: {problem}")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            # What torch finds odd in a foreign file is not the reader's concern.
            warnings.simplefilter("ignore")
            return sealed, torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # Misread as opcodes, foreign bytes make the unpickler raise KeyError, IndexError, TypeError
        # and others, so no shorter list would do.
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a readable checkpoint: {reason}") from error
