"""Checkpoint files that mean harm, sealed as good ones are: only their content gives them away.

Each of them would, if it were believed, make the file ``canary``, take all memory, or keep the
reader busy for good.
"""

from __future__ import annotations

import collections
import functools
import io
import operator
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

__all__ = ["evil_checkpoints", "sealed"]


class Trap:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class LateTrap(Trap):
    """Calls it for an entry of a harmless mapping."""

    def __reduce__(self) -> Any:
        entries = iter([("x", Trap(*self.reduced[:1], *self.reduced[1]))])
        return (collections.OrderedDict, (), None, None, entries)


def sealed(path: Path) -> None:
    """Put today's seal on a file, where there are seals and the file can bear one."""
    try:
        from ternvae.checkpoint.sealing import seal
    except ImportError:
        return
    with path.open("r+b") as file:
        try:
            seal(file)
        except (ValueError, OSError, struct.error):
            return


def evil_checkpoints(sound: dict[str, Any], folder: Path, canary: Path) -> Iterator[Path]:
    """Write one evil file after the other.

    Args:
        sound: the contents of a checkpoint that loads, format version included.
        folder: where to.
        canary: the file that must never be made.
    """
    for name, write in _all(sound, canary):
        path = folder / f"{name}.pt"
        write(path)
        sealed(path)
        yield path


Writer = Callable[[Path], object]


def _all(sound: dict[str, Any], canary: Path) -> Iterator[tuple[str, Writer]]:
    traps = _traps(str(canary))
    for name, trap in traps.items():
        yield f"trap_{name}", _saver({**sound, "extra": trap})
    touch = traps["system"]
    for name, contents in _nested(sound, touch).items():
        yield f"nested_{name}", _saver(contents)
        yield f"legacy_{name}", _saver(contents, _use_new_zipfile_serialization=False)
    yield "plain_pickle", lambda path: path.write_bytes(pickle.dumps({**sound, "extra": touch}))
    for name, data in _opcodes(str(canary)).items():
        yield f"opcodes_{name}", functools.partial(_as_archive, data=data)
        yield f"bare_{name}", functools.partial(Path.write_bytes, data=data)
    for name, contents in _bombs(sound).items():
        yield f"bomb_{name}", _saver(contents)
    yield from _archives(sound, touch)


def _saver(contents: Any, **keywords: Any) -> Writer:
    return lambda path: torch.save(contents, path, **keywords)


# --- code -----------------------------------------------------------------------------------


def _traps(canary: str) -> dict[str, Trap]:
    """Functions that make the canary, or reach for what could."""
    code = f"open({canary!r}, 'w').close()"
    touch = f"touch '{canary}'"
    return {
        "system": Trap(os.system, touch),
        "late": LateTrap(os.system, touch),
        "popen": Trap(os.popen, touch),
        "mkdir": Trap(os.mkdir, canary),
        "open": Trap(open, canary, "w"),
        "eval": Trap(eval, code),  # noqa: S307 - a trap, named and never called
        "exec": Trap(exec, code),
        "import": Trap(__import__, "antigravity"),
        "partial": Trap(functools.partial(os.system, touch)),
        "reduce": Trap(functools.reduce, os.system, [touch]),
        "methodcaller": Trap(operator.methodcaller("touch"), Path(canary)),
        "path": Trap(Path.touch, Path(canary)),
        "subprocess": Trap(subprocess.check_call, ["touch", canary]),
        "process": Trap(subprocess.Popen, ["touch", canary]),
        "torch_load": Trap(torch.load, canary),
        "torch_save": Trap(torch.save, {}, canary),
        "hub": Trap(torch.hub.load, "nobody/nothing", "model"),
        "to_file": Trap(torch.from_file, canary, True, 10),
        "storage_file": Trap(torch.UntypedStorage.from_file, canary, True, 10),
        "settrace": Trap(sys.settrace, print),
        "exit": Trap(sys.exit, 0),
        "os_exit": Trap(os._exit, 0),
        "setstate": Trap(torch.nn.Module.__setstate__, torch.nn.Linear(1, 1), {}),
    }


def _nested(sound: dict[str, Any], trap: Any) -> dict[str, Any]:
    """Places in a checkpoint where a trap may lie."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.hidden = trap  # type: ignore[attr-defined]
    tensor = torch.zeros(2)
    tensor.hidden = trap  # type: ignore[attr-defined]
    weights = sound["model_state_dict"]
    return {
        "root": trap,
        "list": [sound, trap],
        "profile": {**sound, "profile": {**sound["profile"], "name": trap}},
        "config": {**sound, "model_config": {**sound["model_config"], "n_digits": trap}},
        "weights": {**sound, "model_state_dict": {**weights, "prototypes": trap}},
        "parameter": {**sound, "model_state_dict": {**weights, "prototypes": parameter}},
        "tensor": {**sound, "extra": tensor},
        "key": {**sound, (1, collections.OrderedDict(a=1).__class__): trap},
        "ordered": {**sound, "extra": collections.OrderedDict(a=trap)},
        "version": {**sound, "format_version": trap},
        "module": {**sound, "extra": torch.nn.Linear(1, 1)},
        "lambda_class": {**sound, "extra": Trap},
    }


def _opcodes(canary: str) -> dict[str, bytes]:
    """Pickles written by hand, which ask for code in other ways or lie about sizes."""
    command = f"touch '{canary}'".encode()
    text = b"S'touch '\n" if b"'" not in command else b'S"' + command + b'"\n'
    binary = b"X" + struct.pack("<I", len(command)) + command
    return {
        "global": b"cos\nsystem\n(" + text + b"tR.",
        "posix": b"cposix\nsystem\n(" + text + b"tR.",
        "inst": b"(" + text + b"ios\nsystem\n.",
        "object": b"(cos\nsystem\n" + text + b"o.",
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + binary + b"\x85R.",
        "dotted": b"\x80\x02ctorch\nserialization.os.system\n" + binary + b"\x85R.",
        "dotted_module": b"\x80\x02ctorch.serialization\nos.system\n" + binary + b"\x85R.",
        "builtins": b"\x80\x02c__builtin__\neval\n" + binary + b"\x85R.",
        "newobj": b"\x80\x02csubprocess\nPopen\n" + binary + b"\x85\x81.",
        "extension": b"\x80\x02\x82\x01" + binary + b"\x85R.",
        "build": b"\x80\x02ctorch\nTensor\n)\x81}X\x05\x00\x00\x00__dictcos\nsystem\nsb.",
        "build_class": b"\x80\x02ccollections\nOrderedDict\n}X\x08\x00\x00\x00__init__"
        b"cos\nsystem\nsb.",
        "codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x09\x00\x00\x00../canary\x86R.",
        "long": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
        "unicode": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
        "memo": b"\x80\x02j" + struct.pack("<I", 2**32 - 1) + b".",
        "put": b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".",
        "endless_marks": b"\x80\x02" + b"(" * 300_000 + b".",
        "deep_lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "storage": _storage(2**50, "0"),
        "negative_storage": _storage(-1, "0"),
        "climbing_storage": _storage(4, "../../../../etc/passwd"),
        "bytearray": b"\x80\x02cbuiltins\nbytearray\nL1000000000000000L\n\x85R.",
        "tensor": b"\x80\x02ctorch\nTensor\nL1000000000L\nL1000000L\n\x86R.",
        "floats": b"\x80\x02ctorch\nFloatStorage\nL1000000000000000L\n\x85R.",
    }


def _storage(elements: int, key: str) -> bytes:
    """A tensor whose storage claims so many elements in a record of that name."""
    named = key.encode()
    identity = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    identity += b"X" + struct.pack("<I", len(named)) + named
    identity += b"X\x03\x00\x00\x00cpuL%dL\ntQ" % elements
    sizes = b"(L%dL\nt(L1L\nt" % elements
    start = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    return start + identity + b"K\x00" + sizes + b"\x89ccollections\nOrderedDict\n)RtR."


def _as_archive(path: Path, *, data: bytes) -> None:
    """A pickle in an archive as torch writes it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3\n")


# --- sizes ----------------------------------------------------------------------------------


def _bombs(sound: dict[str, Any]) -> dict[str, Any]:
    """Small files that stand for much."""
    laughs: Any = ["ha"] * 10
    for _ in range(30):
        laughs = [laughs] * 10
    mapping: Any = {"a": 1}
    for _ in range(40):
        mapping = {"a": mapping, "b": mapping}
    weights, config, profile = (
        sound[key] for key in ("model_state_dict", "model_config", "profile")
    )
    seen = torch.zeros(1).expand(10**6, 10**6)
    shape = weights["prototypes"].shape
    nowhere = torch.zeros(2, 0, dtype=torch.int64)
    size = (10**9, 10**9)
    empty = torch.sparse_coo_tensor(nowhere, torch.zeros(0), size, check_invariants=True)
    bombs: dict[str, Any] = {
        "laughing_config": {"model_config": {**config, "curvature": laughs}},
        "laughing_radius": {"model_config": {**config, "max_radius": laughs}},
        "laughing_configs": {"model_config": mapping},
        "profile_laughing_profile": {"profile": mapping},
        "profile_laughing_value": {"profile": {**profile, "seed": laughs}},
        "profile_laughing_section": {"profile": {**profile, "training": mapping}},
        "laughing_version": {"format_version": laughs},
        "laughing_weights": {"model_state_dict": mapping},
        "many_layers": {"model_config": {**config, "projection_layers": 10**8}},
        "wide_layers": {"model_config": {**config, "hidden_dim": 30_000}},
        "wider_layers": {"model_config": {**config, "hidden_dim": 10**9}},
        "endless_digits": {"model_config": {**config, "n_digits": 10**9}},
        "long_number": {"model_config": {**config, "latent_dim": 10**100_000}},
        "profile_long_seed": {"profile": {**profile, "seed": 10**100_000}},
        "profile_long_name": {"profile": {**profile, "name": "x" * 10**7}},
        "wide_tensor": {"model_state_dict": {**weights, "prototypes": seen}},
        "wide_meta": {"model_state_dict": {**weights, "prototypes": seen.to("meta")}},
        "meta": {"model_state_dict": {**weights, "prototypes": torch.zeros(shape, device="meta")}},
        "sparse": {"model_state_dict": {**weights, "prototypes": empty}},
        "many_weights": {"model_state_dict": {f"w{n}": 0 for n in range(10**5)}},
        "terminal_key": {"model_config": {**config, "\x1b[31m\n\x07": 1}},
        "terminal_weight": {"model_state_dict": {**weights, "\x1b[31m\n\x07": torch.zeros(1)}},
        "profile_terminal_name": {"profile": {**profile, "name": "../../\x1b[31m\n"}},
        "profile_terminal_profile_key": {"profile": {**profile, "\x1b[2J\n": 1}},
        "profile_climbing_name": {"profile": {**profile, "name": "../../../canary"}},
        "profile_profile_is_text": {"profile": "\x1b[31m"},
        "config_is_text": {"model_config": "\x1b[31m"},
        "weights_are_text": {"model_state_dict": "\x1b[31m"},
    }
    return {name: {**sound, **change} for name, change in bombs.items()}


# --- archives -------------------------------------------------------------------------------


def _archives(sound: dict[str, Any], trap: Any) -> Iterator[tuple[str, Writer]]:
    buffer, evil = io.BytesIO(), io.BytesIO()
    torch.save(sound, buffer)
    torch.save({**sound, "extra": trap}, evil)
    good, bad = buffer.getvalue(), evil.getvalue()
    yield "archive_compressed", lambda path: _rewritten(path, good, zipfile.ZIP_DEFLATED, 64 << 20)
    yield "archive_claims", lambda path: path.write_bytes(_claiming(good, 2**31))
    yield "archive_twice", lambda path: _twice(path, good, bad)
    yield "archive_after_pickle", lambda path: path.write_bytes(pickle.dumps(trap) + good)
    yield "archive_of_code", lambda path: _with(path, good, "constants.pkl", b"\x80\x02).")
    yield "archive_climbs", lambda path: _with(path, bad, "../../canary", b"")


def _rewritten(path: Path, archive: bytes, compression: int, zeros: int) -> None:
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(path, "w", compression) as new,
    ):
        for member in old.namelist():
            new.writestr(member, old.read(member))
        new.writestr("archive/data/999", bytes(zeros))


def _claiming(archive: bytes, size: int) -> bytes:
    """The sizes of the first part in the directory at the end, made larger."""
    start = archive.rindex(b"PK\x01\x02")
    return archive[: start + 20] + struct.pack("<LL", size, size) + archive[start + 28 :]


def _twice(path: Path, good: bytes, bad: bytes) -> None:
    """Two pickles of the same name: what is looked at is not what is read."""
    with zipfile.ZipFile(io.BytesIO(good)) as first, zipfile.ZipFile(io.BytesIO(bad)) as second:
        parts = [(n, first.read(n)) for n in first.namelist()]
        evil = [(n, second.read(n)) for n in second.namelist() if n.endswith("data.pkl")]
    name = parts[0][0].partition("/")[0]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as new:
        for part, content in parts:
            new.writestr(part, content)
        new.writestr(f"{name}/DATA.PKL", evil[0][1])
    path.write_bytes(data.getvalue().replace(b"DATA.PKL", b"data.pkl"))


def _with(path: Path, archive: bytes, name: str, content: bytes) -> None:
    path.write_bytes(archive)
    with zipfile.ZipFile(path, "a") as opened:
        root = opened.namelist()[0].partition("/")[0]
        opened.writestr(f"{root}/{name}", content)
