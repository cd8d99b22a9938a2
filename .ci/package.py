"""Builds what would be released, and uses it as somebody does who has nothing else.

    python .ci/package.py [ARGUMENTS OF PYTEST ...]

Sources and wheel are built in a temporary folder.  The wheel is installed into an empty virtual
environment and used from an empty folder; then the test suite of the source distribution runs
against it, with the installed package in place of the package's sources.  Needs ``build``, and the
package registry for the environment.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"

HEAVY = ("torch", "numpy", "scipy", "matplotlib", "geoopt")

RIGHT = """\
from ternvae import pretrained
from ternvae.metrics import evaluate
from ternvae.padic import TernarySpace

model = pretrained.load("mathematical_foundation")
metrics: dict[str, float] = dict(evaluate(model, TernarySpace(9)))
"""

WRONG = """\
from ternvae.padic import TernarySpace

TernarySpace("nine")
TernarySpace(9).size.upper()
"""

EMBED = """\
from ternvae import pretrained

model = pretrained.load("mathematical_foundation")
assert model.decode(model.embed([1, 3, 9])).shape == (3, 9)
"""


def main() -> int:
    """Build, install, use, test."""
    environment = os.environ
    environment["OMP_NUM_THREADS"] = "1"
    environment["PIP_CONSTRAINT"] = str(CONSTRAINTS)
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="ternvae-package-") as name:
        folder = Path(name)
        with step("sources and wheel"):
            tree = copied(folder / "tree")
            sources, wheel = built(tree, folder / "dist")
            check_contents(tree, sources, wheel)
        with step("an empty environment"):
            python = folder / "venv" / "bin" / "python"
            venv.create(folder / "venv", with_pip=True)
            run(python, "-m", "pip", "install", "-q", wheel)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        with step("the program and a trained model"):
            use(python, elsewhere)
        with step("no compiler"):
            without_compiler(python, sources, wheel, folder)
        with step("types"):
            check_types(python, elsewhere)
        with step("the test suite"):
            run(python, "-m", "pip", "install", "-q", f"ternvae[dev] @ {wheel.as_uri()}")
            test(python, sources, folder / "suite", sys.argv[1:])
    return 0


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(f"package: {name} ...", flush=True)
    start = time.monotonic()
    yield
    print(f"package: {name}: {time.monotonic() - start:.0f} s", flush=True)


def run(*command: str | Path, cwd: Path | None = None, fails: bool = False, **env: str) -> str:
    """Run a command that has to succeed, or to fail; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if (done.returncode != 0) != fails:
        sys.exit(f"{done.stdout}\npackage: {' '.join(map(str, command))}: {done.returncode}")
    return done.stdout


def ensure(holds: bool, what: str) -> None:
    """End with a sentence unless it holds."""
    if not holds:
        sys.exit(f"package: {what}")


# --- what is built --------------------------------------------------------------------------


def copied(tree: Path) -> Path:
    """The repository without what git ignores, so that nothing built before gets in."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", *ignored))
    return tree


def built(tree: Path, out: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    run(sys.executable, "-m", "build", "--outdir", out, tree)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def check_contents(tree: Path, sources: Path, wheel: Path) -> None:
    """The sources hold the repository, the wheel the package, and neither anything else."""
    there = {str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file()}
    there = {name for name in there if ".egg-info/" not in name} - {".gitignore"}
    with tarfile.open(sources) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    names = {name for name in names if ".egg-info/" not in name} - {"PKG-INFO"}
    ensure(names == there, f"sources: not as the repository: {sorted(names ^ there)}")
    package = {name for name in there if name.startswith("ternvae/")}
    package = {name for name in package if not name.endswith((".c", ".h"))}
    found = set(zipfile.ZipFile(wheel).namelist())
    found = {name for name in found if ".dist-info/" not in name}
    compiled = set(fnmatch.filter(found, "ternvae/*/_*.so"))
    ensure(found - compiled == package, f"wheel: {sorted((found - compiled) ^ package)}")
    ensure(len(compiled) in (0, 4), f"wheel: only some of the extensions: {sorted(compiled)}")
    [metadata] = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    dead = re.findall(r"\]\((?!https?:)[^)]*\)", text)
    ensure(not dead, f"description: links that lead nowhere on a package index: {dead}")
    print(f"package: {len(there)} files in the sources, {len(found)} in the wheel")


# --- what it is good for --------------------------------------------------------------------


def use(python: Path, folder: Path) -> None:
    """The first steps, from a folder that holds nothing."""
    program = python.parent / "ternvae"
    place = run(python, "-c", "import ternvae; print(ternvae.__file__)", cwd=folder)
    ensure(place.startswith(str(python.parents[1])), f"imported from {place}")
    loaded = run(python, "-X", "importtime", "-m", "ternvae", "--help", cwd=folder)
    ensure("ternvae.cli" in loaded, "ternvae --help: no list of imports")
    for name in HEAVY:
        ensure(f" {name}\n" not in loaded, f"ternvae --help imports {name}")
    run(program, "validate", "--quiet", cwd=folder)
    best = run(program, "train", "--test-mode", "--quiet", "--device", "cpu", cwd=folder).strip()
    run(program, "analyze", best, cwd=folder)
    run(python, "-c", EMBED, cwd=folder)
    # Pictures are an extra: without it, one line says so.
    said = run(program, "plot", best, cwd=folder, fails=True)
    ensure("ternvae[plot]" in said and said.count("\n") == 1, f"plot without its extra: {said}")


def without_compiler(python: Path, sources: Path, wheel: Path, folder: Path) -> None:
    """The installation goes on without a compiler, and the mathematics is right all the same."""
    out = folder / "plain"
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, sources, CC="false")
    [plain] = out.glob("*.whl")
    found = fnmatch.filter(zipfile.ZipFile(plain).namelist(), "*.so")
    ensure(not found, f"compiled without a compiler: {found}")
    again = ("-m", "pip", "install", "-q", "--no-deps", "--force-reinstall")
    run(python, *again, plain)
    run(python.parent / "ternvae", "validate", "--quiet", cwd=folder / "elsewhere")
    run(python, *again, wheel)


def check_types(python: Path, folder: Path) -> None:
    """A user's strict type checker sees the package: it passes what is right, and only that."""
    run(python, "-m", "pip", "install", "-q", "mypy")
    check = (python, "-m", "mypy", "--strict", "--cache-dir", folder / ".mypy_cache")
    for name, text in (("right.py", RIGHT), ("wrong.py", WRONG)):
        (folder / name).write_text(text)
    run(*check, "right.py", cwd=folder)
    said = run(*check, "wrong.py", cwd=folder, fails=True)
    for mark in ("wrong.py:3: ", "wrong.py:4: ", "Found 2 errors"):
        ensure(mark in said, f"types: {said}")


def test(python: Path, sources: Path, folder: Path, arguments: list[str]) -> None:
    """The suite beside all but the package, whose place a link to the installed one takes.

    Some tests read the files of the package; what they find there is what was installed.
    """
    shutil.unpack_archive(sources, folder)
    [unpacked] = folder.iterdir()
    shutil.rmtree(unpacked / "ternvae")
    place = "import sysconfig; print(sysconfig.get_path('platlib'))"
    (unpacked / "ternvae").symlink_to(Path(run(python, "-c", place).strip()) / "ternvae")
    given = arguments or ["-n", "2"]
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *given]
    if code := subprocess.run(command, cwd=unpacked).returncode:
        sys.exit(f"package: the test suite: {code}")


if __name__ == "__main__":
    sys.exit(main())
