"""What is checked before a run begins, and what it says first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ternvae.config import Profile
from ternvae.models import TernaryVAE
from ternvae.trainer.holding_out import holdout_line, holdout_of
from ternvae.trainer.saving import profile_differences
from ternvae.training.execution import execution, execution_differences
from ternvae.training.processes import Processes

__all__ = ["FailedChecksError", "check_installation", "opening_lines", "resumption_lines"]

log = logging.getLogger("ternvae")


class FailedChecksError(RuntimeError):
    """Checks that were to pass before training did not; the text has a line for each."""


def check_installation(device: torch.device) -> list[str]:
    """Run the checks of ``ternvae validate``, each with a line in the log.

    Returns:
        These lines, for a log that is not open yet.

    Raises:
        FailedChecksError: at least one failed.
    """
    from ternvae.validation import check_line, run_checks

    lines, failed = ["Checks before training"], []
    log.info("%s", lines[0])
    for check in run_checks(device):
        lines.append(check_line(check))
        log.info("%s", lines[-1])
        if not check.passed:
            failed.append(lines[-1])
    if failed:
        raise FailedChecksError("\n".join(failed))
    return lines


def opening_lines(profile: Profile, model: TernaryVAE, processes: Processes) -> Iterator[str]:
    """What a run says of itself before its first epoch."""
    threads = torch.get_num_threads()
    several = f", {processes.world} processes, threads of each: {threads}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield (
        f"Profile {profile.name}, seed {profile.seed}: {model.space.size} sequences, {parameters} "
        f"parameters, {profile.training.epochs} epochs on {model.prototypes.device}"
        f"{several if processes.world > 1 else ''}"
    )
    if profile.description:
        yield profile.description
    if (holdout := holdout_of(profile)) is not None:
        yield holdout_line(holdout)
    if profile.frozen_checkpoint.path is not None:
        yield f"Encoder A and the decoder are those of {profile.frozen_checkpoint.path}"
    if profile.training.num_workers:
        yield "training.num_workers: sequences are made on the device, so workers change nothing"


def resumption_lines(
    path: Path, contents: Mapping[str, Any], profile: Profile, device: torch.device
) -> Iterator[str]:
    """What a run says when it goes on: from where, and all that is not as it was.

    Args:
        path: the checkpoint.
        contents: what is in it.
        profile: with which the run goes on.
        device: on which.
    """
    inside = f", step {contents['step']} of epoch {contents['epoch'] + 1}"
    place = inside if contents["step"] else ""
    epochs = f"{contents['epoch']} of {profile.training.epochs} epochs done"
    yield f"Resumed from {path}: {epochs}{place}"
    for key, then, now in profile_differences(contents["profile"], profile):
        yield f"Resumed with another profile: {key} was {then!r} and is {now!r} from here on"
    for difference in execution_differences(contents["execution"], execution(device)):
        yield f"Resumed in another way, so the last bits may differ: {difference}"
