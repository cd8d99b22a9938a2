"""What a docstring in Google style says: its sections, entries, and the words it needs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

_HEADING = re.compile(
    r"(Args|Returns|Yields|Raises|Attributes|Warns|References|Example|Examples):$"
)
_ENTRY = re.compile(r"((?:\*{0,2}\w+)(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ?(.*)")
_LITERAL = re.compile(r"``.+?``|(?<!`)`[^`]+`(?!`)", re.DOTALL)

#: ``(..., d)``, ``(N,)``, ``(batch, n + 1)``, ``(...)``; or words that say as much.
_SIZE = r"(?:\.\.\.|\w+(?: [+*/-] \w+)?)"
_TUPLE = rf"\((?!\d+, \d+\)){_SIZE}(?:(?:, {_SIZE})+|,)\)|\(\.\.\.\)|\(\)"
_SHAPE = re.compile(
    rf"{_TUPLE}|(?i:scalar|0-dim|any shape|(?:same|common|its|their) shapes?|shape of|broadcast"
    r"|one (?:number|value) (?:per|for each)|as many \w+ as|nested sequence|a single|\ba number\b)"
)

#: Names of numbers that mean nothing without their unit, and the words that give it.
_HAS_UNIT = re.compile(r"(?:^|_)(?:radius|radii|distances?|seconds|share|scale|bytes)(?:_|$)")
_UNIT = re.compile(
    r"(?i)units? of|\bunits?\b|hyperbolic|Euclidean|metric|second|\bshare|fraction|sqrt\(c\)|nats"
    r"|[\[(]0, 1[\])]|bytes?\b|3-adic|\bGiB\b"
)

#: A paper with its year, a page of ours, or the word for what has no other source.
_PAPER = re.compile(r"\b(?:1[89]|20)\d\d\b")
_KEY = re.compile(r"\[([A-Z][A-Za-z]{0,3})\]")
_PAGE = re.compile(
    r"(docs/\w+\.md)((?:, (?:sections?|theorems?) \d+(?:(?:, | and |, and )\d+)*|, \"[^\"]+\")?)"
)
_STATED = re.compile(r"(?i)\bdefinition\b|\bdefined in\b|\bby definition\b")

#: Arguments, errors and source of another function hold here, too.
_AS_IN = re.compile(r"[Aa]s (?:in|for) ((?::\w+:`[.~]*[\w.]+`(?: and )?)+)")
_NAME = re.compile(r"`[.~]*([\w.]+)`")


class Docstring:
    """The text of a docstring, taken apart.

    Args:
        text: as it stands in the source, or None if there is none.
    """

    def __init__(self, text: str | None) -> None:
        self.text = inspect.cleandoc(text or "")
        self.sections: dict[str, list[str]] = {}
        self.description: list[str] = []
        inside = self.description
        for line in self.text.splitlines():
            if match := _HEADING.match(line):
                inside = self.sections.setdefault(match[1], [])
            elif line and not line.startswith(" "):
                inside = self.description
                inside.append(line)
            else:
                inside.append(line)

    def entries(self, *headings: str) -> dict[str, str]:
        """The names in sections such as ``Args``, each with what is said of it."""
        found: dict[str, str] = {}
        names: list[str] = []
        for line in (line for heading in headings for line in self.sections.get(heading, [])):
            match = _ENTRY.match(line[4:]) if line.startswith("    ") else None
            if match and line[4] != " ":
                names = [name.strip("* ") for name in match[1].split(",")]
                found |= dict.fromkeys(names, match[2])
            else:
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
        return found

    def section(self, *headings: str) -> str:
        """The text of the first of these sections that is there, or the description."""
        for heading in headings:
            if heading in self.sections:
                return "\n".join(self.sections[heading])
        return "\n".join(self.description)

    @property
    def stands_for(self) -> list[str]:
        """Functions whose arguments, errors and source hold here, too."""
        found = _AS_IN.findall(" ".join(self.text.split()))
        return [name for each in found for name in _NAME.findall(each)]

    @property
    def keys(self) -> set[str]:
        """Keys such as ``[GBH]`` that it refers to."""
        return set(_KEY.findall(self.text))

    @property
    def places(self) -> set[tuple[str, str]]:
        """Pages that it refers to, each with the place on it: ``theorem 1``, ``"Heading"``."""
        found = _PAGE.findall(" ".join(self.text.split()))
        return {(page, place.removeprefix(", ")) for page, place in found}

    @property
    def names_a_source(self) -> bool:
        """Whether it says where a formula comes from; keys and pages are looked up elsewhere."""
        patterns = (_PAPER, _KEY, _PAGE, _STATED)
        return any(pattern.search(self.text) for pattern in patterns)

    def broken_markup(self) -> Iterator[str]:
        """What Sphinx would misread."""
        for paragraph in re.split(r"\n\s*\n", _without_blocks(self.text)):
            if paragraph.count("``") % 2:
                yield f"unbalanced backticks in {_short(paragraph)}"
            bare = _LITERAL.sub("", paragraph)
            if match := re.search(r"(?<!\w)\|\w[^|]*\|", bare):
                yield f"{match[0]} is a substitution to Sphinx; write ``{match[0]}``"
            if match := re.search(r"(?<![\w\\])\*\w[^*]*$", bare):
                yield f"an asterisk opens emphasis in {_short(match[0])}; use double backticks"


def _without_blocks(text: str) -> str:
    """The text without literal blocks: after ``::``, whatever is indented more."""
    kept, depth = [], None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if depth is not None and (not line.strip() or indent > depth):
            continue
        depth = indent if line.rstrip().endswith("::") else None
        kept.append(line)
    return "\n".join(kept)


def _short(text: str) -> str:
    return repr(" ".join(text.split())[:50])


def has_shape(text: str) -> bool:
    """Whether the text says what shape something has."""
    return _SHAPE.search(text) is not None


def needs_unit(name: str) -> bool:
    """Whether a number of this name means nothing without its unit."""
    return _HAS_UNIT.search(name) is not None


def has_unit(text: str) -> bool:
    """Whether the text gives a unit."""
    return _UNIT.search(text) is not None


def leads_to(page: str, place: str) -> bool:
    """Whether a page has the sections, theorems or the heading that a docstring refers to."""
    if place.startswith('"'):
        return re.search(rf"^#+ {re.escape(place.strip(chr(34)))}$", page, re.MULTILINE) is not None
    opening = r"^#+ {}\." if place.startswith("section") else r"\*\*Theorem {}\b"
    numbers = re.findall(r"\d+", place)
    return all(re.search(opening.format(k), page, re.MULTILINE) for k in numbers)


def declares(text: str, key: str) -> bool:
    """Whether the docstring of a module has the reference, with its year."""
    start = text.find(f"    [{key}] ")
    return start >= 0 and _PAPER.search(text[start:].split("\n    [")[0]) is not None
