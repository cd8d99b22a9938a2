"""Files and arguments that mean harm: each must be refused, and nothing of it carried out.

The program itself reads them, every one in a process of its own under limits (``trials.warden``).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from records import Claim

from trials.judge import Outcome, command_fault
from trials.pickles import evil_checkpoints, sealed

__all__ = ["PROGRAM", "evil"]

#: A Python file whose ``main`` stands in for the command line's; tests put a bad one in its place.
PROGRAM: Path | None = None

#: What a refusal may take, in time of the processor, memory and characters.
SECONDS, MEBIBYTES, LONGEST_LINE = 10.0, 1500.0, 2000

TOLD = 20

SMALL = (
    *("--space.n_digits", "3", "--training.batch_size", "27", "--device", "cpu"),
    *("--monitoring.report", "false"),
)

PICKLES, TEXTS, PATHS = "evil checkpoints", "evil profiles", "evil paths and names"


class Evil(NamedTuple):
    """One case: what it counts for, what it is, and the command line."""

    kind: str
    name: str
    arguments: tuple[str, ...]


def evil(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Give the program what means harm, and judge what it did.

    Args:
        scratch: an empty folder for whatever is needed or written.
        scale: 1 for every case with every command that could read it; less for a part of them.
        seed: decides which part.
        tell: gets a line for each of the first cases that were not refused.

    Returns:
        One claim per kind of case, then one each on what was executed, on time and on memory.
    """
    scratch = scratch.absolute()
    folders = Folders(scratch)
    cases = list(_cases(folders))
    wanted = max(1, round(scale * len(cases)))
    if wanted < len(cases):
        draw = random.Random(seed)
        cases = draw.sample(cases, wanted)
    results = _results(folders, cases)
    faults = [_fault(*pair) for pair in zip(cases, results, strict=True)]
    if written := sorted(path.name for path in folders.work.iterdir()):
        tell(f"WRITTEN into the working folder: {', '.join(written)}")
    judged = list(zip(cases, faults, strict=True))
    for case, fault in [(case, fault) for case, fault in judged if fault][:TOLD]:
        tell(f"NOT REFUSED, {fault} | {case.name}: ternvae {_shortened(case.arguments)}")
    claims = [
        _count(f"{kind} are refused", [f is None for case, f in judged if case.kind == kind])
        for kind in dict.fromkeys(case.kind for case in cases)
    ]
    executed = [bool(result["events"]) for result in results]
    ran = f"{sum(executed)} of {len(cases):,} cases, canary {_seen(folders.canary)}"
    slowest = max(result["seconds"] for result in results)
    largest = max(result["mebibytes"] for result in results)
    return [
        *claims,
        Claim("nothing evil is executed", ran, not any(executed) and not folders.canary.exists()),
        Claim("no evil case writes a file", f"{len(written)} files", not written),
        Claim(
            f"refusals take under {SECONDS:g} s of the processor",
            f"{slowest:.1f} s",
            slowest < SECONDS,
        ),
        Claim(f"and under {MEBIBYTES:g} MiB", f"{largest:.0f} MiB", largest < MEBIBYTES),
    ]


@dataclass
class Folders:
    """Where things are: ``work`` stays empty, the canary is never there."""

    scratch: Path

    def __post_init__(self) -> None:
        self.work, self.given = self.scratch / "work", self.scratch / "given"
        self.files = self.scratch / "evil" / "checkpoints"
        self.canary = self.scratch / "canary"
        for folder in (self.work, self.given, self.files):
            folder.mkdir(parents=True)


def _results(folders: Folders, cases: list[Evil]) -> list[dict[str, Any]]:
    asked = {
        "folder": str(folders.work),
        "program": None if PROGRAM is None else str(PROGRAM),
        "seconds": SECONDS,
        "cases": [case.arguments for case in cases],
    }
    path = folders.scratch / "cases.json"
    path.write_text(json.dumps(asked))
    warden = Path(__file__).with_name("warden.py")
    done = subprocess.run(
        [sys.executable, str(warden), str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def _fault(case: Evil, result: dict[str, Any]) -> str | None:
    """Why a case was not refused as it should be; None if it was."""
    if result["late"]:
        return f"still at work after {result['seconds']:.0f} s, {result['mebibytes']:.0f} MiB"
    if result["events"]:
        return f"caused {', '.join(result['events'])}"
    if result["mebibytes"] > MEBIBYTES:
        return f"took {result['mebibytes']:.0f} MiB"
    outcome = Outcome(result["status"], result["out"], result["err"])
    if fault := command_fault(outcome):
        return fault
    longest = max(map(len, result["err"].split("\n")))
    # What was typed may be repeated, what comes out of a file may not fill the screen.
    allowed = LONGEST_LINE + max(map(len, case.arguments))
    return f"a line of {longest} characters" if longest > allowed else None


def _count(statement: str, holds: list[bool]) -> Claim:
    figure = f"{sum(holds):,} of {len(holds):,} refused"
    return Claim(statement, figure, bool(holds) and all(holds))


def _seen(canary: Path) -> str:
    return "made" if canary.exists() else "never made"


def _shortened(arguments: tuple[str, ...]) -> str:
    text = repr(list(arguments))
    return text if len(text) < 1000 else f"{text[:1000]}... ({len(text)} characters)"


# --- cases ----------------------------------------------------------------------------------


def _cases(folders: Folders) -> Iterator[Evil]:
    sound = _sound(folders)
    for path in evil_checkpoints(sound, folders.files, folders.canary):
        going_on = ("train", "--checkpoint", str(path), "--training.epochs", "3")
        yield Evil(PICKLES, path.stem, (*going_on, "--run-dir", "run"))
        if path.stem.startswith("bomb_profile_"):
            continue  # what the others do not look at cannot harm them
        yield Evil(PICKLES, path.stem, ("analyze", str(path), "--device", "cpu"))
        frozen = ("train", *SMALL, "--frozen_checkpoint.path", str(path), "--run-dir", "run")
        yield Evil(PICKLES, path.stem, frozen)
    for path in _changed_runs(sound, folders.files):
        arguments = ("train", "--checkpoint", str(path), "--training.epochs", "3")
        yield Evil(PICKLES, path.stem, (*arguments, "--run-dir", "run"))
    for name, text in _texts(str(folders.canary)).items():
        path = folders.given / f"{name}.yaml"
        path.write_bytes(text)
        for option in ("--config", "--profile"):
            yield Evil(TEXTS, name, ("train", option, str(path), "--run-dir", "run"))
    for name, arguments in _paths(folders):
        yield Evil(PATHS, name, arguments)


def _sound(folders: Folders) -> dict[str, Any]:
    """The contents of a checkpoint from which a run could go on."""
    import torch

    run = folders.scratch / "sound"
    arguments = ["train", *SMALL, "--training.epochs", "2", "--run-dir", str(run)]
    command = [sys.executable, "-m", "ternvae", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folders.scratch)
    last = run / "checkpoints" / "last.pt"
    contents: dict[str, Any] = torch.load(last, map_location="cpu", weights_only=True)
    return contents


def _changed_runs(sound: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Checkpoints whose parts are not what a run left."""
    import torch

    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    changes: dict[str, Any] = {"text": "x", "list": [1, 2], "minus": -(10**30), "deep": deep}
    parts = ("model_state_dict", "model_config", "optimizer_state_dict", "epoch", "profile")
    for part in (*parts, "progress", "step", "frozen"):
        for name, value in changes.items():
            if part not in sound or (part, name) == ("frozen", "list"):
                continue
            path = folder / f"changed_{part}_{name}.pt"
            torch.save({**sound, part: value}, path)
            sealed(path)
            yield path


def _texts(canary: str) -> dict[str, bytes]:
    """Profile files."""
    command = json.dumps(f"touch '{canary}'")
    tags = {
        "apply": f"!!python/object/apply:os.system [{command}]",
        "apply_dict": f"!!python/object/apply:os.system {{args: [{command}]}}",
        "new": f"!!python/object/new:os.system [{command}]",
        "object": "!!python/object:os._wrap_close {}",
        "name": "!!python/name:os.system",
        "module": "!!python/module:antigravity",
        "tuple": "!!python/tuple [1]",
        "verbatim": f"!<tag:yaml.org,2002:python/object/apply:os.system> [{command}]",
        "subprocess": f"!!python/object/apply:subprocess.check_call [[touch, {canary}]]",
        "local": "!system x",
        "binary": "!!binary aGVsbG8=",
    }
    texts: dict[str, str] = {}
    for name, tag in tags.items():
        texts |= {f"{name}_root": tag, f"{name}_value": f"seed: {tag}"}
        texts |= {f"{name}_deep": f"model: {{hidden_dim: {tag}}}", f"{name}_key": f"? {tag}\n: 1"}
        texts |= {f"{name}_unknown": f"x: [[{tag}]]"}
    texts["handle"] = (
        f"%TAG ! tag:yaml.org,2002:python/\n---\nseed: !object/apply:os.system [{command}]"
    )
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60))
    maps = "".join(f"m{n}: &m{n} {{x: *m{n - 1}, y: *m{n - 1}}}\n" for n in range(1, 60))
    texts |= {"laughs": f"a0: &a0 [ha]\n{laughs}seed: *a59\n", "maps": f"m0: &m0 {{}}\n{maps}"}
    texts |= {"itself": "training: &t\n  lr: *t\n", "root_itself": "&r\ntraining: *r\n"}
    texts |= _long_texts()
    texts |= _characters()
    return {name: text.encode() for name, text in texts.items()}


def _long_texts() -> dict[str, str]:
    """Ten megabytes of anything, and what just fits under the limit and is slow to read."""
    ten, limit = 10_000_000, 999_000
    shapes: dict[str, Callable[[int], str]] = {
        "flow_lists": lambda size: "seed: " + "[" * size,
        "closed_lists": lambda size: "seed: " + "[" * (size // 2) + "]" * (size // 2),
        "flow_maps": lambda size: "seed: " + "{a: " * (size // 4),
        "block": lambda size: "".join(f"{' ' * n}a:\n" for n in range(int((2 * size) ** 0.5) - 5)),
        "dashes": lambda size: "- " * (size // 2),
        "questions": lambda size: "? " * (size // 2),
        "tag": lambda size: "seed: !" + "a" * (size - 10) + " 1",
        "alias": lambda size: "seed: *" + "a" * (size - 10),
        "anchor": lambda size: "seed: &" + "a" * (size - 10) + " x",
        "key": lambda size: "? " + "a" * (size - 10) + "\n: 1",
        "value": lambda size: "seed: " + "9" * (size - 10),
        "keys": lambda size: "".join(f"trainng{n}: 1\n" for n in range(size // 15)),
        "sections": lambda size: "training:\n" + "  epoch: 1\n" * (size // 12),
        "directives": lambda size: "%A\n" * (size // 3),
        "comments": lambda size: "#\n" * (size // 2),
        "lines": lambda size: "a\n" * (size // 2),
    }
    return {
        f"{name}_{size}": shape(size) for name, shape in shapes.items() for size in (ten, limit)
    }


def _characters() -> dict[str, str]:
    """Characters that would speak to a terminal, raw and escaped."""
    texts = {}
    for number in (0x00, 0x07, 0x08, 0x0D, 0x1B, 0x7F, 0x9B, 0x200B, 0x202E, 0x2028, 0xFEFF):
        character, escape = chr(number), f"\\u{number:04X}"
        for key in ("name", "description", "frozen_checkpoint"):
            raw = f'{key}: {{path: "a{character}b"}}' if "_" in key else f'{key}: "a{character}b"'
            texts[f"{key}_raw_{number:04X}"] = f"{raw}\nseed: x\n"
            texts[f"{key}_escaped_{number:04X}"] = raw.replace(character, escape)
        texts[f"key_{number:04X}"] = f'"a{escape}[31mb": 1'
        texts[f"value_{number:04X}"] = f'seed: "a{escape}]0;title{escape}b"'
    return texts | {
        "climbing_name": "name: ../../x",
        "absolute_name": "name: /tmp/x",
        "hidden_name": "name: ..",
        "long_name": f"name: {'x' * 65}",
    }


def _paths(folders: Folders) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Arguments with characters that speak to a terminal, and paths that lead nowhere good."""
    file = folders.given / "file"
    file.touch()
    strange = {
        "newline": "a\nb: fine",
        "nul": "a\0b",
        "escape": "a\x1b[31mb",
        "title": "\x1b]0;title\x07",
        "return": "fine\rb",
        "backspace": "a\x08\x08b",
        "c1": "a\x9b31mb",
        "separator": "a\u2028b",
        "direction": "a\u202eb",
        "surrogate": "a\ud800b",
        "long": "x" * 5000,
        "longest": "x" * 100_000,
        "long_parts": "/".join(["x" * 200] * 100),
        "below_a_file": str(file / "x"),
        "empty": "",
    }
    for name, text in strange.items():
        for option in ("--profile", "--config", "--checkpoint", "--device", "--seed", "--name"):
            yield f"{option} {name}", ("train", option, text, "--run-dir", "run")
        yield f"--run-dir {name}", ("train", *SMALL, "--training.epochs", "1", "--run-dir", text)
        frozen = ("train", *SMALL, "--frozen_checkpoint.path", text, "--run-dir", "run")
        yield f"--frozen_checkpoint.path {name}", frozen
        yield f"analyze {name}", ("analyze", text)
        yield f"profiles {name}", ("profiles", text)
        yield f"command {name}", (f"zz{text}",)
        yield f"extra {name}", ("validate", f"zz{text}")
        yield f"flag {name}", ("train", f"--zz{text}", "1")
        yield f"key {name}", ("train", f"--training.zz{text}", "1")
    climbing = ("../../etc/passwd", "../mathematical_foundation", "..", "/etc/passwd", "~/x.yaml")
    for text in (*climbing, "./../x.yaml", "/dev/zero", "/dev/null", "/proc/self/mem"):
        yield f"--profile {text}", ("train", "--profile", text, "--run-dir", "run")
        yield f"--config {text}", ("train", "--config", text, "--run-dir", "run")
        yield f"profiles {text}", ("profiles", text)
        yield f"analyze {text}", ("analyze", text)
        yield f"--name {text}", ("train", "--name", text, "--run-dir", "run")
