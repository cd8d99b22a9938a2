"""Every picture of the pages has a command that makes it, and the commands are known."""

import re

from ternvae.plots import PICTURES
from tests.docs.pages import PAGES, ROOT, blocks, pictures

DOCS = ROOT / "docs"


def made_by(page: str) -> dict[str, str]:
    """File in docs/ -> the command that makes it, from the table of the page."""
    rows = re.findall(r"^\| (`[^|]+) \| `([^`]+)` \|$", page, re.MULTILINE)
    return {
        file: command for files, command in rows for file in re.findall(r"`([^`]+\.\w+)`", files)
    }


def in_docs() -> set[str]:
    """Every picture file there."""
    found = (path for ending in ("png", "svg", "jpg", "gif") for path in DOCS.rglob(f"*.{ending}"))
    return {path.relative_to(DOCS).as_posix() for path in found}


TABLE = made_by((DOCS / "pictures.md").read_text())


def test_every_picture_has_a_command_that_a_page_shows() -> None:
    assert set(TABLE) == in_docs()
    shown = {
        command.line.partition(" #")[0].strip()
        for page in PAGES
        for block in blocks(page.read_text())
        if block.is_shell
        for command in block.commands()
    }
    assert set(TABLE.values()) <= shown


def test_every_picture_is_shown() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for _, target in pictures(page.read_text())
    }
    assert shown == {DOCS / file for file in in_docs()}


def test_ternvae_plot_makes_those_files() -> None:
    drawn = {file for file, command in TABLE.items() if command.startswith("ternvae plot")}
    assert drawn == {f"pictures/{name}.png" for name in PICTURES}
