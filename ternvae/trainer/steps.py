"""The steps of an epoch: a pass over the space that can stop after any step and go on there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
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
from ternvae.training.batches import Batch, BatchPlan, epoch_seed
from ternvae.training.finite import Latch, NonFiniteError, check_step
from ternvae.training.objective import TERMS, loss_terms
from ternvae.training.optimisation import Optimisation
from ternvae.training.processes import Processes

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
        processes: that train the model.
        done: steps done of an epoch that is not finished; 0 between epochs.
    """

    profile: Profile
    batches: BatchPlan
    pace: Pace
    optimisation: Optimisation
    examination: Examination
    device: torch.device
    processes: Processes
    done: int = 0
    _sums: Tensor = field(init=False)
    _latch: Latch | None = field(init=False)

    def __post_init__(self) -> None:
        self._sums = self._zeros()
        # On a CPU the host looks at each step; elsewhere that would make it wait.
        self._latch = None if self.device.type == "cpu" else Latch(FIGURES, self.device)
        self.optimisation.heed(None if self._latch is None else self._latch.flag)
        self._noise = torch.Generator(self.device)

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return math.ceil(
            self.batches.steps_per_epoch / self.profile.training.gradient_accumulation_steps
        )

    def state(self) -> dict[str, Any] | None:
        """What a run needs to go on inside the epoch, for a checkpoint; None between epochs.

        The rest is a function of the seed, the epoch and the position ``done``: the order of the
        data and all that is drawn.
        """
        return {"sums": self._sums.cpu()} if self.done else None

    def restore(self, done: int, state: Mapping[str, Any] | None) -> None:
        """Go on after so many steps of the epoch, from what :meth:`state` gave."""
        self.done = done
        if state is not None:
            self._sums = state["sums"].to(self.device)

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
            batches = self.batches.epoch(
                seed,
                self.device,
                first=self.done * per_step,
                rank=self.processes.rank,
                world=self.processes.world,
            )
            for group in _grouped(batches, per_step):
                self._step(epoch, seed, group, factors)
                self.done += 1
                if self.done < len(self) and stop():
                    self._look()
                    return None
            self._look()
        means = _means(self._sums, self.batches.steps_per_epoch, len(self))
        self.done, self._sums = 0, self._zeros()
        return means

    def _step(
        self, epoch: int, seed: int, group: list[Batch], factors: Mapping[str, float]
    ) -> None:
        moment = epoch - 1 + (self.done + 0.5) / len(self)
        number = (epoch - 1) * len(self) + self.done + 1
        self._set_rates(moment)
        told = self._is_told(number)
        before = self._sums.clone() if told else self._sums
        self._seed(epoch_seed(seed, self.done))
        floor = self.pace.richness_floor(moment)
        weights = self.pace.weights(moment, factors)
        shares = self._sums.new_tensor([weights[name] for name in TERMS])
        losses = [partial(self._loss, batch, floor, shares) for batch in group]
        together = self.processes.sum_ if self.processes.world > 1 else None
        try:
            norm = self.optimisation.step(losses, partial(self._check, number), together)
        except NonFiniteError as error:
            raise error.at(f"Epoch {epoch}, step {self.done + 1} of {len(self)}") from None
        self._sums[-1] += norm
        if told:
            self._look()
            self._tell(epoch, moment, number, _means(self._sums - before, len(group), 1))

    def _loss(self, batch: Batch, floor: float, weights: Tensor) -> Tensor:
        """The loss of one batch; it and its terms are added to the sums."""
        branches = "B" if self.optimisation.frozen["encoder_a"] else BRANCHES
        with self.optimisation.autocast(self.device):
            terms = loss_terms(
                self.optimisation.model,
                batch,
                branches=branches,
                richness_floor=floor,
                noise=self._draw(batch, len(branches)),
                total=self.processes.total if self.processes.world > 1 else None,
            )
        found = torch.stack([terms[name] for name in TERMS])
        loss = found @ weights.to(found.dtype)
        self._sums[:-1] += torch.cat([loss.detach().unsqueeze(0), found.detach()])
        return loss

    def _check(self, number: int, norm: Tensor) -> None:
        """Let no step count whose figures are not finite."""
        parameters = self.optimisation.parameters
        if self._latch is None:
            check_step(FIGURES, self._sums, norm, parameters)
        else:
            self._latch.observe(number, self._sums, norm, parameters)

    def _look(self) -> None:
        """Where the host does not look at every step: see what has been found."""
        if self._latch is not None:
            self._latch.raise_if_set(self.optimisation.parameters, len(self))

    # --- what is drawn ----------------------------------------------------------------------

    def _seed(self, seed: int) -> None:
        """Make all that this step draws a function of a seed."""
        self._noise.manual_seed(seed)
        if self.profile.model.dropout:  # masks are of this process's own rows
            torch.manual_seed(epoch_seed(seed, self.processes.rank))

    def _draw(self, batch: Batch, branches: int) -> Tensor:
        """Noise for the rows of this process, out of that for the whole batch."""
        model = self.optimisation.model
        shape = (branches, batch.total, model.prototypes.shape[-1])
        noise = torch.randn(
            shape, generator=self._noise, device=self.device, dtype=model.point_dtype
        )
        return noise[:, self.processes.rank :: self.processes.world]

    @contextmanager
    def _drawing(self, seed: int) -> Iterator[None]:
        """Torch's random state for what draws from it, and as it was afterwards."""
        with seeded(seed, self.device) if self.profile.model.dropout else nullcontext():
            yield

    # --- rates, and what the host reads -----------------------------------------------------

    def _set_rates(self, moment: float) -> None:
        reached = self.examination.progress.coverage_reached
        self.optimisation.set_rates(
            self.pace.rate(moment),
            encoder_a=self.pace.encoder_a_share(int(moment) + 1, coverage_reached=reached),
            encoder_b=self.profile.training.encoder_b_lr_scale,
        )

    def _is_told(self, number: int) -> bool:
        """Whether the host reads the figures of this step."""
        return number == 1 or self._is_logged(number)

    def _is_logged(self, number: int) -> bool:
        every = self.profile.monitoring.log_every_n_steps
        return every > 0 and number % every == 0

    def _tell(self, epoch: int, moment: float, number: int, figures: dict[str, float]) -> None:
        if number == 1:
            # With the whole weights, which a curriculum may hold back at this step.
            weights = self.profile.loss_weights.model_dump()
            total = sum(weight * figures[name] for name, weight in weights.items())
            self.examination.signs.after_first_step(total)
        if self._is_logged(number):
            rate = self.pace.rate(moment)
            self.examination.monitor.step(number, epoch, {**figures, "lr": rate})

    def _zeros(self) -> Tensor:
        return torch.zeros(len(FIGURES), device=self.device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global random state as a function of a seed, restored afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _means(sums: Tensor, batches: int, steps: int) -> dict[str, float]:
    """Means over the batches, and over the steps for the norm of the gradient."""
    *summed, norm = sums.tolist()
    return dict(zip(FIGURES, [*(each / batches for each in summed), norm / steps], strict=True))


def _grouped(batches: Iterable[Batch], count: int) -> Iterator[list[Batch]]:
    """Lists of so many batches; the last one may be shorter."""
    rest = iter(batches)
    while group := list(islice(rest, count)):
        yield group
