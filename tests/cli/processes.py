"""The program as a process: what it imports, and what a terminal shows of it."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable

#: What must not be loaded by what needs no numbers.
HEAVY = {"torch", "numpy", "scipy", "matplotlib", "geoopt"}

COLUMNS = 80


def imported(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """Run the program; what it printed, and the top-level modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ternvae", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=True,
    )
    names = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    return done.stdout, {name.partition(".")[0] for name in names}


def in_terminal(
    *arguments: str, act: Callable[[str], bytes] = lambda seen: b"", **environment: str
) -> tuple[str, int]:
    """Run the program in a terminal of 80 columns.

    Args:
        arguments: of the program.
        act: told after each piece what has been seen so far; gives the keys that are pressed then.
        environment: variables.

    Returns:
        Every character that it wrote, and its exit status.
    """
    import fcntl
    import pty
    import termios

    program, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    base = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ternvae", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**base, "TERM": "xterm", "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that ^C is a signal
    )
    os.close(terminal)
    seen, deadline = b"", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([program], [], [], 1)[0]:
                continue
            try:
                piece = os.read(program, 2**16)
            except OSError:  # Linux says so when the last writer has closed
                break
            if not piece:
                break
            seen += piece
            if keys := act(seen.decode(errors="replace")):
                os.write(program, keys)
        return seen.decode(), process.wait(timeout=30)
    finally:
        process.kill()
        os.close(program)


def screen(written: str) -> list[str]:
    """The lines that are seen in the end, without colours: carriage returns write over."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", written).replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines
