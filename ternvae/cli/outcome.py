"""How the program ends: exit status, and one line per problem on standard error."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, TypeVar

import click

from ternvae.config.errors import one_line

__all__ = [
    "BAD_INPUT",
    "CHECK_FAILED",
    "STOPPED_ITSELF",
    "BadInputError",
    "complain",
    "discard",
    "interrupted",
    "leads",
    "several",
    "usable",
]

CHECK_FAILED, BAD_INPUT, STOPPED_ITSELF, INTERRUPTED = 1, 2, 3, 130

Result = TypeVar("Result")


class BadInputError(Exception):
    """What the user gave cannot be used; the text is one line per problem."""


def several() -> bool:
    """Whether this is one of several processes, as torchrun tells them."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def leads() -> bool:
    """Whether this is the process that speaks; alone, it is."""
    return not several() or os.environ.get("RANK", "0") == "0"


def usable(function: Callable[..., Result], *arguments: Any, **keywords: Any) -> Result:
    """Call a function whose ``ValueError`` speaks of what the user gave."""
    try:
        return function(*arguments, **keywords)
    except ValueError as error:
        raise BadInputError(str(error)) from error


def complain(problems: str, status: int = BAD_INPUT, *, for_all: bool = True) -> int:
    """Say what is wrong; returns the exit status.

    What was given may be in the text, and must not be able to write to the terminal.  Of several
    processes, one says what is wrong ``for_all``.
    """
    if for_all and not leads():
        return status
    for line in problems.split("\n"):
        with suppress(OSError):  # nobody may be listening any more
            click.echo(one_line(line), err=True)
    return status


def interrupted() -> int:
    """Say that there was nothing to save yet; returns the exit status."""
    return complain("interrupted", INTERRUPTED)


def discard(stream: TextIO) -> None:
    """Write nothing any more to where standard output or error goes, for the reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
