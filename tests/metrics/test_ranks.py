"""Rank correlation against classes: scipy's for the same columns, ties and all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from ternvae.metrics.ranks import ClassColumn, influence, sorted_correlation
from tests.padic.oracles import relaxed


def in_parts(values: np.ndarray, classes: np.ndarray) -> float:
    parts = [np.sort(values[classes == c]) for c in range(int(classes.max()) + 1)]
    return sorted_correlation(parts, np.sort(values))


def scipys(values: np.ndarray, classes: np.ndarray) -> float:
    if np.ptp(values) == 0 or np.ptp(classes) == 0:
        return math.nan
    return float(spearmanr(values, classes)[0])


VALUES = st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 0.5, 0.1 + 0.2, 0.3, 2.0, 1e300, math.inf])


@relaxed
@given(
    st.lists(
        st.tuples(VALUES | st.floats(0, 10), st.integers(0, 3) | st.just(20)),
        min_size=1,
        max_size=60,
    )
)
def test_classes_with_ties_equal_scipys(rows: list[tuple[float, int]]) -> None:
    values = np.array([row[0] for row in rows])
    classes = np.array([row[1] for row in rows], dtype=np.int64)
    finite = np.where(np.isinf(values), 1e308, values)  # of the same order
    expected = pytest.approx(scipys(finite, classes), abs=1e-12, nan_ok=True)
    assert ClassColumn(classes).correlation(values) == expected
    assert in_parts(values, classes) == expected


def columns(seed: int, count: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Values that lean towards their classes, in multiples of ``step``."""
    generator = np.random.default_rng(seed)
    classes = np.minimum(generator.geometric(2 / 3, count) - 1, 20)
    values = np.abs(generator.normal(size=count) + 0.5 * classes)
    return (np.round(values / step) * step if step else values), classes


@pytest.mark.parametrize("step", [0.0, 1e-15, 1e-12, 1e-6, 0.01, 1.0])
@pytest.mark.parametrize("count", [1000, 200_000])
def test_many_values_equal_scipys(count: int, step: float) -> None:
    """The steps are no ties, ties that do not matter, ties within and across classes."""
    values, classes = columns(1, count, step)
    expected = pytest.approx(scipys(values, classes), abs=1e-12)
    assert ClassColumn(classes).correlation(values) == expected
    assert in_parts(values, classes) == expected


def test_values_that_differ_in_the_bits_of_the_class_keep_their_order() -> None:
    values = 1.0 + np.arange(40) * np.spacing(1.0)
    classes = np.arange(40, dtype=np.int64)[::-1] // 2
    assert ClassColumn(classes).correlation(values) == pytest.approx(
        scipys(np.arange(40.0), classes), abs=1e-15
    )


def test_a_tie_of_one_class_that_fills_the_column_is_exact() -> None:
    """Within one class order does not matter, but how many are equal does."""
    values = np.concatenate([1.0 + np.arange(100) % 3 * np.spacing(1.0), np.arange(5.0) + 2])
    classes = np.repeat([0, 1], [100, 5])
    assert ClassColumn(classes).correlation(values) == pytest.approx(
        scipys(rankdata(values), classes), abs=1e-13
    )


@pytest.mark.parametrize("place", [0, 37, 99])
def test_one_nan_leaves_no_rank(place: int) -> None:
    values, classes = columns(2, 100, 0.0)
    values[place] = math.nan
    assert math.isnan(ClassColumn(classes).correlation(values))


@pytest.mark.parametrize("step", [0.0, 0.01, 1.0])
def test_the_influence_comes_with_the_coefficient(step: float) -> None:
    values, classes = columns(3, 500, step)
    weights = np.full(500, 1 / 500)
    found = influence(values, classes, weights)
    assert found.coefficient == pytest.approx(scipys(values, classes), abs=1e-12)
    # A row of twice the weight is two rows.
    doubled = np.append(np.full(250, 2.0), np.ones(250)) / 750
    rows = np.append(np.repeat(np.arange(250), 2), np.arange(250, 500))
    weighted = influence(values, classes, doubled).coefficient
    expected = scipys(values[rows], classes[rows])
    assert weighted == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_influence_is_the_derivative_by_the_weight(step: float) -> None:
    values, classes = columns(4, 300, step)
    weights = np.full(300, 1 / 300)
    found = influence(values, classes, weights)
    centred = found.values - found.values.mean()
    for row in (0, 17, 123, 299):
        nudge = 1e-5
        more = weights * (1 - nudge)
        more[row] += nudge
        less = weights * (1 + nudge)
        less[row] -= nudge
        slope = (
            influence(values, classes, more).coefficient
            - influence(values, classes, less).coefficient
        ) / (2 * nudge)
        assert slope == pytest.approx(centred[row], abs=1e-4)


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_the_standard_error_of_independent_draws_is_that_of_the_spread(step: float) -> None:
    scores, errors = [], []
    for seed in range(300):
        values, classes = columns(seed, 400, step)
        found = influence(values, classes, np.full(400, 1 / 400))
        scores.append(found.coefficient)
        errors.append(found.values.std() / 20)
    assert np.std(scores) == pytest.approx(np.mean(errors), rel=0.15)


def test_without_two_classes_or_two_values_there_is_no_influence() -> None:
    for values, classes in ((np.ones(5), np.arange(5)), (np.arange(5.0), np.zeros(5, dtype=int))):
        found = influence(values, classes, np.full(5, 0.2))
        assert math.isnan(found.coefficient) and np.isnan(found.values).all()
