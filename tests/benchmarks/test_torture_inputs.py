"""Bad inputs are refused, and what judges that would notice if they were not."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from importlib import import_module as module
from pathlib import Path
from typing import Any

import click
import pytest

from ternvae import cli
from ternvae.config import ProfileError, load_profile, profile_from_dict, profile_keys

SCALE = 0.02


def run(scratch: Path, seed: int = 0) -> tuple[list[Any], list[str]]:
    told: list[str] = []
    claims = module("trials.inputs").inputs(scratch, scale=SCALE, seed=seed, tell=told.append)
    return claims, told


def test_bad_inputs_are_refused(tmp_path: Path) -> None:
    claims, told = run(tmp_path)
    assert told == []
    assert [claim.statement for claim in claims] == [
        "bad profiles are refused",
        "bad command lines are refused",
        "bad calls of the library are refused",
        "bad command lines of a process of its own are refused",
        "the profiles that bad ones are made from are accepted",
    ]
    assert all(claim.passed for claim in claims)
    assert claims[0].figure == "90 of 90 refused"


def test_at_full_scale_there_are_ten_thousand() -> None:
    inputs = module("trials.inputs")
    cases = inputs.PROFILE_CASES + inputs.LINE_CASES + inputs.CALL_CASES
    assert cases >= 10_000


def test_a_seed_decides_the_cases(tmp_path: Path) -> None:
    torture = module("trials.inputs")

    def lines(seed: int) -> list[str]:
        maker = torture.Lines(random.Random(seed), tmp_path)
        return [maker.case().what for _ in range(50)]

    assert lines(1) == lines(1) != lines(2)


# --- what bad profiles are made of ----------------------------------------------------------


@pytest.mark.parametrize("key", profile_keys())
def test_bad_values_are_bad(key: str) -> None:
    profiles, draw = module("trials.profiles"), random.Random(key)
    for _ in range(40):
        with pytest.raises(ProfileError):
            profile_from_dict({key: profiles.bad_value(draw, key)})


def test_every_conflict_needs_all_its_parts(tmp_path: Path) -> None:
    """Each value alone is fine: what is refused is that they come together."""
    profiles, draw = module("trials.profiles"), random.Random(0)
    file = tmp_path / "conflict.yaml"
    for _ in range(60):
        wrong = profiles.conflict(draw)
        file.write_text(profiles.rendered(wrong))
        with pytest.raises(ProfileError) as caught:
            load_profile(file)
        assert len(caught.value.problems) == 1


# --- the judge ------------------------------------------------------------------------------


def accepts(arguments: Sequence[str] | None = None) -> int:
    return 0


def breaks_down(arguments: Sequence[str] | None = None) -> int:
    raise KeyError("lr")


def shows_a_traceback(arguments: Sequence[str] | None = None) -> int:
    click.echo("Traceback (most recent call last):\nValueError: lr", err=True)
    return 2


def has_another_status(arguments: Sequence[str] | None = None) -> int:
    click.echo("command line: wrong (got 5)", err=True)
    return 1


def says_nothing(arguments: Sequence[str] | None = None) -> int:
    return 2


def names_no_place(arguments: Sequence[str] | None = None) -> int:
    click.echo("wrong (got 5)", err=True)
    return 2


def shows_no_value(arguments: Sequence[str] | None = None) -> int:
    click.echo("command line: training.lr: wrong", err=True)
    return 2


def speaks_to_the_terminal(arguments: Sequence[str] | None = None) -> int:
    click.echo("command line: \x07 wrong (got 5)", err=True)
    return 2


def speaks_on_standard_output(arguments: Sequence[str] | None = None) -> int:
    click.echo("command line: wrong (got 5)", err=True)
    click.echo("something")
    return 2


def writes(arguments: Sequence[str] | None = None) -> int:
    Path("run").mkdir()
    click.echo("command line: wrong (got 5)", err=True)
    return 2


def trains(arguments: Sequence[str] | None = None) -> int:
    from ternvae.config import load_profile
    from ternvae.trainer import Trainer

    small = {"space.n_digits": 2, "training.batch_size": 9, "monitoring.report": False}
    Trainer(load_profile(overrides=small), "run", "cpu").fit()
    return 0


BAD: dict[Callable[..., int], str] = {
    accepts: "accepted",
    breaks_down: "raised KeyError: 'lr'",
    shows_a_traceback: "a traceback",
    has_another_status: "exit status 1",
    says_nothing: "says nothing",
    names_no_place: "a line without its place",
    shows_no_value: "the value is not shown",
    speaks_to_the_terminal: "a line that is not printable",
    speaks_on_standard_output: "to standard output",
    writes: "wrote run",
    trains: "accepted",
}


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    told: list[str] = []
    made = module("trials.judge").Bench(tmp_path, told.append)
    made.told = told
    return made


@pytest.mark.parametrize("program", BAD, ids=lambda program: program.__name__)
def test_the_judge_sees_what_a_program_does_wrong(
    program: Callable[..., int], bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "main", program)
    case = module("trials.judge").Case("bad", "value", arguments=("train",), got=True)
    with bench.open():
        bench.judge(case)
        assert list(Path.cwd().iterdir()) == []
    assert bench.tally.refused == {"bad": 0} and not bench.tally.claims()[0].passed
    assert BAD[program] in bench.told[0] and "ternvae ['train']" in bench.told[0]


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("pass", "accepted"),
        ("raise KeyError", "a traceback"),
        ("import sys; print('place: what', file=sys.stderr); sys.exit(3)", "exit status 3"),
        ("import time; time.sleep(60)", "accepted"),
    ],
)
def test_the_judge_sees_it_of_a_process_too(
    program: str, fault: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = module("trials.judge")
    monkeypatch.setattr(judge, "COMMAND", [sys.executable, "-c", program])
    monkeypatch.setattr(judge, "AT_WORK", 2.0)
    with bench.open():
        bench.judge(judge.Case("bad", "value", arguments=("train",)), process=True)
    assert fault in bench.told[0]


def silent(*_: object) -> None:
    raise ValueError


def foreign(*_: object) -> None:
    raise AttributeError("'dict' object has no attribute 'lr'")


def careless(*_: object) -> None:
    raise ProfileError([module("ternvae.config").Problem("", "", "no\nplace")])


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: None, "accepted"),
        (silent, "ValueError without a text"),
        (foreign, "raised AttributeError"),
        (careless, "a line without its place"),
        (lambda: Path("new").touch() or silent(), "without a text"),
    ],
)
def test_the_judge_sees_what_a_call_does_wrong(
    call: Callable[[], object], fault: str, bench: Any
) -> None:
    with bench.open():
        bench.judge(module("trials.judge").Case("bad", "value", call=call, shown="call()"))
    assert fault in bench.told[0] and "call()" in bench.told[0]


def test_only_the_first_failing_cases_are_told(bench: Any) -> None:
    judge = module("trials.judge")
    with bench.open():
        for k in range(30):
            bench.judge(judge.Case("bad", "value", call=lambda: None, shown=f"call({k})"))
    assert len(bench.told) == judge.TOLD
    assert bench.tally.claims()[0].figure == "0 of 30 refused"
