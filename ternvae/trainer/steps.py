"""The steps of an epoch: a pass over the space that can stop after any step and go on there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ternvae.config import Profile
from ternvae.models import BRANCHES
from ternvae.trainer.examination import Examination
from ternvae.trainer.pace import Pace
from ternvae.training.batches import BatchPlan, epoch_seed
from ternvae.training.finite import NonFiniteError, check_step
from ternvae.training.objective import TERMS, loss_terms, weighted_sum
from ternvae.training.optimisation import Optimisation

__all__ = ["FIGURES", "Steps", "seeded"]

#: What is known of each step and, on average, of each epoch.
FIGURES = ("total", *TERMS, "gradient_norm")


@dataclass
class Steps:
    """Passes over the space, one epoch at a time.

    Attributes:
        profile: the resolved profile.
        batches: which indices a step sees.
        pace: rates and weights of a moment.
        optimisation: the optimizer of the run.
        examination: of the run, which hears of single steps.
        device: of the model.
        done: steps done of an epoch that is not finished; 0 between epochs.
    """

    profile: Profile
    batches: BatchPlan
    pace: Pace
    optimisation: Optimisation
    examination: Examination
    device: torch.device
    done: int = 0
    _sums: Tensor = field(init=False)
    _random: dict[str, Tensor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._sums = self._zeros()

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return math.ceil(
            self.batches.steps_per_epoch / self.profile.training.gradient_accumulation_steps
        )

    def state(self) -> dict[str, Any] | None:
        """What a run needs to go on inside the epoch, for a checkpoint; None between epochs.

        The position in the order of the data is ``done``; the order itself is a function of the
        seed and the epoch.
        """
        return {"sums": self._sums.cpu(), "random": self._random} if self.done else None

    def restore(self, done: int, state: Mapping[str, Any] | None) -> None:
        """Go on after so many steps of the epoch, from what :meth:`state` gave."""
        self.done = done
        if state is not None:
            self._sums = state["sums"].to(self.device)
            self._random = state["random"]

    def run(self, epoch: int, stop: Callable[[], bool]) -> dict[str, float] | None:
        """Train to the end of an epoch, from the step where it was left.

        Sums stay on the device.

        Args:
            epoch: the epoch, from 1.
            stop: asked after every step but the last one.

        Returns:
            The mean of the loss ("total"), of each of its unweighted terms, and of the norm of the
            gradient ("gradient_norm"); None if it was stopped.

        Raises:
            NonFiniteError: a figure of a step is NaN or infinite; the weights are as they were
                before that step.
        """
        per_step = self.profile.training.gradient_accumulation_steps
        controller = self.examination.controller
        factors = controller.factors() if controller is not None else {}
        seed = epoch_seed(self.profile.seed, epoch)
        with self.examination.progress.spending("train", self.device), self._drawing(seed):
            indices = self.batches.epoch(seed, self.device)
            for group in islice(_grouped(indices, per_step), self.done, None):
                self._step(epoch, group, factors)
                self.done += 1
                if self.done < len(self) and stop():
                    self._random = _random_state(self.device)
                    return None
        means = _means(self._sums, self.batches.steps_per_epoch, len(self))
        self.done, self._sums, self._random = 0, self._zeros(), None
        return means

    def _step(self, epoch: int, group: list[Tensor], factors: Mapping[str, float]) -> None:
        moment = epoch - 1 + (self.done + 0.5) / len(self)
        self._set_rates(moment)
        told = self._is_told(epoch)
        before = self._sums.clone() if told else self._sums
        losses = [partial(self._loss, each, moment, factors) for each in group]
        parameters = self.optimisation.parameters
        try:
            norm = self.optimisation.step(
                losses, lambda norm: check_step(FIGURES, self._sums, norm, parameters)
            )
        except NonFiniteError as error:
            raise error.at(f"Epoch {epoch}, step {self.done + 1} of {len(self)}") from None
        self._sums[-1] += norm
        if told:
            self._tell(epoch, moment, _means(self._sums - before, len(group), 1))

    def _loss(self, indices: Tensor, moment: float, factors: Mapping[str, float]) -> Tensor:
        """The loss of one batch; it and its terms are added to the sums."""
        with self.optimisation.autocast(self.device):
            terms = loss_terms(
                self.optimisation.model,
                indices,
                branches="B" if self.optimisation.frozen["encoder_a"] else BRANCHES,
                richness_floor=self.pace.richness_floor(moment),
            )
        loss = weighted_sum(terms, self.pace.weights(moment, factors))
        self._sums[:-1] += torch.stack([loss.detach(), *(terms[name].detach() for name in TERMS)])
        return loss

    def _set_rates(self, moment: float) -> None:
        reached = self.examination.progress.coverage_reached
        self.optimisation.set_rates(
            self.pace.rate(moment),
            encoder_a=self.pace.encoder_a_share(int(moment) + 1, coverage_reached=reached),
            encoder_b=self.profile.training.encoder_b_lr_scale,
        )

    def _is_told(self, epoch: int) -> bool:
        """Whether the host reads the figures of this step."""
        number = (epoch - 1) * len(self) + self.done + 1
        return number == 1 or self._is_logged(number)

    def _is_logged(self, number: int) -> bool:
        every = self.profile.monitoring.log_every_n_steps
        return every > 0 and number % every == 0

    def _tell(self, epoch: int, moment: float, figures: dict[str, float]) -> None:
        number = (epoch - 1) * len(self) + self.done + 1
        if number == 1:
            # With the whole weights, which a curriculum may hold back at this step.
            weights = self.profile.loss_weights.model_dump()
            total = sum(weight * figures[name] for name, weight in weights.items())
            self.examination.signs.after_first_step(total)
        if self._is_logged(number):
            rate = self.pace.rate(moment)
            self.examination.monitor.step(number, epoch, {**figures, "lr": rate})

    @contextmanager
    def _drawing(self, seed: int) -> Iterator[None]:
        """Torch's random state as a function of the seed, or as it was where the epoch was left."""
        with seeded(seed, self.device):
            if self._random is not None:
                torch.set_rng_state(self._random["cpu"])
                # A run that comes from another device goes on with the draws of the epoch's seed.
                if self.device.type == "cuda" and "cuda" in self._random:
                    torch.cuda.set_rng_state(self._random["cuda"], self.device)
            yield

    def _zeros(self) -> Tensor:
        return torch.zeros(len(FIGURES), device=self.device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global random state as a function of a seed, restored afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _means(sums: Tensor, batches: int, steps: int) -> dict[str, float]:
    """Means over the batches, and over the steps for the norm of the gradient."""
    *summed, norm = sums.tolist()
    return dict(zip(FIGURES, [*(each / batches for each in summed), norm / steps], strict=True))


def _grouped(batches: Iterable[Tensor], count: int) -> Iterator[list[Tensor]]:
    """Lists of so many batches; the last one may be shorter."""
    rest = iter(batches)
    while group := list(islice(rest, count)):
        yield group
