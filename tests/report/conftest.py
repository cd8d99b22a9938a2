"""One run with everything on that ended, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from ternvae.report.markup import Html
from tests.runs import fit, tiny


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose report was written by training."""
    path = tmp_path_factory.mktemp("report") / "run"
    _, result = fit(tiny(monitoring__report=True, description="A small run & no more"), path)
    assert result.stop_reason == "epochs"
    return path


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which take a second."""
    monkeypatch.setattr("ternvae.report.page.picture_section", lambda *_: Html(""))
