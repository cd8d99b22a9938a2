"""The line of an epoch and the table at the end, character by character."""

from __future__ import annotations

import math
import re

import pytest

from ternvae.metrics import ceilings, metric_names
from ternvae.training.wording import epoch_line, final_table

METRICS = {
    "coverage": 0.8945,
    "hierarchy_B": -0.12339,
    "richness": 0.001561,
    "Q_enhanced": 1.23449,
}
TARGETS = {"coverage": 1.0, "hierarchy_B": -0.8321, "richness": 0.006, "Q_enhanced": 2.0}

FULL = dict.fromkeys(metric_names(9), 0.5) | {
    "coverage": 1.0,
    "coverage_B": 19682 / 19683,
    "hierarchy_B": -0.83205029,
    "richness": 0.0059,
    "dist_corr": 0.9,
    "Q_enhanced": 2.14807544,
    "r_v8": 10.0,
    "r_v9": 0.0,
}


def cells(table: str) -> dict[str, list[str]]:
    """Columns are two spaces apart, so empty cells can be told by their place."""
    header, rule, *rows = table.splitlines()
    edges = [(m.start(), m.end()) for m in re.finditer("-+", rule)]
    assert [header[a:b].strip() for a, b in edges] == [
        "metric",
        "value",
        "target",
        "ceiling",
        "met",
    ]
    split = [[row[a:b].strip() for a, b in edges] for row in rows]
    return {name: rest for name, *rest in split}


def test_the_epoch_line_has_the_guides_form() -> None:
    assert epoch_line(10, 2.45211, METRICS) == (
        "Epoch  10 | Loss: 2.4521 | Coverage: 0.8945 | Hierarchy_B: -0.1234 | "
        "Richness: 0.00156 | Q: 1.234"
    )


@pytest.mark.parametrize(("epoch", "start"), [(1, "Epoch   1 |"), (1000, "Epoch 1000 |")])
def test_epochs_are_aligned_up_to_999(epoch: int, start: str) -> None:
    assert epoch_line(epoch, 1.0, METRICS).startswith(start)


def test_the_epoch_line_survives_what_is_not_a_number() -> None:
    line = epoch_line(3, math.inf, dict.fromkeys(METRICS, math.nan))
    assert line == (
        "Epoch   3 | Loss: inf | Coverage: nan | Hierarchy_B: nan | Richness: nan | Q: nan"
    )


def test_the_table_shows_values_targets_ceilings_and_verdicts() -> None:
    found = cells(final_table(FULL, TARGETS, n_digits=9))
    assert list(found) == list(metric_names(9))
    assert found["coverage"] == ["1", "1", "1", "yes"]
    assert found["coverage_B"] == ["0.9999492", "", "1", ""]
    assert found["hierarchy_A"] == ["0.5", "", "-0.8320503", ""]
    # Stated to four decimals, so the ceiling meets the target; both are shown in full.
    assert found["hierarchy_B"] == ["-0.8320503", "-0.8321", "-0.8320503", "yes"]
    assert found["richness"] == ["0.0059", "0.006", "", "NO"]
    assert found["Q_enhanced"] == ["2.1480754", "2", "2.1627074", "yes"]
    assert found["ultrametric_corr"] == ["0.5", "", "0.8320221", ""]
    assert found["triplet_accuracy"] == ["0.5", "", "1", ""]
    assert found["r_v8"] == ["10", "", "", ""]
    assert found["r_v9"] == ["0", "", "", ""]


def test_a_collapsed_hierarchy_is_no_success_in_the_table() -> None:
    found = cells(final_table(FULL | {"hierarchy_B": -0.9}, TARGETS, n_digits=9))
    assert found["hierarchy_B"] == ["-0.9", "-0.8321", "-0.8320503", "NO"]


def test_the_columns_line_up() -> None:
    header, rule, *rows = final_table(FULL, TARGETS, n_digits=9).splitlines()
    edges = [m.end() for m in re.finditer("-+", rule)]
    for row in rows:
        # Numbers are flush right under the rule, and nothing but spaces lies between columns.
        value = row[: edges[1]]
        assert len(value) == edges[1] and not value.endswith(" ")
        for edge in edges[:-1]:
            assert row[edge : edge + 2].strip() == ""
    assert not any(line.endswith(" ") for line in (header, *rows))


def test_what_one_digit_leaves_undefined_is_said() -> None:
    metrics = dict.fromkeys(metric_names(1), math.nan)
    found = cells(final_table(metrics, TARGETS, n_digits=1))
    assert found["ultrametric_corr"] == ["undefined", "", "undefined", ""]
    assert found["coverage"] == ["undefined", "1", "1", "NO"]
    assert found["hierarchy_B"][2] == f"{ceilings(1)['hierarchy']:.7f}"
