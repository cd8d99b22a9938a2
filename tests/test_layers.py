"""The house, read from the imports: data rises, decisions descend."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ternvae"

#: What each room may import of the package. A room that is not listed may not exist.
MAY_IMPORT: dict[str, set[str]] = {
    "ternvae": set(),
    "padic": set(),
    "manifolds": {"first_order"},
    "checkpoint": set(),
    "ceilings": set(),
    "first_order": set(),
    "frontier": set(),
    "losses": {"manifolds", "first_order"},
    "metrics": {"padic", "ceilings"},
    "baselines": {"padic", "manifolds", "metrics"},
    "models": {"padic", "manifolds", "checkpoint", "first_order"},
    "config": {"ceilings"},
    "training": {"padic", "manifolds", "models", "losses", "metrics", "checkpoint"},
    "validation": {
        *("padic", "manifolds", "models", "losses", "metrics", "checkpoint", "ceilings"),
    },
    "analysis": {
        *("padic", "manifolds", "models", "metrics", "checkpoint", "ceilings", "training"),
    },
    "plots": {
        *("padic", "manifolds", "models", "metrics", "checkpoint", "ceilings", "training"),
        *("analysis", "frontier"),
    },
    "report": {"ternvae", "checkpoint", "metrics", "training", "analysis", "plots"},
    "trainer": {
        *("padic", "manifolds", "checkpoint", "losses", "metrics", "models"),
        *("config", "training", "validation", "report"),
    },
    "pretrained": {"config", "checkpoint", "models", "trainer"},
    "cli": {
        *("ternvae", "config", "checkpoint", "training", "trainer", "validation", "analysis"),
        *("plots", "report"),
    },
    "__main__": {"cli"},
}

#: Rooms that torch may not be imported in when the module is loaded.
WITHOUT_TORCH = {"ternvae", "ceilings", "config", "pretrained", "cli", "__main__"}

#: Only these rooms may know geoopt; the others see the ball.
MAY_KNOW_GEOOPT = {"manifolds"}


def room_of(path: Path, package: Path = PACKAGE) -> str:
    first = path.relative_to(package).parts[0].removesuffix(".py")
    return "ternvae" if first == "__init__" else first


def imports(source: str) -> list[str]:
    """Every module named by an import statement, wherever it stands, except for typing only."""
    found = []
    for node in ast.walk(_without_type_checking(ast.parse(source))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room they reach into"
            module = node.module or ""
            # `from ternvae import x` may name a room, `from ternvae.metrics import x` does.
            found += (
                [f"ternvae.{alias.name}" for alias in node.names]
                if module == "ternvae"
                else [module]
            )
    return found


def top_level_imports(source: str) -> list[str]:
    """Modules imported when the file is loaded: not those inside functions."""
    tree = _without_type_checking(ast.parse(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return imports(ast.unparse(ast.fix_missing_locations(tree)))


def _without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return tree


def violations(room: str, source: str) -> list[str]:
    bad = []
    for module in imports(source):
        parts = module.split(".")
        if parts[0] == "ternvae":
            rooms = {room_of(p) for p in PACKAGE.rglob("*.py")}
            reached = parts[1] if len(parts) > 1 and parts[1] in rooms else "ternvae"
            if reached != room and reached not in MAY_IMPORT[room]:
                bad.append(f"{room} imports {module}")
        if parts[0] == "geoopt" and room not in MAY_KNOW_GEOOPT:
            bad.append(f"{room} imports geoopt")
    if room in WITHOUT_TORCH:
        # A room without torch may load no room that has it, either.
        heavy = {"torch", *(f"ternvae.{r}" for r in MAY_IMPORT if r not in WITHOUT_TORCH)}
        for module in top_level_imports(source):
            if any(module == h or module.startswith(f"{h}.") for h in heavy):
                bad.append(f"{room} loads {module} on import")
    return bad


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_every_file_keeps_to_its_room(path: Path) -> None:
    assert violations(room_of(path), path.read_text()) == []


def test_every_room_is_listed_and_every_listed_room_exists() -> None:
    assert {room_of(path) for path in PACKAGE.rglob("*.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("room", "source", "complaint"),
    [
        ("padic", "from ternvae.manifolds import PoincareBall", "padic imports ternvae.manifolds"),
        ("manifolds", "import ternvae.padic.space", "manifolds imports ternvae.padic.space"),
        ("manifolds", "from ternvae import padic", "manifolds imports ternvae.padic"),
        ("models", "from ternvae.config import Profile", "models imports ternvae.config"),
        ("losses", "def f():\n    import ternvae.padic", "losses imports ternvae.padic"),
        ("metrics", "import geoopt", "metrics imports geoopt"),
        ("config", "import torch", "config loads torch on import"),
        ("cli", "from ternvae.trainer import Trainer", "cli loads ternvae.trainer on import"),
        ("cli", "import ternvae.validation", "cli loads ternvae.validation on import"),
        ("cli", "from ternvae import analysis", "cli loads ternvae.analysis on import"),
        ("training", "from ternvae.config import Profile", "training imports ternvae.config"),
        ("validation", "def f():\n    import ternvae.config", "validation imports ternvae.config"),
        ("analysis", "from ternvae.trainer import Trainer", "analysis imports ternvae.trainer"),
    ],
)
def test_the_net_catches(room: str, source: str, complaint: str) -> None:
    assert complaint in violations(room, source)


@pytest.mark.parametrize("room", ["trainer", "validation", "analysis"])
def test_importing_inside_a_function_keeps_loading_light(room: str) -> None:
    assert violations("cli", f"def f():\n    from ternvae.{room} import x") == []
