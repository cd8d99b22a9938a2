"""From a recording to a program for the extension ``_tiles``: what is needed, when, and where."""

import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from ternvae.manifolds.recording import Recording, Vector

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


Step = tuple[str, int, tuple[int, ...]]
"""An operation, where its result goes (for a store: the number of the output), its operands."""


class Assembly(NamedTuple):
    """What ``_tiles.prepare`` takes, and what the results are."""

    code: bytes
    constants: bytes
    n_numbers: int
    n_vectors: int
    gives_vector: tuple[bool, ...]


def assemble(recording: Recording, results: Sequence[Any]) -> Assembly:
    """Drop what none of ``results`` needs, assign registers, and encode."""
    operations = recording.operations
    needed = _needed(operations, [r.place for r in results])
    values = sorted(recording.constants, key=lambda value: recording.constants[value])
    pinned = [recording.constants[value] for value in values]
    pinned += [k for k, (name, _) in enumerate(operations) if name == "parameter"]
    steps = _schedule(operations, needed, set(pinned), results)
    code, counts = _assign(operations, steps, pinned)
    return Assembly(
        array.array("i", code).tobytes(),
        array.array("d", values).tobytes(),
        counts["number"],
        counts["vector"],
        tuple(isinstance(r, Vector) for r in results),
    )


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
) -> list[Step]:
    """The operations in order: load late, store early."""
    steps: list[Step] = []
    loaded: set[int] = set()

    def emit(place: int) -> None:
        name, operands = operations[place]
        steps.append((name, place, operands))
        for k, result in enumerate(results):
            if result.place == place:
                store = "store_vector" if isinstance(result, Vector) else "store_number"
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
    steps: Sequence[Step],
    pinned: Sequence[int],
) -> tuple[list[int], dict[str, int]]:
    """Encode ``steps`` with as few registers as they need at a time."""
    last = {k: i for i, (name, _, operands) in enumerate(steps) for k in _reads(name, operands)}
    register = {place: k for k, place in enumerate(pinned)}
    counts = {"number": len(pinned), "vector": 0}
    free: dict[str, list[int]] = {"number": [], "vector": []}
    kept = set(pinned)
    code: list[int] = []
    for i, (name, out, operands) in enumerate(steps):
        reads = _reads(name, operands)
        used = [register[k] for k in reads] if reads else list(operands)
        for k in set(reads) - kept:
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


__all__ = ["OPERATIONS", "Assembly", "assemble"]
