"""Pictures in a real browser: they load nothing and are shown at their size, not shrunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ternvae.plots import pictures, save_picture
from tests.browser import WIDTHS, chromium, opened
from tests.plots.subjects import made

#: CSS pixels in a point; at its size, the smallest text of a picture has 8 points.
PIXELS = 96 / 72


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["disk", "distances"])
def test_a_drawing_opens_by_itself(browser: Browser, name: str, width: int, tmp_path: Path) -> None:
    ((_, figure),) = pictures(made(4), [name])
    path = tmp_path / f"{name}.svg"
    save_picture(figure, path)
    with opened(browser, path, width=width) as view:
        assert view.noise == []
        root = view.page.locator("svg")
        assert root.locator("title").first.text_content()
        box = root.bounding_box()
        assert box is not None
        assert box["width"] == pytest.approx(figure.get_figwidth() * 72 * PIXELS, abs=1.5)
        assert view.page.locator("path, use").count() > 100  # and something is drawn
