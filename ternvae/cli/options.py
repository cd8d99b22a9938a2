"""Options that several commands have, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import click

from ternvae.cli.completion import complete_device
from ternvae.cli.outcome import BadInputError
from ternvae.config.sections import LONGEST_PATH

__all__ = ["check_paths", "device_option", "json_option", "option", "quiet_option"]

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def _once(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> str | None:
    """The value of an option; click itself takes the last of several without a word."""
    if len(given) > 1:
        raise click.UsageError(f"{option.opts[0]} is given twice")
    return given[0] if given else None


#: As ``click.option``, for options with a text; one that is given twice is refused.
option = partial(click.option, multiple=True, callback=_once)

device_option = option(
    "--device",
    metavar="DEVICE",
    default=["auto"],
    help="auto (CUDA where there is one), cpu, cuda or cuda:N.  [default: auto]",
    shell_complete=complete_device,
)


def json_option(help_text: str) -> Decorator:
    """``--json``, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def quiet_option(help_text: str) -> Decorator:
    """``--quiet``, as the argument ``quiet``."""
    return click.option("--quiet", "-q", is_flag=True, help=help_text)


def check_paths(*paths: tuple[str, str | None]) -> None:
    """Refuse paths that name nothing or would not be shown as they are; each with its option."""
    for name, path in paths:
        if path == "":
            raise BadInputError(f"command line: {name}: must not be empty (got '')")
        if path is not None and len(path) > LONGEST_PATH:
            raise BadInputError(
                f"command line: {name}: is longer than {LONGEST_PATH} characters "
                f"(got {path[:20]!r}...)"
            )
        if bad := next((c for c in path or "" if not c.isprintable()), None):
            raise BadInputError(
                f"command line: {name}: must not contain the character U+{ord(bad):04X} "
                f"(got {path!r})"
            )
