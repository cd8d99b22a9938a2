"""Older formats of a checkpoint, brought up to today's.

1: the charts of the branches were the decoder's; 2: they are the model's own; 3: a run can stand
inside an epoch, and the file is sealed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FORMAT_VERSION", "SEALED_SINCE", "migrated"]

FORMAT_VERSION = 3

#: Files of this format and later ones bear a seal; see `ternvae.checkpoint.sealing`.
SEALED_SINCE = 3


def migrated(contents: dict[str, Any]) -> dict[str, Any]:
    """The same in today's format, but for ``format_version``, which says what the file had."""
    version = contents["format_version"]
    if version < 2:
        contents = _from_format_1(contents)
    if version < 3 and "progress" in contents:
        contents = _from_format_2(contents)
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


def _from_format_2(contents: dict[str, Any]) -> dict[str, Any]:
    """Runs were saved between epochs only, and did not say where they were run."""
    return {
        **contents,
        "step": 0,
        "within_epoch": None,
        "execution": None,
        "record_bytes": {},
    }
