"""When encoder A and encoder B are frozen and thawed: a small state machine on the metrics.

Freezing keeps what has been reached.  Encoder A goes with its chart and the decoder, which coverage
depends on; of encoder B the hidden layers rest, while its projection to the ball, its chart and the
prototypes go on, so that the spread of the levels can still be worked on.

================  ==========================================  =====================================
what              is frozen when                              thaws when
================  ==========================================  =====================================
encoder A and     coverage reaches the coverage threshold,    coverage lies below the threshold
the decoder       and coverage_B has met its target, if the   (which annealing may have raised), or
                  profile has one                             coverage_B below it by more than the
                                                              hysteresis, ``patience`` times
encoder B         hierarchy_B meets its target and has not    hierarchy_B is worse than its best by
                  gained the hierarchy threshold for          more than the hysteresis, ``patience``
                  ``patience`` evaluations, and Q is at       times, or Q lies below the Q threshold
                  the Q threshold                             as often
================  ==========================================  =====================================

A plateau short of the target freezes nothing: that is not rest but failure to develop.  Nor does
one that would thaw encoder B again, worse than its best by more than the hysteresis.

Branch B is read by the same decoder.  Where it, too, shall recover every sequence, the two learn
faster together than B does from a decoder that stands still; so A waits for B.

Once thawed for the sake of coverage_B, encoder A is not frozen again before coverage_B is back.

Annealing.  ``annealing_patience`` evaluations are a cycle.  If the best Q of one exceeds that of
all cycles before (in the first cycle: the first Q), the thresholds of coverage and of Q rise by
``annealing_step``, up to the target and up to the ceiling; otherwise they stay, since what was
asked for has not paid off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ternvae.training.events import Event

__all__ = ["Homeostasis", "HomeostasisState"]

#: Targets and metrics are stated to four decimals; see ``mathematical_precision``.
_STATED_DECIMALS = 4


@dataclass
class HomeostasisState:
    """All that changes; plain values, so that a checkpoint can hold them.

    Attributes:
        coverage_threshold: coverage at which A is frozen.
        q_threshold: least Q with which B may rest.
        a_frozen: whether encoder A and the decoder are frozen.
        b_frozen: whether the hidden layers of encoder B are.
        best_hierarchy: lowest hierarchy_B so far.
        plateau: evaluations in a row without a gain in hierarchy_B.
        coverage_lost: evaluations in a row with coverage_B too low.
        thawed_for_b: whether A has thawed for the sake of coverage_B, and B is not yet back.
        order_lost: evaluations in a row with hierarchy_B or Q too bad.
        best_q: highest Q of the cycles before this one, in the first cycle the first Q.
        cycle_best_q: highest Q of this cycle.
        cycle_evaluations: evaluations of this cycle so far.
        coverage_b: coverage_B at the last evaluation; -infinity before, and where it was NaN.
    """

    coverage_threshold: float
    q_threshold: float
    a_frozen: bool = False
    b_frozen: bool = False
    best_hierarchy: float = math.inf
    plateau: int = 0
    coverage_lost: int = 0
    thawed_for_b: bool = False
    order_lost: int = 0
    best_q: float = -math.inf
    cycle_best_q: float = -math.inf
    cycle_evaluations: int = 0
    coverage_b: float = -math.inf


@dataclass
class Homeostasis:
    """Decides what is frozen; see the table at the head of this module.

    Args:
        mathematical_precision: compare figures as measured; if False, rounded to four decimals.
        coverage_precision_threshold: coverage at which A is frozen, at first.
        coverage_hysteresis: how far coverage_B may lie below that before A thaws.
        hierarchy_precision_threshold: gain in hierarchy_B that ends a plateau.
        hierarchy_hysteresis: loss in hierarchy_B at which B thaws.
        Q_target: least Q with which B may rest, at first.
        patience: evaluations in a row that a plateau or a loss must last.
        enable_annealing: whether thresholds rise at all.
        annealing_step: how far they rise after a cycle in which Q improved.
        annealing_patience: evaluations in a cycle.
        coverage_limit: highest coverage threshold, the target.
        hierarchy_target: hierarchy_B that B must have to rest.
        q_limit: highest Q threshold, the ceiling.
        coverage_b_target: coverage_B without which A is not frozen; 0 for any.
        state: where to go on; None for a new run.
    """

    mathematical_precision: bool
    coverage_precision_threshold: float
    coverage_hysteresis: float
    hierarchy_precision_threshold: float
    hierarchy_hysteresis: float
    Q_target: float
    patience: int
    enable_annealing: bool
    annealing_step: float
    annealing_patience: int
    coverage_limit: float
    hierarchy_target: float
    q_limit: float
    coverage_b_target: float = 0.0
    state: HomeostasisState = field(init=False)

    def __post_init__(self) -> None:
        self.state = HomeostasisState(self.coverage_precision_threshold, self.Q_target)

    def to_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        return asdict(self.state)

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_dict` gave."""
        self.state = HomeostasisState(**values)

    def after_epoch(self, epoch: int, coverage: float) -> list[Event]:
        """Freeze A if it has reached the threshold; to be asked while A learns.

        Args:
            epoch: epochs done.
            coverage: through branch A.
        """
        state = self.state
        if state.a_frozen or state.thawed_for_b:
            return []
        if self.coverage_b_target > 0 and not state.coverage_b >= self.coverage_b_target:
            return []
        if not self._figure(coverage) >= state.coverage_threshold:
            return []
        state.a_frozen, state.coverage_lost = True, 0
        text = (
            f"coverage {coverage:.6f} has reached {state.coverage_threshold:g}: encoder A and the "
            "decoder are frozen"
        )
        return [Event(epoch, "freeze_encoder_a", text, {"coverage": coverage})]

    def after_evaluation(
        self, epoch: int, metrics: Mapping[str, float], *, a_may_thaw: bool = True
    ) -> list[Event]:
        """Decide on everything else from a full evaluation.

        Args:
            epoch: epochs done.
            metrics: "coverage", "coverage_B", "hierarchy_B" and "Q_enhanced"; NaN counts as bad.
            a_may_thaw: False where something else keeps A frozen.
        """
        figures = {name: self._figure(value) for name, value in metrics.items()}
        known = not math.isnan(figures["coverage_B"])
        self.state.coverage_b = figures["coverage_B"] if known else -math.inf
        events = self._anneal(epoch, figures["Q_enhanced"])
        if a_may_thaw:
            events += self._consider_a(epoch, figures)
        return events + self._consider_b(epoch, figures)

    def _figure(self, value: float) -> float:
        return value if self.mathematical_precision else round(value, _STATED_DECIMALS)

    def _anneal(self, epoch: int, q: float) -> list[Event]:
        state = self.state
        if not math.isnan(q):
            state.cycle_best_q = max(state.cycle_best_q, q)
            if state.best_q == -math.inf:
                state.best_q = q  # the first cycle has to improve on its own beginning
        state.cycle_evaluations += 1
        if not self.enable_annealing or state.cycle_evaluations < self.annealing_patience:
            return []
        improved = state.cycle_best_q > state.best_q
        state.best_q = max(state.best_q, state.cycle_best_q)
        state.cycle_best_q, state.cycle_evaluations = -math.inf, 0
        if not improved:
            return []
        before = state.coverage_threshold, state.q_threshold
        state.coverage_threshold = _raised(before[0], self.annealing_step, self.coverage_limit)
        state.q_threshold = _raised(before[1], self.annealing_step, self.q_limit)
        if before == (state.coverage_threshold, state.q_threshold):
            return []
        figures = {
            "coverage_threshold": state.coverage_threshold,
            "q_threshold": state.q_threshold,
        }
        raised = [
            f"the threshold of {name} rises from {old:g} to {new:g}"
            for name, old, new in zip(("coverage", "Q"), before, figures.values(), strict=True)
            if new != old
        ]
        text = f"Q improved to {state.best_q:.4f}: {', '.join(raised)}"
        return [Event(epoch, "anneal_thresholds", text, figures)]

    def _consider_a(self, epoch: int, figures: Mapping[str, float]) -> list[Event]:
        state = self.state
        threshold = state.coverage_threshold
        lost = not figures["coverage_B"] >= threshold - self.coverage_hysteresis
        state.coverage_lost = state.coverage_lost + 1 if lost else 0
        state.thawed_for_b = state.thawed_for_b and lost
        if not state.a_frozen:
            return []
        if not figures["coverage"] >= threshold:
            name, why = "coverage", f"below the threshold {threshold:g}"
        elif state.coverage_lost >= self.patience:
            name, why = "coverage_B", f"{state.coverage_lost} times below {threshold:g} by more"
            why += f" than {self.coverage_hysteresis:g}"
            state.thawed_for_b = True
        else:
            return []
        state.a_frozen, state.coverage_lost = False, 0
        text = f"{name} {figures[name]:.6f}, {why}: encoder A and the decoder thaw"
        return [Event(epoch, "thaw_encoder_a", text, {name: figures[name]})]

    def _consider_b(self, epoch: int, figures: Mapping[str, float]) -> list[Event]:
        state, hierarchy, q = self.state, figures["hierarchy_B"], figures["Q_enhanced"]
        gained = hierarchy < state.best_hierarchy - self.hierarchy_precision_threshold
        state.plateau = 0 if gained else state.plateau + 1
        if hierarchy < state.best_hierarchy:
            state.best_hierarchy = hierarchy
        enough_q = q >= state.q_threshold
        lost = not (enough_q and hierarchy <= state.best_hierarchy + self.hierarchy_hysteresis)
        state.order_lost = state.order_lost + 1 if lost else 0
        seen = {"hierarchy_B": hierarchy, "Q_enhanced": q}
        if state.b_frozen and state.order_lost >= self.patience:
            state.b_frozen, state.plateau = False, 0
            text = f"hierarchy_B {hierarchy:.4f} or Q {q:.3f} has been lost: encoder B thaws"
            return [Event(epoch, "thaw_encoder_b", text, seen)]
        at_target = round(hierarchy, _STATED_DECIMALS) <= self.hierarchy_target
        if not state.b_frozen and at_target and not lost and state.plateau >= self.patience:
            state.b_frozen, state.order_lost = True, 0
            text = f"hierarchy_B {hierarchy:.4f} is at a plateau, Q {q:.3f}: encoder B is frozen"
            return [Event(epoch, "freeze_encoder_b", text, seen)]
        return []


def _raised(threshold: float, step: float, limit: float) -> float:
    """Raised by a step, but never past the limit; a threshold that is past it already stays."""
    return max(threshold, min(threshold + step, limit))
