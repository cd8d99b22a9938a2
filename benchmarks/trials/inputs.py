"""Thousands of bad profiles, command lines and calls: each has to be refused, with its place.

Every case is a sound input with one or two things broken, so that it is known to be bad.  That what
they are made of is sound is checked beside it.  No case trains: a trainer that would begin counts
as an acceptance.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from records import Claim

from trials.judge import Bench, Case
from trials.profiles import (
    DEFAULTS,
    KEYS,
    bad_text_value,
    bad_value,
    broken_text,
    conflict,
    rendered,
    sound,
    unknown_key,
)

__all__ = ["inputs"]

PROFILES, LINES = "bad profiles", "bad command lines"
PROCESSES = "bad command lines of a process of its own"

#: Cases at scale 1.
PROFILE_CASES, LINE_CASES, CALL_CASES, PROCESS_CASES = 4500, 3500, 2200, 40

SMALL = (
    *("--space.n_digits", "3", "--training.batch_size", "27", "--device", "cpu"),
    *("--monitoring.report", "false"),
)


def inputs(scratch: Path, *, scale: float, seed: int, tell: Callable[[str], None]) -> list[Claim]:
    """Try bad inputs and judge how they are refused.

    Args:
        scratch: an empty folder for whatever is needed or written.
        scale: 1 for some ten thousand cases, which take two to three minutes; less for fewer.
        seed: decides every case.
        tell: gets a line for each of the first cases that are not refused, enough to repeat them.

    Returns:
        One claim per kind of input, and one on the sound inputs that the bad ones are made from.
    """
    from trials.calls import Calls

    bench = Bench(scratch, tell)
    _give(bench.given)
    draw = random.Random(seed)
    lines = Lines(draw, bench.given)
    makers = (
        (PROFILE_CASES, lambda: bad_profile(draw, bench.bad), False),
        (LINE_CASES, lines.case, False),
        (CALL_CASES, Calls(draw, bench.given).case, False),
        (PROCESS_CASES, lambda: lines.case(PROCESSES), True),
    )
    with bench.open():
        claim = _sound_claim(draw, bench.bad, max(3, round(200 * scale)))
        for number, make, process in makers:
            for case in _different(make, max(3, round(number * scale))):
                bench.judge(case, process=process)
    return [*bench.tally.claims(), claim]


def _different(make: Callable[[], Case], number: int) -> list[Case]:
    """So many cases, no two of which are the same."""
    found: dict[str, Case] = {}
    for _ in range(20 * number):
        case = make()
        found.setdefault(case.what, case)
        if len(found) == number:
            break
    return list(found.values())


def _give(given: Path) -> None:
    """The files that cases point at."""
    (given / "file").write_text("neither a profile nor a checkpoint\n")
    (given / "folder").mkdir()
    (given / "garbage.pt").write_bytes(bytes(range(256)) * 4)
    (given / "half.pt").write_bytes(b"PK\x03\x04" + bytes(500))
    (given / "run" / "checkpoints").mkdir(parents=True)


def _sound_claim(draw: random.Random, path: Path, number: int) -> Claim:
    """What the bad profiles are made from is accepted, or their refusal would say nothing."""
    from ternvae.config import ProfileError, load_profile, resolve_profile

    accepted = 0
    for _ in range(number):
        path.write_text(rendered(sound(draw, most=12)))
        try:
            load_profile(path)
            resolve_profile(config=path)
        except ProfileError:
            continue
        accepted += 1
    figure = f"{accepted:,} of {number:,} accepted"
    return Claim(
        "the profiles that bad ones are made from are accepted", figure, accepted == number
    )


# --- profiles -------------------------------------------------------------------------------


def bad_profile(draw: random.Random, path: Path) -> Case:
    """A bad profile file, loaded from Python or by the command line."""
    from ternvae.config import load_profile, resolve_profile

    broken, content, got = _bad_content(draw)
    if draw.random() < 0.3:
        others = draw.choice([(), ("--test-mode",), ("--profile", "coverage_focused")])
        arguments = ("train", "--config", str(path), "--device", "cpu", *others)
        return Case(PROFILES, broken, arguments=arguments, content=content, got=got)
    if draw.random() < 0.5:
        return Case(PROFILES, broken, call=lambda: load_profile(path), content=content)
    return Case(PROFILES, broken, call=lambda: resolve_profile(config=path), content=content)


def _bad_content(draw: random.Random) -> tuple[str, bytes, bool]:
    """What is broken, the file, and whether a value is at fault."""
    way = draw.randrange(10)
    if way < 4:
        keys = draw.sample(list(KEYS), draw.choice([1, 1, 1, 2]))
        wrong: dict[str, Any] = {key: bad_value(draw, key) for key in keys}
        broken = f"value of {' and '.join(keys)}"
    elif way < 6:
        wrong = {unknown_key(draw): draw.choice(list(DEFAULTS.values()))}
        broken = "unknown key"
    elif way < 8:
        wrong, broken = conflict(draw), "conflict"
    else:
        broken, content = broken_text(draw, rendered(sound(draw)))
        return broken, content, False
    return broken, rendered({**sound(draw, without=wrong), **wrong}).encode(), True


# --- command lines --------------------------------------------------------------------------


class Lines:
    """Makes bad command lines.

    Args:
        draw: where all chance comes from.
        given: a folder with the files of :func:`_give`.
    """

    def __init__(self, draw: random.Random, given: Path) -> None:
        self.draw, self.given = draw, given

    def case(self, kind: str = LINES) -> Case:
        """One bad command line."""
        makers = (
            *([self._value] * 5),
            *([self._key] * 3),
            *([self._conflict] * 2),
            *(self._flag, self._shape, self._twice, self._config, self._profile, self._seed),
            *(self._device, self._checkpoint, self._run_dir, self._other_command),
        )
        broken, arguments, got = self.draw.choice(makers)()
        return Case(kind, broken, arguments=tuple(arguments), got=got)

    def _train(self, *wrong: str, at_end: bool = False) -> list[str]:
        """``ternvae train`` with some sound options around the wrong ones."""
        draw = self.draw
        given = {text.split("=")[0] for text in wrong}
        options = [["--run-dir", "run"], ["--test-mode"], ["--seed", str(draw.randrange(99))]]
        options += [["--profile", "coverage_focused"], ["--monitoring.log_every_n_steps", "5"]]
        options = [each for each in options if each[0] not in given and draw.random() < 0.3]
        before = draw.randint(0, len(options)) if not at_end else len(options)
        options.insert(before, list(wrong))
        return ["train", *(text for option in options for text in option)]

    def _pair(self, key: str, value: str) -> list[str]:
        return [f"--{key}={value}"] if self.draw.random() < 0.5 else [f"--{key}", value]

    def _value(self) -> tuple[str, list[str], bool]:
        keys = self.draw.sample(list(KEYS), self.draw.choice([1, 1, 2]))
        keys = [key for key in keys if key != "seed"] or ["training.lr"]
        wrong = [text for k in keys for text in self._pair(k, bad_text_value(self.draw, k))]
        return f"value of {' and '.join(keys)}", self._train(*wrong), True

    def _key(self) -> tuple[str, list[str], bool]:
        key = unknown_key(self.draw)
        return "unknown key", self._train(*self._pair(key, "1")), "." in key

    def _conflict(self) -> tuple[str, list[str], bool]:
        wrong = conflict(self.draw)
        texts = {key: str(value).lower() for key, value in wrong.items()}
        # --test-mode would shorten what conflicts with the length.
        pairs = [text for key, value in texts.items() for text in self._pair(key, value)]
        return "conflict", ["train", *pairs], True

    def _flag(self) -> tuple[str, list[str], bool]:
        draw = self.draw
        flag = draw.choice(["config", "profile", "test-mode", "checkpoint", "run-dir", "device"])
        place = draw.randrange(1, len(flag))
        letter = draw.choice("qxzw")
        wrong = draw.choice(
            [
                *(flag[:place] + flag[place + 1 :], flag[:place] + letter + flag[place:]),
                *(flag.upper(), flag.replace("-", "_") + letter, f"{flag}\x1b[31m", f"{flag}\n"),
                *(f"no-{flag}", f"{flag}{draw.randrange(10**6)}"),
            ]
        )
        arguments = self._train(f"--{wrong}", *draw.choice([(), ("x",)]))
        return f"flag like {flag}", arguments, False

    def _shape(self) -> tuple[str, list[str], bool]:
        draw = self.draw
        word = f"w{draw.randrange(10**6)}"
        arguments = draw.choice(
            [
                *(self._train(word), self._train(f"-{word}"), self._train("-", word)),
                *(self._train(f"{word}\x1b[2J"), self._train(f"{word}\nline"), self._train("--=1")),
                *(self._train("--test-mode=1"), self._train("--test-mode=true", word)),
                *(self._train(f"---{word}", "1"), self._train("--."), self._train("--.=1")),
            ]
        )
        if draw.random() < 0.4:
            flag = draw.choice(["config", "profile", "checkpoint", "seed", "device", *KEYS])
            arguments = self._train(f"--{flag}", at_end=True)
        return "shape of the command line", arguments, False

    def _twice(self) -> tuple[str, list[str], bool]:
        key = self.draw.choice([key for key in KEYS if DEFAULTS[key] not in (None, "")])
        value = str(DEFAULTS[key]).lower()
        if self.draw.random() < 0.5:
            key, value = self.draw.choice(
                [("seed", "3"), ("device", "cpu"), ("profile", "coverage_focused")]
            )
        flags = [*self._pair(key, value), *self._pair(key, value)]
        return "an option twice", ["train", *flags, *self._some_keys()], False

    def _some_keys(self) -> list[str]:
        number = self.draw.randrange(1000)
        return ["--monitoring.log_every_n_steps", str(number)]

    def _odd_path(self) -> str:
        draw, stem = self.draw, f"{self.draw.randrange(10**9)}"
        return draw.choice(
            [
                *(f"{stem}.yaml", f"../{stem}.yaml", f"./{stem}/{stem}.yaml", "", "/", "."),
                *(
                    f"{stem}\x1b[31m.yaml",
                    f"a\n{stem}.yaml",
                    f"{stem}\r.yaml",
                    f"\u2028{stem}.yaml",
                ),
                *("x" * draw.randint(300, 3000) + ".yaml", str(self.given / "file")),
                *(str(self.given / "file" / stem), str(self.given / "folder"), f"{stem}\u202e/x"),
            ]
        )

    def _config(self) -> tuple[str, list[str], bool]:
        return "config file", self._train("--config", self._odd_path()), False

    def _profile(self) -> tuple[str, list[str], bool]:
        name = self.draw.choice(["coverage_focused", "mathematical_foundation", "custom"])
        near = f"{name}{self.draw.choice('xyz_.')}{self.draw.randrange(999)}"
        odd = self.draw.choice([near, name.upper(), f"{name} ", self._odd_path(), "../" + near])
        return "name of a profile", self._train("--profile", odd), False

    def _seed(self) -> tuple[str, list[str], bool]:
        wrong = bad_text_value(self.draw, "seed")
        return "seed", self._train("--seed", wrong), True

    def _device(self) -> tuple[str, list[str], bool]:
        draw = self.draw
        number = draw.randint(64, 10**6)
        names = ["gpu", "CPU", "", "cuda:", "cuda:-1", "meta", f"cuda:{number}", f"dev{number}"]
        wrong = draw.choice([*names, f"cpu\x1b[{number}m", f"cpu:{number}", f"cpu\n{number}"])
        command = draw.choice([self._train(), ["validate"], ["analyze", "none.pt"]])
        if command[0] == "train":
            command = self._train("--device", wrong)
        else:
            command = [*command, "--device", wrong]
        return "device", command, False

    def _checkpoint(self) -> tuple[str, list[str], bool]:
        files = ["garbage.pt", "half.pt", "file", "folder"]
        path = self.draw.choice([self._odd_path(), str(self.given / self.draw.choice(files))])
        ways = [
            ["analyze", path],
            ["analyze", "--json", path, path],
            self._train("--checkpoint", path),
            ["train", *SMALL, "--frozen_checkpoint.path", path, *self._some_keys()],
        ]
        return "checkpoint", self.draw.choice(ways), False

    def _run_dir(self) -> tuple[str, list[str], bool]:
        # What only shows when the folder is made, such as a name too long, is among the evil.
        wrong = self.draw.choice([str(self.given / "file"), str(self.given / "run"), ""])
        return "run directory", ["train", *SMALL, "--run-dir", wrong, *self._some_keys()], False

    def _other_command(self) -> tuple[str, list[str], bool]:
        draw = self.draw
        word = f"w{draw.randrange(10**6)}"
        ways = [
            *(["profiles", word], ["profiles", f"../{word}"], ["profiles", word, "--full"]),
            *(["profiles", "coverage_focused", word], ["profiles", "--schema", word]),
            *(["profiles", f"--{word}"], ["profiles", f"{word}\x1b[31m\n"], ["analyze"]),
            *(["analyze", f"--{word}", "x.pt"], ["analyze", f"{word}.pt", f"{word}.pt"]),
            *(["validate", word], ["validate", f"--{word}"], ["validate", f"--json={word}"]),
            *([word], [f"--{word}"], [f"{word}\x1b[0m"], ["train\n" + word], [word, "--help"]),
            *(["profiles", "coverage_focused", f"x\x1b{word}"], ["validate", f"{word}\nx"]),
        ]
        return "command", draw.choice(ways), False
