"""Adam for models that have both Euclidean and manifold parameters.

References:
    [BG] G. Becigneul, O.-E. Ganea, "Riemannian Adaptive Optimization Methods", ICLR 2019.
    [LH] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.optimizer import Optimizer

from ternvae.manifolds import programs
from ternvae.manifolds._geoopt import geoopt
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.rules import adam
from ternvae.manifolds.vectors import Metric

_Point = geoopt.ManifoldTensor
_NEVER = torch.zeros((), device="cpu")
_HOST_DEVICES = ("cpu", "mps")


class RiemannianAdam(Optimizer):
    """AdamW on Euclidean tensors, Riemannian Adam on geoopt manifold tensors.

    A step first updates the Euclidean tensors of all groups, then the manifold tensors, so that a
    learnable curvature moved in the same step is the one the points are kept inside of.

    *Euclidean tensors* go through torch's own functional AdamW, one call per group; the result is
    bit for bit that of ``torch.optim.AdamW``.

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

    Args:
        params: tensors or parameter groups; any group may mix both kinds.
        lr: learning rate, a number or a tensor of one number.
        betas: decay rates of the two moments, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: decay rate, see above.
        amsgrad: divide by the largest second moment so far ([BG], Riemannian AMSGrad).
        maximize: ascend instead of descend.
        foreach: torch's choice of implementation; concerns the Euclidean tensors only.
        fused: likewise.
        capturable: keep ``step`` on the device and never read back to the host, so that ``step()``
            can be captured in a CUDA graph (if the manifolds used do not read back either).

    Raises:
        ValueError: a hyperparameter is out of range; ``foreach`` and ``fused`` are both set;
            ``foreach`` with a tensor ``lr`` that is not capturable; ``capturable`` with tensors on
            the CPU; or ``weight_decay`` for a manifold that has no notion of it.
        TypeError: a hyperparameter is not a number or a flag not a bool; ``params`` is not made of
            tensors; or a gradient is sparse (raised by :meth:`step`).
    """

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
        """Take one step; gradients are read, never written.

        The parameters themselves are what a step changes; everything else is left as it is. The
        values of gradients are check-free: NaN gives NaN parameters.

        Args:
            closure: re-evaluates the model, with gradients, and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: ``closure`` cannot be called, or a gradient is sparse.
        """
        loss = None
        if closure is not None:
            if not callable(closure):
                raise TypeError(f"closure must be a function or None, got {closure!r}")
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update_euclidean(group)
        for group in self.param_groups:
            for points in _together(group["params"], self.state):
                if isinstance(points[0].manifold, PoincareBall):
                    self._update_points(points, group)
                else:
                    self._update_manifold(points[0], group)
        return loss

    def _update_euclidean(self, group: dict[str, Any]) -> None:
        # One pass over the tensors: for small ones this loop is what a step costs.
        params, grads, first, second, largest, steps = [], [], [], [], [], []
        amsgrad, complex_, on_cpu = group["amsgrad"], False, True
        for p in group["params"]:
            grad = p.grad
            if grad is None or isinstance(p, _Point):
                continue
            if grad.layout is not torch.strided:
                _refuse_sparse(p)
            state = self.state[p]
            if not state:
                _start(state, p, group["capturable"] or group["fused"])
            if amsgrad:
                if "max_exp_avg_sq" not in state:
                    state["max_exp_avg_sq"] = _zeros(p)
                largest.append(state["max_exp_avg_sq"])
            params.append(p)
            grads.append(grad)
            first.append(state["exp_avg"])
            second.append(state["exp_avg_sq"])
            steps.append(state["step"])
            complex_ = complex_ or p.is_complex()
            on_cpu = on_cpu and p.is_cpu
        if not params:
            return
        fused = group["fused"]
        automatic = fused is None and group["foreach"] is None and not group["capturable"]
        if automatic and on_cpu and not complex_ and not isinstance(group["lr"], Tensor):
            fused = True  # torch's fastest on a CPU, which it does not choose by itself
        beta1, beta2 = group["betas"]
        adamw(
            params,
            grads,
            first,
            second,
            largest,
            steps,
            foreach=group["foreach"],
            capturable=group["capturable"],
            fused=fused,
            has_complex=complex_,
            amsgrad=amsgrad,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )

    def _update_points(self, points: list[Any], group: dict[str, Any]) -> None:
        """Points of one ball, of one width, dtype and number of steps: one formula for all."""
        ball = points[0].manifold
        if ball.learnable:
            for p in points:
                p.copy_(ball.projx(p))
        points = [p for p in points if p.grad is not None]
        if not points:
            return
        for p in points:
            _refuse_sparse(p)
            state = self.state[p]
            if not state:
                state["step"] = _new_step(p.device if group["capturable"] else None)
                state["exp_avg"] = torch.zeros_like(p.data)
                state["exp_avg_sq"] = torch.zeros_like(p.data[..., :1])
            if group["amsgrad"] and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = torch.zeros_like(p.data[..., :1])
            state["step"] += 1
        names = ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])]
        states = [self.state[p] for p in points]
        rows = [_joined([p.grad for p in points]), _joined([p.data for p in points])]
        rows += [_joined([s[name] for s in states]) for name in names]
        formula = adam.step(group["weight_decay"] != 0.0, group["amsgrad"])
        hyperparameters = _hyperparameters(group, points, states)
        limit = ball._limit(points[0])
        compiling = torch.compiler.is_compiling()
        if programs.fits(rows) and not compiling and not isinstance(group["lr"], Tensor):
            numbers: Any = hyperparameters  # none is a tensor here
            programs.update(formula, ball.c.item(), limit, numbers, rows[:3], rows[3:])
            new = rows[1:]
        else:
            m = Metric(ball._c, limit, False, points[0].dtype)
            new = list(formula(m, hyperparameters, *rows))
        _write_back(new[0], [p.data for p in points])
        torch.autograd.graph.increment_version(points)  # neither way has told autograd
        for values, name in zip(new[1:], names, strict=True):
            _write_back(values, [s[name] for s in states])

    def _update_manifold(self, p: Any, group: dict[str, Any]) -> None:
        manifold = p.manifold
        if any(q.requires_grad for q in manifold.parameters()):
            p.copy_(manifold.projx(p))
        if p.grad is None:
            return
        _refuse_sparse(p)
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        beta1, beta2 = group["betas"]
        grad = manifold.egrad2rgrad(p, -p.grad if group["maximize"] else p.grad)
        state = self.state[p]
        if not state:
            state["step"] = _new_step(p.device if group["capturable"] else None)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(manifold.component_inner(p, grad))
        exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]

        if group["weight_decay"] != 0.0:
            shrunk = _shrink(p, lr * group["weight_decay"])
            grad = manifold.transp(p, shrunk, grad)
            exp_avg.copy_(manifold.transp(p, shrunk, exp_avg))
            p.copy_(shrunk)

        state["step"] += 1
        exp_avg.lerp_(grad, 1.0 - beta1)
        exp_avg_sq.lerp_(manifold.component_inner(p, grad), 1.0 - beta2)
        second = exp_avg_sq
        if group["amsgrad"]:
            largest = state.setdefault("max_exp_avg_sq", torch.zeros_like(exp_avg_sq))
            second = largest.copy_(torch.maximum(largest, exp_avg_sq))
        correction1, correction2 = _bias_corrections(state["step"], beta1, beta2)
        direction = (exp_avg / correction1) / ((second / correction2).sqrt() + group["eps"])
        point, transported = manifold.retr_transp(p, -lr * direction, exp_avg)
        p.copy_(point)
        exp_avg.copy_(transported)


def _zeros(p: Tensor) -> Tensor:
    return torch.zeros_like(p, memory_format=torch.preserve_format)


def _start(state: dict[str, Any], p: Tensor, on_device: bool) -> None:
    state["step"] = _new_step(p.device if on_device else None)
    state["exp_avg"] = _zeros(p)
    state["exp_avg_sq"] = _zeros(p)


def _together(params: list[Any], state: dict[Any, Any]) -> list[list[Any]]:
    """Manifold tensors, those that one formula can update at once in one list."""
    groups: dict[Any, list[Any]] = {}
    for p in params:
        if not isinstance(p, _Point):
            continue
        key: Any = id(p)
        if isinstance(p.manifold, PoincareBall) and p.ndim > 0:
            step = state[p].get("step", _NEVER) if p in state else _NEVER
            # A step on an accelerator is not read back: corrections go row by row there.
            count = step.item() if step.is_cpu else None
            key = (id(p.manifold), p.shape[-1], p.dtype, p.device, count, p.grad is None)
        groups.setdefault(key, []).append(p)
    return list(groups.values())


def _joined(tensors: list[Tensor]) -> Tensor:
    """All rows of ``tensors``, (n, width), contiguous; the memory of a single contiguous one."""
    rows = [t.detach().reshape(-1, t.shape[-1]) for t in tensors]
    return rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)


def _write_back(rows: Tensor, tensors: list[Tensor]) -> None:
    start = 0
    for t in tensors:
        count = t.numel() // max(1, t.shape[-1])
        part = rows[start : start + count]
        if part.data_ptr() != t.data_ptr():
            t.copy_(part.view(t.shape))
        start += count


def _hyperparameters(
    group: dict[str, Any], points: list[Any], states: list[dict[str, Any]]
) -> adam.Hyperparameters:
    beta1, beta2 = group["betas"]
    corrections = _bias_corrections(states[0]["step"], beta1, beta2)
    if isinstance(corrections[0], Tensor) and len(points) > 1:
        each = [_bias_corrections(s["step"], beta1, beta2) for s in states]
        counts = [p.numel() // max(1, p.shape[-1]) for p in points]
        corrections = tuple(  # type: ignore[assignment]
            torch.cat([c[k].expand(n, 1) for c, n in zip(each, counts, strict=True)])  # type: ignore[union-attr]
            for k in range(2)
        )
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    return adam.Hyperparameters(
        lr=lr,
        sign=-1.0 if group["maximize"] else 1.0,
        beta1=beta1,
        beta2=beta2,
        eps=group["eps"],
        correction1=corrections[0],
        correction2=corrections[1],
        shrink=1.0 - lr * group["weight_decay"],
    )


def _new_step(device: torch.device | None) -> Tensor:
    # float32 is what torch's fused kernels expect; None is the host, whatever the default device.
    return torch.zeros((), dtype=torch.float32, device="cpu" if device is None else device)


def _bias_corrections(
    step: Tensor, beta1: float, beta2: float
) -> tuple[float | Tensor, float | Tensor]:
    """``1 - beta^step`` for both moments, on the host if ``step`` is there, else on its device."""
    t = step.item() if step.device.type == "cpu" else step.double()
    return 1.0 - beta1**t, 1.0 - beta2**t


def _shrink(p: Any, rate: float | Tensor) -> Tensor:
    """Decoupled weight decay of points: ``(1 - rate) (x) p`` on a Poincare ball."""
    _refuse_weight_decay(p)
    factor = torch.as_tensor(1.0 - rate, dtype=torch.float64)
    shrunk: Tensor = p.manifold.mobius_scalar_mul(factor, p)
    return shrunk


def _refuse_weight_decay(p: Any) -> None:
    if not isinstance(p.manifold, geoopt.PoincareBall):
        raise ValueError(
            f"weight_decay is defined for Euclidean tensors and for points of a Poincare ball, not "
            f"for a parameter on {p.manifold}; put it into a group with weight_decay=0"
        )


def _refuse_sparse(p: Tensor) -> None:
    if p.grad is not None and p.grad.layout != torch.strided:
        raise TypeError(
            f"RiemannianAdam needs dense gradients, got layout {p.grad.layout} for a parameter of "
            f"shape {tuple(p.shape)}; build the embedding with sparse=False"
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
        if group["weight_decay"] != 0.0 and isinstance(p, _Point):
            _refuse_weight_decay(p)


__all__ = ["RiemannianAdam"]
