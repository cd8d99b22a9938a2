"""The progress bar of a run: the epoch, the time gone and left, and what was measured last."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Never

from tqdm import tqdm

from ternvae.trainer.steps import Steps
from ternvae.training.progress import Progress

__all__ = ["RunBar"]


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
            total=self._epochs,
            initial=self._done,
            disable=not shown,
            leave=False,
            dynamic_ncols=True,
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

    def move(self) -> None:
        """Show how far the run is now."""
        epoch = min(self._progress.epoch + 1, self._epochs)
        self._bar.set_description_str(f"Epoch {epoch}/{self._epochs}", refresh=False)
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
