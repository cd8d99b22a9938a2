"""Links lead somewhere: to files, to headings, and, if outside, to what can be an address."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from ternvae.cli import cli
from tests.docs.pages import PAGES, ROOT, anchors, blocks, links, pictures, spans
from tests.docs.running import faults_of_line
from tests.docs.test_running import ids


def dead(page: Path, text: str) -> list[str]:
    """Links of a page that lead nowhere."""
    return [target for target in links(text) if not _leads_somewhere(page, text, target)]


def _leads_somewhere(page: Path, text: str, target: str) -> bool:
    if "://" in target or target.startswith("mailto:"):
        parts = urlsplit(target)
        return (
            parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) is not None
        )
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    if path and not (place.exists() and place.is_relative_to(ROOT)):
        return False
    if not anchor:
        return True
    return anchor in anchors(text if place == page else place.read_text())


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_in_the_text_exist(page: Path) -> None:
    """`ternvae ...` and `python benchmarks/...` inside of a sentence."""
    lines = [span for span in spans(page.read_text()) if span.startswith(("ternvae ", "python "))]
    assert [fault for line in lines for fault in faults_of_line(line)] == []


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_commands_in_the_help_exist(name: str) -> None:
    said = CliRunner().invoke(cli, [name, "--help"] if name else ["--help"]).output
    lines = re.findall(
        r"^  +((?:best=\$\()?ternvae .*)", said.partition("Examples:")[2], re.MULTILINE
    )
    assert lines or not said.partition("Examples:")[2]
    parts = [part for line in lines for part in re.findall(r"ternvae [^)&]*", line)]
    assert [fault for part in parts for fault in faults_of_line(part)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_in_the_text_exist(page: Path) -> None:
    """`tests/...`, `benchmarks/...`, `examples/...`, `docs/...`, `ternvae/...` with an ending."""
    named = re.compile(
        r"(?:tests|benchmarks|examples|docs|ternvae|\.ci)/[\w/.-]*\.(?:py|md|c|yaml|json)"
    )
    files = [span for span in spans(page.read_text()) if named.fullmatch(span)]
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_pictures_are_there_and_can_be_told(page: Path) -> None:
    for alternative, target in pictures(page.read_text()):
        assert len(alternative) > 10, target
        assert (page.parent / target).is_file(), target


def test_the_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    index = docs / "README.md"
    reached = {(docs / target.partition("#")[0]).resolve() for target in links(index.read_text())}
    folders = {path.parent for path in reached if path.name == "README.md"}
    expected = {page for page in docs.glob("*.md") if page.name not in ("README.md", "index.md")}
    assert expected <= reached
    for folder in folders - {docs, ROOT / "benchmarks"}:
        part = {
            (folder / target.partition("#")[0]).resolve()
            for target in links((folder / "README.md").read_text())
        }
        assert {page for page in folder.glob("*.md") if page.name != "README.md"} <= part


def test_blocks_and_links_were_found() -> None:
    assert sum(len(links(page.read_text())) for page in PAGES) > 100
    assert sum(len(blocks(page.read_text())) for page in PAGES) > 60
