"""Disks that are really full, gone or read-only, and processes that may not write any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from records import Claim

from trials.runs import (
    SMALL,
    counted,
    ended,
    last_of,
    run_process,
    start_process,
    train_command,
    unreadable,
    weights_differ,
)

__all__ = ["CASES", "SkippedError", "real_failures"]

#: The largest file that a process may write, in bytes: a profile, a history, a checkpoint is more.
#: What it says of that goes to a file too, and fits into the smallest.
FILE_SIZES = (1_000, 4_000, 60_000)

#: Size of the file system that is filled up, and what is left of it; a whole run needs 1.2 MB.
DISK, LEFT = 4 << 20, (0, 8 << 10, 90 << 10, 300 << 10, 700 << 10)

#: What a trial is: a folder of its own, the reference, and why it failed or None.
Trial = Callable[[Path, Path], str | None]


class SkippedError(Exception):
    """A trial is not possible on this machine; the text says why."""


# --- what is done to a run ------------------------------------------------------------------


def _small_files(size: int, folder: Path, reference: Path) -> str | None:
    """No file of the process may become larger."""
    if sys.platform == "win32":
        raise SkippedError("no RLIMIT_FSIZE on this system")
    run = folder / "run"
    done = run_process(train_command(SMALL, run, None), folder / "life", {"file_size": size})
    reason = None if "File too large" in done.err else f"no reason: {done.err!r}"
    return done.refusal_fault(3) or reason or _afterwards(reference, run)


def _removed(folder: Path, reference: Path) -> str | None:
    """The folder of the run is removed while it is used."""
    run = folder / "run"
    process = _begun(run, folder)
    while run.exists():  # the process may be putting a file into it at this moment
        shutil.rmtree(run, ignore_errors=True)
    done = ended(process, folder / "life")
    return done.refusal_fault(3) or (
        f"came back: {sorted(run.iterdir())}" if run.exists() else None
    )


def _forbidden(folder: Path, reference: Path) -> str | None:
    """The process loses the permission to write."""
    run = folder / "run"
    process = _begun(run, folder, prefix=_no_privileges())
    folders = [each for each in (run, run / "checkpoints") if each.exists()]
    for each in folders:
        each.chmod(0o500)
    done = ended(process, folder / "life")
    for each in folders:
        each.chmod(0o700)
    reason = None if "Permission" in done.err else f"no reason: {done.err!r}"
    return done.refusal_fault(3) or reason or _afterwards(reference, run)


def _forbidden_from_the_start(folder: Path, reference: Path) -> str | None:
    """The folder of a new run cannot be made."""
    parent = folder / "parent"
    parent.mkdir(mode=0o500)
    command = train_command(SMALL, parent / "run", None)
    return run_process(command, folder / "life", {}, _no_privileges()).refusal_fault(2)


def _full(left: int, folder: Path, reference: Path) -> str | None:
    """A disk with so much space left."""
    with _mounted(folder / "disk") as disk:
        filler = _fill(disk, left)
        run = disk / "run"
        done = run_process(train_command(SMALL, run, None), folder / "life", {})
        fault = done.refusal_fault(3)
        fault = fault or (None if "No space" in done.err else f"no reason: {done.err!r}")
        filler.unlink()
        return fault or _afterwards(reference, run)


def _full_for_a_while(folder: Path, reference: Path) -> str | None:
    """A disk that fills up under a run that goes on, and has space again."""
    settings = {**SMALL, "checkpointing.on_save_error": "continue"}
    with _mounted(folder / "disk") as disk:
        run, said = disk / "run", folder / "life.out"
        process = _begun(run, folder, settings=settings)
        filler = _fill(disk, 0)
        while process.poll() is None and "No space" not in said.read_text(encoding="utf-8"):
            time.sleep(0.005)
        filler.unlink()
        done = ended(process, folder / "life")
        if "No space" not in done.out:
            return "the disk was never full"
        if done.status != 0 or done.err:
            return f"exit status {done.status}: {done.err[-300:]!r}"
        names = ("metrics.jsonl", "train.log")
        lines = [[_epoch_lines(each / name) for name in names] for each in (reference, run)]
        lost = None if lines[0] == lines[1] else "lines of train.log or metrics.jsonl are missing"
        return weights_differ(reference, run) or lost


def _read_only(folder: Path, reference: Path) -> str | None:
    """The file system becomes read-only.

    Its mount cannot, with the lock of the run open for writing; a second mount over it can.
    """
    with _mounted(folder / "disk") as disk:
        run = disk / "run"
        process = _begun(run, folder)
        with _read_only_above(run):
            done = ended(process, folder / "life")
        fault = done.refusal_fault(3)
        fault = fault or (None if "Read-only" in done.err else f"no reason: {done.err!r}")
        return fault or _afterwards(reference, run)


def _read_only_from_the_start(folder: Path, reference: Path) -> str | None:
    """A new run on a read-only file system."""
    with _mounted(folder / "disk") as disk:
        (disk / "x").mkdir()
        with _read_only_above(disk / "x"):
            command = train_command(SMALL, disk / "x" / "run", None)
            return run_process(command, folder / "life", {}).refusal_fault(2)


STOPS = "one line, exit status 3, resumes to the same weights"

#: The trials by what is claimed of them.
CASES: dict[str, list[Trial]] = {
    f"no file may grow (RLIMIT_FSIZE): {STOPS}": [
        partial(_small_files, size) for size in FILE_SIZES
    ],
    "run directory removed while it is used: one line, exit status 3": [_removed],
    f"permission lost on the way: {STOPS}": [_forbidden],
    "no permission at the start: one line, exit status 2": [_forbidden_from_the_start],
    f"tmpfs full: {STOPS}": [partial(_full, left) for left in LEFT],
    "tmpfs full for a while, on_save_error: continue: exit status 0, the same weights": [
        _full_for_a_while
    ],
    f"tmpfs becomes read-only: {STOPS}": [_read_only],
    "tmpfs read-only at the start: one line, exit status 2": [_read_only_from_the_start],
}


def real_failures(scratch: Path, *, scale: float, tell: Callable[[str], None]) -> list[Claim]:
    """All of these trials, or at a smaller scale the first ones.

    Returns:
        A claim for each kind; one that is not possible here is not passed and says so.
    """
    scratch.mkdir()
    reference = scratch / "reference"
    made = run_process(train_command(SMALL, reference, None), scratch / "made", {})
    if made.status != 0:
        raise RuntimeError(f"the run that is left alone ended with {made.status}: {made.err}")
    trials = [(kind, trial) for kind, some in CASES.items() for trial in some]
    trials = trials[: max(1, round(len(trials) * scale))]

    def one(number: int) -> tuple[str | None, str | None]:
        folder = scratch / f"trial_{number}"
        folder.mkdir()
        try:
            return trials[number][1](folder, reference), None
        except SkippedError as error:
            return None, str(error)
        except Exception as error:  # a trial that breaks down has not been passed
            return f"{type(error).__name__}: {error}", None

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = list(pool.map(one, range(len(trials))))
    claims = []
    for kind in dict.fromkeys(kind for kind, _ in trials):
        of_kind = [found[i] for i, (each, _) in enumerate(trials) if each == kind]
        statement = f"disk, for real: {kind}"
        skipped = next((reason for _, reason in of_kind if reason), None)
        if skipped:
            claims.append(Claim(statement, f"skipped: {skipped}", False))
        else:
            claims.append(counted(statement, [fault for fault, _ in of_kind], tell))
    return claims


# --- means ----------------------------------------------------------------------------------


def _begun(
    run: Path, folder: Path, settings: dict[str, str] = SMALL, prefix: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """A process whose run has saved something."""
    process = start_process(train_command(settings, run, None), folder / "life", {}, prefix)
    while process.poll() is None and last_of(run) is None:
        time.sleep(0.002)
    return process


def _afterwards(reference: Path, run: Path) -> str | None:
    """Why a run cannot be brought to the end it would have had; None if it can."""
    if damage := unreadable(run):
        return damage
    if last_of(run) is None:
        shutil.rmtree(run, ignore_errors=True)
    output = reference.parent / f"{run.parent.parent.name}_{run.parent.name}_afterwards"
    done = run_process(train_command(SMALL, run, last_of(run)), output, {})
    if done.status != 0 or done.err:
        return f"resumed, exit status {done.status}: {done.err[-300:]!r}"
    return weights_differ(reference, run)


def _epoch_lines(path: Path) -> list[str]:
    """What a log or a history says of the measured epochs."""
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = ("Epoch  ", '{"epoch"')
    return [line.partition(', "events"')[0] for line in lines if line.startswith(marks)]


def _no_privileges() -> tuple[str, ...]:
    """What makes permissions apply to a process whoever starts it."""
    if sys.platform == "win32":
        raise SkippedError("no such permissions on this system")
    if os.geteuid() != 0:
        return ()
    tool = shutil.which("setpriv")
    if tool is None:
        raise SkippedError("root may write anywhere, and there is no setpriv to take that away")
    return (tool, "--inh-caps=-all", "--bounding-set=-all")


def _fill(disk: Path, left: int) -> Path:
    """Fill a file system up to so many bytes; returns the file to remove."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(b"\0" * max(0, free - left))
        while left == 0:
            try:
                file.write(b"\0" * 4096)
            except OSError:
                break
    return filler


def _mount(*arguments: str) -> None:
    if not sys.platform.startswith("linux"):
        raise SkippedError("no tmpfs on this system")
    if os.geteuid() != 0:
        raise SkippedError("mounting needs root")
    tool = shutil.which("mount")
    if tool is None:
        raise SkippedError("there is no mount command")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SkippedError(f"mount {' '.join(arguments[:-1])}: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    # Lazily: a process that hangs must not keep the trial from ending.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def _read_only_above(folder: Path) -> Iterator[None]:
    """The same folder once more, over itself and read-only."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        _unmount(folder)
