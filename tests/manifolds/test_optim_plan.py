"""What a step finds out once and keeps, and what makes it find out again; steps that do not count.

The comparison is an optimizer that keeps nothing from one step to the next.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ternvae.manifolds import ManifoldParameter, PoincareBall, RiemannianAdam
from ternvae.manifolds._geoopt import geoopt
from tests.manifolds import oracle


class Forgetful(RiemannianAdam):
    """Finds everything out in every step."""

    def _take_step(self, flag: Tensor | None) -> None:
        self._plan = None
        super()._take_step(flag)


class Mixed(nn.Module):
    """Points of a ball, of a sphere, and Euclidean tensors of two dtypes."""

    p0: nn.Parameter
    p1: nn.Parameter
    late: nn.Parameter

    def __init__(self, *, learnable: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.ball = PoincareBall(1.3, max_radius=0.9, learnable=learnable)
        for k, rows in enumerate((4, 2)):
            start = oracle.points(0.5, rows, 3, 1.3, seed=k)
            self.register_parameter(f"p{k}", ManifoldParameter(start, manifold=self.ball))
        sphere = geoopt.Sphere()
        self.s = ManifoldParameter(sphere.random(2, 3, dtype=torch.float64), manifold=sphere)
        self.first, self.second = nn.Linear(3, 40), nn.Linear(7, 5)
        self.wide = nn.Parameter(torch.randn(9, dtype=torch.float64))

    def groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [*self.first.parameters(), self.p0]},
            {"params": [*self.second.parameters(), self.wide, self.p1]},
            {"params": list(self.ball.parameters())},
            {"params": [self.s], "weight_decay": 0.0},
        ]


def give(model: nn.Module, seed: int, without: tuple[str, ...] = ()) -> None:
    """Gradients, new tensors for all parameters but those that get none."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        drawn = torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype)
        p.grad = None if name in without else drawn


def contents(model: nn.Module, opt: RiemannianAdam) -> dict[str, Tensor]:
    """Weights, moments and counts, and how many of them there are."""
    found: dict[str, Tensor] = {}
    for name, p in model.named_parameters():
        found[name] = p.detach().clone().as_subclass(Tensor)
        for key, value in opt.state.get(p, {}).items():
            found[f"{key} of {name}"] = value.clone().as_subclass(Tensor)
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def reload(model: Mixed, opt: RiemannianAdam) -> None:
    saved = copy.deepcopy(opt.state_dict())
    for state in saved["state"].values():
        state["exp_avg"] *= 0.5
    opt.load_state_dict(saved)


def replace(model: Mixed, opt: RiemannianAdam) -> None:
    for key in ("exp_avg", "step"):
        opt.state[model.second.weight][key] = opt.state[model.second.weight][key] * 2.0


def add_group(model: Mixed, opt: RiemannianAdam) -> None:
    model.register_parameter("late", nn.Parameter(torch.ones(3)))
    opt.add_param_group({"params": [model.late], "lr": 0.5})


def other_parameter(model: Mixed, opt: RiemannianAdam) -> None:
    model.first = nn.Linear(3, 40)
    opt.param_groups[0]["params"][:2] = list(model.first.parameters())


def other_data(model: Mixed, opt: RiemannianAdam) -> None:
    model.first.weight.data = torch.ones(40, 3)
    model.p0.data = oracle.points(0.2, 4, 3, 1.3, seed=9)


def amsgrad(model: Mixed, opt: RiemannianAdam) -> None:
    for group in opt.param_groups:
        group["amsgrad"] = True


def rates(model: Mixed, opt: RiemannianAdam) -> None:
    for k, group in enumerate(opt.param_groups):
        group["lr"] = 0.01 * (k + 1)


def counts(model: Mixed, opt: RiemannianAdam) -> None:
    opt.state[model.p0]["step"].fill_(7.0)
    opt.state[model.first.bias]["step"].fill_(5.0)


def choice(model: Mixed, opt: RiemannianAdam) -> None:
    opt.param_groups[0]["foreach"] = True


def tensor_rate(model: Mixed, opt: RiemannianAdam) -> None:
    opt.param_groups[1]["lr"] = torch.tensor(0.02, dtype=torch.float64)


def tensor_rate_of_all(model: Mixed, opt: RiemannianAdam) -> None:
    lr = torch.tensor(0.02, dtype=torch.float64)
    for group in opt.param_groups:
        group["lr"] = lr


def forget(model: Mixed, opt: RiemannianAdam) -> None:
    opt.state.pop(model.second.bias)
    opt.state.pop(model.p1)


def swap(model: Mixed, opt: RiemannianAdam) -> None:
    """The two moments of a weight change places."""
    state = opt.state[model.first.bias]
    state["exp_avg"], state["exp_avg_sq"] = state["exp_avg_sq"], state["exp_avg"].abs()


CHANGES: list[Callable[[Mixed, RiemannianAdam], None]] = [
    *(reload, replace, add_group, other_parameter, other_data, amsgrad, rates, counts),
    *(choice, tensor_rate, tensor_rate_of_all, forget, swap),
]


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "amsgrad": True}], ids=str)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_between_steps_is_noticed(
    change: Callable[[Mixed, RiemannianAdam], None], options: dict[str, Any]
) -> None:
    ends = []
    for kind in (RiemannianAdam, Forgetful):
        model = Mixed()
        opt = kind(model.groups(), lr=0.02, **options)
        for step in range(7):
            if step == 3:
                change(model, opt)
            give(model, step)
            opt.step()
        ends.append(contents(model, opt))
    assert same(*ends)


def test_who_has_a_gradient_may_change_from_step_to_step() -> None:
    without = [(), ("first.weight", "p1"), ("first.weight",), (), ("p0", "wide"), (), ("s",)]
    ends = []
    for kind in (RiemannianAdam, Forgetful):
        model = Mixed()
        opt = kind(model.groups(), lr=0.02)
        for step, names in enumerate(without):
            opt.zero_grad()
            give(model, step, names)
            opt.step()
        assert opt.state[model.first.weight]["step"] == 5
        ends.append(contents(model, opt))
    assert same(*ends)


def test_a_plan_is_made_once_and_not_copied() -> None:
    model = Mixed()
    opt = RiemannianAdam(model.groups(), lr=0.02)
    for step in range(5):
        give(model, step)
        opt.step()
        if step == 1:  # the sphere's state begins in the first step
            plan = opt._plan
    assert plan is not None and opt._plan is plan
    for copied in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):  # noqa: S301
        assert copied._plan is None and copied.found_inf is None
        before = contents(model, opt)
        for group in copied.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        copied.step()
        assert same(before, contents(model, opt))


def test_the_plan_of_a_first_step_lasts() -> None:
    """A second step may be captured in a graph, which must not contain the making of a plan."""
    model = Mixed()
    opt = RiemannianAdam(model.groups()[:3], lr=0.02, amsgrad=True)  # no sphere
    give(model, 0)
    opt.step()
    plan = opt._plan
    assert plan is not None
    opt.step()
    assert opt._plan is plan


def test_groups_that_share_hyperparameters_are_updated_as_if_alone() -> None:
    """Torch's fused AdamW gets each of them in a call of its own."""
    ends = []
    for kind in (RiemannianAdam, torch.optim.AdamW):
        torch.manual_seed(0)
        nets = [nn.Linear(5, 7), nn.Linear(7, 33), nn.Linear(3, 3)]
        groups = [{"params": list(net.parameters()), "lr": 0.01} for net in nets]
        opt = kind(groups, fused=True, weight_decay=0.1)
        for step in range(8):
            opt.param_groups[2]["lr"] = 0.01 * (1 + step % 2)
            for k, net in enumerate(nets):
                give(net, 10 * step + k)
            opt.step()
        ends.append([p.detach() for net in nets for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


# Steps that do not count

WAYS: list[dict[str, Any]] = [
    *({}, {"fused": True}, {"foreach": True}, {"foreach": False}, {"amsgrad": True}),
    *({"weight_decay": 0.1, "maximize": True}, {"lr": torch.tensor(0.02)}),
]


def spoil(model: nn.Module, seed: int) -> None:
    give(model, seed)
    for p in model.parameters():
        assert p.grad is not None
        p.grad.view(-1)[0] = float("nan")


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_step_that_does_not_count_changes_nothing(options: dict[str, Any], on_host: bool) -> None:
    """Read by the host, or obeyed by the device alone: here, too, the host's memory."""
    ends = []
    for disturbed in (False, True):
        model = Mixed()
        opt = RiemannianAdam(model.groups(), **{"lr": 0.02, **options})
        flag = torch.zeros(())
        for step in range(6):
            if disturbed and step % 2:
                before, pointers = contents(model, opt), [p.data_ptr() for p in model.parameters()]
                flag.fill_(1.0)
                spoil(model, step)
                take(opt, flag, on_host)
                assert same(before, contents(model, opt))
                assert pointers == [p.data_ptr() for p in model.parameters()]
                flag.fill_(0.0)
            give(model, step)
            take(opt, flag if disturbed else None, on_host)
        ends.append(contents(model, opt))
    assert same(*ends)


def take(opt: RiemannianAdam, flag: Tensor | None, on_host: bool) -> None:
    if on_host:
        opt.found_inf = flag
        opt.step()
    else:
        with torch.no_grad():
            opt._take_step(flag)


@pytest.mark.parametrize("on_host", [True, False])
def test_a_first_step_may_not_count(on_host: bool) -> None:
    model = Mixed()
    opt = RiemannianAdam(model.groups(), lr=0.02)
    before = contents(model, opt)
    spoil(model, 0)
    take(opt, torch.ones(()), on_host)
    assert all(torch.equal(p.detach(), before[n]) for n, p in model.named_parameters())
    assert not any(bool(v.any()) for state in opt.state.values() for v in state.values())


def test_the_closure_is_asked_for_even_so() -> None:
    model = Mixed()
    opt = RiemannianAdam(model.groups(), lr=0.02)
    opt.found_inf = torch.ones(())
    before = contents(model, opt)
    assert opt.step(lambda: 3.0) == 3.0
    assert same(before, contents(model, opt))


# No word to the host


class NoHost(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Refuses whatever waits for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        waits = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select")
        assert name.removeprefix("aten::").split(".")[0] not in waits, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "weight_decay": 0.1}], ids=str)
def test_a_capturable_step_tells_the_host_nothing(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of the device meta have no values that the host could ask for."""
    calls: list[dict[str, Any]] = []

    def fused(params: list[Tensor], *_lists: Any, **keywords: Any) -> None:
        assert {p.device.type for p in params} == {"meta"}
        calls.append(keywords)

    # Torch has no such kernel for meta; those for accelerators wait for nothing.
    monkeypatch.setattr(torch, "_fused_adamw_", fused)
    ball = PoincareBall(1.3, max_radius=0.9, learnable=True).to("meta")
    nets = [nn.Linear(3, 4, device="meta") for _ in range(2)]
    points = [
        ManifoldParameter(torch.empty(n, 3, dtype=torch.float64, device="meta"), manifold=ball)
        for n in (4, 2)
    ]
    groups: list[dict[str, Any]] = [
        {"params": [*nets[0].parameters(), *points]},
        {"params": [*nets[1].parameters(), *ball.parameters()]},
    ]
    opt = RiemannianAdam(groups, lr=0.02, capturable=True, fused=True, **options)
    for group in opt.param_groups:
        group["lr"] = torch.empty((), device="meta")
    opt.found_inf = torch.empty((), device="meta")
    for p in (p for group in groups for p in group["params"]):
        p.grad = torch.empty_like(p)
    with NoHost():  # type: ignore[no-untyped-call]  # torch's own
        for _ in range(3):
            opt.step()
    assert len(calls) == 3 * 3  # the curvature is float64
    for keywords in calls:
        assert keywords["found_inf"] is opt.found_inf and keywords["lr"].is_meta
    assert all(state["step"].is_meta for state in opt.state.values())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_obeys_the_flag() -> None:
    device = torch.device("cuda")
    model = Mixed().to(device)
    groups = [{**group, "lr": torch.tensor(0.02, device=device)} for group in model.groups()[:3]]
    opt = RiemannianAdam(groups, fused=True, capturable=True)
    opt.found_inf = flag = torch.zeros((), device=device)
    give(model, 0)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        opt.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
    for value in (0.0, 1.0, 0.0):
        before = contents(model, opt)
        flag.fill_(value)
        graph.replay()
        assert same(before, contents(model, opt)) == bool(value)
    assert all(state["step"] == 3 for state in opt.state.values())
