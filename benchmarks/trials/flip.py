"""A checkpoint with one wrong bit, or cut off: it has to be refused, whichever bit it is."""

from __future__ import annotations

import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from records import Claim

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.models import TernaryVAE
from trials.runs import SMALL, counted, in_process, run_process, train_command

__all__ = ["flip", "flipped", "refusal_fault", "regions", "truncated"]

#: At scale 1; the flips are spread over the regions of the file by these shares.
FLIPS, TRUNCATIONS, ELSEWHERE, PROCESSES = 400, 100, 20, 2
SHARES = {"headers": 0.2, "data": 0.4, "directory": 0.2, "end record": 0.1, "seal": 0.1}

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")

#: Bytes of the end record of a zip archive, before its comment.
_END_RECORD = 22


def regions(path: Path) -> dict[str, list[range]]:
    """The bytes of a checkpoint file by what they are for; together they are all of it."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members, start, comment = archive.infolist(), archive.start_dir, len(archive.comment)
    end = len(content) - comment - _END_RECORD
    headers, data, position = [], [], 0
    for member in sorted(members, key=lambda each: each.header_offset):
        # What is between the parts is padding, or says their sizes once more.
        *_, name, extra = _LOCAL_HEADER.unpack_from(content, member.header_offset)
        begin = member.header_offset + _LOCAL_HEADER.size + name + extra
        headers.append(range(position, begin))
        data.append(range(begin, begin + member.file_size))
        position = begin + member.file_size
    headers.append(range(position, start))
    return {
        "headers": [each for each in headers if each],
        "data": [each for each in data if each],
        "directory": [range(start, end)],
        "end record": [range(end, end + _END_RECORD)],
        "seal": [range(end + _END_RECORD, len(content))],
    }


def flipped(path: Path, number: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """So many different single flips, at least one per region: where it is, and the content."""
    content, seen = path.read_bytes(), set[int]()
    for region, spans in regions(path).items():
        places = [byte for span in spans for byte in span]
        for _ in range(max(1, round(number * SHARES[region]))):
            while (bit := 8 * draw.choice(places) + draw.randrange(8)) in seen:
                pass
            seen.add(bit)
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit % 8} of byte {bit // 8}, {region}", bytes(changed)


def truncated(path: Path, number: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """So many different cuts, at both ends of every region among them, and the content."""
    content = path.read_bytes()
    edges = {edge for spans in regions(path).values() for edge in (spans[0][0], spans[-1][-1])}
    special = [0, 1, len(content) - 1, *sorted(edges - {0, 1, len(content) - 1})][:number]
    others = draw.sample(sorted(set(range(len(content))) - set(special)), number - len(special))
    for size in [*special, *others]:
        yield f"the first {size} of {len(content)} bytes", content[:size]


def refusal_fault(path: Path, load: Callable[[Path], object] = load_checkpoint) -> str | None:
    """Why a damaged file was not refused as it should be; None if it was."""
    try:
        load(path)
    except CheckpointError as error:
        return None if str(path) in str(error) else f"the file is not named: {error}"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return "loaded"


def flip(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Damage a real checkpoint in every part of it, and load what results in every way.

    Args:
        scratch: an empty folder.
        scale: 1 for 400 flips and 100 truncations.
        seed: decides the places.
        tell: gets lines about faults.

    Returns:
        Claims on `load_checkpoint`, on the model's loading and on the command line, and what
        ``torch.load`` alone makes of the flips.
    """
    run = scratch / "run"
    made = in_process(train_command({**SMALL, "training.epochs": "20"}, run, None))
    if made.status != 0:
        raise RuntimeError(f"the run for the checkpoint ended with {made.status}: {made.err}")
    whole = run / "checkpoints" / "best_Q.pt"
    load_checkpoint(whole)
    draw = random.Random(seed)
    flips = list(flipped(whole, max(5, round(FLIPS * scale)), draw))
    cuts = list(truncated(whole, max(3, round(TRUNCATIONS * scale)), draw))
    damaged = scratch / "damaged.pt"
    faults: dict[str, list[str | None]] = {"flips": [], "cuts": []}
    unprotected = 0
    for name, cases in (("flips", flips), ("cuts", cuts)):
        for place, content in cases:
            damaged.write_bytes(content)
            fault = refusal_fault(damaged)
            faults[name].append(fault and f"{place}: {fault}")
            unprotected += name == "flips" and _torch_alone(damaged)
    note = f"torch.load alone: {unprotected} of {len(flips)} load"
    say = "are refused with CheckpointError, which names the file"
    return [
        counted(f"flip: checkpoints with one flipped bit {say}", faults["flips"], tell, note),
        counted(f"flip: truncated checkpoints {say}", faults["cuts"], tell),
        *_elsewhere(damaged, draw.sample([*flips, *cuts], max(3, round(ELSEWHERE * scale))), tell),
    ]


def _torch_alone(path: Path) -> bool:
    """Whether a plain ``torch.load`` takes the file for sound."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever foreign bytes make it raise
        return False
    return True


def _elsewhere(
    damaged: Path, cases: list[tuple[str, bytes]], tell: Callable[[str], None]
) -> list[Claim]:
    """The same of everything else that reads a checkpoint."""
    model: list[str | None] = []
    command: list[str | None] = []
    for number, (place, content) in enumerate(cases):
        damaged.write_bytes(content)
        fault = refusal_fault(damaged, TernaryVAE.from_checkpoint)
        model.append(fault and f"{place}: {fault}")
        analyze = ["analyze", "--device", "cpu", str(damaged)]
        done = (
            run_process(analyze, damaged.with_suffix(""), {})
            if number < PROCESSES
            else in_process(analyze)
        )
        fault = done.refusal_fault(2) or (None if str(damaged) in done.err else done.err)
        command.append(fault and f"{place}: {fault}")
    return [
        counted("flip: TernaryVAE.from_checkpoint refuses them as well", model, tell),
        counted(
            "flip: ternvae analyze refuses them with exit status 2 and one line", command, tell
        ),
    ]
