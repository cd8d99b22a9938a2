"""With what a run is executed: all that its last bits may depend on beside the profile."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.distributed as dist

from ternvae.manifolds.programs import available

__all__ = ["execution", "execution_differences"]

_PACKAGES = ("ternvae", "torch", "geoopt", "numpy")

#: What earlier versions did not say, for it could not be otherwise.
_UNSAID = {"processes": "1"}


def execution(device: torch.device) -> dict[str, str]:
    """What runs the training, in words, for a checkpoint.

    Args:
        device: where the model is.
    """
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "processes": str(_processes()),
        "threads": str(torch.get_num_threads()),
        "compiled tiles": "yes" if available() else "no",
        "deterministic algorithms": "yes" if torch.are_deterministic_algorithms_enabled() else "no",
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def execution_differences(before: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """What is executed in another way than before; empty if nothing is, or nothing is known.

    Args:
        before: from a checkpoint; None if it does not say.
        now: of this process.
    """
    if before is None:
        return []
    then = {name: before.get(name, _UNSAID.get(name)) for name in (*before, *now)}
    return [
        f"{name} {value or 'unknown'} then, {now.get(name, 'unknown')} now"
        for name, value in then.items()
        if value != now.get(name)
    ]


def _processes() -> int:
    together = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
