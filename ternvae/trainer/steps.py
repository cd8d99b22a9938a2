"""The steps of an epoch: a pass over the space that can stop after any step and go on there."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from ternvae.training.batches import Batch, BatchPlan, epoch_seed, step_seed
from ternvae.training.by_hand import accumulate
from ternvae.training.capture import Body, Graphs, Part, obstacle
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
        self._sums = torch.zeros(len(FIGURES), device=self.device)
        # On a CPU the host looks at each step; elsewhere that would make it wait.
        self._latch = None if self.device.type == "cpu" else Latch(FIGURES, self.device)
        self.optimisation.heed(None if self._latch is None else self._latch.flag)
        self._noise = torch.Generator(self.device)
        training = self.profile.training
        self._graphs: Graphs | None = None
        if training.execution == "cuda_graph":
            reason = obstacle(
                self.device,
                processes=self.processes.world,
                batches_per_step=training.gradient_accumulation_steps,
            )
            self._graphs = Graphs(self._body, self.optimisation, self._unchanging, reason)

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
            self._sums.copy_(state["sums"])

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
        if self._graphs is not None:
            self._graphs.begin()
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
        self.done = 0
        self._sums.zero_()
        return means

    def _step(
        self, epoch: int, seed: int, group: list[Batch], factors: Mapping[str, float]
    ) -> None:
        moment = epoch - 1 + (self.done + 0.5) / len(self)
        number = (epoch - 1) * len(self) + self.done + 1
        self._set_rates(moment)
        told = self._is_told(number)
        before = self._sums.clone() if told else self._sums
        self._seed(step_seed(seed, self.done))
        floor = self.pace.richness_floor(moment)
        weights = self.pace.weights(moment, factors)
        numbers = self._on_device([*(weights[name] for name in TERMS), floor, number])
        parts = [Part(batch, partial(self._draw, batch)) for batch in group]
        take: Body = self._body if self._graphs is None else self._graphs.run
        try:
            take(parts, numbers)
        except NonFiniteError as error:
            raise error.at(f"Epoch {epoch}, step {self.done + 1} of {len(self)}") from None
        if told:
            self._look()
            self._tell(epoch, moment, number, _means(self._sums - before, len(group), 1))

    # --- what a graph can repeat ------------------------------------------------------------

    def _body(self, parts: Sequence[Part], numbers: Tensor) -> None:
        """A step, in which no number comes from the host.

        Args:
            parts: the batches whose gradients are averaged.
            numbers: the weights of the terms, the floor of richness, and the number of the step.
        """
        share = 1 / len(parts)
        losses = [partial(self._loss, part, numbers, share) for part in parts]
        together = self.processes.sum_ if self.processes.world > 1 else None
        norm = self.optimisation.step(losses, partial(self._check, numbers), together)
        self._sums[-1] += norm

    def _loss(self, part: Part, numbers: Tensor, share: float) -> Tensor | None:
        """The loss of one batch; it and its terms are added to the sums.

        None if its gradient has been added to the others, multiplied by ``share``.
        """
        batch, noise = part.batch, part.noise()
        total = self.processes.total if self.processes.world > 1 else None
        if self.device.type == "cpu" and not self.optimisation.use_amp:
            *weights, floor, _ = numbers.tolist()
            terms_by_hand = accumulate(
                self.optimisation.model,
                batch,
                branches=self._branches,
                richness_floor=floor,
                noise=noise,
                weights=weights,
                share=share,
                total=total,
            )
            if terms_by_hand is not None:
                weighted = sum(map(operator.mul, weights, terms_by_hand))
                self._sums[:-1] += torch.tensor([weighted, *terms_by_hand])
                return None
        with self.optimisation.autocast(self.device):
            terms = loss_terms(
                self.optimisation.model,
                batch,
                branches=self._branches,
                # Of a target of 0 the floor is 0 throughout, and what is not there has no tensor.
                richness_floor=numbers[-2] if self.profile.targets.richness > 0 else 0.0,
                noise=noise,
                total=total,
            )
        found = torch.stack([terms[name] for name in TERMS])
        loss = found @ numbers[: len(TERMS)].to(found.dtype)
        self._sums[:-1] += torch.cat([loss.detach().unsqueeze(0), found.detach()])
        return loss

    def _check(self, numbers: Tensor, norm: Tensor) -> None:
        """Let no step count whose figures are not finite."""
        parameters = self.optimisation.parameters
        if self._latch is None:
            check_step(FIGURES, self._sums, norm, parameters)
        else:
            self._latch.observe(numbers[-1].long(), self._sums, norm, parameters)

    @property
    def _branches(self) -> Sequence[str]:
        """Whose reconstruction counts: what A gives is of no interest once it stands still."""
        return "B" if self.optimisation.frozen["encoder_a"] else BRANCHES

    @contextmanager
    def _unchanging(self) -> Iterator[None]:
        """A block in which steps change no weight, no moment and no sum."""
        assert self._latch is not None  # noqa: S101 - there are graphs only where there is one
        kept = [(each, each.clone()) for each in (self._latch.flag, self._sums)]
        # What keeps a bad step from counting: no copies of weights, and nothing is read.
        self._latch.flag.fill_(1.0)
        try:
            yield
        finally:
            for each, before in kept:
                each.copy_(before)

    def _look(self) -> None:
        """Where the host does not look at every step: see what has been found."""
        if self._latch is not None:
            self._latch.raise_if_set(self.optimisation.parameters, len(self))

    # --- what is drawn ----------------------------------------------------------------------

    def _seed(self, seed: int) -> None:
        """Make all that this step draws a function of a seed."""
        self._noise.manual_seed(seed)
        if self.profile.model.dropout:  # masks are of this process's own rows
            torch.manual_seed(step_seed(seed, self.processes.rank))

    def _draw(self, batch: Batch) -> Tensor:
        """Noise for the rows of this process, out of that for the whole batch."""
        model = self.optimisation.model
        shape = (len(self._branches), batch.total, model.prototypes.shape[-1])
        noise = torch.randn(
            shape, generator=self._noise, device=self.device, dtype=model.point_dtype
        )
        return batch.mine(noise, self.processes.rank, self.processes.world)

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

    def _on_device(self, numbers: list[float]) -> Tensor:
        if self.device.type == "cpu":
            return torch.tensor(numbers, dtype=torch.float64)
        # From pinned memory the host does not wait; torch keeps it until it has been copied.
        pinned = torch.tensor(numbers, dtype=torch.float64, pin_memory=True)
        return pinned.to(self.device, non_blocking=True)


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
