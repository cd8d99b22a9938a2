"""What process 0 does for all: its result is everybody's, and so is its failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ternvae.trainer.opening import FailedChecksError
from ternvae.training.finite import NonFiniteError
from ternvae.training.processes import Processes
from ternvae.training.run_directory import RunDirectoryError
from ternvae.training.saving import SaveError

__all__ = ["led"]

Value = TypeVar("Value")

_TOLD = {kind.__name__: kind for kind in (FailedChecksError, RunDirectoryError, SaveError)}


def led(processes: Processes, action: Callable[[], Value]) -> Value:
    """Have one process do something, and all of them know what came of it.

    Args:
        processes: of the run; they all call this.
        action: what process 0 does; the result is of plain values, as JSON has them.

    Raises:
        FailedChecksError: everywhere, if the action raises it; so of the other three.
        RunDirectoryError: the same.
        SaveError: the same.
        NonFiniteError: the same.
        Exception: any other error of the action, in process 0 alone, which ends with it.
    """
    if processes.world == 1:
        return action()
    value, failure = None, None
    if processes.leads:
        try:
            value = action()
        except (*_TOLD.values(), NonFiniteError) as error:
            names = error.names if isinstance(error, NonFiniteError) else ()
            failure = (type(error).__name__, str(error), names)
    value, failure = processes.agree((value, failure))
    if failure is None:
        result: Value = value
        return result
    kind, text, names = failure
    raise NonFiniteError(names, text) if kind == NonFiniteError.__name__ else _TOLD[kind](text)
