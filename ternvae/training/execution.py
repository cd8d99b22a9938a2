"""With what a run is executed: all that its last bits may depend on beside the profile."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.distributed as dist

from ternvae.manifolds.programs import available
from ternvae.models import dense

__all__ = ["execution", "execution_differences"]

_PACKAGES = ("ternvae", "torch", "geoopt", "numpy")

#: What earlier versions did not say: it could not be otherwise, or nobody had changed it.
_UNSAID = {"processes": "1", "float32 products": "highest", "compiled layers": "no"}


def execution(device: torch.device) -> dict[str, str]:
    """What runs the training, in words, for a checkpoint.

    Whether steps are CUDA graphs is not part of it: they give the bits of steps run one by one, and
    the profile says what was asked for.

    Args:
        device: where the model is.
    """
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "processes": str(_processes()),
        "threads": str(torch.get_num_threads()),
        "compiled tiles": "yes" if available() else "no",
        "compiled layers": "yes" if dense.available() else "no",
        "float32 products": _precision(cuda),
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


def _precision(cuda: bool) -> str:
    """How matrix products of float32 are taken: "highest", or the name of what is faster."""
    backend = torch.backends.cuda if cuda else torch.backends.mkldnn
    # What torch.set_float32_matmul_precision says cannot be asked for where somebody has used the
    # newer attributes; these tell what either of the two has set.
    chosen: str = backend.matmul.fp32_precision
    return "highest" if chosen in ("none", "ieee") else chosen


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
