"""Cases of profiles and of checkpoints, and what is wrong with a path."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ternvae import checkpoint, config, pretrained
from ternvae.checkpoint.sealing import seal
from ternvae.config import Profile
from ternvae.metrics import Metrics
from tests.boundary import Argument, Case, Material, Spoil, given, made
from tests.boundary_models import CHECKPOINT


@functools.cache
def folder() -> Path:
    """Where everything here is written."""
    made_here = Path(tempfile.mkdtemp(prefix="boundary-"))
    atexit.register(shutil.rmtree, made_here, ignore_errors=True)
    return made_here


def place(name: str, content: bytes | None = None) -> Path:
    """A path in a folder of its own, with a file of that content, if any."""
    path = folder() / name / "file.pt"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    return path


def nest(depth: int = 13) -> list[Any]:
    """A list of a few kilobytes that takes a hundred to write out."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found, found]
    return found


def deep(levels: int = 150) -> list[Any]:
    """A list in a list in a list."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def always(label: str, bad: Callable[[], Any], *shown: str) -> tuple[Spoil, ...]:
    """A value that has nothing of the valid one."""
    return made(label, lambda v, m: bad(), *shown)


def on_a_disk(label: str, bad: Callable[[], Path]) -> tuple[Spoil, ...]:
    """A path that could be right and is not; the message shows it."""
    return (Spoil(label, lambda v, m: bad(), lambda path: (str(path),), (OSError,)),)


NEST = always("a nest", nest, "list")
NO_PATH = (*given(None, 3, True, b"a.pt", [], {}, "", "a\0b.pt"), *NEST)
NO_FILE_NAME = (
    *NO_PATH,
    *always("a path of bytes", lambda: BytesPath(), "BytesPath"),
    *always("too long", lambda: "x" * 40_000, "32767"),
)
#: For functions that take no text.
NO_PLAIN_PATH = (
    *(*NO_PATH, *given("a.pt", Path())),
    *always("a character of no path", lambda: Path("a\0b.pt"), r"a\x00b.pt"),
    *always("too long", lambda: Path("x" * 40_000), "32767"),
)
NO_MAPPING = (*given(3, True, "text", [], {1}), *NEST)


class BytesPath:
    """What `os.fspath` takes, and gives bytes."""

    def __fspath__(self) -> bytes:
        return b"a.pt"


# --- profiles --------------------------------------------------------------------------------

SETTINGS = {"space": {"n_digits": 2}, "training.batch_size": 6}

BAD_SETTINGS = (
    *NO_MAPPING,
    *always("unknown key", lambda: {"sead": 1}, "seed"),
    *always("key of a number", lambda: {7: 1}, "7"),
    *always("key of a nest", lambda: {(1, (2,)): 1}, "a list"),
    *always("text for a number", lambda: {"training.lr": "x" * 9999}, "xxx"),
    *always("nest for a number", lambda: {"training": {"lr": nest()}}, "a list"),
    *always("set for a number", lambda: {"seed": {(1, 2)}}, "set"),
    *always("no section", lambda: {"training": 3.5}, "3.5"),
    *always("nan", lambda: {"training": {"lr": float("nan")}}, "nan"),
    *always("below", lambda: {"seed": -1}, "-1"),
    *always("above", lambda: {"space.n_digits": 99}, "99"),
    *always("huge", lambda: {"seed": 10**4000}, "1000"),
    *always("conflict", lambda: {"training.batch_size": 10**9}, "1000000000"),
)
NO_FILE = (
    *(*NO_PATH[1:7], *NEST),
    *given("none.yaml", Path("none"), "./none"),
    *always("a folder", lambda: place("a_folder").parent, "directory"),
    *always("control characters", lambda: "./a\x1b[2Jb\n.yaml", r"a\x1b[2Jb\n"),
    *always("too long", lambda: "x" * 40_000 + ".yaml", "xxx"),
    *always("a character of no path", lambda: "a\0b.yaml", r"a\x00b.yaml"),
    *always("no yaml", lambda: place("no_yaml", b"{"), "YAML"),
    *always("no text", lambda: place("no_text", b"\xff"), "UTF-8"),
)
BASE_SPOILT = (
    *given(3, "base", []),
    *always("a dict", lambda: {"seed": 1}, "mapping", "dict"),
    *NEST,
)
TEXT_SPOILT = (*given(None, 3, b"name", []), *NEST)


@functools.cache
def profile(**settings: Any) -> Profile:
    """Of the smallest run."""
    least = {"space.n_digits": 2, "training.batch_size": 6, "training.epochs": 2}
    least |= {"model.hidden_dim": 4, "model.latent_dim": 2, "model.projection_layers": 1}
    least |= {"monitoring.report": False}
    return config.load_profile(overrides=least | settings)


def profile_cases() -> list[Case]:
    settings = Argument(lambda m: {**SETTINGS, "seed": m.seed}, BAD_SETTINGS)
    origin = Argument(lambda m: "here", TEXT_SPOILT)
    name = Argument(
        lambda m: "mathematical_foundation",
        (*(s for s in NO_FILE if s.label != "too long"), *given(None, "", "mathematical")),
    )
    whole = Argument(lambda m: profile(), (*given(None), *BASE_SPOILT))
    sections = {
        section: Argument(lambda m, s=section: getattr(profile(), s), given(None, 3, "text", []))
        for section, info in Profile.model_fields.items()
        if section not in ("name", "description", "seed")
    }
    return [
        Case(config.load_profile, {"name_or_path": name, "overrides": settings}),
        Case(
            config.resolve_profile,
            {
                "profile": Argument(
                    lambda m: "mathematical_foundation",
                    (*given(3, b"name", [], "", "mathematical"), *NEST),
                ),
                "config": Argument(
                    lambda m: place("config", b"seed: 3\n"), (*NO_FILE, *given("", "none"))
                ),
                "overrides": settings,
                "overrides_origin": origin,
            },
        ),
        Case(
            config.resolve_profile,
            {
                "profile": Argument(lambda m: None, given("mathematical_foundation")),
                "base": Argument(lambda m: profile(), BASE_SPOILT),
            },
        ),
        Case(
            config.profile_from_dict,
            {
                "values": Argument(settings.make, (*given(None), *BAD_SETTINGS)),
                "origin": origin,
            },
        ),
        Case(
            config.profile_text,
            {"name": Argument(name.make, (*TEXT_SPOILT, *given("", "none", "../layers")))},
        ),
        Case(config.profile_template, {"profile": whole}),
        Case(
            Profile,
            {
                "name": Argument(lambda m: "a", given(None, 3, "", "a b", "a\n", "x" * 65)),
                "description": Argument(lambda m: "", given(None, 3, "a\x1b")),
                "seed": Argument(lambda m: m.seed, given(None, "1", 1.5, True, -1, 2**63)),
                **sections,
            },
        ),
        *(Case(constant, {}) for constant in CONSTANTS),
    ]


CONSTANTS = (
    *(config.available_profiles, config.profile_json_schema, config.profile_keys),
    pretrained.available,
)


def ruin(thing: Any) -> None:
    """Change all that can be changed."""
    if isinstance(thing, dict | list):
        for each in thing.values() if isinstance(thing, dict) else thing:
            ruin(each)
        thing.clear()
    elif hasattr(thing, "metadata"):  # a field of pydantic
        thing.metadata.clear()
        thing.default, thing.description = "ruined", "ruined"


# --- checkpoints -----------------------------------------------------------------------------


def contents(m: Material | None = None) -> dict[str, Any]:
    """What save_checkpoint takes, with all types that it takes."""
    tensor = torch.arange(6.0).reshape(2, 3)
    return {
        "model_state_dict": {"weight": tensor, "bias": torch.nn.Parameter(tensor[0])},
        "model_config": {"latent_dim": 3},
        "optimizer_state_dict": {"state": {0: {"step": tensor[0, 0]}}, "param_groups": [{}]},
        "epoch": 7,
        "comprehensive_metrics": {"coverage": float("nan"), "more": (None, True, 2**100)},
        "validation_results": {},
        "profile": {"name": "text"},
    }


def altered(label: str, key: str, bad: Callable[[], Any], *shown: str) -> tuple[Spoil, ...]:
    """The contents with another entry."""
    return made(label, lambda v, m: {**v, key: bad()}, *shown)


def without(key: str) -> tuple[Spoil, ...]:
    return made(f"without {key}", lambda v, m: {k: x for k, x in v.items() if k != key}, key)


CONTENTS_SPOILT = (
    *(*given(None), *NO_MAPPING),
    *made("empty", lambda v, m: {}, "model_state_dict"),
    *(spoil for key in contents() for spoil in without(key)),
    *altered("a function", "profile", lambda: {"f": [len]}, "contents['profile']['f'][0]"),
    *altered("numpy number", "epoch", lambda: np.float64(1.0), "contents['epoch']"),
    *altered("numpy array", "x", lambda: [0, np.zeros(2)], "contents['x'][1]"),
    *altered("a set", "x", lambda: {1}, "set"),
    *altered("metrics", "comprehensive_metrics", lambda: Metrics({}, {}), "Metrics"),
    *altered("a profile", "profile", profile, "Profile"),
    *altered("a path", "x", lambda: Path("x"), "Path"),
    *altered("huge", "epoch", lambda: 10**1000, "bits"),
    *altered("deep", "x", deep, "deeper"),
    *altered("odd key", "x", lambda: {(1, 2): 3}, "tuple"),
    *altered("meta", "x", lambda: torch.zeros(2, device="meta"), "meta"),
    *altered("a subclass", "x", lambda: torch.zeros(2).as_subclass(Points), "Points"),
)


class Points(torch.Tensor):
    """A tensor of a class that a reader need not know."""


def sealed(name: str, stored: object) -> Path:
    """A file with a seal that is right, whatever is in it."""
    with place(name).open("w+b") as file:
        torch.save(stored, file)
        seal(file)
        return Path(file.name)


def stored(label: str, change: dict[str, Any], *shown: str) -> tuple[Spoil, ...]:
    """A file with other entries; those of ... are left out."""

    def make() -> Path:
        whole = {**contents(), "format_version": checkpoint.FORMAT_VERSION, **change}
        return sealed("stored", {k: v for k, v in whole.items() if v is not ...})

    return always(label, make, *shown)


UNREADABLE = (
    *NO_FILE_NAME,
    *given(Path("none.pt"), "none.pt"),
    *always("a folder", lambda: place("a_folder").parent, "no such checkpoint file"),
    *always("control characters", lambda: "a\x1b[2J\n.pt", r"a\x1b[2J\n.pt"),
    *always("nothing", lambda: place("empty", b""), "not a readable"),
    *always("garbage", lambda: place("garbage", b"PK\3\4garbage"), "not a readable"),
    *always("half", lambda: place("half", CHECKPOINT.read_bytes()[:5000]), "not a readable"),
    *always("a list", lambda: sealed("stored", [1]), "no format_version"),
    *(s for key in contents() for s in stored(f"without {key}", {key: ...}, f"without {key}")),
    *stored("version true", {"format_version": True}, "no format_version"),
    *stored("version of tomorrow", {"format_version": 2**500}, "install"),
)


def checkpoint_cases() -> list[Case]:
    target = Argument(
        lambda m: place("target", b"old"),
        (
            *NO_PLAIN_PATH,
            *on_a_disk("a folder", lambda: place("a_folder").parent),
            *on_a_disk("no such folder", lambda: folder() / "none" / "file.pt"),
        ),
    )
    source = Argument(
        lambda m: place("source", b"new"),
        (
            *NO_PLAIN_PATH,
            *on_a_disk("a folder", lambda: place("a_folder").parent),
            *on_a_disk("no such file", lambda: folder() / "none.pt"),
        ),
    )
    anywhere = Argument(
        target.make, (*NO_FILE_NAME, *(s for s in target.spoils if s.refusal == (OSError,)))
    )

    def failing(file: Any) -> None:
        file.write(b"half")
        raise ValueError("no more")

    return [
        Case(
            checkpoint.write_whole,
            {
                "path": target,
                "write": Argument(
                    lambda m: lambda file: file.write(b"new"),
                    (*given(None, 3, b"new"), *always("fails", lambda: failing, "no more")),
                ),
            },
            changes=frozenset({"path"}),
        ),
        Case(
            checkpoint.copy_whole,
            {"source": source, "target": target},
            changes=frozenset({"target"}),
        ),
        Case(
            checkpoint.save_checkpoint,
            {"path": anywhere, "contents": Argument(contents, CONTENTS_SPOILT)},
            lambda path, contents: (
                checkpoint.save_checkpoint(path, contents),
                checkpoint.load_checkpoint(path),
            ),
            changes=frozenset({"path"}),
        ),
        Case(checkpoint.load_checkpoint, {"path": Argument(lambda m: CHECKPOINT, UNREADABLE)}),
    ]


CASES = [*profile_cases(), *checkpoint_cases()]
