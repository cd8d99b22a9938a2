"""The files of a run: one folder that says what was run, what came of it, and how to go on."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ternvae.checkpoint import copy_whole, save_checkpoint, write_whole
from ternvae.checkpoint.durable import PARTIAL, sync_folder
from ternvae.training.inventory import Inventory
from ternvae.training.lock import FolderInUseError, FolderLock
from ternvae.training.record import Record
from ternvae.training.saving import SaveError, saving

__all__ = ["RunDirectory", "RunDirectoryError", "new_run_path"]

#: Reasons that lie in the path that was given, and not in the machine.
_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP),
)


class RunDirectoryError(ValueError):
    """A run cannot use the directory that it was given."""


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
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best_Q.pt"
        self.last = self.checkpoints / "last.pt"
        self.tensorboard = self.path / "tensorboard"
        self.log_record = Record(self.log)
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
            begun = not resuming and (self.profile.exists() or self.checkpoints.exists())
            if begun and not self._is_empty():
                raise RunDirectoryError(
                    f"run directory {self.path}: holds a run already; name another one, or go on "
                    f"with that run from {self.last}"
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

    def open(
        self,
        profile_yaml: str,
        *,
        resume_epoch: int | None,
        sizes: Mapping[str, int] | None = None,
    ) -> bool:
        """Lock the folder, create what is in it, and take out what a resumed run does again.

        Args:
            profile_yaml: the resolved profile.
            resume_epoch: last epoch of the run in this folder that is kept, or None for a new run.
            sizes: bytes of ``train.log`` and ``metrics.jsonl`` that are kept, by name; without them
                all of the log, and the lines of the kept epochs.

        Returns:
            Whether the folder is protected against a second process.

        Raises:
            RunDirectoryError: the folder is in use, holds another run or is no place for one.
            SaveError: it cannot be written.
        """
        resuming = resume_epoch is not None
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
            with self._judged(resuming):
                self._prepare(profile_yaml)
            self._cut(resume_epoch, sizes or {})
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
        # What an earlier process was writing when it was killed.
        for name in (self.profile, self.history, self.summary, *self._checkpoint_files()):
            name.with_name(name.name + PARTIAL).unlink(missing_ok=True)
        write_whole(self.profile, lambda file: file.write(profile_yaml.encode()))
        self._history_record.sync()
        for folder in (self.path, self.path.parent):
            sync_folder(folder)

    def _checkpoint_files(self) -> list[Path]:
        """All that may have been written, whether or not its writing was finished."""
        partial = self.checkpoints.glob(f"*epoch_*.pt{PARTIAL}")
        names = {"best_Q.pt", "last.pt", "SHA256SUMS"}
        names |= {path.name.removesuffix(PARTIAL) for path in partial}
        return [self.checkpoints / name for name in sorted(names)]

    def _cut(self, resume_epoch: int | None, sizes: Mapping[str, int]) -> None:
        """Take out of the records what comes after the checkpoint, and set it aside."""
        if resume_epoch is None:
            # Of a run that was killed before its first checkpoint.
            self.log_record.cut(0, self._aside)
            return
        for record in (self.log_record, self._history_record):
            if record.path.name in sizes:
                record.cut(sizes[record.path.name], self._aside)
        size = 0
        for line in self.history.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n") or _epoch_of(line) > resume_epoch:
                break
            size += len(line)
        self._history_record.cut(size, self._aside)

    # --- on the way -------------------------------------------------------------------------

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        self._history_record.add(_json(record) + "\n", durable=True)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``metrics.json``."""
        with saving(self.summary):
            write_whole(self.summary, lambda file: file.write((_json(summary, 2) + "\n").encode()))

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
        self._duplicate(first, others)
        with saving(self.checkpoints):
            self._inventory.enter(*paths)
            self._inventory.remove(dropped)
            self._inventory.write()

    def repeat(self, source: Path, *paths: Path) -> None:
        """Write an existing checkpoint under other names as well."""
        if not paths:
            return
        self._duplicate(source, paths)
        with saving(self.checkpoints):
            self._inventory.enter(*paths)
            self._inventory.write()

    def set_aside(self, path: Path) -> None:
        """Keep a checkpoint that is going to be replaced by an earlier one, if it is there."""
        with saving(self._aside):
            if path.is_file():
                self._aside.mkdir(exist_ok=True)
                copies = len(list(self._aside.glob(f"{path.stem}*{path.suffix}")))
                copy_whole(path, self._aside / f"{path.stem}_{copies + 1}{path.suffix}")

    def _duplicate(self, source: Path, paths: Iterable[Path]) -> None:
        for path in paths:
            with saving(path):
                copy_whole(source, path)

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
