"""Runs the blocks of a page in order, in a folder of its own, and compares what they show."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ternvae.cli import cli, main
from ternvae.config import load_profile, profile_keys
from tests.docs.pages import ROOT, Block, Command, blocks

__all__ = ["failures", "faults_of", "faults_of_line"]

#: Folders of runs that the pages speak of; where a page does not make one itself, it is provided.
RUNS = ("RUN", "A", "B", "runs/mine")

#: What joins commands in a line.
JOINTS = {"|", "&&", "||", ";", "<", ">", "&"}

#: Commands that look at nothing in the folder: once in a session is enough.
INDEPENDENT: dict[str, list[str]] = {}


def failures(text: str, folder: Path, run: Path, name: str = "page") -> list[str]:
    """Run a page; every problem is one text that begins with its line.

    Args:
        text: the page.
        folder: an empty folder.
        run: a finished run, to be copied where the page takes one for granted.
        name: of the page, for messages.
    """
    # Copied, since a page may write beside them.
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(ROOT / "examples" / "configs" / "my_training.yaml", folder)
    before = Path.cwd()
    namespace: dict[str, Any] = {"__name__": "__page__"}
    problems = []
    try:
        os.chdir(folder)
        for block in blocks(text):
            found = faults_of(block)
            if not found and block.mark != "not run":
                _provide(block, folder, run)
                found = _run(block, namespace, folder)
            problems += [f"{name}:{block.line}: {each}" for each in found]
    finally:
        os.chdir(before)
    return problems


def faults_of(block: Block) -> list[str]:
    """What is wrong with the commands of a block before any of them is run."""
    if not block.is_shell:
        return []
    return [fault for command in block.commands() for fault in _faults(command)]


def faults_of_line(line: str) -> list[str]:
    """The same of a single command."""
    return list(_faults(Command(line, [])))


def _provide(block: Block, folder: Path, run: Path) -> None:
    for name in RUNS:
        place = folder / name
        makes_it = re.search(rf"--run-dir {name}\b|run_dir=\"{name}\"", block.text)
        if re.search(rf"(?<![\w/]){name}\b", block.text) and not makes_it and not place.exists():
            shutil.copytree(run, place)


def _run(block: Block, namespace: dict[str, Any], folder: Path) -> list[str]:
    if block.mark == "file":
        (folder / block.note).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.note).write_text(block.text, "utf-8")
    if block.language == "yaml":
        return _loaded(block, folder)
    if block.is_python:
        return _python(block, namespace)
    if not block.is_shell:
        return []
    found = []
    for command in block.commands():
        if not command.is_synopsis:
            found += _command(command, block, folder)
    return found


def _loaded(block: Block, folder: Path) -> list[str]:
    """A profile file is one that the library reads."""
    path = folder / (block.note if block.mark == "file" else "block.yaml")
    path.write_text(block.text, "utf-8")
    try:
        load_profile(path)
    except ValueError as error:
        return [str(error)]
    return []


def _python(block: Block, namespace: dict[str, Any]) -> list[str]:
    said, text = io.StringIO(), block.text
    if block.mark == "run with":
        for key, value in _pairs(block.note):
            text, times = re.subn(rf'("{re.escape(key)}": )[^,}}]+', rf"\g<1>{value}", text)
            if times != 1:
                return [f"the block sets {key} {times} times, and is to be run with {value}"]
    if ">>> " not in text:
        try:
            with contextlib.redirect_stdout(said):
                exec(compile(text, f"line {block.line}", "exec"), namespace)  # noqa: S102
        except Exception:  # whatever a reader would see
            return [traceback.format_exc(limit=-2)]
        return []
    test = doctest.DocTestParser().get_doctest(text, namespace, "block", None, block.line)
    # The namespace is the page's, which the test would copy, and clear at the end.
    test.globs = namespace
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=said.write, clear_globs=False)
    return [said.getvalue()] if runner.failures else []


# --- commands -----------------------------------------------------------------------------------


def _command(command: Command, block: Block, folder: Path) -> list[str]:
    line, _, target = command.line.partition(" > ")
    words = shlex.split(line, comments=True)
    if words[:3] == ["python", "-m", "ternvae"]:
        words = ["ternvae", *words[3:]]
    if words[0] == "make":
        return []  # its targets were looked up
    if words[0] == "cp" and len(words) == 3:
        shutil.copy(folder / words[1], folder / words[2])
        return []
    if words[0] != "ternvae" or JOINTS & set(words):
        return [f"`{command.line}` cannot be run here; mark the block with a reason"]
    if words[1:2] == ["train"]:
        if block.mark != "run with":
            return [f"`{command.line}` trains at full length; mark the block with `run with`"]
        words = shortened(words, block.note)
    said = _output_of(words[1:])
    if isinstance(said, str):
        return [f"`{command.line}`: {said}"]
    if target:
        (folder / target.split()[0]).write_text("".join(f"{each}\n" for each in said), "utf-8")
    shown = [each.rstrip() for each in command.output]
    if shown and not doctest.OutputChecker().check_output(
        "\n".join(shown).rstrip() + "\n", "\n".join(said).rstrip() + "\n", doctest.ELLIPSIS
    ):
        return ["\n".join([f"`{command.line}` printed", *said, "and not", *shown])]
    return []


def _pairs(note: str) -> list[tuple[str, str]]:
    """Keys and values of a mark: ``--KEY VALUE ...``."""
    words = shlex.split(note)
    return [(flag[2:], value) for flag, value in zip(words[::2], words[1::2], strict=True)]


def shortened(words: list[str], note: str) -> list[str]:
    """A command with the settings of a mark: those it has are replaced, the others added."""
    words = list(words)
    for key, value in _pairs(note):
        flag = f"--{key}"
        if flag in words:
            words[words.index(flag) + 1] = value
        else:
            words += [flag, value]
    return words


def _output_of(words: list[str]) -> list[str] | str:
    """Lines that ``ternvae`` prints, or what went wrong."""
    known = words[0] in ("validate", "profiles") and len(words) < 4
    if known and " ".join(words) in INDEPENDENT:
        return INDEPENDENT[" ".join(words)]
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = main(words)
    if status != 0:
        return f"exit status {status}: {complained.getvalue().strip()}"
    lines = [line.rstrip() for line in said.getvalue().splitlines()]
    if known:
        INDEPENDENT[" ".join(words)] = lines
    return lines


# --- what a command names exists ----------------------------------------------------------------


def _faults(command: Command) -> Iterator[str]:
    try:
        words = command.words
        words = words[: next((i for i, word in enumerate(words) if word in JOINTS), None)]
    except ValueError as error:
        yield f"`{command.line}`: {error}"
        return
    if "ternvae" in words[:1] or _after(words, "-m")[:1] == ["ternvae"]:
        words = words[1:] if words[0] == "ternvae" else _after(words, "-m")[1:]
        yield from _unknown_to_ternvae(words, command.line)
    elif words and words[0] in CHECKS:
        yield from CHECKS[words[0]](words, command.line)


def _after(words: list[str], word: str) -> list[str]:
    return words[words.index(word) + 1 :] if word in words else []


def _unknown_to_ternvae(words: list[str], line: str) -> Iterator[str]:
    """Each command, flag and key of a line exists."""
    if not words or words[0].startswith("-"):
        known, given = {"--version", "--help", "-h"}, words
    elif words[0] not in cli.commands:
        if words[0] != "COMMAND":
            yield f"`{line}`: there is no command {words[0]}"
        return
    else:
        options = cli.commands[words[0]].params
        known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        known |= {"--help", "-h"}
        if words[0] == "train":
            known |= {f"--{key}" for key in profile_keys()} | {"--SECTION.KEY", "--KEY"}
        given = words[1:]
    for word in given:
        if word.startswith("-") and not re.match(r"-\d", word) and word.split("=")[0] not in known:
            yield f"`{line}`: there is no {word}"


def _unknown_script(words: list[str], line: str) -> Iterator[str]:
    """A script exists, and mentions each flag."""
    if len(words) < 2 or words[1].startswith("-"):
        return
    script = ROOT / words[1]
    if not script.is_file():
        if "/" in words[1]:
            yield f"`{line}`: there is no file {words[1]}"
        return
    sources = "".join(each.read_text() for each in script.parent.glob("*.py"))
    for word in words[2:]:
        if word.startswith("--") and f'"{word}"' not in sources:
            yield f"`{line}`: {words[1]} has no {word}"


def _unknown_target(words: list[str], line: str) -> Iterator[str]:
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        if "=" not in word and not re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE):
            yield f"`{line}`: the Makefile has no target {word}"


def _unknown_extra(words: list[str], line: str) -> Iterator[str]:
    setup = (ROOT / "setup.cfg").read_text()
    for extra in re.findall(r"\[([\w,]+)\]", line):
        for name in extra.split(","):
            if not re.search(rf"^{name} = *$", setup, re.MULTILINE):
                yield f"`{line}`: setup.cfg has no extra {name}"


def _unknown_path(words: list[str], line: str) -> Iterator[str]:
    for word in words[1:]:
        if "/" in word and not (ROOT / word.partition("::")[0]).exists():
            yield f"`{line}`: there is no file {word}"


CHECKS: Mapping[str, Callable[[list[str], str], Iterator[str]]] = {
    "python": _unknown_script,
    "python3": _unknown_script,
    "make": _unknown_target,
    "pip": _unknown_extra,
    "pytest": _unknown_path,
}
