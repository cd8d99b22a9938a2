"""Coverage taken over from an earlier run."""

from __future__ import annotations

from os import PathLike

from ternvae.checkpoint import CheckpointError
from ternvae.models import TernaryVAE

__all__ = ["take_over_coverage"]

#: What both models must have in common for encoder A and the decoder to mean the same.
_SHARED = ("n_digits", "latent_dim", "hidden_dim", "projection_layers", "max_radius")


def take_over_coverage(model: TernaryVAE, path: str | PathLike[str]) -> None:
    """Copy encoder A, its chart and the decoder of a checkpoint into a model.

    Args:
        model: changed in place; its encoder B, chart B and prototypes stay as they are.
        path: a checkpoint of a run with the same architecture.

    Raises:
        CheckpointError: the file cannot be used, or its model differs; the key, both values and the
            way out are named.
    """
    source = TernaryVAE.from_checkpoint(path)
    for key in _SHARED:
        theirs, ours = source.config[key], model.config[key]
        if theirs != ours:
            section = "space" if key == "n_digits" else "model"
            raise CheckpointError(
                f"frozen_checkpoint.path: {path} has {section}.{key} {theirs}, the profile has "
                f"{ours}; set {section}.{key} to {theirs}"
            )
    theirs, ours = source.ball.c.item(), model.ball.c.item()
    if theirs != ours:
        raise CheckpointError(
            f"frozen_checkpoint.path: {path} has curvature {theirs!r}, the profile has {ours!r}; "
            f"set model.curvature to {theirs!r}"
        )
    for into, module in zip(model.coverage_modules(), source.coverage_modules(), strict=True):
        if into is not model.ball:
            # The ball is in the encoder too.  The curvatures are equal, so each model keeps its
            # own: only one of them may be learnable.
            taken = {k: v for k, v in module.state_dict().items() if ".ball." not in k}
            into.load_state_dict(into.state_dict() | taken)
