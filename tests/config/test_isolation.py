import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ternvae
from ternvae.config import load_profile

PACKAGE = Path(ternvae.__file__).parent
SOURCES = sorted((PACKAGE / "config").glob("*.py"))
ALLOWED = {"yaml", "pydantic", "pydantic_core"}
ALLOWED_ROOMS = ("ternvae.config.", "ternvae.ceilings.")


def foreign_imports(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    allowed = ALLOWED | set(sys.stdlib_module_names)
    return [
        name
        for name in found
        if name.partition(".")[0] not in allowed and not f"{name}.".startswith(ALLOWED_ROOMS)
    ]


def environment_reads(source: str) -> list[str]:
    reading = {"environ", "environb", "getenv", "getenvb", "expandvars"}
    names = (
        getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
        for node in ast.walk(ast.parse(source))
    )
    return [name for name in names if name in reading]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_keep_to_themselves(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert foreign_imports(source) == []
    assert environment_reads(source) == []


def test_the_source_checks_can_fail() -> None:
    assert foreign_imports("import torch.nn\nfrom ternvae.padic import x\nfrom . import y") == [
        "torch.nn",
        "ternvae.padic",
        ".",
    ]
    source = "import os\nos.environ['x']\nfrom os import getenv\nos.path.expandvars('$x')"
    assert sorted(environment_reads(source)) == ["environ", "expandvars", "getenv"]


def python(code: str, cwd: Path, *path: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path[:0] = {list(path)}\n{code}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    code = (
        "import ternvae.config as c; c.load_profile(); print({'torch', 'numpy'} & {*sys.modules})"
    )
    assert python(code, tmp_path, str(PACKAGE.parent)) == "set()"


def test_shipped_profiles_load_from_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        alone = [PACKAGE / "__init__.py", PACKAGE / "ceilings.py"]
        for path in [*alone, *(PACKAGE / "config").rglob("*.*")]:
            if path.suffix in {".py", ".yaml"}:
                packed.write(path, path.relative_to(PACKAGE.parent))
    code = "import ternvae.config as c; print(c.__file__); print(c.load_profile().to_yaml())"
    origin, _, text = python(code, tmp_path, str(archive)).partition("\n")
    assert origin.startswith(str(archive))
    assert text.strip() == load_profile().to_yaml().strip()
