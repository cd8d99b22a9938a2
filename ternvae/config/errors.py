"""Errors of profiles: every problem, each with its place, in one exception."""

import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath

_LONGEST_VALUE = 60
_LONGEST_REASON = 300

#: What `repr` is asked of: that of anything else may be of any length, or take any time.
_PLAIN = (str, bytes, int, float, complex, type(None), PurePath)


def one_line(text: str) -> str:
    r"""Text with everything that could move the cursor written as an escape (`\n`, `\x1b`)."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """A value as an error message shows it: on one line and at most 60 characters long."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, _PLAIN):
        # A number of 5000 digits has no text, and a text of an alien type any.
        with suppress(Exception):
            if isinstance(value, str) and len(value) > 2 * _LONGEST_VALUE:
                value = value[:_LONGEST_VALUE] + value[-_LONGEST_VALUE:]  # which will be cut again
            elif isinstance(value, bytes):
                value = value[:_LONGEST_VALUE]
            return shortened(repr(value), _LONGEST_VALUE)
    return f"a value of type {reason(type(value).__name__)}"


def reason(text: str) -> str:
    """Words of another library as an error message shows them, at most 300 characters."""
    return shortened(text, _LONGEST_REASON)


def shown_key(key: object) -> str:
    """A key as an error message shows it: bare when it is a short word, else as `shown`."""
    if isinstance(key, str) and 0 < len(key) <= _LONGEST_VALUE and not _needs_quotes(key):
        return key
    return shown(key)


def _needs_quotes(key: str) -> bool:
    return any(not c.isprintable() or unicodedata.category(c) == "Zs" or c == ":" for c in key)


def shortened(text: str, longest: int) -> str:
    """The text on one line, without its middle if that would be longer."""
    if len(text) > 2 * longest:
        text = text[:longest] + text[-longest:]
    text = one_line(text)
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a profile; holds what it is given, check-free.

    Attributes:
        location: `file:line:column`, the file alone, `command line` or `overrides`.
        key: The dotted key, empty when the problem concerns the whole source.
        message: What is wrong and, where there is one, the way out.
        value: The offending value as shown to people, empty when there is none.
        position: Sorts problems: layer, line, column.
    """

    location: str
    key: str
    message: str
    value: str = ""
    position: tuple[int, int, int] = field(default=(0, 0, 0), repr=False, compare=False)

    def __str__(self) -> str:
        """`location: key: message (got value)`, without the parts that are empty."""
        head = ": ".join(part for part in (self.location, self.key, self.message) if part)
        return f"{head} (got {self.value})" if self.value else head


def checked_text(name: str, value: object) -> str:
    """The value, if it is text.

    Args:
        name: Of the argument.
        value: What was given.

    Returns:
        The value.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {shown(value)}")
    return value


class ProfileError(ValueError):
    """A profile that cannot be used. Its text is one line per problem.

    Args:
        problems: every problem found, in any order.

    Attributes:
        problems: Every problem found, in the order of the sources and of the places in them.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.position)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)
