"""Which checkpoints a run wrote, in a file that ``sha256sum --check`` understands."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from ternvae.checkpoint import write_whole

__all__ = ["Inventory", "file_digest", "recorded_digests"]

#: Of the list.
NAME = "SHA256SUMS"

#: Names of checkpoints, which are plain ones.
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>\w[\w.-]*)")


class Inventory:
    """The files that a run wrote into a folder, each with its SHA-256.

    The run removes files only through here, and only those that are still as it wrote them.

    Args:
        folder: where the files are; the list is its ``SHA256SUMS``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._digests: dict[str, str] = {}

    def read(self) -> None:
        """Take over the list of an earlier process; lines that are none are left out.

        So are files that are gone: it may have been killed between removing one and saying so.
        """
        self._digests = recorded_digests(self._folder)

    def enter(self, *paths: Path) -> None:
        """Enter files that have just been written; :meth:`write` makes it last."""
        for path in paths:
            self._digests[path.name] = file_digest(path)

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove those of the files that this run wrote and that nobody has changed since."""
        for path in paths:
            known = self._digests.pop(path.name, None)
            if known is not None and path.is_file() and file_digest(path) == known:
                path.unlink()

    def names(self) -> list[str]:
        """The names of the files, in the order of their names."""
        return sorted(self._digests)

    def write(self) -> None:
        """Write the list."""
        lines = "".join(f"{self._digests[name]}  {name}\n" for name in self.names())
        write_whole(self._path, lambda file: file.write(lines.encode()))


def recorded_digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name, as the list in a folder has them, of the files that are there."""
    path = folder / NAME
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = (match for line in lines if (match := _LINE.fullmatch(line)))
    return {m["name"]: m["digest"] for m in found if (folder / m["name"]).is_file()}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
