"""The progress bar of a run: the epoch, the time gone and left, and what was measured last."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Never

from tqdm import tqdm

from ternvae.trainer.steps import Steps
from ternvae.training.progress import Progress

__all__ = ["RunBar"]


def _width() -> int:
    """Columns of the bar: two are left for the ^C that a terminal shows, which must not wrap."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # no terminal, or one that does not know
        columns = 0
    return (columns or 80) - 3


class RunBar:
    """A bar on standard error that leaves nothing behind; a context manager.

    The time that is left follows from the mean speed since the bar was made, over all that happens
    in a run: an epoch with metrics takes longer than one without.

    Args:
        progress: of the run.
        steps: of the run.
        shown: False for no bar.
    """

    def __init__(self, progress: Progress, steps: Steps, *, shown: bool) -> None:
        self._progress, self._steps = progress, steps
        self._epochs = steps.profile.training.epochs
        self._bar: tqdm[Never] = tqdm(
            desc=self._where,
            total=self._epochs,
            initial=self._done,
            disable=not shown,
            leave=False,
            ncols=_width(),
            smoothing=0,
            miniters=0,
            bar_format="{desc} |{bar}| {elapsed} gone, {remaining} left{postfix}",
        )

    def __enter__(self) -> RunBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def _done(self) -> float:
        """Epochs done, with a fraction."""
        return self._progress.epoch + self._steps.done / len(self._steps)

    @property
    def _where(self) -> str:
        return f"Epoch {min(self._progress.epoch + 1, self._epochs)}/{self._epochs}"

    def move(self) -> None:
        """Show how far the run is now."""
        if self._bar.disable:
            return
        self._bar.ncols = _width()  # a window can change its size
        self._bar.set_description_str(self._where, refresh=False)
        if (latest := self._progress.latest) is not None:
            coverage, q = latest.metrics["coverage"], latest.metrics["Q_enhanced"]
            self._bar.set_postfix_str(f"coverage {coverage:.4f}, Q {q:.3f}", refresh=False)
        self._bar.update(self._done - self._bar.n)

    def moving(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """The question, asked with the bar moved on before."""

        def moved() -> bool:
            self.move()
            return stop()

        return moved
