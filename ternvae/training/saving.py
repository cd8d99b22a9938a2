"""What happens when a file of a run cannot be written: one error, with the file and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SaveError", "saving"]


class SaveError(RuntimeError):
    """A file of a run cannot be written; the text names it and says why."""


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """A block that writes ``path``.

    Raises:
        SaveError: for every ``OSError`` in the block: disk full, folder gone, not permitted.
    """
    try:
        yield
    except OSError as error:
        raise SaveError(f"cannot write {path}: {error.strerror or error}") from error
