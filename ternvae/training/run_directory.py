"""The files of a run: one folder that says what was run, what came of it, and how to go on."""

from __future__ import annotations

import json
import logging
import math
from datetime import datetime
from pathlib import Path
from typing import Any

from ternvae.checkpoint import save_checkpoint, write_whole

__all__ = ["RunDirectory", "RunDirectoryError", "new_run_path"]


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
        checkpoints/     best_Q.pt, last.pt, epoch_020.pt ..., best_epoch_035.pt ...
        tensorboard/     event files, if wanted

    Nothing is created before :meth:`open`.

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

    def numbered(self, epoch: int) -> Path:
        """Where the checkpoint of an epoch goes."""
        return self.checkpoints / f"epoch_{epoch:03d}.pt"

    def good(self, epoch: int) -> Path:
        """Where the model of an epoch goes that is among the best."""
        return self.checkpoints / f"best_epoch_{epoch:03d}.pt"

    def check(self, *, resuming: bool) -> None:
        """Raise if the directory holds another run or cannot be one.

        Raises:
            RunDirectoryError: the path is a file, or a run is there already.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"run directory {self.path}: is a file; name a folder")
        if not resuming and (self.profile.exists() or self.checkpoints.exists()):
            raise RunDirectoryError(
                f"run directory {self.path}: holds a run already; name another one, or go on "
                f"with that run from {self.last}"
            )

    def open(self, profile_yaml: str, *, resume_epoch: int | None) -> None:
        """Create the folders and record the profile; on resuming, drop the epochs to be redone.

        Args:
            profile_yaml: the resolved profile.
            resume_epoch: last epoch that is kept, or None for a new run.

        Raises:
            RunDirectoryError: the folder holds another run or cannot be written.
        """
        self.check(resuming=resume_epoch is not None)
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_whole(self.profile, lambda file: file.write(profile_yaml.encode()))
            kept: list[str] = []
            if resume_epoch is not None and self.history.exists():
                for line in self.history.read_text().splitlines(keepends=True):
                    epoch = json.loads(line)["epoch"]
                    if epoch <= resume_epoch:
                        kept.append(line)
                    else:
                        # The run wrote this file too, of a model that is forgotten now.
                        self.good(epoch).unlink(missing_ok=True)
            write_whole(self.history, lambda file: file.write("".join(kept).encode()))
        except OSError as error:
            raise RunDirectoryError(f"run directory {self.path}: {error.strerror}") from error

    def log_handler(self) -> logging.Handler:
        """A handler that appends log lines to ``train.log``."""
        handler = logging.FileHandler(self.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(message)s"))
        return handler

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        with self.history.open("a", encoding="utf-8") as file:
            file.write(_json(record) + "\n")

    def make_best(self, epoch: int) -> None:
        """Make the model of an epoch that is among the best ones the best one."""
        content = self.good(epoch).read_bytes()
        write_whole(self.best, lambda file: file.write(content))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``metrics.json``."""
        write_whole(self.summary, lambda file: file.write((_json(summary, 2) + "\n").encode()))

    def save(self, contents: dict[str, Any], *names: Path) -> None:
        """Write the same checkpoint under each of the names."""
        for name in names:
            save_checkpoint(name, contents)


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
