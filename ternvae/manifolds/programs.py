"""Formulas as programs that run over tiles of rows, on CPUs.

As torch operations, a formula of the ball costs twenty to sixty passes over memory and as many calls
of the library. Here each rule is run once on symbols instead of tensors, which records what it
computes; the record, with registers assigned, is a program for the extension ``_tiles``, which keeps
every intermediate result of a tile in the cache. So there is one text of each formula, and the
result is the same up to the rounding of float64.

The extension is optional (see ``setup.py``): without it, :func:`available` is False.
"""

import array
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ternvae.manifolds import numerics as num
from ternvae.manifolds.numerics import Curvature, Limit
from ternvae.manifolds.vectors import Blend, Product

try:
    from ternvae.manifolds import _tiles
except ImportError:  # installed without a C compiler
    _tiles = None

OPERATIONS = (
    "load_vector",
    "load_number",
    "dot",
    "scale",
    "axpy",
    "add",
    "subtract",
    "multiply",
    "divide",
    "sqrt",
    "exp",
    "tanh",
    "log1p",
    "abs",
    "copysign",
    "minimum",
    "maximum",
    "less",
    "select",
    "store_vector",
    "store_number",
)
"""In the order of the enumeration in ``_tiles.c``."""

_CODES = {name: code for code, name in enumerate(OPERATIONS)}
_GIVE_VECTORS = ("load_vector", "scale", "axpy")
_TAKE_VECTORS = {"dot": (0, 1), "scale": (1,), "axpy": (1, 2), "store_vector": (0,)}


def available() -> bool:
    """Whether the extension was compiled when this package was installed."""
    return _tiles is not None


def fits(tensors: Sequence[Tensor]) -> bool:
    """Whether programs can work on ``tensors`` here and now: the plain memory of a CPU.

    Under ``torch.compile`` the graph calls the programs as opaque operations.
    """
    if _tiles is None:
        return False
    if torch.compiler.is_compiling():
        return all(t.is_cpu for t in tensors)
    for t in tensors:
        # Classes that intercept operations (fake, functional, distributed tensors) may be hollow.
        if not t.is_cpu or type(t).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return False
    return True


# Recording


class _Recording:
    """What a rule did, as a list of operations on the results of earlier ones."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, tuple[int, ...]]] = []
        self.constants: dict[float, int] = {}

    def number(self, operation: str, *operands: "float | _Number") -> "_Number":
        return _Number(self, self._add(operation, *(self.place(x) for x in operands)))

    def vector(self, operation: str, *places: int) -> "_Vector":
        return _Vector(self, self._add(operation, *places))

    def _add(self, operation: str, *places: int) -> int:
        self.operations.append((operation, places))
        return len(self.operations) - 1

    def place(self, x: "float | _Number") -> int:
        """The place of a number, which for a constant is made on first use."""
        if isinstance(x, _Number):
            return x.place
        if x not in self.constants:
            self.constants[x] = self._add("constant")
        return self.constants[x]

    def place_of_vector(self, v: "_Vector | Blend") -> int:
        if isinstance(v, Blend):
            first, second = (self.place_of_vector(part) for part in (v.first, v.second))  # type: ignore[arg-type]
            return self._add("axpy", self.place(v.t), first, second)  # type: ignore[arg-type]
        return v.place


class _Number:
    """A number per row that is not known yet; computes like a tensor."""

    def __init__(self, recording: _Recording, place: int) -> None:
        self.recording = recording
        self.place = place

    def _do(self, operation: str, *others: "float | _Number") -> "_Number":
        return self.recording.number(operation, self, *others)

    def __add__(self, other: "float | _Number") -> "_Number":
        return self._do("add", other)

    def __sub__(self, other: "float | _Number") -> "_Number":
        return self._do("subtract", other)

    def __rsub__(self, other: "float | _Number") -> "_Number":
        return self.recording.number("subtract", other, self)

    def __mul__(self, other: "float | _Number") -> "_Number":
        return self._do("multiply", other)

    def __truediv__(self, other: "float | _Number") -> "_Number":
        return self._do("divide", other)

    def __rtruediv__(self, other: "float | _Number") -> "_Number":
        return self.recording.number("divide", other, self)

    def __neg__(self) -> "_Number":
        return self * -1.0

    def __pow__(self, power: int) -> "_Number":
        result = functools.reduce(lambda a, b: a * b, [self] * abs(power))
        return result if power > 0 else result.reciprocal()

    def __lt__(self, other: "float | _Number") -> "_Number":
        return self._do("less", other)

    def __gt__(self, other: "float | _Number") -> "_Number":
        return self.recording.number("less", other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def square(self) -> "_Number":
        return self * self

    def sqrt(self) -> "_Number":
        return self._do("sqrt")

    def rsqrt(self) -> "_Number":
        return 1.0 / self.sqrt()

    def reciprocal(self) -> "_Number":
        return 1.0 / self

    def tanh(self) -> "_Number":
        return self._do("tanh")

    def abs(self) -> "_Number":
        return self._do("abs")

    def copysign(self, other: "_Number") -> "_Number":
        return self._do("copysign", other)

    def clamp_min(self, least: "float | _Number") -> "_Number":
        return self._do("maximum", least)

    def clamp_max(self, most: "float | _Number") -> "_Number":
        return self._do("minimum", most)

    def clamp(self, least: "float | _Number", most: "float | _Number") -> "_Number":
        return self.clamp_min(least).clamp_max(most)

    def double(self) -> "_Number":
        return self

    def to(self, dtype: torch.dtype) -> "_Number":
        return self

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> "_Number":
        try:
            return _FUNCTIONS[function](*args, **(kwargs or {}))
        except KeyError:
            raise NotImplementedError(f"programs have no operation for {function}") from None


def _select(condition: _Number, a: "float | _Number", b: "float | _Number") -> _Number:
    return condition._do("select", a, b)


_FUNCTIONS: dict[Any, Callable[..., _Number]] = {
    torch.exp: lambda x: x._do("exp"),
    torch.log1p: lambda x: x._do("log1p"),
    torch.rsub: lambda x, y: y - x,
    torch.addcmul: lambda x, y, z, value=1.0: x + y * z if value == 1.0 else x + value * (y * z),
    torch.where: _select,
    torch.ones_like: lambda x: x.recording.number("multiply", 1.0, 1.0),
}


class _Vector:
    """Rows of coordinates that are not known yet."""

    def __init__(self, recording: _Recording, place: int) -> None:
        self.recording = recording
        self.place = place


class _LimitNumbers(NamedTuple):
    """:class:`ternvae.manifolds.numerics.Limit`, not known yet."""

    threshold: _Number
    target: _Number


class _RecordingMetric:
    """:class:`ternvae.manifolds.vectors.Metric` for recording."""

    dtype = torch.float64  # rounding happens when results are stored

    def __init__(self, recording: _Recording, has_limit: bool, wants_c: bool) -> None:
        self._recording = recording
        self.c, self.root_c, threshold, target = (
            recording.number("parameter") for _ in range(len(_parameters(1.0, None)))
        )
        self.limit = _LimitNumbers(threshold, target) if has_limit else None
        self.wants_c = wants_c
        self._seen: dict[int, tuple[Any, int]] = {}

    def wide(self) -> "_RecordingMetric":
        return self

    def dot(self, x: Any, y: Any, times: float = 1.0) -> Product:
        return Product(x, y, self.c if times == 1.0 else times * self.c, 0.0)  # type: ignore[arg-type]

    def gap(self, x: Any) -> Product:
        return Product(x, x, -self.c, 1.0)  # type: ignore[arg-type]

    def _place(self, v: Any) -> int:
        # A blend that is used twice is computed once.
        if id(v) not in self._seen:
            self._seen[id(v)] = (v, self._recording.place_of_vector(v))
        return self._seen[id(v)][1]

    def measure(self, *products: Product) -> list[_Number]:
        found = []
        for product in products:
            places = self._place(product.p), self._place(product.q)
            out = _Number(self._recording, self._recording._add("dot", *places))
            out = out * product.scale  # type: ignore[operator]
            found.append(out + product.offset if product.offset != 0.0 else out)
        return found

    def combine(self, *terms: tuple[Any, Any]) -> _Vector:
        recording = self._recording
        (number, v), *rest = terms
        place = recording._add("scale", recording.place(number), self._place(v))
        for number, v in rest:
            place = recording._add("axpy", recording.place(number), place, self._place(v))
        return _Vector(recording, place)


# From a recording to a program


class _Program(NamedTuple):
    """Code for the extension, and what its results are."""

    handle: Any
    gives_vector: tuple[bool, ...]


def _parameters(c: float, limit: Limit | None) -> tuple[float, ...]:
    """What differs from call to call, in the order in which a recording numbers it."""
    return (c, c**0.5, *(limit or (0.0, 0.0)))


def _assemble(recording: _Recording, n_inputs: int, results: Sequence[Any]) -> _Program:
    """Drop what no result needs, assign registers, and encode."""
    operations = recording.operations
    needed = _needed(operations, [r.place for r in results])
    values = sorted(recording.constants, key=lambda value: recording.constants[value])
    pinned = [recording.constants[value] for value in values]
    pinned += [k for k, (name, _) in enumerate(operations) if name == "parameter"]
    register = {place: k for k, place in enumerate(pinned)}
    steps = _schedule(operations, needed, set(pinned), results)
    code, counts = _assign(operations, steps, register, len(pinned))
    handle = _tiles.prepare(
        array.array("i", code).tobytes(),
        array.array("d", values).tobytes(),
        counts["number"],
        counts["vector"],
        n_inputs,
        len(results),
    )
    return _Program(handle, tuple(isinstance(r, _Vector) for r in results))


def _reads(operation: str, operands: tuple[int, ...]) -> tuple[int, ...]:
    """The operands that are places; those of a load number an input."""
    return () if operation.startswith("load") else operands


def _needed(operations: Sequence[tuple[str, tuple[int, ...]]], places: list[int]) -> set[int]:
    needed: set[int] = set()
    while places:
        place = places.pop()
        if place not in needed:
            needed.add(place)
            places.extend(_reads(*operations[place]))
    return needed


def _schedule(
    operations: Sequence[tuple[str, tuple[int, ...]]],
    needed: set[int],
    pinned: set[int],
    results: Sequence[Any],
) -> list[tuple[str, int, tuple[int, ...]]]:
    """``(operation, place or output, operands)`` in order: load late, store early."""
    steps: list[tuple[str, int, tuple[int, ...]]] = []
    loaded: set[int] = set()

    def emit(place: int) -> None:
        name, operands = operations[place]
        steps.append((name, place, operands))
        for k, result in enumerate(results):
            if result.place == place:
                store = "store_vector" if isinstance(result, _Vector) else "store_number"
                steps.append((store, k, (place,)))

    for place, (name, operands) in enumerate(operations):
        if place not in needed or place in pinned or name.startswith("load"):
            continue
        for k in operands:
            if operations[k][0].startswith("load") and k not in loaded:
                loaded.add(k)
                emit(k)
        emit(place)
    return steps


def _assign(
    operations: Sequence[tuple[str, tuple[int, ...]]],
    steps: Sequence[tuple[str, int, tuple[int, ...]]],
    register: dict[int, int],
    n_pinned: int,
) -> tuple[list[int], dict[str, int]]:
    """Encode ``steps`` with as few registers as they need at a time."""
    last = {k: i for i, (name, _, operands) in enumerate(steps) for k in _reads(name, operands)}
    counts = {"number": n_pinned, "vector": 0}
    free: dict[str, list[int]] = {"number": [], "vector": []}
    pinned = set(register)
    code: list[int] = []
    for i, (name, out, operands) in enumerate(steps):
        reads = _reads(name, operands)
        used = [register[k] for k in reads] if reads else list(operands)
        for k in set(reads) - pinned:
            if last[k] == i:
                kind = "vector" if operations[k][0] in _GIVE_VECTORS else "number"
                free[kind].append(register[k])
        if name.startswith("store"):
            target = out
        else:
            kind = "vector" if name in _GIVE_VECTORS else "number"
            if free[kind]:
                target = free[kind].pop()
            else:
                target = counts[kind]
                counts[kind] += 1
            register[out] = target
        code += [_CODES[name], target, *used, *([0] * (3 - len(used)))]
    return code, counts


@functools.cache
def _forward_program(rule: Any, n_vectors: int, n_numbers: int, has_limit: bool) -> _Program:
    recording = _Recording()
    m = _RecordingMetric(recording, has_limit, False)
    rows = _load_rows(recording, 0, n_vectors, n_numbers)
    value, kept = rule.forward(m, *rows)
    return _assemble(recording, len(rows), [value, *kept])


@functools.cache
def _backward_program(
    rule: Any, n_vectors: int, n_numbers: int, has_limit: bool, wanted: tuple[bool, ...]
) -> _Program:
    forward = _forward_program(rule, n_vectors, n_numbers, has_limit)
    n_kept = len(forward.gives_vector) - 1
    recording = _Recording()
    m = _RecordingMetric(recording, has_limit, wanted[0])
    kept = [_Number(recording, recording._add("load_number", k)) for k in range(n_kept)]
    grad: Any
    if forward.gives_vector[0]:
        grad = recording.vector("load_vector", n_kept)
    else:
        grad = _Number(recording, recording._add("load_number", n_kept))
    rows = _load_rows(recording, n_kept + 1, n_vectors, n_numbers)
    *found, grad_c = rule.backward(m, tuple(kept), grad, *rows)
    results = [
        g for g, want in zip((*found, grad_c), (*wanted[1:], wanted[0]), strict=True) if want
    ]
    return _assemble(recording, n_kept + 1 + len(rows), results)


@functools.cache
def _step_program(formula: Any, n_vectors: int, n_numbers: int, n_parameters: int) -> _Program:
    recording = _Recording()
    m = _RecordingMetric(recording, True, False)
    parameters = [recording.number("parameter") for _ in range(n_parameters)]
    rows = _load_rows(recording, 0, n_vectors, n_numbers)
    return _assemble(recording, len(rows), list(formula(m, parameters, *rows)))


def _load_rows(recording: _Recording, start: int, n_vectors: int, n_numbers: int) -> list[Any]:
    vectors = [recording.vector("load_vector", start + k) for k in range(n_vectors)]
    start += n_vectors
    numbers = [recording._add("load_number", start + k) for k in range(n_numbers)]
    return [*vectors, *(_Number(recording, place) for place in numbers)]


# Running


def _matrix(t: Tensor) -> tuple[int, int, bool]:
    if t.dtype is torch.float32:
        return t.data_ptr(), 4 * t.stride(0), False
    return t.data_ptr(), 8 * t.stride(0), True


def _numbers(kept: Tensor) -> list[tuple[int, int, bool]]:
    start, step = kept.data_ptr(), 8 * kept.shape[1]
    return [(start + k * step, 8, True) for k in range(kept.shape[0])]


def _new_results(
    program: _Program, dtype: torch.dtype, rows: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Room for a value and what is kept."""
    n, width = rows[0].shape
    value = rows[0].new_empty((n, width if program.gives_vector[0] else 1), dtype=dtype)
    kept = rows[0].new_empty((len(program.gives_vector) - 1, n), dtype=torch.float64)
    return value, kept


def _new_gradients(rows: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    """Room for the gradients that are wanted, that of c last."""
    found = [r.new_empty(r.shape) for r, want in zip(rows, wanted[1:], strict=True) if want]
    if wanted[0]:
        found.append(rows[0].new_empty((rows[0].shape[0], 1), dtype=torch.float64))
    return found


def forward(
    rule: Any,
    c: Curvature,
    limit: Limit | None,
    dtype: torch.dtype,
    rows: Sequence[Tensor],
    n_numbers: int,
) -> tuple[Tensor, Tensor]:
    """Run ``rule.forward`` on rows, of which the last ``n_numbers`` are (n, 1).

    Returns:
        The value, (n, width) or (n, 1) of ``dtype``, and what is kept, (k, n) float64.
    """
    if torch.compiler.is_compiling():
        value, kept = _forward_operation(
            name_of(rule), _as_tensor(c), list(limit or ()), dtype, list(rows), n_numbers
        )
        return value, kept
    program = _forward_program(rule, len(rows) - n_numbers, n_numbers, limit is not None)
    value, kept = _new_results(program, dtype, rows)
    _tiles.run(
        program.handle,
        *rows[0].shape,
        torch.get_num_threads(),
        _parameters(float(c), limit),
        tuple([_matrix(r) for r in rows]),
        (_matrix(value), *_numbers(kept)),
    )
    return value, kept


def backward(
    rule: Any,
    c: Curvature,
    limit: Limit | None,
    kept: Tensor,
    grad: Tensor,
    rows: Sequence[Tensor],
    n_numbers: int,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Run ``rule.backward``; ``wanted`` says for c and each of the rows whether it has a gradient.

    Returns:
        The gradient of each of the rows in its dtype, then that of c per row; None if not wanted.
    """
    if torch.compiler.is_compiling():
        found = _backward_operation(
            name_of(rule),
            _as_tensor(c),
            list(limit or ()),
            kept,
            grad,
            list(rows),
            n_numbers,
            list(wanted),
        )
    else:
        n_vectors = len(rows) - n_numbers
        program = _backward_program(rule, n_vectors, n_numbers, limit is not None, tuple(wanted))
        found = _new_gradients(rows, wanted)
        _tiles.run(
            program.handle,
            *rows[0].shape,
            torch.get_num_threads(),
            _parameters(float(c), limit),
            (*_numbers(kept), _matrix(grad), *[_matrix(r) for r in rows]),
            tuple([_matrix(out) for out in found]),
        )
    left = iter(found)
    return [next(left) if want else None for want in (*wanted[1:], wanted[0])]


def update(
    formula: Any,
    c: float,
    limit: Limit,
    parameters: Sequence[float],
    vectors: Sequence[Tensor],
    numbers: Sequence[Tensor],
) -> None:
    """Replace rows in place by what ``formula(m, parameters, *vectors, *numbers)`` gives.

    Args:
        formula: gives new rows for the last of ``vectors`` and for ``numbers``, in their order.
        c: curvature.
        limit: where points must stay.
        parameters: numbers that differ from call to call.
        vectors: (n, width), contiguous.  The first is read only.
        numbers: (n, 1), contiguous.
    """
    program = _step_program(formula, len(vectors), len(numbers), len(parameters))
    matrices = [_matrix(t) for t in (*vectors, *numbers)]
    _tiles.run(
        program.handle,
        *vectors[0].shape,
        torch.get_num_threads(),
        (*_parameters(c, limit), *parameters),
        tuple(matrices),
        tuple(matrices[1:]),
    )


# The same as operations that a tracer does not look into. Rules go by name, since a compiled graph
# may outlive the process.


def name_of(rule: Any) -> str:
    """Where the rule can be found: ``module:attribute``, or ``module:factory:argument``."""
    return f"{rule.__module__}:{rule.__qualname__}"


def _rule_of(name: str) -> Any:
    module, attribute, *argument = name.split(":")
    found = getattr(importlib.import_module(module), attribute)
    return found(int(argument[0])) if argument else found


def _as_tensor(c: Curvature) -> Tensor:
    return c if isinstance(c, Tensor) else torch.full((), c, dtype=torch.float64)


def _limit_of(values: Sequence[float]) -> Limit | None:
    return Limit(*values) if values else None


_library = torch.library.Library("ternvae", "DEF")
_ARGUMENTS = "str rule, Tensor c, float[] limit"
_library.define(
    f"forward({_ARGUMENTS}, ScalarType dtype, Tensor[] rows, int n_numbers) -> (Tensor, Tensor)"
)
_library.define(
    f"backward({_ARGUMENTS}, Tensor kept, Tensor grad, Tensor[] rows, int n_numbers, bool[] wanted)"
    " -> Tensor[]"
)
_forward_operation = torch.ops.ternvae.forward
_backward_operation = torch.ops.ternvae.backward


@torch.library.impl(_library, "forward", "CPU")
def _(
    name: str,
    c: Tensor,
    limit: list[float],
    dtype: torch.dtype,
    rows: list[Tensor],
    n_numbers: int,
) -> tuple[Tensor, Tensor]:
    rows = [_dense(r) for r in rows]
    return forward(_rule_of(name), c, _limit_of(limit), dtype, rows, n_numbers)


@torch.library.register_fake("ternvae::forward", lib=_library)
def _(
    name: str,
    c: Tensor,
    limit: list[float],
    dtype: torch.dtype,
    rows: list[Tensor],
    n_numbers: int,
) -> tuple[Tensor, Tensor]:
    n_vectors = len(rows) - n_numbers
    program = _forward_program(_rule_of(name), n_vectors, n_numbers, bool(limit))
    return _new_results(program, dtype, rows)


@torch.library.impl(_library, "backward", "CPU")
def _(
    name: str,
    c: Tensor,
    limit: list[float],
    kept: Tensor,
    grad: Tensor,
    rows: list[Tensor],
    n_numbers: int,
    wanted: list[bool],
) -> list[Tensor]:
    rows = [_dense(r) for r in rows]
    found = backward(
        _rule_of(name),
        c,
        _limit_of(limit),
        kept.contiguous(),
        _dense(grad),
        rows,
        n_numbers,
        wanted,
    )
    return [g for g in found if g is not None]


@torch.library.register_fake("ternvae::backward", lib=_library)
def _(
    name: str,
    c: Tensor,
    limit: list[float],
    kept: Tensor,
    grad: Tensor,
    rows: list[Tensor],
    n_numbers: int,
    wanted: list[bool],
) -> list[Tensor]:
    return _new_gradients(rows, wanted)


def _dense(rows: Tensor) -> Tensor:
    """Rows whose coordinates are next to each other."""
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


__all__ = ["available", "backward", "fits", "forward", "name_of", "update"]
