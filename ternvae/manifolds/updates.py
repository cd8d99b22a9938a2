"""What one step of Riemannian Adam does to the tensors of a parameter group.

References:
    [BG] G. Becigneul, O.-E. Ganea, "Riemannian Adaptive Optimization Methods", ICLR 2019.

Every function takes a flag that lies on the device of the tensors, or None. Where it is 1, all is
left as it was, and the host never learns.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ternvae.manifolds import programs
from ternvae.manifolds._geoopt import geoopt
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.rules import adam
from ternvae.manifolds.vectors import Metric

Point = geoopt.ManifoldTensor
_PLAIN = (Tensor, nn.Parameter)


def counts_on_device(group: Mapping[str, Any]) -> bool:
    """Whether the steps of a group are counted where its tensors are, and not on the host."""
    return bool(group["capturable"] or group["fused"])


class Flats(NamedTuple):
    """Euclidean tensors that one call updates.

    Attributes:
        places: where they are among the parameters that they were picked from.
        params: they themselves.
        first: first moments.
        second: second moments.
        largest: largest second moments, with amsgrad.
        steps: counts of steps.
        counter: all of ``steps``, which are parts of it; None if torch's own function counts.
        fused: torch's choice of implementation, for its own function.
    """

    places: list[int]
    params: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    largest: list[Tensor]
    steps: list[Tensor]
    counter: Tensor | None
    fused: bool | None


def flats_of(params: Sequence[Any], group: Mapping[str, Any], state: Any) -> list[Flats]:
    """Those of ``params`` that are Euclidean and have a gradient; states are begun where needed.

    Args:
        params: parameters that share all hyperparameters.
        group: the hyperparameters.
        state: of the optimizer.
    """
    found: dict[Any, list[int]] = {}
    for place, p in enumerate(params):
        if p.grad is None or isinstance(p, Point):
            continue
        refuse_sparse(p)
        own = state[p]
        if not own:
            _start(own, p, _zeros(p), counts_on_device(group))
        if group["amsgrad"] and "max_exp_avg_sq" not in own:
            own["max_exp_avg_sq"] = _zeros(p)
        key: tuple[Any, ...] = (_is_fused(p, group),)
        if key[0] and type(p) in _PLAIN and not torch.compiler.is_compiling():
            key = (True, p.dtype, p.device, own["step"].dtype, own["step"].device)
        found.setdefault(key, []).append(place)
    return [
        _together(key, places, [params[k] for k in places], [state[params[k]] for k in places])
        for key, places in found.items()
    ]


def _together(
    key: tuple[Any, ...], places: list[int], params: list[Any], states: list[dict[str, Any]]
) -> Flats:
    counter = None
    if len(key) > 1:
        # Counting tensor by tensor would take longer than the update.
        counter = torch.stack([own["step"] for own in states])
        for own, step in zip(states, counter.unbind(), strict=True):
            own["step"] = step
    first, second, steps = (
        [own[name] for own in states] for name in ("exp_avg", "exp_avg_sq", "step")
    )
    largest = [own["max_exp_avg_sq"] for own in states if "max_exp_avg_sq" in own]
    return Flats(places, params, first, second, largest, steps, counter, key[0])


def _is_fused(p: Tensor, group: Mapping[str, Any]) -> bool | None:
    chosen: bool | None = group["fused"]
    if chosen is not None or group["foreach"] is not None or group["capturable"]:
        return chosen
    # torch's fastest on a CPU, which it does not choose by itself
    return (p.is_cpu and not p.is_complex() and not isinstance(group["lr"], Tensor)) or None


def update_flats(
    flats: Flats, group: Mapping[str, Any], grads: Sequence[Any], flag: Tensor | None
) -> None:
    """One step of AdamW.

    Args:
        flats: what :func:`flats_of` gave.
        group: the hyperparameters of now.
        grads: gradients of all parameters that it was picked from.
        flag: see above.
    """
    own = [grads[k] for k in flats.places]
    for grad, p in zip(own, flats.params, strict=True):
        if grad.layout is not torch.strided:
            refuse_sparse(p)
    beta1, beta2 = group["betas"]
    options = {
        "amsgrad": group["amsgrad"],
        "beta1": beta1,
        "beta2": beta2,
        "lr": group["lr"],
        "weight_decay": group["weight_decay"],
        "eps": group["eps"],
        "maximize": group["maximize"],
    }
    if flats.counter is not None:
        _update_fused(flats, own, flats.counter, options, flag)
        return
    kept = _copies(flag, flats.params, flats.first, flats.second, flats.largest, flats.steps)
    adamw(
        *(flats.params, own, flats.first, flats.second),
        *(flats.largest if group["amsgrad"] else [], flats.steps),
        foreach=group["foreach"],
        capturable=group["capturable"],
        fused=flats.fused,
        has_complex=any(p.is_complex() for p in flats.params),
        **options,
    )
    _restore(flag, kept)


def _update_fused(
    flats: Flats,
    grads: list[Tensor],
    counter: Tensor,
    options: dict[str, Any],
    flag: Tensor | None,
) -> None:
    """What torch's fused AdamW does, without sorting the tensors in every step."""
    device = counter.device
    if flag is not None:
        flag = flag.to(device, non_blocking=True)
    if isinstance(options["lr"], Tensor) and not options["lr"].is_cpu:
        options["lr"] = options["lr"].to(device, non_blocking=True)
    counter.add_(1.0 if flag is None else 1.0 - flag)
    torch._fused_adamw_(
        *(flats.params, grads, flats.first, flats.second),
        *(flats.largest if options["amsgrad"] else [], flats.steps),
        **options,
        found_inf=flag,
    )


def points_together(points: Sequence[Any], state: Any) -> list[list[Any]]:
    """Manifold tensors, those that one formula can update at once in one list."""
    if len(points) < 2:
        return [list(points)] if points else []
    groups: dict[Any, list[Any]] = {}
    for p in points:
        key: Any = id(p)
        if isinstance(p.manifold, PoincareBall) and p.ndim > 0:
            step = state[p].get("step") if p in state else None
            # A step on an accelerator is not read back: corrections go row by row there.
            count = 0.0 if step is None else step.item() if step.is_cpu else None
            key = (id(p.manifold), p.shape[-1], p.dtype, p.device, count, p.grad is None)
        groups.setdefault(key, []).append(p)
    return list(groups.values())


def begun(p: Any, group: Mapping[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The state of a point of the ball that has a gradient, begun where it was not."""
    refuse_sparse(p)
    if not own:
        _start(own, p, torch.zeros_like(p.data[..., :1]), counts_on_device(group))
    if group["amsgrad"] and "max_exp_avg_sq" not in own:
        own["max_exp_avg_sq"] = torch.zeros_like(p.data[..., :1])
    return own


def update_points(
    points: list[Any], group: Mapping[str, Any], state: Any, flag: Tensor | None
) -> None:
    """Points of one ball, of one width, dtype and number of steps: one formula for all."""
    ball = points[0].manifold
    kept = _copies(flag, points)
    if ball.learnable:
        for p in points:
            p.copy_(ball.projx(p))
    moved = [p for p in points if p.grad is not None]
    if moved:
        states = [begun(p, group, state[p]) for p in moved]
        if flag is not None:
            kept += _copies(flag, *(own.values() for own in states))
        for own in states:
            own["step"].add_(1.0)
        _move_points(moved, states, group)
    _restore(flag, kept)


def _move_points(points: list[Any], states: list[dict[str, Any]], group: Mapping[str, Any]) -> None:
    ball, amsgrad, lr = points[0].manifold, group["amsgrad"], group["lr"]
    values = [p.data for p in points]
    moments = [[own[name] for own in states] for name in ("exp_avg", "exp_avg_sq")]
    if amsgrad:
        moments.append([own["max_exp_avg_sq"] for own in states])
    rows = [_joined([p.grad for p in points]), *map(_joined, (values, *moments))]
    formula = adam.step(group["weight_decay"] != 0.0, amsgrad)
    hyperparameters = _hyperparameters(group, points, states)
    limit = ball._limit(values[0])
    if not isinstance(lr, Tensor) and programs.fits(rows) and not torch.compiler.is_compiling():
        numbers: Any = hyperparameters  # none is a tensor here
        programs.update(formula, float(ball._c), limit, numbers, rows[:3], rows[3:])
        new = rows[1:]
    else:
        m = Metric(ball._c, limit, False, values[0].dtype)
        new = list(formula(m, hyperparameters, *rows))
    for found, tensors in zip(new, (values, *moments), strict=True):
        _write_back(found, tensors)
    torch.autograd.graph.increment_version(points)  # nobody has told autograd


def update_manifold(p: Any, group: Mapping[str, Any], state: Any, flag: Tensor | None) -> None:
    """A point of any other manifold, in its own operations."""
    manifold = p.manifold
    kept = _copies(flag, [p])
    if any(q.requires_grad for q in manifold.parameters()):
        p.copy_(manifold.projx(p))
    if p.grad is not None:
        refuse_sparse(p)
        grad = manifold.egrad2rgrad(p, -p.grad if group["maximize"] else p.grad)
        own = state[p]
        if not own:
            second = torch.zeros_like(manifold.component_inner(p, grad))
            _start(own, p, second, counts_on_device(group))
        if group["amsgrad"] and "max_exp_avg_sq" not in own:
            own["max_exp_avg_sq"] = torch.zeros_like(own["exp_avg_sq"])
        kept += _copies(flag, own.values())
        _move_point(p, grad, own, group)
    _restore(flag, kept)


def _move_point(p: Any, grad: Tensor, own: dict[str, Any], group: Mapping[str, Any]) -> None:
    manifold = p.manifold
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    beta1, beta2 = group["betas"]
    exp_avg, exp_avg_sq = own["exp_avg"], own["exp_avg_sq"]
    if group["weight_decay"] != 0.0:
        shrunk = _shrink(p, lr * group["weight_decay"])
        grad = manifold.transp(p, shrunk, grad)
        exp_avg.copy_(manifold.transp(p, shrunk, exp_avg))
        p.copy_(shrunk)

    own["step"] += 1
    exp_avg.lerp_(grad, 1.0 - beta1)
    exp_avg_sq.lerp_(manifold.component_inner(p, grad), 1.0 - beta2)
    second = exp_avg_sq
    if group["amsgrad"]:
        largest = own["max_exp_avg_sq"]
        second = largest.copy_(torch.maximum(largest, exp_avg_sq))
    correction1, correction2 = _bias_corrections(own["step"], beta1, beta2)
    direction = (exp_avg / correction1) / ((second / correction2).sqrt() + group["eps"])
    point, transported = manifold.retr_transp(p, -lr * direction, exp_avg)
    p.copy_(point)
    exp_avg.copy_(transported)


def _copies(flag: Tensor | None, *tensors: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Tensors with copies of them, if they may have to be as they were."""
    return [] if flag is None else [(t, t.detach().clone()) for t in chain(*tensors)]


def _restore(flag: Tensor | None, kept: list[tuple[Tensor, Tensor]]) -> None:
    if flag is not None:
        for t, before in kept:
            t.copy_(torch.where(flag.to(t.device, non_blocking=True) == 1.0, before, t))


def _zeros(p: Tensor) -> Tensor:
    return torch.zeros_like(p, memory_format=torch.preserve_format)


def _start(own: dict[str, Any], p: Tensor, second: Tensor, on_device: bool) -> None:
    # float32 is what torch's fused kernels expect; else the host, whatever the default device.
    device = p.device if on_device else "cpu"
    own["step"] = torch.zeros((), dtype=torch.float32, device=device)
    own["exp_avg"] = _zeros(p.data)
    own["exp_avg_sq"] = second


def _joined(tensors: list[Tensor]) -> Tensor:
    """All rows of ``tensors``, (n, width), contiguous; the memory of a single contiguous one."""
    rows = [t if t.ndim == 2 else t.reshape(-1, t.shape[-1]) for t in tensors]
    return rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)


def _write_back(rows: Tensor, tensors: list[Tensor]) -> None:
    if len(tensors) == 1 and rows.data_ptr() == tensors[0].data_ptr():
        return
    start = 0
    for t in tensors:
        count = t.numel() // max(1, t.shape[-1])
        t.copy_(rows[start : start + count].view(t.shape))
        start += count


def _hyperparameters(
    group: Mapping[str, Any], points: list[Any], states: list[dict[str, Any]]
) -> adam.Hyperparameters:
    beta1, beta2 = group["betas"]
    corrections = _bias_corrections(states[0]["step"], beta1, beta2)
    if isinstance(corrections[0], Tensor) and len(points) > 1:
        each = [_bias_corrections(own["step"], beta1, beta2) for own in states]
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


def _bias_corrections(
    step: Tensor, beta1: float, beta2: float
) -> tuple[float | Tensor, float | Tensor]:
    """``1 - beta^step`` for both moments, on the host if ``step`` is there, else on its device."""
    t = step.item() if step.is_cpu else step.double()
    return 1.0 - beta1**t, 1.0 - beta2**t


def _shrink(p: Any, rate: float | Tensor) -> Tensor:
    """Decoupled weight decay of points: ``(1 - rate) (x) p`` on a Poincare ball."""
    refuse_weight_decay(p)
    factor = torch.as_tensor(1.0 - rate, dtype=torch.float64)
    shrunk: Tensor = p.manifold.mobius_scalar_mul(factor, p)
    return shrunk


def refuse_weight_decay(p: Any) -> None:
    """Raise ``ValueError`` unless the manifold of ``p`` has a notion of weight decay."""
    if not isinstance(p.manifold, geoopt.PoincareBall):
        raise ValueError(
            f"weight_decay is defined for Euclidean tensors and for points of a Poincare ball, not "
            f"for a parameter on {p.manifold}; put it into a group with weight_decay=0"
        )


def refuse_sparse(p: Tensor) -> None:
    """Raise ``TypeError`` if ``p`` has a sparse gradient."""
    if p.grad is not None and p.grad.layout != torch.strided:
        raise TypeError(
            f"RiemannianAdam needs dense gradients, got layout {p.grad.layout} for a parameter of "
            f"shape {tuple(p.shape)}; build the embedding with sparse=False"
        )


__all__ = [
    "Flats",
    "Point",
    "begun",
    "counts_on_device",
    "flats_of",
    "points_together",
    "refuse_sparse",
    "refuse_weight_decay",
    "update_flats",
    "update_manifold",
    "update_points",
]
