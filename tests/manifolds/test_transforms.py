"""The functions under torch.func transforms and torch.compile."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

from ternvae.manifolds import PoincareBall, math, programs
from tests.manifolds.functions import FUNCTIONS, outcome, spread

# PyTorch's own: dynamo makes an instance of each autograd function that it traces, and the forward
# mode of torch.func and the default backend of torch.compile script functions of their own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]

C = 0.8
needs_programs = pytest.mark.skipif(
    not programs.available(), reason="the extension _tiles was not compiled"
)
FALLBACK = [
    pytest.param(False, id="programs", marks=needs_programs),
    pytest.param(True, id="torch"),
]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def points(count: int = 6, width: int = 4, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [
        spread(count, width, C, seed=s, most=m).to(dtype) for s, m in ((1, 0.9), (2, 0.8), (3, 0.5))
    ]


def assert_outcomes_close(got: Any, want: Any) -> None:
    for a, b in zip((got[0], *got[1]), (want[0], *want[1]), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            eps = torch.finfo(a.dtype).eps
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=64 * eps, atol=64 * eps)


# torch.func


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap(name: str) -> None:
    x, y, v = (t.reshape(3, 2, 4) for t in points())
    got = torch.func.vmap(lambda a, b, u: FUNCTIONS[name](a, b, u, C))(x, y, v)
    want = [FUNCTIONS[name](a, b, u, C) for a, b, u in zip(x, y, v, strict=True)]
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd])
@pytest.mark.parametrize("name", ["mobius_add", "dist", "logmap", "expmap", "geodesic", "project"])
def test_jacobians(name: str, transform: Callable[..., Any]) -> None:
    x, y, v = (t[0] for t in points())
    c = torch.tensor(C, dtype=torch.float64)

    def function(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        return FUNCTIONS[name](x, y, v, c)

    want = torch.autograd.functional.jacobian(function, (x, y, c))
    got = transform(function, argnums=(0, 1, 2))(x, y, c)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["mobius_add", "dist", "logmap", "expmap", "parallel_transport"])
def test_hessian(name: str) -> None:
    x, y, v = (t[0] for t in points())

    def loss(x: Tensor) -> Tensor:
        return FUNCTIONS[name](x, y, v, C).square().sum()

    want = torch.autograd.functional.hessian(loss, x)
    torch.testing.assert_close(torch.func.hessian(loss)(x), want, rtol=1e-10, atol=1e-10)


def test_gradients_per_sample() -> None:
    x, y, v = points()
    got = torch.func.vmap(torch.func.grad(lambda a, b: math.dist(a, b, c=C)))(x, y)
    _, (want, *_) = outcome(FUNCTIONS["dist"], (x, y, v), C, torch.ones_like)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


# Other ways to differentiate


@pytest.mark.parametrize("fallback", FALLBACK)
@pytest.mark.parametrize("name", ["mobius_add", "dist", "geodesic", "weighted_midpoint"])
def test_batched_gradients(name: str, fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass runs inside vmap, the forward pass did not."""
    if fallback:
        monkeypatch.setattr(programs, "_tiles", None)
    x, y, v = points(3)

    def function(x: Tensor, c: Tensor) -> Tensor:
        return FUNCTIONS[name](x, y, v, c)

    inputs = (x, torch.tensor(C, dtype=torch.float64))
    want = torch.autograd.functional.jacobian(function, inputs)
    got = torch.autograd.functional.jacobian(function, inputs, vectorize=True)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    # The same by the other vmap, around autograd.grad.
    leaf = x.clone().requires_grad_()
    out = function(leaf, inputs[1])
    basis = torch.eye(out.numel(), dtype=out.dtype).view(-1, *out.shape)
    rows = torch.func.vmap(lambda g: torch.autograd.grad(out, leaf, g, retain_graph=True)[0])(basis)
    torch.testing.assert_close(rows.view_as(want[0]), want[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("fallback", FALLBACK)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant: bool, fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for the backward pass is asked for once, as checkpointing demands."""
    if fallback:
        monkeypatch.setattr(programs, "_tiles", None)

    def function(x: Tensor, y: Tensor, v: Tensor, c: Tensor) -> Tensor:
        return math.dist(math.expmap(x, v, c=c), y, c=c)

    def checkpointed(*args: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=reentrant)

    if reentrant:  # supports .backward() only
        leaves = [t.requires_grad_() for t in points()]
        checkpointed(*leaves, torch.tensor(C, dtype=torch.float64)).sum().backward()
        _, want = outcome(function, tuple(points()), C, torch.ones_like)
        for leaf, grad in zip(leaves, want[:3], strict=True):
            assert torch.equal(leaf.grad, grad)
    else:
        got, want = (outcome(f, tuple(points()), C) for f in (checkpointed, function))
        assert_outcomes_close(got, want)


# torch.compile

# As torch operations the others are traced in the same way, and slowly: one of each kind of rule.
TRACED = (
    "mobius_add",
    "mobius_scalar_mul",
    "dist",
    "dist2plane",
    "pairwise_dist",
    "expmap",
    "logmap",
    "parallel_transport",
    "weighted_midpoint",
    "project",
)


def compiled(function: Callable[..., Tensor], dynamic: bool = False) -> Callable[..., Tensor]:
    """Forward and backward in one graph each, without generating code for them."""
    return torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)


@needs_programs
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_graph(name: str) -> None:
    inputs = tuple(points(dtype=torch.float32))
    got = outcome(compiled(FUNCTIONS[name]), inputs, C)
    assert_outcomes_close(got, outcome(FUNCTIONS[name], inputs, C))


@pytest.mark.parametrize("name", TRACED)
def test_compiled_graph_of_torch_operations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_tiles", None)
    inputs = tuple(points(dtype=torch.float32))
    got = outcome(compiled(FUNCTIONS[name]), inputs, C)
    assert_outcomes_close(got, outcome(FUNCTIONS[name], inputs, C))


@pytest.mark.parametrize("fallback", FALLBACK)
@pytest.mark.parametrize("name", ["mobius_add", "dist", "inner"])
def test_compiled_graph_of_one_tensor_twice(
    name: str, fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fallback:
        monkeypatch.setattr(programs, "_tiles", None)
    function = {
        "mobius_add": lambda x, c: math.mobius_add(x, x, c=c),
        "dist": lambda x, c: math.dist(x, x, c=c),
        "inner": lambda x, c: math.inner(x, x, x, c=c),
    }[name]
    inputs = (points()[0],)
    assert_outcomes_close(outcome(compiled(function), inputs, C), outcome(function, inputs, C))


# name -> a method of the ball that uses several of its formulas
METHODS: dict[str, Callable[[PoincareBall, Tensor, Tensor, Tensor], Tensor]] = {
    "projx": lambda b, x, y, v: b.projx(3 * x),
    "expmap": lambda b, x, y, v: b.expmap(x, v),
    "expmap0": lambda b, x, y, v: b.expmap0(v),
    "logmap": lambda b, x, y, v: b.logmap(x, y),
    "mobius_coadd": lambda b, x, y, v: b.mobius_coadd(x, y),
    "mobius_matvec": lambda b, x, y, v: b.mobius_matvec(v[:4], x),
    "weighted_midpoint": lambda b, x, y, v: b.weighted_midpoint(x, v[:, 0].square()),
    "dist2": lambda b, x, y, v: b.dist2(x, y),
    "dist2plane": lambda b, x, y, v: b.dist2plane(x, y, v, signed=True, scaled=True),
    "pairwise_dist": lambda b, x, y, v: b.pairwise_dist(x, y),
    "retr_transp": lambda b, x, y, v: torch.cat(b.retr_transp(x, v, y)),
    "geodesic": lambda b, x, y, v: b.geodesic(0.3, x, y),
    "geodesic_unit": lambda b, x, y, v: b.geodesic_unit(0.3, x, v),
    "sproj": lambda b, x, y, v: b.sproj(b.inv_sproj(x)),
    "inner": lambda b, x, y, v: b.inner(x, v),
    "egrad2rgrad": lambda b, x, y, v: b.egrad2rgrad(x, v),
}


def method_check(name: str, learnable: bool) -> None:
    ball = PoincareBall(C, max_radius=0.7, learnable=learnable)

    def gradients(function: Callable[..., Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        leaves = [t.requires_grad_() for t in points(dtype=torch.float32)]
        out = function(ball, *leaves)
        wanted = [*leaves, *ball.parameters()]
        return out.detach(), list(torch.autograd.grad(out.sum(), wanted, allow_unused=True))

    assert_outcomes_close(gradients(compiled(METHODS[name])), gradients(METHODS[name]))


@pytest.mark.parametrize("name", METHODS)
def test_compiled_methods_with_a_learned_curvature(name: str) -> None:
    method_check(name, learnable=True)


@pytest.mark.parametrize("name", ["projx", "expmap", "dist2"])
def test_compiled_methods_with_a_fixed_curvature(name: str) -> None:
    method_check(name, learnable=False)


@pytest.mark.parametrize("name", ["projx", "dist2"])
def test_compiled_methods_of_torch_operations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_tiles", None)
    method_check(name, learnable=True)


@pytest.mark.parametrize("fallback", FALLBACK)
def test_one_compiled_graph_for_every_batch_size(
    fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fallback:
        monkeypatch.setattr(programs, "_tiles", None)
    function = compiled(FUNCTIONS["mobius_add"], dynamic=True)
    for count in (6, 9, 70):
        inputs = tuple(points(count))
        want = outcome(FUNCTIONS["mobius_add"], inputs, C)
        assert_outcomes_close(outcome(function, inputs, C), want)


@pytest.mark.parametrize("fallback", FALLBACK)
def test_default_backend(fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: generates and compiles C++ code for a small model."""
    if fallback:
        monkeypatch.setattr(programs, "_tiles", None)

    def function(x: Tensor, y: Tensor, v: Tensor, c: Tensor) -> Tensor:
        moved = math.mobius_add(x, math.expmap0(torch.tanh(v), c=c), c=c)
        return math.dist(moved, y, c=c) * 2.0

    inputs = tuple(points(dtype=torch.float32))
    got = outcome(torch.compile(function, fullgraph=True, dynamic=False), inputs, C)
    assert_outcomes_close(got, outcome(function, inputs, C))
