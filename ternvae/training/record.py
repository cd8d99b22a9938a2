"""Text files that a run adds to, line by line, and that lose nothing when the disk is full."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
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
        self._whole: int | None = None

    def add(self, text: str | bytes, *, durable: bool = False) -> None:
        """Add lines.

        Args:
            text: whole lines.
            durable: whether they have to be on the disk, and not only with the operating system,
                when this returns.

        Raises:
            SaveError: they cannot be written now.
        """
        self._unwritten += text.encode() if isinstance(text, str) else text
        with saving(self.path), self.path.open("ab", buffering=0) as file:
            if self._whole is not None:
                os.ftruncate(file.fileno(), self._whole)
            # Until all is written, this is how much of the file is whole lines.
            self._whole = file.seek(0, os.SEEK_END)
            try:
                left = self._unwritten
                while left:
                    left = left[file.write(left) :]
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # then it is taken back before the next line
                    os.ftruncate(file.fileno(), self._whole)
                raise
        self._unwritten, self._whole = b"", None

    def sync(self) -> int:
        """Put everything on the disk; returns the size of the file in bytes."""
        self.add("", durable=True)
        with saving(self.path):
            return self.path.stat().st_size

    def ends_line_at(self, size: int) -> bool:
        """Whether the file has that many bytes or more, and a line ends there."""
        if not self.path.is_file():
            return size == 0
        content = self.path.read_bytes()
        return size <= len(content) and (not size or content[size - 1 : size] == b"\n")

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
        if not self.path.is_file() or not self.ends_line_at(size):
            return ""
        tail = self.path.read_bytes()[size:]
        if not tail:
            return ""
        if aside is not None:
            with saving(aside):
                aside.mkdir(exist_ok=True)
            Record(aside / self.path.name).add(tail.removesuffix(b"\n") + b"\n", durable=True)
        with saving(self.path):
            os.truncate(self.path, size)
        return tail.decode(errors="replace")


class RecordHandler(logging.Handler):
    """Log lines into a record.

    Args:
        record: where to.
        patient: whether lines that cannot be written wait for the next ones without an error; a
            handler of the standard library would print a traceback and lose them.
        defer: takes the error that would be raised, if it must not come in the midst of things.

    Attributes:
        patient: as given; can be changed.
    """

    def __init__(
        self,
        record: Record,
        *,
        patient: bool,
        defer: Callable[[SaveError], None] | None = None,
    ) -> None:
        super().__init__()
        self._record = record
        self._defer = defer
        self.patient = patient

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line."""
        try:
            self._record.add(self.format(record) + "\n")
        except SaveError as error:
            if self.patient:
                return
            if self._defer is None:
                raise
            self._defer(error)
