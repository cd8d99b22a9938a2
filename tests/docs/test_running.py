"""Every block of every page runs, or says why it does not."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.running import failures, faults_of

#: Its sessions are recorded, outputs and all, by another program, which its own test runs.
RECORDED = {"docs/start.md": "docs/record_start.py"}


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def runnable(block: Block) -> bool:
    return block.is_python or block.is_shell or block.language == "yaml"


WITH_BLOCKS = [page for page in PAGES if any(map(runnable, blocks(page.read_text())))]


@pytest.mark.parametrize("page", [p for p in WITH_BLOCKS if ids(p) not in RECORDED], ids=ids)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, finished_run: Path) -> None:
    found = failures(page.read_text(), tmp_path, finished_run, ids(page))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", list(RECORDED))
def test_a_recorded_page_names_what_exists(page: str) -> None:
    assert (ROOT / RECORDED[page]).is_file()
    found = blocks((ROOT / page).read_text())
    assert [fault for block in found for fault in faults_of(block)] == []


def test_what_is_not_run_says_why() -> None:
    """``pytest -s`` shows the list; reasons that are empty do not get through the parser."""
    reasons = {
        f"{ids(page)}:{block.line}": f"{block.mark}: {block.note}"
        for page in WITH_BLOCKS
        for block in blocks(page.read_text())
        if block.mark in ("not run", "run with")
    }
    print(*(f"{place}  {reason}" for place, reason in reasons.items()), sep="\n")
    every = [block for page in WITH_BLOCKS for block in blocks(page.read_text())]
    assert [block.note for block in every if block.is_python and block.mark == "not run"] == []
