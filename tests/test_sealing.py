"""The seal of a checkpoint: no bit of the file changes unnoticed, and any tool can check it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ternvae.checkpoint.sealing import SealError, is_sealed, seal

CONTENTS: dict[str, Any] = {
    "model_state_dict": {"weight": torch.arange(6.0)},
    "model_config": {"latent_dim": 3},
    "optimizer_state_dict": {},
    "epoch": 7,
    "comprehensive_metrics": {},
    "validation_results": {},
    "profile": {"name": "custom"},
}
OLD = [Path(__file__).parent / "data" / f"format_{version}.pt" for version in (1, 2)]

#: "ternvae sha256 ", 64 digits, end of line.
SEAL = 15 + 64 + 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sealed") / "last.pt"
    save_checkpoint(path, CONTENTS)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


# --- what a seal is -----------------------------------------------------------------------------


def test_the_seal_is_the_sha_256_of_all_bytes_before_it(whole: bytes) -> None:
    digest = hashlib.sha256(whole[:-SEAL]).hexdigest()
    assert whole[-SEAL:] == f"ternvae sha256 {digest}\n".encode()


def test_the_seal_is_the_comment_of_a_zip_archive_that_others_read(
    whole: bytes, path: Path
) -> None:
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == whole[-SEAL:]
        assert archive.testzip() is None
    loaded = torch.load(path, weights_only=True)
    assert loaded["epoch"] == 7
    assert torch.equal(loaded["model_state_dict"]["weight"], torch.arange(6.0))


def test_it_can_be_checked_without_this_program(whole: bytes, path: Path) -> None:
    path.write_bytes(whole)
    code = (
        "import hashlib, sys, zipfile\n"
        "content = open(sys.argv[1], 'rb').read()\n"
        "comment = zipfile.ZipFile(sys.argv[1]).comment\n"
        "print(hashlib.sha256(content[:-len(comment)]).hexdigest() == comment.split()[2].decode())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True)
    assert done.stdout == b"True\n"


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all, and long enough for one"])
def test_what_is_no_archive_is_not_sealed(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with path.open("r+b") as file, pytest.raises((SealError, OSError)):
        seal(file)
    assert path.read_bytes() == content


def test_what_is_sealed_is_not_sealed_again(whole: bytes, path: Path) -> None:
    path.write_bytes(whole)
    with path.open("r+b") as file, pytest.raises(SealError):
        seal(file)
    assert path.read_bytes() == whole


# --- damage -------------------------------------------------------------------------------------


def test_no_single_bit_changes_unnoticed(whole: bytes, path: Path) -> None:
    """Every bit of both ends, where the structure is, and one in each 13 bytes between."""
    bits = {*range(8 * 200), *range(8 * (len(whole) - 120), 8 * len(whole))}
    bits |= set(range(0, 8 * len(whole), 8 * 13 + 1))
    path.write_bytes(whole)
    load_checkpoint(path)
    for bit in sorted(bits):
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << bit % 8
        assert "damaged" in refusal(path, bytes(bad)), bit


def test_no_cut_goes_unnoticed(whole: bytes, path: Path) -> None:
    for size in {*range(0, len(whole), 41), *range(len(whole) - 110, len(whole))}:
        refusal(path, whole[:size])


@pytest.mark.parametrize("more", [b"\n", b"\0", b"x" * 80, b"PK\x05\x06" + b"\0" * 18])
def test_what_is_appended_does_not_go_unnoticed(more: bytes, whole: bytes, path: Path) -> None:
    refusal(path, whole + more)
    refusal(path, more + whole)


def test_pieces_of_two_files_are_refused(whole: bytes, path: Path) -> None:
    save_checkpoint(path, CONTENTS | {"epoch": 8})
    other = path.read_bytes()
    assert other[:-SEAL] != whole[:-SEAL]
    assert "damaged" in refusal(path, whole[:-SEAL] + other[-SEAL:])
    assert "damaged" in refusal(path, whole + other[-SEAL:])


def test_the_refusal_shows_both_digests_and_the_way_out(whole: bytes, path: Path) -> None:
    bad = bytearray(whole)
    bad[len(bad) // 2] ^= 1
    text = refusal(path, bytes(bad))
    found = hashlib.sha256(bad[:-SEAL]).hexdigest()
    assert found[:16] in text and whole[-65:-49].decode() in text
    assert "take another checkpoint of the run" in text


def test_without_its_seal_a_file_of_today_is_refused(path: Path) -> None:
    torch.save({**CONTENTS, "format_version": 3}, path)
    assert "format 3 ends with the SHA-256" in refusal(path, path.read_bytes())


# --- older formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("old", OLD, ids=lambda each: each.stem)
def test_older_formats_have_no_seal_and_are_read(old: Path) -> None:
    with old.open("rb") as file:
        assert is_sealed(file) is False
    assert load_checkpoint(old)["format_version"] == int(old.stem[-1])


@pytest.mark.parametrize("old", OLD, ids=lambda each: each.stem)
def test_one_bit_in_the_data_of_an_older_format_is_refused(old: Path, path: Path) -> None:
    content = old.read_bytes()
    with zipfile.ZipFile(old) as archive:
        members = [each for each in archive.infolist() if each.file_size]
    for member in members:
        # The data follow a header of 30 bytes, the name and padding of a length that it gives.
        start = member.header_offset
        lengths = [int.from_bytes(content[start + k : start + k + 2], "little") for k in (26, 28)]
        bad = bytearray(content)
        bad[start + 30 + sum(lengths) + member.file_size // 2] ^= 4
        text = refusal(path, bytes(bad))
        assert repr(member.filename) in text and "CRC-32" in text


# --- archives that torch does not write ---------------------------------------------------------


@pytest.fixture
def _unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(torch, "load", load)


def rewritten(content: bytes, path: Path, compression: int, *, sealed: bool) -> bytes:
    source, target = path.with_name("source"), path.with_name("target")
    source.write_bytes(content)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for each in old.infolist():
            new.writestr(each.filename, old.read(each))
    if sealed:
        with target.open("r+b") as file:
            seal(file)
    return target.read_bytes()


@pytest.mark.usefixtures("_unparsed")
@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_parts_are_refused_before_they_are_unpacked(
    compression: int, sealed: bool, whole: bytes, path: Path
) -> None:
    assert "compressed parts" in refusal(path, rewritten(whole, path, compression, sealed=sealed))


@pytest.mark.usefixtures("_unparsed")
@pytest.mark.parametrize("others", [0, 1, 7, 60])
@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL"])
@pytest.mark.parametrize("sealed", [True, False])
def test_two_parts_of_one_name_are_refused_whichever_would_be_read(
    sealed: bool, name: str, others: int, whole: bytes, path: Path
) -> None:
    """Which of them torch finds depends on the number of the others: it looks by halves."""
    twice = path.with_name("twice")
    twice.write_bytes(rewritten(whole, path, zipfile.ZIP_STORED, sealed=False))
    with zipfile.ZipFile(twice, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        for number in range(others):
            archive.writestr(f"{root}/data/{900 + number}", b"")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the duplicate
            archive.writestr(f"{root}/{name}", b"another")
    if sealed:
        with twice.open("r+b") as file:
            seal(file)
    assert "two parts of one name" in refusal(path, twice.read_bytes())


@pytest.mark.usefixtures("_unparsed")
@pytest.mark.parametrize("sealed", [True, False])
def test_sizes_that_lie_are_refused_before_anything_is_made_of_them(
    sealed: bool, whole: bytes, path: Path
) -> None:
    stored = bytearray(rewritten(whole, path, zipfile.ZIP_STORED, sealed=False))
    entry = stored.rindex(b"PK\x01\x02")
    stored[entry + 20 : entry + 28] = (2**31).to_bytes(4, "little") * 2  # both sizes: 2 GiB
    path.write_bytes(stored)
    if sealed:
        with path.open("r+b") as file:
            seal(file)
    assert "claim more bytes than the file has" in refusal(path, path.read_bytes())


def test_an_archive_that_was_only_stored_anew_is_read(whole: bytes, path: Path) -> None:
    """So that what is refused above is refused for what it is."""
    path.write_bytes(rewritten(whole, path, zipfile.ZIP_STORED, sealed=True))
    assert load_checkpoint(path)["epoch"] == 7
