"""Everything is said once, in each place where it belongs."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ternvae.training.events import Event
from ternvae.training.monitor import Monitor
from ternvae.training.run_directory import RunDirectory
from ternvae.training.warning_signs import WarningSign
from tests.runs import point

FREEZE = Event(3, "freeze_encoder_a", "coverage is there", {"coverage": 1.0})
THAW = Event(4, "thaw_encoder_a", "coverage has gone", {"coverage": math.nan})
SIGN = WarningSign("richness_low", 4, "richness is low", ("loss_weights.richness: 5.0",))


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ternvae")


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def monitor(directory: RunDirectory) -> Iterator[Monitor]:
    monitor = Monitor(directory, tensorboard=False)
    monitor.open("name: custom\n")
    yield monitor
    monitor.close()


def history(directory: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in directory.history.read_text().splitlines()]


def logged(directory: RunDirectory) -> list[str]:
    return directory.log.read_text().splitlines()


def test_events_and_warnings_are_said_once_in_the_log_and_in_the_next_line(
    monitor: Monitor, directory: RunDirectory
) -> None:
    monitor.event(FREEZE)
    assert sum("coverage is there" in line for line in logged(directory)) == 1
    monitor.epoch({"epoch": 3, "coverage": 1.0})
    monitor.event(THAW)
    monitor.warn([SIGN])
    monitor.epoch({"epoch": 4})
    monitor.epoch({"epoch": 5})
    first, second, third = history(directory)
    assert first == {
        "epoch": 3,
        "coverage": 1.0,
        "events": [
            {
                "epoch": 3,
                "kind": "freeze_encoder_a",
                "text": "coverage is there",
                "figures": {"coverage": 1.0},
            }
        ],
        "warnings": [],
    }
    assert [event["kind"] for event in second["events"]] == ["thaw_encoder_a"]
    assert second["events"][0]["figures"] == {"coverage": None}  # JSON has no NaN
    [warning] = second["warnings"]
    assert warning["name"] == "richness_low"
    assert warning["remedies"] == ["loss_weights.richness: 5.0"]
    assert third == {"epoch": 5, "events": [], "warnings": []}
    lines = logged(directory)
    assert [sum(text in line for line in lines) for text in ("is there", "has gone", "is low")] == [
        *(1, 1, 1)
    ]
    assert any("loss_weights.richness: 5.0" in line for line in lines)
    assert all(line.startswith("Epoch ") for line in lines)


def test_several_at_once_keep_their_order(monitor: Monitor, directory: RunDirectory) -> None:
    monitor.event(FREEZE, THAW)
    monitor.event()
    monitor.warn([])
    monitor.epoch({"epoch": 4})
    [line] = history(directory)
    assert [event["kind"] for event in line["events"]] == ["freeze_encoder_a", "thaw_encoder_a"]


def test_what_is_left_at_the_end_has_a_line_of_its_own(
    monitor: Monitor, directory: RunDirectory
) -> None:
    monitor.epoch({"epoch": 2})
    monitor.warn([SIGN])
    monitor.event(THAW)
    monitor.finish(4, {}, {})
    lines = history(directory)
    assert [line["epoch"] for line in lines] == [2, 4]
    assert lines[1]["warnings"][0]["name"] == "richness_low"
    assert lines[1]["events"][0]["kind"] == "thaw_encoder_a"


def test_where_nothing_is_left_no_line_is_added(monitor: Monitor, directory: RunDirectory) -> None:
    monitor.event(FREEZE)
    monitor.epoch({"epoch": 3})
    monitor.finish(3, {}, {"coverage": 1.0})
    assert len(history(directory)) == 1


def test_the_line_of_a_step(monitor: Monitor, directory: RunDirectory) -> None:
    monitor.step(50, 2, {"total": 1.23456, "lr": 3e-3})
    [line] = logged(directory)
    assert " ".join(line.split()) == "Step 50 of epoch 2 | total 1.235 | lr 0.003"
    assert history(directory) == []


def test_before_it_opens_and_after_it_closes_nothing_goes_to_the_file(
    directory: RunDirectory,
) -> None:
    handlers = list(logging.getLogger("ternvae").handlers)
    monitor = Monitor(directory, tensorboard=False)
    monitor.event(FREEZE)
    assert not directory.path.exists()
    monitor.open("")
    monitor.event(THAW)
    monitor.close()
    logging.getLogger("ternvae").info("later")
    assert logging.getLogger("ternvae").handlers == handlers
    [line] = logged(directory)
    assert "coverage has gone" in line


def test_a_resumed_run_goes_on_in_the_same_files(directory: RunDirectory) -> None:
    for resume_epoch, epochs in ((None, (2, 4, 6)), (4, (6, 8))):
        monitor = Monitor(directory, tensorboard=False)
        monitor.open("", point(directory, resume_epoch))
        for epoch in epochs:
            monitor.event(Event(epoch, "some", f"epoch {epoch}"))
            monitor.epoch({"epoch": epoch})
        monitor.close()
    assert [line["epoch"] for line in history(directory)] == [2, 4, 6, 8]
    assert [line["events"][0]["epoch"] for line in history(directory)] == [2, 4, 6, 8]
    assert len(logged(directory)) == 5


def test_figures_that_json_does_not_have_are_null(
    monitor: Monitor, directory: RunDirectory
) -> None:
    monitor.epoch({"epoch": 1, "Q_enhanced": math.nan, "losses": {"kl": math.inf}})
    [line] = history(directory)
    assert line["Q_enhanced"] is None
    assert line["losses"] == {"kl": None}
