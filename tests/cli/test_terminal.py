"""On a terminal: colours, a bar with the time left, and nothing odd left behind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest

from ternvae.cli.colour import painted, verdicts_painted
from tests.cli.processes import COLUMNS, in_terminal, screen

needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")

SMALL = [
    *("train", "--space.n_digits", "4", "--training.batch_size", "27", "--device", "cpu"),
    *("--monitoring.detailed_metrics_every_n_epochs", "2", "--monitoring.report", "false"),
]
BAR = re.compile(r"Epoch (\d+)/(\d+) \|.*\| (\d\d:\d\d) gone, (\d\d:\d\d|\?) left")
TABLE = """
PASS  p-adic  valuation    0 of 9
FAIL  losses  hierarchy    nan

metric         value   target  met
------------  ------  -------  ---
coverage           1        1  yes
coverage_B       0.5        1  NO
checked         PASS     FAIL
"""


@pytest.fixture
def coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("coloured")
def test_verdicts_are_painted_and_the_text_stays_what_it_was() -> None:
    text = verdicts_painted(TABLE)
    assert click.unstyle(text) == TABLE
    found = re.findall(r"\x1b\[(\d+)m\x1b\[1m(\w+)\x1b\[0m", text)
    once = [("32", "PASS"), ("31", "FAIL")]
    assert found == [*once, ("32", "yes"), ("31", "NO"), *once]


@pytest.mark.usefixtures("coloured")
@pytest.mark.parametrize("text", ["Run directory: runs/PASS", "yes", "no FAIL here", "NONE  NO  "])
def test_words_that_are_no_verdicts_stay_plain(text: str) -> None:
    assert verdicts_painted(text) == text


@pytest.mark.usefixtures("coloured")
@pytest.mark.parametrize(
    ("name", "value"), [("NO_COLOR", "1"), ("NO_COLOR", "0"), ("TERM", "dumb")]
)
def test_no_colours_where_none_are_wanted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert painted("warning", fg="yellow") == "\x1b[33mwarning\x1b[0m"
    monkeypatch.setenv(name, value)
    assert painted("warning", fg="yellow") == "warning"
    assert verdicts_painted(TABLE) == TABLE


@pytest.mark.usefixtures("coloured")
def test_an_empty_no_color_forbids_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert painted("warning", fg="yellow") != "warning"


@needs_terminal
def test_a_run_in_a_terminal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    high = ["--validation.richness_floor", "1e9"]  # so that there is something to warn of
    written, status = in_terminal(*SMALL, "--training.epochs", "6", *high, "--run-dir", str(run))
    assert status == 0
    # Epochs count up to the last one, of the whole run; metrics come with the first evaluation.
    bars = BAR.findall(written)
    epochs = [int(epoch) for epoch, *_ in bars]
    assert epochs == sorted(epochs) and {last for _, last, *_ in bars} == {"6"}
    assert re.search(r"left, coverage \d\.\d{4}, Q \d\.\d{3}", written)
    # In the end there is the log and nothing else, and the log has no colours.
    log = (run / "train.log").read_text()
    assert "\x1b" not in log
    assert screen(written) == [*(line.rstrip() for line in log.split("\n"))]
    assert re.search(r"\x1b\[33mEpoch \d: warning: ", written)
    assert "\x1b[1myes\x1b[0m" in written or "\x1b[1mNO\x1b[0m" in written
    frames = [frame for frame in re.split(r"[\r\n]+", written) if BAR.match(frame)]
    assert frames and max(map(len, frames)) <= COLUMNS


@needs_terminal
def test_ctrl_c_in_a_terminal_leaves_no_part_of_the_bar(tmp_path: Path) -> None:
    run, pressed = tmp_path / "run", []

    def act(seen: str) -> bytes:
        if "Epoch   4 |" in seen and not pressed:
            pressed.append(True)
            return b"\x03"
        return b""

    written, status = in_terminal(
        *SMALL, "--training.epochs", "100000", "--run-dir", str(run), act=act, NO_COLOR="1"
    )
    assert status == 130
    assert "\x1b" not in written
    lines = screen(written)
    log = (run / "train.log").read_text().splitlines()
    said = "stopping after this step; once more to stop at once"
    way_on = f"interrupted; go on with: ternvae train --checkpoint {run}/checkpoints/last.pt"
    assert [line for line in lines if line not in log] == [said, way_on]


@needs_terminal
def test_a_quiet_run_shows_no_bar(tmp_path: Path) -> None:
    run = tmp_path / "run"
    written, status = in_terminal(
        *SMALL, "--training.epochs", "2", "--quiet", "--run-dir", str(run)
    )
    assert (status, written) == (0, f"{run}/checkpoints/best_Q.pt\r\n")
