"""Record the first ten minutes anew: run what docs/start.md shows, and write down what it says.

    python docs/record_start.py            # in a fresh environment; rewrites the page
    python docs/record_start.py --check    # with the ternvae of this interpreter; changes nothing

The page is its own script.  A block of the language ``console`` holds commands after ``$ ``, each
followed by its output; a block after ``<!-- file: NAME -->`` is written to that file first.  All of
it happens in one new folder, beside a copy of the sources.  Numbers differ from machine to machine;
``--check`` compares everything else.
"""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("start.md")

#: Longer outputs lose their middle, and the page says how much of it.
HEAD, TAIL = 8, 26

_PARTS = re.compile(
    r"(?:<!-- file: (?P<name>[\w.]+) -->\n```python\n(?P<content>.*?)```\n)"
    r"|(?:```console\n(?P<session>.*?)```\n)",
    re.DOTALL,
)


def main(arguments: list[str] | None = None) -> int:
    """Record or check the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, and leave the page alone")
    check = parser.parse_args(arguments).check
    before = PAGE.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        after = recorded(before, Path(folder), installed=check)
    if not check:
        PAGE.write_text(after, "utf-8")
        return 0
    differences = differing(before, after)
    sys.stdout.write("".join(f"{line}\n" for line in differences))
    return 1 if differences else 0


def recorded(page: str, folder: Path, *, installed: bool) -> str:
    """The page with the outputs that its commands have now.

    Args:
        page: text of the page.
        folder: an empty folder, in which everything happens.
        installed: whether the library is there already, so that what comes before the first use of
            it (the session that makes the environment) stays as it stands.
    """
    day = folder / "day"
    day.mkdir()
    environment = _environment(folder, installed)
    if not installed:
        copy = ["git", "clone", "--quiet", str(ROOT), str(folder / "ternvae")]
        subprocess.run(copy, check=True)

    def renew(part: re.Match[str]) -> str:
        if part["name"]:
            (day / part["name"]).write_text(part["content"], "utf-8")
            return part[0]
        if installed and "pip install" in part["session"]:
            return part[0]
        lines = [
            line
            for command in commands(part["session"])
            for line in (f"$ {command}", *_output(command, day, environment))
        ]
        return "```console\n" + "".join(f"{line}\n" for line in lines) + "```\n"

    page = _PARTS.sub(renew, page)
    return page if installed else re.sub(r"(?<=Recorded on ).*", _machine(day, environment), page)


def commands(session: str) -> Iterator[str]:
    """The commands of a session, without their outputs."""
    return (line[2:] for line in session.splitlines() if line.startswith("$ "))


def _environment(folder: Path, installed: bool) -> Mapping[str, str]:
    """A shell's variables, with the environment first in which the library is or will be."""
    first = Path(sys.executable).parent if installed else folder / "day" / "env" / "bin"
    names = ("HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    # A terminal of this width, whatever the recorder runs in.
    return {**kept, "PATH": f"{first}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}


def _output(command: str, day: Path, environment: Mapping[str, str]) -> list[str]:
    """What a command prints, and its exit status if that is not 0."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=day,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    lines = [line.rstrip() for line in done.stdout.replace(str(day), "~/day").splitlines()]
    if len(lines) > HEAD + TAIL + 1:
        left_out = len(lines) - HEAD - TAIL
        lines = [*lines[:HEAD], f"[... {left_out} lines left out here ...]", *lines[-TAIL:]]
    return lines if done.returncode == 0 else [*lines, f"[exit status {done.returncode}]"]


def _machine(day: Path, environment: Mapping[str, str]) -> str:
    """Where the page was recorded, in a line."""
    what = "import torch; print(torch.__version__)"
    torch = _output(f'python -c "{what}"', day, environment)[0]
    python = platform.python_version()
    return (
        f"{platform.system()} ({platform.machine()}, {os.cpu_count()} cores), Python {python}, "
        f"torch {torch}, by `python docs/record_start.py`."
    )


def differing(before: str, after: str) -> list[str]:
    """Lines that differ in more than their numbers.

    Epochs and figures depend on the machine, and so does how many lines there are of them.  Of the
    rest, none may be missing, new or in another place.

    Args:
        before: text of the page.
        after: the same page, recorded now.

    Returns:
        Lines of a difference without context; none if there is none.
    """
    one, other = (_without_numbers(text) for text in (before, after))
    lines = difflib.unified_diff(one, other, "page", "now", lineterm="", n=0)
    return [line for line in lines if not line.startswith("@@")]


def _without_numbers(text: str) -> list[str]:
    lines = [
        re.sub(r"[ -]+", " ", re.sub(r"-?\d[\d.,]*(?:e[-+]?\d+)?", "#", line))
        for line in text.splitlines()
    ]
    # How many epochs say something, and whether a run was stopped between two, is chance.
    kept = [line for line in lines if not line.startswith(("Epoch #", "[... #"))]
    return [line.replace(" and step # of the next", "") for line in kept]


if __name__ == "__main__":
    if shutil.which("bash") is None:
        sys.exit("the recorder needs bash")
    sys.exit(main())
