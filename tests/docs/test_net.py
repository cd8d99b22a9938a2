"""The net has no holes: pages that are wrong on purpose are caught, right ones are not."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, PageError, anchors, blocks, links
from tests.docs.running import failures, shortened
from tests.docs.test_links import dead
from tests.docs.test_pictures import made_by


def page(*lines: str) -> str:
    return "# Page\n\n" + "\n".join(lines) + "\n"


RIGHT = page(
    *("```python", "x = 1", "```", ""),
    *("```python", ">>> x + 1  # of the block before", "2", "", "```", ""),
    *("```", "ternvae profiles > list.txt    # and so on", "```", ""),
    *("```console", "$ ternvae profiles coverage_focused", "# Overrides ...", "```", ""),
    *("```", "just text", "```", ""),
    *("<!-- not run: a network is needed -->", "```", "pip install '.[plot]'", "```", ""),
    *("    ternvae profiles --schema", "", "    v(i) <= n    a formula", ""),
    *("<!-- file: mine.yaml -->", "```yaml", "training:", "  epochs: 3", "```"),
    *(
        "```python",
        "from pathlib import Path",
        "assert 'epochs: 3' in Path('mine.yaml').read_text()",
    ),
    "```",
    *("```", "ternvae train [--profile NAME] [--SECTION.KEY VALUE ...]", "```"),
)


def test_a_right_page_passes(tmp_path: Path) -> None:
    assert failures(RIGHT, tmp_path, tmp_path) == []
    assert "coverage_focused" in (tmp_path / "list.txt").read_text()


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["```python", "import ternvae.nothing", "```"], "ModuleNotFoundError"),
        (["```python", "x = ", "```"], "SyntaxError"),
        (["```python", ">>> 1 + 1", "3", "", "```"], "Expected"),
        (["```python", ">>> 1 / 0", "1", "", "```"], "ZeroDivisionError"),
        (["```", "ternvae train --seed 3", "```"], "full length"),
        (["```", "ternvae profile", "```"], "no command profile"),
        (["```", "ternvae analyze gone.pt", "```"], "exit status 2"),
        (["```", "ternvae validate --quickly", "```"], "no --quickly"),
        (["```", "ternvae train [--profil NAME]", "```"], "no --profil"),
        (["```sh", "rm -r /", "```"], "mark the block"),
        (["```", "torchrun --nproc-per-node 2 -m ternvae trian", "```"], "no command trian"),
        (["```", "python benchmarks/gone.py", "```"], "no file benchmarks/gone.py"),
        (["```", "ternvae profiles | head -n 1", "```"], "mark the block"),
        (["```", "make everything", "```"], "no target everything"),
        (["```console", "$ ternvae profiles", "nothing", "```"], "and not"),
        (["```yaml", "training:", "  epoch: 3", "```"], "did you mean"),
        (["    ternvae profiles --shema"], "no --shema"),
        (["<!-- not run: needs a network -->", "```", "pip install '.[pots]'", "```"], "no extra"),
        (
            ["<!-- not run: takes minutes -->", "```", "python benchmarks/sweep.py --sed 1", "```"],
            "has no --sed",
        ),
        (
            ["<!-- run with: --training.epochs 1 -->", "```python", "x = {}", "```"],
            "sets training.epochs 0 times",
        ),
    ],
)
def test_what_is_wrong_is_caught(lines: list[str], problem: str, tmp_path: Path) -> None:
    found = failures(page(*lines), tmp_path, tmp_path)
    assert len(found) == 1
    assert found[0].startswith(("page:3: ", "page:4: "))  # behind a mark
    assert problem in found[0]


@pytest.mark.parametrize(
    "lines",
    [
        ["<!-- not run: -->", "```", "ternvae train", "```"],
        ["<!-- not run -->", "```", "ternvae train", "```"],
        ["<!-- not run: slow -->", "```", "ternvae train", "```"],
        ["<!-- not run: there is nothing here -->", "```", "only text", "```"],
        ["<!-- not run: the text between -->", "", "Text.", "", "```", "ternvae train", "```"],
        ["<!-- run with: --training.epochs 1 -->", "```", "ternvae validate", "```"],
        ["<!-- not run: stands at the end of all -->"],
    ],
)
def test_marks_that_say_nothing_are_refused(lines: list[str]) -> None:
    with pytest.raises(PageError):
        blocks(page(*lines))


def test_marks_belong_to_the_block_behind_them() -> None:
    first, second = blocks(
        page(
            *("<!-- not run: takes far too long -->", "```", "ternvae train", "```", ""),
            *("<!-- a remark -->", "```", "ternvae validate", "```"),
        )
    )
    assert (first.mark, first.note, second.mark) == ("not run", "takes far too long", "")
    assert [command.line for command in second.commands()] == ["ternvae validate"]


def test_lines_that_go_on_are_one_command() -> None:
    block = Block(1, "sh", "ternvae train \\\n    --seed 3\nternvae validate\n")
    assert [command.words for command in block.commands()] == [
        ["ternvae", "train", "--seed", "3"],
        ["ternvae", "validate"],
    ]


def test_settings_of_a_mark_win() -> None:
    words = ["ternvae", "train", "--training.epochs", "120"]
    assert shortened(words, "--training.epochs 1 --seed 2") == [
        *("ternvae", "train", "--training.epochs", "1", "--seed", "2")
    ]
    assert words[-1] == "120"


def test_python_is_run_with_the_settings_of_its_mark(tmp_path: Path) -> None:
    marked = page(
        *("<!-- run with: --training.epochs 1 -->", "```python"),
        *(
            'settings = {"seed": 3, "training.epochs": 26}',
            "assert list(settings.values()) == [3, 1]",
        ),
        "```",
    )
    assert failures(marked, tmp_path, tmp_path) == []


@pytest.mark.parametrize(
    "target",
    [
        *("gone.md", "#nothing", "training.md#nothing", "../../outside.md", "http://a.example"),
        *("https://no-dots", "https://two words.example"),
    ],
)
def test_dead_links_are_found(target: str) -> None:
    text = f"# Page\n\n[text](<{target}>)\n" if " " in target else f"# Page\n\n[text]({target})\n"
    assert len(dead(ROOT / "docs" / "page.md", text)) == 1


def test_living_links_are_not() -> None:
    text = (
        "# My *own* `page`: 1. & 2.\n\n[a](#my-own-page-1--2) [b](training.md#homeostasis) "
        "[c](https://semver.org) [d](../README.md) ![picture](frontier.svg)\n\n"
        "`[no](link)`\n\n```\n[no](link)\n```\n"
    )
    assert len(links(text)) == 5
    assert dead(ROOT / "docs" / "page.md", text) == []


def test_equal_headings_have_anchors_of_their_own() -> None:
    assert anchors("# A b\n## A b\n```\n# no\n```\n") == {"a-b", "a-b-1"}


def test_the_table_of_pictures_is_read() -> None:
    table = "| `a.png`, `b/c.svg` | `ternvae plot x` |\n| `d` ([e](e.md)) | `python f.py` |\n"
    assert made_by(table) == {"a.png": "ternvae plot x", "b/c.svg": "ternvae plot x"}
