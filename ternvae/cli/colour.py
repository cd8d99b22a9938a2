"""Colours: on a terminal that wants them, and never the only way in which something is said."""

from __future__ import annotations

import os
import re
from typing import Any

import click

__all__ = ["painted", "verdicts_painted"]

#: Verdicts where the tables and lists of the program have them: a word of its own at the start of
#: a line or in a column, or at its end.
_VERDICT = re.compile(r"(?m)(?:^|(?<= {2}))(?:PASS|FAIL)(?= {2}|$)|(?<= {2})(?:yes|NO)$")

_COLOURS = {"PASS": "green", "yes": "green", "FAIL": "red", "NO": "red"}


def painted(text: str, **style: Any) -> str:
    """The text in a style, for ``click.echo``, which takes it out again for files and pipes.

    Plain if ``NO_COLOR`` is set to anything, see https://no-color.org, or ``TERM`` is ``dumb``.

    Args:
        text: what to say.
        style: as for ``click.style``.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, **style)


def verdicts_painted(text: str) -> str:
    """A table or list with its PASS, FAIL, yes and NO in green and red."""
    return _VERDICT.sub(lambda found: painted(found[0], fg=_COLOURS[found[0]], bold=True), text)
