"""YAML text, or a dict, as a tree in which every key and value knows its place.

Only mappings and plain scalars are needed, so nothing is ever constructed: no tags, no objects.
"""

from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ternvae.config.errors import Problem, reason, shortened, shown
from ternvae.config.scalars import scalar

MAX_BYTES = 1_000_000
_MAX_NODES = 10_000
_MAX_DEPTH = 20
# Of longer paths a message shows the beginning and the end.
_LONGEST_SOURCE = 1000


@dataclass(frozen=True)
class Place:
    """Where something was set. Later layers override earlier ones.

    Attributes:
        layer: Number of the source, in the order of precedence.
        source: File name, `command line` or `overrides`.
        line: 1-based line; 0 for a source without lines.
        column: 1-based column, or the ordinal of the key in a source without lines.
    """

    layer: int
    source: str
    line: int = 0
    column: int = 0

    @property
    def location(self) -> str:
        """The place as messages show it."""
        source = shortened(self.source, _LONGEST_SOURCE) or "''"
        return f"{source}:{self.line}:{self.column}" if self.line else source

    def problem(self, key: str, message: str, value: str = "") -> Problem:
        """A problem at this place."""
        return Problem(self.location, key, message, value, (self.layer, self.line, self.column))


class UnusableText(Exception):  # noqa: N818  (never leaves this package)
    """A text that is not one YAML mapping within the limits.

    Attributes:
        line: 1-based line.
        column: 1-based column.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line, self.column = line, column


def _refusal(message: str, mark: yaml.Mark) -> UnusableText:
    return UnusableText(message, mark.line + 1, mark.column + 1)


class _GuardedLoader(yaml.SafeLoader):
    """Composes nodes, within limits and without tags."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = 0
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Composes one node, aliases included, after holding it against the limits."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise _refusal(f"more than {_MAX_NODES} nodes", event.start_mark)
        if self.depth >= _MAX_DEPTH:
            raise _refusal(f"nested deeper than {_MAX_DEPTH} levels", event.start_mark)
        if getattr(event, "tag", None) is not None:
            message = f"the tag {shown(event.tag)} is refused; a profile holds plain values only"
            raise _refusal(message, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def decoded(data: bytes) -> str:
    """UTF-8 text, with or without a byte order mark.

    Args:
        data: The content of a file.

    Returns:
        The text.

    Raises:
        UnusableText: If the data are too long or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise UnusableText(f"longer than {MAX_BYTES} bytes; a profile is a page of text")
    data = data.removeprefix(BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[start : error.start].decode(errors="replace")) + 1
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text: byte 0x{data[error.start]:02x}"
        raise UnusableText(message, line, column) from None


def composed(text: str) -> yaml.MappingNode:
    """The root mapping of a YAML document.

    Args:
        text: One YAML document.

    Returns:
        Its root node; children carry `start_mark`, and aliases are the nodes they point to.

    Raises:
        UnusableText: If the text is no YAML, empty, tagged, not a mapping or over the limits.
    """
    try:
        loader = _GuardedLoader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        raise _unreadable(text, error) from None
    except yaml.MarkedYAMLError as error:
        words = ", ".join(part for part in (error.context, error.problem) if part)
        message = f"not valid YAML: {reason(words)}"
        if error.problem_mark is None:
            raise UnusableText(message) from None
        raise _refusal(message, error.problem_mark) from None
    except (ValueError, OverflowError):
        # PyYAML lets int() and chr() speak for themselves, as in "\UFFFFFFFF".
        raise _refusal("not valid YAML: a number out of range", loader.get_mark()) from None
    if root is None:
        raise UnusableText("empty; expected sections such as 'training:'")
    if not isinstance(root, yaml.MappingNode):
        raise _refusal(f"expected sections of keys, not {kind(root)}", root.start_mark)
    return root


def _unreadable(text: str, error: yaml.reader.ReaderError) -> UnusableText:
    before = text[: error.position]
    line = before.count("\n") + 1
    column = error.position - (before.rfind("\n") + 1) + 1
    return UnusableText(f"the character U+{error.character:04X} is not allowed", line, column)


def kind(node: yaml.Node) -> str:
    """What a node is, for error messages."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


@dataclass(frozen=True)
class Entry:
    """One key of a mapping.

    Attributes:
        key: The key, of any type.
        key_place: Where it stands.
        value: A plain value, a `Branch` for a mapping, an empty list for any list.
        value_place: Where the value begins.
    """

    key: object
    key_place: Place
    value: object
    value_place: Place


class Branch(ABC):
    """A mapping whose entries are made one level at a time.

    Only levels that the schema knows are ever visited, so neither a self-referencing dict nor
    an alias that doubles at every level can grow.

    Attributes:
        dotted: Whether `training.lr` is short for lr inside training.
        typed: Whether text stands for unquoted scalars, as on a command line.
    """

    dotted = False
    typed = False

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """The entries in order, repeated keys included."""


@dataclass(frozen=True)
class YamlBranch(Branch):
    """A mapping in a YAML text."""

    node: yaml.MappingNode
    layer: int
    source: str

    def entries(self) -> Iterator[Entry]:
        """The entries in the order of the text."""
        for key, value in self.node.value:
            yield Entry(self._value(key), self._place(key), self._value(value), self._place(value))

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.layer, self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def _value(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode):
            return YamlBranch(node, self.layer, self.source)
        if isinstance(node, yaml.SequenceNode):
            return []
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            return scalar(node.value)
        return str(node.value)


@dataclass(frozen=True)
class DictBranch(Branch):
    """A mapping given as an argument; nested keys share the place of the outermost one."""

    mapping: Mapping[Any, object]
    layer: int
    source: str
    typed: bool = False
    place: Place | None = None

    dotted = True

    def entries(self) -> Iterator[Entry]:
        """The entries in the order of the mapping."""
        for ordinal, (key, value) in enumerate(self.mapping.items(), start=1):
            place = self.place or Place(self.layer, self.source, column=ordinal)
            if isinstance(value, Mapping):
                value = DictBranch(value, self.layer, self.source, self.typed, place)
            yield Entry(key, place, value, place)
