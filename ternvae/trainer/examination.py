"""What is measured between epochs, and who gets to see it."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ternvae.config import Profile
from ternvae.metrics import CollapsedLevelsWarning, Evaluator, ceilings, metric_names
from ternvae.models import TernaryVAE
from ternvae.training.controller import Controller, controller_statistics
from ternvae.training.homeostasis import Homeostasis
from ternvae.training.monitor import Monitor
from ternvae.training.precision import precision_figures
from ternvae.training.processes import Processes
from ternvae.training.progress import Best, Progress
from ternvae.training.verdict import (
    asked_for,
    defined_metrics,
    reachable_hierarchy,
    targets_met,
    validation_results,
)
from ternvae.training.warning_signs import WarningSigns
from ternvae.training.wording import epoch_line

__all__ = ["Examination"]

log = logging.getLogger("ternvae")


@dataclass
class Examination:
    """Measures the model, says the figures, and shows them to whatever decides by them.

    Attributes:
        profile: the resolved profile.
        model: the model.
        evaluator: of its space, or of what training sees of it.
        progress: where firsts are noted.
        monitor: through which everything is said.
        signs: watches for what goes wrong.
        homeostasis: decides what is frozen; None if it is off.
        controller: modulates the loss weights; None if it is off.
        processes: that train the model; what decides are the figures of the first one.
        branch_a: the latest figures of branch A, which stand still while it is frozen.
    """

    profile: Profile
    model: TernaryVAE
    evaluator: Evaluator
    progress: Progress
    monitor: Monitor
    signs: WarningSigns
    homeostasis: Homeostasis | None
    controller: Controller | None
    processes: Processes
    branch_a: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.n_digits = self.profile.space.n_digits
        self.targets: dict[str, float] = asked_for(self.profile.targets.model_dump())
        self.targets["hierarchy_B"] = reachable_hierarchy(
            self.targets["hierarchy_B"], self.evaluator.hierarchy_ceiling
        )

    def measure_branch_a(self) -> None:
        """Measure branch A, and decide nothing."""
        self.branch_a = self.processes.agree(self.evaluator.branch_a(self.model))

    def measure_coverage(self) -> float:
        """Measure branch A, note what it has reached, and let homeostasis freeze it."""
        with self.progress.spending("evaluate", self.model.prototypes.device):
            self.measure_branch_a()
        coverage = self.branch_a["coverage"]
        self.progress.note_coverage(coverage)
        if coverage >= self.targets["coverage"]:
            self.progress.coverage_reached = True
        self.monitor.warn(self.signs.after_coverage(self.progress.epoch, coverage))
        if self.homeostasis is not None and self.progress.epoch > 0:
            events = self.homeostasis.after_epoch(self.progress.epoch, coverage)
            self.monitor.event(*events)
        return coverage

    def evaluate(
        self,
        losses: Mapping[str, float],
        *,
        rate: float,
        curriculum: Mapping[str, float],
        encoder_a_scaled: bool,
    ) -> Best:
        """Measure everything; :meth:`measure_coverage` comes first while branch A learns.

        Args:
            losses: means of the epoch.
            rate: the learning rate of the last step.
            curriculum: factors of the curriculum on the weights of the loss terms.
            encoder_a_scaled: whether the profile keeps encoder A frozen, so that it cannot thaw.

        Returns:
            The model with its metrics and checks, as a candidate for the best.
        """
        epoch, n_digits = self.progress.epoch, self.n_digits
        with self.progress.spending("evaluate", self.model.prototypes.device):
            measured, collapsed = self._measure()
        # Of a level of which nothing is seen there is no radius.
        metrics = {name: measured[name] for name in metric_names(n_digits) if name in measured}
        log.info("%s", epoch_line(epoch, losses["total"], metrics))
        met = targets_met(metrics, self.targets, n_digits=n_digits)
        if all(met.values()) and self.progress.note_targets():
            seconds = self.progress.seconds["to_targets"]
            log.info("Epoch %d: all targets met, %.1f s after the first step", epoch, seconds)
        signs = self.signs.after_evaluation(
            epoch,
            defined_metrics(metrics, n_digits),
            tied_share=measured["tied_share"],
            collapsed=collapsed,
            share_at_limit=measured["limit_share"],
            richness_expected=curriculum.get("richness", 1.0) >= 1,
            hierarchy_expected=curriculum.get("hierarchy", 1.0) >= 1,
        )
        self.monitor.warn(signs)
        if self.homeostasis is not None:
            # Beyond the ceiling there is no order to hold on to, only ties.
            seen = metrics | {"hierarchy_B": math.nan} if collapsed else metrics
            self.monitor.event(
                *self.homeostasis.after_evaluation(epoch, seen, a_may_thaw=not encoder_a_scaled)
            )
        record = {"epoch": epoch, "lr": rate, "losses": losses, **metrics}
        self.monitor.epoch(record | self._beside_the_metrics(measured))
        checks = validation_results(
            metrics,
            self.targets,
            n_digits=n_digits,
            points_valid=bool(measured["points_valid_A"] and measured["points_valid"]),
        )
        return Best(epoch, metrics, checks)

    def _measure(self) -> tuple[dict[str, float], bool]:
        """All that the evaluator says of both branches, and whether levels have collapsed."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CollapsedLevelsWarning)
            measured = {**self.branch_a, **self.evaluator.branch_b(self.model)}
        agreed: tuple[dict[str, float], bool] = self.processes.agree((measured, bool(caught)))
        return agreed

    def _beside_the_metrics(self, measured: dict[str, float]) -> dict[str, Any]:
        """What else the line of an epoch says; the controller takes its statistics here."""
        figures: dict[str, Any] = {
            "tied_share": measured["tied_share"],
            "limit_share": measured["limit_share"],
            "curvature": self.model.ball.c.item(),
        }
        if self.controller is not None:
            self.controller.observe(
                controller_statistics(
                    measured,
                    n_digits=self.n_digits,
                    richness_target=self.targets["richness"],
                    radius_max=self.model.ball.hyperbolic_radius_max.item(),
                    q_ceiling=ceilings(self.n_digits)["Q_enhanced"],
                )
            )
            figures["controller"] = self.controller.factors()
        if self.profile.monitoring.precision_tracking:
            figures["precision"] = precision = precision_figures(self.model, self.evaluator)
            told = ", ".join(f"{name} {value:.1e}" for name, value in precision.items())
            log.info("Epoch %d: against float64: %s", self.progress.epoch, told)
        return figures
