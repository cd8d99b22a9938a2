"""Files that are whole and on the disk, or not there at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ternvae.checkpoint.arguments import checked_path

__all__ = ["PARTIAL", "copy_whole", "sync_folder", "write_whole"]

#: Suffix of a file that is being written; one that is left over was cut off and is worth nothing.
PARTIAL = ".partial"


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    The bytes are on the disk before the name is, and the name is when this returns: a power cut
    takes neither the old content nor, from then on, the new one.

    Args:
        path: the file to create or replace.
        write: called with a binary file to fill, which can be read back too.

    Raises:
        TypeError: ``path`` is not a :class:`pathlib.Path`, or ``write`` cannot be called.
        ValueError: ``path`` is no possible name of a file.
        OSError: the disk is full, the folder is gone or may not be written; ``path`` is as it was,
            or, if only its name could not be synced, new.
    """
    checked_path("path", path)
    if not callable(write):
        raise TypeError(f"write must be a function of a file, got {type(write).__name__}")
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        _remove(partial)
        raise
    sync_folder(path.parent)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file as :func:`write_whole` writes one.

    Args:
        source: the file to copy.
        target: the file to create or replace.

    Raises:
        TypeError: a path is not a :class:`pathlib.Path`.
        ValueError: a path is no possible name of a file.
        OSError: there is no such file, or the copy cannot be written; ``target`` is as it was.
    """
    checked_path("source", source)
    checked_path("target", target)
    with source.open("rb") as original:
        write_whole(target, lambda file: shutil.copyfileobj(original, file))


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system can: Windows cannot open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync files and refuse folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(partial: Path) -> None:
    """Tidy up; what prevented the writing may prevent this too, and is what is to be told."""
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return
