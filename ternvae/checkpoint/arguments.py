"""What is checked of the arguments before a file is touched: its path, and what is to be in it."""

from __future__ import annotations

import os
import reprlib
from collections import OrderedDict
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["checked_path", "file_path", "unstorable"]

#: More characters than any system takes in a path.
_LONGEST_PATH = 32_767

#: What the restricted unpickler of torch gives back, beside the containers.
_PLAIN = (
    *(type(None), bool, float, complex, str, bytes),
    *(Tensor, nn.Parameter, torch.Size, torch.dtype, torch.device),
)
_SEQUENCES = (list, tuple)
_MAPPINGS = (dict, OrderedDict)
_KEYS = (str, int, float, bool, type(None))

#: Integers of more bits are written in a form that it refuses.
_LONGEST_INTEGER = 2_000

#: Levels of containers; torch's pickler gives up below some hundreds.
_DEEPEST = 100

_LONGEST_PLACE = 100


def file_path(name: str, path: object) -> Path:
    """A path that can be the name of a file, whether there is one or not.

    Args:
        name: of the argument.
        path: what was given.

    Raises:
        TypeError: it is not a path.
        ValueError: it is empty, or no file system takes it.
    """
    text = os.fspath(path) if isinstance(path, str | PathLike) else None
    if not isinstance(text, str):
        raise TypeError(
            f"{name} must be a str or a path, got {type(path).__name__}: {reprlib.repr(path)}"
        )
    if not text:
        raise ValueError(f"{name} must name a file, got {text!r}")
    if "\0" in text or len(text) > _LONGEST_PATH:
        raise ValueError(
            f"{name} must not contain the character U+0000 or be longer than {_LONGEST_PATH} "
            f"characters, got {reprlib.repr(text)}"
        )
    return Path(text)


def checked_path(name: str, path: object) -> Path:
    """A path, for functions that take no text.

    Raises:
        TypeError: it is not a :class:`pathlib.Path`.
        ValueError: it names no file.
    """
    if not isinstance(path, Path):
        raise TypeError(
            f"{name} must be a pathlib.Path, got {type(path).__name__}: {reprlib.repr(path)}"
        )
    if not path.name:
        raise ValueError(f"{name} must name a file, got {str(path)!r}")
    return file_path(name, path)


def unstorable(contents: Mapping[Any, Any]) -> str | None:
    """The first value that could not be read back, and why; None if all can be.

    Reading is confined to tensors and plain values, so that a file executes nothing; writing is
    not, and would replace a good file by one that nobody can read.
    """
    left: list[tuple[str, Any, int]] = [("contents", dict(contents), 0)]
    seen: set[int] = set()  # what is shared is looked at once
    while left:
        place, value, depth = left.pop()
        problem, inside = _problem(value), _inside(value)
        if problem is None and inside and depth == _DEEPEST:
            problem = f"is nested deeper than {_DEEPEST} levels"
        if problem is not None:
            return f"{place[:_LONGEST_PLACE]} {problem}"
        if id(value) not in seen:
            seen.add(id(value))
            left += [(f"{place}[{key}]", each, depth + 1) for key, each in inside]
    return None


def _problem(value: Any) -> str | None:
    """What prevents a value, apart from what is inside, from being read back."""
    kind = type(value)
    if kind in _MAPPINGS:
        odd = next((key for key in value if type(key) not in _KEYS), None)
        return None if odd is None else f"has a key of type {_name(type(odd))}"
    if kind is int:
        bits = value.bit_length()
        return f"is an integer of {bits} bits" if bits > _LONGEST_INTEGER else None
    if kind not in (*_PLAIN, *_SEQUENCES):
        return f"is of type {_name(kind)}"
    return "has no values (device meta)" if isinstance(value, Tensor) and value.is_meta else None


def _inside(value: Any) -> list[tuple[str, Any]]:
    """What a container holds, the last one first, with the key or the index of each."""
    if type(value) in _MAPPINGS:
        return [(reprlib.repr(key), each) for key, each in reversed(value.items())]
    if type(value) in _SEQUENCES:
        return [(str(k), each) for k, each in enumerate(value)][::-1]
    return []


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"[:_LONGEST_PLACE]
