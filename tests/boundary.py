"""How a public function is put to the proof at its boundary: what is given, and how it is spoilt.

A case names a function, valid arguments and, for each of them, what must be refused.
:func:`check_valid` and :func:`check_spoilt` are the two properties; ``tests/test_boundary.py`` runs
them over the registry of ``tests/boundary_*.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Curvature of the balls that points are made for.
C = 0.8


@dataclass(frozen=True)
class Material:
    """What Hypothesis draws, and all arguments are made of."""

    seed: int
    rows: int
    width: int
    dtype: torch.dtype
    n_digits: int
    grad: bool

    def generator(self, k: int) -> torch.Generator:
        return torch.Generator().manual_seed(100 * self.seed + k)

    def normal(self, k: int, *shape: int) -> Tensor:
        drawn = torch.randn(shape, dtype=torch.float64, generator=self.generator(k))
        return drawn.to(self.dtype).requires_grad_(self.grad)

    def points(self, k: int = 0) -> Tensor:
        """(rows, width) points of the ball of curvature -C, within 0.8 of its radius."""
        drawn = torch.randn(self.rows, self.width, dtype=torch.float64, generator=self.generator(k))
        share = 0.1 + 0.7 * torch.rand(
            self.rows, 1, dtype=torch.float64, generator=self.generator(k + 50)
        )
        inside = drawn / drawn.norm(dim=-1, keepdim=True) * share / C**0.5
        return inside.to(self.dtype).requires_grad_(self.grad)

    def integers(self, k: int, high: int, *shape: int) -> Tensor:
        """int64 tensor of values in 0..high."""
        return torch.randint(0, high + 1, shape, generator=self.generator(k))


@dataclass(frozen=True)
class Spoil:
    """One way to spoil an argument: the bad value, and what the message has to show of it.

    ``refusal``: what is raised; ``OSError`` where what is on the disk is wrong, not the argument.
    """

    label: str
    make: Callable[[Any, Material], Any]
    shown: Callable[[Any], tuple[str, ...]]
    refusal: tuple[type[Exception], ...] = (ValueError, TypeError)


def _plainly(bad: Any) -> tuple[str, ...]:
    """The value, its type, or of a list the element or the shape that is to blame."""
    elements = [repr(x) for x in bad if type(x) is not int] if isinstance(bad, list) else []
    kinds = [{list: "list", dict: "mapping"}.get(type(bad), type(bad).__name__)]
    empty = ["(0,)"] if bad == [] else []
    return repr(bad), str(bad), type(bad).__name__, *kinds, *elements, *empty


def given(*bads: Any) -> tuple[Spoil, ...]:
    """These values instead; the message shows the value or its type."""
    return tuple(Spoil(f"{bad!r}"[:40], lambda v, m, bad=bad: bad, _plainly) for bad in bads)


def made(label: str, make: Callable[[Any, Material], Any], *shown: str) -> tuple[Spoil, ...]:
    """A value made from the valid one; the message shows one of these words, or the value."""
    return (Spoil(label, make, lambda bad: shown or _plainly(bad)),)


def dtype(*dtypes: torch.dtype) -> tuple[Spoil, ...]:
    """The same tensor in another dtype."""
    return tuple(
        Spoil(str(d), lambda v, m, d=d: v.detach().to(d), lambda bad: (str(bad.dtype)[6:],))
        for d in dtypes
    )


def shape(label: str, make: Callable[[Tensor, Material], Tensor]) -> tuple[Spoil, ...]:
    """A tensor of another shape."""
    return (Spoil(label, lambda v, m: make(v.detach(), m), lambda bad: (str(tuple(bad.shape)),)),)


def value(label: str, element: float, *shown: str) -> tuple[Spoil, ...]:
    """The same tensor with another last element."""

    def make(v: Tensor, m: Material) -> Tensor:
        bad = v.detach().clone()
        bad.view(-1)[-1] = element
        return bad

    return (Spoil(label, make, lambda bad: shown or (str(element), f"{element:g}")),)


META = (Spoil("meta", lambda v, m: v.detach().to("meta"), lambda bad: ("meta",)),)
NO_TENSOR = (
    *given(None, "tensor", 3.5),
    *made("list", lambda v, m: v.detach().tolist(), "list"),
    *made("array", lambda v, m: v.detach().numpy(), "ndarray"),
)
NO_FLOATS = dtype(torch.int64, torch.bool, torch.float16, torch.complex64)
NO_INT64 = dtype(torch.float64, torch.int32, torch.bool)
RANK_0 = shape("no dimension", lambda v, m: v.reshape(-1)[0])
RANK_1 = shape("one dimension", lambda v, m: v.reshape(-1))
ONE_MORE = shape("one dimension more", lambda v, m: v.unsqueeze(0))
ROWS = shape("rows that do not broadcast", lambda v, m: torch.cat([v, v[:1]]))
WIDTH = shape("another width", lambda v, m: torch.cat([v, v[..., :1]], dim=-1))
INTEGERS = given(None, "9", 9.5, True)
N_DIGITS = (*INTEGERS, *given(0, -1, 99))
REALS = given(None, "1", True, float("nan"), float("inf"))
BRANCH = given("C", "a", "", None, 0)


@dataclass(frozen=True)
class Argument:
    """A maker of valid values of one argument, and the ways to spoil them.

    ``any_value``: of a tensor whose every value is valid.
    """

    make: Callable[[Material], Any]
    spoils: tuple[Spoil, ...] = ()
    any_value: bool = False


@dataclass(frozen=True)
class Case:
    """One public callable.

    Attributes:
        subject: the function, method or class whose docstring counts.
        arguments: what to call it with, by name.
        call: how; by default with the arguments as keywords.
        changes: the arguments that it is there to change.
    """

    subject: Any
    arguments: dict[str, Argument]
    call: Callable[..., Any] | None = None
    changes: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        return f"{self.subject.__module__.removeprefix('ternvae.')}.{self.subject.__qualname__}"

    def made(self, material: Material) -> dict[str, Any]:
        return {name: argument.make(material) for name, argument in self.arguments.items()}

    def run(self, arguments: dict[str, Any]) -> Any:
        found = (self.call or self.subject)(**arguments)
        return list(found) if isinstance(found, Iterator) else found


# --- the properties -------------------------------------------------------------------------


def snapshot(thing: Any) -> Any:
    """All that may not change about an argument, bit for bit, in a form that can be compared."""
    if isinstance(thing, Tensor):
        raw = None
        if not thing.is_meta:
            raw = thing.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        grad = None if thing.grad_fn is not None else snapshot(thing.grad)
        form = (thing.dtype, thing.shape, thing.stride(), thing.device, thing.requires_grad)
        return type(thing), raw, grad, form, thing._version
    if isinstance(thing, np.ndarray):
        return thing.dtype, thing.shape, thing.strides, thing.flags.writeable, thing.tobytes()
    if isinstance(thing, nn.Module):
        state = {**dict(thing.named_parameters()), **dict(thing.named_buffers())}
        return snapshot(state), [module.training for module in thing.modules()]
    if isinstance(thing, dict):
        return type(thing), [(key, snapshot(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return type(thing), [snapshot(value) for value in thing]
    if isinstance(thing, Path):
        beside = sorted(thing.parent.iterdir()) if thing.parent.is_dir() else None
        return str(thing), on_disk(thing), beside
    if isinstance(thing, torch.Generator) or callable(thing):
        return id(thing)  # a generator is there to be drawn from
    return repr(thing)


def on_disk(path: Path) -> Any:
    """The bytes of a file, those of all files in a folder by name, or None if there is neither."""
    try:
        if path.is_dir():
            return {each.name: on_disk(each) for each in path.iterdir()}
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def check_unchanged(case: Case, arguments: dict[str, Any], before: dict[str, Any]) -> None:
    for name, was in before.items():
        assert snapshot(arguments[name]) == was, f"{case.name} changed its argument {name}"


def snapshots(case: Case, arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: snapshot(a) for name, a in arguments.items() if name not in case.changes}


def check_valid(case: Case, material: Material) -> None:
    """Valid arguments are accepted and left as they are."""
    arguments = case.made(material)
    before = snapshots(case, arguments)
    case.run(arguments)
    check_unchanged(case, arguments, before)


#: Whatever is given, nobody reads more than that.
LONGEST_MESSAGE = 2000


def check_spoilt(case: Case, material: Material) -> None:
    """Each spoilt argument is refused by a message that shows it, and nothing is changed."""
    for name, argument in case.arguments.items():
        for spoil in argument.spoils:
            arguments = case.made(material)
            bad = arguments[name] = spoil.make(arguments[name], material)
            before = {each: snapshot(value) for each, value in arguments.items()}
            what = f"{case.name} with {name} spoilt ({spoil.label})"
            try:
                found = case.run(arguments)
            except spoil.refusal as error:
                message = str(error)
            except Exception as error:
                raise AssertionError(f"{what} raised {error!r}") from error
            else:
                raise AssertionError(f"{what} gave {found!r}")
            shown = spoil.shown(bad)
            assert any(word in message for word in shown), f"{what}: no {shown} in {message!r}"
            assert len(message) < LONGEST_MESSAGE, f"{what} says {len(message)} characters"
            check_unchanged(case, arguments, before)


#: Labels of the spoils of tensors by value; who has none of them must say so.
BY_VALUE = ("nan", "inf", "-inf", "outside", "below", "above")


def trusts_values(case: Case, material: Material) -> bool:
    """Whether a tensor is taken without a look at its values."""
    arguments = case.made(material)
    return any(
        isinstance(arguments[name], Tensor)
        and not a.any_value
        and not any(spoil.label in BY_VALUE for spoil in a.spoils)
        for name, a in case.arguments.items()
    )


def says_check_free(subject: Any) -> bool:
    return "check-free" in (inspect.getdoc(subject) or "").lower()


def check_documented(case: Case, material: Material) -> None:
    """Who takes a tensor without a look at its values says so."""
    if trusts_values(case, material):
        assert says_check_free(case.subject), f"{case.name} does not say that it is check-free"
