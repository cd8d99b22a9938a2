"""Why a run ends that cannot go on, and what can be done about it."""

from __future__ import annotations

from ternvae.training.device import is_out_of_memory
from ternvae.training.finite import NonFiniteError
from ternvae.training.processes import ProcessesDifferError
from ternvae.training.saving import SaveError
from ternvae.training.warning_signs import WarningSign, WarningSigns

__all__ = ["judged"]


def judged(
    error: Exception, epoch: int, signs: WarningSigns, *, alone: bool
) -> tuple[str, str, list[WarningSign]]:
    """Why a run ends, for the summary and in a sentence, and what can be done about it.

    Args:
        error: what a part of the run has raised.
        epoch: the epoch that was not finished.
        signs: of the run.
        alone: whether this process is the only one.  Of several, one that has no memory left cannot
            end the run in order, because the others do not know.

    Raises:
        Exception: the error itself, which nobody has foreseen.
    """
    if isinstance(error, NonFiniteError):
        return "non_finite_loss", str(error), signs.non_finite(epoch, error.names)
    if isinstance(error, SaveError):
        return "save_failed", str(error), []
    if isinstance(error, ProcessesDifferError):
        return "processes_differ", str(error), []
    if not alone or not is_out_of_memory(error):
        raise error
    found = signs.out_of_memory(epoch, str(error))
    return "out_of_memory", f"Epoch {epoch}: out of memory", found
