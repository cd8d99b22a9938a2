"""Hold every public docstring against its signature and its body: what ruff cannot know.

Of each public name (see ``public_names.py``):

* it has a docstring, or ``#:`` above it if it is a constant, and no markup that Sphinx misreads;
* every parameter is under Args, every field under Attributes, and what has Args and gives something
  has Returns;
* what is or gives an array says its shape, and what is called a radius, a distance, a scale, a
  share, seconds or bytes says its unit;
* every exception that the function itself can raise is under Raises;
* what computes something in a room of ``MATHEMATICS`` names its source: a paper with its year, a
  key that its module declares under References, a page of ``docs/``, or the word definition (a
  method may leave that to its class);
* ``Any`` is neither taken nor returned, but for what is in ``ANY``, each with its reason.

"As in :func:`name`" hands on what that name says about arguments, shapes, errors and source.
Rules of form (a first line, its full stop, Args without gaps) are ruff's, in ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import NamedTuple

from docstring_text import Docstring, declares, has_shape, has_unit, leads_to, needs_unit
from public_names import ROOT, Definition, Function, Package, sources
from raised import Raised

#: Rooms whose functions compute what a formula says.
MATHEMATICS = ("padic", "manifolds", "losses", "metrics", "ceilings", "baselines")

#: (function, name of a parameter or "return"): why there is no better type.
ANY: dict[tuple[str, str], str] = {}

_ARRAYS = ("Tensor", "NDArray", "ArrayLike", "WholeNumbers")
#: Results of these types are no numbers that a formula gives.
_NO_NUMBERS = {"None", "bool", "str", "list[str]", "tuple[str, ...]"}
_FIELDS = {"NamedTuple", "BaseModel", "TypedDict"}


class Finding(NamedTuple):
    """One thing that a docstring lacks.

    Attributes:
        path: file, from the root.
        line: of the definition.
        name: as it is imported.
        complaint: what is missing.
    """

    path: str
    line: int
    name: str
    complaint: str


class _Reader:
    """Holds one definition after the other against its docstring."""

    def __init__(self, package: Package, pages: dict[str, str]) -> None:
        self.package, self.pages, self.raised = package, pages, Raised(package)
        self.any_used: set[tuple[str, str]] = set()

    def complaints(self, each: Definition) -> Iterator[str]:
        node = each.node
        if isinstance(node, ast.Assign | ast.AnnAssign):
            above = each.module.lines[node.lineno - 2].strip()
            if not above.startswith("#:"):
                yield "has no comment above it that begins with #:"
            return
        if not isinstance(node, Function | ast.ClassDef):
            return
        doc = Docstring(ast.get_docstring(node))
        if not doc.text:
            yield "has no docstring"
            return
        yield from doc.broken_markup()
        for name in doc.stands_for:
            if self._named(each, name) is None:
                yield f"hands on to {name}, which is not found from {each.module.path}"
        yield from self._sources(each, doc)
        if isinstance(node, ast.ClassDef):
            yield from self._class(each, node, doc)
        else:
            yield from self._function(each, node, doc)

    # --- classes and functions --------------------------------------------------------------

    def _class(self, each: Definition, node: ast.ClassDef, doc: Docstring) -> Iterator[str]:
        own = {m.name: m for m in node.body if isinstance(m, Function)}
        if "__init__" in own:
            yield from self._arguments(each, own["__init__"], [doc], doc.entries("Args"))
        constructors = [
            own[name] for name in ("__new__", "__init__", "__post_init__") if name in own
        ]
        for constructor in constructors:
            yield from self._errors(each, constructor, [doc], node)
        if _holds_fields(node):
            said = doc.entries("Attributes", "Args")
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    name = field.target.id
                    if not name.startswith("_") and not _is_class_variable(field):
                        yield from _entry(name, field.annotation, said, "Attributes")

    def _function(self, each: Definition, node: Function, doc: Docstring) -> Iterator[str]:
        docs = [doc, *self._handed_on(each, doc)]
        said = {k: v for d in reversed(docs) for k, v in d.entries("Args").items()}
        yield from self._arguments(each, node, docs, said)
        yield from self._errors(each, node, docs, each.owner)
        returns = ast.unparse(node.returns) if node.returns is not None else "None"
        if node.returns is not None and _may_be_any(node.returns):
            yield from self._any(each, "return")
        results = [d.section("Returns", "Yields") for d in docs]
        told = any(d.sections.keys() & {"Returns", "Yields"} for d in docs)
        if returns != "None" and "Args" in doc.sections and not told:
            yield "has Args and no Returns"
        if _is_array(node.returns) and not any(map(has_shape, results)):
            yield "does not say the shape of what it returns"
        if needs_unit(node.name) and returns not in _NO_NUMBERS and not any(map(has_unit, results)):
            yield "does not say the unit of what it returns"
        computes = returns not in _NO_NUMBERS and not _is_property(node)
        mathematical = each.module.name.split(".")[1] in MATHEMATICS
        owner = Docstring(ast.get_docstring(each.owner)) if each.owner is not None else doc
        if computes and mathematical and not any(d.names_a_source for d in (*docs, owner)):
            yield "names no source"

    def _arguments(
        self, each: Definition, node: Function, docs: list[Docstring], said: dict[str, str]
    ) -> Iterator[str]:
        for parameter in _parameters(node, each.owner is not None or node.name == "__init__"):
            if parameter.annotation is None or _may_be_any(parameter.annotation):
                yield from self._any(each, parameter.arg)
            yield from _entry(parameter.arg, parameter.annotation, said, "Args")
        known = {p.arg for p in _parameters(node, False)}
        yield from (
            f"Args has {name}, which is no parameter"
            for name in docs[0].entries("Args")
            if name not in known
        )

    def _errors(
        self, each: Definition, node: Function, docs: list[Docstring], owner: ast.ClassDef | None
    ) -> Iterator[str]:
        said = {name for doc in docs for name in doc.entries("Raises")}
        for name in sorted(self.raised.by(each.module, node, owner)):
            if name not in said and not said & set(self._bases(each, name)):
                yield f"can raise {name}, which is not under Raises"

    # --- what is looked up ------------------------------------------------------------------

    def _any(self, each: Definition, what: str) -> Iterator[str]:
        place = (each.name.removeprefix("ternvae."), what)
        self.any_used.add(place)
        if place not in ANY:
            yield f"{what} is Any; name its type, or put {place} into ANY with the reason"

    def _bases(self, each: Definition, name: str) -> Iterator[str]:
        """Ancestors of an exception of ours."""
        found = self.package.found(each.module.name, name)
        if found is not None and isinstance(found.node, ast.ClassDef):
            for _, ancestor in self.package.lineage(found.module, found.node):
                yield from (ancestor.name, *map(ast.unparse, ancestor.bases))

    def _sources(self, each: Definition, doc: Docstring) -> Iterator[str]:
        for key in sorted(doc.keys):
            if not declares(each.module.doc, key):
                yield f"refers to [{key}], which {each.module.path} does not declare"
        for page, place in sorted(doc.places):
            text = self.pages.get(page)
            if text is None:
                yield f"refers to {page}, which is not there"
            elif not leads_to(text, place):
                yield f"refers to {place} of {page}, which is not there"

    def _handed_on(self, each: Definition, doc: Docstring) -> list[Docstring]:
        """Docstrings that hold here, too, and those that hold there."""
        found: dict[int, Docstring] = {}
        waiting = [(each, name) for name in doc.stands_for]
        while waiting:
            other = self._named(*waiting.pop())
            if other is not None and id(other.node) not in found:
                said = Docstring(_text_of(other.node))
                found[id(other.node)] = said
                waiting += [(other, name) for name in said.stands_for]
        return list(found.values())

    def _named(self, each: Definition, name: str) -> Definition | None:
        """What a reference stands for: a full name, one of the file, or one of its class."""
        before, _, last = name.rpartition(".")
        if each.owner is not None and before in ("", each.owner.name):
            for method in self.package.methods(each.module, each.owner):
                if method.name == f"{each.owner.name}.{last}":
                    return method
        inner = self.package.module_named(each.module.name, before) if before else each.module
        inner = inner or self.package.modules.get(before)
        return self.package.found(inner.name, last) if inner is not None else None


def _text_of(node: ast.stmt) -> str | None:
    return ast.get_docstring(node) if isinstance(node, Function | ast.ClassDef) else None


def _entry(
    name: str, annotation: ast.expr | None, said: dict[str, str], section: str
) -> Iterator[str]:
    """What is wrong with what is said about one parameter or field."""
    if name not in said:
        yield f"{name} is not under {section}"
        return
    if _is_array(annotation) and not has_shape(said[name]):
        yield f"{section} does not say the shape of {name}"
    numbers = annotation is None or any(
        word in ast.unparse(annotation) for word in ("float", *_ARRAYS)
    )
    if numbers and needs_unit(name) and not has_unit(said[name]):
        yield f"{section} does not say the unit of {name}"


def _parameters(node: Function, bound: bool) -> list[ast.arg]:
    """Parameters but the one that a method is bound to."""
    a = node.args
    several = [*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs]
    several += [a.kwarg] if a.kwarg else []
    static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
    named = [each for each in several if each.arg not in ("self", "cls") or static or not bound]
    return [each for each in named if not each.arg.startswith("_")]


def _is_array(annotation: ast.expr | None) -> bool:
    """Whether arrays are among the values; functions of arrays are not."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Callable":
        return False
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return any(word in annotation.value for word in _ARRAYS)
    if ast.unparse(annotation).rpartition(".")[2] in _ARRAYS:
        return True
    inside = ast.iter_child_nodes(annotation)
    return any(_is_array(each) for each in inside if isinstance(each, ast.expr))


def _may_be_any(annotation: ast.expr) -> bool:
    """Whether everything goes: ``Any`` itself, or in a union; not in a container."""
    if isinstance(annotation, ast.BinOp):
        return _may_be_any(annotation.left) or _may_be_any(annotation.right)
    return ast.unparse(annotation) in ("Any", "typing.Any")


def _holds_fields(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    return bool(bases & _FIELDS) or any(
        "dataclass" in ast.unparse(each) for each in node.decorator_list
    )


def _is_class_variable(field: ast.AnnAssign) -> bool:
    return ast.unparse(field.annotation).startswith("ClassVar")


def _is_property(node: Function) -> bool:
    return any("property" in ast.unparse(each) for each in node.decorator_list)


def findings(files: dict[str, str], pages: dict[str, str]) -> list[Finding]:
    """Everything that public docstrings lack, once for each definition.

    Args:
        files: text by path from the root.
        pages: text of the documentation that may be referred to, by path.
    """
    package = Package(files)
    reader = _Reader(package, pages)
    found: dict[tuple[str, int, str], Finding] = {}
    for each in package.public():
        for complaint in reader.complaints(each):
            place = (each.module.path, each.node.lineno, complaint)
            found.setdefault(place, Finding(*place[:2], each.name, complaint))
    unused = [
        Finding(".ci/docstrings.py", 1, name, f"{what} is in ANY and not Any; mend ANY")
        for name, what in ANY
        if (name, what) not in reader.any_used
    ]
    return sorted(found.values()) + unused


def main() -> int:
    """Read the package and complain; returns the exit status."""
    pages = {f"docs/{path.name}": path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")}
    found = findings(sources(), pages)
    sys.stdout.write("".join(f"{f.path}:{f.line}: {f.name}: {f.complaint}\n" for f in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
