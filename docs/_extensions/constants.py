"""Comments ``#:`` of constants that a package hands on from the module that defines them.

``autodata`` looks for such a comment in the package alone, where there is only an import.
"""

import importlib
import pkgutil
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _put_in_the_comment)
    return {"version": "1", "parallel_read_safe": True}


def _put_in_the_comment(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    if what == "data":
        package, _, constant = name.rpartition(".")
        lines[:] = comment_of(package, constant) or lines


def comment_of(package: str, constant: str) -> list[str] | None:
    """The comment, from the module of the package that has one for that name."""
    paths = getattr(importlib.import_module(package), "__path__", ())
    for each in pkgutil.iter_modules(paths):
        try:
            found = ModuleAnalyzer.for_module(f"{package}.{each.name}").find_attr_docs()
        except PycodeError:  # compiled
            continue
        if ("", constant) in found:
            return found["", constant]
    return None
