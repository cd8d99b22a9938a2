"""When a target counts as met, what the checks say, and which model is the better one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from ternvae.config import load_profile
from ternvae.metrics import ceilings, metric_names
from ternvae.training.verdict import (
    CHECKS,
    asked_for,
    rank,
    target_met,
    targets_met,
    validation_results,
)

TARGETS = {"coverage": 1.0, "hierarchy_B": -0.8321, "richness": 0.006, "Q_enhanced": 2.0}

READY = {
    "coverage_precision": True,
    "hierarchy_ceiling": True,
    "richness_preservation": True,
    "Q_enhanced": True,
    "numerical_stability": True,
    "p_adic_structure": True,
    "mathematical_foundation_ready": True,
}


def good(changes: dict[str, float] | None = None, *, n: int = 9) -> dict[str, float]:
    limit = ceilings(n)
    metrics = dict.fromkeys(metric_names(n), 1.0) | {
        "hierarchy_A": -0.3,
        "hierarchy_B": limit["hierarchy"],
        "richness": 0.0061,
        "dist_corr": 0.91,
        "Q_enhanced": 0.91 + 1.5 * abs(limit["hierarchy"]),
        "ultrametric_corr": limit["ultrametric_corr"],
        **{f"r_v{v}": 0.3 * (n - v) for v in range(n + 1)},
    }
    return metrics | (changes or {})


def results(metrics: dict[str, float], n: int = 9, valid: bool = True) -> dict[str, bool]:
    targets = TARGETS | {"hierarchy_B": round(ceilings(n)["hierarchy"], 4)}
    return validation_results(metrics, targets, n_digits=n, points_valid=valid)


# --- targets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "met"),
    [
        (-0.8320503, True),  # the ceiling itself
        (-0.83205001, True),
        (-0.83204999, False),
        (-0.8320, False),
        (-0.83210, True),
        (-1.0, True),
        (0.8321, False),
        (0.0, False),
        (math.nan, False),
        (math.inf, False),
    ],
)
def test_hierarchy_is_compared_to_four_decimals(value: float, met: bool) -> None:
    assert target_met("hierarchy_B", value, -0.8321) is met


def test_the_ceiling_meets_its_rounded_value_at_every_number_of_digits() -> None:
    for n in range(1, 21):
        limit = ceilings(n)["hierarchy"]
        assert target_met("hierarchy_B", limit, round(limit, 4))
        assert not target_met("hierarchy_B", limit + 1.01e-4, round(limit, 4))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("coverage", 1.0),
        ("richness", 0.006),
        ("Q_enhanced", 2.0),
        ("coverage_B", 0.9),
        ("ultrametric_corr", 0.83),
        ("triplet_accuracy", 0.999),
    ],
)
def test_other_targets_are_met_from_above_without_rounding(name: str, target: float) -> None:
    assert target_met(name, target, target)
    assert target_met(name, target + 1e-9, target)
    assert not target_met(name, math.nextafter(target, 0), target)
    assert not target_met(name, math.nan, target)
    assert not target_met(name, -math.inf, target)


def test_one_lost_sequence_is_not_full_coverage() -> None:
    assert not target_met("coverage", 19682 / 19683, 1.0)


def test_each_target_is_judged_alone() -> None:
    assert targets_met(good(), TARGETS, n_digits=9) == dict.fromkeys(TARGETS, True)
    spoilt = {"coverage": 0.9999, "hierarchy_B": -0.83, "richness": 0.0059, "Q_enhanced": 1.9}
    for name, value in spoilt.items():
        met = targets_met(good({name: value}), TARGETS, n_digits=9)
        assert [key for key, is_met in met.items() if not is_met] == [name]
    assert targets_met(good(), {}, n_digits=9) == {}


def test_a_collapsed_hierarchy_meets_no_target() -> None:
    for hierarchy in (-1.0, -0.84, ceilings(9)["hierarchy"] - 1.01e-4):
        met = targets_met(good({"hierarchy_B": hierarchy}), TARGETS, n_digits=9)
        assert met == {**dict.fromkeys(TARGETS, True), "hierarchy_B": False}
    within = good({"hierarchy_B": ceilings(9)["hierarchy"] - 0.99e-4})
    assert targets_met(within, TARGETS, n_digits=9)["hierarchy_B"]


def test_the_checks_cover_the_targets_of_a_profile() -> None:
    assert set(CHECKS) == set(load_profile("mathematical_foundation").targets.model_dump())


# --- checks ---------------------------------------------------------------------------------


def test_a_good_model_passes_every_check() -> None:
    assert results(good()) == READY
    assert list(results(good())) == list(READY)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"coverage": 0.99995}, "coverage_precision"),
        ({"hierarchy_B": -0.83}, "hierarchy_ceiling"),
        ({"hierarchy_B": -0.9}, "hierarchy_ceiling"),
        ({"hierarchy_B": -1.0}, "hierarchy_ceiling"),
        ({"hierarchy_B": 0.8320503}, "hierarchy_ceiling"),
        ({"richness": 0.0}, "richness_preservation"),
        ({"Q_enhanced": 1.99}, "Q_enhanced"),
        ({"triplet_accuracy": math.nan}, "numerical_stability"),
        ({"hierarchy_A": math.nan}, "numerical_stability"),
        ({"dist_corr": math.inf}, "numerical_stability"),
        ({"r_v4": good()["r_v3"]}, "p_adic_structure"),
        ({"r_v9": 0.31}, "p_adic_structure"),  # above r_v8
    ],
)
def test_one_defect_fails_its_own_check_and_the_summary(
    changes: dict[str, float], failed: str
) -> None:
    expected = READY | {failed: False, "mathematical_foundation_ready": False}
    assert results(good(changes)) == expected


@pytest.mark.parametrize(
    ("name", "target", "check"),
    [
        ("coverage_B", 1.0, "coverage_precision"),
        ("ultrametric_corr", 0.83, "p_adic_structure"),
        ("triplet_accuracy", 0.999, "p_adic_structure"),
    ],
)
def test_what_need_not_be_asked_for_decides_a_check_if_it_is(
    name: str, target: float, check: str
) -> None:
    poor = good({name: 0.5})
    assert results(poor) == READY
    asked = TARGETS | {name: target}
    keywords: dict[str, Any] = {"n_digits": 9, "points_valid": True}
    assert validation_results(good(), asked, **keywords) == READY
    expected = READY | {check: False, "mathematical_foundation_ready": False}
    assert validation_results(poor, asked, **keywords) == expected


def test_a_target_of_0_asks_for_nothing() -> None:
    """Where 0 is a value like any other, which a metric can be below."""
    told = TARGETS | {"coverage_B": 0.0, "ultrametric_corr": 0.0, "triplet_accuracy": 0.0}
    assert asked_for(told) == TARGETS
    assert asked_for(told | {"coverage_B": 1e-9}) == TARGETS | {"coverage_B": 1e-9}
    assert asked_for({"hierarchy_B": 0.0, "Q_enhanced": 0.0}).keys() == {
        "hierarchy_B",
        "Q_enhanced",
    }


def test_order_is_one_of_radii_and_of_distances() -> None:
    """Neither makes good what the other lacks."""
    asked = TARGETS | {"triplet_accuracy": 0.999}
    unordered = good({"r_v4": good()["r_v3"]})
    found = validation_results(unordered, asked, n_digits=9, points_valid=True)
    assert not found["p_adic_structure"]


def test_of_one_digit_no_order_of_distances_is_asked() -> None:
    asked = TARGETS | {"ultrametric_corr": 0.5, "triplet_accuracy": 0.999}
    asked["hierarchy_B"] = round(ceilings(1)["hierarchy"], 4)
    undefined = {"ultrametric_corr": math.nan, "triplet_accuracy": math.nan}
    metrics = good({**undefined, "Q_enhanced": 2.0}, n=1)
    met = targets_met(metrics, asked, n_digits=1)
    assert met == dict.fromkeys(TARGETS, True)
    assert validation_results(metrics, asked, n_digits=1, points_valid=True) == READY
    # With more digits there is an order, and NaN is none.
    assert not targets_met(good(undefined), asked, n_digits=9)["triplet_accuracy"]


def test_points_outside_the_ball_fail_stability() -> None:
    expected = READY | {"numerical_stability": False, "mathematical_foundation_ready": False}
    assert results(good(), valid=False) == expected


def test_metrics_that_are_not_numbers_pass_nothing() -> None:
    assert not any(results(dict.fromkeys(metric_names(9), math.nan)).values())


def test_what_one_digit_leaves_undefined_is_no_instability() -> None:
    undefined = {"ultrametric_corr": math.nan, "triplet_accuracy": math.nan}
    metrics = good({**undefined, "Q_enhanced": 2.0}, n=1)
    assert results(metrics, n=1) == READY
    metrics["dist_corr"] = math.nan
    assert not results(metrics, n=1)["numerical_stability"]
    # With more digits the same metrics are defined, so NaN is a defect.
    metrics = good({"triplet_accuracy": math.nan, "Q_enhanced": 2.0}, n=2)
    assert not results(metrics, n=2)["numerical_stability"]


# --- rank -----------------------------------------------------------------------------------


def test_coverage_counts_first_and_then_q() -> None:
    worst_to_best = [
        {"coverage": math.nan, "Q_enhanced": math.nan},
        {"coverage": math.nan, "Q_enhanced": 2.1},
        {"coverage": 0.0, "Q_enhanced": math.nan},
        {"coverage": 0.5, "Q_enhanced": 2.16},
        {"coverage": 0.9999, "Q_enhanced": math.nan},
        {"coverage": 0.9999, "Q_enhanced": -0.5},
        {"coverage": 0.9999, "Q_enhanced": 2.16},
        {"coverage": 1.0, "Q_enhanced": math.nan},
        {"coverage": 1.0, "Q_enhanced": 0.1},
        {"coverage": 1.0, "Q_enhanced": 2.0},
    ]
    for worse, better in itertools.pairwise(worst_to_best):
        assert key(better) > key(worse)
    assert key(worst_to_best[3]) == key(dict(worst_to_best[3], richness=0.005))


def key(metrics: dict[str, float]) -> tuple[float, bool, float]:
    full = {"hierarchy_B": -0.8, "richness": 0.0, **metrics}
    return rank(full, {"richness": 0.01}, n_digits=9)


def test_of_equal_coverage_a_model_that_meets_its_targets_comes_first() -> None:
    finished = {"coverage": 1.0, "Q_enhanced": 2.0, "richness": 0.01}
    assert key(finished) > key({"coverage": 1.0, "Q_enhanced": 2.1, "richness": 0.0099})
    assert key(finished) < key({**finished, "Q_enhanced": 2.05})
    assert key(finished) < key({"coverage": 1.1, "Q_enhanced": 0.0, "richness": 0.0})


def test_a_collapsed_model_ranks_below_an_honest_one_of_equal_coverage() -> None:
    collapsed = {"coverage": 1.0, "Q_enhanced": 2.5, "hierarchy_B": -1.0}
    assert key(collapsed) < key({"coverage": 1.0, "Q_enhanced": 0.1})
    assert key(collapsed) > key({"coverage": 0.9, "Q_enhanced": 2.1})
