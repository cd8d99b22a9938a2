"""Tab in a shell: what it offers, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from ternvae.cli import cli, main
from ternvae.config import available_profiles, profile_keys
from tests.cli.processes import HEAVY, imported


def offered(*words: str) -> list[str]:
    """For the last word, after the others."""
    *before, start = words
    shell = ShellComplete(cli, {}, "ternvae", "_TERNVAE_COMPLETE")
    return [str(item.value) for item in shell.get_completions(before, start)]


def test_commands_options_profiles_and_sections() -> None:
    assert offered("") == list(cli.commands)
    assert offered("tr") == ["train"]
    assert offered("validate", "--q") == ["--quiet"]
    assert offered("train", "--profile", "") == list(available_profiles())
    assert offered("train", "--profile", "cov") == ["coverage_focused"]
    assert offered("profiles", "rich") == ["richness_focused"]
    assert offered("train", "--help-keys", "mod") == ["model"]
    assert offered("analyze", "--device", "c") == ["cpu", "cuda"]
    assert offered("completion", "") == ["bash", "zsh", "fish"]


def test_keys_of_a_profile_and_what_can_stand_after_them() -> None:
    found = offered("train", "--")
    assert {f"--{key}" for key in profile_keys()} <= set(found)
    assert "--run-dir" in found
    assert offered("train", "--seed", "3", "--training.l") == ["--training.lr"]
    assert offered("train", "--training.execution", "") == ["eager", "cuda_graph"]
    assert offered("train", "--training.use_amp", "f") == ["false"]
    assert offered("train", "--training.lr", "") == []
    assert offered("validate", "--training.l") == []


def test_checkpoints_of_runs_come_before_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("last", "best_Q"):
        path = tmp_path / "runs" / "mine" / "checkpoints" / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    both = [f"runs/mine/checkpoints/{name}.pt" for name in ("best_Q", "last")]
    assert offered("analyze", "") == both
    assert offered("analyze", both[0], "runs/mine/checkpoints/l") == both[1:]
    assert offered("train", "--checkpoint", "ru") == both
    shell = ShellComplete(cli, {}, "ternvae", "_TERNVAE_COMPLETE")
    [other] = shell.get_completions(["analyze"], "else")
    assert (other.type, other.value) == ("file", "else")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_for_each_shell(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert f"_TERNVAE_COMPLETE={shell}_complete" in script
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=script, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_a_line_with_the_script_it_was_given(tmp_path: Path) -> None:
    program = tmp_path / "ternvae"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ternvae "$@"\n')
    program.chmod(0o755)
    line = """
        eval "$(ternvae completion bash)"
        complete -p ternvae
        COMP_WORDS=(ternvae train --profile hier); COMP_CWORD=3
        _ternvae_completion ternvae
        echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", line],  # noqa: S607
        capture_output=True,
        text=True,
        env=environment,
    )
    registered, completed = done.stdout.splitlines()
    assert registered.endswith("-F _ternvae_completion ternvae")
    assert completed == "hierarchy_focused"


def test_completing_loads_nothing_heavy() -> None:
    words = {"COMP_WORDS": "ternvae train --profile h", "COMP_CWORD": "3"}
    out, modules = imported(**words, _TERNVAE_COMPLETE="bash_complete")
    assert out == "plain,hierarchy_focused\n"
    assert modules & HEAVY == set()
