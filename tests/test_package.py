"""What is said of the package beside its pages: how to cite it, how to change it, what is safe."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

from ternvae import __version__

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == __version__
    assert cited["license"] == setup["metadata"]["license"]
    assert cited["authors"] == [{"name": setup["metadata"]["author"]}]
    assert set(cited["keywords"]) <= set(setup["metadata"]["keywords"].split(", "))
    # A version that is not released has no date; one that is has that of the changelog.
    heading = rf"^## {re.escape(__version__)}\b.*?(\d{{4}}-\d\d-\d\d)"
    released = re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert str(cited.get("date-released")) == (released[1] if released else "None")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_files_and_links_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)]+)\)", text) if "://" not in t]
    files = re.findall(r"`((?:\.ci|[a-z]+)/[\w./*]*)`", text)
    assert targets and files
    for name in (*targets, *files):
        assert list(ROOT.glob(name)), name


def test_targets_of_make_that_are_named_exist() -> None:
    rules = (ROOT / "Makefile").read_text()
    for page in ("CONTRIBUTING.md", ".ci/run"):
        named = re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE)
        assert named
        assert [each for each in named if f"\n{each}:" not in rules] == []


def test_names_of_the_code_that_are_given_to_contributors_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    pairs = [
        ("TERMS", "ternvae/training/objective.py"),
        ("LossWeights", "ternvae/config/sections.py"),
    ]
    pairs += [("metric_names", "ternvae/metrics/results.py")]
    for name, file in pairs:
        assert f"`{name}`" in text
        assert re.search(rf"^(class |def )?{name}\b", (ROOT / file).read_text(), re.MULTILINE), file
