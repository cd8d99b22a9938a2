"""Run command lines one by one, each in a child of its own with limits, and note what they did.

``python warden.py CASES.json`` reads ``{"folder": ..., "program": ..., "cases": [...]}``
and prints a list of what became of each.  The program is loaded once and every case is a fork of
it, so that a case takes milliseconds and still has memory, time and crashes of its own.
"""

from __future__ import annotations

import json
import math
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: Events of Python that no refusal of an input may cause.
TELLING = (
    *("os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.startfile", "os.fork", "pty."),
    *("subprocess.", "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser."),
    *("pickle.find_class", "marshal.load", "ctypes.dlopen", "shutil.", "code.__new__"),
)
#: Imports read compiled modules with marshal, and make code objects of what they read.
HARMLESS = ("marshal.loads", "marshal.load")

#: Bytes of private memory that a child may ask for, so that a bomb does not take the machine along.
MOST_MEMORY = 8 * 2**30

#: A child that waits for something uses no processor time; it gets so many times its limit.
PATIENCE = 6

CRASHED = 99


def main(path: str) -> int:
    """Run all cases of a file."""
    asked = json.loads(Path(path).read_text())
    program = _program(asked["program"])
    os.chdir(asked["folder"])
    results = [_watched(program, arguments, asked["seconds"]) for arguments in asked["cases"]]
    json.dump(results, sys.stdout)
    return 0


def _program(stub: str | None) -> Callable[[Sequence[str]], int]:
    if stub is not None:
        found: Callable[[Sequence[str]], int] = runpy.run_path(stub)["main"]
        return found
    # What a child would load anyway is loaded once.
    import ternvae.analysis  # noqa: F401
    import ternvae.trainer  # noqa: F401
    from ternvae import cli

    return cli.main


def _watched(
    program: Callable[[Sequence[str]], int], arguments: Sequence[str], seconds: float
) -> dict[str, Any]:
    files = [_unnamed() for _ in range(3)]
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_case(program, arguments, files, seconds)
    late = False
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - started > PATIENCE * seconds and not late:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    out, err, events = (_text(each) for each in files)
    code = os.waitstatus_to_exitcode(status)
    return {
        "status": code,
        "late": late or code == -signal.SIGXCPU,
        # Of the processor, so that it does not matter what else the machine is doing.
        "seconds": used.ru_utime + used.ru_stime,
        "mebibytes": used.ru_maxrss / 1024,
        "out": out,
        "err": err,
        "events": sorted(set(events.split())),
    }


def _unnamed() -> int:
    return os.memfd_create("case")


def _text(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(3_000_000).decode(errors="backslashreplace")


def _be_the_case(
    program: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    files: Sequence[int],
    seconds: float,
) -> None:
    """Never returns."""
    status = CRASHED
    try:
        limit = math.ceil(seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        out, err, events = files
        os.dup2(out, 1)
        os.dup2(err, 2)

        def note(event: str, arguments: object) -> None:
            # A torch that is made for CUDA asks the driver how many devices there are.
            if event == "ctypes.dlopen" and arguments == ("libnvidia-ml.so.1",):
                return
            if event.startswith(TELLING) and event not in HARMLESS:
                os.write(events, f"{event} ".encode())

        sys.addaudithook(note)
        status = program(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(status if isinstance(status, int) else CRASHED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
