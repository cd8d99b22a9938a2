"""The site: it builds without a warning, forgets no public name, and needs no network."""

from __future__ import annotations

import fcntl
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

import ternvae
from ternvae.cli import cli
from tests.browser import WIDTHS, chromium, opened
from tests.docs.pages import ROOT
from tests.docs.test_formulas import formulas

pytest.importorskip("sphinx", reason="the extra docs is not installed")

#: Modules at the top that the reference leaves out, and why.
LEFT_OUT = {
    "ternvae.__main__": "python -m ternvae",
    "ternvae.cli": "its commands are the reference",
    "ternvae.frontier": "what a benchmark and a picture compute; theory.md has the result",
    "ternvae.first_order": "a guard inside of the package's own backward passes",
    "ternvae.training": "the parts of ternvae.trainer, which is what is used; it names nothing",
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, built once whatever the number of test processes is."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, complaints = shared / "site", shared / "site.log"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complaints.exists():
            make = re.search(r"sphinx-build (.*) docs build/docs", (ROOT / "Makefile").read_text())
            assert make, "make docs"
            options = [*make[1].split(), "-d", str(shared / "doctrees")]
            built = subprocess.run(
                [sys.executable, "-m", "sphinx", "-q", *options, str(ROOT / "docs"), str(folder)],
                capture_output=True,
                text=True,
                check=False,
            )
            complaints.write_text(built.stderr if built.returncode else "")
    assert complaints.read_text() == ""
    return folder


def inventory(site: Path) -> set[str]:
    """Names of Python objects that the site describes."""
    from sphinx.util.inventory import InventoryFile

    found = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {name for kind, names in found.data.items() if kind[:3] == "py:" for name in names}


def test_every_public_name_is_described(site: Path) -> None:
    described = inventory(site)
    rooms = {f"ternvae.{each.name}" for each in pkgutil.iter_modules(ternvae.__path__)}
    assert set(LEFT_OUT) <= rooms
    missing = [
        f"{room}.{name}"
        for room in sorted(rooms - set(LEFT_OUT))
        for name in importlib.import_module(room).__all__
        if f"{room}.{name}" not in described
    ]
    assert missing == []
    assert "ternvae.padic.TernarySpace.batches" in described  # methods, too
    assert "ternvae.padic.nothing" not in described


def test_every_command_and_option_is_described(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text()
    for name, command in cli.commands.items():
        assert f"ternvae {name}</" in page or f"ternvae {name}<" in page, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in page, (name, parameter.opts)


def test_every_formula_is_shown_as_one(site: Path) -> None:
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    written = {path.stem: len(formulas(path.read_text())) for path in pages}
    shown = {name: (site / f"{name}.html").read_text().count("<math") for name in written}
    assert shown == written


class _Loads(HTMLParser):
    """What a page loads by itself, and what it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") not in ("canonical",):
            self.loaded.append(given.get("href", ""))


def loads(page: str) -> list[str]:
    """Everything that a browser fetches to show a page."""
    parser = _Loads()
    parser.feed(page)
    return parser.loaded


def foreign(site: Path) -> Iterator[str]:
    """What the site would fetch from elsewhere, and files that it lacks."""
    for page in site.rglob("*.html"):
        for target in loads(page.read_text()):
            if re.match(r"[a-z]+://|//", target):
                yield f"{page.name}: {target}"
                continue
            file = target.partition("?")[0]
            if file and not file.startswith(("data:", "#")) and not (page.parent / file).exists():
                yield f"{page.name}: {target} is missing"
    for style in site.rglob("*.css"):
        yield from re.findall(
            r"url\([\"']?((?:https?:)?//[^)]*)\)|@import +[\"']https?:", style.read_text()
        )


def test_the_site_fetches_nothing(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 30
    assert list(foreign(site)) == []


def test_what_would_be_fetched_is_seen(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<script src="https://cdn.example/x.js"></script><img src="gone.png"><a href="https://a.b">'
    )
    assert [each.partition(": ")[2] for each in foreign(tmp_path)] == [
        "https://cdn.example/x.js",
        "gone.png is missing",
    ]


#: The index, formulas and wide tables, a page of the reference, and the page with most options.
LOOKED_AT = ("index", "theory", "keys", "reference/metrics", "reference/commands")


def test_pages_look_right_in_a_browser(site: Path) -> None:
    with chromium() as browser:
        for page in LOOKED_AT:
            for width in WIDTHS:
                with opened(browser, site / f"{page}.html", width=width, root=site) as view:
                    assert view.faults() == [], (page, width)
