"""Links to files outside of docs/ that the site shows as pages of its own."""

import posixpath
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

#: Seen from docs/: a file -> the page that includes it.
SHOWN = {
    "../README.md": "project/overview.md",
    "../examples/README.md": "project/examples.md",
    "../benchmarks/README.md": "project/benchmark-commands.md",
    "../CHANGELOG.md": "project/changelog.md",
    "../CONTRIBUTING.md": "project/contributing.md",
    "../SECURITY.md": "project/security.md",
    "README.md": "index.md",
}

#: The text of a link if it is the name of a page, and the target up to its anchor.
_LINK = re.compile(r"\[(?P<name>[\w./-]+\.md)?(?P<rest>[^\]]*)\]\((?P<target>[^)#\s]+)(?=[)#])")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _lead_to_the_pages)
    app.connect("include-read", _lead_from_the_file)
    return {"version": "1", "parallel_read_safe": True}


def _lead_to_the_pages(app: Sphinx, page: str, source: list[str]) -> None:
    folder = posixpath.dirname(page)
    source[0] = redirected(source[0], folder, folder)


def _lead_from_the_file(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    # The page that the event names has lost its folder.
    source[0] = redirected(source[0], path.parent.as_posix(), posixpath.dirname(app.env.docname))


def redirected(text: str, folder: str, place: str) -> str:
    """The text with its links, which count from ``folder``, made to count from ``place``.

    Both folders are seen from docs/.
    """

    def link(match: re.Match[str]) -> str:
        if "://" in match["target"]:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, match["target"]))
        path = path.removeprefix("../docs/")
        page = SHOWN.get(path)
        # Markdown that is no page of the site is handed out as the file that it is.
        scheme = "path:" if page is None and path.startswith("../") else ""
        # Where a repository shows names of files, a site shows titles: those of an empty text.
        name = "" if not scheme and not match["rest"] else match["name"] or ""
        target = posixpath.relpath(page or path, place or ".")
        return f"[{name}{match['rest']}]({scheme}{target}"

    return _LINK.sub(link, text)
