"""What is seen while a command works: a bar on a terminal, and lines above it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import click
from tqdm import tqdm

#: Told how many more there are.
Advance: TypeAlias = Callable[[int], object]

__all__ = ["counted", "say"]


@contextmanager
def counted(unit: str, total: int | None = None, *, shown: bool = True) -> Iterator[Advance]:
    """A bar on standard error, if that is a terminal; it leaves nothing behind.

    Args:
        unit: what is counted.
        total: how many there will be; None if nobody knows, which is a count without a bar.
        shown: False for no bar in any case.

    Yields:
        A function that is told how many more there are.
    """
    hidden = not (shown and sys.stderr.isatty())
    with tqdm(
        total=total,
        unit=f" {unit}s",
        unit_scale=total is None,
        disable=hidden,
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        yield bar.update


def say(text: str, *, err: bool = False) -> None:
    """Print lines above the bar, if there is one."""
    with tqdm.external_write_mode(file=sys.stderr if err else sys.stdout):
        click.echo(text, err=err)
