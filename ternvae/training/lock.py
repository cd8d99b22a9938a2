"""One process at a time writes to the folder of a run."""

from __future__ import annotations

import errno
import json
import os
import platform
from datetime import datetime
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["FolderInUseError", "FolderLock"]

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderInUseError(ValueError):
    """Another process holds the lock; the text says which."""


class FolderLock:
    """A lock that lives as long as the process that holds it.

    It is the operating system's lock on a file, which also says who holds it.  The system lets go
    of it when the process ends, however that happens, so the file of a dead process locks nothing,
    and no process number has to be judged that may long be another's.

    Args:
        path: the file; it stays when the lock is released.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock.

        Returns:
            Whether it protects: False where the system or the file system knows no such locks.

        Raises:
            FolderInUseError: another process, or another run in this one, holds it.
            OSError: the file cannot be made.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            protects = self._lock(descriptor)
            note = {"pid": os.getpid(), "host": platform.node(), "since": _now()}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, (json.dumps(note) + "\n").encode())
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return protects

    def release(self) -> None:
        """Let go of the lock; without one nothing happens."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> bool:
        if fcntl is None:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(self._holder()) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        return True

    def _holder(self) -> str:
        """Who holds the lock, as far as the file says."""
        try:
            note = json.loads(self._path.read_text(encoding="utf-8"))
            return f"process {note['pid']} on {note['host']} since {note['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
