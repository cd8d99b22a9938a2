"""The sum of two registers of a network that runs as one call: values, and both gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ternvae.models import dense

needs_extension = pytest.mark.skipif(
    not dense.available(), reason="the extension was not compiled: no C compiler"
)

ROWS = [1, 16, 65, 257]
#: Around multiples of 16, to which rows of a register are padded.
WIDTHS = [1, 15, 16, 17, 40]


class Sums(nn.Module):
    """Layers of one width, to be added up in one way or another."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.first, self.second = nn.Linear(5, width), nn.Linear(5, width)
        self.square, self.last = nn.Linear(width, width), nn.Linear(width, 3)
        self.bent = nn.Sequential(nn.Linear(5, width), nn.SiLU())


def two_layers(layers: Any, x: Tensor) -> list[Tensor]:
    return [layers.first(x) + layers.second(x)]


def wire_two_layers(layers: Any, wiring: dense.Wiring) -> None:
    x = wiring.load(5)
    first, second = wiring.through(x, layers, "first"), wiring.through(x, layers, "second")
    wiring.store(wiring.add(first, second))


def used_again(layers: Any, x: Tensor) -> list[Tensor]:
    """Each summand and the sum go on to something else as well, one of them later than the sum."""
    first, second = layers.bent(x), layers.first(x)
    total = first + second
    return [second, layers.last(total), layers.square(first) + total]


def wire_used_again(layers: Any, wiring: dense.Wiring) -> None:
    x = wiring.load(5)
    first, second = wiring.through(x, layers, "bent"), wiring.through(x, layers, "first")
    wiring.store(second)
    total = wiring.add(first, second)
    wiring.store(wiring.through(total, layers, "last"))
    wiring.store(wiring.add(wiring.through(first, layers, "square"), total))


def twice_the_same(layers: Any, x: Tensor) -> list[Tensor]:
    first = layers.first(x)
    return [layers.last(first + first)]


def wire_twice_the_same(layers: Any, wiring: dense.Wiring) -> None:
    first = wiring.through(wiring.load(5), layers, "first")
    wiring.store(wiring.through(wiring.add(first, first), layers, "last"))


def past_a_layer(layers: Any, x: Tensor) -> list[Tensor]:
    """What is loaded is a summand itself."""
    wide = layers.first(x)
    return [layers.last(wide + layers.square(wide)), x + x]


def wire_past_a_layer(layers: Any, wiring: dense.Wiring) -> None:
    x = wiring.load(5)
    wide = wiring.through(x, layers, "first")
    total = wiring.add(wide, wiring.through(wide, layers, "square"))
    wiring.store(wiring.through(total, layers, "last"))
    wiring.store(wiring.add(x, x))


NETWORKS: list[tuple[Callable[[Any, Tensor], list[Tensor]], dense.Wire]] = [
    (two_layers, wire_two_layers),
    (used_again, wire_used_again),
    (twice_the_same, wire_twice_the_same),
    (past_a_layer, wire_past_a_layer),
]
every_network = pytest.mark.parametrize(
    ("modules", "wire"), NETWORKS, ids=[modules.__name__ for modules, _ in NETWORKS]
)


def matrix(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    drawn = torch.randn(rows, 5, generator=torch.Generator().manual_seed(rows))
    return drawn.to(dtype).requires_grad_()


def with_gradients(layers: Sums, x: Tensor, outputs: list[Tensor]) -> dict[str, Tensor]:
    """Outputs, and gradients of a sum that weighs each of their elements."""
    generator = torch.Generator().manual_seed(3)
    sum((torch.randn(o.shape, generator=generator) * o).sum() for o in outputs).backward()  # type: ignore[union-attr, no-untyped-call]
    found = {f"output {k}": o.detach() for k, o in enumerate(outputs)}
    learned = {name: p.grad for name, p in layers.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return found | learned | {"x": x.grad}


def assert_like_the_modules(
    modules: Callable[[Any, Tensor], list[Tensor]], wire: dense.Wire, width: int, rows: int
) -> None:
    layers = Sums(width)
    x, exact_x = matrix(rows), matrix(rows, torch.float64)
    outputs = dense.run(layers, wire, None, x)
    assert outputs is not None
    found = with_gradients(layers, x, list(outputs))
    exact = copy.deepcopy(layers).double()
    exact.zero_grad()
    wanted = with_gradients(exact, exact_x, modules(exact, exact_x))
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        error = (value - wanted[name]).abs().max() / (wanted[name].abs().max() + 1e-3)
        assert error < 3e-6, name


@pytest.fixture(params=[0, 3, 4], ids=["any", "x86-64-v3", "x86-64-v4"])
def generation(request: pytest.FixtureRequest) -> Iterator[int]:
    """One version of the inner loops after the other, and then the best of them again."""
    if not (dense.available() and dense._dense.use(request.param)):
        pytest.skip("this processor, or this compiler, has no such vector units")
    yield request.param
    assert any(dense._dense.use(number) for number in (4, 3, 0))


@every_network
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", WIDTHS)
def test_sums_and_the_gradients_of_both_summands_are_those_of_the_modules(
    generation: int,
    modules: Callable[[Any, Tensor], list[Tensor]],
    wire: dense.Wire,
    width: int,
    rows: int,
) -> None:
    assert_like_the_modules(modules, wire, width, rows)


@needs_extension
@pytest.mark.parametrize("frozen", ["first", "second"])
def test_a_summand_that_does_not_learn_takes_nothing_from_the_other(frozen: str) -> None:
    layers = Sums(16)
    whole = with_gradients(
        layers, x := matrix(33), list(dense.run(layers, wire_two_layers, None, x))
    )  # type: ignore[arg-type]
    layers.zero_grad()
    layers.get_submodule(frozen).requires_grad_(False)
    again = matrix(33)
    found = with_gradients(layers, again, list(dense.run(layers, wire_two_layers, None, again)))  # type: ignore[arg-type]
    assert {name for name in whole if name not in found} == {f"{frozen}.weight", f"{frozen}.bias"}
    assert all(torch.equal(found[name], whole[name]) for name in found)


@needs_extension
@pytest.mark.parametrize("summand", ["first", "second"])
def test_what_is_not_a_number_in_one_summand_is_not_lost(summand: str) -> None:
    layers = Sums(16)
    with torch.no_grad():
        layers.get_parameter(f"{summand}.bias")[3] = float("nan")
        (found,) = dense.run(layers, wire_two_layers, None, matrix(20))  # type: ignore[misc]
    assert found[:, 3].isnan().all()
    assert found.isnan().sum() == 20


@needs_extension
@pytest.mark.parametrize(
    ("name", "width_in", "width_out"),
    [("first", 5, 17), ("bent", 5, 15), ("last", 17, 3), ("square", 15, 16), ("square", 16, 32)],
)
def test_widths_that_do_not_fit_are_left_to_the_modules(
    name: str, width_in: int, width_out: int
) -> None:
    """Behind the end of a register is another one."""
    layers = Sums(16)
    assert dense.run(layers, wire_used_again, None, matrix(4)) is not None
    layer: nn.Module = nn.Linear(width_in, width_out)
    setattr(layers, name, nn.Sequential(layer) if name == "bent" else layer)
    assert dense.run(layers, wire_used_again, None, matrix(4)) is None
    with pytest.raises(RuntimeError):
        used_again(layers, matrix(4))
