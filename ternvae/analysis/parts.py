"""What a run has held out, read from its profile, for models that are measured in two parts."""

from __future__ import annotations

import warnings
from typing import Any

from ternvae.metrics import CollapsedLevelsWarning, Evaluator
from ternvae.models import TernaryVAE
from ternvae.padic import Holdout, TernarySpace
from ternvae.training.wording import aligned, cell

__all__ = ["held_out", "parts_text", "unseen_metrics"]


def held_out(profile: object, space: TernarySpace) -> Holdout | None:
    """What the stored profile of a run holds out; None if it does not say, or that is nothing."""
    entries: dict[str, Any] = profile if isinstance(profile, dict) else {}
    section, seed = entries.get("space"), entries.get("seed")
    share = section.get("holdout") if isinstance(section, dict) else None
    if type(share) is not float or type(seed) is not int or not share:
        return None
    try:
        return Holdout(space, share, seed)
    except ValueError:  # no profile has such a share or seed
        return None


def unseen_metrics(model: TernaryVAE, holdout: Holdout) -> dict[str, float]:
    """All metrics over what its run has never seen."""
    evaluator = Evaluator(holdout.space, among=lambda indices: ~holdout.is_seen(indices))
    with warnings.catch_warnings():
        # Of radii that are tied the seen ones tell, too.
        warnings.simplefilter("ignore", CollapsedLevelsWarning)
        return dict(evaluator(model))


def parts_text(seen: dict[str, float], unseen: dict[str, float]) -> str:
    """Both parts side by side, and how far the unseen one is from the other."""
    rows = [("metric", "seen", "unseen", "unseen - seen")]
    for name, value in seen.items():
        if name in unseen:
            rows.append((name, cell(value), cell(unseen[name]), cell(unseen[name] - value)))
    head = "Held out: sequences that training has never seen, against the others\n"
    return head + aligned(rows)
