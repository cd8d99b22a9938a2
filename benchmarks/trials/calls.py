"""Calls of the library with arguments that are bad by construction."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ternvae.ceilings import ceilings
from ternvae.checkpoint import load_checkpoint, save_checkpoint
from ternvae.config import (
    Profile,
    load_profile,
    profile_from_dict,
    profile_text,
    resolve_profile,
)
from ternvae.manifolds import PoincareBall
from ternvae.metrics import evaluate
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer import Trainer
from trials.judge import Case
from trials.profiles import KEYS, bad_value, conflict, sound, unknown_key

__all__ = ["Calls"]

KIND = "bad calls of the library"

Call = tuple[str, str, Callable[[], object]]


class Calls:
    """Makes bad calls.

    Args:
        draw: where all chance comes from.
        given: a folder with ``sound.pt``, ``garbage.pt``, ``half.pt``, a file ``file`` and a
            folder ``folder``.
    """

    def __init__(self, draw: random.Random, given: Path) -> None:
        self.draw, self.given = draw, given
        self.profile = load_profile(overrides={"space.n_digits": 2, "training.batch_size": 9})
        self.model = TernaryVAE(n_digits=2, latent_dim=3, hidden_dim=4).eval()

    def case(self) -> Case:
        """One bad call."""
        makers = (
            *([self._settings] * 6),
            *(self._source, self._trainer, self._space, self._architecture, self._ball),
            *(self._tensors, self._checkpoint, self._saving, self._evaluation),
        )
        broken, shown, call = self.draw.choice(makers)()
        return Case(KIND, broken, call=call, shown=shown)

    # --- profiles ---------------------------------------------------------------------------

    def _bad_settings(self) -> tuple[str, dict[Any, Any]]:
        draw = self.draw
        way = draw.randrange(4)
        if way == 0:
            key = unknown_key(draw)
            return "unknown key", {**sound(draw), key: draw.randint(0, 9)}
        if way == 1:
            wrong = conflict(draw)
            return "conflict", {**sound(draw, without=wrong), **wrong}
        if way == 2:
            odd = draw.choice([None, 5, (1, 2), b"seed", 1.5, True, "", "\x1b", "\ud800", "a\nb"])
            return "odd key", {**sound(draw), odd: draw.randint(0, 9)}
        key = draw.choice(list(KEYS))
        alien = draw.choice([b"1", {1}, (1,), 1j, object, range(3), 10**400])
        wrong = alien if draw.random() < 0.3 else bad_value(draw, key)
        return f"value of {key}", {**sound(draw, without={key: 0}), key: wrong}

    def _settings(self) -> Call:
        broken, values = self._bad_settings()
        nested = _nested(values) if all(isinstance(key, str) for key in values) else values
        ways: dict[str, Callable[[], object]] = {
            f"profile_from_dict({values!r})": partial(profile_from_dict, values),
            f"profile_from_dict({nested!r})": partial(profile_from_dict, nested),
            f"load_profile(overrides={values!r})": partial(load_profile, overrides=values),
        }
        if broken != "odd key":
            ways[f"Profile(**{nested!r})"] = lambda: Profile(**nested)
        shown = self.draw.choice(list(ways))
        return broken, shown, ways[shown]

    def _source(self) -> Call:
        name = self._odd_path() if self.draw.random() < 0.7 else f"x{self.draw.random()}"
        alien = self.draw.choice([5, 1.5, b"x", [], {}, object, True])
        ways: dict[str, Callable[[], object]] = {
            f"load_profile({name!r})": partial(load_profile, name),
            f"resolve_profile(config={name!r})": partial(resolve_profile, config=name),
            f"resolve_profile(profile={name!r})": partial(resolve_profile, profile=name),
            f"profile_text({name!r})": partial(profile_text, name),
            f"load_profile({alien!r})": partial(load_profile, alien),
            f"profile_from_dict({name!r})": partial(profile_from_dict, name),  # type: ignore[arg-type]
            f"load_profile(overrides={name!r})": partial(load_profile, overrides=name),  # type: ignore[arg-type]
            "resolve_profile(profile=, base=)": partial(
                resolve_profile, profile=name, base=self.profile
            ),
        }
        shown = self.draw.choice(list(ways))
        return "source", shown, ways[shown]

    def _odd_path(self) -> str:
        """A path at which no profile and no checkpoint is."""
        draw = self.draw
        stem = f"{draw.randrange(10**9)}"
        return draw.choice(
            [
                *(f"./{stem}", f"../{stem}.yaml", f"{stem}.yaml", f"{stem}\0.yaml", "", "/"),
                *(f"{stem}\x1b[31m.yaml", f"a\n{stem}.yaml", f"{stem}\ud800.yaml"),
                *(
                    "x" * draw.randint(300, 9000) + ".yaml",
                    str(self.given),
                    str(self.given / "file"),
                ),
                *(str(self.given / "file" / "x.yaml"), str(self.given / "garbage.pt")),
            ]
        )

    # --- training ---------------------------------------------------------------------------

    def _trainer(self) -> Call:
        draw, stem = self.draw, self.draw.randrange(10**9)
        device = draw.choice(["gpu", "cuda:99", f"cpu{stem}", "", "cuda:-1", "CPU", None, "a\0b"])
        device = draw.choice([device, f"cuda:{draw.randint(64, 10**6)}", f"{stem}"])
        folder = draw.choice([self.given / "file", f"a{stem}\0b", "x" * draw.randint(300, 9000)])
        origin = draw.choice([self._odd_path(), self.given / "garbage.pt", self.given / "half.pt"])
        other = draw.choice([None, "mathematical_foundation", {}, {"seed": stem}, stem, b"x"])
        profile = self.profile
        ways: dict[str, Callable[[], object]] = {
            f"Trainer(profile, device={device!r})": partial(Trainer, profile, "run", device),
            f"Trainer(profile, {_short(folder)})": partial(Trainer, profile, folder, "cpu"),
            f"Trainer(profile, resume_from={_short(origin)})": partial(
                Trainer, profile, "run", "cpu", resume_from=origin
            ),
            f"Trainer({other!r})": partial(Trainer, other, "run", "cpu"),  # type: ignore[arg-type]
        }
        shown = draw.choice(list(ways))
        return "trainer", shown, ways[shown]

    # --- mathematics ------------------------------------------------------------------------

    def _odd_number(self) -> Any:
        draw = self.draw
        odd = [math.nan, math.inf, -math.inf, None, "3", b"3", [3], {}, object, 2.5, 1j]
        return draw.choice([*odd, -draw.randint(1, 10**9), -draw.uniform(0.1, 9)])

    def _space(self) -> Call:
        n = self.draw.choice([0, 21, self._odd_number(), self.draw.randint(21, 10**9), True])
        ways: dict[str, Callable[[], object]] = {
            f"TernarySpace({n!r})": partial(TernarySpace, n),
            f"ceilings({n!r})": partial(ceilings, n),
        }
        shown = self.draw.choice(list(ways))
        return "number of digits", shown, ways[shown]

    def _architecture(self) -> Call:
        draw = self.draw
        keyword = draw.choice(["n_digits", "latent_dim", "hidden_dim", "projection_layers"])
        value = draw.choice([0, self._odd_number()])
        if draw.random() < 0.5:
            keyword, value = draw.choice(
                [
                    ("dropout", draw.choice([1, draw.uniform(1, 9), self._odd_number()])),
                    ("curvature", draw.choice([0, "1", math.nan, math.inf, -draw.random()])),
                    ("max_radius", draw.choice([0, 1, "1", math.nan, 1 + draw.random()])),
                    (f"latent{draw.randrange(10**6)}", 3),
                ]
            )
            if keyword == "dropout" and isinstance(value, float) and 0 <= value < 1:
                value = 1
            if keyword == "dropout" and value == 2.5:
                value = 1.0
        keywords: dict[str, Any] = {"n_digits": 2, "hidden_dim": 4, keyword: value}
        return "architecture", f"TernaryVAE(**{keywords!r})", lambda: TernaryVAE(**keywords)

    def _ball(self) -> Call:
        draw = self.draw
        bad = [0, math.nan, math.inf, "1", [1], -draw.uniform(0.01, 99)]
        keyword, value = draw.choice(
            [("c", draw.choice([*bad, None])), ("max_radius", draw.choice([*bad, 1, 1.5]))]
        )
        keywords: dict[str, Any] = {"c": 1.0, keyword: value}
        return "ball", f"PoincareBall(**{keywords!r})", lambda: PoincareBall(**keywords)

    def _tensors(self) -> Call:
        draw = self.draw
        model, n = self.model, draw.randint(9, 10**9)
        branch = draw.choice(["C", "a", "", f"A{n}"])
        rows = draw.choice([1, 2, 4, 5])
        ways: dict[str, Callable[[], object]] = {
            f"embed([{n}])": lambda: model.embed([n]),
            f"embed([-{n}])": lambda: model.embed([-n]),
            f"embed([{n}.5])": lambda: model.embed([n + 0.5]),
            f"embed([[{n}, 0]])": lambda: model.embed([[n, 0]]),
            f"embed(zeros({rows}, 3))": lambda: model.embed(torch.zeros(rows, 3)),
            f"embed([0], {branch!r})": lambda: model.embed([0], branch),
            f"decode(zeros({rows}, {rows}))": lambda: model.decode(torch.zeros(rows, rows)),
            f"decode(zeros(1, 3), {branch!r})": lambda: model.decode(torch.zeros(1, 3), branch),
        }
        shown = draw.choice(list(ways))
        return "tensors", f"model.{shown}", ways[shown]

    def _evaluation(self) -> Call:
        digits = self.draw.choice([1, 3, 4, 5, 6, 7, 8, 9])
        space = TernarySpace(digits)
        return "evaluation", f"evaluate(model of 2, {space})", lambda: evaluate(self.model, space)

    # --- files ------------------------------------------------------------------------------

    def _checkpoint(self) -> Call:
        draw = self.draw
        file = draw.choice(["file", "garbage.pt", "half.pt", "folder"])
        path = draw.choice([self._odd_path(), str(self.given / file), None, draw.random(), []])
        ways: dict[str, Callable[[], object]] = {
            f"load_checkpoint({_short(path)})": partial(load_checkpoint, path),  # type: ignore[arg-type]
            f"TernaryVAE.from_checkpoint({_short(path)})": partial(
                TernaryVAE.from_checkpoint,
                path,  # type: ignore[arg-type]
            ),
        }
        shown = draw.choice(list(ways))
        return "checkpoint", shown, ways[shown]

    def _saving(self) -> Call:
        contents = {f"key{self.draw.randrange(10**9)}": 1}
        return (
            "incomplete checkpoint",
            f"save_checkpoint('new.pt', {contents!r})",
            partial(save_checkpoint, "new.pt", contents),
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:80]}... ({len(text)} characters)"


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        inner = tree.setdefault(section, {}) if section else tree
        if not isinstance(inner, dict):
            return values
        inner[name] = value
    return tree
