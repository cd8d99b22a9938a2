"""What a file says of its model, judged before a model of that size is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["stored_config"]

_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("n_digits", "latent_dim", "hidden_dim"), (int,)),
    **dict.fromkeys(("projection_layers", "chart_layers"), (int,)),
    **dict.fromkeys(("dropout", "curvature", "max_radius"), (float, int)),
    **dict.fromkeys(("learnable_curvature", "mathematical_precision"), (bool,)),
}

#: Nothing about a model is a larger number.
_LARGEST = 2**53


def stored_config(config: object, state: object) -> dict[str, Any]:
    """The keywords of a stored model, if its weights are there.

    A file of a few bytes could otherwise ask for a model of gigabytes.

    Args:
        config: ``model_config`` of a checkpoint.
        state: its ``model_state_dict``.

    Raises:
        ValueError: the keywords are not those of a model, or the weights are too few for them.
    """
    if not isinstance(config, dict) or not config.keys() <= _KINDS.keys():
        raise ValueError("model_config does not hold the keywords of a model")
    if missing := [name for name in ("n_digits", "latent_dim", "hidden_dim") if name not in config]:
        raise ValueError(f"model_config is without {', '.join(missing)}")
    for name, value in config.items():
        if type(value) not in _KINDS[name]:
            # The value itself may be of any size.
            raise ValueError(f"{name} is of type {type(value).__name__}")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"{name} is an integer of {value.bit_length()} bits")
    if not isinstance(state, dict) or not all(map(_is_dense, state.values())):
        raise ValueError("model_state_dict does not hold dense tensors")
    needed, there = _values_needed(**config), _values_there(state)
    if needed > there:
        raise ValueError(f"the model has more than {needed} values, the file {there}")
    return config


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _values_needed(
    n_digits: int,
    latent_dim: int,
    hidden_dim: int,
    projection_layers: int = 2,
    chart_layers: int = 2,
    **_: object,
) -> int:
    """The entries of the large matrices, which are nearly all that a model has."""
    square = hidden_dim * hidden_dim
    inside = (2 + 1 + 4 * (projection_layers - 1) + chart_layers - 1) * square
    return inside + hidden_dim * (4 * latent_dim + 3 * n_digits) + (7 * n_digits + 1) * latent_dim


def _values_there(state: dict[str, Tensor]) -> int:
    """The entries that are really stored, whatever shapes are laid over them."""
    storages = {each.untyped_storage().data_ptr(): each for each in state.values()}
    return sum(each.untyped_storage().nbytes() // each.element_size() for each in storages.values())
