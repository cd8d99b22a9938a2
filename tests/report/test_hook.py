"""A run ends with its report, and nothing about a report can end a run."""

from __future__ import annotations

import errno
import json
import logging
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ternvae.report.pictures
from ternvae.training.finite import NonFiniteError
from ternvae.training.optimisation import Optimisation
from ternvae.training.record import Record
from ternvae.training.saving import SaveError
from tests.runs import differing, fit, last, tiny


def test_a_run_ends_with_its_report(ended: Path) -> None:
    page = (ended / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    log = (ended / "train.log").read_text().splitlines()
    assert log[-1] == f"Report: {ended / 'report.html'}"
    assert not list(ended.rglob("*.partial"))


def test_a_report_changes_no_bit_of_its_run(ended: Path, tmp_path: Path) -> None:
    fit(tiny(description="A small run & no more"), tmp_path / "without")
    assert not (tmp_path / "without" / "report.html").exists()
    found = differing(ended, tmp_path / "without")
    assert found == ["profile", "train.log"]  # the key itself, and the line with the place
    one, other = (
        json.loads((run / "metrics.json").read_text()) for run in (ended, tmp_path / "without")
    )
    del one["seconds"], other["seconds"]
    assert one == other


def test_a_report_draws_nothing_from_anybody(ended: Path, tmp_path: Path) -> None:
    def states() -> list[Any]:
        numpy_state = np.random.get_state()
        return [torch.get_rng_state().tolist(), random.getstate(), repr(numpy_state)]

    before = states()
    ternvae.report.write_report(ended, tmp_path / "page.html")
    assert states() == before


@pytest.mark.usefixtures("plain")
def test_an_interrupted_run_writes_none_and_going_on_sets_an_earlier_one_aside(
    tmp_path: Path,
) -> None:
    run, profile = tmp_path / "run", tiny(monitoring__report=True)
    _, result = fit(profile, run, stop_after=4)
    assert result.stop_reason == "interrupted"
    assert not (run / "report.html").exists()
    page = ternvae.report.write_report(run).read_text()
    assert "; interrupted</span>" in page
    _, result = fit(profile, run, resume_from=last(run))
    assert result.stop_reason == "epochs"
    assert "; interrupted" not in (run / "report.html").read_text()
    assert (run / "set_aside" / "report_1.html").read_text() == page


@pytest.mark.usefixtures("plain")
def test_a_run_that_stops_itself_has_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, count = Optimisation.step, iter(range(1000))

    def poisoned(self: Optimisation, *arguments: Any) -> Any:
        if next(count) == 5:
            raise NonFiniteError(["coverage"], "the loss is not finite")
        return step(self, *arguments)

    monkeypatch.setattr(Optimisation, "step", poisoned)
    _, result = fit(tiny(monitoring__report=True), tmp_path / "run")
    assert result.stop_reason == "non_finite_loss"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "; stopped itself at a NaN or an infinity</span>" in page
    assert "<strong>non_finite</strong>" in page
    assert "Settings to try:" in page


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(*_: Any) -> None:
    raise ZeroDivisionError("a mistake\nin two lines")


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("place", "failing", "reason"),
    [
        ("ternvae.report.page.write_whole", full, "cannot write {}: No space left on device; "),
        ("ternvae.report.page.report_html", broken, "a mistake in two lines; "),
    ],
)
def test_a_report_that_cannot_be_written_is_one_line(
    place: str,
    failing: Any,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(place, failing)
    run = tmp_path / "run"
    with caplog.at_level(logging.WARNING, "ternvae"):
        _, result = fit(tiny(monitoring__report=True), run)
    assert result.stop_reason == "epochs"
    assert result.problem is None
    assert json.loads((run / "metrics.json").read_text())["stop_reason"] == "epochs"
    line = caplog.messages[-1]
    assert line.startswith("No report: " + reason.format(run / "report.html"))
    assert line.endswith(f"the run is complete, and ternvae report {run} tries again")
    assert "\n" not in line
    assert (run / "train.log").read_text().splitlines()[-1] == line
    assert not (run / "report.html").exists()


@pytest.mark.usefixtures("plain")
def test_not_even_a_log_that_is_full_ends_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line about the report is the last that is written, and may be lost."""
    add = Record.add

    def filling(self: Record, text: str | bytes, **keywords: Any) -> None:
        if isinstance(text, str) and text.startswith(("Report: ", "No report: ")):
            raise SaveError("cannot write train.log: No space left on device")
        add(self, text, **keywords)

    monkeypatch.setattr(Record, "add", filling)
    _, result = fit(tiny(monitoring__report=True), tmp_path / "run")
    assert result.stop_reason == "epochs"
    assert (tmp_path / "run" / "report.html").exists()


def test_without_matplotlib_there_are_no_pictures(
    ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = ternvae.report.write_report(ended, tmp_path / "page.html").read_text()
    assert "<img" not in page
    assert "pip install &#x27;ternvae[plot]&#x27;" in page
    assert "Radii by level" in page


def test_a_picture_that_cannot_be_drawn_is_named(
    ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ternvae.report.pictures, "caption_of", broken)
    page = ternvae.report.write_report(ended, tmp_path / "page.html").read_text()
    assert "Picture disk is left out: ZeroDivisionError: a mistake in two lines" in page
    assert "<img" not in page
