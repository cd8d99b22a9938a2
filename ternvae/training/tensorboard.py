"""A run as TensorBoard shows it: profile, curves and settings in one folder of event files.

The package tensorboard is an optional extra, so it is imported only when it is asked for.
"""

from __future__ import annotations

import math
import re
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["TensorBoard", "TensorBoardError", "require_tensorboard"]

#: Every whole number up to here is a double of its own; TensorBoard keeps settings as doubles.
_EXACT = 2**53


class TensorBoardError(ValueError):
    """TensorBoard was asked for and cannot be written."""


def require_tensorboard() -> None:
    """Do nothing if event files can be written; nothing is written to find out.

    It really imports the package, as a package that is there but cannot be loaded is of no use.
    That takes a tenth of a second, which the run would spend anyway.

    Raises:
        TensorBoardError: the package is not installed, too old for torch, or lacks a part.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise TensorBoardError(
            "monitoring.tensorboard: needs the package tensorboard; "
            "pip install 'ternvae[tensorboard]', or set monitoring.tensorboard: false"
        ) from error


class TensorBoard:
    """Writes the event files of one run; all of them lie in one folder, without subfolders.

    A context manager, closed at its end.  What a method writes is in the file when it returns, so
    that a run can be watched and a killed one has lost nothing; a method that cannot write raises
    ``OSError``.

    Args:
        folder: where the files go; made if missing.
        purge_step: TensorBoard hides what earlier runs wrote into the folder at this step and
            later.  A run that is resumed after epoch n gives n + 1, so that no epoch is shown
            twice; 0, for a new run, hides everything.

    Raises:
        TensorBoardError: the package tensorboard is missing, or the folder cannot be written.
    """

    def __init__(self, folder: Path, *, purge_step: int = 0) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        _wait_for_a_later_name(folder)
        try:
            # A new run states its start at step 0 too, although there is nothing to hide:
            # TensorBoard takes the first start in a folder for the beginning and obeys only
            # those after it, so a resumed run would hide nothing if the first had been silent.
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        except OSError as error:
            raise TensorBoardError(f"TensorBoard folder {folder}: {error.strerror}") from error

    def text(self, name: str, text: str, *, step: int = 0) -> None:
        """Show a text as it is written, in a code block.

        Args:
            name: its heading.
            text: the text; nothing in it is taken for Markdown.
            step: the step that it is shown at; texts of one name and different steps are all
                shown, so a resumed run gives its first step.
        """
        # Indented, not fenced: no line of the text can end the block.
        self._writer.add_text(name, textwrap.indent(text, "    "), step)
        self._writer.flush()

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Add one point to each curve.

        NaN and the infinities are written, and TensorBoard marks the place: a curve that ends
        without a sign would look like a run that was stopped.  None means that there was nothing
        to measure and is left out.

        Args:
            step: where the points lie on the horizontal axis.
            values: name of each curve and its value, kept to single precision; names with a
                common part before a slash are shown as one group.
        """
        self._add(step, values)
        self._writer.flush()

    def hyperparameters(
        self, settings: Mapping[str, Any], metrics: Mapping[str, float | None], *, step: int = 0
    ) -> None:
        """Enter the run in the table that compares runs by their settings.

        If a folder gets several entries, TensorBoard shows the settings of the first one and the
        metrics of the last one.

        Args:
            settings: the profile, nested or with dotted keys; the table has dotted keys.
                Numbers stay numbers; the rest becomes text such as null, true and [1, 2].
            metrics: what came of the run, shown as ``final/<name>``; None is left out.
            step: the epochs done, where the curves ``final/<name>`` have their point.
        """
        from torch.utils.tensorboard.summary import hparams

        final = {f"final/{name}": value for name, value in metrics.items() if value is not None}
        # Not add_hparams: it opens a second file, in a subfolder of its own if left to itself,
        # and TensorBoard stops reading a file of a run once there is a newer one.
        writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]  # torch's own
        for summary in hparams(dict(_flat(settings)), final):  # type: ignore[no-untyped-call]
            writer.add_summary(summary, step)
        self._add(step, final)
        self._writer.flush()

    def close(self) -> None:
        """Write what is still held and close the file; once closed, closing does nothing."""
        self._writer.close()

    def _add(self, step: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _wait_for_a_later_name(folder: Path) -> None:
    """Wait until a new file comes after those in the folder: at most about a second.

    TensorBoard reads the files of a run in the order of their names, which begin with the whole
    second of their start; within one second the order is by chance, and so would be what is
    hidden.  A clock that was set back further is not waited for.
    """
    names = "\n".join(path.name for path in folder.glob("events.out.tfevents.*"))
    seconds = [int(digits) for digits in re.findall(r"^events\.out\.tfevents\.(\d+)", names, re.M)]
    remaining = max(seconds, default=0) + 1 - time.time()
    if 0 < remaining <= 1:
        time.sleep(remaining + 0.001)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str | int | float:
    """A setting as a number or a text.

    Torch would turn true into 1.0, drop None and refuse a list; the table of TensorBoard cannot
    hold a number that is not finite, nor every digit of a large seed.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(_shown(item)) for item in value)}]"
    if isinstance(value, int) and abs(value) <= _EXACT:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)
