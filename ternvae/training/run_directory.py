"""The files of a run: one folder that says what was run, what came of it, and how to go on."""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from ternvae.checkpoint import copy_whole, save_checkpoint, write_whole
from ternvae.checkpoint.durable import PARTIAL, sync_folder
from ternvae.training.inventory import Inventory, file_digest
from ternvae.training.lock import FolderInUseError, FolderLock
from ternvae.training.record import Record
from ternvae.training.saving import SaveError, saving

__all__ = ["ResumePoint", "RunDirectory", "RunDirectoryError", "new_run_path"]

#: Reasons that lie in the path that was given, and not in the machine.
_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP),
)


#: Names that a run gives to checkpoints, and to copies that it sets aside.
_CHECKPOINT = re.compile(r"(best_Q|last|(best_)?epoch_\d+)(_\d+)?\.pt")


class RunDirectoryError(ValueError):
    """A run cannot use the directory that it was given."""


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on in its own folder.

    Attributes:
        path: the checkpoint.
        digest: SHA-256 of the file as it was read.
        epoch: last epoch that is kept.
        sizes: bytes of ``train.log`` and ``metrics.jsonl`` that are kept, by name; without them all
            of the log, and the lines of the kept epochs.
    """

    path: Path
    digest: str
    epoch: int
    sizes: Mapping[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ``RunDirectoryError`` if the file is no longer the one that was read."""
        if not self.path.is_file() or file_digest(self.path) != self.digest:
            raise RunDirectoryError(
                f"{self.path}: was replaced by another process since it was read; start again"
            )


def new_run_path(name: str, seed: int) -> Path:
    """A folder in ``runs/`` that does not exist yet, named after profile, seed and time."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{name}-seed{seed}-{stamp}"
    attempt = 1
    while path.exists():
        attempt += 1
        path = path.with_name(f"{name}-seed{seed}-{stamp}-{attempt}")
    return path


class RunDirectory:
    """Names and writes the files of a run.

    ::

        profile.yaml     the resolved profile, enough to repeat the run
        metrics.jsonl    one object per evaluated epoch
        metrics.json     the final summary
        train.log        the same lines as the terminal
        report.html      the page of the run, if wanted
        checkpoints/     best_Q.pt, last.pt, epoch_020.pt ..., best_epoch_035.pt ..., SHA256SUMS
        tensorboard/     event files, if wanted
        set_aside/       what a resumption took out of train.log and metrics.jsonl, or replaced
        lock             who is writing here, or did last

    Nothing is created before :meth:`open`, and one process at a time can have it open.

    Args:
        path: the folder; made if missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.profile = self.path / "profile.yaml"
        self.history = self.path / "metrics.jsonl"
        self.summary = self.path / "metrics.json"
        self.log = self.path / "train.log"
        self.report = self.path / "report.html"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best_Q.pt"
        self.last = self.checkpoints / "last.pt"
        self.tensorboard = self.path / "tensorboard"
        self.log_record = Record(self.log)
        #: What was odd on opening.
        self.notes: list[str] = []
        self._aside = self.path / "set_aside"
        self._history_record = Record(self.history)
        self._inventory = Inventory(self.checkpoints)
        self._lock = FolderLock(self.path / "lock")

    def numbered(self, epoch: int) -> Path:
        """Where the checkpoint of an epoch goes."""
        return self.checkpoints / f"epoch_{epoch:03d}.pt"

    def good(self, epoch: int) -> Path:
        """Where the model of an epoch goes that is among the best."""
        return self.checkpoints / f"best_epoch_{epoch:03d}.pt"

    def holds(self, checkpoint: str | Path) -> bool:
        """Whether a file is one of this folder's checkpoints."""
        return Path(checkpoint).resolve().parent == self.checkpoints.resolve()

    # --- beginning and end ------------------------------------------------------------------

    def check(self, *, resuming: bool) -> None:
        """Raise if the directory holds another run or cannot be one.

        A run that was killed before its first checkpoint has nothing to lose; its folder is free.

        Args:
            resuming: whether the run in the folder is the one that goes on.

        Raises:
            RunDirectoryError: the path is no possible folder, or a run is there already.
        """
        if bad := next((c for c in str(self.path) if not c.isprintable()), None):
            raise RunDirectoryError(
                f"run directory {str(self.path)!r}: must not contain the character U+{ord(bad):04X}"
            )
        try:
            if self.path.exists() and not self.path.is_dir():
                raise RunDirectoryError(f"run directory {self.path}: is a file; name a folder")
            signs = (self.profile, self.checkpoints, self.history, self.summary)
            begun = not resuming and any(path.exists() for path in signs)
            if begun and not self._is_empty():
                way_on = f", or go on with that run from {self.last}" if self.last.exists() else ""
                raise RunDirectoryError(
                    f"run directory {self.path}: holds a run already; name another one{way_on}"
                )
        except OSError as error:
            raise RunDirectoryError(f"run directory {self.path}: {error.strerror}") from error

    def _is_empty(self) -> bool:
        """Whether a run began here, which its lock shows, and has left nothing."""
        return (
            (self.path / "lock").exists()
            and not self.summary.exists()
            and not (self.history.exists() and self.history.stat().st_size)
            and not any(self.checkpoints.glob("*.pt"))
        )

    def is_finished(self) -> bool:
        """Whether the summary says that all epochs are done."""
        return self._stop_reason() == "epochs"

    def _stop_reason(self) -> object:
        """What the summary says of the end of the run; None if there is none that can be read."""
        try:
            return json.loads(self.summary.read_text(encoding="utf-8"))["stop_reason"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def open(self, profile_yaml: str, resumed: ResumePoint | None = None) -> bool:
        """Lock the folder, create what is in it, and take out what a resumed run does again.

        Args:
            profile_yaml: the resolved profile.
            resumed: where the run of this folder goes on; None for a new run.

        Returns:
            Whether the folder is protected against a second process.

        Raises:
            RunDirectoryError: the folder is in use, holds another run or is no place for one.
            SaveError: it cannot be written.
        """
        resuming = resumed is not None
        self.check(resuming=resuming)
        with self._judged(resuming):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                protected = self._lock.acquire()
            except FolderInUseError as error:
                raise RunDirectoryError(
                    f"run directory {self.path}: {error} is writing to it; wait for it to end, or "
                    "name another directory"
                ) from error
        try:
            self.check(resuming=resuming)
            if resumed is not None:
                resumed.check()
            with self._judged(resuming):
                self._prepare(profile_yaml)
            self._go_back(resumed)
        except BaseException:
            self._lock.release()
            raise
        return protected

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.release()

    @contextmanager
    def _judged(self, resuming: bool) -> Iterator[None]:
        """A block that writes first: tell a wrong path from a machine that cannot write now."""
        try:
            with saving(self.path):
                yield
        except SaveError as error:
            cause = error.__cause__
            if not resuming and isinstance(cause, OSError) and cause.errno in _UNUSABLE:
                raise RunDirectoryError(f"run directory {self.path}: {cause.strerror}") from error
            raise

    def _prepare(self, profile_yaml: str) -> None:
        self.checkpoints.mkdir(exist_ok=True)
        self._inventory.read()
        for leftover in self._leftovers():
            leftover.unlink()
        self._set_aside_unless(self.profile, profile_yaml.encode())
        # It is no end any more.  Of an interruption the checkpoint knows as much.
        if self._stop_reason() != "interrupted":
            self.set_aside(self.summary)
        self.summary.unlink(missing_ok=True)
        # Nor is it the page of what the run becomes.
        self.set_aside(self.report)
        self.report.unlink(missing_ok=True)
        write_whole(self.profile, lambda file: file.write(profile_yaml.encode()))
        self._history_record.sync()
        for folder in (self.path, self.path.parent):
            sync_folder(folder)

    def _leftovers(self) -> list[Path]:
        """What an earlier process was writing when it was killed."""
        sums = self.checkpoints / "SHA256SUMS"
        names = (self.profile, self.history, self.summary, self.report, sums)
        return [
            *(path for name in names if (path := name.with_name(name.name + PARTIAL)).exists()),
            *(
                path
                for folder in (self.checkpoints, self._aside)
                for path in folder.glob(f"*.pt{PARTIAL}")
                if _CHECKPOINT.fullmatch(path.name.removesuffix(PARTIAL))
            ),
        ]

    def _go_back(self, resumed: ResumePoint | None) -> None:
        """Make the folder one of a run that has come as far as the checkpoint, and no further.

        First ``last.pt``: should this be cut short, the run goes on from there.
        """
        if resumed is None:
            # Of a run that was killed before its first checkpoint.
            self.log_record.cut(0, self._aside)
            return
        if resumed.path.name != self.last.name:
            for path in (self.last, self.best):
                self.set_aside(path)
            self.repeat(resumed.path, self.last)
        for record in (self.log_record, self._history_record):
            name = record.path.name
            if record.ends_line_at(resumed.sizes.get(name, 0)):
                record.cut(resumed.sizes.get(name, 10**18), self._aside)
            else:
                self.notes.append(f"{name} is not as the checkpoint knew it, and stays as it is")
        size = 0
        for line in self.history.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n") or _epoch_of(line) > resumed.epoch:
                break
            size += len(line)
        self._history_record.cut(size, self._aside)

    # --- on the way -------------------------------------------------------------------------

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        self._history_record.add(_json(record) + "\n", durable=True)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``metrics.json``, once the log is on the disk."""
        self.log_record.sync()
        content = (_json(summary, 2) + "\n").encode()
        try:
            with saving(self.summary):
                write_whole(self.summary, lambda file: file.write(content))
        except SaveError:
            with suppress(OSError):  # one that may not last must not say that the run has ended
                self.summary.unlink(missing_ok=True)
            raise

    def save(self, contents: dict[str, Any], *paths: Path, dropped: Iterable[Path] = ()) -> None:
        """Write the same checkpoint under each of the names, then remove what it replaces.

        Args:
            contents: see :func:`ternvae.checkpoint.save_checkpoint`.
            paths: the files, at least one.
            dropped: earlier files of this run that are no longer wanted; a file that is not as this
                run wrote it stays.

        Raises:
            SaveError: a file cannot be written; every earlier one is as it was.
        """
        first, *others = paths
        records = (self.log_record, self._history_record)
        sizes = {record.path.name: record.sync() for record in records}
        with saving(first):
            save_checkpoint(first, {**contents, "record_bytes": sizes})
            self._inventory.enter(first)
        self.repeat(first, *others, dropped=dropped)

    def repeat(self, source: Path, *paths: Path, dropped: Iterable[Path] = ()) -> None:
        """Write an existing checkpoint under other names as well, where it is not there already.

        Args:
            source: the checkpoint.
            paths: the names.
            dropped: see :meth:`save`.
        """
        for path in paths:
            with saving(path):
                if path != source:
                    copy_whole(source, path)
                self._inventory.enter(path)
        with saving(self.checkpoints):
            self._inventory.remove(dropped)
            self._inventory.write()

    def set_aside(self, path: Path) -> None:
        """Keep a copy of a file that is going to be replaced by an earlier one, if it is there."""
        with saving(self._aside):
            if path.is_file():
                self._aside.mkdir(exist_ok=True)
                names = (f"{path.stem}_{k}{path.suffix}" for k in count(1))
                copy_whole(
                    path, next(p for name in names if not (p := self._aside / name).exists())
                )

    def _set_aside_unless(self, path: Path, content: bytes) -> None:
        if path.is_file() and path.read_bytes() != content:
            self.set_aside(path)

    def superseded(self, kept: Iterable[int]) -> list[Path]:
        """Files of good models that this run wrote and that are not among those epochs."""
        names = {self.good(epoch).name for epoch in kept}
        return [
            self.checkpoints / name
            for name in self._inventory.names()
            if name.startswith("best_epoch_") and name not in names
        ]


def _epoch_of(line: bytes) -> float:
    """The epoch of a line of ``metrics.jsonl``; infinite if the line is none."""
    try:
        return float(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
