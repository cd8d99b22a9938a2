import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ternvae
from ternvae.config import (
    Profile,
    load_profile,
    profile_from_dict,
    profile_keys,
    resolve_profile,
)

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


def environment_names(key: str) -> list[str]:
    """How settings libraries spell a key in the environment, pydantic's nested ones included."""
    section, _, name = key.rpartition(".")
    joined = [glue.join(filter(None, (section, name))) for glue in (".", "_", "__", "-")]
    return [p + n for n in (*joined, name) for p in ("", "TERNVAE_", "TERNVAE__", "ternvae.")]


@pytest.mark.parametrize("upper", [True, False])
def test_no_environment_variable_sets_a_key(upper: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[Profile]:
        overrides = {"seed": "5", "training.epochs": "200"}
        return [load_profile(), resolve_profile(overrides=overrides), profile_from_dict({})]

    before = everything()
    vital = {"PATH", "HOME", "PWD"}
    for key in [*profile_keys(), *Profile.model_fields]:
        for name in environment_names(key):
            spelt = name.upper() if upper else name
            if spelt not in vital:  # frozen_checkpoint.path
                monkeypatch.setenv(spelt, "1")
    for name in ("TERNVAE_PROFILE", "TERNVAE_CONFIG", "PROFILE", "CONFIG"):
        monkeypatch.setenv(name, "coverage_focused")
    assert everything() == before


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
