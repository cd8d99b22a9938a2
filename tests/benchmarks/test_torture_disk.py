"""The trials of killing and of full disks are real: what swallows an error does not pass them."""

from __future__ import annotations

import errno
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module as module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ternvae.checkpoint import durable
from ternvae.training import run_directory

Told = list[str]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """A run left alone, and the operations on its files."""
    disk, run = module("trials.disk"), tmp_path_factory.mktemp("reference") / "run"
    return run, disk._left_alone(run, disk.TINY)


def number_of(reference: tuple[Path, list[tuple[str, str]]], what: str, name: str) -> int:
    """The last operation of this kind on a file, but for the summary."""
    found = [i for i, (w, p) in enumerate(reference[1], 1) if (w, Path(p).name) == (what, name)]
    return found[-1]


# --- seeing ---------------------------------------------------------------------------------


def test_every_operation_is_seen_and_can_fail(tmp_path: Path) -> None:
    watching = module("trials.watch").Watch
    seen = []
    with watching(tmp_path, lambda number, what, path: seen.append((number, what))).watching():
        durable.write_whole(tmp_path / "a", lambda file: file.write(b"x" * 20_000))
        (tmp_path / "folder").mkdir()
        (tmp_path / "a").unlink()
    folder = ["fsync"] if os.name == "posix" else []
    names = ["open", "write", "fsync", "replace", *folder, "mkdir", "unlink"]
    assert seen == list(enumerate(names, start=1))


def test_a_write_that_fails_leaves_its_half(tmp_path: Path) -> None:
    def full(number: int, what: str, path: str) -> None:
        if what == "write":
            raise OSError(errno.ENOSPC, "full")

    with (
        module("trials.watch").Watch(tmp_path, full).watching(),
        pytest.raises(OSError, match="full"),
        (tmp_path / "a").open("ab", buffering=0) as file,
    ):
        file.write(b"12345678")
    assert (tmp_path / "a").read_bytes() == b"1234"


def test_other_folders_are_not_touched(tmp_path: Path) -> None:
    watch = module("trials.watch").Watch(tmp_path / "run", lambda *_: os._exit(1))
    with watch.watching():
        (tmp_path / "runs").write_text("x")
    assert watch.seen == []


# --- full disks -----------------------------------------------------------------------------


def test_failing_operations_are_told(
    reference: tuple[Path, list[tuple[str, str]]], tmp_path: Path
) -> None:
    disk = module("trials.disk")
    for what, name, error in (
        ("mkdir", "run", errno.EACCES),
        ("fsync", "profile.yaml.partial", errno.ENOSPC),
        ("replace", "last.pt.partial", errno.EIO),
        ("write", "best_Q.pt.partial", errno.ENOSPC),
        ("open", "train.log", errno.EROFS),
    ):
        number = number_of(reference, what, name) if name != "run" else 1
        run = tmp_path / f"{name}-{what}" / "run"
        run.parent.mkdir()
        assert disk.failed_run_fault(reference[0], run, number, error) is None


@contextmanager
def swallowing(path: Path) -> Iterator[None]:
    with suppress(OSError):
        yield


@contextmanager
def passing(path: Path) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("saving", "seen"), [(swallowing, "exit status 0 and not 3"), (passing, "a traceback")]
)
def test_an_error_that_is_swallowed_or_escapes_fails_the_trial(
    reference: tuple[Path, list[tuple[str, str]]], tmp_path: Path, saving: object, seen: str
) -> None:
    number = number_of(reference, "fsync", "last.pt.partial")
    with mock.patch.object(run_directory, "saving", saving):
        fault = module("trials.disk").failed_run_fault(
            reference[0], tmp_path / "run", number, errno.ENOSPC
        )
    assert seen in fault


def test_a_file_that_is_not_written_whole_fails_the_trial(
    reference: tuple[Path, list[tuple[str, str]]], tmp_path: Path
) -> None:
    def in_place(path: Path, write: Any) -> None:
        with path.open("w+b") as file:
            write(file)

    with (
        mock.patch("ternvae.checkpoint.write_whole", in_place),
        mock.patch.object(durable, "write_whole", in_place),
        mock.patch.object(run_directory, "write_whole", in_place),
    ):
        disk = module("trials.disk")
        operations = disk._left_alone(tmp_path / "alone", disk.TINY)
        number = max(
            i
            for i, (what, path) in enumerate(operations, 1)
            if (what, path[-7:]) == ("write", "last.pt")
        )
        fault = disk.failed_run_fault(reference[0], tmp_path / "run", number, errno.ENOSPC)
    assert "last.pt" in fault


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    told: Told = []
    claims = module("trials.disk")._windows(tmp_path, 2, random.Random(1), told.append)
    assert [each.passed for each in claims] == [True, True], told


def test_a_lost_line_fails_the_trial(tmp_path: Path) -> None:
    from ternvae.training.record import Record
    from ternvae.training.saving import SaveError

    disk = module("trials.disk")
    operations = disk._left_alone(tmp_path / "alone", disk.PATIENT)
    start = [i for i, (_, path) in enumerate(operations, 1) if path.endswith("train.log")][6]
    real = Record.add

    def forgetting(own: Record, text: str, *, durable: bool = False) -> None:
        try:
            real(own, text, durable=durable)
        except SaveError:
            own._unwritten = b""
            raise

    with mock.patch.object(Record, "add", forgetting):
        fault = disk.lasting_fault(
            tmp_path / "alone", tmp_path / "run", range(start, start + 12), whole=True
        )
    assert fault is not None and "lines" in fault.replace("is without", "lines")


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE on this system")
def test_a_real_limit(tmp_path: Path) -> None:
    told: Told = []
    full = module("trials.full")
    with mock.patch.object(full, "run_process", _in_process):
        claims = full.real_failures(tmp_path / "real", scale=0.01, tell=told.append)
    assert [(each.figure, each.passed) for each in claims] == [("1 of 1", True)], told


def test_what_ends_otherwise_is_no_refusal() -> None:
    ended = module("trials.runs").Ended
    assert ended(3, "", "cannot write x\n").refusal_fault(3) is None
    assert ended(1, "", "cannot write x\n").refusal_fault(3)
    assert ended(3, "", "one\ntwo\n").refusal_fault(3)
    assert ended(3, "", "").refusal_fault(3)
    assert ended(3, "", "Traceback (most recent call last)\n").refusal_fault(3)


# --- kills ----------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on this system")
def test_a_killed_run_is_compared(tmp_path: Path) -> None:
    kill, runs = module("trials.kill"), module("trials.runs")
    runs.in_process(runs.train_command(runs.SMALL, tmp_path / "alone", None))
    victim = kill.Victim(tmp_path / "trial", [("aimed", 300)])
    with mock.patch.object(kill, "run_process", _in_process):
        victim.suffer(tmp_path / "alone", 1.0)
    assert (victim.killed, victim.fault) == (1, None)
    # What it is compared with is another run now, so the same comparison has to fail.
    log = tmp_path / "alone" / "train.log"
    log.write_text(log.read_text() + "one more line\n")
    assert runs.differences(tmp_path / "alone", victim.run)


def _in_process(command: list[str], output: Path, orders: dict[str, Any]) -> Any:
    """A process only where it has to be one."""
    runs = module("trials.runs")
    return runs.run_process(command, output, orders) if orders else runs.in_process(command)


def test_a_run_that_cannot_be_resumed_is_a_fault(tmp_path: Path) -> None:
    kill = module("trials.kill")
    victim = kill.Victim(tmp_path / "trial", [])
    refused = module("trials.runs").Ended(2, "", "epoch 24 is done\n")
    with mock.patch.object(kill, "run_process", return_value=refused):
        victim.suffer(tmp_path / "alone", 1.0)
    assert "resumed, exit status 2" in victim.fault


def test_plans_have_all_kinds_of_kills() -> None:
    plans = module("trials.kill").plan(50, 700, random.Random(0))
    kinds = [how for kills in plans for how, _ in kills]
    assert len(plans) == 50
    assert kinds.count("aimed") >= 17
    assert kinds.count("time") >= 33
    assert any(len(kills) > 1 for kills in plans)
