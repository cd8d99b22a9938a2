"""Errors of profiles: every problem, each with its place, in one exception."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

_LONGEST_VALUE = 60
_LONGEST_REASON = 300


def one_line(text: str) -> str:
    r"""Text with everything that could move the cursor written as an escape (`\n`, `\x1b`)."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """A value as an error message shows it: on one line and at most 60 characters long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    try:
        text = one_line(repr(value))
    except Exception:  # repr of an alien object may do anything
        return f"a value of type {type(value).__name__}"
    return _shortened(text, _LONGEST_VALUE)


def reason(text: str) -> str:
    """Words of another library as an error message shows them, at most 300 characters."""
    return _shortened(one_line(text), _LONGEST_REASON)


def shown_key(key: object) -> str:
    """A key as an error message shows it: bare when it is a short word, else as `shown`."""
    if isinstance(key, str) and 0 < len(key) <= _LONGEST_VALUE and not _needs_quotes(key):
        return key
    return shown(key)


def _needs_quotes(key: str) -> bool:
    return any(not c.isprintable() or unicodedata.category(c) == "Zs" or c == ":" for c in key)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a profile.

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


class ProfileError(ValueError):
    """A profile that cannot be used. Its text is one line per problem.

    Attributes:
        problems: Every problem found, in the order of the sources and of the places in them.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.position)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)
