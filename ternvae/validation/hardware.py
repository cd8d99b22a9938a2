"""What there is to compute with, and whether it computes."""

from __future__ import annotations

import os

import torch

from ternvae import manifolds, metrics, padic
from ternvae.validation import specimens
from ternvae.validation.checks import ACCURACY, CheckFunction, Finding, at_most, both

__all__ = ["CHECKS"]

_GIB = 2**30
_INNER = 256
_LATENT_DIM = 16


def _gpu(device: torch.device) -> Finding:
    if device.type == "cuda":
        # Raises what CUDA has to say if it cannot be used.
        return both(Finding(True, _description(device)), _product(device), _distance(device))
    if torch.cuda.is_available():
        there = _description(torch.device("cuda"))
        return Finding(True, f"{there}, is there; these checks run on the {device.type}")
    return Finding(True, "none: torch sees no GPU, training runs on the CPU")


def _description(device: torch.device) -> str:
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} with {properties.total_memory / _GIB:.1f} GiB"


def _product(device: torch.device) -> Finding:
    """A float32 matrix product, to the worst rounding of its sums; reduced formats fail it."""
    a = specimens.random_points(torch.ones(_INNER), _INNER, 1).float()
    b = specimens.random_points(torch.ones(_INNER), _INNER, 2).float().mT
    got = (a.to(device) @ b.to(device)).cpu().double()
    # Rows of a and columns of b have length 1, which bounds the sums of absolute products.
    error = float((got - a.double() @ b.double()).abs().max())
    return at_most("matrix product off by", error, _INNER * torch.finfo(torch.float32).eps)


def _distance(device: torch.device) -> Finding:
    norms = torch.linspace(0.1, 0.95, 1000)
    x, y = (specimens.random_points(norms, _LATENT_DIM, seed).float() for seed in (1, 2))
    got = manifolds.PoincareBall().to(device).dist(x.to(device), y.to(device)).cpu().double()
    want = manifolds.PoincareBall().dist(x.double(), y.double())
    error = float(((got - want) / want).abs().max())
    return at_most("distances off by", error, ACCURACY[torch.float32])


def _host_memory(device: torch.device) -> Finding:
    space = padic.TernarySpace()
    needed = metrics.evaluation_bytes(space, _LATENT_DIM)
    purpose = f"{needed / 2**20:.1f} MiB to evaluate all {space.size:,} sequences"
    there = _bytes_of_host()
    if there is None:
        return Finding(True, f"{purpose}; this system does not tell how much it has")
    return Finding(needed <= there, f"{there / _GIB:.1f} GiB in all; {purpose}")


def _bytes_of_host() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


CHECKS: dict[str, CheckFunction] = {"gpu": _gpu, "host memory": _host_memory}
