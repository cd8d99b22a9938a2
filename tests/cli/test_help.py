"""Help that can be read: it fits, names everything, and its examples are real commands."""

from __future__ import annotations

import re
import shlex

import pytest

from ternvae.cli import cli, main
from ternvae.cli.helping import Command
from ternvae.config import load_profile, profile_keys

COMMANDS = list(cli.commands)


def told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    width: int = 80,
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_commands_come_in_the_order_of_a_first_day(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(capsys, monkeypatch, "--help")
    [listed] = re.findall(r"^Commands:\n((?:  .*\n)+)", text, re.MULTILINE)
    rows = [line.split(maxsplit=1) for line in listed.splitlines()]
    order = ["train", "plot", "analyze", "report", "validate", "profiles", "completion"]
    assert [name for name, _ in rows] == order
    # A summary that does not fit would end in three dots.
    assert all(summary.endswith(".") and not summary.endswith("..") for _, summary in rows)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_fits_narrow_and_wide_terminals(
    words: list[str],
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = told(capsys, monkeypatch, *words, "--help", width=width).splitlines()
    # Longer lines than a hundred characters are hard to read, however wide the terminal is.
    assert max(map(len, lines)) <= min(width, 100)
    assert "Examples:" in lines


def test_examples_are_commands_with_options_that_exist() -> None:
    examples = [
        line
        for command in (cli, *cli.commands.values())
        for line, purpose in command._examples  # type: ignore[attr-defined]
        if purpose
    ]
    assert len(examples) > 2 * len(COMMANDS)
    for line in examples:
        found = re.findall(r"ternvae ([^;&|>)$]+)", line)
        assert found, line
        for words in map(shlex.split, (text.replace('"', "") for text in found)):
            command = cli.commands[words[0]]
            known = {name for parameter in command.params for name in parameter.opts}
            known |= {f"--{key}" for key in profile_keys()} if words[0] == "train" else set()
            flags = {word for word in words[1:] if word.startswith("--")}
            assert flags <= known, line


def test_every_command_can_show_examples() -> None:
    assert all(isinstance(command, Command) for command in cli.commands.values())


# --- the keys of a profile ------------------------------------------------------------------


def test_help_names_the_sections_and_says_how_to_see_the_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(capsys, monkeypatch, "train", "--help")
    for section in {key.partition(".")[0] for key in profile_keys() if "." in key}:
        assert f"--{section}.KEY " in text
    assert "--help-keys" in text
    assert len(text.splitlines()) < 70


def entries(text: str) -> dict[str, str]:
    """What is said of each key, on one line."""
    body = re.sub(r"^(?! ).*$", "", text, flags=re.MULTILINE)  # without headings
    parts = re.split(r"^  --", body, flags=re.MULTILINE)[1:]
    return {part.split()[0]: " ".join(part.split()) for part in parts}


def test_every_key_is_shown_with_its_description_bounds_and_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(capsys, monkeypatch, "train", "--help-keys")
    found = entries(text)
    assert list(found) == list(profile_keys())
    for key, info in profile_keys().items():
        assert str(info.description) in found[key]
        assert "default: " in found[key]
    assert found["training.lr"].endswith("[> 0; default: 0.003; mathematical_foundation: 0.008]")
    assert "N Ternary digits" in found["space.n_digits"]
    assert "[>= 1, <= 20; default: 9]" in found["space.n_digits"]
    assert found["model.dropout"].endswith("[>= 0, < 1; default: 0.0]")
    assert found["training.execution"].startswith("training.execution eager|cuda_graph ")
    assert found["training.use_amp"].startswith("training.use_amp true|false ")
    assert found["frozen_checkpoint.path"].endswith("default: null]")
    assert found["description"].endswith("default: none]")


def test_what_the_default_profile_sets_is_shown_beside_the_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_profile()
    found = entries(told(capsys, monkeypatch, "train", "--help-keys"))
    other = 0
    for key, info in profile_keys().items():
        section, _, name = key.rpartition(".")
        value = getattr(getattr(shipped, section) if section else shipped, name)
        shown = re.search(r"; mathematical_foundation: (\S+)\]$", found[key])
        if shown is None:
            assert value == info.default or key in ("name", "description")
        else:
            other += 1
            assert shown[1] == (str(value).lower() if isinstance(value, bool) else str(value))
    assert other > 0


@pytest.mark.parametrize(
    ("chosen", "keys"),
    [
        ("training", [key for key in profile_keys() if key.startswith("training.")]),
        ("training.lr", ["training.lr"]),
        ("seed", ["seed"]),
    ],
)
def test_a_section_or_a_key_can_be_chosen(
    chosen: str,
    keys: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(entries(told(capsys, monkeypatch, "train", "--help-keys", chosen))) == keys


def test_a_section_that_is_misspelt_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help-keys", "traning"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "command line: --help-keys: no section or key 'traning'; did you mean 'training'?\n"
    )
