"""HTML from Python values: whatever is not HTML already is escaped, so nothing can be forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Html", "bullets", "code", "element", "joined", "table"]

#: Elements without content.
_VOID = frozenset({"img", "meta", "link", "br"})


class Html(str):
    """Text that is HTML already; made by the functions of this module only."""

    __slots__ = ()


def joined(*parts: str) -> Html:
    """The parts one after the other; those that are not HTML are escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def element(tag: str, *children: str, **attributes: str | bool) -> Html:
    """An element.

    Args:
        tag: its name.
        *children: what is in it; text is escaped.
        **attributes: by name, ``_`` for a hyphen and at the end for nothing; True for one without a
            value, False for none.
    """
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for name, value in attributes.items()
        if isinstance(value, str) or value
    )
    if tag in _VOID:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{joined(*children)}</{tag}>")


def code(text: str, label: str = "commands") -> Html:
    """Lines to be copied, in a box of their own that scrolls."""
    return element("pre", element("code", text), tabindex="0", role="region", aria_label=label)


def bullets(items: Iterable[str]) -> Html:
    """A list."""
    return element("ul", *(element("li", item) for item in items))


def table(
    caption: str,
    heading: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
) -> Html:
    """A table in a box that scrolls; the first cell of each row is its heading.

    Args:
        caption: what it is of.
        heading: of each column.
        rows: cells, as many as headings.
        numbers: columns that are flush right.
    """
    right = set(numbers)

    def cell(tag: str, column: int, content: str, scope: str | bool) -> Html:
        return element(tag, content, scope=scope, class_="number" if column in right else False)

    head = element("tr", *(cell("th", k, text, "col") for k, text in enumerate(heading)))
    body = [
        element(
            "tr",
            cell("th", 0, row[0], "row"),
            *(cell("td", k, text, False) for k, text in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    content = element(
        "table", element("caption", caption), element("thead", head), element("tbody", *body)
    )
    return element("div", content, class_="box", tabindex="0", role="region", aria_label=caption)
