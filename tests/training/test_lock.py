"""One process at a time writes to a folder, and a dead one keeps nobody out."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ternvae.trainer import Trainer
from ternvae.training import lock as module
from ternvae.training.lock import FolderInUseError, FolderLock
from tests.runs import tiny

needs_locks = pytest.mark.skipif(module.fcntl is None, reason="this system has no such locks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    code = (
        "import sys; from pathlib import Path; from ternvae.training.lock import FolderLock\n"
        "FolderLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(path: Path) -> str:
    with pytest.raises(FolderInUseError) as caught:
        FolderLock(path).acquire()
    return str(caught.value)


@needs_locks
def test_the_same_process_cannot_have_it_twice(path: Path) -> None:
    first = FolderLock(path)
    assert first.acquire() is True
    for _ in range(2):
        assert f"process {os.getpid()} on {platform.node()} since 20" in refusal(path)
    first.release()
    second = FolderLock(path)
    assert second.acquire() is True
    # Who has let go of it does not take it from the next one.
    first.release()
    refusal(path)
    second.release()


@needs_locks
def test_another_process_cannot_have_it_and_is_told_who_does(path: Path) -> None:
    with held_elsewhere(path) as process:
        before = path.read_bytes()
        assert f"process {process.pid} on {platform.node()}" in refusal(path)
        assert path.read_bytes() == before


@needs_locks
def test_a_killed_process_keeps_nobody_out(path: Path) -> None:
    with held_elsewhere(path) as process:
        refusal(path)
        process.kill()
        process.wait()
        assert json.loads(path.read_text())["pid"] == process.pid
        lock = FolderLock(path)
        assert lock.acquire() is True
        assert json.loads(path.read_text())["pid"] == os.getpid()
        lock.release()


@needs_locks
def test_the_file_stays_and_another_program_started_meanwhile_does_not_hold_the_lock(
    path: Path,
) -> None:
    lock = FolderLock(path)
    lock.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        lock.release()
        assert path.is_file()
        assert lock.acquire() is True
        child.kill()
    lock.release()


def test_to_release_nothing_is_no_trouble(path: Path) -> None:
    FolderLock(path).release()
    assert not path.exists()


@needs_locks
@pytest.mark.parametrize("text", ["", "garbage", "[1]", "5", '{"pid": 1}', '"text"', "\xff\0"])
def test_a_lock_file_that_says_nothing(text: str, path: Path) -> None:
    path.write_text(text, encoding="latin-1")
    lock = FolderLock(path)
    assert lock.acquire() is True
    assert json.loads(path.read_text())["pid"] == os.getpid()
    path.write_text(text, encoding="latin-1")
    assert refusal(path) == "another process"
    lock.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@needs_locks
def test_a_file_system_without_locks(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.fcntl, "flock", flock)
    lock = FolderLock(path)
    assert lock.acquire() is False
    lock.release()


def test_a_system_without_locks_says_so_in_the_log_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "fcntl", None)
    assert FolderLock(tmp_path / "lock").acquire() is False
    caplog.set_level(logging.INFO, "ternvae")
    run = tmp_path / "run"
    result = Trainer(tiny(), run, "cpu").fit()
    assert result.stop_reason == "epochs"
    assert (run / "train.log").read_text().count("no file locks") == 1
    assert json.loads((run / "lock").read_text())["pid"] == os.getpid()


@needs_locks
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anything")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        FolderLock(folder / "lock").acquire()
