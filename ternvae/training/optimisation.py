"""The optimizer of a run: which part learns at which rate, what is frozen, and one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ternvae.manifolds import RiemannianAdam
from ternvae.models import TernaryVAE
from ternvae.training.gradients import Gradients

__all__ = ["Optimisation", "encoder_a_share"]

#: Names of the parameter groups.
ENCODER_A, ENCODER_B, REST = GROUPS = ("encoder_a", "encoder_b", "rest")

#: Added to the norm that gradients are divided by, as torch does it.
EPSILON = 1e-6


def encoder_a_share(
    epoch: int,
    *,
    scale: float | None,
    taken_over: bool,
    coverage_first_epochs: int,
    coverage_reached: bool,
) -> float:
    """Share of the learning rate that encoder A and the decoder get in an epoch.

    Args:
        epoch: the epoch, from 1.
        scale: what the profile asks for once coverage has been learned; None for 0 where something
            else provides coverage (a checkpoint, a first phase), and 1 otherwise.
        taken_over: whether encoder A comes from a checkpoint.
        coverage_first_epochs: length of a first phase that is for coverage; 0 without one.
        coverage_reached: whether coverage has met its target.  A first phase does not end before:
            what is frozen short of the target can never meet it.

    Returns:
        The share, at least 0; 0 is a freeze.
    """
    provided = taken_over or coverage_first_epochs > 0
    if provided and not taken_over and (epoch <= coverage_first_epochs or not coverage_reached):
        return 1.0
    if scale is None:
        return 0.0 if provided else 1.0
    return scale


class Optimisation:
    """Riemannian Adam over three groups of parameters, each with a learning rate of its own.

    ``encoder_a`` is all that coverage depends on (encoder A, its chart, the decoder, a learned
    curvature), ``encoder_b`` is encoder B, ``rest`` its chart and the prototypes.

    Args:
        model: the model.
        weight_decay: decoupled weight decay.
        max_grad_norm: gradients are clipped to this norm, taken over all parameters.
        use_amp: run hidden layers in bfloat16.  No gradient scaling: bfloat16 has the exponents of
            float32, so gradients do not underflow.
        capturable: for a model on an accelerator: rates and counts of steps are kept there, so
            that a step reads nothing back and can be captured in a CUDA graph.  What is saved does
            not depend on it.
    """

    def __init__(
        self,
        model: TernaryVAE,
        *,
        weight_decay: float,
        max_grad_norm: float,
        use_amp: bool,
        capturable: bool = False,
    ) -> None:
        self.model = model
        #: The parameters by name.
        self.parameters = dict(model.named_parameters())
        self.gradients = Gradients(self.parameters.values())
        self.max_grad_norm = max_grad_norm
        self.use_amp = use_amp
        guarded = {p for module in model.coverage_modules() for p in module.parameters()}
        own = set(model.encoders["B"].parameters())
        groups: dict[str, list[Tensor]] = {name: [] for name in GROUPS}
        for parameter in model.parameters():
            name = ENCODER_A if parameter in guarded else ENCODER_B if parameter in own else REST
            groups[name].append(parameter)
        self.optimizer = RiemannianAdam(
            [{"params": params, "name": name} for name, params in groups.items()],
            weight_decay=weight_decay,
            fused=True,
            capturable=capturable,
        )
        if capturable:
            _keep_on_device(self.optimizer)
            self.optimizer.register_load_state_dict_post_hook(_keep_on_device)
            self.optimizer.register_state_dict_post_hook(_save_as_on_host)
        self._rate: float | None = None
        self.frozen: dict[str, bool] = dict.fromkeys((ENCODER_A, ENCODER_B), False)

    @property
    def rate(self) -> float:
        """The learning rate that was set last."""
        return float(self.optimizer.param_groups[-1]["lr"]) if self._rate is None else self._rate

    def set_rates(self, rate: float, *, encoder_a: float, encoder_b: float) -> None:
        """Set the learning rate and the shares of it that the encoders get."""
        self._rate = rate
        scales = {ENCODER_A: encoder_a, ENCODER_B: encoder_b, REST: 1.0}
        for group in self.optimizer.param_groups:
            own = rate * scales[group["name"]]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own

    def heed(self, flag: Tensor | None) -> None:
        """Have steps change nothing where a flag is 1, which the host need not know.

        Weights, moments and counts of steps stay as they are, and so do gradients once a step has
        begun with the flag at 1.

        Args:
            flag: 0-dim float32 on the device of the model, such as :attr:`Latch.flag`; None for
                steps that always count.
        """
        self.optimizer.found_inf = flag

    def freeze(self, *, encoder_a: bool, encoder_b: bool) -> None:
        """Freeze or thaw what is named; call it once per epoch, after ``model.train()``.

        Frozen parameters get no gradient, so no step of the optimizer and no weight decay, and
        frozen modules no dropout.  The hidden layers are what is frozen of encoder B.  What thaws
        starts with fresh moments: the old ones point where the loss fell before the freeze.
        """
        self._freeze(ENCODER_A, self.model.coverage_modules(), encoder_a)
        self._freeze(ENCODER_B, (self.model.encoder("B").features,), encoder_b)

    def _freeze(self, name: str, modules: Iterable[nn.Module], frozen: bool) -> None:
        thaws = self.frozen[name] and not frozen
        self.frozen[name] = frozen
        for module in modules:
            if frozen:
                module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(not frozen)
                if frozen:
                    parameter.grad = None
                if thaws:
                    self.optimizer.state.pop(parameter, None)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """A block whose hidden layers run in bfloat16 if that is wanted."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.use_amp)

    def tensors(self) -> dict[str, Tensor]:
        """All that a step changes: parameters and the moments of their gradients, by name."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            found[name] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"{key} of {name}"] = value
        return found

    def step(
        self,
        losses: Sequence[Callable[[], Tensor | None]],
        check: Callable[[Tensor], None] = lambda norm: None,
        reduce: Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """Average the gradients of the losses and update the weights once.

        Args:
            losses: one function per batch, called in turn, so that only one graph is alive.  One
                that gives None has added its share of the gradient itself.
            check: called with the norm of the gradient before the update, which it prevents if it
                raises, or sets the flag that :meth:`heed` was given.
            reduce: called with each tensor of gradients before they are measured, to average them
                over processes in place.

        Returns:
            The norm of the gradient before clipping, 0-dim on the device of the model.
        """
        flag = self.optimizer.found_inf
        self.gradients.begin(flag)
        for loss in losses:
            value = loss()
            if value is not None:
                mean = value / len(losses) if len(losses) > 1 else value
                mean.backward()  # type: ignore[no-untyped-call]  # torch's own
        if reduce is not None:
            for buffer in self.gradients.buffers:
                reduce(buffer)
        norm = self.gradients.norm()
        check(norm)
        self._clip(norm, flag)
        self.optimizer.step()
        return norm

    def _clip(self, norm: Tensor, flag: Tensor | None) -> None:
        if norm.is_cpu and flag is None:
            factor = self.max_grad_norm / (norm.item() + EPSILON)
            # Not "less than one": a norm that is NaN spoils all gradients, here and below.
            if not factor >= 1.0:
                self.gradients.scale(factor)
            return
        clamped = (self.max_grad_norm / (norm + EPSILON)).clamp(max=1.0)
        if flag is not None:
            # The gradients of a step that does not count are kept, to be named.
            clamped = torch.where(flag == 1.0, 1.0, clamped)
        self.gradients.scale(clamped)


def _keep_on_device(optimizer: Optimizer) -> None:
    """Make rates tensors that are filled in place, as a captured step needs them."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        # float32 is what torch's fused kernels read.
        group["lr"] = torch.full((), float(group["lr"]), dtype=torch.float32, device=device)
        group["capturable"] = True


def _save_as_on_host(_optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Make what is saved the same as without an accelerator."""
    for group in state["param_groups"]:
        group.update(lr=float(group["lr"]), capturable=False)
