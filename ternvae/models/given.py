"""What functions of a model check first."""

from __future__ import annotations

from ternvae.models.vae import TernaryVAE

__all__ = ["check_model"]


def check_model(model: object) -> None:
    """Raise ``TypeError`` unless ``model`` is a :class:`TernaryVAE`."""
    if not isinstance(model, TernaryVAE):
        raise TypeError(f"model must be a TernaryVAE, got {type(model).__name__}: {model!r}")
