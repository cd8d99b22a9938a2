"""The compiled programs of CPUs against the same rules as torch operations.

Both are evaluated in float64 and differ by its rounding: 1e-12 relative (norm of the difference
over norm) for float64 results, and one rounding to float32 where that is the dtype, 1e-6.
"""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from ternvae.manifolds import math, numerics, programs
from tests.manifolds.functions import FUNCTIONS, LIMITED, ROW_BY_ROW, outcome, spread

C = 0.8
WIDTHS = (1, 2, 3, 8, 16, 24, 128, 600)
# One row, an odd few, a tile and one more, and enough for several threads.
COUNTS = (1, 5, 7, 64, 65, 700)
DTYPES = {
    "float32": (torch.float32,) * 3,
    "float64": (torch.float64,) * 3,
    "mixed": (torch.float32, torch.float64, torch.float32),
}

needs_programs = pytest.mark.skipif(
    not programs.available(), reason="the extension _tiles was not compiled"
)


def inputs_of(count: int, width: int, kind: str = "float64") -> tuple[Tensor, ...]:
    wide = (spread(count, width, C, seed=s, most=m) for s, m in ((1, 0.9), (2, 0.8), (3, 0.6)))
    return tuple(t.to(dtype) for t, dtype in zip(wide, DTYPES[kind], strict=True))


def assert_same(got: list[Tensor | None], want: list[Tensor | None], what: object) -> None:
    """A result and its gradients, which are rounded relative to the cotangent if they cancel."""
    assert want[0] is not None
    cotangent = want[0].numel() ** 0.5
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert (a is None) == (b is None), (what, k)
        if a is None or b is None:
            continue
        assert a.dtype == b.dtype and a.shape == b.shape, (what, k)
        size = torch.linalg.vector_norm(b.double()).item()
        if k > 0:
            size = max(size, 0.1 * cotangent)
        error = torch.linalg.vector_norm(a.double() - b.double()).item()
        tolerance = 1e-12 if a.dtype == torch.float64 else 1e-6
        assert error <= tolerance * size, (what, k, error, size)


def assert_identical(got: list[Tensor | None], want: list[Tensor | None], what: object) -> None:
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert (a is None) == (b is None), (what, k)
        if a is not None and b is not None:
            assert torch.equal(a, b), (what, k)


def everything(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor | None]:
    out, grads = outcome(function, inputs, C)
    return [out, *grads]


def with_torch(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> list[Tensor | None]:
    with monkeypatch.context() as patch:
        patch.setattr(programs, "_tiles", None)
        assert not programs.available()
        return everything(function, inputs)


def limited(name: str, kind: str) -> Callable[..., Tensor]:
    """With a limit that cuts off some of the results and not others."""
    dtype = torch.float32 if kind == "float32" else torch.float64
    limit = numerics.limit_of(dtype, 0.6)
    return lambda x, y, v, c: LIMITED[name](x, y, v, c, limit)


@needs_programs
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_programs_give_what_torch_operations_give(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in COUNTS:
        if name == "pairwise_dist" and count * count * width > 10**6:
            continue  # quadratic in the count
        for kind in DTYPES:
            if width == 600 and count == 700 and kind != "float64":
                continue
            inputs = inputs_of(count, width, kind)
            functions = [FUNCTIONS[name]]
            if name in LIMITED:
                functions.append(limited(name, kind))
            for function in functions:
                want = with_torch(function, inputs, monkeypatch)
                assert_same(everything(function, inputs), want, (count, kind))


@needs_programs
@pytest.mark.parametrize("n_points", [2, 3, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_midpoints_of_a_few_points(
    n_points: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each number of points is a rule of its own."""
    x = torch.stack([spread(65, 5, C, seed=s) for s in range(n_points)])
    w = 0.1 + torch.rand(n_points, 65, dtype=torch.float64, generator=torch.Generator())

    def function(x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return math.weighted_midpoint(x, w if weighted else None, c=c, reducedim=[0])

    want = with_torch(function, (x, w), monkeypatch)
    assert_same(everything(function, (x, w)), want, n_points)


@needs_programs
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(FUNCTIONS)),
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from(sorted(DTYPES)),
)
def test_programs_in_any_size(name: str, width: int, count: int, kind: str) -> None:
    inputs = inputs_of(count, width, kind)
    with pytest.MonkeyPatch.context() as patch:
        want = with_torch(FUNCTIONS[name], inputs, patch)
    assert_same(everything(FUNCTIONS[name], inputs), want, name)


@needs_programs
@pytest.mark.parametrize("width", [5, 16])
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_row_does_not_depend_on_its_place(name: str, width: int) -> None:
    """Bit for bit: the sums over coordinates are in the same order wherever a row is."""
    function = FUNCTIONS[name]
    for kind in ("float32", "float64"):
        x, y, v = inputs_of(200, width, kind)
        whole, grads = outcome(function, (x, y, v), C, grad=torch.ones_like)
        for i in (0, 3, 63, 64, 150, 199):
            for rows in (slice(i, i + 1), slice(i, i + 9), slice(i // 2, i + 1)):
                part = tuple(t[rows] for t in (x, y, v))
                out, part_grads = outcome(function, part, C, grad=torch.ones_like)
                at = i - rows.start
                assert torch.equal(out[at], whole[i]), (kind, rows)
                for a, b in zip(part_grads[:3], grads[:3], strict=True):
                    assert (a is None) == (b is None)
                    assert a is None or b is None or torch.equal(a[at], b[i]), (kind, rows)


@needs_programs
@pytest.mark.parametrize("name", FUNCTIONS)
def test_repetition_and_threads_change_no_bit(name: str) -> None:
    count = 65 if name == "pairwise_dist" else 3000
    threads = torch.get_num_threads()
    inputs = inputs_of(count, 16, "float32")
    try:
        torch.set_num_threads(1)
        want = everything(FUNCTIONS[name], inputs)
        assert_identical(everything(FUNCTIONS[name], inputs), want, "again")
        torch.set_num_threads(2)
        got = everything(FUNCTIONS[name], inputs)
        if name == "mobius_matvec":  # its matrix product is the library's
            assert_same(got, want, "threads")
        else:
            # c's gradient is a sum over rows by torch, which may split it among threads.
            assert_identical(got[:-1], want[:-1], "threads")
            assert_same([want[0], got[-1]], [want[0], want[-1]], "threads")
    finally:
        torch.set_num_threads(threads)


# name -> the same values with other strides
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "column major": lambda t: t.mT.contiguous().mT,
    "every other column": lambda t: t.repeat_interleave(2, dim=1)[:, ::2],
    "every other row": lambda t: t.repeat_interleave(2, dim=0)[::2],
    "some of the columns": lambda t: torch.nn.functional.pad(t, (3, 2), value=7.0)[
        :, 3 : 3 + t.shape[1]
    ],
    "not at the start of the memory": lambda t: torch.nn.functional.pad(
        t.flatten(), (1, 0), value=7.0
    )[1:].view_as(t),
}


def as_backward_sees(layout: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A random cotangent of that layout (numbers per point have no columns to rearrange)."""

    def grad(out: Tensor) -> Tensor:
        g = torch.Generator().manual_seed(4)
        found = torch.randn(out.shape, dtype=torch.float64, generator=g).to(out.dtype)
        return layout(found) if out.ndim == 2 else found.repeat_interleave(2)[::2]

    return grad


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_layouts(name: str, layout: str, kind: str) -> None:
    """Strides change nothing, in inputs or in gradients, and inputs are left as they were."""
    change = LAYOUTS[layout]
    plain = inputs_of(9, 4, kind)
    changed = tuple(change(t) for t in plain)
    versions = [t._version for t in changed]
    want_out, want = outcome(FUNCTIONS[name], plain, C, as_backward_sees(lambda g: g.contiguous()))
    got_out, got = outcome(FUNCTIONS[name], changed, C, as_backward_sees(change))
    assert_same([got_out, *got], [want_out, *want], layout)
    assert [t._version for t in changed] == versions
    assert all(torch.equal(a, b) for a, b in zip(changed, plain, strict=True))


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_expanded_inputs_and_gradients(name: str, kind: str) -> None:
    """Stride 0 over the rows, over the columns, and in the gradient that a sum sends back."""
    function = FUNCTIONS[name]
    x, y, v = inputs_of(6, 4, kind)
    number = 0.3 + 0.1 * x[:, :1].abs()
    for expanded in ((x[:1].expand(6, 4), y, v[:1].expand(6, 4)), (number.expand(6, 4), y, v)):
        same = tuple(t.clone(memory_format=torch.contiguous_format) for t in expanded)
        got_out, got = outcome(function, expanded, C, lambda o: o.new_ones(()).expand_as(o))
        want_out, want = outcome(function, same, C, torch.ones_like)
        assert_same([got_out, *got], [want_out, *want], name)
    leaves = [t.clone().requires_grad_() for t in (x, y, v)]
    out = function(*leaves, C)
    out.sum().backward()
    want_out, (*want, _) = outcome(function, (x, y, v), C, torch.ones_like)
    assert_same([out.detach(), *[t.grad for t in leaves]], [want_out, *want], name)


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_broadcast_gradients_are_summed(name: str) -> None:
    function = FUNCTIONS[name]
    x, y, v = inputs_of(6, 4)
    got_out, got = outcome(function, (x, y[:1], v[:1]), C, torch.ones_like)
    same = (x, y[:1].expand(6, 4), v[:1].expand(6, 4))
    want_out, want = outcome(function, tuple(t.contiguous() for t in same), C, torch.ones_like)
    if got_out.shape == want_out.shape:  # else it is a function of y and v alone
        want[1:3] = [None if g is None else g.sum(0, keepdim=True) for g in want[1:3]]
        assert_same([got_out, *got], [want_out, *want], name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_rows_and_one_point(name: str) -> None:
    function = FUNCTIONS[name]
    x, y, v = inputs_of(3, 4)
    matrix_rows = v if name == "mobius_matvec" else v[:0]
    out, grads = outcome(function, (x[:0], y[:0], matrix_rows), C)
    assert out.shape[0] == 0
    assert all(g is None or bool((g == 0).all()) for g in grads)
    if name == "pairwise_dist":
        return
    one_out, one = outcome(function, (x[1], y[1], v[1]), C, torch.ones_like)
    row_out, row = outcome(function, (x[1:2], y[1:2], v[1:2]), C, torch.ones_like)
    assert_same(
        [one_out, *one],
        [row_out[0], *[g if g is None or g.ndim == 0 else g[0] for g in row]],
        name,
    )


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_bad_row_stays_alone(
    name: str, bad: float, fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fallback:
        monkeypatch.setattr(programs, "_tiles", None)
    for kind in ("float32", "float64"):
        for width, count in ((5, 7), (16, 65)):
            inputs = inputs_of(count, width, kind)
            want_out, want = outcome(FUNCTIONS[name], inputs, C, torch.ones_like)
            others = [k for k in range(count) if k != 3]
            spoilt = tuple(t.clone() for t in inputs)
            for t in spoilt:
                t[3, 1] = bad
            got_out, got = outcome(FUNCTIONS[name], spoilt, C, torch.ones_like)
            assert torch.equal(got_out[others], want_out[others])
            for a, b in zip(got[:3], want[:3], strict=True):
                assert a is None or b is None or torch.equal(a[others], b[others])


@needs_programs
def test_what_programs_decline() -> None:
    """Tensors without memory of their own go through torch operations."""
    x = torch.zeros(2, 3)
    assert programs.fits([x])
    assert not programs.fits([x, x.to("meta")])
    with torch._subclasses.FakeTensorMode() as mode:
        assert not programs.fits([mode.from_tensor(x)])


@needs_programs
def test_programs_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons above compare two different things."""
    calls = []
    real = programs.forward

    def spy(*args: object, **kwargs: object) -> object:
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(programs, "forward", spy)
    math.mobius_add(*inputs_of(2, 3)[:2], c=C)
    assert len(calls) == 1
    with monkeypatch.context() as patch:
        patch.setattr(programs, "_tiles", None)
        math.mobius_add(*inputs_of(2, 3)[:2], c=C)
    assert len(calls) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_do_not_depend_on_which_are_wanted(name: str) -> None:
    """Each set of wanted gradients is a program of its own."""
    inputs = inputs_of(9, 5)
    _, want = outcome(FUNCTIONS[name], inputs, C, torch.ones_like)
    for wanted in ((0,), (1,), (2,), (3,), (0, 2), (1, 2), (0, 1), (0, 3), (0, 1, 2)):
        leaves = [*(t.clone() for t in inputs), torch.tensor(C, dtype=torch.float64)]
        wanted = tuple(k for k in wanted if want[k] is not None)
        if not wanted:
            continue
        for k in wanted:
            leaves[k].requires_grad_()
        out = FUNCTIONS[name](*leaves)
        got = torch.autograd.grad(out, [leaves[k] for k in wanted], torch.ones_like(out))
        assert_same([out.detach(), *got], [out.detach(), *(want[k] for k in wanted)], wanted)


@pytest.mark.parametrize("shape", [(3, 0), (2, 3, 0), (2, 0, 3), (0, 0)], ids=str)
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    """No coordinates is the ball of one point, at distance 0 from itself."""
    x = torch.zeros(shape, requires_grad=True)
    out = math.mobius_add(x, torch.zeros(shape), c=C)
    assert out.shape == shape
    distances = math.dist(x, torch.zeros(shape), c=C)
    assert distances.shape == shape[:-1]
    assert bool((distances == 0.0).all())
    (out.sum() + distances.sum()).backward()
    assert x.grad is not None and x.grad.shape == shape
