"""Which device a run uses."""

from __future__ import annotations

import torch

__all__ = ["choose_device"]


def choose_device(wanted: str) -> torch.device:
    """The device for "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: no such device here; the message names those that there are.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    name = f"cuda:{device.index or 0}" if device and device.type == "cuda" else str(device)
    if device is None or name not in there:
        raise ValueError(f"device: {wanted!r} is not there; choose from {', '.join(there)}")
    return device
