"""Sequences that a run holds out: which, what it means for its targets, and how they come out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.config import Profile
from ternvae.metrics import CollapsedLevelsWarning, Evaluator
from ternvae.models import TernaryVAE
from ternvae.padic import Holdout, TernarySpace
from ternvae.training.wording import unseen_line

__all__ = ["check_source", "holdout_line", "holdout_of", "measure_unseen"]

log = logging.getLogger("ternvae")


def holdout_of(profile: Profile) -> Holdout | None:
    """What a profile holds out; None if that is nothing."""
    share = profile.space.holdout
    space = TernarySpace(profile.space.n_digits)
    return Holdout(space, share, profile.seed) if share > 0 else None


def holdout_line(holdout: Holdout) -> str:
    """What a run says of it first."""
    seen, unseen = holdout.sizes
    return (
        f"space.holdout {holdout.share:g}: {unseen} of {holdout.space.size} sequences are held "
        f"out; all figures below are of the {seen} seen ones"
    )


def check_source(path: str, profile: Profile) -> None:
    """Raise ``CheckpointError`` if an earlier run has seen what this one holds out.

    Of two runs with one seed, the one with the larger share has seen nothing that the other has
    not.
    """
    if not profile.space.holdout:
        return
    stored = load_checkpoint(path)["profile"]
    space = stored.get("space") if isinstance(stored, dict) else None
    share = space.get("holdout", 0.0) if isinstance(space, dict) else 0.0
    same_seed = isinstance(stored, dict) and stored.get("seed") == profile.seed
    if not same_seed or not isinstance(share, float) or share < profile.space.holdout:
        raise CheckpointError(
            f"frozen_checkpoint.path: {path} was trained on sequences that space.holdout "
            f"{profile.space.holdout:g} holds out with seed {profile.seed}; take a checkpoint of "
            "that seed with at least that share, or set space.holdout to 0"
        )


def measure_unseen(path: Path, profile: Profile, device: torch.device) -> dict[str, float] | None:
    """Measure the model of a checkpoint on what its run has held out, and say so.

    Returns:
        All metrics; None if nothing was held out, or the file cannot be read any more.
    """
    holdout = holdout_of(profile)
    if holdout is None:
        return None
    try:
        model = TernaryVAE.from_checkpoint(path, device)
    except CheckpointError as error:
        log.warning("The unseen sequences cannot be measured: %s", error)
        return None
    evaluator = Evaluator(holdout.space, among=lambda indices: ~holdout.is_seen(indices))
    with warnings.catch_warnings():
        # Of radii that are tied the seen ones tell, too.
        warnings.simplefilter("ignore", CollapsedLevelsWarning)
        metrics = evaluator(model)
    log.info("%s", unseen_line(metrics, holdout.sizes.unseen))
    return dict(metrics)
