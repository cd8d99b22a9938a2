"""``References:`` at the end of a docstring, ``[KEY] work`` each, as a list."""

import re
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    # Before napoleon, which would make one paragraph of the section.
    app.connect("autodoc-process-docstring", _list_them, priority=400)
    return {"version": "1", "parallel_read_safe": True}


def _list_them(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    if "References:" in lines:
        start = lines.index("References:")
        end = start + 1
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
            end += 1
        works = re.split(r"\s+(?=\[[A-Z]+\] )", " ".join(lines[start + 1 : end]).strip())
        listed = [f"* \\{' '.join(work.split())}" for work in works]
        lines[start:end] = [".. rubric:: References", "", *listed, ""]
