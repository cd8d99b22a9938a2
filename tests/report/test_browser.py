"""Reports in a real browser: they load nothing, fit a telephone and can be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from ternvae.report import write_report
from tests.browser import SCHEMES, WIDTHS, chromium, opened
from tests.report.hostile import hostile_run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, ended: Path) -> Path:
    return write_report(hostile_run(ended, tmp_path_factory.mktemp("hostile")))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_can_be_read(
    browser: Browser, ended: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    with opened(browser, ended / "report.html", width=width, scheme=scheme) as view:
        view.page.click("summary")  # the profile is folded away
        assert view.faults() == []
        assert view.page.locator("img").count() == 4
        assert view.page.locator("pre", has_text="n_digits: 3").is_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_names_do_no_harm(
    browser: Browser, hostile: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    with opened(browser, hostile, width=width, scheme=scheme) as view:
        assert view.faults() == []
        assert view.page.locator("script").count() == 0
        assert "<script>" in view.page.locator("h1").inner_text()


def test_it_can_be_read_without_its_pictures_and_printed(
    browser: Browser, ended: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(ended, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    with opened(browser, write_report(run), width=400) as view:
        assert view.faults() == []
        assert view.page.locator("img").count() == 0
        # What A4 leaves between usual margins.
        view.page.set_viewport_size({"width": 718, "height": 1000})
        view.page.emulate_media(media="print")
        assert not view.page.locator("nav").is_visible()
        assert view.faults() == []


# --- the helper finds what is wrong -------------------------------------------------------------

SOUND = (
    "<!DOCTYPE html><html lang=en><head><title>a page</title><link rel=icon href='data:,'></head>"
    "<body><h1>one</h1>{}</body></html>"
)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("<p>fine</p>", None),
        ("<p style='font-size: 9px'>small</p>", '"small" is 9 px high'),
        ("<p style='color: #999'>pale</p>", '"pale" has a contrast of 2.85'),
        ("<div style='background: #000'><p>black</p></div>", '"black" has a contrast of 1.00'),
        ("<div style='width: 2000px'>wide</div>", "the page is 2"),
        ("<img src='data:image/png;base64,AA' alt='a'>", "is not shown"),
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", "has no alternative text"),
        ("<h3>three</h3>", "h3 follows h1"),
        ("<h1>two</h1>", "not one h1"),
        ("<a href='#none'>there</a>", "#none leads nowhere"),
        ("<table><tr><th>head</table>", "heading of a table without scope: head"),
        ("<script>console.error('oh')</script>", "console: error: oh"),
        ("<script>nothing.there</script>", "raises nothing is not defined"),
        ("<script>alert(1)</script>", "speaks up"),
        ("<img src='http://127.0.0.1:9/a.png' alt='a'>", "asks for http://127.0.0.1:9/a.png"),
        ("<img src='beside.png' alt='a'>", "beside.png"),
    ],
)
def test_a_fault_is_found(browser: Browser, tmp_path: Path, part: str, fault: str | None) -> None:
    page = tmp_path / "page.html"
    page.write_text(SOUND.format(part))
    with opened(browser, page) as view:
        found = view.faults()
    if fault is None:
        assert found == []
    else:
        assert any(fault in each for each in found), found
