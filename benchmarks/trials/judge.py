"""Bad input under watch: what became of it, and whether that is a refusal.

A refusal of the command line is exit status 2, nothing on standard output, and one printable line
``place: what`` per problem on standard error; a refusal of the library is a ``ValueError`` or a
``TypeError`` with a text.  Neither writes a file.  Everything else is a fault.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from records import Claim

__all__ = ["COMMAND", "Bench", "Case", "Outcome", "Tally", "call_fault", "command_fault"]

#: The program as a process; tests put a bad one in its place.
COMMAND = [sys.executable, "-m", "ternvae"]

#: Seconds after which a process has not refused anything: it is at work.
AT_WORK = 30.0

#: Failing cases that are told in full.
TOLD = 20

#: Characters of a case that are shown.
_SHOWN = 1500

_LINE = re.compile(r"(?P<place>\S.*?): (?P<what>\S.*)")


class Accepted(BaseException):
    """The program was about to work with what should have been refused."""


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        kind: what it counts for.
        broken: what is wrong with it.
        arguments: of a command line; None for a call.
        call: of the library; None for a command line.
        content: of the file ``bad.yaml`` that the case reads; None if it reads none.
        shown: how to repeat a call.
        got: whether a value is at fault, which the answer has to show.
    """

    kind: str
    broken: str
    arguments: tuple[str, ...] | None = None
    call: Callable[[], object] | None = None
    content: bytes | None = None
    shown: str = ""
    got: bool = False

    @property
    def what(self) -> str:
        """The input itself; two cases with the same one are the same."""
        parts = [] if self.arguments is None else [f"ternvae {list(self.arguments)!r}"]
        parts += [self.shown] if self.shown else []
        parts += [] if self.content is None else [f"bad.yaml {self.content!r}"]
        return ", ".join(parts)

    def __str__(self) -> str:
        what = self.what
        if len(what) > _SHOWN:
            what = f"{what[:_SHOWN]}... ({len(what)} characters)"
        return f"{self.broken}: {what}"


@dataclass
class Outcome:
    """What a command line did.

    Attributes:
        status: its exit status; None if it raised.
        out: standard output.
        err: standard error.
        raised: the exception that left it, if one did.
        accepted: whether it was about to train.
    """

    status: int | None = None
    out: str = ""
    err: str = ""
    raised: str = ""
    accepted: bool = False


def line_faults(text: str) -> list[str]:
    """What is wrong with the lines of a refusal."""
    lines = text.removesuffix("\n").split("\n")
    if not text.strip():
        return ["says nothing"]
    faults = [f"a line that is not printable: {line!r}" for line in lines if not line.isprintable()]
    faults += [f"a line without its place: {line!r}" for line in lines if not _LINE.fullmatch(line)]
    return faults


def command_fault(outcome: Outcome, *, got: bool = False) -> str | None:
    """Why a command line was not refused as it should be; None if it was.

    Args:
        outcome: what it did.
        got: whether some line has to show the offending value.
    """
    if outcome.accepted or outcome.status == 0:
        return "accepted"
    if outcome.raised:
        return f"raised {outcome.raised}"
    if "Traceback" in outcome.out + outcome.err:
        return "a traceback"
    if outcome.status != 2:
        return f"exit status {outcome.status}, {outcome.err[-200:]!r}"
    if outcome.out:
        return f"wrote {outcome.out[:200]!r} to standard output"
    if faults := line_faults(outcome.err):
        return faults[0]
    if got and not any(line.endswith(")") and "(got " in line for line in outcome.err.split("\n")):
        return f"the value is not shown: {outcome.err!r}"
    return None


def call_fault(call: Callable[[], object]) -> str | None:
    """Why a call of the library was not refused as it should be; None if it was."""
    from ternvae.config import ProfileError

    try:
        call()
    except ProfileError as error:
        return next(iter(line_faults(str(error))), None)
    except (ValueError, TypeError) as error:
        return None if str(error).strip() else f"{type(error).__name__} without a text"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return "accepted"


@dataclass
class Tally:
    """How many cases of each kind were refused; the first failing ones are told."""

    tell: Callable[[str], None]
    total: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    failing: int = 0

    def count(self, case: Case, fault: str | None) -> None:
        """Take note of one case."""
        self.total[case.kind] = self.total.get(case.kind, 0) + 1
        self.refused[case.kind] = self.refused.get(case.kind, 0) + (fault is None)
        if fault is not None:
            self.failing += 1
            if self.failing <= TOLD:
                self.tell(f"NOT REFUSED, {fault} | {case}")

    def claims(self) -> list[Claim]:
        """One claim per kind."""
        return [
            Claim(
                f"{kind} are refused",
                f"{self.refused[kind]:,} of {total:,} refused",
                self.refused[kind] == total > 0,
            )
            for kind, total in self.total.items()
        ]


class Bench:
    """Where cases are tried: an empty working folder, and beside it the files that are given.

    Args:
        scratch: a folder of its own.
        tell: gets a line per failing case, for the first of them.
    """

    def __init__(self, scratch: Path, tell: Callable[[str], None]) -> None:
        self.given = scratch.absolute() / "given"
        self.work = scratch.absolute() / "work"
        for folder in (self.given, self.work):
            folder.mkdir(parents=True)
        self.bad = self.given / "bad.yaml"
        self.bad.touch()
        self.tally = Tally(tell)
        self._before: frozenset[str] = frozenset()

    @contextlib.contextmanager
    def open(self) -> Iterator[Bench]:
        """Work in the empty folder, with a trainer that never trains; all given files are there."""
        from ternvae import trainer, validation

        def accept(*arguments: object, **keywords: object) -> Any:
            raise Accepted

        self._before = self._there()
        with (
            contextlib.chdir(self.work),
            mock.patch.object(trainer.Trainer, "fit", accept),
            mock.patch.object(validation, "run_checks", accept),
        ):
            yield self

    def judge(self, case: Case, *, process: bool = False) -> None:
        """Try one case and count it."""
        if case.content is not None:
            self.bad.write_bytes(case.content)
        if case.call is not None:
            fault = call_fault(case.call)
        else:
            arguments = case.arguments or ()
            outcome = self._as_process(arguments) if process else in_process(arguments)
            fault = command_fault(outcome, got=case.got)
        self.tally.count(case, fault or self._written())

    def _as_process(self, arguments: Sequence[str]) -> Outcome:
        try:
            done = subprocess.run(
                [*COMMAND, *arguments],
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                timeout=AT_WORK,
            )
        except subprocess.TimeoutExpired:
            return Outcome(accepted=True)
        out, err = (each.decode(errors="backslashreplace") for each in (done.stdout, done.stderr))
        return Outcome(done.returncode, out, err)

    def _there(self) -> frozenset[str]:
        found = (entry.path for each in (self.given, self.work) for entry in os.scandir(each))
        return frozenset(found)

    def _written(self) -> str | None:
        """What is there that was not; it is removed, so that the next case starts as this one."""
        new = self._there() - self._before
        for path in map(Path, new):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return f"wrote {', '.join(Path(path).name for path in sorted(new))}" if new else None


def in_process(arguments: Sequence[str]) -> Outcome:
    """Run a command line in this process, as far as the first epoch."""
    from ternvae import cli

    out, err = io.StringIO(), io.StringIO()
    outcome = Outcome()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            outcome.status = cli.main(list(arguments))
        except Accepted:
            outcome.accepted = True
        except (Exception, SystemExit) as error:
            outcome.raised = f"{type(error).__name__}: {error}"
    outcome.out, outcome.err = out.getvalue(), err.getvalue()
    return outcome
