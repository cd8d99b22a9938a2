"""What means harm is refused and not carried out, and what judges that would notice otherwise."""

from __future__ import annotations

from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import load_checkpoint


def run(scratch: Path, scale: float = 0.05) -> tuple[list[Any], list[str]]:
    told: list[str] = []
    claims = module("trials.evil").evil(scratch, scale=scale, seed=0, tell=told.append)
    return claims, told


def test_what_means_harm_is_refused(tmp_path: Path) -> None:
    claims, told = run(tmp_path)
    assert told == []
    assert {claim.statement for claim in claims} == {
        *("evil checkpoints are refused", "evil profiles are refused"),
        *("evil paths and names are refused", "nothing evil is executed"),
        *("no evil case writes a file", "refusals take under 10 s of the processor"),
        "and under 1500 MiB",
    }
    assert all(claim.passed for claim in claims)


def test_only_the_content_of_evil_checkpoints_is_evil(tmp_path: Path) -> None:
    """What they are made from loads, sealed in the same way: it is not the seal that is refused."""
    evil, pickles = module("trials.evil"), module("trials.pickles")
    folders = evil.Folders(tmp_path)
    sound = evil._sound(folders)
    path = folders.files / "sound.pt"
    torch.save(sound, path)
    pickles.sealed(path)
    assert load_checkpoint(path)["epoch"] == sound["epoch"]


#: Programs that a case could meet, and what is told of them.
BAD = {
    "accepts": ("return 0", "accepted"),
    "traceback": ("raise KeyError('lr')", "a traceback"),
    "status": ("sys.stderr.write('place: what\\n'); return 1", "exit status 1"),
    "terminal": ("sys.stderr.write('place: \\x1b[31m\\n'); return 2", "not printable"),
    "long": ("sys.stderr.write('place: ' + 'x' * 50_000 + '\\n'); return 2", "a line of 50007"),
    "system": ("os.system('true'); sys.stderr.write('a: b\\n'); return 2", "caused os.system"),
    "process": (
        "subprocess.run(['true']); sys.stderr.write('a: b\\n'); return 2",
        "caused subprocess.Popen",
    ),
    "pickle": (
        "pickle.Unpickler(io.BytesIO(b'cos\\nmkdir\\n.')).load()",
        "caused pickle.find_class",
    ),
    "idle": ("time.sleep(60)", "still at work"),
    "busy": ("while True: pass", "still at work"),
    "memory": ("x = b'x' * (1700 << 20); sys.stderr.write('a: b\\n'); return 2", "took 1"),
    "crash": ("os.kill(os.getpid(), 11)", "exit status -11"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_judge_sees_what_a_program_does_wrong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = module("trials.evil")
    body, fault = BAD[name]
    stub = tmp_path / "stub.py"
    imports = "import io, os, pickle, subprocess, sys, time"
    stub.write_text(f"{imports}\ndef main(arguments):\n    {body}\n")
    monkeypatch.setattr(evil, "PROGRAM", stub)
    monkeypatch.setattr(evil, "SECONDS", 1.0 if name in ("idle", "busy") else 5.0)
    monkeypatch.setattr(evil, "_cases", lambda folders: [evil.Evil("evil", "one", ("train",))])
    claims, told = run(tmp_path / "scratch", scale=1)
    assert fault in told[0]
    assert claims[0].figure == "0 of 1 refused" and not claims[0].passed


@pytest.mark.parametrize(
    ("body", "statement"),
    [
        ("open('../canary', 'w').close()", "nothing evil is executed"),
        ("open('run', 'w').close()", "no evil case writes a file"),
    ],
)
def test_files_that_are_made_are_seen(
    body: str, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = module("trials.evil")
    stub = tmp_path / "stub.py"
    stub.write_text(
        f"import sys\ndef main(arguments):\n    {body}\n"
        "    sys.stderr.write('place: what\\n')\n    return 2\n"
    )
    monkeypatch.setattr(evil, "PROGRAM", stub)
    monkeypatch.setattr(evil, "_cases", lambda folders: [evil.Evil("evil", "one", ("train",))])
    claims, _ = run(tmp_path / "scratch", scale=1)
    assert {claim.statement for claim in claims if not claim.passed} == {statement}
