"""How the weights of the loss terms change over a run: a pure function of the epoch."""

from __future__ import annotations

__all__ = ["RICHNESS_FACTOR_AT_END", "curriculum_factors", "curriculum_phase"]

#: Factor on the weight of richness in the last phase.
RICHNESS_FACTOR_AT_END = 2.0

_ORDERING = ("hierarchy", "separation", "ultrametric")


def curriculum_factors(
    epoch: float,
    *,
    epochs: int,
    coverage_first_epochs: int,
    hierarchy_ramp_epochs: int,
    richness_preserve_epochs: int,
) -> dict[str, float]:
    """Factors on the weights of the loss terms at one moment of a run.

    Three phases, in the order of Bengio et al. 2009, "Curriculum learning", from easy to hard::

        coverage first       geometric terms 0: reconstruction (and its KL term) alone
        hierarchy ramp       geometric terms rise linearly from 0 to 1
        ...                  all terms at 1
        richness preserve    the last epochs: richness at ``RICHNESS_FACTOR_AT_END``

    Args:
        epoch: epochs since the start of training, fractional inside an epoch.
        epochs: length of the run.
        coverage_first_epochs: length of the first phase.
        hierarchy_ramp_epochs: length of the second; with 0 the terms switch on at once.
        richness_preserve_epochs: length of the last, counted back from the end.

    Returns:
        A factor for each of "hierarchy", "separation", "ultrametric" and "richness"; other terms
        keep theirs.
    """
    since = epoch - coverage_first_epochs
    if hierarchy_ramp_epochs > 0:
        rise = min(max(since / hierarchy_ramp_epochs, 0.0), 1.0)
    else:
        rise = 1.0 if since >= 0 else 0.0
    at_end = epoch >= epochs - richness_preserve_epochs
    richness = rise * (RICHNESS_FACTOR_AT_END if at_end else 1.0)
    return {**dict.fromkeys(_ORDERING, rise), "richness": richness}


def curriculum_phase(
    epoch: float,
    *,
    epochs: int,
    coverage_first_epochs: int,
    hierarchy_ramp_epochs: int,
    richness_preserve_epochs: int,
) -> str:
    """Name of the phase at one moment of a run; arguments as in :func:`curriculum_factors`.

    Returns:
        "coverage_first", "hierarchy_ramp", "all_terms" or "richness_preserve".
    """
    if epoch < coverage_first_epochs:
        return "coverage_first"
    if epoch >= epochs - richness_preserve_epochs:
        return "richness_preserve"
    ramp_over = epoch >= coverage_first_epochs + hierarchy_ramp_epochs
    return "all_terms" if ramp_over else "hierarchy_ramp"
