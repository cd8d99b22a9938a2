"""Which device a run uses, and how much fits there."""

from __future__ import annotations

import os
import reprlib

import torch

from ternvae.metrics import evaluation_bytes
from ternvae.padic import TernarySpace

__all__ = ["check_memory", "choose_device", "is_out_of_memory", "memory_of"]


def choose_device(wanted: str) -> torch.device:
    """The device for "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        TypeError: what is given is not a name of a device.
        ValueError: no such device here; the message names those that there are.
    """
    if not isinstance(wanted, str | torch.device):
        raise TypeError(f"device must be a name such as 'cpu', got {type(wanted).__name__}")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    name = f"cuda:{device.index or 0}" if device and device.type == "cuda" else str(device)
    if device is None or name not in there:
        told = reprlib.repr(wanted)
        raise ValueError(f"device: {told} is not there; choose from {', '.join(there)}")
    return device


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that the device has in all; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


def check_memory(space: TernarySpace, latent_dim: int, device: torch.device) -> None:
    """Check that the space can be measured on the device, which takes more than a step of training.

    Raises:
        ValueError: there is less memory than that takes.
    """
    needed, there = evaluation_bytes(space, latent_dim), memory_of(device)
    if there is not None and needed > there:
        raise ValueError(
            f"space.n_digits: to measure the 3^{space.n_digits} = {space.size} sequences in "
            f"{latent_dim} dimensions takes about {needed / 2**30:.3g} GiB, and {device} has "
            f"{there / 2**30:.3g} GiB; take fewer digits or a smaller model.latent_dim"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has run out, on an accelerator or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The host's allocator, CUDA itself and its libraries raise a plain RuntimeError, so only its
    # text tells.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        said in text
        for said in (
            *("can't allocate memory", "not enough memory", "bad_alloc"),
            *("error: out of memory", "status_alloc_failed"),
        )
    )
