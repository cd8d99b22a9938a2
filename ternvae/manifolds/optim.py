"""Adam for models that have both Euclidean and manifold parameters.

References:
    [BG] G. Becigneul, O.-E. Ganea, "Riemannian Adaptive Optimization Methods", ICLR 2019.
    [LH] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.updates import (
    Flats,
    Point,
    begun,
    counts_on_device,
    flats_of,
    points_together,
    refuse_weight_decay,
    update_flats,
    update_manifold,
    update_points,
)

_HOST_DEVICES = ("cpu", "mps")


#: The last two choose among torch's implementations.
_HYPERPARAMETERS = operator.itemgetter(
    *("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "capturable"),
    *("foreach", "fused"),
)


class RiemannianAdam(Optimizer):
    """AdamW on Euclidean tensors, Riemannian Adam on geoopt manifold tensors.

    A step first updates the Euclidean tensors of all groups, then the manifold tensors, so that a
    learnable curvature moved in the same step is the one the points are kept inside of.

    *Euclidean tensors* go through torch's own AdamW, one call for all groups that share their
    hyperparameters; the result is bit for bit that of ``torch.optim.AdamW``.

    *Manifold tensors* (``geoopt.ManifoldParameter`` of any geoopt manifold) follow [BG]: with the
    Riemannian gradient ``g`` at ``x``, ``m <- beta1 m + (1 - beta1) g`` and
    ``v <- beta2 v + (1 - beta2) |g|_x^2``, one ``v`` per point (per factor of a product manifold);
    ``x <- retr_x(-lr m_hat / (sqrt(v_hat) + eps))`` with Adam's bias corrections, and ``m`` is
    transported to the new point. On the ball ``lr`` is therefore the typical hyperbolic length of a
    step.

    *Weight decay* is decoupled ([LH]) for both. A point of a Poincare ball moves towards the origin
    along its geodesic, ``x <- (1 - lr weight_decay) (x) x``, before the gradient step, and the
    gradient and ``m`` are transported along.

    Points whose manifold is being trained (a learnable curvature) are projected onto it in every
    step, those without a gradient too.

    A step finds out once what it has to do with which tensors, and again whenever parameters,
    states or hyperparameters were replaced by others, or other parameters have gradients.

    Attributes:
        found_inf: None, or a 0-dim float tensor as ``torch.amp.GradScaler`` gives it to fused
            optimizers. A step leaves parameters, moments and counts of steps as they are while it
            is 1. It is read by the host if it is in the host's memory, or if a group is neither
            ``capturable`` nor ``fused``; otherwise the device obeys it alone.

    Args:
        params: tensors of any shape, or parameter groups; any group may mix both kinds.
        lr: learning rate, a number or a tensor of one number.
        betas: decay rates of the two moments, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: decay rate, see above.
        amsgrad: divide by the largest second moment so far ([BG], Riemannian AMSGrad).
        maximize: ascend instead of descend.
        foreach: torch's choice of implementation; concerns the Euclidean tensors only.
        fused: likewise; if True, all steps are counted on the device of the parameters.
        capturable: keep ``step`` on the device and never read back to the host, so that ``step()``
            can be captured in a CUDA graph (if the manifolds used do not read back either).

    Raises:
        ValueError: a hyperparameter is out of range; ``foreach`` and ``fused`` are both set;
            ``foreach`` with a tensor ``lr`` that is not capturable; ``capturable`` with tensors on
            the CPU; or ``weight_decay`` for a manifold that has no notion of it.
        TypeError: a hyperparameter is not a number or a flag not a bool; ``params`` is not made of
            tensors; or a gradient is sparse (raised by :meth:`step`).
    """

    found_inf: Tensor | None = None
    _plan: _Plan | None = None

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
        }
        _check_hyperparameters(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a copy of a group; its hyperparameters are checked like those of the constructor.

        Args:
            param_group: ``params`` and whatever differs from the constructor's hyperparameters.

        Raises:
            TypeError: it is not a dict, or as for the constructor.
            ValueError: it has no ``params``, or as for the constructor.
        """
        if not isinstance(param_group, dict):
            raise TypeError(
                f"param_group must be a dict, got {type(param_group).__name__}: {param_group!r}"
            )
        if "params" not in param_group:
            raise ValueError(f"param_group needs params, got the keys {sorted(param_group)}")
        _check_hyperparameters({**self.defaults, **param_group})
        # torch completes the group in place, and it is the caller's.
        super().add_param_group(dict(param_group))
        try:
            _check_parameters(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float | Tensor] | None = None
    ) -> float | Tensor | None:
        """Take one step ([BG] and [LH], see the class); gradients are read, never written.

        The parameters themselves are what a step changes; everything else is left as it is. The
        values of gradients are check-free: NaN gives NaN parameters, unless :attr:`found_inf` is
        set.

        Args:
            closure: re-evaluates the model, with gradients, and returns the loss.

        Returns:
            What the closure returned, a number or a scalar, or None.

        Raises:
            TypeError: ``closure`` cannot be called, or a gradient is sparse.
        """
        loss = None
        if closure is not None:
            if not callable(closure):
                raise TypeError(f"closure must be a function or None, got {closure!r}")
            with torch.enable_grad():
                loss = closure()
        flag = self.found_inf
        if flag is not None and (flag.is_cpu or not all(map(counts_on_device, self.param_groups))):
            # What is counted on the host can only be stopped there.
            if flag.item() == 1.0:
                return loss
            flag = None
        self._take_step(flag)
        return loss

    def _take_step(self, flag: Tensor | None) -> None:
        """One step, which leaves everything as it is where ``flag`` is 1."""
        grads = [[p.grad for p in group["params"]] for group in self.param_groups]
        alike, surroundings = self._alike(), self._surroundings(grads)
        plan = self._plan
        if plan is None or not plan.fits(alike, surroundings):
            plan = self._plan = self._new_plan(alike, grads)
        for members, flats in plan.flats:
            own = [grad for k in members for grad in grads[k]]
            for each in flats:
                update_flats(each, self.param_groups[members[0]], own, flag)
        for group, points in zip(self.param_groups, plan.points, strict=True):
            for together in points_together(points, self.state):
                if isinstance(together[0].manifold, PoincareBall):
                    update_points(together, group, self.state, flag)
                else:
                    update_manifold(together[0], group, self.state, flag)

    def _alike(self) -> list[int]:
        """For every group, the first one with the same hyperparameters."""
        found = []
        for group in self.param_groups:
            lr, *others = _HYPERPARAMETERS(group)
            found.append((id(lr) if isinstance(lr, Tensor) else lr, *others))
        return [found.index(each) for each in found]

    def _new_plan(self, alike: list[int], grads: list[list[Any]]) -> _Plan:
        groups = self.param_groups
        members: dict[int, list[int]] = {}
        for place, first in enumerate(alike):
            members.setdefault(first, []).append(place)
        flats = [
            (
                own,
                flats_of([p for k in own for p in groups[k]["params"]], groups[first], self.state),
            )
            for first, own in members.items()
        ]
        points = [[p for p in group["params"] if isinstance(p, Point)] for group in groups]
        # States begin here, so that the plan of a first step is that of all others.
        for group, own in zip(groups, points, strict=True):
            for p in own:
                if p.grad is not None and isinstance(p.manifold, PoincareBall):
                    begun(p, group, self.state[p])
        return _Plan(flats, points, alike, self._surroundings(grads))

    def _surroundings(self, grads: list[list[Any]]) -> list[object]:
        """All that a plan depends on, to be compared by identity."""
        found: list[object] = []
        for group, own in zip(self.param_groups, grads, strict=True):
            found += (group["amsgrad"], group["fused"], group["foreach"], group["capturable"])
            found.append(isinstance(group["lr"], Tensor))
            found += group["params"]
            found += [grad is None for grad in own]
        found += self.state
        for state in self.state.values():
            found += state.values()
        return found


class _Plan(NamedTuple):
    """What a step does with which tensors; finding out takes longer than the step.

    Attributes:
        flats: for groups with the same hyperparameters, which they are and their Euclidean tensors.
        points: manifold tensors, for each group.
        alike: which groups had the same hyperparameters.
        made_in: the surroundings that it was made in.
    """

    flats: list[tuple[list[int], list[Flats]]]
    points: list[list[Any]]
    alike: list[int]
    made_in: list[object]

    def fits(self, alike: list[int], surroundings: list[object]) -> bool:
        if alike != self.alike:
            return False
        return len(surroundings) == len(self.made_in) and all(
            map(operator.is_, surroundings, self.made_in)
        )


def _check_hyperparameters(group: dict[str, Any]) -> None:
    for name in ("amsgrad", "maximize", "capturable", "foreach", "fused"):
        flag = group[name]
        if not isinstance(flag, bool) and not (flag is None and name in ("foreach", "fused")):
            raise TypeError(f"{name} must be True or False, got {flag!r}")
    lr = group["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"lr must be one number, got a tensor of shape {tuple(lr.shape)}")
        if group["foreach"] and not group["capturable"]:
            raise ValueError(
                "foreach=True needs a float lr unless capturable=True, got lr as a tensor"
            )
    for name in ("lr", "eps", "weight_decay"):
        if not (name == "lr" and isinstance(lr, Tensor)):
            _check_number(name, group[name])
        # Written so that NaN fails too.
        if not 0.0 <= float(group[name]) < float("inf"):
            raise ValueError(f"{name} must be finite and not negative, got {group[name]!r}")
    betas = group["betas"]
    if not isinstance(betas, tuple | list):
        raise TypeError(f"betas must be a pair of numbers, got {betas!r}")
    for beta in betas:
        _check_number(f"betas={betas!r}: each", beta)
    if len(betas) != 2 or not all(0.0 <= float(beta) < 1.0 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach=True and fused=True exclude each other, got both")


def _check_number(name: str, value: Any) -> None:
    """Numbers only: float() would take strings and truth values, too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r}")


def _check_parameters(group: dict[str, Any]) -> None:
    for p in group["params"]:
        if group["capturable"] and p.device.type in _HOST_DEVICES:
            raise ValueError(
                f"capturable=True needs parameters on an accelerator that captures graphs, got one "
                f"of shape {tuple(p.shape)} on {p.device}"
            )
        if group["weight_decay"] != 0.0 and isinstance(p, Point):
            refuse_weight_decay(p)


__all__ = ["RiemannianAdam"]
