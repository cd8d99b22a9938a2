"""RiemannianAdam: torch's AdamW on Euclidean tensors, a written-out reference on the ball."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ternvae.manifolds import ManifoldParameter, PoincareBall, RiemannianAdam
from ternvae.manifolds._geoopt import geoopt
from tests.manifolds import oracle


class Model(nn.Module):
    """A ball, points on it, and Euclidean tensors; all in one loss."""

    def __init__(
        self, dtype: torch.dtype = torch.float64, learnable: bool = False, max_radius: float = 0.9
    ) -> None:
        super().__init__()
        self.ball = PoincareBall(1.3, max_radius=max_radius, learnable=learnable)
        start = oracle.points(0.5, 4, 3, 1.3, seed=1).to(dtype)
        self.points = ManifoldParameter(start, manifold=self.ball)
        self.linear = nn.Linear(3, 3).to(dtype)
        with torch.no_grad():
            self.linear.weight.copy_(oracle.points(1.0, 3, 3, 1.0, seed=2))
            self.linear.bias.zero_()
        self.register_buffer("target", oracle.points(0.7, 4, 3, 1.3, seed=3).to(dtype))

    def loss(self) -> Tensor:
        image = self.ball.expmap0(self.linear(self.ball.logmap0(self.points)))
        return (self.ball.dist2(image, self.target) + 0.1 * self.ball.dist0(self.points)).sum()


def train(model: Model, opt: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        opt.zero_grad()
        model.loss().backward()
        opt.step()


# Euclidean tensors


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"amsgrad": True, "maximize": True},
        {"foreach": True},
        {"foreach": False},
        {"fused": True, "weight_decay": 0.01},
        {"betas": (0.0, 0.5), "eps": 1e-3},
        {"lr": torch.tensor(0.01)},
    ],
    ids=str,
)
def test_euclidean_tensors_get_exactly_torchs_adamw(options: dict[str, Any]) -> None:
    options = {"lr": 0.01, "weight_decay": 0.0, **options}
    results = []
    for optimizer in (RiemannianAdam, torch.optim.AdamW):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
        data = torch.randn(20, 5)
        groups = [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.03}]
        if options.get("foreach") is None and isinstance(options["lr"], Tensor):
            groups[1]["lr"] = torch.tensor(0.03)
        ours = optimizer is RiemannianAdam
        automatic = options.get("foreach") is None and not isinstance(options["lr"], Tensor)
        # What is left to choose is fused, which torch's own optimizer must be asked for.
        choice = {} if ours or not automatic else {"fused": True}
        opt = optimizer(groups, **{**options, **choice})
        for _ in range(10):
            opt.zero_grad()
            net(data).square().mean().backward()
            opt.step()
        results.append([p.detach().clone() for p in net.parameters()])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


# Points of the ball


def reference_step(
    ball: PoincareBall,
    x: Tensor,
    grad: Tensor,
    state: dict[str, Any],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
) -> Tensor:
    """One step of Becigneul & Ganea 2019 with bias correction, in elementary formulas."""
    c = ball.c.item()

    def factor(p: Tensor) -> Tensor:
        return 2 / (1 - c * p.square().sum(-1, keepdim=True))

    m, v = state.get("m", torch.zeros_like(x)), state.get("v", torch.zeros_like(x[:, :1]))
    state["t"] = t = state.get("t", 0) + 1
    rgrad = (-grad if maximize else grad) / factor(x) ** 2
    if weight_decay:
        # Along a diameter, transport is the change of the conformal factor alone.
        s = c**0.5 * x.norm(dim=-1, keepdim=True)
        shrunk = x * torch.tanh((1 - lr * weight_decay) * torch.atanh(s)) / s
        m, rgrad = (u * factor(x) / factor(shrunk) for u in (m, rgrad))
        x = shrunk
    m = betas[0] * m + (1 - betas[0]) * rgrad
    v = betas[1] * v + (1 - betas[1]) * factor(x) ** 2 * rgrad.square().sum(-1, keepdim=True)
    largest = torch.maximum(state.get("vmax", v), v)
    second = largest if amsgrad else v
    root = (second / (1 - betas[1] ** t)).sqrt()
    u = -lr * (m / (1 - betas[0] ** t)) / (root + eps)
    n = u.norm(dim=-1, keepdim=True)
    w = torch.tanh(c**0.5 * factor(x) * n / 2) * u / (c**0.5 * n)
    xw, x2, w2 = ((a * b).sum(-1, keepdim=True) for a, b in ((x, w), (x, x), (w, w)))
    new = ((1 + 2 * c * xw + c * w2) * x + (1 - c * x2) * w) / (1 + 2 * c * xw + c * c * x2 * w2)
    state.update(m=geoopt.PoincareBall(torch.tensor(c, dtype=x.dtype)).transp(x, new, m))
    state.update(v=v, vmax=largest)
    return new


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.5},
        {"amsgrad": True},
        {"maximize": True},
        {"amsgrad": True, "weight_decay": 0.3, "maximize": True, "betas": (0.5, 0.7)},
    ],
    ids=str,
)
def test_ball_points_follow_the_reference_loop(options: dict[str, Any]) -> None:
    options = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, **options}
    ball = PoincareBall(1.3)
    target = oracle.points(0.7, 4, 3, 1.3, seed=3)
    p = ManifoldParameter(oracle.points(0.5, 4, 3, 1.3, seed=1), manifold=ball)
    opt = RiemannianAdam([p], **options)
    x, state = p.detach().clone(), {}
    for step in range(12):
        opt.zero_grad()
        # The weight changes, so that amsgrad's maximum is not always the current value.
        weight = 1.0 if step < 6 else 0.01
        (weight * ball.dist2(p, target)).sum().backward()
        x = reference_step(ball, x, p.grad.clone(), state, **options)
        opt.step()
        torch.testing.assert_close(p.detach(), x, rtol=1e-9, atol=1e-11)


def test_amsgrad_and_weight_decay_make_a_difference() -> None:
    """What the comparison above would miss if both sides ignored them."""
    ends = []
    for options in ({}, {"amsgrad": True}, {"weight_decay": 0.5}, {"maximize": True}):
        model = Model()
        opt = RiemannianAdam([model.points], lr=0.05, betas=(0.9, 0.5), **options)
        train(model, opt, 30)
        ends.append(model.points.detach().clone())
    for i, a in enumerate(ends):
        for b in ends[:i]:
            assert (a - b).norm().item() > 1e-3


def test_weight_decay_alone_shrinks_distances_by_the_factor() -> None:
    ball = PoincareBall(0.5)
    start = oracle.points(0.9, 5, 3, 0.5, seed=1)
    p = ManifoldParameter(start.clone(), manifold=ball)
    p.grad = torch.zeros_like(start)
    RiemannianAdam([p], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(ball.dist0(p.detach()), 0.95 * ball.dist0(start))
    torch.testing.assert_close(
        p.detach() / p.detach().norm(dim=-1, keepdim=True), start / start.norm(dim=-1, keepdim=True)
    )


def test_step_length_is_lr_in_the_metric() -> None:
    """The first step of Adam has length lr, wherever the point is."""
    ball = PoincareBall(2.0)
    for norm in (0.0, 0.5, 0.99):
        p = ManifoldParameter(oracle.points(norm, 3, 4, 2.0, seed=1), manifold=ball)
        before = p.detach().clone()
        p.grad = oracle.points(1e3, 3, 4, 1.0, seed=2)
        RiemannianAdam([p], lr=0.05, eps=0.0).step()
        moved = ball.dist(before, p.detach())
        torch.testing.assert_close(moved, torch.full_like(moved, 0.05))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_converges_to_a_frechet_mean_where_the_gradient_vanishes(dtype: torch.dtype) -> None:
    ball = PoincareBall(1.0, max_radius=0.999)
    data = oracle.points(0.9, 20, 3, 1.0, seed=1).to(dtype)
    p = ManifoldParameter(data[:1].clone(), manifold=ball)
    for lr in (0.05, 0.005, 0.0005):
        opt = RiemannianAdam([p], lr=lr)
        for _ in range(200):
            opt.zero_grad()
            ball.dist2(p, data).mean().backward()
            opt.step()
    mean_log = ball.logmap(p.detach(), data).mean(dim=0, keepdim=True)
    assert ball.norm(p.detach(), mean_log).item() < 2e-3


def test_maximize_really_maximises() -> None:
    ball = PoincareBall(1.0, max_radius=0.9)
    p = ManifoldParameter(oracle.points(0.1, 4, 3, 1.0, seed=1), manifold=ball)
    w = nn.Parameter(torch.ones(2))
    opt = RiemannianAdam([p, w], lr=0.1, maximize=True)
    for _ in range(60):
        opt.zero_grad()
        (ball.dist0(p).sum() - (w - 3).square().sum()).backward()
        opt.step()
    assert ball.dist0(p).min().item() == pytest.approx(ball.hyperbolic_radius_max.item(), rel=1e-6)
    assert (w - 3).abs().max().item() < 0.5


def test_gradients_are_never_modified() -> None:
    for options in ({}, {"maximize": True}, {"weight_decay": 0.1}, {"amsgrad": True}):
        model = Model(learnable=True)
        opt = RiemannianAdam(model.parameters(), lr=0.1, **options)
        for _ in range(3):
            opt.zero_grad()
            model.loss().backward()
            before = [p.grad.clone() for p in model.parameters()]
            opt.step()
            for p, g in zip(model.parameters(), before, strict=True):
                assert torch.equal(p.grad, g)


# max_radius


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("lr", [1.0, 1e3, 1e12])
def test_max_radius_is_obeyed_under_huge_lr(lr: float, dtype: torch.dtype) -> None:
    ball = PoincareBall(0.7, max_radius=0.95)
    p = ManifoldParameter(oracle.points(0.5, 50, 4, 0.7, seed=1).to(dtype), manifold=ball)
    opt = RiemannianAdam([p], lr=lr)
    g = torch.Generator().manual_seed(0)
    for _ in range(10):
        p.grad = torch.randn(50, 4, generator=g, dtype=dtype)
        opt.step()
        assert bool(p.isfinite().all())
        assert (0.7**0.5 * p.detach().norm(dim=-1)).max().item() <= 0.95
    assert all(bool(s.isfinite().all()) for s in opt.state[p].values())


@pytest.mark.parametrize("points_first", [False, True])
@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_max_radius_is_obeyed_when_the_curvature_moves(
    direction: float, points_first: bool
) -> None:
    """A growing c shrinks the ball under its points: those without a gradient included."""
    ball = PoincareBall(1.0, max_radius=0.95, learnable=True)
    moving, resting = (
        ManifoldParameter(oracle.points(0.9499, 20, 3, 1.0, seed=s), manifold=ball) for s in (1, 2)
    )
    order = [{"params": [moving, resting]}, {"params": [ball.log_c_ratio]}]
    opt = RiemannianAdam(order if points_first else order[::-1], lr=0.5)
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        ball.log_c_ratio.grad = torch.full_like(ball.log_c_ratio, -direction)
        moving.grad = torch.randn(20, 3, generator=g, dtype=torch.float64)
        opt.step()
        for p in (moving, resting):
            assert (ball.c.sqrt() * p.norm(dim=-1)).max().item() <= 0.95
            assert bool(p.isfinite().all())
    assert (ball.c.item() > 1.0) == (direction > 0)


@pytest.mark.parametrize("learnable", [False, True])
def test_points_updated_together_are_updated_as_if_alone(learnable: bool) -> None:
    """Also if one of them gets its first gradient when the other has already made a step."""

    def run(together: bool) -> list[Tensor]:
        ball = PoincareBall(0.7, learnable=learnable)
        balls = [ball, ball] if together else [ball, copy.deepcopy(ball)]
        starts = [oracle.points(0.5, n, 3, 0.7, seed=n) for n in (4, 2)]
        points = [ManifoldParameter(x, manifold=b) for x, b in zip(starts, balls, strict=True)]
        opt = RiemannianAdam(points, lr=0.05, weight_decay=0.1, amsgrad=True)
        for step in range(4):
            for k, p in enumerate(points):
                p.grad = oracle.points(1.0, len(p), 3, 1.0, seed=10 * step + k)
            if step == 0:
                points[1].grad = None
            versions = [p._version for p in points]
            opt.step()
            moved = [p._version > v for p, v in zip(points, versions, strict=True)]
            assert moved[0] and (step == 0 or moved[1])
        return [p.detach().clone() for p in points]

    for ours, alone in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-14, atol=1e-16)


# Mixed models and state


@pytest.mark.parametrize(
    "options", [{}, {"amsgrad": True}, {"fused": True}, {"foreach": True}, {"weight_decay": 0.01}]
)
@pytest.mark.parametrize("learnable", [False, True])
def test_continuation_from_a_saved_state_is_bit_identical(
    options: dict[str, Any], learnable: bool
) -> None:
    straight = Model(torch.float32, learnable)
    opt = RiemannianAdam(straight.parameters(), lr=0.05, **options)
    train(straight, opt, 5)
    start = straight.loss().item()
    buffer = io.BytesIO()
    torch.save({"model": straight.state_dict(), "optimizer": opt.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)

    resumed = Model(torch.float32, learnable)
    resumed.load_state_dict(saved["model"])
    again = RiemannianAdam(resumed.parameters(), lr=0.7)
    again.load_state_dict(saved["optimizer"])
    train(straight, opt, 20)
    train(resumed, again, 20)
    assert straight.loss().item() < start
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_copied_optimizer_and_model_continue_identically() -> None:
    model = Model()
    opt = RiemannianAdam(model.parameters(), lr=0.05)
    train(model, opt, 3)
    twin = copy.deepcopy(model)
    twin_opt = RiemannianAdam(twin.parameters(), lr=0.05)
    twin_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    train(model, opt, 3)
    train(twin, twin_opt, 3)
    assert torch.equal(model.points, twin.points)


def test_state_layout() -> None:
    model = Model(learnable=True)
    opt = RiemannianAdam(model.parameters(), amsgrad=True)
    train(model, opt, 2)
    for p in model.parameters():
        state = opt.state[p]
        assert set(state) == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
        assert type(state["step"]) is Tensor
        assert state["step"].item() == 2.0
        assert all(type(s) is Tensor for s in state.values())
    assert opt.state[model.points]["exp_avg_sq"].shape == (4, 1)


def test_learnable_curvature_is_trained() -> None:
    model = Model(learnable=True)
    before = model.ball.c.item()
    train(model, RiemannianAdam(model.parameters(), lr=0.01), 5)
    assert model.ball.c.item() != before


def test_closure() -> None:
    model = Model()
    opt = RiemannianAdam(model.parameters(), lr=0.05)
    calls = []

    def closure() -> Tensor:
        opt.zero_grad()
        loss = model.loss()
        loss.backward()
        calls.append(loss.item())
        return loss

    with torch.no_grad():
        first = opt.step(closure)
    assert isinstance(first, Tensor)
    for _ in range(20):
        opt.step(closure)
    assert calls[-1] < calls[0] == first.item()
    assert opt.step() is None


def test_scheduler_and_tensor_lr() -> None:
    ends = []
    for lr in (0.05, torch.tensor(0.05, dtype=torch.float64), torch.tensor([0.05]).double()):
        model = Model()
        opt = RiemannianAdam(model.parameters(), lr=lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
        for _ in range(5):
            train(model, opt, 1)
            scheduler.step()
        ends.append(model.points.detach().clone())
    torch.testing.assert_close(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[2])


def test_other_geoopt_manifolds() -> None:
    """Against geoopt's own optimizer, which does the same on them."""
    for manifold, shape in (
        (geoopt.Sphere(), (4, 3)),
        (geoopt.Euclidean(1), (4, 3)),
        (geoopt.Stiefel(), (4, 2)),
        (geoopt.PoincareBallExact(torch.tensor(1.0, dtype=torch.float64)), (4, 3)),
        (geoopt.ProductManifold((geoopt.Sphere(), 2), (PoincareBall(1.0), 2)), (4, 4)),
    ):
        torch.manual_seed(0)
        start = manifold.random(*shape, dtype=torch.float64)
        target = torch.randn(shape, dtype=torch.float64)
        ends = []
        for optimizer in (RiemannianAdam, geoopt.optim.RiemannianAdam):
            p = ManifoldParameter(start.clone(), manifold=manifold)
            opt = optimizer([p], lr=0.02)
            for _ in range(10):
                opt.zero_grad()
                (p - target).square().sum().backward()
                opt.step()
            ends.append(p.detach().clone())
        torch.testing.assert_close(ends[0], ends[1], rtol=1e-7, atol=1e-9)


# Refusals


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"lr": -1.0}, "lr .*-1.0"),
        ({"lr": float("nan")}, "lr .*nan"),
        ({"lr": float("inf")}, "lr .*inf"),
        ({"lr": torch.ones(2)}, r"lr .*\(2,\)"),
        ({"betas": (1.0, 0.9)}, r"betas .*\(1.0, 0.9\)"),
        ({"betas": (0.9, -0.1)}, r"betas .*-0.1"),
        ({"betas": (0.9,)}, r"betas .*\(0.9,\)"),
        ({"eps": -1e-8}, "eps .*-1e-08"),
        ({"weight_decay": -0.1}, "weight_decay .*-0.1"),
        ({"foreach": True, "fused": True}, "foreach.*fused"),
        ({"foreach": True, "lr": torch.tensor(0.1)}, "foreach.*lr"),
        ({"capturable": True}, "capturable.*cpu"),
    ],
    ids=str,
)
def test_invalid_hyperparameters(options: dict[str, Any], shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        RiemannianAdam([nn.Parameter(torch.zeros(3))], **options)
    with pytest.raises(ValueError, match=shown):
        RiemannianAdam([{"params": [nn.Parameter(torch.zeros(3))], **options}])


def test_unknown_flags_are_refused() -> None:
    for flag in ("differentiable", "decoupled_weight_decay", "stabilize"):
        with pytest.raises(TypeError, match=flag):
            RiemannianAdam([nn.Parameter(torch.zeros(3))], **{flag: True})


def test_weight_decay_on_other_manifolds_is_refused() -> None:
    p = ManifoldParameter(geoopt.Sphere().random(2, 3))
    with pytest.raises(ValueError, match=r"weight_decay.*Sphere"):
        RiemannianAdam([p], weight_decay=0.1)
    opt = RiemannianAdam([p])
    opt.param_groups[0]["weight_decay"] = 0.1  # set behind the constructor's back
    p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match=r"weight_decay.*Sphere"):
        opt.step()


def test_a_refused_group_is_not_kept() -> None:
    opt = RiemannianAdam([nn.Parameter(torch.zeros(3))])
    p = ManifoldParameter(geoopt.Sphere().random(2, 3))
    with pytest.raises(ValueError, match="weight_decay"):
        opt.add_param_group({"params": [p], "weight_decay": 0.1})
    assert len(opt.param_groups) == 1


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    points = ManifoldParameter(torch.zeros(5, 3), manifold=PoincareBall(1.0))
    points.grad = torch.zeros(5, 3).to_sparse()
    embedding(torch.tensor([1])).sum().backward()
    for p in (embedding.weight, points):
        with pytest.raises(TypeError, match="sparse"):
            RiemannianAdam([p]).step()


# On a device


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_capturable_step_in_a_cuda_graph() -> None:
    device = torch.device("cuda")
    ends = []
    for captured in (False, True):
        ball = PoincareBall(1.3, max_radius=0.9).to(device)
        start = oracle.points(0.5, 4, 3, 1.3, seed=1).to(device)
        p = ManifoldParameter(start, manifold=ball)
        w = nn.Parameter(torch.ones(3, device=device, dtype=torch.float64))
        p.grad, w.grad = torch.ones_like(start), torch.ones_like(w)
        opt = RiemannianAdam([p, w], lr=0.02, capturable=captured)
        if captured:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                opt.step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                opt.step()
            for _ in range(9):
                graph.replay()
        else:
            for _ in range(10):
                opt.step()
        assert opt.state[p]["step"].item() == 10.0
        ends.append(p.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-8)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}, {"capturable": True}])
def test_cuda_agrees_with_cpu(options: dict[str, Any]) -> None:
    ends = []
    for device in ("cpu", "cuda"):
        model = Model(learnable=True).to(device)
        chosen = {} if device == "cpu" else options
        train(model, RiemannianAdam(model.parameters(), lr=0.02, **chosen), 10)
        assert model.ball.c.device.type == device
        ends.append(model.points.detach().cpu().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)
