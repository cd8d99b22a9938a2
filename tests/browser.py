"""Pages on the disk, opened in a real browser that reaches nothing else, and what is wrong there.

A test module launches the browser once, in a fixture::

    @pytest.fixture(scope="module")
    def browser() -> Iterator[Browser]:
        with chromium() as found:
            yield found

and opens a page as often as it likes: ``with opened(browser, page) as view: assert view.faults() ==
[]``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

__all__ = ["SCHEMES", "WIDTHS", "View", "chromium", "opened"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: A desk and a telephone, in CSS pixels; light and dark.
WIDTHS: tuple[int, ...] = (1280, 400)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

#: No text is smaller, in CSS pixels, and none has less contrast (WCAG 2.2, 1.4.3).
LEAST_FONT, LEAST_CONTRAST = 12, 4.5

#: Luminance and contrast are those of WCAG 2.2.  Colours are read back from a canvas, which knows
#: every notation; what is transparent is blended with what lies below it.
FAULTS = """
({leastFont, leastContrast}) => {
  const faults = [];
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const brush = canvas.getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3]));
  const background = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(rgba(getComputedStyle(each).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    const page = dark ? [18, 18, 18] : [255, 255, 255];
    return layers.reverse().reduce((below, top) => over(top, below), page);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((x) => {
      const share = x / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, style = getComputedStyle(element), range = new Range();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    const hidden = !node.data.trim() || box.width <= 1 || box.height <= 1 ||
      element.closest('script, style, noscript, template, [aria-hidden=true]') ||
      !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true});
    if (hidden) continue;
    seen += 1;
    const text = JSON.stringify(node.data.trim().slice(0, 40));
    const size = parseFloat(style.fontSize);
    if (size < leastFont) faults.push(`${text} is ${size} px high`);
    const below = background(element);
    const ratio = contrast(over(rgba(style.color), below), below);
    if (ratio < leastContrast) faults.push(`${text} has a contrast of ${ratio.toFixed(2)}`);
  }
  if (!seen) faults.push('there is no text');
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`the page is ${wide} px wide in a window of ${innerWidth}`);
  for (const image of document.images) {
    const name = image.src.slice(0, 60);
    if (!image.complete || !image.naturalWidth) faults.push(`image ${name} is not shown`);
    if (!image.alt.trim()) faults.push(`image ${name} has no alternative text`);
  }
  if (!document.documentElement.lang) faults.push('the language is not said');
  if (!document.title) faults.push('there is no title');
  const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((h) => +h.tagName[1]);
  if (levels.filter((level) => level === 1).length !== 1) faults.push('not one h1');
  levels.forEach((level, k) => {
    if (k && level > levels[k - 1] + 1) faults.push(`h${level} follows h${levels[k - 1]}`);
  });
  for (const head of document.querySelectorAll('table th:not([scope])'))
    if (head.textContent.trim() && !head.closest('thead'))
      faults.push(`heading of a table without scope: ${head.textContent.trim().slice(0, 40)}`);
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    const target = decodeURIComponent(link.hash.slice(1));
    if (target && !document.getElementById(target)) faults.push(`#${target} leads nowhere`);
  }
  return faults;
}
"""


@dataclass
class View:
    """A page in a window.

    Attributes:
        page: playwright's.
        noise: what the page asked for, complained of or raised while it was open.
    """

    page: Page
    noise: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Everything wrong with the page as it stands; empty if nothing is."""
        bounds = {"leastFont": LEAST_FONT, "leastContrast": LEAST_CONTRAST}
        found: list[str] = self.page.evaluate(FAULTS, bounds)
        return [*self.noise, *found]


def found_browser() -> str | None:
    """The path of the system's Chromium; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window; a test that needs it is skipped where it is not."""
    path = found_browser()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path")
    quiet = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    # Its sandbox refuses to work for root, as whom containers run.
    unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*quiet, *unboxed])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    path: Path,
    *,
    width: int = WIDTHS[0],
    scheme: Literal["light", "dark"] = "light",
    root: Path | None = None,
    **settings: Any,
) -> Iterator[View]:
    """A page from the disk in a window of its own; whatever else it asks for is refused and noted.

    Args:
        browser: see :func:`chromium`.
        path: the page.
        width: of the window, in CSS pixels.
        scheme: which colours the system prefers.
        root: a folder whose files the page may load; None for the page alone.
        **settings: more of playwright's, for ``new_context``.
    """
    start = path.resolve().as_uri()
    below = None if root is None else root.resolve().as_uri() + "/"
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, **settings
    )
    view = View(context.new_page())

    def judge(route: Route) -> None:
        url = route.request.url
        plain = url.partition("#")[0].partition("?")[0]
        if plain == start or url.startswith("data:") or (below and plain.startswith(below)):
            route.continue_()
        else:
            view.noise.append(f"asks for {url[:120]}")
            route.abort()

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            view.noise.append(f"console: {message.type}: {message.text}")

    context.route("**/*", judge)
    view.page.on("console", listen)
    view.page.on("pageerror", lambda error: view.noise.append(f"raises {error}"))
    view.page.on("dialog", lambda dialog: (view.noise.append("speaks up"), dialog.dismiss()))
    try:
        view.page.goto(start)
        yield view
    finally:
        context.close()
