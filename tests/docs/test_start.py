"""The first ten minutes are what happens now: every command of the page is run again."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_start", ROOT / "docs/record_start.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page is typed into bash, not there")
def test_the_first_ten_minutes_are_as_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """But for numbers, and for the installation itself: `.ci/package.py` has one."""
    status = recorder().main(["--check"])
    assert capsys.readouterr().out == ""
    assert status == 0


PAGE = """Recorded on a machine.
```console
$ echo one 1 && echo two
one 2
two
$ false
[exit status 1]
```
"""


def test_only_numbers_may_differ(tmp_path: Path) -> None:
    renewed = recorder().recorded(PAGE, tmp_path, installed=True)
    assert "one 1\n" in renewed
    assert recorder().differing(PAGE, renewed) == []


@pytest.mark.parametrize(
    ("recorded", "there"),
    [("two\n$", "three\n$"), ("two\n$", "$"), ("[exit status 1]\n", ""), ("one 2", "one")],
)
def test_a_page_that_shows_something_else_is_caught(
    recorded: str, there: str, tmp_path: Path
) -> None:
    wrong = PAGE.replace(recorded, there)
    assert wrong != PAGE
    assert recorder().differing(wrong, recorder().recorded(wrong, tmp_path, installed=True)) != []


def test_files_of_the_page_are_there_for_its_commands(tmp_path: Path) -> None:
    page = (
        "<!-- file: say.py -->\n```python\nprint('so')\n```\n\n```console\n$ python say.py\n```\n"
    )
    assert "$ python say.py\nso\n" in recorder().recorded(page, tmp_path, installed=True)
