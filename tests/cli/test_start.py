"""The program starts fast: what needs no numbers loads no library of numbers."""

from __future__ import annotations

import pytest

from tests.cli.processes import HEAVY, imported

LIGHT = [
    ["--help"],
    ["--version"],
    ["train", "--help"],
    ["train", "--help-keys"],
    ["plot", "--help"],
    ["report", "--help"],
    ["profiles", "--json"],
    ["completion", "fish"],
]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_what_needs_no_numbers_loads_no_library_of_numbers(arguments: list[str]) -> None:
    out, modules = imported(*arguments)
    assert out
    assert "ternvae" in modules
    assert modules & HEAVY == set()
