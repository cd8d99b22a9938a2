"""Which models there are, where their files lie, and the hash that each must have."""

from __future__ import annotations

import hashlib
import reprlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ternvae.config.suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    import torch

    from ternvae.models import TernaryVAE

__all__ = ["SHELF", "Shelved", "available", "load", "path", "shelved"]


#: Longer ones are shown cut short.
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Shelved:
    """A model of the package, and how it was made; holds what it is given, check-free.

    Attributes:
        description: one line.
        sha256: of its file, in hexadecimal digits.
        profile: the shipped profile that it was trained with.
        seed: of the training run.
        made_with: the machine and the versions.
    """

    description: str
    sha256: str
    profile: str
    seed: int
    made_with: str


#: By name; the file of each is ``NAME.pt`` in this folder.
SHELF = {
    "mathematical_foundation": Shelved(
        description="all 19,683 sequences of 9 digits in 16 dimensions, every target met",
        sha256="3bdacc2bf76a7f12d1993ed64bcc97cc321e63881e4bbc4b467622bcbe8c8984",
        profile="mathematical_foundation",
        seed=0,
        made_with="x86-64 with AVX-512, Linux, Python 3.11.7, torch 2.13.0+cpu, geoopt 0.5.1, gcc",
    ),
}


def available() -> dict[str, str]:
    """The models that come with the package: a line about each, by name."""
    return {name: each.description for name, each in SHELF.items()}


def path(name: str) -> Path:
    """The file of a model, checked: a checkpoint, which ``ternvae analyze`` reads as any other.

    Args:
        name: one of :func:`available`.

    Returns:
        Where the file lies in the installed package; read it, and leave it as it is.

    Raises:
        TypeError: ``name`` is not a text.
        ValueError: there is no model of that name.
        CheckpointError: the file is missing, cannot be read, or is not the one that was shipped.
    """
    wanted = shelved(name).sha256
    file = Path(str(resources.files("ternvae.pretrained"))) / f"{name}.pt"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    else:
        if found == wanted:
            return file
        problem = f"damaged: its SHA-256 is {found}, and should be {wanted}"
    # Only here: this loads torch, and a path needs none.
    from ternvae.checkpoint import CheckpointError

    raise CheckpointError(f"{file}: {problem}; install ternvae again")


def load(name: str, device: str | torch.device = "cpu") -> TernaryVAE:
    """A trained model, ready for inference.

    The file is compared with its hash before it is read, and reading it executes nothing; see
    :mod:`ternvae.checkpoint`.

    Args:
        name: one of :func:`available`.
        device: where the model shall live: "cpu", "cuda" or "cuda:N".

    Returns:
        The model in evaluation mode, a new one with every call.

    Raises:
        TypeError: ``name`` is not a text.
        ValueError: there is no model of that name, or ``device`` is not available.
        CheckpointError: the file is missing, cannot be read, or is not the one that was shipped.
    """
    file = path(name)
    from ternvae.models import TernaryVAE

    return TernaryVAE.from_checkpoint(file, device)


def shelved(name: object) -> Shelved:
    """What is known of a model.

    Raises:
        TypeError: ``name`` is not a text.
        ValueError: there is no model of that name.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"name must be the name of a model, got {type(name).__name__}: {reprlib.repr(name)}"
        )
    if name not in SHELF:
        near = nearest(name, SHELF)
        question = did_you_mean([near]) if near else f"there is {', '.join(SHELF)}"
        told = repr(name) if len(name) <= _LONGEST_NAME else reprlib.repr(name)
        raise ValueError(f"name: no model {told} comes with ternvae; {question}")
    return SHELF[name]
