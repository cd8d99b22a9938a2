"""The report at the end of a run: wanted, but never at the cost of the run."""

from __future__ import annotations

import logging
import shlex

import torch

from ternvae.training.run_directory import RunDirectory

__all__ = ["report_end"]

log = logging.getLogger("ternvae")


def report_end(directory: RunDirectory, device: torch.device) -> None:
    """Write ``report.html``, and say where it is, or why there is none; raises nothing.

    Args:
        directory: of a run whose summary is written.
        device: where the best model is measured once more.
    """
    try:
        # Here, since a run that wants no report needs nothing of this.
        from ternvae.report import write_report

        path = write_report(directory.path, device=str(device))
    except Exception as error:
        # Disk full, a library that is broken, a mistake in drawing: the run is over and complete.
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(
            "No report: %s; the run is complete, and ternvae report %s tries again",
            reason,
            shlex.quote(str(directory.path)),
        )
        return
    log.info("Report: %s", path)
