"""Refuse what could run foreign code or reach the network, read from the syntax tree.

No comment silences it.  The few places that must do such a thing are in ``ALLOWED`` below, each
with its reason, and an entry that is no longer needed is a finding too.  It catches slips and plain
tricks (other names, ``getattr`` with a text, ``vars``, ``sys.modules``), not someone who hides on
purpose.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("ternvae", "benchmarks", "examples", "tests", ".ci", "setup.py")

#: (file, what is found there): how often, and why.
ALLOWED: dict[tuple[str, str], tuple[int, str]] = {
    ("ternvae/manifolds/programs.py", "importlib.import_module"): (1, "rules named in its tables"),
    ("ternvae/validation/files.py", "__reduce__"): (1, "the trap that a checkpoint is probed with"),
    ("benchmarks/torture.py", "importlib.import_module"): (1, "its own parts, by name"),
    ("tests/docs/running.py", "compile"): (1, "examples of our own pages"),
    ("tests/docs/running.py", "exec"): (1, "examples of our own pages"),
    ("tests/test_models.py", "torch.load"): (1, "a model that the test has pickled itself"),
    ("tests/test_validation.py", "torch.load"): (1, "the careless loader that must be caught"),
    ("tests/manifolds/test_distributed.py", "torch.load"): (
        1,
        "refuses objects by torch's default",
    ),
    **{
        ("benchmarks/trials/pickles.py", name): (number, "a trap, named and never called")
        for name, number in [
            *[("os.system", 4), ("os.popen", 1), ("eval", 1), ("exec", 1)],
            *[("torch.load", 1), ("torch.hub", 1)],
        ]
    },
}

#: Where malicious files are made: pickles may be written there, and still not read.
MAKES_PICKLES = ("tests/", "benchmarks/trials/")

_SAFE = "use ternvae.checkpoint, JSON or a plain format"
_PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib"}
_PICKLES |= {"jsonpickle", "marshal", "shelve"}
_UNPICKLERS = {"load", "loads", "_load", "_loads", "Unpickler", "_Unpickler", "open"}
_NETWORK = {
    *("socket", "_socket", "ssl", "_ssl", "socketserver", "asyncio", "urllib", "urllib3", "http"),
    *("requests", "httpx", "aiohttp", "websockets", "websocket", "ftplib", "smtplib", "smtpd"),
    *("poplib", "imaplib", "nntplib", "telnetlib", "xmlrpc", "paramiko", "boto3", "gdown"),
    *("huggingface_hub", "transformers", "datasets", "wandb", "mlflow", "webbrowser"),
}
_OTHER_PROGRAMS = {"subprocess", "pty", "commands"}
_NO_NETWORK = "the package neither reaches the network nor starts programs"

_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
_YAML |= {"Loader", "UnsafeLoader", "FullLoader", "CLoader", "CUnsafeLoader", "CFullLoader"}
_YAML |= {"Constructor", "UnsafeConstructor", "FullConstructor"}

_SHELLS = {"os.system", "os.popen", "posix.system", "pty.spawn"}
_SHELLS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"}
_PROCESSES = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call")}
_PROCESSES |= {"subprocess.check_output"}

_TEXT_IS_CODE = {"eval", "exec", "compile"}
_CODE = "write the code down, or look the value up in a table"

_FOREIGN = {
    "torch.serialization.add_safe_globals": "torch.load needs no further classes",
    "torch.serialization.safe_globals": "torch.load needs no further classes",
    "torch.package.PackageImporter": _SAFE,
    "torch.jit.load": _SAFE,
    "pandas.read_pickle": _SAFE,
}
_TORCH_LOAD = {"torch.load", "torch.serialization.load"}
_NUMPY_LOAD = {"numpy.load", "numpy.lib.npyio.load", "numpy.lib.format.read_array"}
_IMPORTERS = {"importlib.import_module", "__import__", "importlib.__import__"}


class Finding(NamedTuple):
    """One thing that must not be there.

    Attributes:
        line: where.
        name: what, as ``ALLOWED`` names it.
        reason: why not, and what to use instead.
    """

    line: int
    name: str
    reason: str


def findings(path: str, source: str) -> list[Finding]:
    """Everything forbidden in a source text.

    Args:
        path: of the file, from the root, with slashes; it decides what is forbidden.
        source: its text.
    """
    tree = ast.parse(source)
    reader = _Reader(path, tree)
    reader.visit(tree)
    return sorted(set(reader.found))


class _Names:
    """What the names of a file stand for, wherever in it they are bound."""

    def __init__(self, tree: ast.AST) -> None:
        self.known: dict[str, str] = {}
        bindings: list[tuple[str, ast.expr]] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    # Without a name of its own, `import torch.nn` binds torch.
                    first = alias.name.partition(".")[0]
                    self.known[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}".removeprefix("builtins.")
                    self.known[alias.asname or alias.name] = whole
            elif isinstance(node, ast.Assign):
                targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
                bindings += [(name, node.value) for name in targets]
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                targets = [node.target.id] if isinstance(node.target, ast.Name) else []
                bindings += [(name, node.value) for name in targets]
        # Twice, so that a name of a name is known too.
        for name, value in bindings * 2:
            dotted = self.dotted(value)
            if dotted and name not in self.known and dotted.partition(".")[0] in self.roots:
                self.known[name] = dotted

    @property
    def roots(self) -> set[str]:
        """First parts of the modules that are known here, and the built-in functions."""
        return {each.partition(".")[0] for each in self.known.values()} | {"builtins"}

    def dotted(self, node: ast.AST) -> str | None:
        """The full name that an expression stands for; None if it is nothing so plain."""
        if isinstance(node, ast.Name):
            if node.id == "__builtins__":
                return "builtins"
            return self.known.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return self._joined(node.value, node.attr)
        if isinstance(node, ast.Subscript) and (key := _text(node.slice)) is not None:
            if self.dotted(node.value) in ("sys.modules", "builtins"):
                return key
            return self._joined(_owner(node.value, self), key)
        if isinstance(node, ast.Call):
            function = self.dotted(node.func)
            if function in _IMPORTERS and node.args:
                return _text(node.args[0])
            if function in ("getattr", "builtins.getattr") and len(node.args) > 1:
                name = _text(node.args[1])
                return name and self._joined(node.args[0], name)
        return None

    def _joined(self, owner: ast.AST | None, name: str) -> str | None:
        before = self.dotted(owner) if owner is not None else None
        if before is None:
            return None
        return name if before == "builtins" else f"{before}.{name}"


def _owner(node: ast.AST, names: _Names) -> ast.AST | None:
    """The object of ``vars(object)`` and ``object.__dict__``."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.value
    if isinstance(node, ast.Call) and names.dotted(node.func) == "vars" and node.args:
        return node.args[0]
    return None


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return None


class _Reader(ast.NodeVisitor):
    """Walks a file and notes what is forbidden in its place."""

    def __init__(self, path: str, tree: ast.AST) -> None:
        self.package = path.startswith("ternvae/")
        self.tests = path.startswith("tests/")
        self.makes_pickles = path.startswith(MAKES_PICKLES)
        self.names = _Names(tree)
        self.found: list[Finding] = []
        self._judged: set[ast.AST] = set()

    def _note(self, node: ast.AST, name: str, reason: str) -> None:
        self.found.append(Finding(getattr(node, "lineno", 1), name, reason))

    # --- imports ----------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        self._module(node, module)
        for alias in node.names:
            if alias.name == "*":
                self._note(node, f"{module}.*", "hides what is used; import the names")
            else:
                name = f"{module}.{alias.name}".removeprefix("builtins.")
                self._module(node, name)
                self._reference(node, name)

    def _module(self, node: ast.AST, name: str) -> None:
        first = name.partition(".")[0]
        if first in _PICKLES and not self.makes_pickles:
            self._note(node, first, f"a pickle runs code when it is read; {_SAFE}")
        if _is_hub(name):
            self._note(node, "torch.hub", "loads code from the network; ship what is needed")
        if self.package and first in _NETWORK | _OTHER_PROGRAMS:
            self._note(node, first, f"{_NO_NETWORK}; leave that to the user")

    # --- names ------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._expression(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._expression(node)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._expression(node)
        self.generic_visit(node)

    def _expression(self, node: ast.AST) -> None:
        if node not in self._judged and (name := self.names.dotted(node)):
            if isinstance(node, ast.Call | ast.Subscript):
                # A plain name that happens to be a module's is none; imports are judged above.
                self._module(node, name)
            self._reference(node, name)

    def _reference(self, node: ast.AST, name: str) -> None:
        """Judge a name that is used without a call that could make it harmless."""
        module, _, last = name.rpartition(".")
        if name in _TEXT_IS_CODE:
            self._note(node, name, f"text becomes code; {_CODE}")
        elif name in _SHELLS or name.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
            self._note(node, name, "starts a program or a shell; use subprocess with a list")
        elif _is_hub(name):
            self._note(node, "torch.hub", "loads code from the network; ship what is needed")
        elif name in _FOREIGN:
            self._note(node, name, f"opens the door to foreign code; {_FOREIGN[name]}")
        elif name in _TORCH_LOAD:
            self._note(node, "torch.load", "call it, with weights_only=True written out")
        elif name in _NUMPY_LOAD or name in _PROCESSES or name in _IMPORTERS:
            # Passed on, a function may get any argument.
            if not isinstance(node, ast.ImportFrom) and (self.package or name in _NUMPY_LOAD):
                self._note(node, name, "call it where it is seen with which arguments")
        elif module.partition(".")[0] == "yaml" and last in _YAML:
            self._note(node, f"yaml.{last}", "makes objects from tags; use yaml.safe_load")
        elif module.partition(".")[0] in _PICKLES and last in _UNPICKLERS:
            self._note(node, name, f"a pickle runs code when it is read; {_SAFE}")

    # --- calls ------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        name = self.names.dotted(node.func) or ""
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in _TORCH_LOAD and _is(given.get("weights_only"), True):
            self._judged.add(node.func)
        elif name in _NUMPY_LOAD:
            self._judged.add(node.func)
            positional = len(node.args) > (2 if name.endswith("load") else 1)
            pickles = given.get("allow_pickle")
            if positional or None in given or not (pickles is None or _is(pickles, False)):
                self._note(node, name, "an array of objects is a pickle; allow_pickle=False")
        elif name in _PROCESSES:
            self._judged.add(node.func)
            hidden = None in given and not self.tests
            if hidden or not ("shell" not in given or _is(given["shell"], False)):
                self._note(node, name, "shell=True, or what may be it; pass a list of arguments")
        elif name in _IMPORTERS:
            self._judged.add(node.func)
            literal = _text(node.args[0]) if node.args else None
            if literal is not None:
                self._module(node, literal)
            elif not self.tests:
                self._note(node, name, "imports what a variable names; write the module down")
        elif self._unpickles_its_own(name, node):
            self._judged.add(node.func)
        self._expression(node)
        self.generic_visit(node)

    def _unpickles_its_own(self, name: str, node: ast.Call) -> bool:
        """``pickle.loads(pickle.dumps(x))`` in a test reads no bytes but its own."""
        inner = node.args[0] if len(node.args) == 1 and not node.keywords else None
        is_own = isinstance(inner, ast.Call) and self.names.dotted(inner.func) == "pickle.dumps"
        return self.tests and name == "pickle.loads" and is_own

    # --- definitions ------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in ("__reduce__", "__reduce_ex__") and not self.makes_pickles:
            self._note(node, node.name, "only what makes pickles needs it; leave it out")
        self.generic_visit(node)


def _is_hub(name: str) -> bool:
    return f"{name}.".startswith(("torch.hub.", "torch.utils.model_zoo."))


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def sources(root: Path = ROOT) -> Iterator[Path]:
    """Every file that is read."""
    for place in PLACES:
        path = root / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def complaints(files: dict[str, str]) -> list[str]:
    """One line per finding that is not allowed, and per allowance that is not used.

    Args:
        files: text by path from the root.
    """
    lines = []
    for path, source in files.items():
        found = findings(path, source)
        count = Counter(each.name for each in found)
        for each in found:
            if count[each.name] > ALLOWED.get((path, each.name), (0, ""))[0]:
                lines.append(f"{path}:{each.line}: {each.name}: {each.reason}")
        lines += [
            f"{path}:1: {name}: allowed {number} times, found {count[name]}; mend ALLOWED"
            for (where, name), (number, _) in ALLOWED.items()
            if where == path and count[name] < number
        ]
    lines += [f"{path}:1: is in ALLOWED and not there" for path, _ in ALLOWED if path not in files]
    return lines


def main() -> int:
    """Read everything and complain; returns the exit status."""
    files = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sources()}
    found = complaints(files)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
