"""What tells early that a run goes wrong, and which settings answer it.

One pure function per sign judges figures against thresholds and a run's settings; `WarningSigns`
keeps the little memory that a run needs for it.  Nothing here stops or changes a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import Any

from ternvae.training.remedies import (
    Settings,
    calmer,
    down,
    for_hierarchy,
    freeze_encoder_a,
    number,
    remedy,
    slower,
    switch,
    thaw_encoder_a,
    up,
)

__all__ = ["WarningSign", "WarningSigns"]

#: A run whose hierarchy is still above this with half of its epochs done has not found the order.
STALLED_HIERARCHY = -0.3

#: Nothing is said of hierarchy and richness before so many epochs: a model that has hardly been
#: trained has neither.
LEAST_EPOCHS = 5

#: How far a loss may exceed that of the first step by chance: batches differ, samples are drawn,
#: and with few steps per epoch the warm-up has hardly begun when the first epoch ends.
FIRST_STEP_NOISE = 1.5

#: Below this in absolute value a mean loss is as good as 0, and so are its gradients.
VANISHED_LOSS = 1e-8

#: Some points touch the limit of the ball in every run; more than this share means that they pile
#: up there, where clipping makes their radii equal.
SHARE_AT_LIMIT = 0.01

#: The most batches that a profile allows for one step.
MOST_ACCUMULATED = 10**4

#: What to set a weight to that is 0.
_USUAL_WEIGHTS = {
    "loss_weights.coverage": 1.0,
    "loss_weights.hierarchy": 5.0,
    "loss_weights.richness": 2.5,
    "loss_weights.separation": 3.0,
    "loss_weights.ultrametric": 1.0,
    "loss_weights.kl": 1e-3,
}


@dataclass(frozen=True)
class WarningSign:
    """Something in the figures of a run that a person should look at.

    Attributes:
        name: which sign, for programs.
        epoch: after which it was seen.
        message: the figure that was seen and its threshold, in one line.
        remedies: settings to try, each ``key: value``, some with a reason in parentheses behind
            it; empty only if every setting that could help is at its end already.
    """

    name: str
    epoch: int
    message: str
    remedies: tuple[str, ...]

    def __str__(self) -> str:
        if not self.remedies:
            return f"{self.message}; no setting is left to try"
        *others, last = self.remedies
        return f"{self.message}; try {', '.join(others)}{' or ' if others else ''}{last}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "remedies": list(self.remedies)}


class WarningSigns:
    """Watches one run and reports each sign once.

    Args:
        settings: the run's settings by dotted key.  A remedy is offered only for keys that are
            here, and never with the value they have.
        coverage_floor: coverage that must not be lost again once it is reached.
        richness_floor: least richness.
        loss_ceiling: a loss above this is high once it has been lower.
        epochs: length of the run.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        coverage_floor: float = 0.95,
        richness_floor: float = 0.001,
        loss_ceiling: float = 10.0,
        epochs: int,
    ) -> None:
        self._settings = settings
        self._coverage_floor = coverage_floor
        self._richness_floor = richness_floor
        self._loss_ceiling = loss_ceiling
        self._epochs = epochs
        self.restore([])

    @property
    def seen(self) -> list[str]:
        """Names of the signs so far, in their order."""
        return list(self._seen)

    def state(self) -> list[Any]:
        """What has been seen so far, in plain values for a checkpoint."""
        return [list(self._seen), self._first_loss, self._loss_was_low, self._coverage_reached]

    def restore(self, state: list[Any]) -> None:
        """The inverse of :meth:`state`; an empty list is a run that has seen nothing."""
        seen, first_loss, loss_was_low, coverage_reached = state or ([], None, False, False)
        self._seen: list[str] = list(seen)
        self._first_loss: float | None = first_loss
        self._loss_was_low: bool = loss_was_low
        self._coverage_reached: bool = coverage_reached

    def after_first_step(self, loss: float) -> None:
        """Note the loss of an untrained model; only the first finite one of a run counts."""
        if self._first_loss is None and math.isfinite(loss):
            self._first_loss = float(loss)

    def after_epoch(
        self, epoch: int, losses: Mapping[str, float], *, weights_rising: bool = False
    ) -> list[WarningSign]:
        """Judge the mean losses of an epoch.

        Args:
            epoch: the epoch, from 1.
            losses: ``total`` and the terms by name.
            weights_rising: a curriculum raised a weight for this epoch.  The total then grows by
                design and compares with no earlier one, so it is not judged as too high.

        Returns:
            The signs that are new.
        """
        if not_finite := _not_finite(losses):
            return self.non_finite(epoch, not_finite)
        total, high = losses["total"], None
        if weights_rising:
            self._loss_was_low = False
        else:
            high = _loss_high(
                self._settings,
                epoch,
                total,
                ceiling=self._loss_ceiling,
                first=self._first_loss,
                was_low=self._loss_was_low,
            )
            self._loss_was_low |= bool(total <= self._loss_ceiling)
        return self._new(high, _loss_collapsed(self._settings, epoch, total))

    def after_coverage(self, epoch: int, coverage: float) -> list[WarningSign]:
        """Judge coverage, which is measured more often than the other metrics.

        Args:
            epoch: the epoch, from 1; 0 for coverage that is taken over from a checkpoint.
            coverage: through branch A.

        Returns:
            The sign if it is new.
        """
        floor = self._coverage_floor
        dropped = _coverage_drop(self._settings, epoch, coverage, floor=floor)
        new = self._new(dropped if self._coverage_reached else None)
        self._coverage_reached |= bool(coverage >= floor)  # NumPy's own would not be plain
        return new

    def after_evaluation(
        self,
        epoch: int,
        metrics: Mapping[str, float],
        *,
        tied_share: float,
        collapsed: bool,
        share_at_limit: float,
        richness_expected: bool,
        hierarchy_expected: bool = True,
    ) -> list[WarningSign]:
        """Judge the metrics of an evaluated epoch.

        Args:
            epoch: the epoch, from 1.
            metrics: the metrics by name, without those that the space leaves undefined.
            tied_share: share of the radii that equal another one of their level.
            collapsed: whether the hierarchy is beyond what distinct radii allow.
            share_at_limit: share of the points at ``max_radius``.
            richness_expected: whether richness has had its weight by now.
            hierarchy_expected: whether hierarchy has had its weight by now.

        Returns:
            The signs that are new.
        """
        settings, nan = self._settings, math.nan
        hierarchy = metrics.get("hierarchy_B", nan) if hierarchy_expected else nan
        richness = metrics.get("richness", nan) if richness_expected else nan
        new = self.after_coverage(epoch, metrics.get("coverage", nan))
        new += self._new(
            _hierarchy_positive(settings, epoch, hierarchy),
            _hierarchy_stalled(settings, epoch, hierarchy, epochs=self._epochs),
            _richness_low(settings, epoch, richness, floor=self._richness_floor),
            _radii_tied(settings, epoch, tied_share) if collapsed else None,
            _points_at_limit(settings, epoch, share_at_limit),
        )
        if not_finite := _not_finite(metrics):
            new += self.non_finite(epoch, not_finite)
        return new

    def out_of_memory(self, epoch: int, text: str) -> list[WarningSign]:
        """Answer an exception that says there is no memory left.

        Args:
            epoch: the epoch that was not finished.
            text: what the exception says.
        """
        return self._new(_out_of_memory(self._settings, epoch, text))

    def non_finite(self, epoch: int, terms: Iterable[str]) -> list[WarningSign]:
        """Answer losses or metrics that are NaN or infinite.

        Args:
            epoch: the epoch.
            terms: their names; without any there is no sign.
        """
        return self._new(_non_finite(self._settings, epoch, tuple(terms)))

    def _new(self, *signs: WarningSign | None) -> list[WarningSign]:
        new = [sign for sign in signs if sign and sign.name not in self._seen]
        self._seen += [sign.name for sign in new]
        return new


# --- one function per sign; comparisons with NaN are false, so NaN raises none of them ---------


def _coverage_drop(
    settings: Settings, epoch: int, coverage: float, *, floor: float
) -> WarningSign | None:
    if not coverage < floor:
        return None
    return WarningSign(
        "coverage_drop",
        epoch,
        f"coverage fell to {coverage:.6g}, under {floor:g} where it had been",
        (
            *freeze_encoder_a(settings),
            *up(settings, "loss_weights.coverage", 2.0),
            *slower(settings),
        ),
    )


def _hierarchy_positive(settings: Settings, epoch: int, hierarchy: float) -> WarningSign | None:
    if not (hierarchy > 0 and epoch >= LEAST_EPOCHS):
        return None
    message = f"hierarchy_B is {hierarchy:.6g}, above 0: the levels lie in reverse order"
    return WarningSign("hierarchy_positive", epoch, message, for_hierarchy(settings))


def _hierarchy_stalled(
    settings: Settings, epoch: int, hierarchy: float, *, epochs: int
) -> WarningSign | None:
    if not (hierarchy > STALLED_HIERARCHY and epoch >= max(LEAST_EPOCHS, epochs / 2)):
        return None
    message = (
        f"hierarchy_B is {hierarchy:.6g}, above {STALLED_HIERARCHY:g} with {epoch} of {epochs} "
        "epochs done"
    )
    return WarningSign("hierarchy_stalled", epoch, message, for_hierarchy(settings))


def _richness_low(
    settings: Settings, epoch: int, richness: float, *, floor: float
) -> WarningSign | None:
    if not (richness < floor and epoch >= LEAST_EPOCHS):
        return None
    return WarningSign(
        "richness_low",
        epoch,
        f"richness is {richness:.6g}, under {floor:g}",
        (
            *up(settings, "loss_weights.richness", 2.5),
            *down(settings, "loss_weights.hierarchy", 5.0),
        ),
    )


def _loss_high(
    settings: Settings,
    epoch: int,
    total: float,
    *,
    ceiling: float,
    first: float | None,
    was_low: bool,
) -> WarningSign | None:
    # Every run starts above the ceiling: two branches that guess the digits cost 2 n ln 3 nats.
    # So height alone says nothing; having risen does.
    if not total > ceiling:
        return None
    if was_low:
        message = f"the loss rose to {total:.6g}, above {ceiling:g} where it had fallen below"
    elif first is not None and total > FIRST_STEP_NOISE * first:
        message = (
            f"the loss is {total:.6g}, above {ceiling:g} and above the {first:.6g} of the first "
            "step"
        )
    else:
        return None
    return WarningSign("loss_high", epoch, message, calmer(settings))


def _loss_collapsed(settings: Settings, epoch: int, total: float) -> WarningSign | None:
    if not abs(total) < VANISHED_LOSS:
        return None
    remedies = [
        remedy(key, value, "it is 0")
        for key, value in _USUAL_WEIGHTS.items()
        if number(settings, key) == 0
    ]
    remedies += thaw_encoder_a(settings)
    # Of all terms hierarchy is the one that distinct radii never bring to 0.
    remedies = remedies or up(settings, "loss_weights.hierarchy", 8.0)
    message = f"the loss is {total:.6g}, under {VANISHED_LOSS:g}: nothing is being learned"
    return WarningSign("loss_collapsed", epoch, message, tuple(remedies))


def _non_finite(settings: Settings, epoch: int, terms: tuple[str, ...]) -> WarningSign | None:
    if not terms:
        return None
    # A total is not finite because a term is not; it says something only if it stands alone.
    names = [name for name in dict.fromkeys(terms) if name != "total"] or ["total"]
    return WarningSign(
        "non_finite",
        epoch,
        f"NaN or infinite: {', '.join(names)}",
        (
            *calmer(settings),
            # Only near the rim do rounding errors grow; inside 0.95 a smaller ball would cost room
            # for richness and gain nothing.
            *down(settings, "model.max_radius", 0.95, halve=False),
            *switch(settings, "model.mathematical_precision", True),
            *switch(settings, "training.use_amp", False),
        ),
    )


def _out_of_memory(settings: Settings, epoch: int, text: str) -> WarningSign:
    remedies = down(settings, "training.batch_size")
    accumulated = number(settings, "training.gradient_accumulation_steps")
    if remedies and accumulated and 2 * accumulated <= MOST_ACCUMULATED:
        # It saves nothing by itself: it only makes up for the smaller batch.
        reason = "keeps the effective batch size"
        key = "training.gradient_accumulation_steps"
        remedies.append(remedy(key, 2 * accumulated, reason))
    remedies += switch(settings, "training.use_amp", True)
    remedies += down(settings, "model.hidden_dim", 32)
    excerpt = shorten(text, 160, placeholder=" ...")
    message = f"out of memory: {excerpt}" if excerpt else "out of memory"
    return WarningSign("out_of_memory", epoch, message, tuple(remedies))


def _radii_tied(settings: Settings, epoch: int, tied_share: float) -> WarningSign | None:
    if not tied_share > 0:
        return None
    message = (
        f"{100 * tied_share:.3g} % of the radii are tied inside a level, which puts hierarchy_B "
        "beyond what distinct radii can reach"
    )
    remedies = (
        *up(settings, "loss_weights.richness", 2.5),
        *switch(settings, "model.mathematical_precision", True),
        *switch(settings, "training.use_amp", False),
    )
    return WarningSign("radii_tied", epoch, message, remedies)


def _points_at_limit(settings: Settings, epoch: int, share: float) -> WarningSign | None:
    if not share > SHARE_AT_LIMIT:
        return None
    return WarningSign(
        "points_at_limit",
        epoch,
        f"{100 * share:.3g} % of the points are at max_radius, over {100 * SHARE_AT_LIMIT:g} %",
        (
            *up(settings, "model.max_radius", 0.95, 0.99, double=False),
            # It pulls each level to the middle of its shell, the outermost away from the limit.
            *up(settings, "loss_weights.hierarchy", 8.0, from_zero=5.0),
            *slower(settings),
        ),
    )


def _not_finite(values: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(name for name, value in values.items() if not math.isfinite(value))
