"""Profiles that are bad by construction: a sound one, broken in one place or two."""

from __future__ import annotations

import json
import math
import random
import string
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from ternvae.config import Profile, profile_keys

__all__ = [
    "DEFAULTS",
    "KEYS",
    "bad_text_value",
    "bad_value",
    "broken_text",
    "conflict",
    "rendered",
    "sound",
    "unknown_key",
]

KEYS = profile_keys()
SECTIONS = [name for name in Profile.model_fields if name not in KEYS]

#: A sound value of every key, alone and together.
DEFAULTS: dict[str, Any] = {key: info.default for key, info in KEYS.items()}

Settings = dict[str, Any]


def sound(draw: random.Random, most: int = 4, without: Mapping[str, object] | None = None) -> Any:
    """A few keys at their defaults."""
    keys = [key for key in KEYS if key not in (without or {})]
    return {key: DEFAULTS[key] for key in draw.sample(keys, draw.randint(0, most))}


# --- values ---------------------------------------------------------------------------------


def _members(key: str) -> set[Any]:
    kind = KEYS[key].annotation
    members = {kind} if get_origin(kind) is Literal else {*(get_args(kind) or (kind,))}
    return {str if get_origin(each) not in (None, Literal) else each for each in members}


def _limits(key: str) -> dict[str, float]:
    names = ("ge", "gt", "le", "lt")
    found = KEYS[key].metadata
    return {n: getattr(m, n) for m in found for n in names if getattr(m, n, None) is not None}


def _beyond(draw: random.Random, key: str, whole: bool) -> list[Any]:
    """Numbers outside the bounds of a key."""
    values: list[Any] = []
    for name, bound in _limits(key).items():
        sign = -1 if name in ("ge", "gt") else 1
        if whole:
            values += [bound + sign * n for n in (1, draw.randint(2, 10**6), 10**30)]
        else:
            values += [math.nextafter(bound, sign * math.inf), bound + sign * draw.uniform(0.1, 9)]
            values += [bound + sign * 10.0 ** draw.uniform(1, 300)]
        values += [bound] if name in ("gt", "lt") else []
    return values


def _noise(draw: random.Random) -> str:
    """A word that is no number, no truth value and nothing that a key takes."""
    return "zz" + "".join(draw.choices(string.ascii_letters + "_-+", k=draw.randint(1, 12)))


def bad_value(draw: random.Random, key: str) -> Any:
    """A value that the key refuses, as a file or a dict may have it."""
    members = _members(key)
    number = draw.choice([draw.randint(-99, 10**6), draw.uniform(-9, 9)])
    values: list[Any] = [[], [number], {"a": number}, [_noise(draw)], draw.choice([[[]], {}])]
    if type(None) not in members:
        values.append(None)
    if bool not in members:
        values.append(draw.random() < 0.5)
    if {int, float} & members:
        values += [_noise(draw), str(number), "", draw.choice([math.nan, math.inf, -math.inf])] * 2
        values += _beyond(draw, key, int in members) * 2
        values += [draw.randint(1, 99) + 0.5, 2.0] if int in members else []
    elif bool in members:
        values += [0, 1, number, "true", "false", "yes", "no", "on", "off", "", _noise(draw)]
    elif any(get_origin(each) is Literal for each in members):
        values += [_noise(draw), "", number, DEFAULTS[key].upper(), f"{DEFAULTS[key]} "]
    else:
        values += [number, *_bad_texts(draw, key)]
    return draw.choice(values)


def _bad_texts(draw: random.Random, key: str) -> list[str]:
    control = draw.choice("\x07\x1b\x7f\x85\u200b\u202e\u2028\ue000\r\t")
    texts = [f"a{control}b", f"{_noise(draw)}{control}", "x" * draw.randint(5000, 9000)]
    if key == "name":
        texts += ["a b", "../../x", "/etc/x", ".hidden", "-x", "", "é", "a/b", "x" * 65, "a\n"]
    return texts if key != "frozen_checkpoint.path" else [*texts, ""]


def bad_text_value(draw: random.Random, key: str) -> str:
    """Text that the key refuses on a command line, where text is read as a scalar."""
    members = _members(key)
    if {int, float} & members:
        texts = [_noise(draw), "", ".nan", "nan", "inf", ".inf", "-.inf", "1e999", "1,5", "1 2"]
        texts += ["1_000", "\uff11", "--1", "0x", "0b1", "1e", "true", "[1]", "{a: 1}", " 1", "1\n"]
        texts += [repr(each) for each in _beyond(draw, key, int in members)] * 4
        texts += ["1.5", "2.0", "1e3"] if int in members else []
        texts += [] if type(None) in members else ["null", "~"]
    elif bool in members:
        texts = ["yes", "no", "on", "off", "1", "0", "", "null", "tRUE", "true ", _noise(draw)]
    elif any(get_origin(each) is Literal for each in members):
        texts = [_noise(draw), "", "null", "1", DEFAULTS[key].upper(), f" {DEFAULTS[key]}"]
    else:
        texts = _bad_texts(draw, key)
    return draw.choice(texts)


# --- keys -----------------------------------------------------------------------------------


def unknown_key(draw: random.Random) -> str:
    """A dotted key that no profile has, most often by a slip of the fingers."""
    valid = {*KEYS, *SECTIONS}
    while True:
        key = draw.choice(list(KEYS))
        section, dot, name = key.rpartition(".")
        way = draw.randrange(6)
        if way == 0:
            key = f"{draw.choice(SECTIONS)}.{name}"
        elif way == 1:
            key = f"{_slip(draw, section)}.{name}" if section else _slip(draw, name)
        elif way == 2:
            key = f"{section}{dot}{draw.choice([_noise(draw), name + draw.choice('. :/~é'), ''])}"
        else:
            key = f"{section}{dot}{_slip(draw, name)}"
        if key not in valid and key.rstrip("."):
            return key


def _slip(draw: random.Random, name: str) -> str:
    place = draw.randrange(len(name))
    before, letter, after = name[:place], name[place], name[place + 1 :]
    other = draw.choice(string.ascii_lowercase)
    swapped = before + after[:1] + letter + after[1:]
    wrong = [before + after, before + other + after, before + other + letter + after, swapped]
    return draw.choice([*wrong, name.upper(), name.replace("_", "-")])


# --- combinations ---------------------------------------------------------------------------


def conflict(draw: random.Random) -> Settings:
    """Values that are fine alone and impossible together, or beside the defaults."""
    epochs, digits = draw.randint(2, 500), draw.randint(1, 5)
    lr = 10 ** draw.uniform(-6, -1)
    return draw.choice(
        [
            {"space.n_digits": digits, "training.batch_size": draw.randint(3**digits + 1, 9999)},
            {"space.n_digits": 9, "training.batch_size": 3**9 + draw.randint(1, 10**6)},
            {"targets.hierarchy_B": -draw.uniform(0.8323, 1), "space.n_digits": 9},
            {"targets.Q_enhanced": draw.uniform(2.17, 99), "space.n_digits": 9},
            {"homeostasis.Q_target": draw.uniform(2.17, 99), "homeostasis.enabled": True},
            {"targets.richness": draw.uniform(50, 1e6), "model.curvature": 1.0},
            {"training.epochs": epochs, "scheduler.warmup_epochs": epochs + draw.uniform(0.1, 99)},
            {"training.lr": lr, "scheduler.eta_min": lr * draw.uniform(1.01, 99)},
            {
                "curriculum.enabled": True,
                "training.epochs": epochs,
                "curriculum.coverage_first_epochs": epochs + draw.randint(1, 99),
            },
            {"training.encoder_a_lr_scale": 0.0, "curriculum.enabled": False},
            {"model.learnable_curvature": True, "frozen_checkpoint.path": f"{_noise(draw)}.pt"},
        ]
    )


# --- text -----------------------------------------------------------------------------------


def literal(value: Any) -> str:
    """A value as YAML has it: JSON, and what JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value)


def rendered(settings: Settings) -> str:
    """A profile file; keys of a section stand together."""
    sections: dict[str, list[tuple[str, Any]]] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, []).append((name, value))
    lines = []
    for section, entries in sections.items():
        indent = "  " if section else ""
        lines += [f"{json.dumps(section)}:"] if section else []
        lines += [f"{indent}{json.dumps(name)}: {literal(value)}" for name, value in entries]
    return "\n".join([*lines, ""]) or "{}\n"


_WRONG_LINES = (
    *("seed: [1", "seed: 'x", 'seed: "x', "\tseed: 1", "}", "- 1", "seed: *gone", "seed: *", ": :"),
    *("<<: {seed: 1}", "? [a]\n: 1", "? {a: 1}\n: 1", "1: 2", "~: 2", "seed 1", "@x: 1", "`x: 1"),
    *("seed: !!int 1", "seed: !!python/name:os.system", "!!str seed: 1", "seed: !x 1"),
    *("seed: !!python/object/apply:os.system [true]", "seed: !<tag:yaml.org,2002:int> 1"),
    *("---\nseed: 1\n---\nseed: 2", '"\\uZZZZ": 1', '"\\UFFFFFFFF": 1', "seed: |1\n", "seed: >x\n"),
    *("training:", "training: 5", "training: []", "model: [1, 2]", "training.lr: 1e-3"),
    *("training: {lr: 1e-3, lr: 1e-3}", "seed: 1\nseed: 1", "model: {}\nmodel: {}"),
    *("training: &t\n  lr: *t", "&r seed: *r", "%YAML 1.2\nseed: 1"),
)


def broken_text(draw: random.Random, text: str) -> tuple[str, bytes]:
    """A sound text damaged as a text: what was done, and the bytes."""
    ways: list[Callable[[random.Random, str], tuple[str, bytes]]] = [_line, _line, _line]
    return draw.choice([*ways, _byte, _character, _encoding, _whole, _size])(draw, text)


def _line(draw: random.Random, text: str) -> tuple[str, bytes]:
    line = draw.choice(_WRONG_LINES)
    return f"line {line!r}", f"{'' if text == '{}' + chr(10) else text}{line}\n".encode()


def _byte(draw: random.Random, text: str) -> tuple[str, bytes]:
    place = draw.randint(0, len(text))
    bad = draw.choice([b"\xff", b"\xfe\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe9", b"\x80"])
    return f"bytes {bad!r}", text[:place].encode() + bad + text[place:].encode()


def _character(draw: random.Random, text: str) -> tuple[str, bytes]:
    place = draw.randint(0, len(text))
    bad = draw.choice("\x00\x01\x07\x08\x0b\x0c\x1b\x1f\x7f\x80\x9b\ufffe\uffff")
    return f"character {bad!r}", f"{text[:place]}{bad}{text[place:]}".encode()


def _encoding(draw: random.Random, text: str) -> tuple[str, bytes]:
    name = draw.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
    return name, text.encode(name)


def _whole(draw: random.Random, text: str) -> tuple[str, bytes]:
    space = " " * draw.randint(0, 99)
    instead = draw.choice(["", "\n\n", "# seed: 1\n", "- 1\n", "hello\n", "null\n", "[]\n", "5\n"])
    return "another document", f"{space}{instead}".encode()


def _size(draw: random.Random, text: str) -> tuple[str, bytes]:
    depth = draw.randint(20, 3000)
    start, end = draw.choice([("[", "]"), ("{a: ", "}"), ("[{a: ", "}]")])
    shapes = [
        f"seed: {start * depth}{end * depth}\n",
        "".join(f"{' ' * n}a:\n" for n in range(min(depth, 200))),
        "- " * depth + "1\n",
        f"seed: [{'1,' * draw.randint(10_000, 12_000)}]\n" if depth < 100 else "- [\n",
        "a: &a [1]\n" + "".join(f"k{n}: &b{n} [*a, *a]\n" for n in range(draw.randint(1, 40))),
    ]
    return "depth or number of nodes", draw.choice(shapes).encode()
