"""Which names of the package are public, read from the syntax trees: nothing is imported.

Public is what ``__all__`` of a module in ``ROOMS`` names: functions, classes, constants, and
modules (whose own ``__all__`` then counts).  Of a class it is every method and property without a
leading underscore, ``__call__``, and what it inherits from another class of the package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "ternvae"

#: What users import from. A room that is not there is being built or was given up, and no finding.
ROOMS = (
    *(
        "padic",
        "manifolds",
        "manifolds.normal",
        "models",
        "losses",
        "metrics",
        "ceilings",
        "baselines",
    ),
    *("config", "checkpoint", "trainer", "validation", "analysis"),
    *("plots", "report", "pretrained"),
)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Assignment: TypeAlias = ast.Assign | ast.AnnAssign


class Module:
    """One source file: its tree, its text, and what its names stand for."""

    def __init__(self, name: str, path: str, source: str) -> None:
        self.name, self.path, self.lines = name, path, source.splitlines()
        self.tree = ast.parse(source)
        self.doc = ast.get_docstring(self.tree) or ""
        self.defined: dict[str, ast.stmt] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        for node in _statements(self.tree):
            if isinstance(node, Function | ast.ClassDef):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.defined |= {t.id: node for t in targets if isinstance(t, ast.Name)}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (node.module, alias.name)

    @property
    def exported(self) -> list[str]:
        """The strings in ``__all__``."""
        node = self.defined.get("__all__")
        value = node.value if isinstance(node, ast.Assign) else None
        elements = value.elts if isinstance(value, ast.List | ast.Tuple) else []
        return [str(each.value) for each in elements if isinstance(each, ast.Constant)]


class Definition(NamedTuple):
    """Where a public name is defined.

    Attributes:
        name: as users import it, ``ternvae.padic.TernarySpace.indices`` for a method.
        module: the file that defines it.
        node: its definition.
        owner: the class that defines it, if it is a method or a property.
    """

    name: str
    module: Module
    node: ast.stmt
    owner: ast.ClassDef | None = None


class Package:
    """All modules, and the names that lead from one to the other.

    Args:
        files: text by path from the root, with slashes.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self.modules: dict[str, Module] = {}
        for path, source in files.items():
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            self.modules[name] = Module(name, path, source)

    def found(self, module: str, name: str) -> Definition | None:
        """What a name of a module stands for; None if it is from elsewhere."""
        here = self.modules.get(module)
        if here is None:
            return None
        if name in here.defined:
            return Definition(f"{module}.{name}", here, here.defined[name])
        if name in here.imported and self.module_named(module, name) is None:
            return self.found(*here.imported[name])
        return None

    def module_named(self, module: str, name: str) -> Module | None:
        """The module that a name of a module stands for, if it is one of the package."""
        here = self.modules.get(module)
        origin = ".".join(here.imported.get(name, (module, name))) if here else ""
        return self.modules.get(origin)

    def public(self) -> list[Definition]:
        """Every public name once for each place that it is imported from, methods after classes."""
        rooms = [f"{PACKAGE}.{room}" for room in ROOMS]
        return [each for room in rooms if room in self.modules for each in self._exports(room)]

    def methods(self, module: Module, owner: ast.ClassDef) -> Iterator[Definition]:
        """Public methods and properties of a class, inherited ones of the package included."""
        seen: set[str] = set()
        for where, each in self.lineage(module, owner):
            for node in each.body:
                if isinstance(node, Function) and _is_public(node) and node.name not in seen:
                    seen.add(node.name)
                    yield Definition(f"{owner.name}.{node.name}", where, node, each)

    def lineage(self, module: Module, owner: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
        """The class and its ancestors within the package, nearest first."""
        yield module, owner
        for base in owner.bases:
            found = self.found(module.name, base.id) if isinstance(base, ast.Name) else None
            if found is not None and isinstance(found.node, ast.ClassDef):
                yield from self.lineage(found.module, found.node)

    def _exports(self, room: str) -> Iterator[Definition]:
        for name in self.modules[room].exported:
            inner = self.module_named(room, name)
            found = self.found(room, name)
            if inner is not None:
                yield from self._exports(inner.name)
            elif found is not None:
                yield found._replace(name=f"{room}.{name}")
                if isinstance(found.node, ast.ClassDef):
                    for each in self.methods(found.module, found.node):
                        yield each._replace(name=f"{room}.{each.name}")


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Top-level statements, those under ``if TYPE_CHECKING`` included."""
    for node in tree.body:
        yield from node.body if isinstance(node, ast.If) else [node]


def _is_public(node: Function) -> bool:
    """Whether it is for users; a setter or an overload is told of by the function it belongs to."""
    decorators = [ast.unparse(each) for each in node.decorator_list]
    if any(each.endswith((".setter", "overload")) for each in decorators):
        return False
    return node.name == "__call__" or not node.name.startswith("_")


def sources(root: Path = ROOT) -> dict[str, str]:
    """Text of every file of the package, by path from the root."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}
