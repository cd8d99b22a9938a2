"""Whether a model meets its targets, and which of two models is the better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from ternvae.metrics import collapse_excess

__all__ = [
    "CHECKS",
    "OPTIONAL",
    "asked_for",
    "defined_metrics",
    "rank",
    "reachable_hierarchy",
    "target_met",
    "targets_met",
    "validation_results",
]

#: Targets that are met from below; the others are met from above.
_LOWER_IS_BETTER = frozenset({"hierarchy_B"})

#: Targets stated to four decimals of an irrational ceiling: -0.8321 stands for -0.83205...
_STATED_TO_FOUR_DECIMALS = frozenset({"hierarchy_B"})

#: Which entry of the validation results each target decides, alone or together with others.
CHECKS = {
    "coverage": "coverage_precision",
    "coverage_B": "coverage_precision",
    "hierarchy_B": "hierarchy_ceiling",
    "richness": "richness_preservation",
    "Q_enhanced": "Q_enhanced",
    "ultrametric_corr": "p_adic_structure",
    "triplet_accuracy": "p_adic_structure",
}

#: Targets that ask for nothing if they are 0, and decide nothing where they are missing.
OPTIONAL = frozenset({"coverage_B", "ultrametric_corr", "triplet_accuracy"})

#: What does not exist with one digit, where all distances are equal.
_OF_SEVERAL_DISTANCES = frozenset({"ultrametric_corr", "triplet_accuracy"})


def asked_for(targets: Mapping[str, float]) -> dict[str, float]:
    """The targets without those that ask for nothing."""
    return {name: value for name, value in targets.items() if value or name not in OPTIONAL}


def target_met(name: str, value: float, target: float) -> bool:
    """Whether ``value`` of metric ``name`` meets ``target``; NaN meets nothing.

    A hierarchy is compared after rounding to four decimals, the precision that its targets are
    stated in: the ceiling -0.8320503 at nine digits meets a target of -0.8321.
    """
    if math.isnan(value):
        return False
    if name in _STATED_TO_FOUR_DECIMALS:
        value = round(value, 4)
    return value <= target if name in _LOWER_IS_BETTER else value >= target


def reachable_hierarchy(target: float, ceiling: float) -> float:
    """The target of a hierarchy, for sequences among which it can go as far as ``ceiling``.

    Of a part of the space in which a level is missing that is a little less far than of the whole,
    and a target beyond it becomes the ceiling, to the precision that targets have.
    """
    return max(target, round(ceiling, 4))


def targets_met(
    metrics: Mapping[str, float], targets: Mapping[str, float], *, n_digits: int
) -> dict[str, bool]:
    """Which targets are met; with one digit, only of those that exist.

    Tied radii push the rank correlation past its ceiling; that is a collapse, not a success, so a
    collapsed hierarchy meets no target.
    """
    met = {
        name: target_met(name, metrics[name], target)
        for name, target in targets.items()
        if n_digits > 1 or name not in _OF_SEVERAL_DISTANCES
    }
    if "hierarchy_B" in met and collapse_excess(metrics["hierarchy_B"], n_digits):
        met["hierarchy_B"] = False
    return met


def validation_results(
    metrics: Mapping[str, float],
    targets: Mapping[str, float],
    *,
    n_digits: int,
    points_valid: bool,
) -> dict[str, bool]:
    """The checks of a finished model, each true or false.

    Args:
        metrics: all metrics of the model.
        targets: the targets, by metric name.
        n_digits: number of ternary digits.
        points_valid: whether every point of both branches is finite and inside ``max_radius``.

    Returns:
        The entries of :data:`CHECKS`, each true if all targets that decide it are met, and beside
        them ``numerical_stability`` (finite metrics and valid points) and
        ``mathematical_foundation_ready``, which is true when all the others are.  For
        ``p_adic_structure`` the mean radii must strictly fall from level 0 to level n as well.
    """
    # Of a level of which nothing is measured there is none.
    radii = [metrics[name] for v in range(n_digits + 1) if (name := f"r_v{v}") in metrics]
    met = targets_met(metrics, targets, n_digits=n_digits)
    results = {
        check: all(met[name] for name in met if CHECKS[name] == check)
        for check in dict.fromkeys(CHECKS.values())
        if check != "p_adic_structure"
    }
    defined = defined_metrics(metrics, n_digits).values()
    results["numerical_stability"] = points_valid and all(map(math.isfinite, defined))
    distances = all(met[name] for name in met if CHECKS[name] == "p_adic_structure")
    results["p_adic_structure"] = distances and all(a > b for a, b in pairwise(radii))
    results["mathematical_foundation_ready"] = all(results.values())
    return results


def defined_metrics(metrics: Mapping[str, float], n_digits: int) -> dict[str, float]:
    """Without those that do not exist.

    With one digit all distances are equal, so there is no triple and no correlation with them.
    """
    missing = _OF_SEVERAL_DISTANCES if n_digits == 1 else frozenset()
    return {name: value for name, value in metrics.items() if name not in missing}


def rank(
    metrics: Mapping[str, float], targets: Mapping[str, float], *, n_digits: int
) -> tuple[float, bool, float]:
    """Sort key of models: coverage counts first, then Q, among those that meet their targets.

    Q alone would prefer unfinished models: it falls as richness rises, and before the levels have
    drawn apart it can be higher than at the end.  So of two models with equal coverage one that
    meets all targets comes before one that does not, and Q decides between models of the same
    standing.  NaN ranks below everything, and so does the Q of a collapsed hierarchy, which ties
    push past the ceiling of every honest model.
    """
    coverage, q = metrics["coverage"], metrics["Q_enhanced"]
    if math.isnan(q) or collapse_excess(metrics["hierarchy_B"], n_digits):
        q = -math.inf
    finished = all(targets_met(metrics, targets, n_digits=n_digits).values())
    return -math.inf if math.isnan(coverage) else coverage, finished, q
