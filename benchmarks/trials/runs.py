"""What the torture trials share: a small run, how it is made, and whether two are the same."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from records import Claim

from ternvae.checkpoint import CheckpointError, load_checkpoint
from trials.watch import CHILD

__all__ = [
    "KEPT",
    "SMALL",
    "Ended",
    "counted",
    "differences",
    "in_process",
    "last_of",
    "orphans",
    "run_process",
    "start_process",
    "train_command",
    "unreadable",
    "weights_differ",
]

#: A run of a few seconds in which everything that can be saved is in use.
SMALL = {
    "space.n_digits": "4",
    "training.batch_size": "36",
    "training.epochs": "18",
    "model.hidden_dim": "8",
    "model.latent_dim": "3",
    "model.dropout": "0.1",
    "model.enhanced_controller": "true",
    "curriculum.enabled": "true",
    "curriculum.coverage_first_epochs": "4",
    "curriculum.hierarchy_ramp_epochs": "8",
    "curriculum.richness_preserve_epochs": "4",
    "monitoring.detailed_metrics_every_n_epochs": "2",
    "checkpointing.save_every_n_epochs": "3",
    "monitoring.report": "false",
    "targets.coverage": "0.02",
}

#: Seconds after which a process that should have ended counts as hanging.
PATIENCE = 300

#: What differences in the set of checkpoints begin with.
KEPT = "files"

#: Lines of a log that may differ between runs that are the same.
_OF_ONE_LIFE = re.compile(r"Resumed |Run directory|Best model|Stopped on request")


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, negative for a signal, and what it said."""

    status: int
    out: str
    err: str

    def refusal_fault(self, status: int) -> str | None:
        """Why this is no clear end with this status and one line of explanation; None if it is."""
        if "Traceback" in self.out + self.err:
            return f"a traceback: {self.err[-300:]!r}"
        if self.status != status:
            return f"exit status {self.status} and not {status}: {self.err[-300:]!r}"
        # What torch or Python say by themselves would be a line of its own.
        lines = self.err.splitlines()
        return None if len(lines) == 1 else f"{len(lines)} lines on standard error: {self.err!r}"


def train_command(settings: dict[str, str], run_dir: Path, checkpoint: Path | None) -> list[str]:
    """``train`` with these keys, resumed if there is a checkpoint."""
    where = ["train", "--device", "cpu", "--run-dir", str(run_dir)]
    if checkpoint is not None:
        return [*where, "--checkpoint", str(checkpoint)]
    return [*where, *(text for key, value in settings.items() for text in (f"--{key}", value))]


def start_process(
    command: Sequence[str], output: Path, orders: dict[str, Any], prefix: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start ``ternvae`` in a session of its own; its output goes to ``output`` .out and .err.

    Args:
        command: what comes after ``ternvae``.
        output: path without suffix.
        orders: for the child, see :func:`trials.watch.main`.
        prefix: the command that runs it, if it is run by another one.
    """
    start = [str(CHILD), json.dumps(orders)] if orders else ["-m", "ternvae"]
    with output.with_suffix(".out").open("wb") as out, output.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            [*prefix, sys.executable, *start, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def ended(process: subprocess.Popen[bytes], output: Path) -> Ended:
    """Wait for a process of :func:`start_process`."""
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    out, err = (
        output.with_suffix(suffix).read_text(encoding="utf-8", errors="replace")
        for suffix in (".out", ".err")
    )
    return Ended(status, out, err)


def run_process(
    command: Sequence[str], output: Path, orders: dict[str, Any], prefix: Sequence[str] = ()
) -> Ended:
    """Start a process and wait for it."""
    return ended(start_process(command, output, orders, prefix), output)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A block in which torch computes with one thread, as the processes do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_process(command: Sequence[str]) -> Ended:
    """Run ``ternvae`` in this process; an exception that escapes is told as Python would."""
    from ternvae import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), one_thread():
        try:
            status = cli.main(list(command))
        except Exception as error:
            print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
            status = 1
    return Ended(status, out.getvalue(), err.getvalue())


def last_of(run: Path) -> Path | None:
    """The checkpoint to go on from, if there is one."""
    last = run / "checkpoints" / "last.pt"
    return last if last.is_file() else None


# --- whether two runs are the same ----------------------------------------------------------


def differences(reference: Path, run: Path) -> list[str]:
    """What of a run that was interrupted is not as in the one that was not; empty if nothing.

    Args:
        reference: folder of the run that was left alone.
        run: folder of the other one.
    """
    checks: dict[str, Callable[[Path, Path], str | None]] = {
        "metrics.json": lambda one, other: _unequal(_summary(one), _summary(other)),
        "metrics.jsonl": lambda one, other: _unequal_lines(_history(one), _history(other)),
        "train.log": lambda one, other: _unequal_lines(_log(one), _log(other)),
        "checkpoints": _unequal_checkpoints,
        KEPT: _other_files,
        "best_Q.pt": lambda _, other: _misnamed_best(other),
        "leftovers": lambda _, other: orphans(other),
        "SHA256SUMS": lambda _, other: _wrong_sums(other),
    }
    found: list[str] = []
    for what, check in checks.items():
        try:
            difference = check(reference, run)
        except (OSError, CheckpointError, LookupError, ValueError) as error:
            difference = f"{type(error).__name__}: {error}"
        if difference:
            found.append(f"{what}: {difference}")
    return found


def _text(run: Path, name: str) -> list[str]:
    return (run / name).read_text(encoding="utf-8").splitlines()


def _history(run: Path) -> list[str]:
    return _text(run, "metrics.jsonl")


def _log(run: Path) -> list[str]:
    lines = [line for line in _text(run, "train.log") if not _OF_ONE_LIFE.match(line)]
    return [re.sub(r"\d+\.\d+ s\b", "... s", line) for line in lines]


def _summary(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in summary.items() if key != "seconds"}


def _unequal_lines(wanted: list[str], found: list[str]) -> str | None:
    for number, (one, other) in enumerate(zip(wanted, found, strict=False), start=1):
        if one != other:
            return f"line {number} is {other[:100]!r}, uninterrupted {one[:100]!r}"
    if len(wanted) != len(found):
        return f"{len(found)} lines, uninterrupted {len(wanted)}"
    return None


def _checkpoints(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("*.pt")}


def _other_files(reference: Path, run: Path) -> str | None:
    """Checkpoints that only one of the runs has, or that the list of checksums does not know."""
    wanted, there = _checkpoints(reference), _checkpoints(run)
    found = [f"{name} is missing" for name in sorted(wanted - there)]
    found += [f"{name} is left over" for name in sorted(there - wanted)]
    found += [f"{name} is not in SHA256SUMS" for name in sorted(there - _sums(run).keys())]
    return ", ".join(found) or None


def _sums(run: Path) -> dict[str, str]:
    """Digests by name, as listed."""
    lines = _text(run / "checkpoints", "SHA256SUMS")
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _unequal_checkpoints(reference: Path, run: Path) -> str | None:
    """Every checkpoint but for times, and sizes of a log that says how often it was resumed."""
    one_has, other_has = _checkpoints(reference), _checkpoints(run)
    if "last.pt" not in other_has:
        return "there is no last.pt"
    for name in sorted(one_has & other_has):
        one, other = (load_checkpoint(each / "checkpoints" / name) for each in (reference, run))
        for each in (one, other):
            del each["record_bytes"], each["progress"]["seconds"]
        if path := _unequal(one, other):
            return f"{name}, {path}"
    return None


def weights_differ(reference: Path, run: Path) -> str | None:
    """Whether two runs ended with other weights, moments or figures."""
    names = ("model_state_dict", "optimizer_state_dict", "comprehensive_metrics", "epoch", "step")
    try:
        one, other = (
            load_checkpoint(each / "checkpoints" / "last.pt") for each in (reference, run)
        )
    except CheckpointError as error:
        return str(error)
    return _unequal({name: one[name] for name in names}, {name: other[name] for name in names})


def _misnamed_best(run: Path) -> str | None:
    """Whether best_Q.pt holds another model than the summary speaks of."""
    summary, best = _summary(run), run / "checkpoints" / "best_Q.pt"
    if summary["best_epoch"] is None:
        return "is there, and no model was evaluated" if best.exists() else None
    contents = load_checkpoint(best)
    if contents["epoch"] != summary["best_epoch"] or contents["step"]:
        return f"is of epoch {contents['epoch']}, the best one is {summary['best_epoch']}"
    return _unequal(
        json.loads(json.dumps(contents["comprehensive_metrics"])), summary["comprehensive_metrics"]
    )


def orphans(run: Path) -> str | None:
    """Files that were being written, if any are left."""
    return ", ".join(sorted(path.name for path in run.rglob("*.partial"))) or None


def _wrong_sums(run: Path) -> str | None:
    """What ``sha256sum --check`` would complain of."""
    for name, digest in _sums(run).items():
        path = run / "checkpoints" / name
        if not path.is_file():
            return f"{name} is listed and not there"
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"{name} is not as listed"
    return None


def unreadable(run: Path) -> str | None:
    """The checkpoints of a run that cannot be loaded, and why."""
    for path in sorted((run / "checkpoints").glob("*.pt")):
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            return str(error)
    return None


def _unequal(one: Any, other: Any, place: str = "") -> str | None:
    """Where two values of a checkpoint are not bit for bit the same."""
    if type(one) is not type(other):
        return f"{place} is of another type"
    if isinstance(one, dict):
        if list(one) != list(other) and one.keys() != other.keys():
            return f"{place} has other keys"
        pairs = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{place} has another length"
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return None if _same(one, other) else f"{place} is other"
    steps = (_unequal(a, b, f"{place}.{key}".lstrip(".")) for key, a, b in pairs)
    return next((found for found in steps if found), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and _bytes(one) == _bytes(other)
    return bool(one == other) or (one != one and other != other)


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def counted(
    statement: str, faults: Sequence[str | None], tell: Callable[[str], None], note: str = ""
) -> Claim:
    """A claim that every one of some trials was faultless; the first faults are told."""
    bad = [fault for fault in faults if fault is not None]
    for fault in bad[:5]:
        tell(f"FAULT: {statement}: {fault}")
    figure = f"{len(faults) - len(bad)} of {len(faults)}" + (f"; {note}" if note else "")
    return Claim(statement, figure, not bad and len(faults) > 0)
