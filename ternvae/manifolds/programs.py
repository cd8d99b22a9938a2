"""Formulas as programs that run over tiles of rows, on CPUs.

As torch operations, a formula of the ball costs twenty to sixty passes over memory and as many
calls of the library. Here each rule is run once on symbols instead of tensors, which records what
it computes; the record becomes a program for the extension ``_tiles``, which keeps every
intermediate result of a tile in the cache. So there is one text of each formula, and the result is
the same up to the rounding of float64.

The extension is optional (see ``setup.py``): without it, :func:`available` is False.
"""

import functools
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ternvae.manifolds.assembly import assemble
from ternvae.manifolds.numerics import Curvature, Limit
from ternvae.manifolds.recording import Number, Recording, RecordingMetric

try:
    from ternvae.manifolds import _tiles  # type: ignore[attr-defined]
except ImportError:  # installed without a C compiler
    _tiles = None


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


class _Program(NamedTuple):
    """Code for the extension, and what its results are."""

    handle: Any
    gives_vector: tuple[bool, ...]


def _parameters(c: float, limit: Limit | None) -> tuple[float, ...]:
    """The values of :data:`PARAMETERS`."""
    return (c, c**0.5, *(limit or (0.0, 0.0)))


def _prepare(recording: Recording, n_inputs: int, results: Sequence[Any]) -> _Program:
    made = assemble(recording, results)
    handle = _tiles.prepare(
        made.code, made.constants, made.n_numbers, made.n_vectors, n_inputs, len(results)
    )
    return _Program(handle, made.gives_vector)


@functools.cache
def _forward_program(rule: Any, n_vectors: int, n_numbers: int, has_limit: bool) -> _Program:
    recording = Recording()
    m = RecordingMetric(recording, has_limit, False)
    rows = _load_rows(recording, 0, n_vectors, n_numbers)
    value, kept = rule.forward(m, *rows)
    return _prepare(recording, len(rows), [value, *kept])


@functools.cache
def _backward_program(
    rule: Any, n_vectors: int, n_numbers: int, has_limit: bool, wanted: tuple[bool, ...]
) -> _Program:
    forward = _forward_program(rule, n_vectors, n_numbers, has_limit)
    n_kept = len(forward.gives_vector) - 1
    recording = Recording()
    m = RecordingMetric(recording, has_limit, wanted[0])
    kept = [Number(recording, recording.add("load_number", k)) for k in range(n_kept)]
    grad: Any
    if forward.gives_vector[0]:
        grad = recording.vector("load_vector", n_kept)
    else:
        grad = Number(recording, recording.add("load_number", n_kept))
    rows = _load_rows(recording, n_kept + 1, n_vectors, n_numbers)
    *found, grad_c = rule.backward(m, tuple(kept), grad, *rows)
    results = [
        g for g, want in zip((*found, grad_c), (*wanted[1:], wanted[0]), strict=True) if want
    ]
    return _prepare(recording, n_kept + 1 + len(rows), results)


@functools.cache
def _step_program(formula: Any, n_vectors: int, n_numbers: int, n_parameters: int) -> _Program:
    recording = Recording()
    m = RecordingMetric(recording, True, False)
    parameters = [recording.number("parameter") for _ in range(n_parameters)]
    rows = _load_rows(recording, 0, n_vectors, n_numbers)
    return _prepare(recording, len(rows), list(formula(m, parameters, *rows)))


def _load_rows(recording: Recording, start: int, n_vectors: int, n_numbers: int) -> list[Any]:
    vectors = [recording.vector("load_vector", start + k) for k in range(n_vectors)]
    start += n_vectors
    numbers = [recording.add("load_number", start + k) for k in range(n_numbers)]
    return [*vectors, *(Number(recording, place) for place in numbers)]


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


def evaluate(
    formula: Any,
    c: float,
    limit: Limit,
    parameters: Sequence[float],
    vectors: Sequence[Tensor],
    numbers: Sequence[Tensor],
    results: Sequence[Tensor],
) -> None:
    """Write what ``formula(m, parameters, *vectors, *numbers)`` gives into ``results``.

    Args:
        formula: gives new rows; it is recorded once, so it must always be the same object.
        c: curvature.
        limit: where points must stay.
        parameters: numbers that differ from call to call.
        vectors: (n, width), contiguous rows.
        numbers: (n, 1).
        results: (n, width) or (n, 1) each, contiguous.
    """
    program = _step_program(formula, len(vectors), len(numbers), len(parameters))
    _tiles.run(
        program.handle,
        *vectors[0].shape,
        torch.get_num_threads(),
        (*_parameters(c, limit), *parameters),
        tuple([_matrix(t) for t in (*vectors, *numbers)]),
        tuple([_matrix(t) for t in results]),
    )


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
    evaluate(formula, c, limit, parameters, vectors, numbers, [*vectors[1:], *numbers])


# The same as operations that a tracer does not look into. Rules go by name: operations take no
# classes.


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


_library = torch.library.Library("ternvae", "DEF")  # type: ignore[no-untyped-call]
_ARGUMENTS = "str rule, Tensor c, float[] limit"
_library.define(  # type: ignore[no-untyped-call]
    f"forward({_ARGUMENTS}, ScalarType dtype, Tensor[] rows, int n_numbers) -> (Tensor, Tensor)"
)
_library.define(  # type: ignore[no-untyped-call]
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


@torch.library.register_fake("ternvae::forward", lib=_library)  # type: ignore[untyped-decorator]
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


@torch.library.register_fake("ternvae::backward", lib=_library)  # type: ignore[untyped-decorator]
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


__all__ = ["available", "backward", "evaluate", "fits", "forward", "name_of", "update"]
