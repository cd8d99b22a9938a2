"""What a profile says about one moment of a run: rates, weights, and who learns."""

from __future__ import annotations

from collections.abc import Mapping

from ternvae.config import Profile
from ternvae.training.curriculum import curriculum_factors, curriculum_phase
from ternvae.training.events import Event
from ternvae.training.optimisation import encoder_a_share
from ternvae.training.schedule import learning_rate, richness_headroom

__all__ = ["Pace"]


class Pace:
    """Functions of the moment: epochs since the start of training, fractional inside an epoch.

    Args:
        profile: the resolved profile.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._schedule = profile.scheduler.model_dump()
        self._weights = profile.loss_weights.model_dump()
        self._phases = {
            **profile.curriculum.model_dump(exclude={"enabled"}),
            "epochs": profile.training.epochs,
        }

    def rate(self, moment: float) -> float:
        """The learning rate."""
        return learning_rate(moment, lr=self._profile.training.lr, **self._schedule)

    def richness_floor(self, moment: float) -> float:
        """What the richness term aims at: above the target, the more the higher the rate."""
        headroom = richness_headroom(self.rate(moment), self._profile.training.lr)
        return self._profile.targets.richness * (1 + headroom)

    def weights(self, moment: float, factors: Mapping[str, float]) -> dict[str, float]:
        """The weights of the loss terms.

        Args:
            moment: when.
            factors: of the controller, for all terms or for none.
        """
        phase = self.curriculum_factors(moment)
        return {
            name: weight * phase.get(name, 1.0) * factors.get(name, 1.0)
            for name, weight in self._weights.items()
        }

    def curriculum_factors(self, moment: float) -> dict[str, float]:
        """Factors of the curriculum on some of the weights; none if it is off."""
        if not self._profile.curriculum.enabled:
            return {}
        return curriculum_factors(moment, **self._phases)

    def weights_rise(self, epoch: int) -> bool:
        """Whether the curriculum raises a weight in this epoch, compared to the one before."""
        before, after = (self.curriculum_factors(moment) for moment in (epoch - 1.5, epoch - 0.5))
        return any(after[name] > before[name] for name in after)

    def curriculum_event(self, epoch: int) -> Event | None:
        """The event that a phase of the curriculum begins with this epoch, if one does."""
        if not self._profile.curriculum.enabled:
            return None
        before, now = (
            curriculum_phase(moment, **self._phases) for moment in (epoch - 2, epoch - 1)
        )
        if epoch > 1 and before == now:
            return None
        return Event(epoch, f"curriculum_{now}", f"the curriculum enters its phase {now}")

    def encoder_a_share(self, epoch: int, *, coverage_reached: bool) -> float:
        """Share of the learning rate for encoder A; see :func:`encoder_a_share`."""
        curriculum = self._profile.curriculum
        return encoder_a_share(
            epoch,
            scale=self._profile.training.encoder_a_lr_scale,
            taken_over=self._profile.frozen_checkpoint.path is not None,
            coverage_first_epochs=curriculum.coverage_first_epochs if curriculum.enabled else 0,
            coverage_reached=coverage_reached,
        )
