"""Settings that answer a warning sign, each with a better value than the one it has.

A remedy is text, ``key: value``, with a dotted key and a value as YAML writes it, and sometimes a
reason in parentheses.  Functions return lists of none or more: there is no remedy for a key that
the settings do not have, nor one that leaves a value as it is or moves it the wrong way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "Settings",
    "calmer",
    "down",
    "for_hierarchy",
    "freeze_encoder_a",
    "number",
    "remedy",
    "slower",
    "switch",
    "thaw_encoder_a",
    "up",
]

#: A run's settings by dotted key.
Settings = Mapping[str, Any]

#: Of a profile that does not say otherwise; learning is fast there and still stable.
DEFAULT_LR = 3e-3

#: Slow enough for a run that has shown itself unstable.
CAUTIOUS_LR = 1e-4


def for_hierarchy(settings: Settings) -> tuple[str, ...]:
    """What gives the order of the levels more pull, and encoder B more time to follow it."""
    return (
        *up(settings, "loss_weights.hierarchy", 8.0, from_zero=5.0),
        *down(settings, "training.encoder_b_lr_scale", 0.05),
        *switch(settings, "homeostasis.enabled", True),
    )


def freeze_encoder_a(settings: Settings) -> list[str]:
    """What keeps encoder A as it was when it had its coverage."""
    remedies, path, scale = [], "frozen_checkpoint.path", "training.encoder_a_lr_scale"
    loaded = bool(settings.get(path))
    # A profile refuses a frozen encoder that has learned nothing, and a curvature that changes
    # under one; such settings go only together.
    fixed = ["with model.learnable_curvature: false"] * bool(
        settings.get("model.learnable_curvature")
    )
    if path in settings and not loaded:
        reasons = ["best_Q.pt of an earlier run", *fixed]
        remedies.append(remedy(path, "CHECKPOINT", ", ".join(reasons)))
    if number(settings, scale):
        learned = loaded or _learns_coverage_first(settings)
        reasons = [] if learned else [f"with a {path}"]
        reasons += [] if learned and not loaded else fixed
        remedies.append(remedy(scale, 0.0, ", ".join(reasons)))
    return remedies


def thaw_encoder_a(settings: Settings) -> list[str]:
    """A little learning for encoder A if it is, or will be, frozen by the settings."""
    key = "training.encoder_a_lr_scale"
    scale = settings.get(key, 1.0)
    # Without a scale it is 0 as soon as coverage has been learned.
    learned = settings.get("frozen_checkpoint.path") or _learns_coverage_first(settings)
    frozen = bool(learned) if scale is None else scale == 0
    return [remedy(key, 0.05, "0 keeps encoder A as it is")] * frozen


def _learns_coverage_first(settings: Settings) -> bool:
    first = number(settings, "curriculum.coverage_first_epochs") or 0
    return bool(settings.get("curriculum.enabled")) and first > 0


def calmer(settings: Settings) -> tuple[str, ...]:
    """What keeps a step from overshooting: a lower rate and shorter gradients."""
    # Under Adam the length of the gradient hardly matters, so clipping alone would not do.
    shorter = down(settings, "training.max_grad_norm", 0.5, reason="with the lower rate")
    return (*slower(settings, CAUTIOUS_LR), *shorter)


def slower(settings: Settings, *steps: float) -> list[str]:
    """A lower learning rate: one of the steps, or else half of the present one.

    Args:
        settings: the run's settings.
        *steps: rates to take if they are lower than the present one.
    """
    key = "training.lr"
    if (present := number(settings, key)) is None:
        return []
    reason = f"now {_scalar(present)}"
    if present > DEFAULT_LR:
        reason += f", {_scalar(DEFAULT_LR)} is the default"
    # A cycle cannot end above its peak, so a profile refuses a rate below eta_min.
    least = number(settings, "scheduler.eta_min") or 0.0
    return down(settings, key, *steps, least=least, reason=reason)


def up(
    settings: Settings,
    key: str,
    *steps: float,
    double: bool = True,
    from_zero: float | None = None,
) -> list[str]:
    """A higher value: the first of the steps that is one, or else twice the present value.

    Args:
        settings: the run's settings.
        key: which of them.
        *steps: values to take, in this order.
        double: False where only the steps will do.
        from_zero: what to take instead if the present value is 0.
    """
    if (present := number(settings, key)) is None:
        return []
    if present == 0 and from_zero is not None:
        return [remedy(key, from_zero)]
    candidates = (*steps, _rounded(2 * present)) if double else steps
    return [remedy(key, wanted) for wanted in candidates if present < wanted < math.inf][:1]


def down(
    settings: Settings,
    key: str,
    *steps: float,
    halve: bool = True,
    least: float = 0.0,
    reason: str = "",
) -> list[str]:
    """A lower value above 0: the first of the steps that is one, or else half the present value.

    Args:
        settings: the run's settings.
        key: which of them.
        *steps: values to take, in this order.
        halve: False where only the steps will do.
        least: the lowest value allowed.
        reason: goes with the remedy.
    """
    if (present := number(settings, key)) is None:
        return []
    half = present // 2 if isinstance(present, int) else _rounded(present / 2)
    candidates = (*steps, half) if halve else steps
    return [
        remedy(key, wanted, reason)
        for wanted in candidates
        if 0 < wanted < present and wanted >= least
    ][:1]


def switch(settings: Settings, key: str, value: bool) -> list[str]:
    """The other position of a switch, if it is not at ``value`` yet."""
    return [remedy(key, value)] if settings.get(key) is (not value) else []


def remedy(key: str, value: float | str, reason: str = "") -> str:
    """One remedy as text."""
    return f"{key}: {_scalar(value)}" + (f" ({reason})" if reason else "")


def number(settings: Settings, key: str) -> float | None:
    """The present value of a numeric key; None where it is not set."""
    value = settings.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _scalar(value: float | str) -> str:
    """As YAML writes it: 1.0e-4, since YAML 1.1 takes 1e-4 for text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 0.01 <= abs(value) < 1e6:
        return f"{float(f'{value:.6g}')!r}"
    mantissa, exponent = f"{value:.5e}".split("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}e{int(exponent):+d}"
