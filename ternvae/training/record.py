"""Text files that a run adds to, line by line, and that lose nothing when the disk is full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ternvae.training.saving import SaveError, saving

__all__ = ["Record", "RecordHandler"]


class Record:
    """A file that lines are added to.

    A line that cannot be written is kept and comes first the next time, and what there is of it in
    the file is taken back, so the file never holds half a line or a gap.

    Args:
        path: the file; made when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten = b""

    def add(self, text: str, *, durable: bool = False) -> None:
        """Add lines.

        Args:
            text: whole lines.
            durable: whether they have to be on the disk, and not only with the operating system,
                when this returns.

        Raises:
            SaveError: they cannot be written now.
        """
        self._unwritten += text.encode()
        with saving(self.path), self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                left = self._unwritten
                while left:
                    left = left[file.write(left) :]
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                _take_back(file.fileno(), before)
                raise
        self._unwritten = b""

    def sync(self) -> int:
        """Put everything on the disk; returns the size of the file in bytes."""
        self.add("", durable=True)
        with saving(self.path):
            return self.path.stat().st_size

    def cut(self, size: int, aside: Path | None = None) -> str:
        """Shorten the file to a size that it had once, and return what came after.

        A file that is shorter, or that has no line ending there, is not the one that was meant; it
        stays as it is.

        Args:
            size: the size in bytes.
            aside: a folder in which a file of the same name gets what is cut off, before it is.

        Raises:
            SaveError: a file cannot be written.
        """
        if not self.path.is_file():
            return ""
        content = self.path.read_bytes()
        if size >= len(content) or (size and content[size - 1 : size] != b"\n"):
            return ""
        tail = content[size:].decode(errors="replace")
        if aside is not None:
            with saving(aside):
                aside.mkdir(exist_ok=True)
            Record(aside / self.path.name).add(tail.removesuffix("\n") + "\n", durable=True)
        with saving(self.path):
            os.truncate(self.path, size)
        return tail


def _take_back(descriptor: int, size: int) -> None:
    """Tidy up; what prevented the writing may prevent this too, and is what is to be told."""
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        return


class RecordHandler(logging.Handler):
    """Log lines into a record.

    Args:
        record: where to.
        patient: whether lines that cannot be written wait for the next ones without an error; a
            handler of the standard library would print a traceback and lose them.

    Attributes:
        patient: as given; can be changed.
    """

    def __init__(self, record: Record, *, patient: bool) -> None:
        super().__init__()
        self._record = record
        self.patient = patient

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line."""
        try:
            self._record.add(self.format(record) + "\n")
        except SaveError:
            if not self.patient:
                raise
