"""Jobs in processes of their own, and how much memory such a process took."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

# Nothing heavy is imported here: a child that measures what an import takes imports this first.

__all__ = ["in_child", "peak_memory_mib", "progress"]


def in_child(script: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run a script with a job, and return its answer.

    Args:
        script: reads the job as JSON from its one argument, prints its answer as JSON in the last
            line on standard output, and whatever it likes on standard error.
        job: plain values.

    Returns:
        The answer; ``{"failed": reason}`` if there is none.
    """
    process = subprocess.run(
        [sys.executable, str(script), json.dumps(job)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = process.stdout.splitlines()
    if process.returncode != 0 or not lines:
        return {"failed": f"exit status {process.returncode}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def peak_memory_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the system does not tell."""
    try:
        # Not getrusage where this is there: what that tells of a new process begins with the
        # memory of the process that started it.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(
            int(line.split()[1]) / 2**10
            for line in status.splitlines()
            if line.startswith("VmHWM:")
        )
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def progress(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)
