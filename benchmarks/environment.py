"""What the benchmarks share: the machine, the versions, and result files with tables in them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = [
    "ROOT",
    "add_output_option",
    "add_shared_options",
    "available_cores",
    "environment",
    "environment_markdown",
    "integers",
    "markdown_table",
    "pairs",
    "write_results",
]

#: The root of the repository.
ROOT = Path(__file__).resolve().parent.parent

_PACKAGES = ("ternvae", "torch", "numpy", "scipy", "geoopt")

#: Named where they are installed.
_OPTIONAL_PACKAGES = ("hypll",)


def available_cores() -> int:
    """Number of logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Where, when and with what a benchmark ran.

    Args:
        arguments: the benchmark's arguments; default ``sys.argv[1:]``.

    Returns:
        Date (UTC), command, machine (CPU model, cores, operating system, and the load average of
        the last minute, which says whether anything else was running) and versions.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given]),
        "machine": {
            "cpu": _cpu_model(),
            "cores": available_cores(),
            "system": f"{platform.system()} {platform.machine()}",
            "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            **_optional_versions(),
        },
    }


def _optional_versions() -> dict[str, str]:
    versions = {}
    for name in _OPTIONAL_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def environment_markdown(where: dict[str, Any]) -> str:
    """The environment as a few lines of Markdown."""
    machine = where["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    load = machine["load_before"]
    busy = "" if load is None else f" (load average {load:.2f} before)"
    return (
        f"`{where['command']}`, {where['date']}\n\n"
        f"{machine['cpu']}, {machine['cores']} cores{busy}, {machine['system']}; {versions}"
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An aligned Markdown table; the first column to the left, the others to the right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    text = [
        [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [text[0], rule, *text[1:]])


def write_results(folder: Path, name: str, contents: dict[str, Any], markdown: str) -> list[Path]:
    """Write ``NAME.json`` and ``NAME.md`` into ``folder``, which is made if missing.

    Returns:
        The two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.json", folder / f"{name}.md"]
    texts = [json.dumps(contents, indent=2, allow_nan=False), markdown]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    return files


def integers(text: str) -> list[int]:
    """Read ``0-9`` or ``0,3,5-7`` as a list of whole numbers, in that order, for argparse.

    Raises:
        argparse.ArgumentTypeError: not such a list, empty, or a number comes twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last - first >= 10_000:
            raise argparse.ArgumentTypeError(f"expected numbers such as 0-9 or 0,3,5, got {text!r}")
        numbers += range(first, last + 1)
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"a number comes twice in {text!r}")
    return numbers


def add_shared_options(parser: argparse.ArgumentParser, overridden: str) -> None:
    """Add ``--set KEY VALUE``, for :func:`pairs`, and :func:`add_output_option`'s ``--out``.

    Args:
        parser: the benchmark's.
        overridden: what ``--set`` changes, for the help.
    """
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help=f"override a key of {overridden}; may be repeated",
    )
    add_output_option(parser)


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, for :func:`write_results`."""
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="folder of the result files; default benchmarks/results",
    )


def pairs(given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The ``--set KEY VALUE`` options as a mapping.

    Raises:
        ValueError: a key is given twice, or is the seed, which has its own option.
    """
    values: dict[str, Any] = dict(given)
    if len(values) < len(given):
        keys = [key for key, _ in given]
        raise ValueError(f"--set {next(k for k in keys if keys.count(k) > 1)} is given twice")
    if "seed" in values:
        raise ValueError(f"--set seed {values['seed']}: use --seeds for the seed")
    return values
