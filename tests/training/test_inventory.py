"""The list of a run's checkpoints: right, readable by other tools, and no licence to delete."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from ternvae.training.inventory import Inventory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.pt", "best_epoch_001.pt", "best_epoch_002.pt"):
        (folder / name).write_bytes(name.encode() * 1000)
    return folder


@pytest.fixture
def inventory(folder: Path) -> Inventory:
    inventory = Inventory(folder)
    inventory.enter(*sorted(folder.iterdir()))
    inventory.write()
    return inventory


def test_the_list_is_what_the_standard_library_says(folder: Path, inventory: Inventory) -> None:
    names = ["best_epoch_001.pt", "best_epoch_002.pt", "last.pt"]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    lines = [f"{digests[name]}  {name}" for name in names]
    assert (folder / "SHA256SUMS").read_text() == "\n".join(lines) + "\n"
    assert inventory.names() == names


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_sha256sum_finds_what_was_changed(folder: Path, inventory: Inventory) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
    (folder / "last.pt").write_bytes(b"another")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "last.pt: FAILED\n"


def test_a_later_process_knows_what_an_earlier_one_wrote(
    folder: Path, inventory: Inventory
) -> None:
    later = Inventory(folder)
    assert later.names() == []
    later.read()
    assert later.names() == inventory.names()
    written = (folder / "SHA256SUMS").read_bytes()
    later.write()
    assert (folder / "SHA256SUMS").read_bytes() == written


@pytest.mark.usefixtures("inventory")
def test_only_what_was_written_and_is_unchanged_is_removed(folder: Path) -> None:
    later = Inventory(folder)
    later.read()
    mine, changed, own = (folder / f"best_epoch_00{k}.pt" for k in (3, 2, 1))
    mine.write_text("the user's")
    changed.write_text("the user's as well")
    later.remove([mine, changed, own, folder / "never.pt"])
    assert not own.exists()
    assert (mine.read_text(), changed.read_text()) == ("the user's", "the user's as well")
    assert later.names() == ["last.pt"]


def test_a_file_that_is_gone_already_is_no_trouble(folder: Path, inventory: Inventory) -> None:
    (folder / "best_epoch_001.pt").unlink()
    inventory.remove([folder / "best_epoch_001.pt"])
    assert "best_epoch_001.pt" not in inventory.names()


@pytest.mark.parametrize(
    "line",
    [
        *("{digest}  ../x.pt", "{digest}  sub/x.pt", "{digest}  {folder}/../x.pt"),
        *("{digest} x.pt", "{digest}", "", "{digest}  ", "{digest}  ..", "{digest}  ."),
        *("no digest  x.pt", "\0\xff  ", "{short}  x.pt"),
    ],
)
def test_lines_that_are_none_are_left_out(line: str, folder: Path) -> None:
    outside = folder.parent / "x.pt"
    outside.write_text("the user's")
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    text = line.format(digest=digest, short=digest[:-1], folder=folder) + "\n"
    (folder / "SHA256SUMS").write_text(text, encoding="latin-1")
    inventory = Inventory(folder)
    inventory.read()
    assert inventory.names() == []
    inventory.remove([outside, folder / "../x.pt", *map(folder.joinpath, inventory.names())])
    assert outside.read_text() == "the user's"


def test_good_lines_beside_bad_ones_count(folder: Path, inventory: Inventory) -> None:
    path = folder / "SHA256SUMS"
    path.write_text("garbage\n" + path.read_text() + "0" * 64 + "  ../x.pt\n")
    later = Inventory(folder)
    later.read()
    assert later.names() == inventory.names()


def test_a_file_that_was_removed_before_a_kill_is_not_listed_again(folder: Path) -> None:
    """Between removing a file and writing the list a process may be killed for good."""
    killed = Inventory(folder)
    kept, removed = folder / "kept.pt", folder / "removed.pt"
    for path in (kept, removed):
        path.write_bytes(b"content")
    killed.enter(kept, removed)
    killed.write()
    removed.unlink()
    later = Inventory(folder)
    later.read()
    assert later.names() == ["kept.pt"]
    later.write()
    assert (folder / "SHA256SUMS").read_text().count("\n") == 1
