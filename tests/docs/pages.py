"""Pages of the documentation as the tests see them: blocks, marks, commands, links, headings.

A block of Python or of commands is run by the suite.  Where it cannot be, or not as it stands, a
mark directly before it says so, an HTML comment that a reader does not see::

    <!-- not run: REASON -->                    its commands are still held against what exists
    <!-- run with: --KEY VALUE ... -->          training with these settings, to be shorter
    <!-- file: NAME -->                         the block is the content of that file
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What a reader may find first, and every page of docs/.
PAGES = sorted(
    path
    for pattern in ("*.md", "benchmarks/README.md", "examples/README.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)

#: First words of a line that make a block without a language one of commands.
PROGRAMS = {
    *("ternvae", "python", "python3", "make", "pip", "torchrun", "pytest", "git", "cd", "cp"),
    *("source", "export", "mkdir", "sphinx-build", "sha256sum", "ruff", "mypy", "eval", "docker"),
}

SHELL = {"sh", "bash", "shell", "console"}

#: Stand-ins of a line that shows how a command is called; such a line is not to be typed.
STAND_INS = {"CHECKPOINT", "NAME", "FILE", "COMMAND", "SHELL"}

_MARK = re.compile(r"<!--\s*(not run|run with|file):(.*?)-->\s*", re.DOTALL)


class PageError(Exception):
    """A page is not written as the tests understand it."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: number of its first line in the page, from 1.
        language: as written; "" for none.
        text: its content, each line with its end.
        mark: "not run", "run with", "file" or "".
        note: what the mark says.
    """

    line: int
    language: str
    text: str
    mark: str = ""
    note: str = ""

    @property
    def is_python(self) -> bool:
        """Whether it is Python."""
        return self.language in ("python", "py", "pycon")

    @property
    def is_shell(self) -> bool:
        """Whether it has commands."""
        if self.language in SHELL:
            return True
        first = (line.split(maxsplit=1)[0] for line in self.text.splitlines() if line.strip())
        return self.language == "" and any(word in PROGRAMS for word in first)

    def commands(self) -> list[Command]:
        """Its commands, in order; a line that goes on with a backslash is one."""
        prompt = any(line.startswith("$ ") for line in self.text.splitlines())
        found: list[Command] = []
        number, text = self.line, re.sub(r"\\\n\s*", " ", self.text)
        for line in text.splitlines():
            number += 1
            if prompt and not line.startswith("$ "):
                if found:
                    found[-1].output.append(line)
            elif line.strip() and not line.lstrip().startswith("#"):
                found.append(Command(line.removeprefix("$ ").strip(), []))
        return found


@dataclass(frozen=True)
class Command:
    """A line of a block of commands, and what the page shows as its output."""

    line: str
    output: list[str]

    @property
    def is_synopsis(self) -> bool:
        """Whether it shows how a command is called, and is not to be typed."""
        line = self.line.partition(" # ")[0]
        return "[-" in line or "[N" in line or "..." in line or bool(STAND_INS & set(line.split()))

    @property
    def words(self) -> list[str]:
        """Its words, without brackets of a synopsis and without a comment."""
        line = re.sub(r"[\[\]](?=[\s\]]|$)|(?<=\s)\[", "", self.line)
        return shlex.split(line, comments=True)


def blocks(text: str) -> list[Block]:
    """The blocks of a page, fenced ones and indented ones that begin with a program.

    Raises:
        PageError: for a mark that says nothing, or that stands before no block it can be about.
    """
    found = [*_fenced(text), *_indented(text)]
    found.sort(key=lambda block: block.line)
    marks = len(re.findall(r"<!--\s*(?:not run|run with|file)\b", _outside_of_fences(text)))
    if marks != sum(bool(block.mark) for block in found):
        raise PageError(
            "a mark stands before no block, or is not written as `<!-- not run: ... -->`"
        )
    for block in found:
        _check(block)
    return found


def _check(block: Block) -> None:
    if block.mark and len(block.note) < (1 if block.mark == "file" else 8):
        raise PageError(f"line {block.line}: the mark `{block.mark}` gives no reason")
    if block.mark == "not run" and not (block.is_python or block.is_shell):
        raise PageError(f"line {block.line}: marked as not run, but there is nothing to run")
    trains = block.is_shell and any("train" in command.words for command in block.commands())
    if block.mark == "run with" and not (trains or block.is_python):
        raise PageError(f"line {block.line}: nothing here can be run with other settings")


def _mark_before(text: str, position: int) -> tuple[str, str]:
    start = text.rfind("<!--", 0, position)
    match = _MARK.fullmatch(text[start:position]) if start >= 0 else None
    return (match[1], " ".join(match[2].split())) if match else ("", "")


_FENCE = re.compile(r"^( *)(```+)(.*)\n((?:.*\n)*?)\1\2`*[ \t]*$", re.MULTILINE)


def _fenced(text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        content = re.sub(rf"^{match[1]}", "", match[4], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start()) + 1
        yield Block(line, match[3].strip(), content, *_mark_before(text, match.start()))


def _outside_of_fences(text: str) -> str:
    """The page with fenced blocks of the same number of lines, in which nothing is to be found."""
    return _FENCE.sub(lambda match: "\0" + "\n" * match[0].count("\n"), text)


def _indented(text: str) -> Iterator[Block]:
    """Lines of commands that are indented by four, after an empty line."""
    plain = _outside_of_fences(text)
    for match in re.finditer(r"(?<=\n\n)(?: {4}.*\n)+", plain):
        content = re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)
        if content.split(maxsplit=1)[0] in PROGRAMS:
            line = plain.count("\n", 0, match.start()) + 1
            yield Block(line, "", content, *_mark_before(plain, match.start()))


def prose(text: str) -> str:
    """A page without its blocks and without code in lines: what may hold links."""
    return re.sub(r"`[^`\n]*`", lambda match: "x" * len(match[0]), _outside_of_fences(text))


def spans(text: str) -> list[str]:
    """Code in lines."""
    return re.findall(r"`([^`\n]+)`", _outside_of_fences(text))


def links(text: str) -> list[str]:
    """Targets of links and pictures."""
    plain = prose(text)
    inline = re.findall(r"\]\(\s*(?:<([^>]*)>|([^)\s]*))(?:\s+\"[^\"]*\")?\s*\)", plain)
    return [one or other for one, other in inline] + re.findall(
        r"^\[[^\]]+\]:\s*(\S+)", plain, re.MULTILINE
    )


def pictures(text: str) -> list[tuple[str, str]]:
    """Alternative text and target of every picture."""
    return re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """What links may name after ``#``: headings as GitHub and MyST turn them into anchors."""
    found: dict[str, int] = {}
    result = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#{1,6} +(.+?)\s*#*$", _outside_of_fences(text), re.MULTILINE):
        visible = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = "".join(
            each
            for each in unicodedata.normalize("NFC", visible.lower()).replace(" ", "-")
            if each.isalnum() or each in "-_"
        )
        count = found.setdefault(name, 0)
        found[name] += 1
        result.add(f"{name}-{count}" if count else name)
    return result
