"""How much of what the model says is rounding."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn

from ternvae import losses, manifolds
from ternvae.validation import specimens
from ternvae.validation.checks import CheckFunction, Finding, at_most, none_of, worst

__all__ = ["CHECKS"]

#: Rounding may shift a radius by this part of the margin that keeps two levels apart.
_PART_OF_MARGIN = 1e-3

_WIDTH = 64

#: Half a unit in the last place of bfloat16, relative: eight significant bits.
_BFLOAT16_ROUNDING = 2.0**-9


def _float32(device: torch.device) -> Finding:
    """The radii of all sequences in float32 and in float64, with the same weights."""
    model = specimens.fresh_model(device)
    wide = copy.deepcopy(model).double()
    indices = torch.arange(model.space.size)
    errors = []
    for branch in specimens.BRANCHES:
        narrow_radius = model.ball.dist0(model.embed(indices, branch)).double()
        wide_radius = wide.ball.dist0(wide.embed(indices, branch))
        errors.append(float((narrow_radius - wide_radius).abs().max()))
    shell = float(model.ball.hyperbolic_radius_max) / (model.space.n_digits + 1)
    bar = _PART_OF_MARGIN * losses.SEPARATION_MARGIN * shell
    return at_most("radii differ from float64 by", worst(errors), bar)


def _bfloat16(device: torch.device) -> Finding:
    """A hidden layer under autocast: both factors and the result are rounded to bfloat16."""
    if not _has_bfloat16(device):
        return Finding(True, f"not available on {device.type}; leave training.use_amp off")
    layer = torch.nn.Linear(_WIDTH, _WIDTH, bias=False).to(device, torch.float32)
    x = torch.randn(256, _WIDTH, device=device, dtype=torch.float32)
    with torch.no_grad():
        with torch.autocast(device.type, dtype=torch.bfloat16):
            got = layer(x)
        if got.dtype != torch.bfloat16:
            return Finding(False, f"autocast to bfloat16 gave {got.dtype}")
        weight, wide = layer.weight.double(), x.double()
        size = wide.abs() @ weight.abs().mT
        error = float(((got.double() - wide @ weight.mT).abs() / size).max())
    # Three roundings, and a little for their products and the sum in float32.
    return at_most("available; a layer is off by", error, 3.1 * _BFLOAT16_ROUNDING)


def _geometry_under_autocast(device: torch.device) -> Finding:
    """Rounded features may move a point; from features to point nothing may be rounded again."""
    if not _has_bfloat16(device):
        return Finding(True, f"not available on {device.type}; leave training.use_amp off")
    model = specimens.fresh_model(device)
    batch = specimens.batch_of(model.space, device)
    moved = total = 0
    for branch in specimens.BRANCHES:
        encoder = model.encoder(branch)
        seen: list[Tensor] = []
        hook = encoder.features.register_forward_hook(partial(_keep_output, seen))
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            got = model(batch.sequences, batch.valuation, branch).points
        hook.remove()
        hook = encoder.features.register_forward_hook(partial(_say_again, seen[0].float()))
        with torch.no_grad():
            wanted = encoder.centres(batch.sequences)
        hook.remove()
        if got.dtype != torch.float32:
            return Finding(False, f"points of branch {branch} came out as {got.dtype}")
        moved += int((got != wanted).any(-1).sum())
        total += len(got)
    return none_of(moved, total, "points differ from those of the same features in float32")


def _keep_output(seen: list[Tensor], module: nn.Module, inputs: object, output: Tensor) -> None:
    seen.append(output)


def _say_again(features: Tensor, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return features


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return torch.amp.is_autocast_available(device.type)


def _half_precision_points(device: torch.device) -> Finding:
    """Sixteen bits cannot say on which side of the rim a point is, so the ball must refuse them."""
    ball = manifolds.PoincareBall().to(device)
    dtypes = (torch.float16, torch.bfloat16)
    accepted = 0
    for dtype in dtypes:
        try:
            ball.dist0(torch.zeros(1, 2, dtype=dtype, device=device))
            accepted += 1
        except TypeError:
            continue
    return none_of(accepted, len(dtypes), "sixteen-bit formats are accepted as points")


CHECKS: dict[str, CheckFunction] = {
    "float32 against float64": _float32,
    "bfloat16 autocast": _bfloat16,
    "geometry under autocast": _geometry_under_autocast,
    "no points in sixteen bits": _half_precision_points,
}
