"""Older formats of a checkpoint, brought up to today's.

1: the charts of the branches were the decoder's; 2: they are the model's own; 3: a run can stand
inside an epoch, and the file is sealed; 4: the directions of the encoders have a linear part, there
are thresholds, and the chart of branch B has several layers.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["FORMAT_VERSION", "SEALED_SINCE", "migrated"]

#: ``format_version`` of the checkpoints that this version writes.
FORMAT_VERSION = 4

#: Files of this format and later ones bear a seal; see `ternvae.checkpoint.sealing`.
SEALED_SINCE = 3


def migrated(contents: dict[str, Any]) -> dict[str, Any]:
    """The same in today's format, but for ``format_version``, which says what the file had."""
    version = contents["format_version"]
    if version < 2:
        contents = _from_format_1(contents)
    if version < 4:
        contents = _from_format_3(contents)
    return contents


def _from_format_1(contents: dict[str, Any]) -> dict[str, Any]:
    """With today's names of the weights; its progress belongs to another trainer."""
    kept = {key: value for key, value in contents.items() if key != "progress"}
    weights = contents["model_state_dict"]
    if isinstance(weights, dict):  # anything else is for the model to refuse
        # The decoder referred to the ball, which has been under its own name as well.
        gone = "decoder.ball.c_reference"
        kept["model_state_dict"] = {_new_name(k): v for k, v in weights.items() if k != gone}
    progress = contents.get("progress")
    best = progress.get("best") if isinstance(progress, dict) else None
    kept["metrics_epoch"] = best.get("epoch") if isinstance(best, dict) else None
    return kept


def _new_name(name: Any) -> Any:
    for old, new in (("decoder.charts.", "charts."), ("decoder.trunk.", "decoder.")):
        if isinstance(name, str) and name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _from_format_3(contents: dict[str, Any]) -> dict[str, Any]:
    """The same model in today's terms; what it did not have is zero, or NaN where that is no value.

    Its runs cannot go on, for the optimizer knows nothing of what is new.
    """
    weights, config = contents.get("model_state_dict"), contents.get("model_config")
    if not isinstance(weights, dict) or not isinstance(config, dict):
        return contents  # for the model to refuse
    try:
        weights = _with_linear_parts(weights, config)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        return contents
    kept = {key: value for key, value in contents.items() if key != "progress"}
    return {**kept, "model_state_dict": weights, "model_config": {**config, "chart_layers": 1}}


def _with_linear_parts(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    old, new = "charts.B.", "charts.B.0."
    found = {new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in weights.items()}
    n_digits: int = config["n_digits"]
    for branch in ("A", "B"):
        first = weights[f"encoders.{branch}.features.0.weight"]
        last = weights[f"encoders.{branch}.log_variance.bias"]
        place = f"encoders.{branch}.digits."
        found[place + "weight"] = last.new_zeros(len(last), first.shape[1])
        found[place + "bias"] = last.new_zeros(len(last))
    found["thresholds"] = weights["prototypes"].new_full((n_digits - 1,), math.nan)
    return found
