"""Text files that lose nothing when they cannot be written, and never hold half a line."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from ternvae.training.record import Record, RecordHandler
from ternvae.training.saving import SaveError


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "train.log")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- adding -------------------------------------------------------------------------------------


def test_lines_come_one_after_the_other(record: Record) -> None:
    record.add("one\n")
    record.add("two\nthree ∂\n", durable=True)
    assert record.path.read_text(encoding="utf-8") == "one\ntwo\nthree ∂\n"
    Record(record.path).add("four\n")
    assert record.path.read_text(encoding="utf-8").endswith("three ∂\nfour\n")


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
def test_on_a_disk_that_is_full_for_a_while_nothing_is_lost_and_no_line_is_torn(
    tmp_path: Path,
) -> None:
    """The system writes the part of a line that there is room for, and refuses the rest."""
    code = """
import resource, sys
from pathlib import Path
from ternvae.training.record import Record
from ternvae.training.saving import SaveError

record = Record(Path(sys.argv[1]))
record.add("first\\n")
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))
for line in ("second\\n", "third\\n"):
    try:
        record.add(line)
    except SaveError as error:
        print(error)
    print(repr(record.path.read_text()))
try:
    record.sync()
except SaveError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
record.add("fourth\\n")
print(repr(record.path.read_text()))
"""
    path = tmp_path / "train.log"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    refused = f"cannot write {path}: {os.strerror(errno.EFBIG)}"
    whole = repr("first\nsecond\nthird\nfourth\n")
    kept = repr("first\n")
    assert done.stdout.splitlines() == [refused, kept, refused, kept, refused, whole]


def test_what_is_not_known_to_be_on_the_disk_is_written_again(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.add("one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SaveError, match="No space left"):
            record.add("two\n", durable=True)
        assert record.path.read_text() == "one\n"
    record.add("three\n")
    assert record.path.read_text() == "one\ntwo\nthree\n"


def test_half_a_line_that_could_not_be_taken_back_is_taken_back_later(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What prevented the writing may prevent the tidying up too."""
    record.add("one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(os, "ftruncate", full)
        with pytest.raises(SaveError):
            record.add("two\n", durable=True)
    record.add("three\n")
    assert record.path.read_text() == "one\ntwo\nthree\n"


def test_a_folder_that_comes_back_gets_all_lines(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record = Record(folder / "train.log")
    for line in ("one\n", "two\n"):
        with pytest.raises(SaveError, match=f"cannot write {record.path}: No such file"):
            record.add(line)
    folder.mkdir()
    assert record.sync() == 8
    assert record.path.read_text() == "one\ntwo\n"


def test_the_size_is_that_of_the_file(record: Record) -> None:
    assert record.sync() == 0
    record.add("δ\n")
    assert record.sync() == record.path.stat().st_size == 3


# --- cutting ------------------------------------------------------------------------------------

TEXT = "one\ntwo\nthree\n"


@pytest.mark.parametrize("size", range(len(TEXT) + 3))
def test_it_is_cut_at_the_ends_of_lines_only(size: int, record: Record) -> None:
    record.add(TEXT)
    cut = record.cut(size)
    ends = {0, 4, 8}
    assert cut == (TEXT[size:] if size in ends else "")
    assert record.path.read_text() + cut == TEXT
    record.add("more\n")
    assert record.path.read_text() == TEXT.removesuffix(cut) + "more\n"


def test_half_a_line_at_the_end_goes_with_the_rest(record: Record) -> None:
    record.path.write_text(TEXT + '{"torn')
    assert record.cut(len(TEXT)) == '{"torn'
    assert record.path.read_text() == TEXT


def test_there_is_nothing_to_cut_from_a_file_that_is_not_there(record: Record) -> None:
    assert record.cut(0) == ""
    assert not record.path.exists()


def test_what_is_cut_off_is_set_aside_one_after_the_other(record: Record, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    record.path.write_text("one\ntwo\nthree")
    record.cut(4, aside)
    record.add("four\n")
    record.cut(4, aside)
    assert (aside / "train.log").read_text() == "two\nthree\nfour\n"
    assert record.path.read_text() == "one\n"


def test_nothing_is_cut_off_that_cannot_be_set_aside(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.add(TEXT)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match=r"cannot write .*aside.*: No space left"):
        record.cut(4, tmp_path / "aside")
    assert record.path.read_text() == TEXT


# --- as a handler -------------------------------------------------------------------------------


def said(handler: RecordHandler, text: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))


@pytest.mark.parametrize("patient", [True, False])
def test_a_log_that_cannot_be_written_is_told_until_somebody_asks_for_patience(
    patient: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    handler = RecordHandler(Record(folder / "train.log"), patient=patient)
    for text in ("one", "two"):
        with nullcontext() if patient else pytest.raises(SaveError, match=r"train\.log: No such"):
            said(handler, text)
    handler.patient = True
    said(handler, "three")
    folder.mkdir()
    said(handler, "four")
    assert (folder / "train.log").read_text() == "one\ntwo\nthree\nfour\n"
