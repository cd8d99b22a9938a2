"""Formulas run on symbols, to learn what they compute.

A rule uses its arguments only through a :class:`ternvae.manifolds.vectors.Metric` and through
arithmetic on numbers per row. Given the symbols of this module instead, it leaves a list of
operations behind, which :mod:`ternvae.manifolds.assembly` turns into a program.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ternvae.manifolds.vectors import Blend, Product

PARAMETERS = ("c", "root_c", "threshold", "target")
"""What every program is given for each call, first."""


class Recording:
    """What a rule did, as a list of operations on the results of earlier ones."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, tuple[int, ...]]] = []
        self.constants: dict[float, int] = {}

    def number(self, operation: str, *operands: "float | Number") -> "Number":
        return Number(self, self.add(operation, *(self.place(x) for x in operands)))

    def vector(self, operation: str, *places: int) -> "Vector":
        return Vector(self, self.add(operation, *places))

    def add(self, operation: str, *places: int) -> int:
        self.operations.append((operation, places))
        return len(self.operations) - 1

    def place(self, x: "float | Number") -> int:
        """The place of a number, which for a constant is made on first use."""
        if isinstance(x, Number):
            return x.place
        if x not in self.constants:
            self.constants[x] = self.add("constant")
        return self.constants[x]

    def place_of_vector(self, v: "Vector | Blend") -> int:
        if isinstance(v, Blend):
            first, second = (self.place_of_vector(part) for part in (v.first, v.second))  # type: ignore[arg-type]
            return self.add("axpy", self.place(v.t), first, second)  # type: ignore[arg-type]
        return v.place


class Number:
    """A number per row that is not known yet; computes like a tensor."""

    def __init__(self, recording: Recording, place: int) -> None:
        self.recording = recording
        self.place = place

    def _do(self, operation: str, *others: "float | Number") -> "Number":
        return self.recording.number(operation, self, *others)

    def __add__(self, other: "float | Number") -> "Number":
        return self._do("add", other)

    def __sub__(self, other: "float | Number") -> "Number":
        return self._do("subtract", other)

    def __rsub__(self, other: "float | Number") -> "Number":
        return self.recording.number("subtract", other, self)

    def __mul__(self, other: "float | Number") -> "Number":
        return self._do("multiply", other)

    def __truediv__(self, other: "float | Number") -> "Number":
        return self._do("divide", other)

    def __rtruediv__(self, other: "float | Number") -> "Number":
        return self.recording.number("divide", other, self)

    def __neg__(self) -> "Number":
        return self * -1.0

    def __pow__(self, power: int) -> "Number":
        result = functools.reduce(lambda a, b: a * b, [self] * abs(power))
        return result if power > 0 else result.reciprocal()

    def __lt__(self, other: "float | Number") -> "Number":
        return self._do("less", other)

    def __gt__(self, other: "float | Number") -> "Number":
        return self.recording.number("less", other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def square(self) -> "Number":
        return self * self

    def sqrt(self) -> "Number":
        return self._do("sqrt")

    def rsqrt(self) -> "Number":
        return 1.0 / self.sqrt()

    def reciprocal(self) -> "Number":
        return 1.0 / self

    def tanh(self) -> "Number":
        return self._do("tanh")

    def abs(self) -> "Number":
        return self._do("abs")

    def copysign(self, other: "Number") -> "Number":
        return self._do("copysign", other)

    def clamp_min(self, least: "float | Number") -> "Number":
        return self._do("maximum", least)

    def clamp_max(self, most: "float | Number") -> "Number":
        return self._do("minimum", most)

    def clamp(self, least: "float | Number", most: "float | Number") -> "Number":
        return self.clamp_min(least).clamp_max(most)

    def double(self) -> "Number":
        return self

    def to(self, dtype: torch.dtype) -> "Number":
        return self

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> "Number":
        try:
            return _FUNCTIONS[function](*args, **(kwargs or {}))
        except KeyError:
            raise NotImplementedError(f"programs have no operation for {function}") from None


def _select(condition: Number, a: "float | Number", b: "float | Number") -> Number:
    return condition._do("select", a, b)


_FUNCTIONS: dict[Any, Callable[..., Number]] = {
    torch.exp: lambda x: x._do("exp"),
    torch.log1p: lambda x: x._do("log1p"),
    torch.rsub: lambda x, y: y - x,
    torch.addcmul: lambda x, y, z, value=1.0: x + y * z if value == 1.0 else x + value * (y * z),
    torch.where: _select,
    torch.ones_like: lambda x: x.recording.number("multiply", 1.0, 1.0),
}


class Vector:
    """Rows of coordinates that are not known yet."""

    def __init__(self, recording: Recording, place: int) -> None:
        self.recording = recording
        self.place = place


class LimitNumbers(NamedTuple):
    """:class:`ternvae.manifolds.numerics.Limit`, not known yet."""

    threshold: Number
    target: Number


class RecordingMetric:
    """:class:`ternvae.manifolds.vectors.Metric` for recording."""

    dtype = torch.float64  # rounding happens when results are stored

    def __init__(self, recording: Recording, has_limit: bool, wants_c: bool) -> None:
        self._recording = recording
        self.c, self.root_c, threshold, target = (recording.number("parameter") for _ in PARAMETERS)
        self.limit = LimitNumbers(threshold, target) if has_limit else None
        self.wants_c = wants_c
        self._seen: dict[int, tuple[Any, int]] = {}

    def wide(self) -> "RecordingMetric":
        return self

    def with_limit(self, limit: Any) -> "RecordingMetric":
        other = copy.copy(self)
        other.limit = limit
        return other

    def dot(self, x: Any, y: Any, times: float = 1.0) -> Product:
        return Product(x, y, self.c if times == 1.0 else times * self.c, 0.0)  # type: ignore[arg-type]

    def gap(self, x: Any) -> Product:
        return Product(x, x, -self.c, 1.0)  # type: ignore[arg-type]

    def _place(self, v: Any) -> int:
        # A blend that is used twice is computed once.
        if id(v) not in self._seen:
            self._seen[id(v)] = (v, self._recording.place_of_vector(v))
        return self._seen[id(v)][1]

    def measure(self, *products: Product) -> list[Number]:
        found = []
        for product in products:
            places = self._place(product.p), self._place(product.q)
            out = Number(self._recording, self._recording.add("dot", *places))
            out = out * product.scale  # type: ignore[operator]
            found.append(out + product.offset if product.offset != 0.0 else out)
        return found

    def combine(self, *terms: tuple[Any, Any]) -> Vector:
        recording = self._recording
        (number, v), *rest = terms
        place = recording.add("scale", recording.place(number), self._place(v))
        for number, v in rest:
            place = recording.add("axpy", recording.place(number), place, self._place(v))
        return Vector(recording, place)


__all__ = ["PARAMETERS", "LimitNumbers", "Number", "Recording", "RecordingMetric", "Vector"]
