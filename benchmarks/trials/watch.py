"""Every operation that changes a folder, seen before it happens; and a child that dies at one.

Files are watched at the level of their raw writes, below all buffers, so that a file can be cut off
in the middle as a full disk or a kill would leave it.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["CHILD", "Kill", "Watch", "main"]

#: The program that runs ``ternvae`` under what its first argument, a JSON object, says.
CHILD = Path(__file__).resolve()

#: Changes that take names, each with the number of names it takes.
_NAMED = {"replace": 2, "rename": 2, "link": 2, "unlink": 1, "mkdir": 1, "rmdir": 1, "truncate": 1}


class Kill(BaseException):
    """Raised to kill the process at an operation."""


class Watch:
    """Counts what changes a folder, and lets somebody interfere before each such operation.

    Args:
        folder: the folder; operations elsewhere are not seen.
        before: called with the number of the operation, from 1, its name and the path; what it
            raises is what the operation raises.  A write that fails has written its first half.

    Attributes:
        seen: name and path of all operations so far.
    """

    def __init__(self, folder: Path, before: Callable[[int, str, str], None]) -> None:
        # The real path would be wrong: the program names files as it was told to.
        self._folder = os.path.abspath(folder)  # noqa: PTH100 - must not follow links
        self._before = before
        self._files: dict[int, str | None] = {}
        self.seen: list[tuple[str, str]] = []

    def _inside(self, path: Any) -> str | None:
        """The path in full if it is in the folder or is the folder."""
        try:
            whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        except (TypeError, ValueError):
            return None
        inside = whole == self._folder or whole.startswith(self._folder + os.sep)
        return whole if inside else None

    def _see(self, what: str, path: str | None) -> None:
        if path is None:
            return
        self.seen.append((what, path))
        try:
            self._before(len(self.seen), what, path)
        except Kill:
            if what == "write":
                raise  # not before half of it is written
            _die()

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """A block in which the folder is watched, in this process."""
        changes: dict[str, Any] = {name: self._named(name, n) for name, n in _NAMED.items()}
        changes["open"] = self._os_open()
        for name in ("fsync", "write", "ftruncate"):
            changes[name] = self._on_descriptor(name)
        opened = self._open()
        with (
            mock.patch.multiple(os, **changes),
            mock.patch.object(io, "open", opened),
            mock.patch.object(builtins, "open", opened),
        ):
            yield self

    def _named(self, name: str, names: int) -> Callable[..., Any]:
        real = getattr(os, name)

        def operation(*arguments: Any, **keywords: Any) -> Any:
            for path in arguments[:names]:
                if (inside := self._inside(path)) is not None:
                    self._see(name, inside)
                    break
            return real(*arguments, **keywords)

        return operation

    def _os_open(self) -> Callable[..., int]:
        real = os.open

        def operation(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
            inside = self._inside(path)
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._see("open", inside)
            descriptor = real(path, flags, *arguments, **keywords)
            self._files[descriptor] = inside
            return descriptor

        return operation

    def _on_descriptor(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def operation(descriptor: int, *arguments: Any) -> Any:
            self._see(name, self._files.get(descriptor))
            return real(descriptor, *arguments)

        return operation

    def _open(self) -> Callable[..., Any]:
        real, files, see = io.open, self._files, self._see

        class Raw(io.FileIO):
            """A file of the folder."""

            path: str

            def write(self, data: Any) -> int:
                try:
                    see("write", self.path)
                except BaseException as error:
                    super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
                    if isinstance(error, Kill):
                        _die()
                    raise
                return super().write(data)

        def operation(
            file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **kw: Any
        ) -> Any:
            inside = None if isinstance(file, int) else self._inside(file)
            if inside is None or not set(mode) & set("wax+") or "b" not in mode:
                if inside is not None and set(mode) & set("wax+"):
                    self._see("open", inside)
                return real(file, mode, buffering, *rest, **kw)
            self._see("open", inside)
            raw = Raw(file, mode.replace("b", ""))
            raw.path = inside
            files[raw.fileno()] = inside
            if buffering == 0:
                return raw
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        return operation


def _forbid_larger_files(size: int) -> None:
    import resource

    # Python ignores SIGXFSZ itself, so the write fails as on a full disk, with EFBIG.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main(arguments: list[str]) -> int:
    """Run the command line that follows the first argument.

    The first argument may have ``folder`` with ``kill``, the number of the operation in that folder
    at which the process kills itself; ``count``, a file that gets the number of operations;
    ``file_size``, the largest file it may write.
    """
    orders, *command = arguments
    given = json.loads(orders)
    from ternvae import cli

    if "file_size" in given:
        _forbid_larger_files(given["file_size"])
    if "folder" not in given:
        return cli.main(command)

    def before(number: int, what: str, path: str) -> None:
        if number == given.get("kill"):
            raise Kill

    with Watch(Path(given["folder"]), before).watching() as watch:
        status = cli.main(command)
    if "count" in given:
        Path(given["count"]).write_text(str(len(watch.seen)), encoding="utf-8")
    return status


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
