"""Which exceptions a function can raise of its own: read from its ``raise`` statements.

Those of the helpers count, too: private functions of the same file, and the files in ``REFUSING``.
What ``try`` catches does not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from public_names import Function, Module, Package

#: Files of any room that check what public functions are given.
REFUSING = ("arguments", "numerics", "rows")


class Raised:
    """Finds exceptions by name, and remembers what it has found.

    Args:
        package: where names are looked up.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self._known: dict[int, frozenset[str]] = {}

    def by(self, module: Module, node: Function, owner: ast.ClassDef | None) -> frozenset[str]:
        """Names of the exceptions that a call may end in."""
        if id(node) not in self._known:
            self._known[id(node)] = frozenset()  # who calls itself raises nothing more by it
            found = _Body(self, module, owner)
            for statement in node.body:
                found.visit(statement)
            self._known[id(node)] = frozenset(found.names)
        return self._known[id(node)]

    def called(self, module: Module, node: ast.expr, owner: ast.ClassDef | None) -> frozenset[str]:
        """What calling a function may end in, if the function is a helper."""
        found = self._helper(module, node, owner)
        return self.by(*found) if found is not None else frozenset()

    def type_of(self, module: Module, node: ast.expr, owner: ast.ClassDef | None) -> str | None:
        """The name of the exception that an expression after ``raise`` is; None if not known."""
        call = node.func if isinstance(node, ast.Call) else node
        if isinstance(call, ast.Name) and call.id[:1].isupper():
            return call.id
        found = self._helper(module, call, owner)
        returns = found[1].returns if found is not None else None
        return ast.unparse(returns) if returns is not None else None

    def _helper(
        self, module: Module, node: ast.expr, owner: ast.ClassDef | None
    ) -> tuple[Module, Function, ast.ClassDef | None] | None:
        if isinstance(node, ast.Attribute):
            inside = [owner] if owner and _is_name(node.value, "self", "cls") else _classes(module)
            for each in inside:
                for method in each.body:
                    if isinstance(method, Function) and method.name == node.attr:
                        helps = method.name.startswith("_") or _refuses(module)
                        return (module, method, each) if helps else None
            return None
        found = self.package.found(module.name, node.id) if isinstance(node, ast.Name) else None
        if found is None or not isinstance(found.node, Function):
            return None
        private = found.module is module and found.node.name.startswith("_")
        return (found.module, found.node, None) if private or _refuses(found.module) else None


class _Body(ast.NodeVisitor):
    """Walks the body of a function, not those of functions inside it."""

    def __init__(self, raised: Raised, module: Module, owner: ast.ClassDef | None) -> None:
        self.raised, self.module, self.owner = raised, module, owner
        self.names: set[str] = set()

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is not None:
            name = self.raised.type_of(self.module, node.exc, self.owner)
            self.names |= {name} if name else set()
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.names |= self.raised.called(self.module, node.func, self.owner)
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        inside = _Body(self.raised, self.module, self.owner)
        for statement in node.body:
            inside.visit(statement)
        self.names |= inside.names - set(_caught(node))
        for each in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(each)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return

    def visit_Lambda(self, node: ast.Lambda) -> None:
        return


def _refuses(module: Module) -> bool:
    return module.name.rpartition(".")[2] in REFUSING


def _caught(node: ast.Try) -> Iterator[str]:
    for handler in node.handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        yield from (ast.unparse(kind) for kind in kinds if kind is not None)


def _classes(module: Module) -> list[ast.ClassDef]:
    return [node for node in module.defined.values() if isinstance(node, ast.ClassDef)]


def _is_name(node: ast.expr, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names
